"""A run without a storage: it has a session while it lasts, and nothing is kept of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from ..live.result import RunResult
from ..storage import open_storage
from ..storage.storage import Storage
from .run.job import Job


async def run_alone(run: Callable[[Storage], Awaitable[RunResult[Any]]], job: Job) -> RunResult[Any]:
    """Let a run work in a storage of its own, in memory; its number, and those of the runs below it, are 0."""
    if (begun := job.begun) is not None:
        job.begun = lambda session_id, run_id, number: begun(session_id, run_id, 0)
    async with open_storage("memory://") as storage:
        result = await run(storage)
    for each in _with_members(result):
        each.number = 0
    return result


def _with_members(result: RunResult[Any]) -> Iterator[RunResult[Any]]:
    yield result
    for member in result.members:
        yield from _with_members(member)
