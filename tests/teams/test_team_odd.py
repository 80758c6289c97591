"""Leaders and functions that do what they should not, and teams that work for longer than one agent would."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pydantic_ai
import pytest
from pydantic import BaseModel
from pydantic_ai import ModelRetry
from pydantic_ai.exceptions import ToolFailed, UsageLimitExceeded
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    RetryPromptPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.usage import UsageLimits
from tests.agents.resume_tools import wait_until

from sessile import Agent, MemoryStorage, SqliteStorage, Storage, Team
from sessile.agents import Members
from sessile.errors import InvalidInputError
from sessile.testing import faults


def delegates(call_id: str | None = None, /, **arguments: Any) -> ToolCallPart:
    return ToolCallPart("delegate_task", arguments, **({} if call_id is None else {"tool_call_id": call_id}))


def saying(*calls: ToolCallPart) -> FunctionModel:
    """A model that makes these calls, one after the other, and then tells what came of them."""

    def respond(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        made = sum(isinstance(message, ModelResponse) for message in messages)
        return ModelResponse(parts=[calls[made] if made < len(calls) else TextPart(results(messages))])

    return FunctionModel(respond)


def results(messages: Sequence[ModelMessage]) -> str:
    parts = [part for message in messages if isinstance(message, ModelRequest) for part in message.parts]
    return "; ".join(str(part.content) for part in parts if isinstance(part, (ToolReturnPart, RetryPromptPart)))


def named(name: str) -> Agent[Any]:
    return Agent(FunctionModel(lambda messages, info: ModelResponse(parts=[TextPart(f"{name} here")])), name=name)


def crew(storage: Storage | None, *calls: ToolCallPart, **options: Any) -> Team[Any]:
    return Team([named("a"), named("b")], saying(*calls), storage=storage, session_id="s1", **options)


@pytest.mark.parametrize("arguments", [{}, {"member": ["a"]}, {"member": "a", "task": 5}, {"member": "a", "by": "b"}])
def test_arguments_that_do_not_fit_are_explained_to_the_leader(arguments: Any) -> None:
    with MemoryStorage() as storage:
        result = crew(storage, delegates(**arguments), delegates(member="a")).run("Hello")
        assert result.output.endswith("; a here")
        assert [one.status for one in result.members] == ["completed"]


@pytest.mark.parametrize("mode", ["coordinate", "route"])
def test_a_model_that_gives_a_later_call_the_same_id(mode: Any) -> None:
    """Some servers of models count the calls of each response from 0."""
    with MemoryStorage() as storage:
        calls = [delegates("call_0", member=name) for name in ("nobody", "a", "b")]
        result = crew(storage, *calls, mode=mode).run("Hello")
        (run,) = storage.runs("s1")
        if mode == "coordinate":
            assert result.output.endswith("; a here; b here")
        else:
            assert result.output == "a here"
        assert [one.agent for one in result.members] == [child.agent for child in run.children]
        assert run.usage == result.usage


class Killed:
    """A plan of faults: when it is told so the process is gone, after some more appends."""

    def __init__(self) -> None:
        self.left: int | None = None

    def soon(self, appends: int) -> str:
        self.left = appends
        return "killed"

    def __call__(self, operation: str) -> faults.Fault | None:
        if operation != "append" or self.left is None:
            return None
        self.left -= 1
        return faults.CRASH_BEFORE if self.left < 0 else None


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_call_id_that_is_given_twice_when_the_process_is_killed(tmp_path: Path, when: str) -> None:
    """What the first call came to is not taken for what the second has."""
    plan = Killed()

    def leader(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        if when == "before" and len(messages) == 3:
            plan.soon(1)  # after this response is stored, and before its call has started
        return respond(messages, info)

    def second(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        return ModelResponse(parts=[TextPart(plan.soon(0) if plan.left is None else "b here")])

    respond = saying(delegates("call_0", member="a"), delegates("call_0", member="b")).function
    assert respond is not None

    def team(storage: Storage) -> Team[Any]:
        members = [named("a"), Agent(FunctionModel(second), name="b")]
        return Team(members, FunctionModel(leader), storage=storage, session_id="s1", durability="step")

    with SqliteStorage(tmp_path / "a.db", lease=0.3) as storage:
        faults.inject(storage, plan)
        with pytest.raises(faults.SimulatedCrash):
            team(storage).run("Hello")
    with SqliteStorage(tmp_path / "a.db", lease=0.3) as storage:
        wait_until(lambda: storage.runs("s1")[0].status == "interrupted")
        result = team(storage).resume()
        assert result.output == "a here; b here"
        assert [one.output for one in result.members] == ["a here", "b here"]
        assert storage.runs("s1")[0].usage == result.usage


# ---------------------------------------------------------------- functions


@pytest.mark.parametrize("error", [ModelRetry("again"), ToolFailed("no")])
def test_a_function_that_raises_what_only_tools_may(error: Exception) -> None:
    async def odd(task: str, members: Members) -> str:
        raise error

    with MemoryStorage() as storage:
        with pytest.raises(InvalidInputError, match=f"has raised {type(error).__name__}"):
            Team([named("a")], mode=odd, storage=storage).run("Hello", session_id="s1")
        assert storage.runs("s1")[0].status == "failed"


def test_a_function_that_answers_nothing() -> None:
    async def silent(task: str, members: Members) -> None:
        await members["a"].run(task)

    with MemoryStorage() as storage:
        assert Team([named("a")], mode=silent, storage=storage).run("Hello", session_id="s1").output is None
        assert storage.runs("s1")[0].output is None


def test_what_a_member_has_used_that_a_function_left_at_work() -> None:
    async def impatient(task: str, members: Members) -> str:
        left = asyncio.ensure_future(members["slow"].run(task))
        await begun.wait()
        left.add_done_callback(lambda task: task.cancelled() or task.exception())
        return (await members["a"].run(task)).output

    async def ponder() -> None:
        begun.set()
        await asyncio.Event().wait()

    begun = asyncio.Event()
    slow = Agent(saying(ToolCallPart("ponder", {})), name="slow", tools=[ponder])
    with MemoryStorage() as storage:
        result = Team([named("a"), slow], mode=impatient, storage=storage).run("Hello", session_id="s1")
        (run,) = storage.runs("s1")
        assert (run.usage, run.usage.requests) == (result.usage, 2)
        assert [one.status for one in result.members] == ["cancelled", "completed"]


# ---------------------------------------------------------------- limits, output types


def test_a_team_may_take_more_requests_than_one_agent() -> None:
    """Pydantic AI stops an agent's run after 50 requests, unless it is told otherwise; that holds for each run."""
    with MemoryStorage() as storage:
        team = crew(storage, *[delegates(member="a")] * 30)
        assert team.run("Hello").usage.requests == 61
        with pytest.raises(UsageLimitExceeded):
            team.run("Hello", session_id="s2", usage_limits=UsageLimits(request_limit=50))


class City(BaseModel):
    """A structured answer."""

    name: str


def test_an_output_type_where_the_answer_is_a_members() -> None:
    async def relay(task: str, members: Members) -> str:
        return task

    with MemoryStorage() as storage:
        for mode in ("route", relay):
            team: Team[Any] = crew(storage, mode=mode)
            with pytest.raises(InvalidInputError, match="no output_type"):
                team.run("Hello", output_type=City)
            assert storage.get_session("s1") is None
        with pytest.raises(InvalidInputError, match="no output_type"):
            Team([named("a")], pydantic_ai.Agent(saying(), output_type=City), mode="route")
        for both in ([str, pydantic_ai.DeferredToolRequests], str | pydantic_ai.DeferredToolRequests):
            leader: Any = pydantic_ai.Agent(saying(delegates(member="a")), output_type=both)
            assert Team([named("a")], leader, mode="route").run("Hello").output == "a here"


def test_a_leader_that_answers_and_delegates_at_once() -> None:
    """Its answer counts, no member is asked, and the run does not stay open."""

    def both(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        return ModelResponse(parts=[ToolCallPart(info.output_tools[0].name, {"response": 5}), delegates(member="a")])

    with MemoryStorage() as storage:
        leader: Any = pydantic_ai.Agent(FunctionModel(both), output_type=[str, int], end_strategy="early")
        result = Team([named("a")], leader, mode="route", storage=storage, session_id="s1").run("Hello")
        assert (result.output, result.status, result.members) == (5, "completed", [])
        assert storage.runs("s1")[0].status == "completed"


@pytest.mark.parametrize("kind", [list[str], dict[str, int]])
def test_a_list_of_texts_is_no_text(kind: Any) -> None:
    with pytest.raises(InvalidInputError, match="no output_type"):
        Team([named("a")], saying(), mode="route", output_type=kind)


# ---------------------------------------------------------------- answers that are not the leader's


@pytest.mark.parametrize("mode", ["route", "function"])
def test_an_answer_keeps_its_form_when_the_process_is_gone_before_it_is_stored(tmp_path: Path, mode: Any) -> None:
    async def relay(task: str, members: Members) -> Any:
        return (await members["a"].run(task)).output

    city = Agent(saying(ToolCallPart("final_result", {"name": "Paris"})), name="a", output_type=City)

    def team(storage: Storage) -> Team[Any]:
        leader = saying(delegates(member="a"))
        kind: Any = relay if mode == "function" else mode
        return Team([city], leader, mode=kind, storage=storage, session_id="s1", durability="step")

    with MemoryStorage() as whole:
        team(whole).run("Where?")
        commits = whole.verify("s1")
    with SqliteStorage(tmp_path / "a.db", lease=0.3) as storage:
        faults.inject(storage, faults.Script("append", [*[None] * (commits - 1), faults.CRASH_BEFORE]))
        with pytest.raises(faults.SimulatedCrash):
            team(storage).run("Where?")
    with SqliteStorage(tmp_path / "a.db", lease=0.3) as storage:
        wait_until(lambda: storage.runs("s1")[0].status == "interrupted")
        result = team(storage).resume()
        assert result.output == storage.runs("s1")[0].output == {"name": "Paris"}
        assert result.usage == storage.runs("s1")[0].usage
