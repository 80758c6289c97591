"""The time to the first token: noted where responses are streamed, and nowhere else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pydantic_ai
import pytest
from pydantic_ai import Tool
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

from sessile import Agent, SessionCapability, SqliteStorage, Team, Workflow
from sessile.cli import main
from sessile.errors import InvalidInputError
from sessile.insight import Index
from sessile.records import Run

THINKS, TALKS = 0.12, 0.12
"""Seconds before the first piece of an answer, and between that and the last."""


async def slow(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
    await asyncio.sleep(THINKS)
    yield "It "
    await asyncio.sleep(TALKS)
    yield "is."


def whole(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    return ModelResponse(parts=[TextPart("It is.")])


MODEL = FunctionModel(whole, stream_function=slow)


def noted(run: Run) -> None:
    """The first part came after the model had thought, and before it had talked to its end."""
    assert run.first_token is not None
    assert run.ended_at is not None
    took = run.ended_at - run.started_at
    assert timedelta(seconds=THINKS) <= run.first_token <= took - timedelta(seconds=TALKS * 0.8)


def test_of_a_stream_and_not_of_an_answer_that_comes_at_once(storage: SqliteStorage) -> None:
    agent = Agent(MODEL, storage=storage, session_id="s")
    assert "".join(agent.stream("Is it?")) == "It is."
    agent.run("Is it?")
    streamed, at_once = storage.runs("s")
    noted(streamed)
    assert at_once.first_token is None
    ends = [entry.data for entry in storage.entries("s") if entry.kind == "run.ended"]
    assert ["first_token" in said for said in ends] == [True, False]


def test_a_handler_of_ones_own_hears_the_same(storage: SqliteStorage) -> None:
    async def heard(context: Any, events: Any) -> None:
        async for _ in events:
            pass

    Agent(MODEL, storage=storage, session_id="s").run("Is it?", event_stream_handler=heard)
    noted(storage.runs("s")[0])


async def test_a_bare_agent_and_no_request_is_streamed_for_it(storage: SqliteStorage) -> None:
    bare = pydantic_ai.Agent(MODEL, capabilities=[SessionCapability(storage)])
    async with bare.run_stream("Is it?", conversation_id="s") as streamed:
        assert await streamed.get_output() == "It is."
    never = FunctionModel(whole)  # it raises if it is to stream
    await pydantic_ai.Agent(never, capabilities=[SessionCapability(storage)]).run("Is it?", conversation_id="s")
    await Agent(never, storage=storage, session_id="s").arun("Is it?")
    first, *others = await storage.aruns("s")
    noted(first)
    assert [run.first_token for run in others] == [None, None]


async def test_a_stream_that_is_left_or_fails_has_it(storage: SqliteStorage) -> None:
    async def breaks(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        yield "It "
        raise RuntimeError("lost")

    with pytest.raises(RuntimeError, match="lost"):
        async for _ in Agent(FunctionModel(stream_function=breaks), storage=storage, session_id="s").astream("Is it?"):
            pass
    async with Agent(MODEL, storage=storage, session_id="s").astream("Is it?") as stream:
        async for _ in stream:
            break
    failed, left = await storage.aruns("s")
    assert (failed.status, left.status) == ("failed", "interrupted")
    assert failed.first_token is not None
    assert left.first_token is not None


async def _refunds(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
    if isinstance(messages[-1].parts[-1], ToolReturnPart):
        yield "Done."
    else:
        await asyncio.sleep(THINKS)
        yield {0: DeltaToolCall("refund", "{}", tool_call_id="c1")}


def test_it_is_that_of_the_beginning_whoever_answers_later(storage: SqliteStorage) -> None:
    """A pause of days is no time to the first token, and a fork has what its origin had."""

    def refund() -> str:
        return "refunded"

    tool = Tool(refund, requires_approval=True)
    agent = Agent(FunctionModel(stream_function=_refunds), storage=storage, session_id="s", tools=[tool])
    assert list(agent.stream("Refund!")) == []
    (paused,) = storage.runs("s")
    assert paused.first_token is not None
    assert list(agent.stream_resume("s", approvals={"c1": True})) == ["Done."]
    (run,) = storage.runs("s")
    assert (run.status, run.first_token) == ("completed", paused.first_token)
    assert storage.runs(storage.fork("s").session_id)[0].first_token == paused.first_token


def test_of_a_team_each_run_has_its_own(storage: SqliteStorage) -> None:
    async def leads(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        if isinstance(messages[-1].parts[-1], ToolReturnPart):
            yield "It is, she says."
        else:
            yield {0: DeltaToolCall("delegate_task", json.dumps({"member": "ada", "task": "Is it?"}))}

    team = Team([Agent(MODEL, name="ada")], FunctionModel(stream_function=leads), storage=storage, session_id="s")
    list(team.stream("Is it?", events=True))
    (run,) = storage.runs("s")
    noted(run.children[0])
    assert run.first_token is not None
    assert run.first_token < timedelta(seconds=THINKS) < run.ended_at - run.started_at  # type: ignore[operator] (it has ended)


def test_what_was_said_in_a_models_place_is_no_first_token(storage: SqliteStorage) -> None:
    """In the mode `collaborate` the leader's first response is made up; it hears of itself when its model speaks."""
    team = Team([Agent(MODEL, name="ada")], MODEL, mode="collaborate", storage=storage, session_id="s")
    list(team.stream("Is it?"))
    (run,) = storage.runs("s")
    assert run.first_token is not None
    assert run.first_token >= timedelta(seconds=2 * THINKS + TALKS)  # after the member, and its own thinking


def test_of_an_agent_in_a_step_of_a_workflow(storage: SqliteStorage) -> None:
    writer = Agent(MODEL, name="writer")
    flow: Workflow[str] = Workflow(steps=[writer], name="flow", storage=storage)
    with flow.stream("Is it?", session_id="s") as stream:
        list(stream)
    (run,) = storage.runs("s")
    noted(run.children[0])
    flow.run("Is it?", session_id="t")
    assert storage.runs("t")[0].children[0].first_token is None


def test_people_are_told(storage: SqliteStorage, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    agent = Agent(MODEL, storage=storage, session_id="s", name="slow")
    list(agent.stream("Is it?"))
    agent.run("Is it?")
    with Index(storage) as index:
        newest, oldest = index.runs()
        assert newest.first_token is None
        assert oldest.first_token == storage.runs("s")[0].first_token
        table = index.usage(by="agent")
        told = table.rows[0].first_token_p50
        assert told is not None
        assert told.total_seconds() == pytest.approx(oldest.first_token.total_seconds(), rel=0.01)  # type: ignore[union-attr]
        assert 'sessile_first_token_seconds{agent="slow",quantile="0.5"} 0.' in table.prometheus()
        assert table.csv().splitlines()[0].endswith("p99,first_token_p50,first_token_p95,first_token_p99")
        assert index.usage(by="model").rows[0].first_token_p50 is None
    with pytest.raises(SystemExit):
        main(["usage", f"sqlite:///{path}", "--by", "agent"])
    assert capsys.readouterr().out.splitlines()[0].split()[-3:] == ["p50", "p95", "first"]


def test_a_run_that_is_added_may_have_one(storage: SqliteStorage) -> None:
    run = storage.add_run("s", input="Is it?", output="It is.", first_token=timedelta(milliseconds=1.5))
    assert run.first_token == timedelta(milliseconds=1.5)
    assert storage.runs("s")[0].first_token_us == 1500
    assert storage.add_run("s", input="Is it?", output="It is.").first_token is None
    for wrong in (-1, "soon", float("nan")):
        with pytest.raises(InvalidInputError, match="first_token"):
            storage.add_run("s", input="Is it?", output="It is.", first_token=wrong)  # type: ignore[arg-type] (so it is)
