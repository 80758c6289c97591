"""Operations of asynchronous callers on the event loop itself: which, for how long, and what of them goes to threads.

The way to a thread and back takes 0.1 ms to 0.3 ms, of which most is waiting for another processor that has gone to
sleep. A write to a quick disk takes less. So an operation may begin on the event loop, and is ended there, unless it
would wait or work for long: then a thread does the rest (`leaving`).

What is begun here is not interrupted by handlers of signals, which are called afterwards (`deferring`). It suspends
only before a commit, where other tasks are about to commit as well (`gathering`), or in order to leave.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from .deferring import deferred
from .leaving import Gathered, WouldWait, begun, has_written, went_on
from .pace import Pace
from .threads import Worker

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from .gathering import Gathering

R = TypeVar("R")

QUICK = 0.002
"""Seconds that an operation takes on average at most, for others to begin on the loop as well.

Where a write takes longer, the way to a thread is a small part of it, and threads write for several sessions at once.
"""

TURN, ROUND = 0.001, 0.01
"""For how many seconds operations of one task, and of all, follow each other before all others have their turn."""

OTHERS = 0.002
"""How many seconds ago another task has begun an operation at most, for commits to be gathered (`gathering`)."""


class _Turn(threading.local):
    """Of the event loop of this thread: how long operations have followed each other, and whether of several tasks."""

    task = 0
    """By its address: which task has begun the last one."""
    began = 0.0
    """When that was."""
    other = 0.0
    """When another task has begun one before it."""
    until = until_round = 0.0
    """When the task's turn is over, and that of all."""
    over = True
    """Whether all tasks that were ready have had their turn since these began."""

    def __init__(self) -> None:
        self._context = Context()  # what ends a turn needs none of anybody's

    async def begin(self) -> float:
        """Begin an operation, after all others have had their turn if it is time for that; the time by then."""
        import asyncio

        task, now = id(asyncio.current_task()), time.monotonic()
        if not self.over and (now >= self.until_round or (task == self.task and now >= self.until)):
            await asyncio.sleep(0)
            now, self.over = time.monotonic(), True
        if task != self.task:
            self.task, self.other, self.until = task, self.began, now + TURN
        if self.over:
            self.over, self.until, self.until_round = False, now + TURN, now + ROUND
            asyncio.get_running_loop().call_soon(self._end, context=self._context)
        self.began = now
        return now

    def _end(self) -> None:
        self.over = True

    def others(self) -> bool:
        """Whether other tasks have just begun operations."""
        return self.began - self.other < OTHERS


class OnLoop:
    """What one storage does on event loops, whichever they are.

    Args:
        workers: the threads of operations of each kind that may be done there; those of other kinds never are.
    """

    def __init__(self, *workers: Worker) -> None:
        self._paces = {worker: Pace() for worker in workers}
        self._turn = _Turn()
        self._gatherings: weakref.WeakKeyDictionary[AbstractEventLoop, Gathering] = weakref.WeakKeyDictionary()

    def may_begin(self, worker: Worker) -> bool:
        """Whether an operation for these threads may begin on the running event loop."""
        pace = self._paces.get(worker)
        return pace is not None and pace.is_quick(time.monotonic())

    async def run(self, operation: Callable[[], Coroutine[Any, Any, R]], worker: Worker) -> R:
        """The result of an operation, done here or, from where it would wait on, by one of these threads.

        A cancellation is raised before it begins, or by whatever the caller awaits next.
        """
        began = await self._turn.begin()
        coroutine = operation()
        done = self._step(coroutine, worker, others=self._turn.others())
        if type(done) is tuple:
            self._took(worker, began)
            return done[0]
        if isinstance(done, Gathered):
            return await self._with_others(coroutine, worker, done)
        return await worker.run(partial(went_on, coroutine), withdrawable=not has_written())

    def _took(self, worker: Worker, began: float) -> None:
        now = time.monotonic()
        self._paces[worker].took(now - began, now, QUICK)

    def _step(
        self, coroutine: Coroutine[Any, Any, R], worker: Worker, *, others: bool = False
    ) -> tuple[R] | Gathered | None:
        """As `begun`, where signals are handled afterwards."""
        try:
            return deferred(partial(begun, coroutine, others=others))
        except BaseException:
            if _is_suspended(coroutine):  # a handler of signals has raised after it has left: it is still done
                worker.submit(partial(_finished, coroutine))
            raise

    async def _with_others(self, coroutine: Coroutine[Any, Any, R], worker: Worker, gathered: Gathered) -> R:
        """The rest of an operation that does something together with those of other tasks.

        A cancellation is raised when that is done; what is then to be done in a thread is not done any more.
        """
        import asyncio

        from .uninterrupted import in_place

        cancelled: asyncio.CancelledError | None = None
        try:
            await in_place(self._gathering(worker).add(gathered))
        except asyncio.CancelledError as error:
            if isinstance(gathered.error, WouldWait):  # nothing is written
                coroutine.close()
                raise
            cancelled = error
        done = self._step(coroutine, worker)
        if cancelled is not None:
            if type(done) is not tuple:
                await in_place(worker.run(partial(went_on, coroutine), withdrawable=False))
            raise cancelled
        if type(done) is tuple:
            return done[0]
        return await worker.run(partial(went_on, coroutine), withdrawable=not has_written())

    def _gathering(self, worker: Worker) -> Gathering:
        """That of the running event loop, which has it as long as it lives."""
        import asyncio

        from .gathering import Gathering

        loop = asyncio.get_running_loop()
        found = self._gatherings.get(loop)
        if found is None:
            took = self._paces[worker].took
            found = self._gatherings[loop] = Gathering(lambda seconds, now: took(seconds, now, QUICK))
        return found


def _is_suspended(coroutine: Coroutine[Any, Any, object]) -> bool:
    return getattr(coroutine, "cr_frame", None) is not None


def _finished(coroutine: Coroutine[Any, Any, object]) -> Callable[[], object]:
    """Do an operation to its end for which nobody waits."""
    with suppress(BaseException):
        went_on(coroutine)
    return bool
