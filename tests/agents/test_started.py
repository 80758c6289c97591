"""Runs in the background: begun here, followed, waited for and cancelled by whoever knows their numbers."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from pydantic_ai.models.openai import OpenAIChatModel

from sessile import Agent, MemoryStorage, SqliteStorage
from sessile.errors import InvalidInputError, RunNotFoundError, SessionNotFoundError

OTHER = """
import sys
from sessile import Agent, SqliteStorage
with SqliteStorage(sys.argv[1]) as storage:
    run = Agent("test", storage=storage).attach("s", 1, user_id="ada")
    print(run.get().status, flush=True)
    print(run.collect(60).output)
"""


def test_another_process_waits_for_it(model: OpenAIChatModel, storage: SqliteStorage, path: Path) -> None:
    go = threading.Event()

    def slow() -> str:
        go.wait(60)
        return "done"

    agent = Agent(model, storage=storage, tools=[slow], durability="step")
    run = agent.start("call slow {}", session_id="s", user_id="ada")
    assert run.get().status == "running"
    with pytest.raises(TimeoutError):
        run.collect(0.01)
    other = subprocess.Popen([sys.executable, "-c", OTHER, str(path)], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "running\n"
    go.set()
    assert other.stdout.read() == "Tool results: slow=done\n"
    assert other.wait() == 0
    kinds = [entry.kind for entry in run.follow()]
    assert kinds[0] == "run.started"
    assert kinds[-1] == "run.ended"
    assert {"tool.started", "tool.ended", "message"} < set(kinds)
    with pytest.raises(SessionNotFoundError):
        agent.attach("s", 1, user_id="bob").get()


def test_it_is_cancelled_from_elsewhere(model: OpenAIChatModel, path: Path) -> None:
    begun = threading.Event()

    async def slow() -> None:
        import asyncio

        begun.set()
        await asyncio.sleep(600)

    with SqliteStorage(path, lease=0.3) as storage, SqliteStorage(path) as elsewhere:
        run = Agent(model, storage=storage, tools=[slow]).start("call slow {}", session_id="s")
        begun.wait(60)
        assert Agent("test", storage=elsewhere).attach("s", run.run_number).cancel()
        assert run.collect(60).status == "cancelled"
        assert not run.cancel()


async def test_asynchronous_callers(model: OpenAIChatModel, storage: SqliteStorage) -> None:
    agent = Agent(model, storage=storage)
    run = await agent.astart("My name is Ada.", session_id="s", run_id="r")
    assert (await run.acollect()).status == "completed"
    again = await agent.astart("My name is Ada.", session_id="s", run_id="r")
    assert again == run
    assert [entry.kind async for entry in run.afollow()][-1] == "run.ended"
    assert not await run.acancel()


def test_what_fails_is_stored_or_raised(storage: SqliteStorage, model: OpenAIChatModel) -> None:
    def fail() -> None:
        raise RuntimeError("no")

    agent = Agent(model, storage=storage, tools=[fail])
    run = agent.start("call fail {}", session_id="s", user_id="ada").collect(60)
    assert run.status == "failed"
    with pytest.raises(SessionNotFoundError):
        agent.start("Hello", session_id="s", user_id="bob")
    for wrong in (Agent(model), Agent(model, storage=storage, durability="exit")):
        with pytest.raises(InvalidInputError):
            wrong.start("Hello")
    with pytest.raises(InvalidInputError):
        Agent(model).attach("s", 1)


async def test_a_run_late_in_a_long_session_is_followed_to_its_end(model: OpenAIChatModel) -> None:
    """Only its own commits are read, however many others there are."""
    with MemoryStorage() as storage:
        for number in range(1100):
            storage.add_run("s", input=number)
        run = await Agent(model, storage=storage, durability="step").astart("My name is Ada.", session_id="s")
        assert (await run.acollect()).status == "completed"
        there = [entry async for entry in run.afollow()]
        assert (there[0].kind, there[-1].kind) == ("run.started", "run.ended")
        assert {entry.run for entry in there} == {1101}
        assert [entry.seq for entry in run.follow()] == [entry.seq for entry in there]
        with pytest.raises(RunNotFoundError):
            Agent(model, storage=storage).attach("s", 1102).collect()
