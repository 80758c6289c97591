"""Workflows in one process: what they return, what is kept, and what a resumed run does and does not do again."""

from __future__ import annotations

import asyncio
import math
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from tests.workflows.calls import Calls

from sessile import (
    ANY_USER,
    Context,
    Retry,
    SqliteStorage,
    Step,
    SyncContext,
    Workflow,
    current_step,
    workflow,
)
from sessile.errors import (
    InvalidInputError,
    NotResumableError,
    SessileError,
    SessionNotFoundError,
    StepFailedError,
    UnknownFormatError,
    WorkflowChangedError,
)


@dataclass
class Place:
    name: str


# ---------------------------------------------------------------- running


def test_a_function(storage: SqliteStorage, calls: Calls) -> None:
    @workflow(storage=storage)
    async def greet(ctx: Context, name: str, *, loud: bool = False) -> str:
        first = await ctx.step(calls.plain, f"Hello {name}")
        second: str = await ctx.step(calls.later, "!")
        return first.upper() + second if loud else first + second

    result = greet.run("Ada", loud=True, session_id="s", user_id="ada")
    assert (result.output, result.session_id, result.number, result.status) == ("HELLO ADA!", "s", 1, "completed")
    assert greet.run("Bob").output == "Hello Bob!"
    head = storage.get_session("s", user_id="ada")
    assert head is not None
    assert (head.kind, head.agent, head.status) == ("workflow", "greet", "completed")
    run = storage.get_run("s", 1, user_id="ada")
    assert (run.input, run.output, run.run_id) == ({"name": "Ada", "loud": True}, "HELLO ADA!", result.run_id)
    assert [(one.name, one.path, one.status, one.output) for one in greet.journal("s", user_id="ada")] == [
        ("plain", "1", "finished", "Hello Ada"),
        ("later", "2", "finished", "!"),
    ]
    assert calls == ["plain Hello Ada", "later !", "plain Hello Bob", "later !"]
    with pytest.raises(SessionNotFoundError):
        greet.run("Ada", session_id="s", user_id="bob")


def test_a_journal_with_values_of_classes_that_are_gone(
    storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    @workflow(storage=storage)
    async def travel(ctx: Context) -> None:
        await ctx.step(Place, "Rome")
        await ctx.step(Step(lambda: "by train", "how"))

    travel.run(session_id="s")
    monkeypatch.delattr(sys.modules[__name__], "Place")
    where, how = travel.journal("s")
    assert (where.name, where.status, where.data["value"], how.output) == (
        "Place",
        "finished",
        {"name": "Rome"},
        "by train",
    )
    with pytest.raises(UnknownFormatError, match="Place, which this program has not imported"):
        _ = where.output


def test_a_plain_function(storage: SqliteStorage, calls: Calls) -> None:
    @workflow(storage=storage, name="sync")
    def both(ctx: SyncContext, value: int) -> list[int]:
        one = ctx.step(calls.plain, value)
        two: int = ctx.step(calls.later, value + 1)
        return [one, two, *ctx.gather(lambda: ctx.step(calls.plain, 7), lambda: ctx.step(calls.later, 8))]

    assert both.run(1).output == [1, 2, 7, 8]
    assert sorted(calls) == ["later 2", "later 8", "plain 1", "plain 7"]


async def test_many_plain_workflows_at_once(storage: SqliteStorage) -> None:
    """Each waits for its steps in a thread; that must not take the threads away from the steps."""

    @workflow(storage=storage)
    def slow(ctx: SyncContext, value: int) -> int:
        return ctx.step(Step(lambda: time.sleep(0.01) or value, name="sleep"))

    results = await asyncio.gather(*(slow.arun(value) for value in range(60)))
    assert [result.output for result in results] == list(range(60))


def test_parallel_steps(storage: SqliteStorage) -> None:
    running: list[int] = []

    async def at_once(value: int) -> int:
        running.append(value)
        while len(running) < 3:  # noqa: ASYNC110 (until all are there)
            await asyncio.sleep(0.001)
        return value

    @workflow(storage=storage)
    async def three(ctx: Context) -> list[int]:
        return await asyncio.gather(*(ctx.step(at_once, value) for value in range(3)))

    assert three.run(session_id="s").output == [0, 1, 2]
    assert sorted(one.path for one in three.journal("s")) == ["1", "2", "3"]


def test_inside_other_workflows_and_steps(storage: SqliteStorage, calls: Calls) -> None:
    @workflow
    async def inner(ctx: Context, value: int) -> int:
        return await ctx.step(calls.plain, value) + await ctx.step(calls.plain, 1)

    @workflow(storage=storage)
    async def outer(ctx: Context) -> int:
        async def grouped() -> int:
            return await ctx.step(calls.later, 3)

        return await ctx.step(inner, 5) + await ctx.step(Step(grouped, name="group"))

    assert outer.run(session_id="s").output == 9
    assert [(one.name, one.path) for one in outer.journal("s")] == [
        ("plain", "1.1"),
        ("plain", "1.2"),
        ("inner", "1"),
        ("later", "2.1"),
        ("group", "2"),
    ]
    assert storage.get_session("s").run_count == 1  # type: ignore[union-attr]


def test_what_is_refused(storage: SqliteStorage, calls: Calls) -> None:
    @workflow(storage=storage)
    async def odd(ctx: Context, value: Any) -> Any:
        return await ctx.step(calls.plain, value)

    with pytest.raises(InvalidInputError, match="other arguments than it takes"):
        odd.run()
    with pytest.raises(InvalidInputError, match="argument 'value' cannot be kept"):
        odd.run(object())
    with pytest.raises(InvalidInputError, match="named session_id"):
        Workflow(lambda ctx, session_id: None, name="odd")
    with pytest.raises(InvalidInputError, match="first parameter"):
        Workflow(lambda: None, name="odd")
    with pytest.raises(InvalidInputError, match="either a function or steps"):
        Workflow()
    with pytest.raises(InvalidInputError, match="lambda has no name"):
        Step(lambda: 1)
    with pytest.raises(InvalidInputError, match="not a int"):
        Step(3)
    with pytest.raises(InvalidInputError, match="not tried again as a whole"):
        Step(odd, retry=Retry(on=ValueError))
    with pytest.raises(InvalidInputError, match="worth another attempt"):
        Retry(on=())
    for wait in (math.nan, math.inf, "1", -1, True, None, timedelta(seconds=-1)):
        for name in ("wait_initial", "wait_max", "wait_jitter"):
            with pytest.raises(InvalidInputError, match=f"{name} must be .* at least 0"):
                Retry(on=OSError, **{name: wait})  # type: ignore[arg-type]
    for base in (0.5, math.nan, math.inf, "2", True):
        with pytest.raises(InvalidInputError, match="wait_exp_base must be a number of at least 1"):
            Retry(on=OSError, wait_exp_base=base)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="must be a Retry, not 3"):
        Step(calls.plain, retry=3)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="version must be a string"):
        Step(calls.plain, version=2)  # type: ignore[arg-type]
    assert storage.sessions(user_id=ANY_USER).items == []
    assert calls == []


def test_output_that_cannot_be_kept(storage: SqliteStorage) -> None:
    """It is refused when the step ends, with the step's name."""

    def bad() -> Any:
        return {"deep": [object()]}

    @workflow(storage=storage)
    async def flow(ctx: Context) -> Any:
        return await ctx.step(bad)

    with pytest.raises(StepFailedError, match="What step 'bad' returned cannot be kept: it holds a object"):
        flow.run(session_id="s")
    assert flow.journal("s")[0].error["type"] == "InvalidStateError"  # type: ignore[index]


# ---------------------------------------------------------------- failing, and going on


def test_resuming_after_an_error(storage: SqliteStorage, calls: Calls) -> None:
    broken = [True]

    def maybe(value: int) -> int:
        return calls.broken(value) if broken[0] else calls.plain(value)

    @workflow(storage=storage)
    async def flow(ctx: Context, start: int) -> int:
        one = await ctx.step(calls.plain, start)
        return await ctx.step(maybe, one + 1)

    with pytest.raises(StepFailedError, match="Step 'maybe' has failed with ValueError: no 2") as caught:
        flow.run(1, session_id="s")
    assert isinstance(caught.value.__cause__, ValueError)
    assert (caught.value.step, caught.value.path, caught.value.error_type) == ("maybe", "2", "ValueError")
    run = storage.get_run("s", 1)
    assert (run.status, run.error["type"]) == ("failed", "StepFailedError")  # type: ignore[index]
    broken[0] = False
    result = flow.resume("s")
    assert (result.output, result.number, result.run_id) == (2, 1, run.run_id)
    assert calls == ["plain 1", "broken 2", "plain 2"]
    assert [(one.status, one.attempt) for one in flow.journal("s")] == [("finished", 1), ("failed", 1), ("finished", 2)]
    with pytest.raises(NotResumableError):
        flow.resume("s")


def test_a_failure_that_is_caught_stays_one(storage: SqliteStorage, calls: Calls) -> None:
    """Resumed, the workflow goes the same way: only what ended the run is tried again."""
    repaired: list[bool] = []

    @workflow(storage=storage)
    async def flow(ctx: Context) -> str:
        try:
            await ctx.step(calls.broken, "a")
        except StepFailedError as error:
            said = f"{error.error_type} in {error.step}"
        second = await ctx.step(calls.plain if repaired else calls.broken, "b")
        return f"{said}, {second}"

    with pytest.raises(StepFailedError, match="no b"):
        flow.run(session_id="s")
    repaired.append(True)  # another step where one has failed is no contradiction
    assert flow.resume("s").output == "ValueError in broken, b"
    assert calls == ["broken a", "broken b", "plain b"]


def test_errors_of_the_function_itself(storage: SqliteStorage, calls: Calls) -> None:
    """Also when the error comes out of a handler, or several fail at once."""
    ok: list[int] = []

    def maybe(value: int) -> int:
        if not ok:
            raise OSError("down")
        return calls.plain(value)

    @workflow(storage=storage)
    async def wrapping(ctx: Context) -> int:
        try:
            return await ctx.step(maybe, 1)
        except StepFailedError:
            raise RuntimeError("mine") from None

    @workflow(storage=storage)
    async def grouped(ctx: Context) -> int:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ctx.step(maybe, value)) for value in (1, 2)]
        return sum(task.result() for task in tasks)

    with pytest.raises(RuntimeError, match="mine"):
        wrapping.run(session_id="a")
    with pytest.raises(ExceptionGroup):
        grouped.run(session_id="b")
    ok.append(1)
    assert wrapping.resume("a").output == 1
    assert grouped.resume("b").output == 3


def test_of_another_workflow(storage: SqliteStorage, calls: Calls) -> None:
    @workflow(storage=storage)
    async def one(ctx: Context) -> int:
        return await ctx.step(calls.broken, 1)

    @workflow(storage=storage)
    async def two(ctx: Context) -> int:
        return await ctx.step(calls.broken, 1)

    with pytest.raises(StepFailedError):
        one.run(session_id="s")
    with pytest.raises(NotResumableError, match="is of workflow 'one'; this is workflow 'two'"):
        two.resume("s")
    with pytest.raises(SessionNotFoundError):
        one.resume("nothing")


def test_changed_code(storage: SqliteStorage, calls: Calls) -> None:
    steps = ["first", "second", "third"]

    @workflow(storage=storage)
    async def flow(ctx: Context) -> None:
        for name in steps:
            await ctx.step(Step(calls.broken if name == "third" else calls.plain, name), name)

    with pytest.raises(StepFailedError):
        flow.run(session_id="s")
    steps[1] = "other"
    with pytest.raises(WorkflowChangedError, match="step 2 was 'second'; the code now calls 'other' there"):
        flow.resume("s")
    assert storage.get_run("s", 1).status == "interrupted"
    steps[:] = ["first"]
    with pytest.raises(WorkflowChangedError, match="the code now ends before"):
        flow.resume("s")
    steps[:] = ["first", "second", "third"]
    with pytest.raises(StepFailedError):
        flow.resume("s")
    assert calls == ["plain first", "plain second", "broken third", "broken third"]


def test_a_step_where_parallel_branches_were(storage: SqliteStorage, calls: Calls) -> None:
    parallel = [True]

    @workflow(storage=storage)
    async def flow(ctx: Context) -> None:
        async def branch(value: int) -> None:
            await ctx.step(calls.plain, value)

        if parallel:
            await ctx.gather(branch(1), branch(2))
        else:
            await ctx.step(calls.plain, 3)
        await ctx.step(calls.broken, 0)

    with pytest.raises(StepFailedError):
        flow.run(session_id="s")
    parallel.clear()
    with pytest.raises(WorkflowChangedError, match="step 1 was 'gather'; the code now calls 'plain'"):
        flow.resume("s")
    assert sorted(calls) == ["broken 0", "plain 1", "plain 2"]


def test_a_change_on_purpose(storage: SqliteStorage, calls: Calls) -> None:
    """Runs that had gone beyond the change are replayed as they were; others, and new ones, do the new thing."""
    changed: list[bool] = []
    stop_at = ["c"]

    def step_named(name: str) -> Step[..., Any]:
        return Step(calls.broken if name in stop_at else calls.plain, name)

    @workflow(storage=storage)
    async def flow(ctx: Context) -> list[str]:
        done = [await ctx.step(step_named("a"), "a")]
        new = bool(changed) and ctx.patched("b2")
        done.append(await ctx.step(step_named("b2" if new else "b"), "b2" if new else "b"))
        done.append(await ctx.step(step_named("c"), "c"))
        return done

    with pytest.raises(StepFailedError):
        flow.run(session_id="beyond")
    stop_at[:] = ["a"]
    with pytest.raises(StepFailedError):
        flow.run(session_id="before")
    changed.append(True)
    stop_at[:] = ["c"]
    with pytest.raises(StepFailedError):
        flow.resume("beyond")
    with pytest.raises(StepFailedError):
        flow.resume("before")
    stop_at.clear()
    assert flow.resume("beyond").output == ["a", "b", "c"]
    assert flow.resume("before").output == ["a", "b2", "c"]
    assert flow.run().output == ["a", "b2", "c"]


# ---------------------------------------------------------------- ids


def test_a_run_id_of_ones_own(storage: SqliteStorage, calls: Calls) -> None:
    fail = [True]

    @workflow(storage=storage)
    async def flow(ctx: Context, value: int) -> int:
        await ctx.step(calls.plain, value)
        return await ctx.step(calls.broken if fail else calls.later, value + 1) if value else 0

    assert flow.run(0, session_id="s", run_id="zero").output == 0
    assert flow.run(0, session_id="s", run_id="zero").output == 0
    assert calls == ["plain 0"]
    with pytest.raises(StepFailedError):
        flow.run(1, session_id="s", run_id="one")
    with pytest.raises(StepFailedError):
        flow.run(1, session_id="s", run_id="one")
    assert calls == ["plain 0", "plain 1", "broken 2", "broken 2"]
    assert storage.get_session("s").run_count == 2  # type: ignore[union-attr]


async def test_the_same_run_id_at_once(storage: SqliteStorage, calls: Calls) -> None:
    """One of them does the work; the others are told that it is at work, or get its result."""

    @workflow(storage=storage)
    async def flow(ctx: Context) -> int:
        await asyncio.sleep(0.02)
        return await ctx.step(calls.later, 1)

    results = await asyncio.gather(
        *(flow.arun(session_id="s", run_id="once") for _ in range(8)), return_exceptions=True
    )
    done = [result for result in results if not isinstance(result, BaseException)]
    assert [result.output for result in done] == [1] * len(done) != []
    assert all(isinstance(result, NotResumableError) for result in results if isinstance(result, BaseException))
    assert calls == ["later 1"]


# ---------------------------------------------------------------- values that replay


def test_values_that_replay(storage: SqliteStorage) -> None:
    seen: list[Any] = []
    keys: list[str] = []
    fail = [True]

    def charge() -> None:
        keys.append(current_step().idempotency_key)
        if fail:
            raise ConnectionError("no answer")

    @workflow(storage=storage)
    async def flow(ctx: Context) -> None:
        values = [ctx.now(), ctx.random(), ctx.random(), ctx.uuid()]
        await ctx.step(Step(lambda: time.sleep(0.002), "sleep"))
        seen.append([*values, ctx.now(), ctx.uuid()])
        await ctx.step(Step(lambda: keys.append(ctx.idempotency_key), "key"))
        await ctx.step(charge)

    with pytest.raises(StepFailedError):
        flow.run(session_id="s")
    fail.clear()
    flow.resume("s")
    assert seen[0] == seen[1]
    start, one, two, made, later, other = seen[0]
    assert isinstance(start, datetime)
    assert start.tzinfo is UTC
    assert later > start
    assert isinstance(made, UUID)
    assert made != other
    assert 0 <= one < 1
    assert one != two
    key, first, second = keys
    assert first == second != key
    with pytest.raises(SessileError, match="no step here"):
        current_step()
