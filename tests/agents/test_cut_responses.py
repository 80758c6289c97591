"""A run that is interrupted in order while its model answers: what has arrived is no answer, and is asked for again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from pydantic_ai.models.test import TestModel

from sessile import Agent, SqliteStorage, Team

TEXT = "one two three four"


class Model:
    """Answers word by word, and stops after two where it is to be interrupted."""

    def __init__(self) -> None:
        self.reached, self.stops, self.asked = asyncio.Event(), True, 0

    async def stream(self, messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        self.asked += 1
        for number, word in enumerate(TEXT.split()):
            if self.stops and number == 2:
                self.reached.set()
                await asyncio.Event().wait()
            yield word if number == 0 else f" {word}"

    async def whole(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        return ModelResponse(parts=[TextPart("".join([word async for word in self.stream(messages, info)]))])

    def made(self) -> FunctionModel:
        return FunctionModel(self.whole, stream_function=self.stream)


async def interrupted(model: Model, running: Any) -> None:
    """Let it work until the model has said two words, then tell its task to stop, as a server does that ends."""
    task = asyncio.ensure_future(running)
    await model.reached.wait()
    await asyncio.sleep(0.05)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    model.stops = False


async def streamed(agent: Any, **options: Any) -> Any:
    async with agent.astream("Go", session_id="s1", **options) as stream:
        async for _ in stream:
            pass
    return stream.result


async def test_half_an_answer_is_never_the_answer(tmp_path: Path) -> None:
    model = Model()
    with SqliteStorage(tmp_path / "s.db") as storage:
        agent = Agent(model.made(), name="slow", storage=storage, durability="step")
        await interrupted(model, streamed(agent))
        kept = storage.get_run("s1", 1)
        assert kept.status == "interrupted"
        result = await agent.aresume("s1")
        assert (result.status, result.output, model.asked) == ("completed", TEXT, 2)
        run = storage.get_run("s1", 1)
        assert [message.data["kind"] for message in run.messages] == ["request", "response"]
        assert run.output == TEXT
        storage.verify("s1")
        again = await agent.arun("And?", session_id="s1")
        assert again.output == TEXT


@pytest.mark.parametrize("durability", ["run", "step"])
async def test_a_request_that_comes_again_has_a_whole_answer(tmp_path: Path, durability: Any) -> None:
    model = Model()
    with SqliteStorage(tmp_path / "s.db") as storage:
        agent = Agent(model.made(), name="slow", storage=storage, durability=durability)
        await interrupted(model, streamed(agent, run_id="r1"))
        result = await streamed(agent, run_id="r1")
        assert (result.output, result.number) == (TEXT, 1)
        run = storage.get_run("s1", 1)
        assert [message.data["kind"] for message in run.messages] == ["request", "response"]
        storage.verify("s1")


async def test_half_an_answer_of_a_member_is_asked_for_again(tmp_path: Path) -> None:
    model = Model()

    def said(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        returned = [part for part in messages[-1].parts if isinstance(part, ToolReturnPart)]
        if returned:
            return ModelResponse(parts=[TextPart(f"It says: {returned[0].content}")])
        return ModelResponse(parts=[ToolCallPart("delegate_task", {"member": "slow", "task": "Go"}, tool_call_id="c1")])

    async def leader(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
        for part in said(messages, info).parts:
            if isinstance(part, TextPart):
                yield part.content
            elif isinstance(part, ToolCallPart):
                yield {0: DeltaToolCall(part.tool_name, part.args_as_json_str(), tool_call_id=part.tool_call_id)}

    with SqliteStorage(tmp_path / "s.db") as storage:
        member = Agent(model.made(), name="slow")
        team = Team(
            [member], FunctionModel(said, stream_function=leader), name="team", storage=storage, durability="step"
        )
        await interrupted(model, streamed(team))
        result = await team.aresume("s1")
        assert (result.status, result.output) == ("completed", f"It says: {TEXT}")
        child = storage.get_run("s1", 1).children[0]
        assert [message.data["kind"] for message in child.messages] == ["request", "response"]
        storage.verify("s1")


async def test_a_tool_that_was_at_work_waits_for_a_decision(tmp_path: Path) -> None:
    """As after a crash: nobody knows whether it has happened, and the model is not told that it has not."""
    model, calls = Model(), 0

    async def pay() -> str:
        nonlocal calls
        calls += 1
        if calls == 1:
            model.reached.set()
            await asyncio.Event().wait()
        return "paid"

    with SqliteStorage(tmp_path / "s.db") as storage:
        agent = Agent(TestModel(), name="a", storage=storage, durability="step", tools=[pay])
        await interrupted(model, streamed(agent))
        assert (await agent.aresume("s1")).status == "paused"
        call = storage.waiting().items[0].asked[0]
        assert (call["kind"], call["tool_name"]) == ("unsure", "pay")
        done = await agent.aresume("s1", approvals={call["tool_call_id"]: True})
        assert (done.output, calls) == ('{"pay":"paid"}', 2)
        storage.verify("s1")


async def test_a_stream_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    """What a tool has returned is kept, the answer is streamed whole, and both stand in the log once."""
    model, noted = Model(), list[str]()

    def note() -> str:
        noted.append("a")
        return "noted"

    async def answers(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
        if len(messages) == 1:
            yield {0: DeltaToolCall("note", "{}", tool_call_id="c1")}
            return
        async for word in model.stream(messages, info):
            yield word

    def agent(storage: SqliteStorage) -> Agent[Any]:
        function = FunctionModel(model.whole, stream_function=answers)
        return Agent(function, name="slow", storage=storage, durability="step", tools=[note])

    with SqliteStorage(tmp_path / "s.db") as storage:
        await interrupted(model, streamed(agent(storage), run_id="r1"))
    with SqliteStorage(tmp_path / "s.db") as storage:
        async with agent(storage).astream("Go", session_id="s1", run_id="r1") as stream:
            assert (stream.run_id, stream.number) == ("r1", 1)
            assert "".join([piece async for piece in stream]) == TEXT
        assert (stream.result.output, noted) == (TEXT, ["a"])
        assert [message.kind for message in stream.result.new_messages()] == ["request", "response"] * 2
        run = storage.get_run("s1", 1)
        assert [message.data["kind"] for message in run.messages] == ["request", "response"] * 2
        assert run.usage.requests == 3  # the one that was cut off, too
        storage.verify("s1")
