"""A request that a client or a queue delivers twice, under one `run_id`: one run, and the model is asked once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import BinaryContent, Tool, ToolOutput
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

from sessile import Agent, MemoryStorage, SqliteStorage, Storage, Team
from sessile.agents.handle import AgentSession
from sessile.errors import InvalidInputError, NotResumableError, SessionBusyError
from sessile.records import Run
from sessile.storage import turns
from sessile.storage.extending import operate
from sessile.storage.turns import TurnSpec


class Asked:
    """A model that counts how often it is asked, and answers with the number or with what it is given."""

    def __init__(self) -> None:
        self.times = 0
        self.failing = False
        self.hold: threading.Event | None = None
        self.begun = threading.Event()

    def model(self) -> FunctionModel:
        async def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
            self.times += 1
            self.begun.set()
            if self.hold is not None:
                await asyncio.to_thread(self.hold.wait)
            if self.failing:
                raise RuntimeError("The model is down.")
            if info.output_tools:
                given = {"name": "tide", "day": "2026-01-02", "parts": [1, 2]}
                return ModelResponse(parts=[ToolCallPart(info.output_tools[0].name, given)])
            return ModelResponse(parts=[TextPart(f"answer {self.times}")])

        async def stream(messages: list[ModelMessage], info: AgentInfo) -> Any:
            self.times += 1
            yield "answer "
            yield str(self.times)

        return FunctionModel(answer, stream_function=stream)


@pytest.fixture
def asked() -> Asked:
    return Asked()


@pytest.fixture(params=["memory", "sqlite"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    made: Storage = MemoryStorage() if request.param == "memory" else SqliteStorage(tmp_path / "sessions.db")
    with made:
        yield made


def agent_of(asked: Asked, storage: Storage | None, **options: Any) -> Agent[Any]:
    return Agent(asked.model(), name="bot", storage=storage, **options)


def runs(storage: Storage) -> list[Run]:
    return storage.runs("s")


@pytest.mark.parametrize("durability", ["run", "step", "exit"])
def test_the_second_request_is_given_the_stored_result(asked: Asked, storage: Storage, durability: Any) -> None:
    agent = agent_of(asked, storage, durability=durability, state={"a": 1})
    first = agent.run("book it", session_id="s", run_id="request-1")
    for number in range(50):
        storage.update_state("s", {"n": number})
    agent.run("another", session_id="s", run_id="request-2")
    again = agent.run("book it", session_id="s", run_id="request-1")
    assert asked.times == 2
    assert [run.run_id for run in runs(storage)] == ["request-1", "request-2"]
    for name in ("output", "run_id", "session_id", "number", "status", "usage", "agent"):
        assert getattr(again, name) == getattr(first, name), name
    assert (first.run_id, again.output) == ("request-1", "answer 1")
    assert [message.parts for message in again.new_messages()] == [message.parts for message in first.new_messages()]
    assert again.state["n"] == 49
    storage.verify("s")


async def test_asynchronous_callers_streams_and_handles(asked: Asked, storage: Storage) -> None:
    agent = agent_of(asked, storage)
    stream = agent.astream("hi", session_id="s", run_id="r")
    said = "".join([piece async for piece in stream])
    again = agent.astream("hi", session_id="s", run_id="r")
    assert "".join([piece async for piece in again]) == said == "answer 1"
    assert again.result.output == "answer 1"
    assert (await agent.arun("hi", session_id="s", run_id="r")).output == "answer 1"
    handle: AgentSession[Any] = agent.session("s")
    assert (await handle.arun("hi", run_id="r")).output == "answer 1"
    assert [piece async for piece in handle.astream("hi", run_id="r")] == ["answer 1"]
    assert asked.times == 1


def test_synchronous_streams_and_handles(asked: Asked, storage: Storage) -> None:
    agent = agent_of(asked, storage)
    assert "".join(agent.stream("hi", session_id="s", run_id="r")) == "answer 1"
    assert list(agent.stream("hi", session_id="s", run_id="r")) == ["answer 1"]
    assert list(agent.stream("hi", session_id="s", run_id="r", events=True)) == []
    assert agent.session("s").run("hi", run_id="r").output == "answer 1"
    assert list(agent.session("s").stream("hi", run_id="r")) == ["answer 1"]
    assert asked.times == 1


def test_another_request_under_the_same_id_is_refused(asked: Asked, storage: Storage) -> None:
    agent = agent_of(asked, storage)
    picture = BinaryContent(b"x" * 9000, media_type="image/png")
    agent.run(["look", picture], session_id="s", run_id="r")
    assert agent.run(["look", picture], session_id="s", run_id="r").output == "answer 1"
    for other in ("look", ["look", BinaryContent(b"y" * 9000, media_type="image/png")]):
        with pytest.raises(InvalidInputError, match="has a run 'r' already, with another input"):
            agent.run(other, session_id="s", run_id="r")
    stranger = Agent(asked.model(), name="stranger", storage=storage)
    with pytest.raises(InvalidInputError, match="as one of 'bot'"):
        stranger.run(["look", picture], session_id="s", run_id="r")
    with pytest.raises(InvalidInputError, match="pass session_id"):
        agent.run("look", run_id="r")
    with pytest.raises(InvalidInputError):
        agent.run("look", session_id="s", run_id="")
    assert asked.times == 1
    assert len(runs(storage)) == 1


def test_a_run_that_is_at_work_elsewhere(asked: Asked, storage: Storage) -> None:
    agent = agent_of(asked, storage)
    asked.hold = threading.Event()
    first = threading.Thread(target=lambda: agent.run("hi", session_id="s", run_id="r"))
    first.start()
    asked.begun.wait()
    with pytest.raises(SessionBusyError) as caught:
        agent.run("hi", session_id="s", run_id="r")
    assert caught.value.retryable
    asked.hold.set()
    first.join()
    assert agent.run("hi", session_id="s", run_id="r").output == "answer 1"
    assert asked.times == 1


def test_callers_at_once_make_one_run(asked: Asked, storage: Storage) -> None:
    agent = agent_of(asked, storage)
    storage.create_session("s")
    outputs: list[str] = []

    def request() -> None:
        while True:
            try:
                outputs.append(agent.run("hi", session_id="s", run_id="r").output)
                return
            except SessionBusyError:
                continue

    threads = [threading.Thread(target=request) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outputs == ["answer 1"] * 6
    assert (asked.times, len(runs(storage))) == (1, 1)


@pytest.mark.parametrize("durability", ["run", "step"])
def test_a_run_whose_process_is_gone_goes_on(asked: Asked, durability: Any) -> None:
    """A worker dies, and the queue delivers its message to another one."""
    with MemoryStorage(lease=0.001) as storage:
        spec = TurnSpec("s", "r", "hi", agent="bot", durability=durability, only_once=True)
        dead = operate(storage, turns.begin_turn, spec, 0)
        while storage.get_run("s", 1).status != "interrupted":
            pass
        agent = agent_of(asked, storage, durability=durability)
        result = agent.run("hi", session_id="s", run_id="r")
        assert (result.number, result.output) == (1, "answer 1")
        assert agent.run("hi", session_id="s", run_id="r").output == "answer 1"
        assert [(run.number, run.status) for run in runs(storage)] == [(1, "completed")]
        assert asked.times == 1
        assert dead.epoch < 2
        storage.verify("s")


def test_a_run_that_has_failed_is_told_and_not_made_again(asked: Asked, storage: Storage) -> None:
    agent = agent_of(asked, storage)
    asked.failing = True
    with pytest.raises(RuntimeError):
        agent.run("hi", session_id="s", run_id="r")
    asked.failing = False
    with pytest.raises(NotResumableError, match="is failed: RuntimeError: The model is down") as caught:
        agent.run("hi", session_id="s", run_id="r")
    result = caught.value.result
    assert (result.status, result.error["type"], result.output) == ("failed", "RuntimeError", None)
    assert agent.run("hi", session_id="s", run_id="r2").output == "answer 2"
    assert asked.times == 2


class Tide(BaseModel):
    name: str
    day: date
    parts: tuple[int, ...]


@pytest.mark.parametrize("output_type", [Tide, [Tide, str], ToolOutput(Tide), Tide | None], ids=str)
def test_structured_answers_come_back_as_their_type(asked: Asked, storage: Storage, output_type: Any) -> None:
    agent = agent_of(asked, storage, output_type=output_type)
    first = agent.run("hi", session_id="s", run_id="r").output
    assert first == Tide(name="tide", day=date(2026, 1, 2), parts=(1, 2))
    assert agent.run("hi", session_id="s", run_id="r").output == first
    assert asked.times == 1


def test_a_run_that_waits_for_a_decision_is_given_as_it_waits(storage: Storage) -> None:
    times: list[int] = []

    async def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        times.append(1)
        return ModelResponse(parts=[ToolCallPart("book", {}, tool_call_id="c")])

    def book() -> str:
        return "booked"

    agent: Agent[Any] = Agent(
        FunctionModel(answer), name="bot", storage=storage, tools=[Tool(book, requires_approval=True)]
    )
    first = agent.run("hi", session_id="s", run_id="r")
    again = agent.run("hi", session_id="s", run_id="r")
    assert first.status == again.status == "paused"
    assert again.pending is not None
    assert [call.tool_call_id for call in again.pending.approvals] == ["c"]
    assert len(times) == 1


def test_a_team_is_asked_once(asked: Asked, storage: Storage) -> None:
    async def delegate(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        asked.times += 1
        if isinstance(messages[-1].parts[-1], UserPromptPart):
            args = {"member": "bot", "task": "look"}
            return ModelResponse(parts=[ToolCallPart("delegate_task", args, tool_call_id="c")])
        return ModelResponse(parts=[TextPart("the team's answer")])

    async def deltas(messages: list[ModelMessage], info: AgentInfo) -> Any:
        asked.times += 1
        if isinstance(messages[-1].parts[-1], UserPromptPart):
            yield {0: DeltaToolCall("delegate_task", '{"member": "bot", "task": "look"}', tool_call_id="c")}
        else:
            yield "the team's answer"

    member = agent_of(asked, None)
    team: Team[Any] = Team([member], FunctionModel(delegate, stream_function=deltas), name="team", storage=storage)
    first = team.run("hi", session_id="s", run_id="r")
    again = team.run("hi", session_id="s", run_id="r")
    assert (first.output, again.output) == ("the team's answer", "the team's answer")
    assert [one.output for one in again.members] == [one.output for one in first.members]
    assert list(team.stream("hi", session_id="s", run_id="r")) == ["the team's answer"]
    assert asked.times == 3
    assert "".join(team.stream("hi", session_id="s", run_id="r2")) == "the team's answer"
    assert asked.times == 6
    assert len(runs(storage)) == 2


def test_without_a_storage_an_id_is_only_a_name(asked: Asked) -> None:
    agent = agent_of(asked, None)
    assert agent.run("hi", session_id="s", run_id="r").run_id == "r"
    assert agent.run("hi", session_id="s", run_id="r").output == "answer 2"
