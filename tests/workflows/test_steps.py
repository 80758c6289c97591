"""Workflows: attempts, time limits, order and the state of steps."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
import threading
import time
import tracemalloc
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from tests.workflows.calls import Calls

from sessile import (
    Context,
    Retry,
    SqliteStorage,
    Step,
    SyncContext,
    current_step,
    session_state,
    step,
    workflow,
)
from sessile.errors import (
    InvalidInputError,
    SessileError,
    StepFailedError,
)

# ---------------------------------------------------------------- attempts and time limits


def test_retries(storage: SqliteStorage) -> None:
    tried: list[int] = []

    @step(retry=Retry(on=(ConnectionError, TimeoutError), attempts=3, wait_max=0.001))
    async def flaky() -> str:
        tried.append(current_step().attempt)
        if len(tried) < 3:
            raise ConnectionError("gone")
        return "there"

    @step(retry=Retry(on=ConnectionError, attempts=3, wait_max=0.001))
    def wrong() -> None:
        raise ValueError("never right")

    @workflow(storage=storage)
    async def flow(ctx: Context) -> str:
        done = await ctx.step(flaky)
        try:
            await ctx.step(wrong)
        except StepFailedError:
            return done
        return ""

    assert flow.run(session_id="s").output == "there"
    assert tried == [1, 2, 3]
    assert [(one.name, one.status, one.attempt) for one in flow.journal("s")] == [
        ("flaky", "retrying", 1),
        ("flaky", "retrying", 2),
        ("flaky", "finished", 3),
        ("wrong", "failed", 1),
    ]
    assert wrong.name == "wrong"


def test_no_more_attempts(storage: SqliteStorage) -> None:
    """Attempts are counted on in a resumed run, which has as many again."""

    @step(retry=Retry(on=OSError, attempts=2, wait_max=0))
    def down() -> None:
        raise OSError("down")

    @workflow(storage=storage)
    async def flow(ctx: Context) -> None:
        await ctx.step(down)

    for _ in range(2):
        with pytest.raises(StepFailedError, match="OSError: down"):
            flow.run(session_id="s", run_id="r")
    assert [(one.status, one.attempt) for one in flow.journal("s")] == [
        ("retrying", 1),
        ("failed", 2),
        ("retrying", 3),
        ("failed", 4),
    ]


def test_pauses_grow() -> None:
    retry = Retry(on=OSError, wait_initial=1, wait_exp_base=2, wait_max=timedelta(seconds=5), wait_jitter=0)
    assert [retry.pause(failed) for failed in (1, 2, 3, 4, 1000)] == [1, 2, 4, 5, 5]
    pauses = [Retry(on=OSError).pause(2) for _ in range(50)]
    assert all(2 <= pause <= 3 for pause in pauses), "chance adds up to a second to a pause of two"
    assert max(pauses) - min(pauses) > 0.1
    steep = Retry(on=OSError, wait_exp_base=1e300, wait_jitter=timedelta(milliseconds=1))
    assert steep.pause(1000) == 60


def test_steps_inside_a_step_that_is_tried_again(storage: SqliteStorage, calls: Calls) -> None:
    """What has finished inside is not done again; what has failed inside is."""
    fail = [True]

    @workflow(storage=storage)
    async def flow(ctx: Context) -> int:
        async def group() -> int:
            one = await ctx.step(calls.plain, 1)
            two: int = await ctx.step(maybe, 2)
            return one + two

        def maybe(value: int) -> int:
            return calls.broken(fail.pop()) if fail else calls.plain(value)

        return await ctx.step(Step(group, retry=Retry(on=StepFailedError, wait_max=0)))

    assert flow.run(session_id="s").output == 3
    assert calls == ["plain 1", "broken True", "plain 2"]


@pytest.mark.parametrize("kind", ["async", "plain"])
def test_time_limit_of_a_step(storage: SqliteStorage, kind: str) -> None:
    async def sleeping() -> None:
        await asyncio.sleep(60)

    def blocking() -> None:
        time.sleep(0.5)

    target: Any = sleeping if kind == "async" else blocking
    limited = Step(target, timeout=0.02, retry=Retry(on=TimeoutError, attempts=2, wait_max=0))

    @workflow(storage=storage)
    async def flow(ctx: Context) -> None:
        await ctx.step(limited)

    with pytest.raises(StepFailedError, match=r"TimeoutError: It did not end within 0.02 s"):
        flow.run(session_id="s")
    assert [one.status for one in flow.journal("s")] == ["retrying", "failed"]


def test_time_limit_of_a_run(storage: SqliteStorage, calls: Calls) -> None:
    seconds = [60.0]

    @workflow(storage=storage, timeout=2)
    async def flow(ctx: Context) -> int:
        one: int = await ctx.step(calls.later, 1)
        await ctx.step(asyncio.sleep, seconds[0])
        return one

    with pytest.raises(TimeoutError, match=r"The run did not end within 2 s"):
        flow.run(session_id="s")
    assert storage.get_run("s", 1).status == "failed"
    seconds[0] = 0
    assert flow.resume("s").output == 1
    assert calls == ["later 1"]


# ---------------------------------------------------------------- order


async def test_steps_in_tasks_of_their_own(storage: SqliteStorage, calls: Calls) -> None:
    """Their order would be a matter of chance: refused, unless they run as branches."""

    second_is_done = asyncio.Event()
    second_is_done.set()

    async def branch(ctx: Context, value: int) -> list[int]:
        if value == 1:
            await second_is_done.wait()
        done = [await ctx.step(calls.later, value), await ctx.step(calls.later, value + 10)]
        second_is_done.set()
        return done

    @workflow(storage=storage)
    async def tasks(ctx: Context) -> Any:
        await ctx.step(calls.later, 0)
        return await asyncio.gather(branch(ctx, 1), branch(ctx, 2))

    @workflow(storage=storage)
    async def branches(ctx: Context) -> Any:
        done = await ctx.gather(branch(ctx, 1), branch(ctx, 2))
        return [*done, await ctx.gather()]

    with pytest.raises(SessileError, match=r"use ctx\.gather"):
        await tasks.arun()
    second_is_done.clear()
    result = await branches.arun(session_id="s")
    assert result.output == [[1, 11], [2, 12], []]
    assert [(one.path, one.output) for one in await branches.ajournal("s")] == [
        ("1.2.1", 2),
        ("1.2.2", 12),
        ("1.1.1", 1),
        ("1.1.2", 11),
    ]


async def test_a_branch_that_fails(storage: SqliteStorage, calls: Calls) -> None:
    """The others are cancelled; resumed, each branch goes on where it was."""
    fail = [True]

    @workflow(storage=storage)
    async def flow(ctx: Context) -> Any:
        async def good() -> list[int]:
            first = await ctx.step(calls.later, 1)
            await ctx.step(Step(asyncio.sleep), 60 if fail else 0)
            return [first]

        async def bad() -> int:
            await ctx.step(Step(asyncio.sleep), 0.05)
            return await ctx.step(calls.broken if fail else Step(calls.later, "broken"), 2)

        return await ctx.gather(good(), bad())

    with pytest.raises(StepFailedError, match="no 2"):
        await flow.arun(session_id="s")
    fail.clear()
    assert (await flow.aresume("s")).output == [[1], 2]
    assert calls == ["later 1", "broken 2", "later 2"]


async def test_a_step_that_nobody_awaits(storage: SqliteStorage) -> None:
    """It does not outlive its run."""
    begun = asyncio.Event()
    ended: list[str] = []

    async def endless() -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("cancelled")

    @workflow(storage=storage)
    async def flow(ctx: Context) -> str:
        task = asyncio.ensure_future(ctx.step(endless))
        await begun.wait()
        return f"done {task.done()}"

    assert (await flow.arun()).output == "done False"
    assert ended == ["cancelled"]


# ---------------------------------------------------------------- state


def test_state(storage: SqliteStorage) -> None:
    """Changes of steps are kept with their results, and everything is saved when the run ends."""
    fail = [True]

    def count(by: int) -> int:
        session_state()["count"] = session_state().get("count", 0) + by
        return session_state()["count"]

    def maybe() -> None:
        if fail:
            raise OSError("down")

    @workflow(storage=storage, state={"plan": "free"})
    async def flow(ctx: Context) -> list[int]:
        ctx.state["begun"] = ctx.state.get("begun", 0) + 1
        numbers = [await ctx.step(count, 1), await ctx.step(count, 10)]
        await ctx.step(maybe)
        ctx.state["plan"] = "pro"
        return numbers

    with pytest.raises(StepFailedError):
        flow.run(session_id="s")
    assert storage.get_session("s").state == {"plan": "free", "begun": 1, "count": 11}  # type: ignore[union-attr]
    storage.update_state("s", {"count": 100, "other": True})
    fail.clear()
    result = flow.resume("s")
    assert result.output == [1, 11]
    assert storage.get_session("s").state == {"plan": "pro", "begun": 1, "count": 100, "other": True}  # type: ignore[union-attr]
    assert flow.run(session_id="s").output == [101, 111]


def test_state_of_parallel_steps(storage: SqliteStorage) -> None:
    async def put(key: str) -> None:
        session_state()[key] = 1
        await asyncio.sleep(0.01)
        assert list(session_state()) == [key]

    @workflow(storage=storage)
    async def flow(ctx: Context) -> None:
        await asyncio.gather(ctx.step(put, "a"), ctx.step(put, "b"))

    assert flow.run(session_id="s").state == {"a": 1, "b": 1}
    assert storage.get_session("s").state == {"a": 1, "b": 1}  # type: ignore[union-attr]


def test_state_that_is_refused(storage: SqliteStorage, calls: Calls) -> None:
    @workflow(storage=storage)
    async def flow(ctx: Context) -> int:
        ctx.state["bad"] = {1, 2}
        return 1

    with pytest.raises(InvalidInputError, match="state") as caught:
        flow.run(session_id="s")
    assert caught.value.result.output == 1
    run = storage.get_run("s", 1)
    assert (run.status, run.output) == ("completed", 1)


def test_state_inside_a_step_with_steps(storage: SqliteStorage, calls: Calls) -> None:
    """What is changed inside a step is kept with that step, however it is reached."""
    fail = [True]

    @workflow
    async def inner(ctx: Context) -> None:
        ctx.state["inner"] = True

    @workflow(storage=storage)
    async def flow(ctx: Context) -> int:
        async def group() -> int:
            await ctx.step(Step(lambda: session_state().update(deep=True), "deep"))
            ctx.state["group"] = sorted(ctx.state)
            return 1

        await ctx.step(Step(group))
        await ctx.step(inner)
        return await ctx.step(calls.broken if fail else Step(calls.plain, "broken"), len(ctx.state))

    with pytest.raises(StepFailedError):
        flow.run(session_id="s")
    fail.clear()
    result = flow.resume("s")
    assert (result.output, result.state) == (3, {"deep": True, "group": ["deep"], "inner": True})


def test_threads_that_nobody_waits_for_begin_nothing_more(storage: SqliteStorage, calls: Calls) -> None:
    """A plain function cannot be stopped, but its steps are: in a branch beside one that fails, in an attempt."""
    free, refused = threading.Event(), threading.Event()

    def hold(held: bool) -> None:
        if held:
            free.wait()

    def holding(ctx: SyncContext, held: bool) -> int:
        try:
            ctx.step(hold, held)
        except BaseException:
            with pytest.raises(SessileError, match="given up"):
                ctx.step(calls.plain, "never")
            refused.set()
            raise
        return ctx.step(calls.plain, "second")

    @workflow(storage=storage)
    def branches(ctx: SyncContext) -> str:
        with pytest.raises(StepFailedError):
            ctx.gather(lambda: ctx.step(calls.broken, 1), lambda: holding(ctx, True))
        refused.wait()
        return ctx.step(calls.plain, "end")

    @workflow(storage=storage)
    def attempts(ctx: SyncContext) -> int:
        tried = Step(lambda: holding(ctx, held.pop()), "tried", timeout=2, retry=Retry(TimeoutError, wait_max=0))
        return ctx.step(tried)

    assert branches.run(session_id="a").output == "end"
    assert [one.path for one in branches.journal("a")] == ["1.1.1", "2"]
    refused.clear()
    held = [False, True]
    assert attempts.run(session_id="b").output == "second"
    refused.wait()
    free.set()
    assert [(one.path, one.status) for one in attempts.journal("b")] == [
        ("1", "retrying"),
        ("1.1", "finished"),
        ("1.2", "finished"),
        ("1", "finished"),
    ]
    assert calls == ["broken 1", "plain end", "plain second"]


def test_a_long_run_holds_little_of_what_its_steps_came_to(storage: SqliteStorage) -> None:
    """A backup that is put back may take away what is stored, so a run can write it again; but not as objects."""

    def rows(number: int) -> list[dict[str, str]]:
        return [{"name": f"row {number}-{index}", "text": "It is as it is."} for index in range(400)]

    async def grown(ctx: Context, first: int) -> int:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(first, first + 20):
            await ctx.step(rows, number)
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before

    @workflow(storage=storage)
    async def flow(ctx: Context) -> list[int]:
        return [await grown(ctx, first) for first in (0, 100, 200)]

    tracemalloc.start()
    try:
        *_, last = flow.run(session_id="s").output
    finally:
        tracemalloc.stop()
    assert last < 20 * len(json.dumps(rows(200)))  # as text it would be as much, as objects four times that


# ---------------------------------------------------------------- what a step was called with

ODD = [
    "",
    '"',
    "\\",
    "\x00\x1f\x7f",
    "/<>&",
    "\u2028",
    "é",
    "\ud800",
    "😀",
    True,
    False,
    None,
    1.5,
    -0.0,
    [1],
    {"b": 1, "a": 2},
]
WHOLE = [0, -1, 2**63 - 1, 2**63, -(2**63) + 1, -(2**63)]


def test_the_digest_of_inputs_is_that_of_their_json(storage: SqliteStorage) -> None:
    """Else a workflow that an earlier version has begun could not be replayed."""
    random = Random(7)
    called: list[list[Any]] = [[value] for value in (*ODD, *WHOLE)]
    called += [random.choices([*ODD, *WHOLE, "plain", 7], k=random.randrange(2, 13)) for _ in range(100)]

    async def nothing(*args: Any) -> None:
        return None

    @workflow(storage=storage)
    async def flow(ctx: Context) -> None:
        for args in called:
            await ctx.step(nothing, *args)

    flow.run(session_id="s")
    kept = [entry.data["inputs"] for entry in storage.entries("s") if entry.kind == "step.finished"]
    assert kept == [digest({str(place): value for place, value in enumerate(args)}) for args in called]


def digest(inputs: dict[str, Any]) -> str:
    """Of JSON with its keys in order; lone surrogates are escaped."""
    ascii = any("\ud800" in str(value) for value in inputs.values())
    text = json.dumps(inputs, sort_keys=True, separators=(",", ":"), ensure_ascii=ascii)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
