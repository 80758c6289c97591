"""Where an agent meets what its users do to it: processors, exits, loops that end, closed streams, mistyped options."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai.capabilities import ProcessHistory
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.test import TestModel

from sessile import ANY_USER, Agent, MemoryStorage, RollingSummary, SessionCapability, SqliteStorage, Team, Workflow
from sessile.errors import InvalidInputError, SessionBusyError
from sessile.storage import turns
from sessile.storage.extending import operate
from sessile.storage.turns import TurnSpec
from sessile.storage.vocabulary import RunEnded


def returns(messages: list[ModelMessage]) -> int:
    """How many tool results stand after the last user prompt."""
    count = 0
    for message in reversed(messages):
        kinds = [part.part_kind for part in message.parts]
        count += kinds.count("tool-return")
        if "user-prompt" in kinds:
            break
    return count


def counting(calls: int) -> FunctionModel:
    """A model that calls the tool `step` so many times, one after the other, and then answers."""
    made: list[int] = []

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        if len(made) < calls:
            made.append(1)
            return ModelResponse(parts=[ToolCallPart("step", {}, tool_call_id=f"call-{len(made)}")])
        return ModelResponse(parts=[TextPart("done")])

    return FunctionModel(answer)


def echo() -> FunctionModel:
    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        last = messages[-1]
        assert isinstance(last, ModelRequest)
        return ModelResponse(parts=[TextPart(f"{len(messages)}: {last.parts[-1].content}")])

    return FunctionModel(answer)


@pytest.mark.parametrize("durability", ["run", "step"])
def test_what_a_history_processor_takes_away_is_stored_all_the_same(durability: Any) -> None:
    def step() -> str:
        return "ok"

    with MemoryStorage() as storage:
        trimming = [ProcessHistory(lambda messages: messages[-3:])]
        agent = Agent(counting(3), storage=storage, tools=[step], capabilities=trimming, durability=durability)
        assert agent.run("go", session_id="s").output == "done"
        kinds = [[part["part_kind"] for part in message.data["parts"]] for message in storage.messages("s")]
        assert kinds == [["user-prompt"], *[["tool-call"], ["tool-return"]] * 3, ["text"]]


def test_a_tool_that_exits_does_not_stop_other_runs() -> None:
    async def leave() -> str:
        sys.exit(3)

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        return ModelResponse(parts=[ToolCallPart("leave", {})])

    with MemoryStorage() as storage:
        with pytest.raises(SystemExit):
            Agent(FunctionModel(answer), storage=storage, tools=[leave]).run("go", session_id="s")
        assert storage.get_session("s").status == "interrupted"
        assert Agent(echo(), storage=storage).run("still there?", session_id="t").status == "completed"


def test_a_run_does_not_wait_for_the_run_that_it_is_inside_of() -> None:
    with MemoryStorage() as storage:
        inner = Agent(echo(), storage=storage, on_busy="queue")

        async def ask() -> str:
            with pytest.raises(SessionBusyError, match="inside of"):
                await inner.arun("hello", session_id="s")
            return "refused"

        def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
            return ModelResponse(parts=[TextPart("done") if returns(messages) else ToolCallPart("ask", {})])

        outer = Agent(FunctionModel(answer), storage=storage, tools=[ask])
        assert outer.run("go", session_id="s").output == "done"


def test_a_mistyped_option_is_refused_before_anything_is_written() -> None:
    with MemoryStorage() as storage:
        for options in ({"sesion_id": "s"}, {"deferred_tool_results": None}, {"conversation": None}):
            with pytest.raises(InvalidInputError, match="A run takes no"):
                Agent(echo(), storage=storage).run("hello", **options)
        assert storage.count_sessions(user_id=ANY_USER) == 0


async def test_closing_a_stream_inside_its_loop_just_ends_it() -> None:
    async def pieces(messages: list[ModelMessage], info: AgentInfo) -> Any:
        for word in ("one ", "two ", "three"):
            yield word
            await asyncio.sleep(0)
        await asyncio.Event().wait()

    with MemoryStorage() as storage:
        stream = Agent(FunctionModel(stream_function=pieces), storage=storage).astream("go", session_id="s")
        async for _ in stream:
            await stream.aclose()
        assert storage.get_session("s").status == "interrupted"


def test_closing_a_synchronous_stream_inside_its_loop_just_ends_it() -> None:
    async def pieces(messages: list[ModelMessage], info: AgentInfo) -> Any:
        yield "one "
        await asyncio.Event().wait()

    with MemoryStorage() as storage:
        stream = Agent(FunctionModel(stream_function=pieces), storage=storage).stream("go", session_id="s")
        for _ in stream:
            stream.close()
        assert storage.get_session("s").status == "interrupted"


LEAVES_DURING_THE_COMMIT = """
import asyncio, sys, time
from pydantic_ai.messages import ModelResponse, TextPart
from pydantic_ai.models.function import FunctionModel
from sessile import Agent, SqliteStorage

storage = SqliteStorage(sys.argv[1])
driver = storage._core.driver
append = driver.append
committing = []

async def slow(write, deadline):
    if write.expected:
        committing.append(True)
        time.sleep(0.3)
    return await append(write, deadline)

driver.append = slow
agent = Agent(FunctionModel(lambda messages, info: ModelResponse(parts=[TextPart("the answer")])), storage=storage)

async def main():
    asyncio.create_task(agent.arun("hello", session_id="s"))
    while not committing:
        await asyncio.sleep(0.01)

asyncio.run(main())
"""


def test_an_answer_is_stored_when_the_loop_ends_while_it_is_written(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LEAVES_DURING_THE_COMMIT, str(tmp_path / "s.db")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with SqliteStorage(tmp_path / "s.db") as storage:
        assert storage.get_run("s", 1).output == "the answer"


def test_a_run_that_is_still_open_is_not_passed_over_by_the_summary() -> None:
    seen: list[str] = []

    def summarize(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        seen.append(str(messages[-1].parts[-1]))
        return ModelResponse(parts=[TextPart("a summary")])

    with MemoryStorage() as storage:
        spec = TurnSpec("s", "slow", "slow question")
        turn = operate(storage, turns.begin_turn, spec, 0)
        for number in range(6):
            storage.add_run("s", input=f"q{number}", output=f"a{number}")
        window = RollingSummary(keep=1, every=2, model=FunctionModel(summarize))
        agent = Agent(echo(), storage=storage, history=window)
        agent.run("now", session_id="s")
        assert seen == []
        operate(storage, turns.end_turn, turn, [], RunEnded(status="completed", output="slow answer"), [])
        agent.run("and now", session_id="s")
        assert "slow answer" in seen[0]


def test_a_run_that_waits_for_ever_does_not_stop_the_summary() -> None:
    sizes: list[int] = []

    def watch(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        sizes.append(len(messages))
        return ModelResponse(parts=[TextPart("ok")])

    with MemoryStorage() as storage:
        turn = operate(storage, turns.begin_turn, TurnSpec("s", "forgotten", "may I?"), 0)
        operate(storage, turns.end_turn, turn, [], RunEnded(status="paused", pending={"requests": {}}), [])
        window = RollingSummary(keep=1, every=2, model=echo())
        agent = Agent(FunctionModel(watch), storage=storage, history=window)
        for number in range(40):
            agent.run(f"q{number}", session_id="s")
        assert max(sizes) < 2 * 12 + 2


def test_a_session_scope_has_no_limit_unless_one_is_given() -> None:
    with MemoryStorage() as storage:
        agent = Agent(echo(), storage=storage, usage_scope="session", history=0)
        for number in range(52):
            assert agent.run(f"{number}", session_id="s").status == "completed"


def test_an_output_type_of_one_run_keeps_the_pause_for_approval() -> None:
    from pydantic_ai import Tool

    def refund() -> str:
        return "paid"

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        return ModelResponse(parts=[ToolCallPart("refund", {})])

    with MemoryStorage() as storage:
        agent = Agent(FunctionModel(answer), storage=storage, tools=[Tool(refund, requires_approval=True)])
        assert agent.run("please", session_id="s", output_type=str).status == "paused"


@pytest.mark.parametrize("make", [
    lambda url: Agent(TestModel(), storage=url),
    lambda url: Team([Agent(TestModel(), name="a")], TestModel(), storage=url),
    lambda url: Workflow(steps=[len], storage=url),
    lambda url: SessionCapability(url),
])  # fmt: skip
def test_a_url_is_no_storage(make: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"not a str\. Make one: .*sessile\.open\(url\)"):
        make("sqlite:///sessions.db")


@pytest.mark.parametrize("options", [{"durability": "steps"}, {"on_busy": "wait"}])
def test_a_capability_refuses_what_is_no_choice(options: Any) -> None:
    with pytest.raises(InvalidInputError, match="must be one of"):
        SessionCapability(MemoryStorage(), **options)
