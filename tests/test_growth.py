"""What texts of the worst shape cost: work grows with their size, and not with its square (see `growth.py`)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic_ai import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from tests.growth import LARGEST, SHAPES, SLOW, TEXT_WORK, check_function, check_growth, of_size

from sessile import Agent, Context, MemoryStorage, Workflow
from sessile.errors import InvalidInputError, SessileError, TooLargeError
from sessile.insight import Index
from sessile.storage import patch
from sessile.storage.ids import check_id

SIZE = 16_000

MEGABYTE = 1_000_000

# ---------------------------------------------------------------- functions over text


@pytest.mark.parametrize("work", TEXT_WORK)
def test_functions(work: str) -> None:
    """Up to a megabyte, where that is quick."""
    for shape in SHAPES:
        check_function(work, shape, SIZE // 2 if work in SLOW else MEGABYTE // 4)


@pytest.mark.skipif(os.environ.get("SESSILE_TORTURE") != "1", reason="takes half an hour: make torture does it")
@pytest.mark.parametrize("work", TEXT_WORK)
def test_functions_over_one_and_ten_megabytes(work: str) -> None:
    for shape in SHAPES:
        check_function(work, shape, MEGABYTE, times=10)


# ---------------------------------------------------------------- operations


@pytest.fixture
def storage() -> Iterator[MemoryStorage]:
    limits = {"max_commit_bytes": LARGEST, "max_state_bytes": LARGEST, "max_metadata_bytes": LARGEST}
    with MemoryStorage(**limits) as made:
        yield made


@pytest.mark.parametrize("shape", sorted(SHAPES.keys() - {"lone surrogates"}))  # which Pydantic AI refuses as arguments
def test_prompts_and_answers_of_agents(storage: MemoryStorage, shape: str) -> None:
    """They are stored, sent along, read and searched; tools are called with them, and return them."""

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        text = str(messages[-1].parts[-1].content)  # type: ignore[union-attr]
        called = any(isinstance(part, ToolCallPart) for message in messages for part in message.parts)
        return ModelResponse(parts=[TextPart(text) if called else ToolCallPart("echo", {"text": text})])

    def echo(text: str) -> str:
        return text

    agent = Agent(FunctionModel(answer), storage=storage, tools=[echo], durability="step", instructions="You are {a}.")

    def work(text: str) -> None:
        session = agent.session()
        session.run(text)
        session.run(text)
        storage.verify(session.session_id)
        assert len(session.runs()) == 2

    check_growth(lambda size: of_size(shape, size), work, SIZE)


@pytest.mark.parametrize("shape", SHAPES)
def test_steps_of_workflows(storage: MemoryStorage, shape: str) -> None:
    async def flow(ctx: Context, text: str) -> str:
        return await ctx.step(same, text)

    def same(text: str) -> str:
        return text

    made: Workflow[str] = Workflow(flow, storage=storage, name="flow")

    def work(text: str) -> None:
        assert made.run(text).output == text

    check_growth(lambda size: of_size(shape, size), work, SIZE)


def flat(size: int) -> dict[str, Any]:
    return {f"key {number}": number for number in range(size)}


def below(size: int) -> dict[str, Any]:
    return {"a": {"b": flat(size)}}


def each_apart(size: int) -> dict[str, Any]:
    return {f"key {number}": {"a": {"b": number}} for number in range(size)}


@pytest.mark.parametrize("make", [flat, below, each_apart])
def test_states_and_metadata(storage: MemoryStorage, make: Callable[[int], dict[str, Any]]) -> None:
    def work(value: dict[str, Any]) -> None:
        session = storage.create_session(state={"a": {"b": {"first": 1}}}).session_id
        storage.update_state(session, value)
        storage.update_state(session, {}, set=dict.fromkeys(value, 1))
        storage.update_state(session, remove=list(value))
        storage.set_metadata(session, value)
        storage.add_run(session, input=value, output=value, state=value, metadata=value)
        storage.rewind(session, at=0)
        storage.verify(session)

    check_growth(make, work, 2_000)


@pytest.mark.parametrize("make", [flat, below, each_apart])
def test_patches(make: Callable[[int], dict[str, Any]]) -> None:
    def work(value: dict[str, Any]) -> None:
        made = patch.diff({}, value)
        assert patch.apply({}, made) == value
        assert patch.apply(value, patch.undo(value, patch.diff(value, {}))) == value
        assert len(patch.conflicts(made, made)) == len(made)

    check_growth(make, work, 2_000)


def test_names_and_ids() -> None:
    """They are measured before anything else is done with them."""
    for text in (of_size(shape, 1_000_000) for shape in SHAPES):
        with pytest.raises(InvalidInputError) as caught:
            check_id(text, "name")
        assert len(str(caught.value)) < 300


# ---------------------------------------------------------------- what is too large costs nothing


@pytest.mark.parametrize("durability", ["run", "step", "exit"])
@pytest.mark.parametrize("what", ["prompt", "run_metadata", "state"])
def test_what_is_too_large_is_refused_before_the_model_is_asked(durability: Any, what: str) -> None:
    asked: list[Any] = []

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        asked.append(messages)
        return ModelResponse(parts=[TextPart("yes")])

    text = "x" * 30_000
    with MemoryStorage(max_commit_bytes=20_000, max_state_bytes=10_000) as storage:
        state = {"x": text} if what == "state" else None
        agent = Agent(FunctionModel(answer), storage=storage, durability=durability, state=state)
        prompt = text if what == "prompt" else "hello"
        with pytest.raises(TooLargeError) as caught:
            agent.run(prompt, session_id="s", run_metadata={"x": text} if what == "run_metadata" else None)
        assert caught.value.written == "no"
        assert (asked, storage.get_session("s")) == ([], None)


@pytest.mark.parametrize("number", [10**5000, -(10**5000)], ids=["large", "small"])
def test_numbers_that_python_does_not_write(storage: MemoryStorage, number: int) -> None:
    """An error that shows the number would be another error."""
    calls: list[Callable[[], Any]] = [
        lambda: storage.runs("s", last=number),
        lambda: storage.get_run("s", number),
        lambda: storage.sessions(limit=number),
        lambda: storage.set_ttl("s", number),
        lambda: storage.tail("s", number),
        lambda: MemoryStorage(timeout=number),
        lambda: storage.create_session("s", state={"x": number}),
    ]
    for call in calls:
        with pytest.raises(SessileError):
            call()


async def test_a_model_that_searches_for_too_much(storage: MemoryStorage) -> None:
    """Words beyond the first are not looked for: each would be looked for in every message."""

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        return ModelResponse(parts=[TextPart("yes")])

    agent = Agent(FunctionModel(answer), storage=storage, user_id="ada")
    text = " ".join(f"word{number}" for number in range(20))
    await agent.arun(text, session_id="earlier")

    def searching(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        if len(messages) > 1:
            return ModelResponse(parts=[TextPart(str(messages[-1].parts[-1].content))])  # type: ignore[union-attr]
        return ModelResponse(parts=[ToolCallPart("search_past_sessions", {"query": f"{text} elsewhere " * 1000})])

    other: Agent[str] = Agent(FunctionModel(searching), storage=storage, user_id="ada", search_sessions=True)
    found = await other.arun("hello", session_id="now")
    assert found.output.startswith("[earlier, 1] User: word0 word1")


def test_a_search_for_too_much(storage: MemoryStorage) -> None:
    """It is told before anything is looked up, and not repeated."""
    for text in (of_size(shape, MEGABYTE) for shape in SHAPES):
        with pytest.raises(InvalidInputError, match="10,000 are looked for") as caught:
            Index(storage).search(text)
        assert len(str(caught.value)) < 300
