"""Runs of a workflow that go by what earlier runs of their session have come to."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
from pydantic_ai.models.test import TestModel

from sessile import Agent, Context, SqliteStorage, SyncContext, workflow
from sessile.errors import InvalidInputError, StepFailedError, WorkflowChangedError


class Report(NamedTuple):
    """What a run returns."""

    day: int
    total: int


def make(storage: SqliteStorage, *, fails: list[bool] | None = None) -> Any:
    def total(day: int, before: int) -> int:
        return day + before

    def fragile() -> None:
        if fails and fails.pop(0):
            raise ConnectionError("gone")

    @workflow(storage=storage, name="daily")
    async def daily(ctx: Context, day: int) -> Report:
        before = await ctx.last_output(Report(0, 0))
        summed = await ctx.step(total, day, before.total)
        await ctx.step(fragile)
        return Report(day, summed)

    return daily


def test_a_run_goes_on_from_what_the_last_one_returned(storage: SqliteStorage) -> None:
    daily = make(storage)
    assert [daily.run(day, session_id="s", user_id="ada").output for day in (1, 2, 3)] == [
        Report(1, 1),
        Report(2, 3),
        Report(3, 6),
    ]
    steps = daily.journal("s", user_id="ada")
    assert [step.name for step in steps] == ["earlier runs", "total", "fragile"]
    (read,) = steps[0].output
    assert (read.number, read.output, read.input, read.agent) == (2, Report(2, 3), {"day": 2}, "daily")
    assert daily.run(4, session_id="t", user_id="ada").output == Report(4, 4)  # another session's are its own


def test_a_replay_finds_what_was_read_whatever_has_happened_since(storage: SqliteStorage, path: Path) -> None:
    daily = make(storage)
    daily.run(1, session_id="s")
    broken = make(storage, fails=[True])
    with pytest.raises(StepFailedError):
        broken.run(2, session_id="s")
    make(storage).run(10, session_id="s")
    storage.erase_run("s", 1)
    with SqliteStorage(path) as other:
        result = make(other).resume("s", run_number=2)
    assert (result.number, result.output) == (2, Report(2, 3))


def test_what_was_rewound_is_not_earlier(storage: SqliteStorage) -> None:
    daily = make(storage)
    for day in (1, 2):
        daily.run(day, session_id="s")
    storage.rewind("s", at=1)
    assert daily.run(5, session_id="s").output == Report(5, 6)
    copy = storage.fork("s")
    assert daily.run(1, session_id=copy.session_id).output == Report(1, 7)


def test_results_of_steps_and_runs_of_others_come_along(storage: SqliteStorage) -> None:
    writer = Agent(TestModel(custom_output_text="a poem"), name="writer", storage=storage)
    seen: list[Any] = []

    def outline(topic: str) -> dict[str, Any]:
        return {"about": topic}

    @workflow(storage=storage)
    def flow(ctx: SyncContext, topic: str) -> str:
        seen.append([(run.output, run.steps) for run in ctx.earlier_runs(2, steps=["outline"])])
        seen.append(ctx.last_output("none yet", agent="writer"))
        ctx.step(outline, topic)
        return topic

    for topic in ("rain", "sun", "snow"):
        flow.run(topic, session_id="s")
        writer.run("Write.", session_id="s")
    assert seen[::2] == [
        [],
        [("rain", {"outline": {"about": "rain"}})],
        [("rain", {"outline": {"about": "rain"}}), ("sun", {"outline": {"about": "sun"}})],
    ]
    assert seen[1::2] == ["none yet", "a poem", "a poem"]


def test_failed_runs_are_passed_over_and_others_numbers_are_a_change(storage: SqliteStorage) -> None:
    with pytest.raises(StepFailedError):
        make(storage, fails=[True]).run(1, session_id="s")
    assert make(storage).run(2, session_id="s").output == Report(2, 2)
    last = 1

    @workflow(storage=storage, name="other")
    async def other(ctx: Context) -> int:
        found = await ctx.earlier_runs(last)
        await ctx.wait_for_event("go")
        return len(found)

    other.run(session_id="o")
    last = 2
    with pytest.raises(WorkflowChangedError):
        other.send_event("o", "go")
    for wrong in ({"last": 0}, {"last": 101}, {"steps": "outline"}, {"agent": ""}):

        @workflow(storage=storage, name="wrong")
        async def refused(ctx: Context, given: dict[str, Any]) -> Any:
            return await ctx.earlier_runs(**given)

        with pytest.raises(InvalidInputError):
            refused.run(wrong, session_id="w")
