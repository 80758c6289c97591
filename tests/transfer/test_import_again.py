"""Conversations of other libraries that are imported again: grown, by several at once, after a crash, redacted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from sessile import MemoryStorage, SqliteStorage, Storage
from sessile.redaction import Patterns
from sessile.transfer import import_conversations
from sessile.transfer.importing import agno as reader

Message = dict[str, Any]


def said(role: str, text: str) -> Message:
    return {"role": role, "content": text}


def agno(folder: Path, *runs: dict[str, Any], state: dict[str, Any] | None = None) -> str:
    """A folder of Agno's files with one session."""
    folder.mkdir(exist_ok=True)
    row = {"session_id": "s1", "user_id": "ada", "agent_id": "guide", "session_type": "agent", "created_at": 1000}
    row |= {"session_data": {"session_state": state or {}}, "runs": list(runs)}
    (folder / "agno_sessions.json").write_text(json.dumps([row]))
    return str(folder)


def run(run_id: str, *messages: Message, status: str = "COMPLETED", content: Any = None, **more: Any) -> dict[str, Any]:
    last = messages[-1].get("content") if messages else None
    return {"run_id": run_id, "status": status, "content": content or last, "messages": list(messages), **more}


def take(source: str, storage: Storage) -> tuple[int, int, list[tuple[str, str]]]:
    done = import_conversations(source, storage, library="agno")
    storage.verify("s1", user_id="ada")
    return done.sessions, done.unchanged, done.skipped


ASKED = said("user", "Where to?")
MEMBER = {"run_id": "m1", "agent_name": "helper", "content": "Looked.", "messages": [said("assistant", "Looked.")]}


def test_a_turn_that_goes_on_is_extended(tmp_path: Path) -> None:
    """It was imported while its run waited; then there is its end, and another run behind it."""
    first = run("r1", said("user", "Hi"), said("assistant", "Ho"))
    open_one = run("r2", ASKED, status="PAUSED")
    over = run("r2", ASKED, said("assistant", "To Rome."), metrics={"input_tokens": 7}, member_responses=[MEMBER])
    third = run("r3", said("user", "When?"), said("assistant", "Now."))
    with SqliteStorage(tmp_path / "sessions.db") as storage:
        earlier = agno(tmp_path / "earlier", first, open_one)
        assert take(earlier, storage) == (1, 0, [])
        storage.rate("s1", score=1.0, run=2, user_id="ada")
        assert take(agno(tmp_path / "later", first, over, state={"n": 1}), storage) == (1, 0, [])
        assert take(agno(tmp_path / "later", first, over, third, state={"n": 2}), storage) == (1, 0, [])
        assert take(str(tmp_path / "later"), storage) == (0, 1, [])
        assert take(earlier, storage) == (0, 1, []), "what is older is here already"
        runs = storage.runs("s1", last=9, user_id="ada")
        assert [(one.status, one.output, len(one.messages)) for one in runs] == [
            ("completed", "Ho", 2),
            ("completed", "To Rome.", 2),
            ("completed", "Now.", 2),
        ]
        assert [child.output for child in runs[1].children] == ["Looked."]
        assert (runs[1].own_usage.input_tokens, len(runs[1].ratings)) == (7, 1)
        session = storage.get_session("s1", user_id="ada")
        assert session is not None
        assert (session.state, session.run_count, session.status) == ({"n": 2}, 3, "completed")


def test_a_turn_that_has_become_another_one_is_named(tmp_path: Path) -> None:
    """Nothing is taken away, and nothing comes back that was erased here."""
    for number, changed in enumerate(
        (
            run("r1", said("user", "Other?"), said("assistant", "To Rome.")),
            run("r1", ASKED, said("assistant", "To Oslo."), said("assistant", "No, to Rome.")),
            run("r1", ASKED),
        )
    ):
        with MemoryStorage() as storage:
            take(agno(tmp_path / f"a{number}", run("r1", ASKED, said("assistant", "To Rome."))), storage)
            before = storage.runs("s1", user_id="ada")
            _, _, skipped = take(agno(tmp_path / f"b{number}", changed), storage)
            assert "has changed" in skipped[0][1]
            assert storage.runs("s1", user_id="ada") == before
    with MemoryStorage() as storage:
        take(agno(tmp_path / "c", run("r1", ASKED, said("assistant", "To Rome."))), storage)
        storage.erase_run("s1", 1, user_id="ada")
        grown = run("r1", ASKED, said("assistant", "To Rome."), said("assistant", "Or Oslo."))
        assert "has changed" in take(agno(tmp_path / "d", grown), storage)[2][0][1]
        assert "Rome" not in str(storage.entries("s1", user_id="ada"))


def test_a_turn_that_was_continued_here_is_left_alone(tmp_path: Path) -> None:
    with MemoryStorage() as storage:
        take(agno(tmp_path / "a", run("r1", ASKED, status="PAUSED")), storage)
        storage.add_run("s1", input="Ours?", output="Ours.", user_id="ada")
        _, _, skipped = take(agno(tmp_path / "b", run("r1", ASKED, said("assistant", "To Rome."))), storage)
        assert "continued here" in skipped[0][1]
        assert [one.input for one in storage.runs("s1", last=9, user_id="ada")] == ["Where to?", "Ours?"]


# ---------------------------------------------------------------- crashes, and several at once


LONG = "x" * 200_000
"""So long that a session takes several appends."""


def long_talk(path: Path, turns: int) -> str:
    messages = [said(role, f"{LONG}{turn}") for turn in range(turns) for role in ("user", "assistant")]
    path.write_text(json.dumps({"messages": messages}) + "\n")
    return str(path)


def test_several_at_once(tmp_path: Path) -> None:
    """All of them say that it went well, and each session is there once and whole."""
    source = long_talk(tmp_path / "chat.jsonl", 12)
    errors: list[Any] = []
    with SqliteStorage(tmp_path / "sessions.db") as storage:
        start = threading.Barrier(4)

        def work() -> None:
            start.wait()
            errors.extend(import_conversations(source, storage, library="openai").skipped)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert len(storage.runs("chat-1", last=99)) == 12
        storage.verify("chat-1")


PROGRAM = """
import os, signal, sys
from sessile import SqliteStorage
from sessile.transfer import import_conversations, placing

appends, last = [], int(sys.argv[3])
real = placing._after

def counted(*args, **given):
    appends.append(1)
    if len(appends) > last:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args, **given)

placing._after = counted
import_conversations(sys.argv[1], SqliteStorage(sys.argv[2]), library="openai")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kill -9")
@pytest.mark.parametrize("grown", [False, True])
def test_goes_on_where_a_killed_import_has_left_it(grown: bool, tmp_path: Path) -> None:
    """Also if the source has grown meanwhile, in a turn that was written already."""
    source, database = tmp_path / "chat.jsonl", tmp_path / "sessions.db"
    messages = [said(role, f"{LONG}{turn}") for turn in range(8) for role in ("user", "assistant")]
    source.write_text(json.dumps({"messages": messages}))
    command = [sys.executable, "-c", PROGRAM, str(source), str(database), "2"]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    if grown:
        source.write_text(json.dumps({"messages": [*messages[:2], said("assistant", "And more."), *messages[2:]]}))
    with SqliteStorage(database) as storage:
        assert storage.get_session("chat-1") is None, "what is there in part is in no list"
        assert import_conversations(str(source), storage, library="openai").sessions == 1
        runs = storage.runs("chat-1", last=99)
        assert [len(one.messages) for one in runs] == [3 if grown else 2, *[2] * 7]
        storage.verify("chat-1")
        assert import_conversations(str(source), storage, library="openai").unchanged == 1


# ---------------------------------------------------------------- redaction


def test_what_is_imported_is_redacted(tmp_path: Path) -> None:
    mail = "ada@example.com"
    first = run("r1", said("user", f"I am {mail}"), said("assistant", f"Hello {mail}"))
    grown = run("r1", *first["messages"], said("assistant", f"Still {mail}?"))
    with SqliteStorage(tmp_path / "sessions.db", redact=Patterns("mail")) as storage:
        assert take(agno(tmp_path / "a", first, state={"mail": mail}), storage) == (1, 0, [])
        assert take(agno(tmp_path / "b", grown, state={"mail": f"{mail} "}), storage) == (1, 0, [])
        assert take(str(tmp_path / "b"), storage) == (0, 1, [])
        (one,) = storage.runs("s1", user_id="ada")
        assert (one.input, one.output) == ("I am [mail]", "Still [mail]?")
    assert mail.encode() not in b"".join(path.read_bytes() for path in tmp_path.glob("sessions.db*"))


# ---------------------------------------------------------------- what it has cost


def test_costs_are_those_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each response by its model; unknown where one is; and no other session when prices change."""
    counted = {"input_tokens": 1000, "output_tokens": 100}
    answer = {**said("assistant", "To Rome."), "metrics": counted, "created_at": 1_767_225_600}
    about = {"model": "gpt-5-mini", "model_provider": "OpenAI", "metrics": {"input_tokens": 2000, "output_tokens": 200}}
    known = run("r1", ASKED, answer, answer, **about)
    partly = run("r2", ASKED, answer, said("assistant", "Nobody counted."), **about)
    told = run("r3", ASKED, answer, model="gpt-5-mini", metrics={**counted, "cost": 0.5})
    nowhere = run("r4", ASKED, answer, **{**about, "model": "no-such-model"})
    with MemoryStorage() as storage:
        take(agno(tmp_path / "a", known, partly, told, nowhere), storage)
        one, two, three, four = (one.usage for one in storage.runs("s1", last=9, user_id="ada"))
        assert one.cost == 2 * Decimal("0.00045")
        assert (two.cost, two.known_cost, two.unpriced) == (None, Decimal("0.00045"), 1)
        assert (three.cost, four.cost) == (Decimal("0.5"), None)
        monkeypatch.setattr(reader, "cost_of", lambda *args: None)
        assert take(str(tmp_path / "a"), storage) == (0, 1, [])
