"""What strange functions, errors and users do to a workflow: nothing is lost, and nothing is said that is not so."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from pydantic_ai.models.test import TestModel

from sessile import Agent, Context, Retry, SqliteStorage, Step, SyncContext, Workflow, step, workflow
from sessile.errors import (
    InvalidStateError,
    NotResumableError,
    SessileError,
    StepFailedError,
    TooLargeError,
    WorkflowChangedError,
)
from sessile.storage import turns


class Mute(Exception):
    """An error whose text cannot be made."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


class Odd(Exception):
    def __init__(self, code: int, *, reason: Any) -> None:
        self.code = code
        super().__init__(code, reason)


def mute() -> None:
    raise Mute


def odd() -> None:
    raise Odd(7, reason=object)


@pytest.mark.parametrize(("step", "kind"), [(mute, "Mute"), (odd, "Odd")])
def test_errors_that_cannot_be_shown_or_made_again(storage: SqliteStorage, step: Any, kind: str) -> None:
    @workflow(storage=storage)
    async def caught(ctx: Context) -> str:
        try:
            await ctx.step(step)
        except StepFailedError as error:
            return error.error_type
        return ""

    @workflow(storage=storage)
    async def raised(ctx: Context) -> None:
        step()

    assert caught.run(session_id="caught").output == kind
    assert [one.error["type"] for one in caught.journal("caught") if one.error] == [kind]
    with pytest.raises((Mute, Odd)):
        raised.run(session_id="raised")
    assert storage.get_run("raised", 1).status == "failed"


async def test_a_pause_that_cannot_be_stored(storage: SqliteStorage) -> None:
    """The run has failed then, and does not pretend to be at work."""
    good: list[int] = []

    @workflow(storage=storage)
    async def flow(ctx: Context) -> Any:
        ctx.state["value"] = 1 if good else object()
        return await ctx.wait_for_event("go")

    with pytest.raises(InvalidStateError, match="type object"):
        await flow.arun(session_id="s")
    assert storage.get_run("s", 1).status == "failed"
    good.append(1)
    assert (await flow.aresume("s")).status == "paused"
    assert (await flow.asend_event("s", "go", 2)).output == 2


async def test_cancelled_while_the_pause_is_stored(storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    @workflow(storage=storage)
    async def flow(ctx: Context) -> Any:
        return await ctx.wait_for_event("go")

    running = asyncio.ensure_future(flow.arun(session_id="s"))
    loop = asyncio.get_running_loop()
    end_turn = turns.end_turn

    async def cancelling(*args: Any, **kwargs: Any) -> None:
        await end_turn(*args, **kwargs)
        loop.call_soon_threadsafe(running.cancel)

    monkeypatch.setattr(turns, "end_turn", cancelling)
    with pytest.raises(asyncio.CancelledError):
        await running
    monkeypatch.undo()
    assert storage.get_run("s", 1).status == "paused"
    assert (await flow.asend_event("s", "go", 2)).output == 2


def test_a_result_that_is_too_large(path: Path) -> None:
    """Refused with the step's name, as what has no JSON form is; the run can go on another way."""
    with SqliteStorage(path, max_commit_bytes=2000) as storage:
        done: list[int] = []

        @step(retry=Retry(Exception, wait_max=0))
        def long(size: int) -> str:
            done.append(size)
            return "x" * size

        @workflow(storage=storage)
        async def flow(ctx: Context) -> int:
            try:
                return len(await ctx.step(long, 3000))
            except StepFailedError as error:
                said.append(str(error))
                return len(await ctx.step(long, 30))

        said: list[str] = []
        assert flow.run(session_id="s").output == 30
        assert said[0].startswith("Step 'long' has failed with TooLargeError: The commit has 3,")
        assert [one.status for one in flow.journal("s")] == ["failed", "finished"]
        assert done == [3000, 30], "what has succeeded is not done once more because it cannot be kept"
        agent = Agent(TestModel(custom_output_text="x" * 3000))

        @workflow(storage=storage)
        async def asking(ctx: Context) -> None:
            await ctx.step(agent, "Go on")

        with pytest.raises(StepFailedError, match="TooLargeError"):
            asking.run(session_id="t")
        assert storage.get_run("t", 1).status == "failed"


def test_a_result_that_is_larger_than_any_commit_is_in_the_error(path: Path) -> None:
    with SqliteStorage(path, max_commit_bytes=2000) as storage:

        @workflow(storage=storage)
        async def flow(ctx: Context) -> str:
            return "x" * 3000

        with pytest.raises(TooLargeError) as caught:
            flow.run(session_id="s")
        assert (caught.value.result.output, caught.value.written) == ("x" * 3000, "yes")
        run = storage.get_run("s", 1)
        assert (run.status, run.error["type"]) == ("failed", "TooLargeError")  # type: ignore[index]


@pytest.mark.parametrize("plain", [True, False])
async def test_cancelled_again_and_again(storage: SqliteStorage, plain: bool) -> None:
    """As AnyIO does it: the run is stored as interrupted all the same, and can be resumed at once."""
    hurry: list[bool] = []

    async def work() -> str:
        return "done" if hurry else await asyncio.sleep(60, "late")

    @workflow(storage=storage)
    def in_thread(ctx: SyncContext) -> Any:
        return ctx.step(work)

    @workflow(storage=storage)
    async def in_task(ctx: Context) -> Any:
        return await ctx.step(work)

    flow: Any = in_thread if plain else in_task
    with anyio.move_on_after(0.2):
        await flow.arun(session_id="s")
    assert (await storage.aget_run("s", 1)).status == "interrupted"
    hurry.append(True)
    assert (await flow.aresume("s")).output == "done"


async def test_a_version_asked_for_while_a_step_is_stored(
    storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is written with the next commit, also if one is being written when it is given."""
    writing, go = threading.Event(), threading.Event()
    append = turns.append_to_turn
    fail = [True]

    async def slowly(*args: Any) -> None:
        writing.set()
        go.wait()
        await append(*args)

    async def second() -> str:
        return "new"

    async def last() -> None:
        if fail:
            raise OSError("down")

    async def one(ctx: Context) -> None:
        await ctx.step(Step(lambda: None, "nothing"))

    async def other(ctx: Context) -> str:
        if not go.is_set():
            await asyncio.to_thread(writing.wait)
        new = ctx.patched("new way")
        go.set()
        value = await ctx.step(second) if new else "old"
        await ctx.step(last)
        return value

    @workflow(storage=storage)
    async def flow(ctx: Context) -> Any:
        return await ctx.gather(one(ctx), other(ctx))

    monkeypatch.setattr(turns, "append_to_turn", slowly)
    with pytest.raises(StepFailedError):
        await flow.arun(session_id="s")
    monkeypatch.undo()
    fail.clear()
    assert (await flow.aresume("s")).output == [None, "new"]


def test_an_event_goes_to_a_run_of_its_workflow(storage: SqliteStorage) -> None:
    """Not to what is newer in the same session, where nobody would ever receive it."""

    @workflow(storage=storage)
    async def first(ctx: Context) -> Any:
        return await ctx.wait_for_event("go")

    @workflow(storage=storage)
    async def second(ctx: Context) -> Any:
        return await ctx.wait_for_event("go")

    first.run(session_id="s")
    second.run(session_id="s")
    with pytest.raises(NotResumableError, match="of workflow 'first'"):
        first.send_event("s", "go", 1, run_number=2)
    assert first.send_event("s", "go", 1).output == 1
    with pytest.raises(NotResumableError, match="no run that could receive"):
        first.send_event("s", "go", 1)
    assert second.send_event("s", "go", 2).output == 2


def test_functions_with_attributes_of_their_own(storage: SqliteStorage) -> None:
    """Other libraries' decorators leave some, which may be called like a step's options."""

    def decorated(function: Any) -> Any:
        function.retry = function.timeout = function.name = "theirs"
        return function

    @step(retry=Retry(on=OSError, wait_max=0), name="mine")
    @decorated
    def flaky() -> str:
        if len(tried) < 2:
            tried.append(1)
            raise OSError("down")
        return "up"

    tried: list[int] = []

    @workflow(storage=storage)
    async def flow(ctx: Context) -> str:
        return await ctx.step(flaky)

    assert flow.run(session_id="s").output == "up"
    assert flaky.__name__ == "flaky"  # type: ignore[attr-defined]


class Called:
    async def __call__(self, ctx: Context, value: int) -> int:
        return await ctx.step(abs, value)


async def with_more(ctx: Context, more: int, value: int) -> int:
    return await ctx.step(abs, value) + more


@pytest.mark.parametrize(
    ("function", "name", "output"), [(Called(), "called", 3), (partial(with_more, more=4), "with_more", 7)]
)
def test_workflows_that_are_no_plain_function(storage: SqliteStorage, function: Any, name: str, output: int) -> None:
    flow: Workflow[int] = Workflow(function, storage=storage)
    assert flow.name == name
    assert flow.run(value=-3).output == output


def test_what_stops_the_run_cannot_be_caught_away(storage: SqliteStorage) -> None:
    """Code that catches too much does not make a run that has to stop a completed one."""
    changed: list[int] = []

    @workflow(storage=storage)
    async def flow(ctx: Context) -> str:
        try:
            await ctx.step(Step(lambda: 2, "two") if changed else Step(lambda: 1, "one"))
        except SessileError:
            return "nothing happened"
        raise OSError("down")

    with pytest.raises(OSError, match="down"):
        flow.run(session_id="s")
    changed.append(1)
    with pytest.raises(WorkflowChangedError, match="'one'; the code now calls 'two'"):
        flow.resume("s")
    assert storage.get_run("s", 1).status == "interrupted"
