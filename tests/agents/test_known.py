"""Runs that are sent along once more are not made of the log again: what they say is what the log says, all the same.

And what a run has worked with goes with it, not only when the garbage collector comes.
"""

from __future__ import annotations

import asyncio
import gc
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from copy import deepcopy
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest
from pydantic_ai.messages import (
    BinaryContent,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturn,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.test import TestModel

from sessile import Agent, MemoryStorage, RollingSummary, SqliteStorage, TokenBudget, Usage
from sessile.agents import Budget, LastRuns, Relevant, Shortened, Window
from sessile.redaction import Patterns


class Model:
    """Answers `Answer to …`, and notes what it was sent."""

    def __init__(self, change: Callable[[list[ModelMessage]], None] = lambda _: None) -> None:
        self.sent: list[str] = []
        self.messages: list[ModelMessage] = []
        self.change = change
        self.model = FunctionModel(self.answer)

    async def answer(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        self.messages = messages
        parts: list[Any] = [part for message in messages for part in message.parts]
        self.sent = [str(getattr(part, "content", getattr(part, "args", None))) for part in parts]
        question = self.sent[-1]
        self.change(messages)
        return ModelResponse(parts=[TextPart(f"Answer to {question}")])


def spoil(messages: list[ModelMessage]) -> None:
    for message in messages[:-1]:  # the last one is the run's own
        for part in message.parts:
            part.content = "Spoiled"  # type: ignore[misc, union-attr]  # pyright: ignore[reportAttributeAccessIssue]
        message.metadata = {"spoiled": True}
        if isinstance(message, ModelResponse):
            message.usage.input_tokens = 1_000_000


def test_what_a_model_changes_in_its_messages_is_as_it_was_the_next_time() -> None:
    model = Model(spoil)
    agent = Agent(model.model, storage=MemoryStorage())
    for number in range(1, 7):
        agent.run(f"Question {number}", session_id="s")
        assert "Spoiled" not in model.sent
        assert (
            model.sent[:2]
            == [f"Question {max(1, number - 3)}", f"Answer to Question {max(1, number - 3)}"][: len(model.sent)]
        )


@pytest.mark.parametrize(
    "history",
    [3, "all", TokenBudget(2_000), Budget(tokens=2_000), Relevant(tokens=2_000), Shortened(3), RollingSummary()],
    ids=lambda history: type(history).__name__,
)
def test_what_is_known_is_sent_as_what_is_read(history: Any) -> None:
    """A second agent, whose session nobody has worked with, is sent the same."""
    storage = MemoryStorage()
    known, read = Model(), Model()
    agent = Agent(known.model, storage=storage, history=history)
    for number in range(1, 6):
        if number == 4:
            storage.fork("s", session_id="t")
        agent.run(f"Question {number}", session_id="s")
    other = Agent(read.model, storage=storage, history=history)
    other.run("Question 4", session_id="t")
    other.run("Question 5", session_id="t")
    assert known.sent == read.sent
    assert len(known.sent) > 3


class Hiding:
    """The past, without what may not be said again."""

    def __init__(self, past: Any) -> None:
        self.past = past

    def __getattr__(self, name: str) -> Any:
        return getattr(self.past, name)

    async def messages(self, run: Any) -> list[ModelMessage]:
        said = await self.past.messages(run)
        return [message for message in said if isinstance(message, ModelResponse)]


class Hidden(Window):
    async def select(self, past: Any) -> list[ModelMessage]:
        return await LastRuns(3).select(Hiding(past))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


class Cut(Window):
    async def select(self, past: Any) -> list[ModelMessage]:
        runs = await past.runs(past.numbers(3))
        for run in runs:
            del run.messages[0]
        return [message for run in runs for message in await past.messages(run)]


def test_what_a_window_of_the_users_hides_stays_hidden() -> None:
    model = Model()
    agent = Agent(model.model, storage=MemoryStorage(), history=Hidden())
    for number in range(1, 5):
        agent.run(f"Secret {number}", session_id="s")
        assert [text for text in model.sent if text.startswith("Secret")] == [f"Secret {number}"]
    assert "Answer to Secret 3" in model.sent


def test_what_a_window_of_the_users_cuts_is_cut_for_its_agent_alone() -> None:
    model, storage = Model(), MemoryStorage()
    whole, cut = Agent(model.model, storage=storage), Agent(model.model, storage=storage, history=Cut())
    whole.run("First", session_id="s")
    cut.run("Second", session_id="s")
    assert "First" not in model.sent
    whole.run("Third", session_id="s")
    assert model.sent == ["First", "Answer to First", "Second", "Answer to Second", "Third"]


def test_what_was_erased_meanwhile_is_not_sent() -> None:
    model, storage = Model(), MemoryStorage()
    agent = Agent(model.model, storage=storage)
    for question in ("My secret", "Second", "Third"):
        agent.run(question, session_id="s")
    assert "My secret" in model.sent
    storage.erase_run("s", 1)
    agent.run("Fourth", session_id="s")
    assert not [text for text in model.sent if "secret" in text]
    assert "Second" in model.sent


def test_what_was_amended_meanwhile_is_sent_as_it_is_now() -> None:
    model, storage = Model(), MemoryStorage()
    agent = Agent(model.model, storage=storage)
    agent.run("First", session_id="s")
    agent.run("Second", session_id="s")
    storage.rewind("s", at=1)
    storage.amend_run("s", drop=1, messages=[{"role": "assistant", "content": "Rome."}], format="openai")
    agent.run("Third", session_id="s")
    assert model.sent == ["First", "Rome.", "Third"]


def test_another_run_of_the_same_number_is_another_one(tmp_path: Path) -> None:
    """After a backup was put back."""
    model, path, backup = Model(), tmp_path / "s.db", tmp_path / "backup.db"

    def ask(*questions: str) -> None:
        with SqliteStorage(path) as storage:
            for question in questions:
                Agent(model.model, storage=storage).run(question, session_id="s")

    ask("First")
    shutil.copy(path, backup)
    ask("Lost", "Lost as well")
    shutil.copy(backup, path)
    ask("Second", "Third")
    assert model.sent == ["First", "Answer to First", "Second", "Answer to Second", "Third"]


def test_calls_of_tools_and_media_are_sent_again() -> None:
    model, storage = Model(), MemoryStorage()
    image = BinaryContent(b"\x89PNG" * 50_000, media_type="image/png")
    agent = Agent(model.model, storage=storage)
    Agent(TestModel(), storage=storage, tools=[weather]).run("Weather?", session_id="s")
    agent.run(["Look", image], session_id="s")
    for question in ("Third", "Fourth"):
        agent.run(question, session_id="s")
        parts: list[Any] = [part for message in model.messages for part in message.parts]
        said = [part.content for part in parts if not isinstance(part, ToolCallPart)]
        assert [part.args for part in parts if isinstance(part, ToolCallPart)] == [{"places": ["a"]}]
        assert {"a": ["sun", "wind"]} in said
        assert [image.data] == [item.data for one in said for item in one if isinstance(item, BinaryContent)]


def weather(places: list[str]) -> dict[str, list[str]]:
    return {place: ["sun", "wind"] for place in places}


ODD: list[Any] = [
    datetime(2026, 1, 1, tzinfo=UTC),
    ("a", "b"),
    {"when": datetime(2026, 1, 1, tzinfo=UTC)},
    {1: "one"},
    {"share": 0.5, "none": None, "list": [1, True, {"kind": "binary"}]},
    float("nan"),
    Decimal("1.50"),
    b"bytes",
    {"a"},
    10**30,
    10**4200,
    Usage(requests=1),
    "lone \ud800",
]


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: type(odd).__name__)
def test_what_was_no_json_is_sent_as_it_is_read(odd: Any) -> None:
    """By an agent that has run it, and by one of another session that reads it."""

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        sent.append(deepcopy(messages[:-1]))
        parts: list[Any] = [TextPart("Well.")]
        if len(messages) == 1:
            parts = [ToolCallPart("look", {"odd": 1.0}, tool_call_id="c")]
        details = {"odd": odd} if isinstance(odd, (datetime, dict)) else None
        return ModelResponse(parts=parts, provider_details=cast(Any, details), metadata={"plain": [1.5]})

    def look(odd: float) -> Any:
        return ToolReturn(odd_value, metadata={"odd": odd_value})

    odd_value, sent, storage = odd, list[list[ModelMessage]](), MemoryStorage()
    agent: Any = Agent(FunctionModel(answer), storage=storage, tools=[look])
    agent.run("First", session_id="s")
    storage.fork("s", session_id="t")
    sent.clear()
    agent.run("Second", session_id="s")
    agent.run("Second", session_id="t")
    known, read = sent
    assert len(known) == 4
    assert known == read
    assert repr(known).replace("datetime.timezone.utc", "TzInfo(0)") == repr(read)


def test_what_is_redacted_where_it_is_stored_is_sent_redacted() -> None:
    model, storage = Model(), MemoryStorage(redact=Patterns("mail"))
    agent = Agent(model.model, storage=storage)
    agent.run("I am ada@example.org", session_id="s")
    agent.run("Second", session_id="s")
    assert len(model.sent) == 3
    assert not [text for text in model.sent if "ada@" in text]


def test_what_a_model_changes_in_its_answer_later_is_not_known() -> None:
    answers: list[ModelResponse] = []

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        sent.extend(deepcopy(messages))
        answers.append(ModelResponse(parts=[TextPart("Rome.")]))
        return answers[-1]

    sent: list[ModelMessage] = []
    agent = Agent(FunctionModel(answer), storage=MemoryStorage())
    result = agent.run("First", session_id="s")
    for message in (*result.new_messages(), *answers):
        message.parts = [TextPart("Spoiled")]
    sent.clear()
    agent.run("Second", session_id="s")
    assert "Rome." in str(sent)
    assert "Spoiled" not in str(sent)


# ---------------------------------------------------------------- what is left behind


async def words(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
    yield "Some "
    yield "words"


AGENT: Any = Agent(FunctionModel(stream_function=words), storage=MemoryStorage())
STEPS: Any = Agent(TestModel(), storage=MemoryStorage(), durability="step", tools=[weather])


async def events() -> None:
    async for _ in AGENT.astream("Hello", session_id="left", events=True):
        pass


@pytest.mark.parametrize(
    "work",
    [
        lambda: STEPS.run("Hello", session_id="left"),
        lambda: asyncio.run(STEPS.arun("Hello", session_id="left")),
        lambda: list(AGENT.stream("Hello", session_id="left")),
        lambda: asyncio.run(events()),
    ],
    ids=["sync", "async", "stream", "events"],
)
def test_a_run_leaves_nothing_to_the_garbage_collector(work: Callable[[], object], collected: list[Any]) -> None:
    """With its messages, and commits that were read, a run is large: many at once would be kept for long."""
    work()
    gc.collect()
    messages = [one for one in collected if isinstance(one, (ModelRequest, ModelResponse))]
    assert not [one for one in messages if one.conversation_id == "left"]


@pytest.fixture
def collected() -> Iterator[list[Any]]:
    """What the garbage collector finds."""
    STEPS.run("Hello", session_id="left")  # what the first one makes stays
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield gc.garbage
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
