"""Waiting for other runs: one after the other, never for oneself, and not for ever.

Who waits for whom is known within this process. Of runs in other processes it is read from the database, every second
or so, by runs that are inside of others: only they can be waited for while they wait.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Collection, Generator, Iterable
from contextlib import contextmanager, suppress
from typing import NoReturn, TypeVar

from ..errors import SessionBusyError, StorageError
from ..storage import mutual
from ..storage.forking import Lock
from ..storage.storage import Storage, aoperate
from ..storage.uninterrupted import to_the_end
from .session import CurrentSession, runs_around, tops_around

logger = logging.getLogger("sessile")

R = TypeVar("R")

LONGEST_PAUSE = 0.5
"""The longest pause, in seconds, between two looks of a run that waits for another one to end."""

_waits: list[tuple[Collection[str], Collection[str]]] = []
"""Runs of this process, by their ids, and the runs that they wait for: they end only after these have ended."""

_lock = Lock()


async def in_turn(
    attempt: Callable[[], Awaitable[R]], storage: Storage, session_id: str, *, queue: bool, limit: float
) -> R:
    """What the attempt returns, when no other run of that session is in its way any more.

    Raises `SessionBusyError` if it is and nobody wants to wait (`queue` is false), if `limit` seconds are over, or if
    the code at hand would wait for itself: for a run that it is inside of, or that waits for one that it is inside of.
    """
    if not queue:
        return await attempt()
    until = time.monotonic() + limit
    pause = 0.02
    chain = _Chain(storage, session_id)
    try:
        while True:
            try:
                return await attempt()
            except SessionBusyError as error:
                busy = error
            with _waiting(busy):
                left = until - time.monotonic()
                if left <= 0:
                    busy.hint = f"It was waited for, for {limit:g} seconds. Try again later, or raise queue_timeout."
                    raise busy
                await asyncio.sleep(min(pause, left))
                await chain.follow(busy)
            pause = min(LONGEST_PAUSE, pause * 1.5)
    finally:
        await chain.forget()


class _Chain:
    """What the runs around the code at hand say of their waiting, and what they find out about others."""

    def __init__(self, storage: Storage, session_id: str) -> None:
        self._storage, self._session_id = storage, session_id
        self._around: list[CurrentSession] | None = None
        self._next = time.monotonic() + _soon()

    async def follow(self, busy: SessionBusyError) -> None:
        """Say for whom they wait, and raise the error if these wait for them; not more often than every second or so.

        Of two that find out at the same time, both are told; mostly one is earlier, and the other goes on.
        """
        if (now := time.monotonic()) < self._next:
            return
        self._next = now + _soon()
        self._around = tops_around()
        others = [(self._session_id, run_id) for run_id in busy.at_work]
        try:
            await self._say(others)
            reached = await aoperate(self._storage, mutual.waited_for, others) if self._around else set[str]()
        except StorageError as error:  # the next look may work
            logger.info("Who waits for whom could not be read: %s", error)
            return
        if any(one.run_id in reached for one in self._around):
            _refuse(busy)

    async def _say(self, others: list[mutual.Place] | None) -> None:
        for one in self._around or ():
            await aoperate(one.storage, mutual.say_waiting, (one.session_id, one.run_id), others)

    async def forget(self) -> None:
        """Say that they do not wait any more."""
        if self._around:
            with suppress(StorageError):  # what is not said again is not believed
                await to_the_end(self._say(None))


def _soon() -> float:
    return random.uniform(0.7, 1.3)


def _refuse(busy: SessionBusyError) -> NoReturn:
    """Raise that the code at hand would wait for itself."""
    busy.hint = "A run cannot wait for one that it is inside of, or that waits for it: use another session."
    busy.retryable = False
    raise busy


@contextmanager
def _waiting(busy: SessionBusyError) -> Generator[None]:
    """Note for whom the runs around the code at hand wait. Raises the error if that would never end."""
    entry = (runs_around(), frozenset(busy.at_work))
    with _lock:
        if _reached(busy.at_work) & entry[0]:
            _refuse(busy)
        _waits.append(entry)
    try:
        yield
    finally:
        with _lock:
            _waits.remove(entry)


def _reached(runs: Iterable[str]) -> set[str]:
    """These runs, and all that they wait for."""
    reached: set[str] = set()
    queue = list(runs)
    while queue:
        run = queue.pop()
        if run not in reached:
            reached.add(run)
            queue.extend(other for waiting, others in _waits if run in waiting for other in others)
    return reached
