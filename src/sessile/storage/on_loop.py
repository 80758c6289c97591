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
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from .deferring import deferred
from .leaving import Gathered, begun, has_written, went_on
from .pace import Pace
from .threads import Worker

if TYPE_CHECKING:
    from .gathering import Gathering

R = TypeVar("R")

TURN = 0.001
"""For how many seconds operations of one task follow each other before all others have their turn."""

OTHERS = 0.002
"""Seconds since another task has begun an operation, for commits to be gathered (`gathering`)."""


class _Turn(threading.local):
    """Of the event loop of this thread: how long its operations have been one task's, and whether others have some."""

    task = 0
    """By its address: which task has begun the last one."""
    began = 0.0
    """When that was."""
    other = 0.0
    """When another task has begun one before it."""
    until = 0.0
    """When its turn is over."""
    over = True
    """Whether all tasks that were ready have had their turn since its own began."""
    gathering: Gathering | None = None

    def __init__(self) -> None:
        self._context = Context()  # what ends a turn needs none of anybody's

    async def begin(self) -> float:
        """Begin an operation, after all others have had their turn if this task has gone on for too long; the time."""
        import asyncio

        task, now = id(asyncio.current_task()), time.monotonic()
        if task == self.task and not self.over and now >= self.until:
            await asyncio.sleep(0)
            now, self.over = time.monotonic(), True
        if task != self.task:
            self.task, self.other, self.until = task, self.began, now + TURN
        if self.over:
            self.over, self.until = False, now + TURN
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
        done = self._step(coroutine, worker, began, others=self._turn.others())
        if done is None:
            return await worker.run(partial(went_on, coroutine), withdrawable=not has_written())
        if isinstance(done, Gathered):
            from .uninterrupted import in_place

            return await in_place(self._with_others(coroutine, worker, done))
        return done[0]

    def _step(
        self, coroutine: Coroutine[Any, Any, R], worker: Worker, began: float, *, others: bool = False
    ) -> tuple[R] | Gathered | None:
        """As `begun`, where signals are handled afterwards; takes note of how long it takes."""
        try:
            done = deferred(partial(begun, coroutine, others=others))
        except BaseException:
            if _is_suspended(coroutine):  # a handler of signals has raised after it has left: it is still done
                worker.submit(partial(_finished, coroutine))
            raise
        if type(done) is tuple:
            now = time.monotonic()
            self._paces[worker].took(now - began, now)
        return done

    async def _with_others(self, coroutine: Coroutine[Any, Any, R], worker: Worker, gathered: Gathered) -> R:
        """The rest of an operation that does something together with those of other tasks."""
        await self._gathering(worker).add(gathered)
        done = self._step(coroutine, worker, time.monotonic())
        if type(done) is tuple:
            return done[0]
        return await worker.run(partial(went_on, coroutine), withdrawable=not has_written())

    def _gathering(self, worker: Worker) -> Gathering:
        """That of the running event loop."""
        import asyncio

        from .gathering import Gathering

        loop, turn = asyncio.get_running_loop(), self._turn
        if turn.gathering is None or not turn.gathering.is_of(loop):
            turn.gathering = Gathering(loop, lambda seconds: self._paces[worker].took(seconds, time.monotonic()))
        return turn.gathering


def _is_suspended(coroutine: Coroutine[Any, Any, object]) -> bool:
    return getattr(coroutine, "cr_frame", None) is not None


def _finished(coroutine: Coroutine[Any, Any, object]) -> Callable[[], object]:
    """Do an operation to its end for which nobody waits."""
    with suppress(BaseException):
        went_on(coroutine)
    return bool
