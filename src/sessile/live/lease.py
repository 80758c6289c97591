"""The lease of a run in progress: renewed as long as the process lives."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

from ..errors import LeaseLostError, StorageError
from ..storage.hearing import Key, listen, unlisten

logger = logging.getLogger("sessile")

LOOK_SECONDS = 0.75
"""How often a run in progress looks whether somebody has asked to cancel it: it is to have ended within a second."""


class KeptAlive:
    """Renews a run's lease at a third of its time, and stops the run if it was asked to or has lost the lease.

    A context manager on the event loop of the run. Whether it was asked it sees within a second, and at once if that
    was done in this process.
    """

    def __init__(
        self,
        lease: float,
        place: Key,
        renew_lease: Callable[[], Awaitable[bool]],
        is_asked: Callable[[], Awaitable[bool]],
        stop: Callable[[], Any],
    ) -> None:
        self._interval, self._place, self._stop = lease / 3, place, stop
        self._renew_lease, self._is_asked = renew_lease, is_asked
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended = False

    def __enter__(self) -> None:
        self._loop = asyncio.get_running_loop()
        now = self._loop.time()
        self._due = now + self._interval
        self._wait(now)
        listen(self._place, self._heard)

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._ended = True
        unlisten(self._place, self._heard)
        self._next.cancel()
        for task in self._tasks:
            task.cancel()

    def _heard(self) -> None:
        """Somebody in this process, in whatever thread, has asked to cancel the run."""
        with suppress(RuntimeError):  # the loop is closed: nobody works there any more
            self._loop.call_soon_threadsafe(self._begin, self._look)

    def _wait(self, now: float) -> None:
        self._next = self._loop.call_at(min(now + LOOK_SECONDS, self._due), self._beat)

    def _beat(self) -> None:
        now = self._loop.time()
        if now >= self._due:
            self._begin(self._renew)
            self._due = now + self._interval
        self._begin(self._look)  # in any case: a renewal writes, and may wait for longer
        self._wait(now)

    def _begin(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if not self._ended:
            task = self._loop.create_task(work())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _renew(self) -> None:
        try:
            if await self._renew_lease():
                self._stop()
        except LeaseLostError:
            self._stop()
        except StorageError as error:  # the next renewal may work; the lease holds until then
            logger.warning("The lease of run %s could not be renewed: %s", self._place[1], error)

    async def _look(self) -> None:
        try:
            if await self._is_asked():
                await self._renew()
        except StorageError as error:  # the next look may work
            logger.info("Whether run %s is to be cancelled could not be read: %s", self._place[1], error)
