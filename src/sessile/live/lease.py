"""The lease of a run in progress: renewed as long as the process lives."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import contextmanager, suppress
from typing import Any

from ..errors import LeaseLostError, StorageError
from ..storage.hearing import Key, listening

logger = logging.getLogger("sessile")

LOOK_SECONDS = 0.75
"""How often a run in progress looks whether somebody has asked to cancel it: it is to have ended within a second."""


@contextmanager
def kept_alive(
    lease: float,
    place: Key,
    renew_lease: Callable[[], Awaitable[bool]],
    is_asked: Callable[[], Awaitable[bool]],
    stop: Callable[[], Any],
) -> Generator[None]:
    """Renew a run's lease at a third of its time, and stop the run if it was asked to or has lost the lease.

    Whether it was asked it sees within a second, and at once if that was done in this process.
    """
    heart = _Heart(lease / 3, place[1], renew_lease, is_asked, stop)
    try:
        with listening(place, heart.heard):
            yield
    finally:
        heart.end()


class _Heart:
    """What beats while a run is in progress, on its event loop."""

    def __init__(
        self,
        interval: float,
        run: int,
        renew_lease: Callable[[], Awaitable[bool]],
        is_asked: Callable[[], Awaitable[bool]],
        stop: Callable[[], Any],
    ) -> None:
        self._interval, self._run, self._stop = interval, run, stop
        self._renew_lease, self._is_asked = renew_lease, is_asked
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended = False
        self._next_beat = self._loop.call_later(interval, self._beat)
        self._next_look = self._loop.call_later(LOOK_SECONDS, self._glance)

    def heard(self) -> None:
        """Somebody in this process, in whatever thread, has asked to cancel the run."""
        with suppress(RuntimeError):  # the loop is closed: nobody works there any more
            self._loop.call_soon_threadsafe(self._begin, self._look)

    def end(self) -> None:
        """Beat no more."""
        self._ended = True
        self._next_beat.cancel()
        self._next_look.cancel()
        for task in self._tasks:
            task.cancel()

    def _beat(self) -> None:
        self._begin(self._renew)
        self._next_beat = self._loop.call_later(self._interval, self._beat)

    def _glance(self) -> None:
        self._begin(self._look)
        self._next_look = self._loop.call_later(LOOK_SECONDS, self._glance)

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
            logger.warning("The lease of run %s could not be renewed: %s", self._run, error)

    async def _look(self) -> None:
        try:
            if await self._is_asked():
                await self._renew()
        except StorageError as error:  # the next look may work
            logger.info("Whether run %s is to be cancelled could not be read: %s", self._run, error)
