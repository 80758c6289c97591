"""Operations of asynchronous callers on the event loop itself: which, for how long, and what of them goes to threads.

The way to a thread and back takes 0.1 ms to 0.3 ms, of which most is waiting for another processor that has gone to
sleep. A write to a quick disk takes less. So an operation may begin on the event loop, and is ended there, unless it
would wait or work for long: then a thread does the rest (`leaving`).

What is begun here is not interrupted: by no task, because it never suspends, and by no handler of signals, which are
called afterwards (`deferring`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from .deferring import deferred
from .leaving import begun, has_written, went_on
from .threads import Worker

R = TypeVar("R")

QUICK = 0.002
"""Seconds that an operation takes on average at most, for others to begin on the loop as well.

Where a write takes longer, the way to a thread is a small part of it, and threads write for several sessions at once.
"""

COUNTED = 4 * QUICK
"""As how many seconds one operation counts at most: a single one that met a checkpoint is not the disk's pace."""

WEIGHT = 1 / 16
"""What the newest operation weighs in the average."""

PAUSE = 1.0
"""For how many seconds all is done in threads when that is exceeded."""

TURN = 0.001
"""For how many seconds operations follow each other before all other tasks have their turn."""


class Pace:
    """How long operations of one kind take: reads, or writes."""

    __slots__ = ("_mean", "_slow_until")

    def __init__(self) -> None:
        self._mean = self._slow_until = 0.0

    def is_quick(self, now: float) -> bool:
        """Whether one may be done on the loop."""
        return now >= self._slow_until

    def took(self, seconds: float, now: float) -> None:
        """Take note of one that was done there."""
        self._mean += WEIGHT * (min(seconds, COUNTED) - self._mean)
        if self._mean > QUICK:
            self._mean = QUICK  # after the pause one that is slow is enough for the next
            self._slow_until = now + PAUSE


class _Turn(threading.local):
    """Until when operations may follow each other on this thread's event loop."""

    until = 0.0


class OnLoop:
    """What one storage does on event loops, whichever they are.

    Args:
        workers: the threads of operations of each kind that may be done there; those of other kinds never are.
    """

    def __init__(self, *workers: Worker) -> None:
        self._paces = {worker: Pace() for worker in workers}
        self._turn = _Turn()

    def may_begin(self, worker: Worker) -> bool:
        """Whether an operation for these threads may begin on the running event loop."""
        pace = self._paces.get(worker)
        return pace is not None and pace.is_quick(time.monotonic())

    async def run(self, operation: Callable[[], Coroutine[Any, Any, R]], worker: Worker) -> R:
        """The result of an operation, done here or, from where it would wait on, by one of these threads.

        A cancellation is raised before it begins, or by whatever the caller awaits next.
        """
        if time.monotonic() >= self._turn.until:
            import asyncio

            await asyncio.sleep(0)
            self._turn.until = time.monotonic() + TURN
        coroutine = operation()
        began = time.monotonic()
        try:
            done = deferred(partial(begun, coroutine))
            if done is not None:
                now = time.monotonic()
                self._paces[worker].took(now - began, now)
                return done[0]
        except BaseException:
            if _is_suspended(coroutine):  # a handler of signals has raised after it has left: it is still done
                worker.submit(partial(_finished, coroutine))
            raise
        return await worker.run(partial(went_on, coroutine), withdrawable=not has_written())


def _is_suspended(coroutine: Coroutine[Any, Any, object]) -> bool:
    return getattr(coroutine, "cr_frame", None) is not None


def _finished(coroutine: Coroutine[Any, Any, object]) -> Callable[[], object]:
    """Do an operation to its end for which nobody waits."""
    with suppress(BaseException):
        went_on(coroutine)
    return bool
