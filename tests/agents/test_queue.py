"""Runs that wait for others: not for themselves, not for ever, and also when they are resumed or come again."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Tool
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from sessile import Agent, SqliteStorage
from sessile.errors import InvalidInputError, NotResumableError, SessionBusyError


def calling(tool: str) -> FunctionModel:
    """A model that calls a tool once, and says what came of it."""

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        last = messages[-1].parts[-1]
        if last.part_kind == "user-prompt":
            return ModelResponse(parts=[ToolCallPart(tool, {}, tool_call_id="c")])
        return ModelResponse(parts=[TextPart(str(getattr(last, "content", "")))])

    return FunctionModel(answer)


def leaf(storage: SqliteStorage, **options: Any) -> Agent[str]:
    says = FunctionModel(lambda _, __: ModelResponse(parts=[TextPart("leaf")]))
    return Agent(says, name="leaf", storage=storage, on_busy="queue", **options)


@pytest.mark.parametrize("way", ["same object", "another object", "through another session", "through a thread"])
async def test_a_run_does_not_wait_for_itself(storage: SqliteStorage, path: Path, way: str) -> None:
    with SqliteStorage(path) as other:
        inner = leaf(other if way == "another object" else storage)

        async def call() -> str:
            """Call."""
            return (await inner.arun("x", session_id="s1")).output

        def call_from_a_thread() -> str:
            """Call."""
            return inner.run("x", session_id="s1").output

        async def through() -> str:
            """Call."""
            middle = Agent(calling("call"), name="middle", storage=storage, tools=[call])
            return (await middle.arun("x", session_id="s2")).output

        tools: dict[str, Callable[..., Any]] = {
            "through another session": through,
            "through a thread": call_from_a_thread,
        }
        tool = tools.get(way, call)
        outer = Agent(calling(tool.__name__), name="outer", storage=storage, tools=[tool])
        with pytest.raises(SessionBusyError, match="cannot wait for one that it is inside of") as caught:
            await outer.arun("x", session_id="s1")
        assert not caught.value.retryable
        assert (await inner.arun("x", session_id="s1")).output == "leaf"  # nothing of that is left


async def test_two_runs_that_wait_for_each_other(storage: SqliteStorage) -> None:
    """One of the two is told, and the other goes on when that one has ended."""
    both = asyncio.Barrier(2)
    inner = leaf(storage)

    def agent(name: str, other: str) -> Agent[str]:
        async def ask() -> str:
            """Ask."""
            await both.wait()
            return (await inner.arun("x", session_id=other)).output

        return Agent(calling("ask"), name=name, storage=storage, tools=[ask])

    runs = (agent("a", "s2").arun("x", session_id="s1"), agent("b", "s1").arun("x", session_id="s2"))
    ended = await asyncio.gather(*runs, return_exceptions=True)
    assert sorted(type(one).__name__ for one in ended) == ["RunResult", "SessionBusyError"]


PROGRAM = """
import asyncio, sys, time
from pathlib import Path
from sessile import SqliteStorage, Agent
from sessile.errors import SessionBusyError
from tests.agents.test_queue import calling, leaf
folder, mine, other = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
storage = SqliteStorage(folder / "s.db")

async def ask() -> str:
    (folder / mine).touch()
    while len(list(folder.glob("s[0-9]"))) < int(sys.argv[3]):
        await asyncio.sleep(0.02)
    return (await leaf(storage, queue_timeout=60).arun("x", session_id=sys.argv[4])).output

try:
    print(Agent(calling("ask"), name=mine, storage=storage, tools=[ask]).run("x", session_id=mine).status)
except SessionBusyError as error:
    print(type(error).__name__, error.retryable, error.hint)
"""


@pytest.mark.parametrize("count", [2, 3])
def test_runs_of_several_processes_that_wait_for_each_other(path: Path, count: int) -> None:
    """Each waits for the next: one is told (or more, that find out at the same time), and the others go on."""
    folder = path.parent
    with SqliteStorage(folder / "s.db") as storage:
        storage.setup()
        others = [(f"s{one}", f"s{(one + 1) % count}") for one in range(count)]
        started = [
            subprocess.Popen(
                [sys.executable, "-c", PROGRAM, str(folder), mine, str(count), other],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for mine, other in others
        ]
        said = [one.communicate() for one in started]
        assert [one.returncode for one in started] == [0] * count, said
        told = [out for out, _ in said if out.startswith("SessionBusyError False A run cannot wait")]
        assert 1 <= len(told) <= count
        assert [out.strip() for out, _ in said if out not in told] == ["completed"] * (count - len(told))
        assert storage.verify("s0")


async def test_a_queue_has_a_time_limit(storage: SqliteStorage) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def hang() -> str:
        """Hang."""
        begun.set()
        await go_on.wait()
        return "done"

    slow = Agent(calling("hang"), name="slow", storage=storage, tools=[hang])
    task = asyncio.ensure_future(slow.arun("x", session_id="s"))
    await begun.wait()
    with pytest.raises(SessionBusyError, match=r"It was waited for, for 0\.1 seconds"):
        await leaf(storage, queue_timeout=0.1).arun("x", session_id="s")
    go_on.set()
    assert (await task).output == "done"
    with pytest.raises(InvalidInputError, match="queue_timeout must be a number of seconds above 0"):
        leaf(storage, queue_timeout=0)


@pytest.mark.parametrize("on_busy", ["parallel", "queue", "reject"])
async def test_resuming_beside_a_run_at_work(storage: SqliteStorage, on_busy: Any) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def pay() -> str:
        """Pay."""
        return "paid"

    async def hang() -> str:
        """Hang."""
        begun.set()
        await go_on.wait()
        return "done"

    agent = Agent(calling("pay"), name="a", storage=storage, tools=[Tool(pay, requires_approval=True)], on_busy=on_busy)
    await agent.arun("x", session_id="s")
    slow = Agent(calling("hang"), name="slow", storage=storage, tools=[hang])
    task = asyncio.ensure_future(slow.arun("x", session_id="s"))
    await begun.wait()
    if on_busy == "reject":
        with pytest.raises(SessionBusyError, match="Run 2 of session 's' is running"):
            await agent.aresume("s", approvals={"c": True})
        assert (await storage.aruns("s"))[0].status == "paused"
        go_on.set()
    else:
        resumed = asyncio.ensure_future(agent.aresume("s", approvals={"c": True}))
        if on_busy == "queue":
            done, _ = await asyncio.wait([resumed], timeout=0.2)
            assert not done
            go_on.set()
        assert (await resumed).output == "paid"
    go_on.set()
    assert (await task).output == "done"


async def test_a_request_that_comes_again_while_it_is_worked_on(storage: SqliteStorage) -> None:
    """The second caller is told, or gets what the first one gets, as the agent's `on_busy` says."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def hang() -> str:
        """Hang."""
        begun.set()
        await go_on.wait()
        return "done"

    def agent(on_busy: Any) -> Agent[str]:
        return Agent(calling("hang"), name="a", storage=storage, tools=[hang], on_busy=on_busy)

    first = asyncio.ensure_future(agent("parallel").arun("x", session_id="s", run_id="r"))
    await begun.wait()
    with pytest.raises(SessionBusyError, match="'r', is running"):
        await agent("reject").arun("x", session_id="s", run_id="r")
    second = asyncio.ensure_future(agent("queue").arun("x", session_id="s", run_id="r"))
    await asyncio.sleep(0.05)
    go_on.set()
    assert [(one.output, one.number) for one in (await first, await second)] == [("done", 1), ("done", 1)]


def test_a_second_click(storage: SqliteStorage) -> None:
    begun, go_on = threading.Event(), threading.Event()
    paid: list[int] = []

    def pay() -> str:
        """Pay."""
        paid.append(1)
        begun.set()
        go_on.wait()
        return "paid"

    agent = Agent(calling("pay"), name="a", storage=storage, tools=[Tool(pay, requires_approval=True)])
    agent.run("x", session_id="s")
    first = threading.Thread(target=lambda: agent.resume("s", approvals={"c": True}))
    first.start()
    begun.wait()
    for number in (None, 1):
        with pytest.raises(NotResumableError, match="Run 1 of session 's' is being worked on"):
            agent.resume("s", run_number=number, approvals={"c": True})
    go_on.set()
    first.join()
    with pytest.raises(NotResumableError, match="may have been decided already"):
        agent.resume("s", approvals={"c": True})
    assert paid == [1]
