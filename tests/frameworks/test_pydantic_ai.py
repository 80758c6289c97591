"""Pydantic AI's `ConversationStore`: its own one in memory and ours answer alike."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
from pydantic_ai import Agent, BinaryContent
from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import (
    ConversationConflict,
    ConversationRecord,
    ConversationStore,
    InMemoryConversationStore,
)
from pydantic_ai.exceptions import UserError
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, TextPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.usage import UsageLimits
from tests.frameworks.helpers import page_runs
from tests.frameworks.writers import killed_in_the_middle, written_together

import sessile
from sessile.errors import TooLargeError
from sessile.integrations.pydantic_ai import SessileConversationStore

FRAMEWORK = "pydantic_ai"
WORK = "pydantic_ai_work.py"


def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    return ModelResponse([TextPart(f"{len(messages)} messages")])


agent = Agent(FunctionModel(answer))


@pytest.fixture(params=["theirs", "memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ConversationStore]:
    if request.param == "theirs":
        yield InMemoryConversationStore()
        return
    url = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/s.db"
    with sessile.open(url) as storage:
        yield SessileConversationStore(storage)


async def say(store: ConversationStore, conversation_id: str, prompt: Any, **given: Any) -> Conversation:
    limit = given.pop("limit", None)
    conversation = await store.load(conversation_id, limit=limit) or Conversation(conversation_id=conversation_id)
    result = await agent.run(prompt, conversation=conversation, usage_limits=UsageLimits(request_limit=None))
    await store.save(result, **given)
    return result.conversation


def words(messages: list[ModelMessage]) -> list[str]:
    return [str(part.content) for message in messages for part in message.parts if hasattr(part, "content")]


async def said(store: ConversationStore, conversation_id: str, **given: Any) -> list[str]:
    loaded = await store.load(conversation_id, **given)
    assert loaded is not None
    return words(loaded.messages)


async def test_turns_are_appended(store: ConversationStore) -> None:
    assert await store.load("c") is None
    assert await store.load_entries("c") is None
    for prompt in ("a", "b", "c"):
        await say(store, "c", prompt)
    assert await said(store, "c") == ["a", "1 messages", "b", "3 messages", "c", "5 messages"]
    assert await said(store, "c", limit=3) == ["3 messages", "c", "5 messages"]
    assert await said(store, "c", limit=0) == []
    with pytest.raises(UserError):
        await store.load("c", limit=-1)
    entries = await store.load_entries("c")
    assert entries is not None
    assert [entry.parent_id for entry in entries] == [None, *(entry.id for entry in entries[:-1])]
    assert words([(await store.read_entry(entries[2].id)).message]) == ["b"]
    with pytest.raises(LookupError):
        await store.read_entry("nothing")
    loaded = await store.load("c")
    assert loaded is not None
    assert loaded.usage.requests == 3


async def test_a_window_appends_to_the_whole(store: ConversationStore) -> None:
    for number in range(12):
        await say(store, "c", str(number), limit=4)
    assert [one for one in await said(store, "c") if "messages" not in one] == [str(number) for number in range(12)]


async def test_who_is_too_late_is_refused(store: ConversationStore) -> None:
    await say(store, "c", "a")
    stale = await store.load("c")
    assert stale is not None
    await say(store, "c", "b")
    with pytest.raises(ConversationConflict):
        await store.save(await agent.run("x", conversation=stale))
    with pytest.raises(ConversationConflict):
        await store.save(await agent.run("x", conversation=Conversation(conversation_id="c")))
    with pytest.raises(ConversationConflict):
        await store.write_record(ConversationRecord(conversation_id="new", head_id="nothing"), expected_revision=None)
    assert "x" not in await said(store, "c")


async def test_branches(store: ConversationStore) -> None:
    for prompt in ("a", "b", "c"):
        await say(store, "c", prompt)
    entries = await store.load_entries("c")
    loaded = await store.load("c")
    assert entries is not None
    assert loaded is not None
    branched = await store.branch("c", at=2, expected_revision=loaded.revision)
    assert words(branched.messages) == ["a", "1 messages"]
    with pytest.raises(ConversationConflict):
        await store.branch("c", at=2, expected_revision=loaded.revision)
    await say(store, "c", "B")
    assert await said(store, "c") == ["a", "1 messages", "B", "3 messages"]
    record = await store.read_record("c")
    assert record is not None
    assert record.branches == [entries[-1].id]
    await store.branch("c", from_entry=entries[3].id, expected_revision=record.revision)
    assert await said(store, "c") == ["a", "1 messages", "b", "3 messages"]
    loaded = await store.load("c")
    assert loaded is not None
    await store.branch("c", at=1, expected_revision=loaded.revision)
    assert await said(store, "c") == ["a"]
    again = await store.load("c")
    assert again is not None
    again.messages.append(ModelResponse([TextPart("another")]))
    await store.save(again)
    assert await said(store, "c") == ["a", "another"]
    await store.branch("c", at=0, expected_revision=again.revision)
    assert await said(store, "c") == []
    record = await store.read_record("c")
    assert record is not None
    assert len(record.branches) == 4
    with pytest.raises(UserError):
        await store.branch("c", from_entry="nothing", expected_revision=record.revision)


async def test_a_history_that_was_rewritten(store: ConversationStore) -> None:
    for prompt in ("a", "b"):
        await say(store, "c", prompt)
    loaded = await store.load("c")
    assert loaded is not None
    messages = [*loaded.messages[:2], ModelRequest([UserPromptPart("B")]), ModelResponse([TextPart("!")])]
    rewritten = Conversation(conversation_id="c", messages=messages, usage=loaded.usage, revision=loaded.revision)
    new = await store.save(rewritten)
    assert len(new) == 2
    assert await said(store, "c") == ["a", "1 messages", "B", "!"]


async def test_forks(store: ConversationStore) -> None:
    for prompt in ("a", "b"):
        await say(store, "c", prompt, scope="ada")
    fork = await store.fork("c", at=3, new_conversation_id="f")
    assert words(fork.messages) == ["a", "1 messages", "b"]
    await say(store, "c", "c")
    result = await agent.run(conversation=fork)
    await store.save(result)
    assert await said(store, "f") == ["a", "1 messages", "b", "3 messages"]
    record = await store.read_record("f")
    assert record is not None
    assert (record.forked_from, record.scope) == ("c", "ada")
    with pytest.raises(ConversationConflict):
        await store.fork("c", new_conversation_id="f")
    await store.delete("c")
    assert await store.load("c") is None
    assert await said(store, "f") == ["a", "1 messages", "b", "3 messages"]


async def test_scopes_and_lists(store: ConversationStore) -> None:
    await say(store, "a", "x", scope="ada")
    await say(store, "b", "x", scope="bob")
    await say(store, "n", "x")
    await say(store, "a", "y")
    assert [one.conversation_id for one in await store.list_conversations()] == ["a", "n", "b"]
    assert [one.conversation_id for one in await store.list_conversations(limit=2)] == ["a", "n"]
    assert [one.conversation_id for one in await store.list_conversations(scope="bob")] == ["b"]
    assert await store.load("a", scope="bob") is None
    with pytest.raises(ConversationConflict):
        await say(store, "a", "z", scope="bob")
    await store.delete("a", scope="bob")
    assert await store.load("a", scope="ada") is not None
    await store.delete("a", scope="ada")
    assert await store.load("a") is None
    await say(store, "a", "new", scope="bob")
    assert await said(store, "a") == ["new", "1 messages"]


async def test_contents_come_back(store: ConversationStore) -> None:
    document = BinaryContent(bytes(range(256)) * 40, media_type="application/pdf")
    await say(store, "c", ["Look:", document])
    loaded = await store.load("c")
    assert loaded is not None
    (part,) = loaded.messages[0].parts
    assert isinstance(part, UserPromptPart)
    assert part.content[1] == document


async def test_large_contents_come_back_from_branches_and_forks(store: ConversationStore) -> None:
    """Over the size that stands in a commit; the first of them before there is a conversation."""
    picture = BinaryContent(bytes(range(256)) * 1200, media_type="application/pdf")
    for number in range(2):
        await say(store, "c", [f"Look: {number}", picture], limit=4)
    loaded = await store.load("c")
    assert loaded is not None
    await store.branch("c", at=3, expected_revision=loaded.revision)
    await say(store, "c", "And?")
    await store.fork("c", new_conversation_id="f")
    await store.delete("c")
    fork = await store.load("f")
    assert fork is not None
    found = [part.content for message in fork.messages for part in message.parts if isinstance(part, UserPromptPart)]
    assert [one[1] for one in found[:2]] == [picture, picture]
    assert words(fork.messages)[-2:] == ["And?", "3 messages"]


# ---------------------------------------------------------------- what becomes of them here


def test_large_contents_lie_beside_the_log_once(sqlite_url: str) -> None:
    picture = BinaryContent(bytes(range(256)) * 1200, media_type="image/png")
    with sessile.open(sqlite_url) as storage:
        store = SessileConversationStore(storage)
        asyncio.run(say(store, "c", ["Look:", picture], scope="ada"))
        asyncio.run(say(store, "c", ["Again:", picture], scope="ada"))
        first, second = storage.runs("pydantic-ai:c", last=5, user_id="ada")
        assert (first.input, second.input) == ("Look:", "Again:")
        said = [run.messages[0].data["parts"][0]["content"][1] for run in (first, second)]
        assert said[0]["data"] == said[1]["data"] == {"$blob": ANY, "size": len(picture.data)}
        assert storage.media("pydantic-ai:c", said[0]["data"]["$blob"], user_id="ada") == picture.data
        ours = sessile.Agent(FunctionModel(answer), storage=storage)
        assert ours.run("And?", session_id="pydantic-ai:c", user_id="ada").output == "5 messages"
        storage.verify("pydantic-ai:c", user_id="ada")


def test_a_content_that_is_too_large_is_refused_whole() -> None:
    with sessile.MemoryStorage(max_media_bytes=300_000) as storage:
        store = SessileConversationStore(storage)
        with pytest.raises(TooLargeError):
            asyncio.run(say(store, "c", ["Look:", BinaryContent(bytes(300_001), media_type="image/png")]))
        assert asyncio.run(store.load("c")) is None
        assert asyncio.run(store.list_conversations()) == []


def test_a_save_is_a_run_and_an_agent_of_ours_goes_on(sqlite_url: str) -> None:
    import asyncio

    with sessile.open(sqlite_url) as storage:
        store = SessileConversationStore(storage)
        asyncio.run(say(store, "c", "Paris?", scope="ada"))
        (run,) = storage.runs("pydantic-ai:c", last=5, user_id="ada")
        assert (run.input, run.output, run.usage.requests, len(run.messages)) == ("Paris?", "1 messages", 1, 2)
        ours = sessile.Agent(FunctionModel(answer), storage=storage)
        assert ours.run("And Rome?", session_id="pydantic-ai:c", user_id="ada").output == "3 messages"
        assert asyncio.run(said(store, "c")) == ["Paris?", "1 messages", "And Rome?", "3 messages"]
        asyncio.run(say(store, "c", "On.", scope="ada"))
        assert asyncio.run(said(SessileConversationStore(storage), "c"))[-2:] == ["On.", "5 messages"]
        assert [run.number for run in storage.runs("pydantic-ai:c", last=9, user_id="ada")] == [1, 2, 3]
        storage.verify("pydantic-ai:c", user_id="ada")


def test_writers_at_once_lose_nothing(busy_url: str) -> None:
    said_by_them = written_together(FRAMEWORK, WORK, busy_url)
    with sessile.open(busy_url) as storage:
        assert sorted(run.input for run in storage.runs("pydantic-ai:many", last=10_000)) == said_by_them
        storage.verify("pydantic-ai:many")


def test_a_killed_process_loses_nothing_that_was_told(killed_url: str, told: int) -> None:
    acknowledged = killed_in_the_middle(FRAMEWORK, WORK, killed_url, told)
    with sessile.open(killed_url) as storage:
        assert {run.input for run in storage.runs("pydantic-ai:many", last=10_000)} >= set(acknowledged)
        asyncio.run(say(SessileConversationStore(storage), "many", "And now?"))
        assert [run.input for run in storage.runs("pydantic-ai:many", last=1)] == ["And now?"]
        storage.verify("pydantic-ai:many")


def test_the_page_runs(tmp_path: Path) -> None:
    assert "Hello 3" in page_runs(FRAMEWORK, "pydantic-ai-store.md", tmp_path)
