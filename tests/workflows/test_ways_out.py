"""What the function of a workflow does when it is left: on a pause, an interruption, a failure; and changed code."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart
from pydantic_ai.models.function import FunctionModel
from tests.agents.resume_tools import wait_until
from tests.workflows.calls import Calls

from sessile import (
    Agent,
    Condition,
    Context,
    Loop,
    Parallel,
    Retry,
    Router,
    SqliteStorage,
    Step,
    SyncContext,
    Wait,
    Workflow,
    workflow,
)
from sessile.errors import (
    EventTimeoutError,
    InvalidInputError,
    NotResumableError,
    StepFailedError,
    WorkflowChangedError,
)

SOON = 1.0
"""Seconds that a wait lasts: more than a slow machine takes from the run's begin to the wait."""


def saying(*texts: str) -> FunctionModel:
    """A model that says these texts, one after the other, and the last one from then on."""
    left = list(texts)

    def answer(messages: list[ModelMessage], info: Any) -> ModelResponse:
        return ModelResponse(parts=[TextPart(left.pop(0) if len(left) > 1 else left[0])])

    return FunctionModel(answer)


# ---------------------------------------------------------------- finally


def test_a_pause_begins_nothing_more(storage: SqliteStorage, calls: Calls) -> None:
    @workflow(storage=storage)
    async def flow(ctx: Context) -> Any:
        await ctx.step(calls.plain, "lock")
        try:
            return await ctx.wait_for_event("go")
        finally:
            await ctx.step(calls.plain, "unlock")

    @workflow(storage=storage)
    def plain(ctx: SyncContext) -> Any:
        try:
            return ctx.wait_for_event("go")
        except BaseException:
            ctx.step(calls.plain, "gave up")
            raise

    assert flow.run(session_id="s").status == "paused"
    assert plain.run(session_id="t").status == "paused"
    assert calls == ["plain lock"]
    assert flow.send_event("s", "go", 1).output == 1
    assert calls == ["plain lock", "plain unlock"]
    assert plain.send_event("t", "go", 1).output == 1


def test_a_pause_that_is_swallowed_is_a_pause(storage: SqliteStorage) -> None:
    @workflow(storage=storage)
    async def flow(ctx: Context) -> Any:
        try:
            return await ctx.wait_for_event("go")
        except BaseException:  # noqa: BLE001 (what is tested)
            return "swallowed"

    assert flow.run(session_id="s").status == "paused"
    assert flow.send_event("s", "go", 1).output == 1


@pytest.mark.parametrize("limit", [None, 0.2])
async def test_an_interruption_begins_nothing_more(storage: SqliteStorage, calls: Calls, limit: float | None) -> None:
    """A step that stands where another one will stand would keep the run from ever going on."""
    hang, begun = asyncio.Event(), asyncio.Event()

    async def work() -> str:
        calls.append("work")
        begun.set()
        await hang.wait()
        return "worked"

    @workflow(storage=storage, timeout=limit)
    async def flow(ctx: Context) -> Any:
        try:
            worked = await ctx.step(work)
            return [worked, await ctx.step(calls.plain, "more")]
        finally:
            await ctx.step(calls.plain, "cleanup")

    task = asyncio.ensure_future(flow.arun(session_id="s"))
    await begun.wait()
    if limit is None:
        task.cancel()
    with pytest.raises((asyncio.CancelledError, TimeoutError)):
        await task
    assert storage.runs("s")[0].status == ("failed" if limit else "interrupted")
    hang.set()
    assert (await flow.aresume("s")).output == ["worked", "more"]
    assert calls == ["work", "work", "plain more", "plain cleanup"]


def test_what_was_done_because_a_step_had_failed_gives_way(storage: SqliteStorage, calls: Calls) -> None:
    """Resumed, the step succeeds, and others stand where those of the way out stood; these are done when it is time."""
    broken = [True]
    keys: dict[str, list[str]] = {}

    def charge(value: str) -> str:
        if broken:
            raise ConnectionError(value)
        return calls.plain(value)

    @workflow(storage=storage)
    async def flow(ctx: Context) -> list[Any]:
        done = [await ctx.step(calls.plain, "lock")]
        try:
            done.append(await ctx.step(charge, "charge"))
            done.append(await ctx.step(note, "ship"))
        finally:
            await ctx.step(note, "unlock")
        return done

    def note(value: str) -> str:
        from sessile import current_step

        keys.setdefault(value, []).append(current_step().idempotency_key)
        return calls.plain(value)

    with pytest.raises(StepFailedError):
        flow.run(session_id="s")
    assert calls == ["plain lock", "plain unlock"]
    broken.clear()
    assert flow.resume("s").output == ["lock", "charge", "ship"]
    assert calls == ["plain lock", "plain unlock", "plain charge", "plain ship", "plain unlock"]
    assert len({key for seen in keys.values() for key in seen}) == 3  # no step is taken for another one by a service


def test_a_failure_that_was_handled_stays(storage: SqliteStorage, calls: Calls) -> None:
    @workflow(storage=storage)
    async def flow(ctx: Context) -> Any:
        try:
            await ctx.step(calls.broken, "first")
        except StepFailedError:
            await ctx.step(calls.plain, "instead")
        return await ctx.step(calls.broken, "second")

    for begin in (lambda: flow.run(session_id="s"), lambda: flow.resume("s")):
        with pytest.raises(StepFailedError, match="no second"):
            begin()
    assert calls == ["broken first", "plain instead", "broken second", "broken second"]


# ---------------------------------------------------------------- waiting for some time


def test_a_wait_that_lasts_too_long(storage: SqliteStorage) -> None:
    @workflow(storage=storage)
    async def flow(ctx: Context) -> Any:
        try:
            return await ctx.wait_for_event("answer", timeout=SOON)
        except TimeoutError:
            return "no answer"

    paused = flow.run(session_id="s")
    assert (paused.status, paused.waiting_for) == ("paused", ("answer",))
    assert paused.waiting_until is not None
    due = paused.waiting_until
    assert storage.runs("s")[0].started_at < due
    wait_until(lambda: datetime.now(UTC) > due)
    assert flow.resume("s").output == "no answer"
    assert [(step.name, step.status) for step in flow.journal("s")] == [("wait for answer", "failed")]


def test_a_wait_that_ends_the_run_is_looked_at_again(storage: SqliteStorage) -> None:
    flow: Workflow[Any] = Workflow(steps=[Wait("answer", timeout=SOON)], storage=storage)
    due = flow.run(session_id="s").waiting_until
    wait_until(lambda: due is not None and datetime.now(UTC) > due)
    for _ in range(2):
        with pytest.raises(EventTimeoutError, match="'answer' was not sent in time"):
            flow.resume("s")
    assert flow.send_event("s", "answer", 42).output == 42


def test_the_event_that_comes_in_time(storage: SqliteStorage) -> None:
    flow: Workflow[Any] = Workflow(steps=[Wait("answer", timeout=3600)], storage=storage)
    flow.run(session_id="s")
    with pytest.raises(NotResumableError, match="waits for 'answer'"):
        flow.resume("s")
    assert flow.send_event("s", "answer", 42).output == 42
    with pytest.raises(InvalidInputError, match="timeout must be a number of seconds above 0"):
        Wait("answer", timeout=0)


def test_an_event_that_is_delivered_twice(storage: SqliteStorage) -> None:
    @workflow(storage=storage)
    async def flow(ctx: Context) -> list[Any]:
        return [await ctx.wait_for_event("paid"), await ctx.wait_for_event("paid")]

    flow.run(session_id="s")
    for _ in range(2):
        assert flow.send_event("s", "paid", {"a": 1, "b": 2}, id="webhook-1").status == "paused"
    with pytest.raises(InvalidInputError, match="with another name or value"):
        flow.send_event("s", "paid", {"a": 2}, id="webhook-1")
    assert flow.send_event("s", "paid", 2, id="webhook-2").output == [{"a": 1, "b": 2}, 2]
    assert flow.send_event("s", "paid", 2, id="webhook-2").status == "completed"  # also when the run is over


# ---------------------------------------------------------------- what decides


def test_a_choice_that_is_no_route_is_made_again(storage: SqliteStorage, calls: Calls) -> None:
    chooser = Agent(saying("Klingon", "No idea", " English. "), name="chooser")
    routes = {"english": Step(calls.plain, "here")}
    flow: Workflow[Any] = Workflow(steps=[Router(chooser, routes)], storage=storage)
    for chosen in ("Klingon", "No idea"):
        with pytest.raises(StepFailedError, match=f"has chosen '{chosen}'; the routes are 'english'"):
            flow.resume("s") if calls or storage.get_session("s") else flow.run("q", session_id="s")
    assert flow.resume("s").output == "q"
    trying = Step(Agent(saying("Klingon", "english"), name="chooser"), retry=Retry(on=InvalidInputError, wait_max=0))
    assert Workflow(steps=[Router(trying, routes)], storage=storage).run("q").output == "q"


@pytest.mark.parametrize(
    ("answer", "way"),
    [("no", "otherwise"), ("No, it is not.", "otherwise"), ("Yes!", "then"), ("**false**", "otherwise")],
)
def test_what_an_agent_says_about_a_condition(storage: SqliteStorage, answer: str, way: str) -> None:
    then, otherwise = (Step(_constant(name), name) for name in ("then", "otherwise"))
    judge = Agent(saying(answer), name="judge")
    assert Workflow(steps=[Condition(judge, then, otherwise)], storage=storage).run("q").output == way


def _constant(name: str) -> Any:
    def constant(_: Any) -> str:
        return name

    return constant


def _boxed(value: Any) -> dict[str, Any]:
    return {"x": value}


def test_an_agent_that_does_not_decide(storage: SqliteStorage, calls: Calls) -> None:
    judge = Agent(saying("Well, maybe", "not yet: no", "No", "yes"), name="judge")
    flow: Workflow[Any] = Workflow(steps=[Loop(Step(calls.plain, "work"), until=judge)], storage=storage)
    for _ in range(2):
        with pytest.raises(StepFailedError, match="must begin with yes or no"):
            flow.resume("s") if storage.get_session("s") else flow.run("q", session_id="s")
    assert flow.resume("s").output == "q"
    assert calls == ["plain q"] * 2


def test_an_agent_is_given_the_results_of_branches(storage: SqliteStorage) -> None:
    def repeats(messages: list[ModelMessage], info: Any) -> ModelResponse:
        return ModelResponse(parts=[TextPart(str(messages[-1].parts[-1].content))])  # type: ignore[union-attr]

    writer = Agent(FunctionModel(repeats), name="writer")
    both = Parallel(one=Step(_constant("1"), "one"), two=Step(_boxed, "two"))
    flow: Workflow[Any] = Workflow(steps=[both, writer], storage=storage)
    assert flow.run("q").output == '{"one": "1", "two": {"x": "q"}}'


# ---------------------------------------------------------------- code that has changed, classes that have moved


def test_steps_of_one_name_in_another_order(storage: SqliteStorage, calls: Calls) -> None:
    order = ["the rent", "the tax"]
    broken = [True]

    def book(value: str) -> str:
        return calls.plain(value)

    def end(*paid: str) -> str:
        if broken:
            raise ConnectionError
        return " and ".join(paid)

    @workflow(storage=storage)
    async def flow(ctx: Context) -> str:
        return await ctx.step(end, *[await ctx.step(book, what) for what in order])

    with pytest.raises(StepFailedError):
        flow.run(session_id="s")
    order.reverse()
    with pytest.raises(WorkflowChangedError, match="step 1, 'book', was called with other inputs than now"):
        flow.resume("s")
    order.reverse()
    broken.clear()
    assert flow.resume("s").output == "the rent and the tax"
    assert calls == ["plain the rent", "plain the tax"]


def test_inputs_without_a_json_form_do_not_matter(storage: SqliteStorage, calls: Calls) -> None:
    broken = [True]

    def call(client: object, value: int) -> int:
        if broken:
            raise ConnectionError
        return calls.plain(value)

    @workflow(storage=storage)
    async def flow(ctx: Context) -> int:
        first = await ctx.step(calls.plain, 1)
        return await ctx.step(call, object(), first)

    with pytest.raises(StepFailedError):
        flow.run(session_id="s")
    broken.clear()
    assert flow.resume("s").output == 1


APP = """
import os, sys
from pydantic import BaseModel
from sessile import Context, SqliteStorage, workflow

class Order(BaseModel):
    number: int

def load() -> Order:
    return Order(number=3)

def charge(order: Order) -> int:
    if __name__ == "__main__":
        os._exit(9)
    return order.number

@workflow(storage=SqliteStorage(sys.argv[1], lease=0.2))
async def handle(ctx: Context) -> int:
    return await ctx.step(charge, await ctx.step(load))

if __name__ == "__main__":
    handle.run(session_id="s")
"""

WORKER = """
import time
from app import Order, handle
while handle.storage.runs("s")[0].status == "running":
    time.sleep(0.01)
assert isinstance(handle.journal("s")[0].output, Order)
print(handle.resume("s").output)
"""


def test_a_class_of_the_program_that_was_started(path: Path, tmp_path: Path) -> None:
    """Others import that program under its name, and find the class there."""
    for name, text in (("app.py", APP), ("worker.py", WORKER)):
        (tmp_path / name).write_text(text)
    assert subprocess.run([sys.executable, str(tmp_path / "app.py"), str(path)], check=False).returncode == 9
    worker = [sys.executable, str(tmp_path / "worker.py"), str(path)]
    assert subprocess.run(worker, check=True, capture_output=True, text=True).stdout == "3\n"


def test_who_waits_can_be_cancelled(storage: SqliteStorage, calls: Calls) -> None:
    flow: Workflow[Any] = Workflow(steps=[Wait("go"), Step(calls.plain, "work")], storage=storage)
    flow.run(session_id="s")
    assert storage.cancel_run("s") is True
    with pytest.raises(NotResumableError):
        flow.send_event("s", "go", 1)
    assert (storage.runs("s")[0].status, calls) == ("cancelled", [])
