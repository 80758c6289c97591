"""Waiting for what must not be left half-way.

`Task.cancel` first asks what the task waits for to be cancelled. A future that declines: the task is then told of its
cancellation when what it waits for is done, and not before, however often it is cancelled.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, TypeVar

R = TypeVar("R")


class UninterruptedFuture(asyncio.Future[R]):
    """A future that is not cancelled with the task that awaits it, unless what it stands for has not begun.

    `withdraw` takes that back, and says whether it could.
    """

    def __init__(self, *, loop: asyncio.AbstractEventLoop, withdraw: Callable[[], bool] | None = None) -> None:
        super().__init__(loop=loop)
        self._withdraw = withdraw

    def begun(self) -> None:
        """What it stands for has begun, and can be taken back no more."""
        self._withdraw = None

    def cancel(self, msg: Any = None) -> bool:
        """Decline what is running."""
        if self.done() or self._withdraw is None or not self._withdraw():
            return False
        return super().cancel(msg)


class UninterruptedTask(asyncio.Task[R]):
    """A task that is not cancelled when the event loop ends, which then waits for it.

    While the loop runs it is an ordinary one: `asyncio.timeout` inside it, the limit of a database's answer, works by
    cancelling the task that it is in. So it is not to be awaited by itself, but through an `UninterruptedFuture`.
    """

    def cancel(self, msg: Any = None) -> bool:
        """Decline where no loop runs: `asyncio.Runner.close` cancels all tasks that are left between two runs."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return False
        return super().cancel(msg)


async def to_the_end(work: Awaitable[R]) -> R:
    """Await what must not be left half-way: cancellations that arrive meanwhile are raised when it is done."""
    task = UninterruptedTask(_awaited(work))
    done: UninterruptedFuture[None] = UninterruptedFuture(loop=asyncio.get_running_loop())
    task.add_done_callback(lambda _: done.set_result(None))
    try:
        await done
    except asyncio.CancelledError:
        task.result()  # a failure counts for more than the cancellation: the caller must hear of it
        raise
    return task.result()


async def _awaited(work: Awaitable[R]) -> R:
    return await work


@types.coroutine
def in_place(work: Coroutine[Any, Any, R]) -> Generator[Any, None, R]:
    """As `to_the_end`, in the caller's own task, at half the cost: for work that is never cancelled from inside.

    That is what waits for threads and locks. An asynchronous client is not among it: it ends what takes too long by
    cancelling the task that it is in.
    """
    cancelled: asyncio.CancelledError | None = None
    try:
        while True:
            try:
                waited = work.send(None)
            except StopIteration as end:
                result: R = end.value
                break
            try:
                if isinstance(waited, UninterruptedFuture):
                    waited.begun()
                    yield waited
                elif waited is None:  # it has only let others go first
                    yield
                else:
                    yield from _done(waited)
            except asyncio.CancelledError as error:
                cancelled = error
            except GeneratorExit:  # it is given up, with its event loop
                raise
            except BaseException:
                if waited is None or not waited.done():
                    raise
                # else it is what the future has: tasks throw that, and `work` hears it from the future itself
    finally:
        work.close()
    if cancelled is not None:
        raise cancelled
    return result


def _done(future: asyncio.Future[Any]) -> UninterruptedFuture[None]:
    """Tells when a future is done, and is not cancelled with the task that waits for it."""
    done: UninterruptedFuture[None] = UninterruptedFuture(loop=future.get_loop())
    future.add_done_callback(lambda _: done.set_result(None))
    return done


async def wait_out(task: asyncio.Future[Any]) -> asyncio.CancelledError | None:
    """Wait until the task has ended, however often that is cancelled (AnyIO does so again and again)."""
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    return cancelled
