"""Streams of runs that go on: after a decision, and after a crash."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import FunctionToolResultEvent, Tool
from pydantic_ai.messages import ModelMessage, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

from sessile import Agent, SqliteStorage
from sessile.errors import InvalidInputError, NotResumableError


def refund(amount: int) -> str:
    """Pay money back."""
    return f"{amount} refunded"


async def _says(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
    last: Any = messages[-1].parts[-1]
    if isinstance(last, ToolReturnPart):
        for word in ("It is ", "done: ", f"{last.content}."):
            yield word
    else:
        yield {0: DeltaToolCall("refund", '{"amount": 5}', tool_call_id="c1")}


def cashier(storage: SqliteStorage) -> Agent[str]:
    tool = Tool(refund, requires_approval=True)
    return Agent(FunctionModel(stream_function=_says), storage=storage, name="cashier", tools=[tool])


def paused(agent: Agent[str]) -> None:
    with agent.stream("Refund!", session_id="s", user_id="ada") as stream:
        assert list(stream) == []
    assert stream.result.status == "paused"


def test_the_answer_of_a_resumed_run_comes_in_pieces(tmp_path: Path) -> None:
    with SqliteStorage(tmp_path / "s.db") as storage:
        agent = cashier(storage)
        paused(agent)
        with agent.stream_resume("s", user_id="ada", approvals={"c1": True}, by="bob") as stream:
            assert (stream.session_id, stream.number) == ("s", 1)
            pieces = list(stream)
        assert pieces == ["It is ", "done: ", "5 refunded."]
        assert stream.result.output == storage.get_run("s", 1, user_id="ada").output == "It is done: 5 refunded."
        with pytest.raises(NotResumableError):
            list(agent.stream_resume("s", user_id="ada"))


@pytest.mark.anyio
async def test_so_do_its_events(tmp_path: Path) -> None:
    async with SqliteStorage(tmp_path / "s.db") as storage:
        agent = cashier(storage)
        assert [one async for one in agent.astream("Refund!", session_id="s", user_id="ada", instructions="Hi.")] == []
        await storage.adecide("s", approvals={"c1": False}, by="bob", user_id="ada")
        events = [one async for one in agent.astream_resume("s", user_id="ada", events=True)]
        assert any(isinstance(one, FunctionToolResultEvent) for one in events)
        with pytest.raises(InvalidInputError):
            agent.astream_resume("s", event_stream_handler=lambda *_: None)  # type: ignore[arg-type, return-value]
