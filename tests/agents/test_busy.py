"""Two requests for one session at the same time, and runs that are stopped from outside."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import anyio
import pytest
from pydantic_ai.models.openai import OpenAIChatModel
from tests.agents.helpers import Gate, output, prompts, script
from tests.model_server import ModelServer

from sessile import Agent, SqliteStorage, session_state
from sessile.errors import SessionBusyError
from sessile.storage.uninterrupted import to_the_end
from sessile.testing import faults

LAST = "What was my last question?"


async def hanging(server: ModelServer, agent: Agent[str], prompt: str = "[hang] First") -> asyncio.Task[Any]:
    """A run of session `s1` that hangs in the model."""
    task = asyncio.create_task(agent.arun(prompt, session_id="s1"))
    await asyncio.to_thread(server.wait_for_hanging)
    return task


async def test_parallel_runs_are_both_kept(server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage) -> None:
    agent = Agent(model, storage=storage)
    first = await hanging(server, agent)
    second = await agent.arun("Second", session_id="s1")
    assert (second.number, prompts(server)) == (2, ["Second"])
    server.release()
    assert (await first).number == 1
    assert [(run.status, run.output) for run in await storage.aruns("s1")] == [
        ("completed", "You said: [hang] First"),
        ("completed", "You said: Second"),
    ]
    await agent.arun("Third", session_id="s1")
    assert prompts(server) == ["[hang] First", "Second", "Third"]


async def test_a_run_in_a_queue_waits_for_the_other(
    server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage
) -> None:
    first = await hanging(server, Agent(model, storage=storage))
    seen_busy = threading.Event()
    looks = faults.Script("load", [])

    def look(operation: str) -> None:
        looks(operation)
        if looks.calls == 3:  # it has found the other at work, more than once
            seen_busy.set()

    faults.inject(storage, look)
    agent = Agent(model, storage=storage, on_busy="queue")
    waiting = asyncio.create_task(agent.arun(LAST, session_id="s1"))
    await asyncio.to_thread(seen_busy.wait)
    assert len(server.requests) == 1
    assert len(await storage.aruns("s1")) == 1
    server.release()
    assert (await waiting).output == "Your last question was: [hang] First"
    assert first.done()


TELLING = """
from sessile.testing import faults

class Looks:
    count = 0
    def __call__(self, operation):
        self.count += operation == "load"
        if self.count == 3:  # it has found the other at work, more than once
            print("waiting", flush=True)
            self.count += 1

faults.inject(storage, Looks())
"""


def test_a_run_in_a_queue_waits_for_another_process(
    server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage, tmp_path: Path, path: Path
) -> None:
    ask = "print(Agent(model, storage=storage, on_busy='queue').run(sys.argv[3], session_id='s1').output)"
    first = script(tmp_path, ask, server, path, "[hang] First")
    server.wait_for_hanging()
    second = script(tmp_path, TELLING + ask, server, path, LAST)
    assert second.stdout is not None
    assert second.stdout.readline() == "waiting\n"
    server.release()
    assert output(second) == "Your last question was: [hang] First\n"
    assert output(first) == "You said: [hang] First\n"
    assert [run.status for run in storage.runs("s1")] == ["completed"] * 2


def test_a_run_in_a_queue_goes_on_when_the_other_process_is_killed(
    server: ModelServer, model: OpenAIChatModel, tmp_path: Path, path: Path
) -> None:
    body = "storage = SqliteStorage(path, lease=1); Agent(model, storage=storage).run('[hang] First', session_id='s1')"
    first = script(tmp_path, body, server, path)
    server.wait_for_hanging()
    first.kill()
    first.communicate()
    with SqliteStorage(path, lease=1) as storage:
        Agent(model, storage=storage, on_busy="queue").run("Second", session_id="s1")
        assert [run.status for run in storage.runs("s1")] == ["interrupted", "completed"]


async def test_a_run_is_rejected_while_another_is_at_work(
    server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage
) -> None:
    agent = Agent(model, storage=storage, on_busy="reject")
    first = await hanging(server, agent)
    with pytest.raises(SessionBusyError) as caught:
        await agent.arun("Second", session_id="s1")
    assert caught.value.retryable
    await agent.arun("Elsewhere", session_id="s2")
    server.release()
    await first
    assert (await agent.arun("Third", session_id="s1")).number == 2
    assert [run.input for run in await storage.aruns("s1")] == ["[hang] First", "Third"]


# ---------------------------------------------------------------- cancellation


async def test_a_run_that_is_cancelled_while_the_model_works(
    server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage
) -> None:
    for durability in ("run", "step", "exit"):
        agent = Agent(model, storage=storage, durability=durability)
        task = await hanging(server, agent, f"[hang] {durability}")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        server.release()
        server.wait_for_idle()
    runs = await storage.aruns("s1")
    assert [(run.status, run.input, len(run.messages)) for run in runs] == [
        ("interrupted", "[hang] run", 1),
        ("interrupted", "[hang] step", 1),
        ("interrupted", "[hang] exit", 1),
    ]
    assert runs[0].error == {"type": "CancelledError", "message": ""}
    assert await storage.averify("s1")
    assert (await agent.arun("Next", session_id="s1")).status == "completed"


async def test_a_run_that_is_cancelled_in_a_tool(
    server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage
) -> None:
    started = asyncio.Event()

    async def wait() -> None:
        session_state()["waited"] = True
        started.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(Agent(model, storage=storage, tools=[wait]).arun("call wait {}", session_id="s1"))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (run,) = await storage.aruns("s1")
    assert run.status == "interrupted"
    assert [message.data["kind"] for message in run.messages][:2] == ["request", "response"]
    assert run.usage.requests == 1
    head = await storage.aget_session("s1")
    assert head is not None
    assert head.state == {"waited": True}


async def test_a_run_that_is_cancelled_while_its_start_is_written(
    server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage
) -> None:
    await storage.asetup()
    gate = Gate()
    faults.inject(storage, gate)
    task = asyncio.create_task(Agent(model, storage=storage).arun("Hello", session_id="s1"))
    await asyncio.to_thread(gate.reached.wait)
    task.cancel()
    await asyncio.sleep(0)
    gate.opened.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [(run.status, run.input) for run in await storage.aruns("s1")] == [("interrupted", "Hello")]
    assert server.requests == []


async def test_a_run_that_is_cancelled_while_its_end_is_written_is_stored_whole(
    server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage
) -> None:
    gate = Gate(first=2)
    faults.inject(storage, gate)
    task = asyncio.create_task(Agent(model, storage=storage).arun("Hello", session_id="s1"))
    await asyncio.to_thread(gate.reached.wait)
    task.cancel()
    await asyncio.sleep(0)
    gate.opened.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [(run.status, run.output) for run in await storage.aruns("s1")] == [("completed", "You said: Hello")]


async def test_a_run_that_is_cancelled_in_the_queue(
    server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage
) -> None:
    first = await hanging(server, Agent(model, storage=storage))
    held, go = threading.Event(), threading.Event()

    def hold(operation: str) -> None:
        held.set()
        go.wait()

    faults.inject(storage, hold)
    waiting = asyncio.create_task(Agent(model, storage=storage, on_busy="queue").arun("Second", session_id="s1"))
    await asyncio.to_thread(held.wait)  # it looks at the session, and will find the other at work
    waiting.cancel()
    await asyncio.sleep(0)
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    server.release()
    await first
    assert [run.input for run in await storage.aruns("s1")] == ["[hang] First"]


@pytest.mark.parametrize("first", [1, 2])
async def test_a_run_in_a_scope_that_is_cancelled_has_stored_what_it_has_when_the_scope_is_left(
    server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage, first: int
) -> None:
    gate = Gate(first)  # holds the start, or the end

    async def leave() -> None:
        if first == 2:
            await asyncio.to_thread(server.wait_for_hanging)
        else:
            await asyncio.to_thread(gate.reached.wait)
        scope.cancel()
        await asyncio.to_thread(gate.reached.wait)
        for _ in range(10):  # AnyIO cancels what stays in a cancelled scope at every turn of the loop
            await asyncio.sleep(0)
        gate.opened.set()

    faults.inject(storage, gate)
    leaving = asyncio.create_task(leave())
    with anyio.CancelScope() as scope:
        await Agent(model, storage=storage).arun("[hang] Hello", session_id="s1")
    assert scope.cancelled_caught
    assert [run.status for run in storage.runs("s1")] == ["interrupted"]
    await leaving


async def test_cancelling_from_elsewhere(server: ModelServer, model: OpenAIChatModel, path: Path) -> None:
    with SqliteStorage(path, lease=1.5) as storage, SqliteStorage(path, lease=1.5) as elsewhere:
        task = await hanging(server, Agent(model, storage=storage))
        handle = Agent(model, storage=elsewhere).session("s1")
        assert await handle.acancel()
        with pytest.raises((asyncio.CancelledError, RuntimeError)):
            await task
        assert (await handle.aruns())[0].status == "cancelled"
        assert not await handle.acancel()


async def test_a_commit_that_must_not_be_left_half_way_still_has_its_time_limit() -> None:
    """Cancelled as often as one likes it goes on; the limit of a server that says nothing ends it."""
    stored: list[str] = []

    async def answered(limit: float | None) -> None:
        async with asyncio.timeout(limit):
            await asyncio.sleep(0.05)
            if limit:
                await asyncio.Event().wait()
        stored.append("all")

    with pytest.raises(TimeoutError):
        await to_the_end(answered(0.1))
    writing = asyncio.ensure_future(to_the_end(answered(None)))
    for _ in range(3):
        await asyncio.sleep(0.005)
        writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert stored == ["all"]


# ---------------------------------------------------------------- SIGTERM and Ctrl-C

RUN = "Agent(model, storage=storage, state={'n': 1}).run('[hang] Hello', session_id='s1')"
ARUN = f"asyncio.run({RUN.replace('.run(', '.arun(')})"
LOOP = f"""
async def main():
    await asyncio.gather({RUN.replace(".run(", ".arun(")}, {RUN.replace(".run(", ".arun(")})
asyncio.run(main())
"""
BLOCKED = f"""
async def main():
    {RUN}
asyncio.run(main())
"""


@pytest.mark.measured_children
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals like these")
@pytest.mark.parametrize(
    ("body", "signal_name", "code", "count"),
    [
        (RUN, "SIGTERM", 143, 1),
        (ARUN, "SIGTERM", 143, 1),
        (LOOP, "SIGTERM", 143, 2),
        (BLOCKED, "SIGTERM", 143, 1),
        (RUN, "SIGINT", -signal.SIGINT, 1),
        (ARUN, "SIGINT", -signal.SIGINT, 1),
    ],
    ids=["run", "arun", "two", "run-in-a-loop", "run-interrupt", "arun-interrupt"],
)
def test_signals(
    server: ModelServer, tmp_path: Path, path: Path, body: str, signal_name: str, code: int, count: int
) -> None:
    process = script(tmp_path, body, server, path)
    server.wait_for_hanging(count)
    process.send_signal(getattr(signal, signal_name))
    _, err = process.communicate()
    assert process.returncode == code, err
    with SqliteStorage(path) as storage:
        runs = storage.runs("s1")
        assert [(run.status, run.input) for run in runs] == [("interrupted", "[hang] Hello")] * count
        assert all(len(run.messages) == 1 for run in runs)
        assert storage.verify("s1")


@pytest.mark.measured_children
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals like these")
def test_a_program_keeps_its_own_handler(server: ModelServer, tmp_path: Path, path: Path) -> None:
    body = f"""
def handler(number, frame):
    raise KeyError("mine")

signal.signal(signal.SIGTERM, handler)
try:
    {RUN}
except KeyError as error:
    print(error, signal.getsignal(signal.SIGTERM) is handler)
"""
    process = script(tmp_path, body, server, path)
    server.wait_for_hanging()
    process.send_signal(signal.SIGTERM)
    assert output(process) == "'mine' True\n"
    with SqliteStorage(path) as storage:
        assert storage.runs("s1")[0].status == "interrupted"


def test_the_handler_is_there_only_while_a_run_is_at_work(model: OpenAIChatModel, storage: SqliteStorage) -> None:
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    seen: list[Any] = []

    def look() -> None:
        seen.append(signal.getsignal(signal.SIGTERM))

    try:
        Agent(model, storage=storage, tools=[look]).run("call look {}")
        asyncio.run(Agent(model, storage=storage, tools=[look]).arun("call look {}"))
        assert [handler is signal.SIG_DFL for handler in seen] == [False, False]
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)
