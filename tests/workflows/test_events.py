"""Waiting for events from outside, cancelling, streams of events, and what is seen of a run at work."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sessile import (
    ANY_USER,
    Agent,
    Context,
    MemoryStorage,
    Retry,
    SqliteStorage,
    Step,
    SyncContext,
    Wait,
    Workflow,
    workflow,
)
from sessile.errors import (
    InvalidStateError,
    NotResumableError,
    RunCancelledError,
    SessileError,
    SessionNotFoundError,
    StepFailedError,
)
from sessile.redaction import Patterns
from sessile.workflows.run.journal import Journal


def order(storage: SqliteStorage, done: list[str]) -> Workflow[str]:
    async def order(ctx: Context, item: str) -> str:
        async def ask() -> str:
            done.append(f"ask {item}")
            return item

        await ctx.step(ask)
        ctx.state["asked"] = True
        said = await ctx.wait_for_event("approval")
        await ctx.step(Step(lambda: done.append(f"said {said}"), "note"))
        return f"{item}: {said}"

    return Workflow(order, storage=storage)


# ---------------------------------------------------------------- waiting


async def test_a_redaction_does_not_change_what_a_process_goes_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event that arrives just before the pause lets the function begin again, with the steps as they returned."""
    seen: list[str] = []

    async def address() -> str:
        return "ada@example.com"

    async def ask(ctx: Context) -> None:
        seen.append(await ctx.step(address))
        await ctx.wait_for_event("approval")

    async def pausing(journal: Journal, pause: Any, changes: Any) -> bool:
        await flow.asend_event("s", "approval", True)
        return await pause_of(journal, pause, changes)

    pause_of = Journal.pause
    monkeypatch.setattr(Journal, "pause", pausing)
    with MemoryStorage(redact=Patterns("mail")) as storage:
        flow = Workflow(ask, storage=storage)
        await flow.arun(session_id="s")
        assert seen == ["ada@example.com"] * 2
        assert "ada@" not in str(flow.journal("s"))


def test_waiting_for_a_decision(storage: SqliteStorage) -> None:
    done: list[str] = []
    flow = order(storage, done)
    paused = flow.run("book", session_id="s", user_id="ada")
    assert (paused.status, paused.output, paused.waiting_for) == ("paused", None, ("approval",))
    run = storage.get_run("s", 1, user_id="ada")
    assert (run.status, run.pending, run.ended_at) == ("paused", {"waits": ["approval"]}, None)
    head = storage.get_session("s", user_id="ada")
    assert head is not None
    assert (head.status, head.state) == ("paused", {"asked": True})
    with pytest.raises(NotResumableError, match="waits for 'approval'"):
        flow.resume("s", user_id="ada")
    for user in ("bob", None):
        with pytest.raises(SessionNotFoundError):
            flow.send_event("s", "approval", "no", user_id=user)
    other = flow.send_event("s", "something else", user_id=ANY_USER)
    assert (other.status, other.waiting_for) == ("paused", ("approval",))
    result = flow.send_event("s", "approval", "yes", user_id="ada")
    assert (result.status, result.output, result.number) == ("completed", "book: yes", 1)
    assert done == ["ask book", "said yes"]
    with pytest.raises(NotResumableError, match="no run that could receive"):
        flow.send_event("s", "approval", "again", user_id="ada")


def test_an_event_that_comes_early(storage: SqliteStorage) -> None:
    """Also one that is sent while the run is at work, or only delivered: it waits for whoever needs it."""
    done: list[str] = []

    @workflow(storage=storage)
    async def flow(ctx: Context) -> list[Any]:
        await ctx.step(Step(lambda: flow.send_event(ctx.session_id, "first", (1, 2)).status, "send"))
        values = [await ctx.wait_for_event("first"), await ctx.wait_for_event("second")]
        await ctx.step(Step(lambda: done.append("after"), "after"))
        return [*values, await ctx.wait_for_event("second")]

    assert flow.run(session_id="s", run_id="r").waiting_for == ("second",)
    assert flow.run(session_id="s", run_id="r").status == "paused"
    assert flow.send_event("s", "second", "a", resume=False).status == "paused"
    assert flow.send_event("s", "second", "b", resume=False).status == "paused"
    assert flow.resume("s").output == [(1, 2), "a", "b"]
    assert done == ["after"]
    assert flow.run(session_id="s", run_id="r").output == [(1, 2), "a", "b"]
    with pytest.raises(InvalidStateError, match="event 'x' cannot be kept"):
        flow.send_event("s", "x", object())


def test_a_plain_function_waits(storage: SqliteStorage) -> None:
    @workflow(storage=storage)
    def flow(ctx: SyncContext) -> Any:
        return [ctx.step(Step(int, "zero")), ctx.wait_for_event("go")]

    assert flow.run(session_id="s").status == "paused"
    assert flow.send_event("s", "go", 5).output == [0, 5]


async def test_branches_that_wait(storage: SqliteStorage) -> None:
    """The others come to their end first; then the run waits for all that is left."""
    done: list[str] = []

    async def work(name: str) -> None:
        await asyncio.sleep(0.01)
        done.append(name)

    @workflow(storage=storage)
    async def flow(ctx: Context) -> list[Any]:
        async def waiting(name: str) -> Any:
            return await ctx.wait_for_event(name)

        async def working() -> str:
            await ctx.step(work, "a")
            await ctx.step(work, "b")
            return "worked"

        return await ctx.gather(waiting("x"), working(), waiting("y"))

    @workflow(storage=storage)
    async def grouped(ctx: Context) -> list[Any]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ctx.wait_for_event(name)) for name in ("x", "y")]
        return [task.result() for task in tasks]

    paused = await flow.arun(session_id="s")
    assert (paused.status, paused.waiting_for, done) == ("paused", ("x", "y"), ["a", "b"])
    assert (await flow.asend_event("s", "y", 2)).waiting_for == ("x",)
    assert (await flow.asend_event("s", "x", 1)).output == [1, "worked", 2]
    assert done == ["a", "b"]
    assert (await grouped.arun(session_id="t")).status == "paused"
    await grouped.asend_event("t", "x", 1)
    assert (await grouped.asend_event("t", "y", 2)).output == [1, 2]


async def test_an_event_at_the_moment_of_the_pause(storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sent between the last look and the commit of the pause: it is not overlooked."""
    from sessile.storage import journals

    flow = order(storage, [])
    look, raced = journals.new_events, []

    async def looking(core: Any, turn: Any, seen: int) -> Any:
        found = await look(core, turn, seen)
        raced.append(seen)
        if len(raced) == 2:  # the look before the pause is committed
            await journals.send_event(core, "s", "order", "approval", "just in time")
        return found

    monkeypatch.setattr(journals, "new_events", looking)
    assert (await flow.arun("book", session_id="s")).output == "book: just in time"


SENDER = """
import sys
from sessile import SqliteStorage
sys.path.insert(0, {tests!r})
from tests.workflows.test_events import order
flow = order(SqliteStorage({path!r}), [])
print(flow.send_event("s", "approval", "from outside").output)
"""


def test_sent_from_another_process(storage: SqliteStorage, path: Path) -> None:
    assert order(storage, []).run("book", session_id="s").status == "paused"
    code = SENDER.format(tests=str(Path(__file__).resolve().parents[2]), path=str(path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout.strip(), done.returncode) == ("book: from outside", 0), done.stderr


# ---------------------------------------------------------------- cancelling


async def test_cancelled_from_outside(path: Path) -> None:
    with SqliteStorage(path, lease=1) as storage:

        @workflow(storage=storage)
        async def flow(ctx: Context) -> None:
            await ctx.step(asyncio.sleep, 60)

        running = asyncio.ensure_future(flow.arun(session_id="s"))
        while True:
            if (await storage.aget_session("s")) is not None and await storage.acancel_run("s"):
                break
            await asyncio.sleep(0.01)
        with pytest.raises(RunCancelledError):
            await running
        assert storage.get_run("s", 1).status == "cancelled"
        with pytest.raises(NotResumableError):
            flow.resume("s")


async def test_a_task_that_is_cancelled(storage: SqliteStorage) -> None:
    begun: list[str] = []
    ended: list[str] = []

    async def slow() -> None:
        begun.append("slow")
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("slow")

    @workflow(storage=storage)
    async def flow(ctx: Context) -> None:
        ctx.state["seen"] = True
        await ctx.gather(ctx.step(slow), ctx.step(slow))

    running = asyncio.ensure_future(flow.arun(session_id="s"))
    while len(begun) < 2:  # noqa: ASYNC110 (until both are at work)
        await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert ended == ["slow", "slow"]
    assert storage.get_run("s", 1).status == "interrupted"
    assert storage.get_session("s").state == {"seen": True}  # type: ignore[union-attr]


def long(storage: SqliteStorage, seconds: float) -> Workflow[str]:
    async def sleep() -> str:
        print("waiting", flush=True)
        return await asyncio.sleep(seconds, "done")

    async def long(ctx: Context) -> str:
        await ctx.step(Step(lambda: print("begun", flush=True), "begin"))
        return await ctx.step(sleep)

    return Workflow(long, storage=storage)


STOPPED = """
import asyncio, signal, sys
# What measures these tests may have handlers of its own, which the program of a user would not have.
signal.signal(signal.SIGTERM, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.insert(0, {tests!r})
from sessile import SqliteStorage
from tests.workflows.test_events import long
flow = long(SqliteStorage({path!r}), 60)
{call}
"""


@pytest.mark.parametrize(
    ("call", "number", "code"),
    [
        ('flow.run(session_id="s")', signal.SIGTERM, 143),
        ('asyncio.run(flow.arun(session_id="s"))', signal.SIGINT, -signal.SIGINT),
    ],
)
def test_a_process_that_is_told_to_stop(
    storage: SqliteStorage, path: Path, capfd: pytest.CaptureFixture[str], call: str, number: int, code: int
) -> None:
    """A deploy stops the process, and the run goes on in the next one: at once, its lease is given back."""
    script = STOPPED.format(tests=str(Path(__file__).resolve().parents[2]), path=str(path), call=call)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert (process.stdout.readline(), process.stdout.readline()) == ("begun\n", "waiting\n")
        process.send_signal(number)
        assert process.wait() == code
    assert storage.get_run("s", 1).status == "interrupted"
    assert long(storage, 0).resume("s").output == "done"
    assert "begun" not in capfd.readouterr().out, "what has finished does not run again"


@pytest.mark.parametrize("leave", [sys.exit, lambda: asyncio.current_task().cancel()])  # type: ignore[union-attr]
def test_a_step_that_ends_the_program(storage: SqliteStorage, leave: Any) -> None:
    async def last() -> str:
        if leaving:
            leaving.pop()()
            await asyncio.sleep(0)
        return "done"

    leaving = [leave]

    @workflow(storage=storage)
    async def flow(ctx: Context) -> str:
        return await ctx.step(last)

    with pytest.raises((SystemExit, asyncio.CancelledError)):
        flow.run(session_id="s")
    assert storage.get_run("s", 1).status == "interrupted"
    assert flow.resume("s").output == "done"


async def test_what_is_at_work_stands_in_the_lease(path: Path) -> None:
    with SqliteStorage(path, lease=0.1) as storage:
        go = asyncio.Event()

        @workflow(storage=storage)
        async def flow(ctx: Context) -> None:
            await ctx.step(Step(int, "quick"))
            await ctx.step(Step(go.wait, "slow"))

        running = asyncio.ensure_future(flow.arun(session_id="s"))
        records: list[Any] = []
        while [one.name for one in records] != ["quick", "slow"]:
            await asyncio.sleep(0.01)
            records = await flow.ajournal("s") if await storage.aget_session("s") else []
        assert (records[1].status, records[1].path, records[1].seconds) == ("running", "2", None)
        go.set()
        await running
        assert [one.status for one in await flow.ajournal("s")] == ["finished", "finished"]


# ---------------------------------------------------------------- streams


def kinds(events: list[Any]) -> list[tuple[str, str | None]]:
    return [(event.kind, event.step) for event in events]


def test_a_stream(storage: SqliteStorage) -> None:
    from pydantic_ai.models.test import TestModel

    tries: list[int] = []

    def flaky() -> str:
        tries.append(1)
        if len(tries) < 2:
            raise OSError("down")
        return "up"

    writer = Agent(TestModel(custom_output_text="one two"), name="writer")
    steps = [
        Step(lambda value: value, "same"),
        Step(lambda value: flaky(), "flaky", retry=Retry(OSError, wait_max=0)),
        writer,
    ]
    flow: Workflow[str] = Workflow(steps=[*steps, Wait("go")], name="flow", storage=storage)
    with flow.stream("topic", session_id="s", run_id="r") as stream:
        events = list(stream)
    assert kinds(events) == [
        ("run.started", None),
        ("step.started", "same"),
        ("step.finished", "same"),
        ("step.started", "flaky"),
        ("step.retrying", "flaky"),
        ("step.started", "flaky"),
        ("step.finished", "flaky"),
        ("step.started", "writer"),
        *[("step.text", "writer")] * 2,
        ("step.finished", "writer"),
        ("run.paused", None),
    ]
    assert "".join(event.text for event in events if event.kind == "step.text") == "one two"
    assert stream.result.status == "paused"
    flow.send_event("s", "go", "gone", resume=False)
    with flow.stream("s", resume=True) as stream:
        events = list(stream)
    assert [event.step for event in events if event.replayed] == ["same", "flaky", "writer"]
    assert (events[-1].kind, stream.result.output) == ("run.ended", "gone")


async def test_a_stream_that_is_closed(storage: SqliteStorage) -> None:
    @workflow(storage=storage)
    async def flow(ctx: Context) -> None:
        await ctx.step(asyncio.sleep, 60)

    async with flow.astream(session_id="s") as stream:
        assert (stream.session_id, stream.number) == ("s", 1)
        async for event in stream:
            if event.kind == "step.started":
                break
    assert storage.get_run("s", 1).status == "interrupted"
    with pytest.raises(SessileError, match="its run interrupted"):
        _ = stream.result


async def test_a_stream_of_a_failure(storage: SqliteStorage) -> None:
    @workflow(storage=storage)
    async def flow(ctx: Context) -> None:
        await ctx.step(Step(lambda: 1 / 0, "divide"))

    stream = flow.astream(session_id="s")
    events: list[Any] = []

    async def watch() -> None:
        async for event in stream:
            events.append(event)

    with pytest.raises(StepFailedError):
        await watch()
    assert kinds(events)[-2:] == [("step.failed", "divide"), ("run.ended", None)]
    assert "ZeroDivisionError" in events[-1].error


def test_the_live_view(storage: SqliteStorage, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rich")
    from pydantic_ai.models.test import TestModel

    writer = Agent(TestModel(custom_output_text="some [text]"), name="writer")
    flow: Workflow[Any] = Workflow(
        steps=[writer, Step(lambda text: text.upper(), "shout"), Wait("go")], name="flow", storage=storage
    )
    assert flow.print_run("topic", session_id="s").status == "paused"
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("flow", "writer", "shout", "✓", "waits for go"))
    flow.send_event("s", "go", 1, resume=False)
    asyncio.run(flow.aprint_run("s", resume=True))
    assert "kept from before" in capsys.readouterr().out


def test_what_the_live_view_shows_of_trouble() -> None:
    pytest.importorskip("rich")
    from rich.console import Console

    from sessile.workflows import WorkflowEvent
    from sessile.workflows.printing import View

    view = View("flow")
    view.take(WorkflowEvent("step.started", "load", "1"))
    view.take(WorkflowEvent("step.text", "load", "1", text="so far"))
    view.take(WorkflowEvent("step.started", "load", "1.1"))
    view.take(WorkflowEvent("step.retrying", "load", "1.1", attempt=2, seconds=3, error="OSError: down"))
    view.take(WorkflowEvent("step.finished", "keep", "2", cached=True))
    view.take(WorkflowEvent("step.failed", "send", "3", error="no"))
    view.take(WorkflowEvent("run.ended", error="StepFailedError: no"))
    console = Console(width=100, record=True, file=None)
    with console.capture() as captured:
        console.print(view.render())
    shown = captured.get()
    assert all(
        text in shown for text in ("so far", "OSError: down; again in 3.0 s", "cached", "✗", "StepFailedError: no")
    )


def test_events_are_json(storage: SqliteStorage) -> None:
    """What is stored can be read without this library."""
    flow = order(storage, [])
    flow.run("book", session_id="s")
    flow.send_event("s", "approval", {"by": "ada"})
    kinds = [entry.kind for entry in storage.entries("s")]
    assert kinds == [
        "session.created",
        "run.started",
        "step.finished",
        "state.patched",
        "run.ended",
        "event.sent",
        "run.taken",
        "step.finished",
        "step.finished",
        "run.ended",
    ]
    json.dumps([entry.data for entry in storage.entries("s")])
