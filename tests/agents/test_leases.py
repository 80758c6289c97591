"""Who works on a run: heartbeats, processes that are taken for gone, runs that are taken over or cancelled."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openai")

from pydantic_ai.exceptions import RunCancelled
from pydantic_ai.models.test import TestModel
from tests.agents.resume_helpers import (
    LEASE,
    Child,
    Nursery,
    World,
    a_nursery,
    a_world,
    call,
    make_agent,
    storage_in,
    then,
)
from tests.agents.resume_tools import wait_until

from sessile import Agent, SqliteStorage
from sessile.errors import SessionNotFoundError, StorageError
from sessile.storage import turns
from sessile.storage.encoding import decode
from sessile.storage.extending import Core, operate
from sessile.storage.turns import TurnSpec
from sessile.testing import faults

MICROSECOND = 1_000_000


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with a_nursery() as made:
        yield made


@pytest.fixture
def world(tmp_path: Path, nursery: Nursery) -> Iterator[World]:
    with a_world(tmp_path, nursery) as made:
        yield made


async def _record(core: Any, key: str) -> Any:
    loaded = await core.driver.load("s", 0, core.deadline())
    value = await core.driver.get_record("s", loaded.head.incarnation, key, core.deadline())
    return None if value is None else decode(value.decode())


def record(world: World, key: str = "lease/1") -> Any:
    return operate(world.storage, _record, key)


# ---------------------------------------------------------------- heartbeats


def test_a_heartbeat_keeps_a_long_run(world: World) -> None:
    world.server.plan("hang")
    child = world.start("run", "Hello")
    world.server.wait_for_hanging()
    first = world.storage.entries("s")[1].data["until"]
    several = first + int(5 * LEASE * MICROSECOND)
    wait_until(lambda: (record(world) or {"until": 0})["until"] > several and world.run().status == "running")
    assert world.revision == 2  # its start, and the request; renewing changes no revision
    world.server.release()
    assert child.result()["status"] == "completed"
    assert record(world) is None


def test_short_runs_write_no_lease(world: World) -> None:
    with storage_in(world.folder) as storage:
        plan = faults.Script("put_record", [])
        faults.inject(storage, plan)
        agent = make_agent(world.server.base_url, storage, world.traces, durability="step")
        assert agent.run(call("note", text="a"), session_id="s").status == "completed"
        assert plan.calls == 0


def test_a_heartbeat_that_fails_does_not_end_the_run(world: World, caplog: pytest.LogCaptureFixture) -> None:
    faults.inject(world.storage, faults.Always("put_record", faults.REFUSE))
    world.server.plan("hang")
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(world.agent().run("Hello", session_id="s")))
    thread.start()
    world.server.wait_for_hanging()
    wait_until(lambda: caplog.text.count("The lease of run 1 could not be renewed") > 1)
    world.server.release()
    thread.join()
    assert (results[0].status, world.run().status) == ("completed", "completed")


# ---------------------------------------------------------------- taken over


def stopped(world: World, *job: Any, **more: Any) -> Child:
    """A process that stands still in its work until others take it for gone."""
    child = world.start("run", *job, **more)
    if "die" in more:
        world.traces.wait_for("stopped")
    else:
        world.server.wait_for_hanging()
        child.stop(world.traces)
    world.interrupted()
    return child


def test_a_run_that_was_taken_over(world: World) -> None:
    world.server.plan("hang")
    child = stopped(world, "Hello")
    assert world.agent().resume("s").output == "You said: Hello"
    revision, messages = world.revision, world.parts
    world.server.release()
    child.go_on(world.traces)
    said = child.result()
    assert said["error"] == "LeaseLostError", said
    assert "taken over" in said["message"]
    assert (world.revision, world.parts, world.run().status) == (revision, messages, "completed")


def test_a_run_that_was_taken_over_and_is_at_work(world: World) -> None:
    world.server.plan("hang")
    child = stopped(world, call("block", text="b"))
    other = world.start("resume")
    world.traces.wait_for("block b")
    world.server.release()
    child.go_on(world.traces)
    assert child.result()["error"] == "LeaseLostError"
    world.traces.open_gate()
    assert other.result()["output"] == "Tool results: block=passed b"
    assert world.traces.lines == ["stopped", "block b", "go on"]
    assert world.parts == ["user", "call block", "result of block", "text"]


def test_an_answer_is_not_lost_with_the_lease(world: World) -> None:
    child = stopped(world, "Hello", die=["stop", "run.ended", 1])
    assert world.agent().resume("s").output == "You said: Hello"
    child.go_on(world.traces)
    said = child.result()
    assert (said["error"], said["output"]) == ("LeaseLostError", "You said: Hello")
    assert len([entry for entry in world.storage.entries("s") if entry.kind == "run.ended"]) == 1
    assert len(world.server.requests) == 1


def test_taken_over_and_gone_again(world: World) -> None:
    """The first process may not write either when the second one is gone too."""
    world.server.plan("hang", "hang")
    child = stopped(world, "Hello")
    second = world.start("resume")
    world.server.wait_for_hanging(2)
    second.kill()
    world.interrupted()
    for number in range(2, 22):  # the head remembers only the newest runs that were interrupted
        operate(world.storage, turns.begin_turn, TurnSpec("s", f"run {number}", "Hello"), 0)
    world.interrupted(21)
    world.agent().run("Hello", session_id="s")
    world.server.release()
    child.go_on(world.traces)
    assert child.result()["error"] == "LeaseLostError"
    assert world.run().status == "interrupted"


def test_a_process_that_is_merely_late(world: World) -> None:
    """It was taken for gone, and that was written down; nobody has taken its run, so its answer is stored."""
    world.server.plan("hang")
    child = stopped(world, then(call("note", text="a"), call("note", text="b")))
    assert world.agent().run("What is the capital of France?", session_id="s").number == 2
    noted = next(entry for entry in world.storage.entries("s") if entry.kind == "run.ended")
    assert (noted.run, noted.data["status"]) == (1, "interrupted")
    world.server.release()
    child.go_on(world.traces)
    assert child.result()["status"] == "completed"
    assert [run.status for run in world.storage.runs("s")] == ["completed", "completed"]
    assert [message.run for message in world.storage.messages("s")] == [1] * 6 + [2] * 2
    assert world.run().output == "Tool results: note=noted a; note=noted b"
    head = world.storage.get_session("s")
    assert head is not None
    assert (head.status, head.open_runs) == ("completed", {})


# ---------------------------------------------------------------- cancelled from elsewhere


def test_cancelled_by_another_process(world: World) -> None:
    world.server.plan("ok", "hang")
    child = world.start("run", call("count", by=2))
    world.server.wait_for_hanging()
    wait_until(lambda: world.storage.cancel_run("s"))
    said = child.result()
    assert said["error"] == "RunCancelled"
    run = world.run()
    assert (run.status, run.error["type"]) == ("cancelled", "RunCancelled")  # type: ignore[index]
    assert (world.parts, run.usage.requests) == (["user", "call count", "result of count"], 1)
    head = world.storage.get_session("s")
    assert head is not None
    assert (head.status, head.state) == ("cancelled", {"count": 2})
    assert record(world, "lease/1") is record(world, "cancel/1") is None
    assert world.storage.cancel_run("s") is False
    assert world.agent().run("Hello", session_id="s").output == "You said: Hello"


def test_cancelled_in_a_tool(world: World) -> None:
    child = world.start("run", call("count_and_block", by=2), agent={"durability": "run"})
    world.traces.wait_for("counted")
    handle = world.agent().session("s")
    wait_until(lambda: handle.cancel(run_number=1))
    assert child.result()["error"] == "RunCancelled"
    assert (world.run().status, handle.state()) == ("cancelled", {"count": 2})
    assert handle.run("Hello").output == "You said: Hello"


def test_a_request_to_cancel_is_for_the_process_that_works(world: World) -> None:
    """A process that takes the run over later is not cancelled by it."""
    world.server.plan("hang")
    child = world.start("run", "Hello")
    world.server.wait_for_hanging()
    child.stop(world.traces)
    world.storage.cancel_run("s")
    world.interrupted()
    child.kill()
    world.server.plan("hang")
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(world.agent().resume("s")))
    thread.start()
    world.server.wait_for_hanging(2)
    for _ in range(3):
        until = record(world)["until"]
        wait_until(lambda: record(world)["until"] > until)  # noqa: B023 (called at once)
    world.server.release()
    thread.join()
    assert results[0].status == "completed"
    assert world.storage.cancel_run("s") is False


async def test_a_cancelled_task(world: World) -> None:
    world.server.plan("hang")
    task = asyncio.create_task(world.agent().arun("Hello", session_id="s"))
    await asyncio.to_thread(world.server.wait_for_hanging)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (world.run().status, world.run().error["type"]) == ("interrupted", "CancelledError")  # type: ignore[index]


# ---------------------------------------------------------------- the session goes away


def test_deleted_while_a_run_works(world: World) -> None:
    world.server.plan("hang")
    child = world.start("run", "Hello")
    world.server.wait_for_hanging()
    world.storage.delete("s")
    world.server.release()
    said = child.result()
    assert "deleted while run 1 was in progress" in said["message"], said
    assert world.storage.get_session("s") is None
    with pytest.raises(SessionNotFoundError):
        world.storage.cancel_run("s")


def test_a_cancelled_run_that_cannot_be_stored(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Asked to cancel, it says so; that it could not be stored is told beside it."""
    world.server.plan("hang")
    errors: list[BaseException] = []
    agent: Agent[Any] = world.agent(durability="run")

    async def work() -> None:
        task = asyncio.create_task(agent.arun("Hello", session_id="s"))
        await asyncio.to_thread(world.server.wait_for_hanging)
        faults.inject(world.storage, faults.Always("append", faults.REFUSE))
        task.cancel()
        try:
            await task
        except (asyncio.CancelledError, RunCancelled, StorageError) as error:
            errors.append(error)

    asyncio.run(work())
    faults.heal(world.storage)
    assert isinstance(errors[0], asyncio.CancelledError)
    assert "could not be stored" in errors[0].__notes__[0]
    assert "cancelled could not be stored" in caplog.text
    world.interrupted()


def test_a_run_of_this_process_is_cancelled_at_once_and_leaves_no_record(storage: SqliteStorage) -> None:
    """However long its lease is: `lease=30` renews every ten seconds, and this would wait for that."""

    async def talk() -> None:
        started = asyncio.Event()

        async def wait_for_ever() -> None:
            started.set()
            await asyncio.Event().wait()

        agent = Agent(TestModel(), storage=storage, session_id="s", tools=[wait_for_ever])
        run = asyncio.create_task(agent.arun("wait"))
        await started.wait()
        assert await storage.acancel_run("s") is True
        with pytest.raises(RunCancelled):
            await run

    asyncio.run(talk())
    assert storage.get_run("s", 1).status == "cancelled"
    head = storage.get_session("s")
    assert head is not None

    async def left(core: Core) -> list[str]:
        return await core.driver.record_keys(head.session_id, head.incarnation, "", core.deadline())

    assert operate(storage, left) == []
