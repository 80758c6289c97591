"""Runs in the background: begun here, and followed, cancelled and collected by any process that knows their numbers."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

from ..errors import SessileError
from ..live.result import RunResult
from ..records import Entry, Run, UserId
from ..storage import progress
from ..storage.checks import check_seconds
from ..storage.faces import kept
from ..storage.storage import Storage, aoperate, operate
from .run.job import Job

logger = logging.getLogger("sessile")

POLL = 0.25
"""Seconds between two looks whether a run has ended."""


@dataclass(frozen=True, slots=True)
class StartedRun:
    """A run that is running somewhere, or was: `Agent.start` gives it, and `Agent.attach` in any other process.

    Attributes:
        storage: where it is stored.
        session_id, run_number, user_id: which run of whose session.
    """

    storage: Storage
    session_id: str
    run_number: int
    user_id: UserId = None

    def get(self) -> Run:
        """The run as it is stored now: status, output, error, usage. Raises as `Storage.get_run`."""
        return self.storage.get_run(self.session_id, self.run_number, user_id=self.user_id)

    async def aget(self) -> Run:
        """As `get`, for asynchronous callers."""
        return await self.storage.aget_run(self.session_id, self.run_number, user_id=self.user_id)

    def collect(self, within: float | None = None) -> Run:
        """The run when nobody works on it any more: it has ended, waits for a decision, or was interrupted.

        Args:
            within: for how many seconds at most. Default: for as long as it takes.

        Raises:
            TimeoutError: it is still running.
            SessileError: as `Storage.get_run`.
        """
        until = _until(within)
        while operate(self.storage, progress.is_at_work, self.session_id, self.run_number, self.user_id):
            _check_time(until)
            time.sleep(POLL)
        return self.get()

    async def acollect(self, within: float | None = None) -> Run:
        """As `collect`, for asynchronous callers."""
        until = _until(within)
        while await aoperate(self.storage, progress.is_at_work, self.session_id, self.run_number, self.user_id):
            _check_time(until)
            await asyncio.sleep(POLL)
        return await self.aget()

    def follow(self) -> Iterator[Entry]:
        """What the log has of the run, from its beginning, and then as it is committed, until nobody works on it.

        With `durability="step"` that is each response and each call of a tool as it happens.
        """
        after = 0
        while True:
            news = operate(self.storage, progress.run_news, self.session_id, self.run_number, after, self.user_id)
            yield from news.entries
            if not news.more:
                return
            if news.after == after:
                time.sleep(POLL)
            after = news.after

    async def afollow(self) -> AsyncIterator[Entry]:
        """As `follow`, for asynchronous callers."""
        after = 0
        while True:
            arguments = (self.session_id, self.run_number, after, self.user_id)
            news = await aoperate(self.storage, progress.run_news, *arguments)
            for entry in news.entries:
                yield entry
            if not news.more:
                return
            if news.after == after:
                await asyncio.sleep(POLL)
            after = news.after

    def cancel(self) -> bool:
        """Ask whoever works on it to stop; returns whether there is one. See `Storage.cancel_run`."""
        return self.storage.cancel_run(self.session_id, self.run_number, user_id=self.user_id)

    async def acancel(self) -> bool:
        """As `cancel`, for asynchronous callers."""
        return await self.storage.acancel_run(self.session_id, self.run_number, user_id=self.user_id)


def _until(within: float | None) -> float | None:
    if within is None:
        return None
    check_seconds(within, "within")
    return time.monotonic() + within


def _check_time(until: float | None) -> None:
    if until is not None and time.monotonic() > until:
        raise TimeoutError("The run is still running.")


async def begin(
    storage: Storage, user_id: UserId, job: Job, work: Callable[[], Coroutine[Any, Any, RunResult[Any]]]
) -> StartedRun:
    """Let a run work on this event loop, and return when its start is committed. What keeps it from it is raised."""
    begun: asyncio.Future[tuple[str, int]] = asyncio.get_running_loop().create_future()

    def told(session_id: str, run_id: str, number: int) -> None:
        if not begun.done():
            begun.set_result((session_id, number))

    job.begun = told
    task = kept(asyncio.get_running_loop().create_task(work()))
    await asyncio.wait([task, begun], return_when=asyncio.FIRST_COMPLETED)
    if begun.done():
        session_id, number = begun.result()
        task.add_done_callback(_ended)
    else:  # it has not begun; or it was done before, under the same id
        result = await task
        session_id, number = result.session_id, result.number
    return StartedRun(storage, session_id, number, user_id)


def _ended(task: asyncio.Task[Any]) -> None:
    """Look at what a run has raised, which is stored with it: nobody else does."""
    error = None if task.cancelled() else task.exception()
    if isinstance(error, SessileError):
        logger.warning("A run in the background could not be stored: %s", error)
