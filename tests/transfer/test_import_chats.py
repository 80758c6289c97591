"""Conversations in files become sessions: chat messages, Pydantic AI's, the data exports of ChatGPT and of Claude."""

from __future__ import annotations

import json
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent as PydanticAgent
from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter, ModelResponse, TextPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.test import TestModel

from sessile import ANY_USER, Agent, MemoryStorage, Storage
from sessile.errors import CorruptDataError, InvalidInputError
from sessile.transfer import Imported, import_conversations
from sessile.transfer.importing import chats


def goes_on(storage: Storage, session_id: str) -> str:
    """What a model is sent when an agent goes on with a session."""
    seen: list[ModelMessage] = []

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        seen.extend(messages)
        return ModelResponse([TextPart("Ours.")])

    Agent(FunctionModel(answer), storage=storage, history="all").run("And now?", session_id=session_id)
    return str(seen)


def taken(path: Path, storage: Storage, library: Any, **given: Any) -> Imported:
    """An import; a second one changes nothing."""
    done = import_conversations(str(path), storage, library=library, **given)
    again = import_conversations(str(path), storage, library=library, **given)
    assert (again.sessions, again.unchanged, again.skipped) == (0, done.sessions, done.skipped)
    return done


def test_messages_of_pydantic_ai(tmp_path: Path) -> None:
    agent = PydanticAgent(TestModel(custom_output_text="Rome."))

    @agent.tool_plain
    def lookup(city: str) -> str:
        return f"{city} is a city"

    first = agent.run_sync("Of Italy?")
    second = agent.run_sync("And now?", message_history=first.all_messages())
    (tmp_path / "chat.json").write_bytes(ModelMessagesTypeAdapter.dump_json(second.all_messages()))
    with MemoryStorage() as storage:
        done = taken(tmp_path / "chat.json", storage, "pydantic-ai", agent="guide")
        assert (done.sessions, done.runs, done.messages) == (1, 2, len(second.all_messages()))
        session = storage.get_session("chat")
        assert session is not None
        assert (session.agent, session.usage.input_tokens > 0) == ("guide", True)
        runs = storage.runs("chat", last=9)
        assert [(run.input, run.output, run.status) for run in runs] == [
            ("Of Italy?", "Rome.", "completed"),
            ("And now?", "Rome.", "completed"),
        ]
        assert runs[0].usage.tool_calls == 1
        assert runs[0].started_at == first.all_messages()[0].parts[0].timestamp  # type: ignore[union-attr]
        assert "is a city" in goes_on(storage, "chat")


def test_chat_messages_on_lines(tmp_path: Path) -> None:
    function = {"name": "lookup", "arguments": '{"city": "Rome"}'}
    call = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c1", "type": "function", "function": function}],
    }
    answer = {"role": "tool", "tool_call_id": "c1", "content": "a city"}
    whole = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "Rome?"},
        call,
        answer,
        {"role": "assistant", "content": "A city."},
        {"role": "user", "content": [{"type": "text", "text": "And Paris?"}]},
        {"role": "assistant", "content": "Too."},
    ]
    cut_off = [{"role": "user", "content": "Rome?"}, call]
    lines = [json.dumps({"messages": whole}), "", "no JSON", json.dumps({"messages": cut_off}), json.dumps({"a": 1})]
    (tmp_path / "chat.jsonl").write_text("\n".join(lines))
    with MemoryStorage() as storage:
        done = taken(tmp_path / "chat.jsonl", storage, "openai")
        assert (done.sessions, done.runs) == (2, 3)
        assert [where for where, _ in done.skipped] == ["chat.jsonl, line 3", "chat-3", "chat-5"]
        assert [(run.input, run.output) for run in storage.runs("chat-1", last=9)] == [
            ("Rome?", "A city."),
            ("And Paris?", "Too."),
        ]
        assert [run.status for run in storage.runs("chat-4", last=9)] == ["cancelled"]
        for session_id in ("chat-1", "chat-4"):
            assert "lookup" in goes_on(storage, session_id)


def node(name: str, parent: str | None, role: str | None, text: Any, **more: Any) -> dict[str, Any]:
    """One of ChatGPT's nodes."""
    content = {"content_type": "text", "parts": [text]} if isinstance(text, str) else text
    message = {"id": name, "author": {"role": role}, "create_time": 1_700_000_000.5, "content": content, **more}
    return {name: {"id": name, "parent": parent, "message": None if role is None else message}}


def test_an_export_of_chatgpt(tmp_path: Path) -> None:
    """A question was edited, and an answer made again: three ways, of which the newest is the current one."""
    picture = {
        "content_type": "multimodal_text",
        "parts": [{"content_type": "image", "asset_pointer": "file-1"}, "Eh?"],
    }
    mapping = {
        **node("root", None, None, ""),
        **node("hidden", "root", "user", "profile", metadata={"is_visually_hidden_from_conversation": True}),
        **node("q1", "hidden", "user", "Of Italy?"),
        **node("t1", "q1", "assistant", {"content_type": "thoughts", "thoughts": []}),
        **node("a1", "t1", "assistant", "Rome."),
        **node("q2", "a1", "user", "Of Spain?"),
        **node("a2", "q2", "assistant", "Lisbon."),
        **node("a2b", "q2", "assistant", "Madrid."),
        **node("q2b", "a1", "user", picture),
        **node("a3", "q2b", "assistant", "A picture."),
    }
    one = {"conversation_id": "c1", "title": "Capitals", "create_time": 1_700_000_000, "mapping": mapping}
    text = json.dumps([{**one, "current_node": "a2b"}, {"id": "empty"}])
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as packed:
        packed.writestr("user.json", "{}")
        packed.writestr("conversations-000.json", text)
    with MemoryStorage() as storage:
        done = taken(tmp_path / "export.zip", storage, "chatgpt", user_id="ada")
        assert (done.sessions, done.runs) == (1, 4)
        assert [where for where, _ in done.skipped] == ["c1", "conversations-000.json empty"]
        session = storage.get_session("c1", user_id="ada")
        assert session is not None
        assert (session.name, session.created_at) == ("Capitals", datetime.fromtimestamp(1_700_000_000, UTC))
        runs = storage.runs("c1", last=9, user_id="ada")
        assert [(run.input, run.output) for run in runs] == [("Of Italy?", "Rome."), ("Of Spain?", "Madrid.")]
        every = [storage.get_run("c1", number, user_id="ada") for number in range(1, 5)]
        assert sorted(str(run.output) for run in every if run) == ["A picture.", "Lisbon.", "Madrid.", "Rome."]
        assert "[image: file-1]\nEh?" in [run.input for run in every if run]
        storage.verify("c1", user_id="ada")


def test_an_export_of_claude(tmp_path: Path) -> None:
    def said(uuid: str, sender: str, text: str, **more: Any) -> dict[str, Any]:
        content = [{"type": "text", "text": text}]
        when = "2026-01-02T03:04:05.678901Z"
        return {"uuid": uuid, "sender": sender, "text": "", "content": content, "created_at": when, **more}

    attached = {"attachments": [{"file_name": "notes.txt", "extracted_content": "Rome is old."}]}
    messages = [said("m1", "human", "What does it say?", **attached), said("m2", "assistant", "That Rome is old.")]
    one = {"uuid": "c1", "name": "Notes", "created_at": "2026-01-02T03:00:00Z", "chat_messages": messages}
    (tmp_path / "conversations.json").write_text(json.dumps([one, {"uuid": "c2", "chat_messages": []}]))
    with MemoryStorage() as storage:
        for source in (tmp_path, tmp_path / "conversations.json"):
            import_conversations(str(source), storage, library="claude")
        assert storage.count_sessions(user_id=ANY_USER) == 2
        (run,) = storage.runs("c1", last=9)
        assert (run.output, run.started_at) == ("That Rome is old.", datetime(2026, 1, 2, 3, 4, 5, 678901, UTC))
        assert run.input.endswith("[notes.txt]\nRome is old.")
        assert "Rome is old." in goes_on(storage, "c1")


def test_text_that_nobody_can_store_stops_no_others(tmp_path: Path) -> None:
    """A lone surrogate, a number that is none, an id that is too long."""
    good = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}
    lines = [
        '{"messages": [{"role": "user", "content": "\\ud800"}]}',
        '{"messages": [{"role": "user", "content": NaN}]}',
    ]
    (tmp_path / "chat.jsonl").write_text("\n".join([*lines, json.dumps(good)]))
    with MemoryStorage() as storage:
        done = import_conversations(str(tmp_path / "chat.jsonl"), storage, library="openai")
        assert "chat-3" in [session.session_id for session in storage.sessions(user_id=ANY_USER)]
        assert done.sessions + len(done.skipped) == 3
        done = import_conversations(str(tmp_path / "chat.jsonl"), storage, library="openai", prefix="x" * 250)
        assert len(done.skipped) == 3
        for session in storage.sessions(user_id=ANY_USER):
            storage.verify(session.session_id, user_id=ANY_USER)


def test_a_run_over_the_limit_is_named(tmp_path: Path) -> None:
    long = {"messages": [{"role": "user", "content": "x" * 5000}, {"role": "assistant", "content": "Ho"}]}
    (tmp_path / "chat.jsonl").write_text(json.dumps(long))
    with MemoryStorage(max_commit_bytes=2000) as storage:
        done = import_conversations(str(tmp_path / "chat.jsonl"), storage, library="openai")
        assert (done.sessions, done.skipped[0][0]) == (0, "chat-1")
        assert "max_commit_bytes" in done.skipped[0][1] or "2,000" in done.skipped[0][1]


def test_what_is_too_long_to_be_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chats, "LONGEST", 100)
    monkeypatch.setattr(chats, "LONGEST_LINE", 100)
    monkeypatch.setattr(chats, "PIECE", 7)
    short = json.dumps({"messages": [{"role": "user", "content": "Hi"}]})
    (tmp_path / "chat.jsonl").write_text("\n".join([short, "x" * 200, "x" * 100, short, "x" * 101]))
    (tmp_path / "chat.json").write_text(json.dumps({"messages": "x" * 200}))
    with MemoryStorage() as storage:
        done = import_conversations(str(tmp_path / "chat.jsonl"), storage, library="openai")
        assert done.sessions == 2
        assert [where for where, _ in done.skipped] == [f"chat.jsonl, line {number}" for number in (2, 3, 5)]
        with pytest.raises(CorruptDataError, match="longer than"):
            import_conversations(str(tmp_path / "chat.json"), storage, library="openai")
        with pytest.raises(InvalidInputError, match="There is no file"):
            import_conversations(str(tmp_path / "nothing.json"), storage, library="openai")
        with pytest.raises(InvalidInputError, match="library"):
            import_conversations(str(tmp_path), storage, library="other")  # type: ignore[arg-type]


def test_a_file_of_a_zip_that_cannot_be_unpacked_is_named(tmp_path: Path) -> None:
    path, talk = tmp_path / "export.zip", [{"uuid": "c1", "chat_messages": [{"sender": "human", "text": "Hi"}]}]
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("conversations-1.json", json.dumps([{**talk[0], "uuid": "damaged"}]))
        packed.writestr("conversations-2.json", json.dumps(talk))
    path.write_bytes(path.read_bytes().replace(b'"damaged"', b'"damagED"', 1))
    with MemoryStorage() as storage:
        done = import_conversations(str(path), storage, library="claude")
        assert (done.sessions, [where for where, _ in done.skipped]) == (1, ["conversations-1.json"])
