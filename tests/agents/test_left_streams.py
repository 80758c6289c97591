"""Streams that nobody closes: the garbage collector does, in the middle of whatever a thread is doing."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai.messages import ModelMessage
from pydantic_ai.models.function import AgentInfo, FunctionModel
from tests.storage.helpers import suspending

from sessile import Agent, Context, SqliteStorage, Team, workflow
from sessile.errors import ClosedError
from sessile.storage.faces import background

ENDED = ("cancelled", "interrupted")
"""What a run may say whose stream was left: it was told to stop, and has stored what it had."""


async def slow(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
    for _ in range(100_000):
        yield "word "
        await asyncio.sleep(0.01)


def streams(kind: str, storage: SqliteStorage) -> Any:
    """A stream that does not end by itself."""
    if kind == "workflow":

        @workflow(storage=storage)
        async def waiting(ctx: Context) -> None:
            await ctx.step(asyncio.sleep, 0)
            await ctx.step(asyncio.sleep, 3600)

        return waiting.stream(session_id="s")
    agent = Agent(FunctionModel(stream_function=slow), name="slow", storage=storage)
    if kind == "team":
        return Team([agent], FunctionModel(stream_function=slow), storage=storage).stream("Tell me.", session_id="s")
    return agent.stream("Tell me.", session_id="s")


class Response:
    """In a cycle with itself, as a web framework's response is with its request."""

    def __init__(self, stream: Any) -> None:
        self.me, self.body = self, read(stream)


def read(stream: Any) -> Iterator[Any]:
    with stream as opened:
        yield from opened


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Garbage is collected where the test says so."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def ended(storage: SqliteStorage) -> str:
    while (run := storage.get_run("s", 1)).status == "running":
        time.sleep(0.01)
    return run.status


async def collect() -> None:
    gc.collect()


@pytest.mark.parametrize("kind", ["agent", "team", "workflow"])
@pytest.mark.parametrize("where", ["loop", "here", "inside"])
@pytest.mark.usefixtures("uncollected")
def test_a_stream_that_is_left_behind(tmp_path: Path, kind: str, where: str) -> None:
    with SqliteStorage(tmp_path / "s.db") as storage:
        left = Response(streams(kind, storage))
        assert next(left.body)
        del left  # the client is gone
        if where == "loop":  # in the thread of the loop that the stream's run works on
            background.run(collect())
        elif where == "here":
            gc.collect()
        else:  # while this storage holds what the run's end needs
            core = storage._core
            assert core is not None
            with core.driver._writing(core.deadline()):  # type: ignore[attr-defined]
                gc.collect()
        assert ended(storage) in ENDED


def test_what_is_left_at_the_end_of_the_process_is_stored(tmp_path: Path) -> None:
    program = f"""
        import gc
        from pathlib import Path
        from sessile import SqliteStorage
        from tests.agents.test_left_streams import Response, streams
        storage = SqliteStorage({str(tmp_path / "s.db")!r})
        left = Response(streams("agent", storage))
        next(left.body)
        del left
        gc.collect()
    """
    lines = "\n".join(line.strip() for line in program.splitlines())
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    with SqliteStorage(tmp_path / "s.db") as storage:
        assert storage.get_run("s", 1).status in ENDED


def test_a_stream_that_is_closed_by_a_tool_of_its_own_run(tmp_path: Path) -> None:
    """It cannot wait for the run, which waits for the tool."""
    with SqliteStorage(tmp_path / "s.db") as storage:
        opened: list[Any] = []

        def leave() -> str:
            opened[0].close()
            return "left"

        from pydantic_ai.models.test import TestModel

        agent = Agent(TestModel(), name="leaver", storage=storage, tools=[leave])
        opened.append(agent.stream("Go.", session_id="s"))
        list(opened[0])
        assert ended(storage) in ENDED


@pytest.mark.parametrize("where", ["loop", "here"])
@pytest.mark.usefixtures("uncollected")
def test_a_storage_in_a_generator_that_is_left_behind(where: str) -> None:
    """Its client belongs to the loop that would have to wait for itself."""
    storage, made = suspending()

    def ids() -> Iterator[str]:
        with storage:
            storage.create_session("s")
            yield "s"

    class Left:
        def __init__(self) -> None:
            self.me, self.body = self, ids()

    left = Left()
    assert next(left.body) == "s"
    del left
    if where == "loop":
        background.run(collect())
    else:
        gc.collect()
    with pytest.raises(ClosedError):
        storage.get_session("s")
    while not all(driver.closed for driver in made):
        time.sleep(0.01)
