"""The synchronous and the asynchronous face of operations that are written once.

An operation is `async def op(core, …)` and awaits nothing but the core's driver. Over a driver that blocks, it
never suspends: `step` runs it to its end for synchronous callers, and for asynchronous ones a worker thread does,
the whole operation in one hop. Over a driver that suspends, asynchronous callers await it, each event loop with a
driver of its own, and synchronous ones are served by one lasting background loop.
"""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable, MutableMapping
from contextvars import Context, ContextVar, copy_context
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ..errors import SessileError, UnsupportedError
from .forking import forks
from .leaving import check_left, went_on
from .threads import WAKE_SECONDS, check_hurry, collecting

if TYPE_CHECKING:
    import asyncio

R = TypeVar("R")


def step(coroutine: Awaitable[R]) -> R:
    """Run a coroutine that never suspends to its end."""
    generator: Coroutine[Any, Any, R] = coroutine  # pyright: ignore[reportAssignmentType] (`cast` takes as long as the rest)
    try:
        stopped = generator.send(None)
    except StopIteration as stop:
        return stop.value
    check_left(generator, stopped)
    return went_on(generator)


async def stepped_together(work: Iterable[Callable[[], Coroutine[Any, Any, R]]], most: int) -> list[R]:
    """The results of coroutines that never suspend, `most` at the same time, each in a thread; in their order.

    All have ended when this returns, or raises what the first of them has raised.
    """
    from concurrent.futures import ThreadPoolExecutor

    pieces = list(work)
    if len(pieces) < 2:
        return [await piece() for piece in pieces]
    with ThreadPoolExecutor(min(len(pieces), most), "sessile-together") as pool:
        futures = [pool.submit(step, piece()) for piece in pieces]
    return [future.result() for future in futures]


class Background:
    """One lasting event loop in a thread of its own, for synchronous callers of asynchronous code.

    Synchronous callers work also where an event loop already runs in their own thread (notebooks).
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a finalizer that runs while it is held may ask for the loop, too
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop, started at first use, and anew in a forked child."""
        import asyncio

        with self._lock:
            if self._loop is None or self._thread is None or not self._thread.is_alive():
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=_serve, args=(self._loop,), name="sessile-loop", daemon=True)
                self._thread.start()
            return self._loop

    def task(self, coroutine: Coroutine[Any, Any, R]) -> BackgroundTask[R]:
        """The coroutine, to be started on the loop with the caller's context variables by a caller that waits for it.

        Raises `SessileError` when called on the loop itself, which the caller would block for ever.
        """
        if not self.may_be_awaited():
            coroutine.close()
            raise SessileError(
                "A synchronous method was called inside asynchronous code that it would wait for.",
                hint="Await the method whose name begins with a.",
            )
        return BackgroundTask(self.loop(), coroutine)

    def run(self, coroutine: Coroutine[Any, Any, R]) -> R:
        """Run the coroutine on the loop and wait for it; an interrupt of the caller cancels it, and waits.

        Raises as `task` and as the coroutine.
        """
        task = self.task(coroutine)
        try:
            task.start()
            while not task.ended_within(WAKE_SECONDS):
                check_hurry()
            return task.result()
        except BaseException:  # KeyboardInterrupt, SystemExit: stop the work, let it store what it has, go on
            task.cancel()
            task.wait()
            raise

    def finish(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run what ends something on the loop, and wait for it where the caller can; see `BackgroundTask.give_up`."""
        task = BackgroundTask(self.loop(), coroutine)
        task.start()
        if task.can_be_awaited():
            task.result()
        else:
            task.leave()

    def may_be_awaited(self) -> bool:
        """Whether this is another thread than the loop's."""
        return self._thread is not threading.current_thread()

    def after_fork(self) -> None:
        """Forget the parent's loop: its thread does not exist in the child, and what it worked on is the parent's."""
        self._lock = threading.RLock()
        self._loop = self._thread = None
        _left_alone.clear()


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    while True:
        try:
            return loop.run_forever()
        except (SystemExit, KeyboardInterrupt):
            continue  # of one task, whose waiter gets it; the loop is there for the others


EXIT_SECONDS = 10.0
"""How long the end of the process waits for work that was cancelled where nobody could wait for it."""

_at_work: set[asyncio.Task[Any]] = set()

_above: ContextVar[BackgroundTask[Any] | None] = ContextVar("sessile_background_task", default=None)
"""The task that this code is a part of, also in a thread of its own."""


def kept(task: asyncio.Task[R]) -> asyncio.Task[R]:
    """The task, which from now on lives until it has ended.

    Loops refer to tasks weakly. One that only its own objects refer to can be collected half-way, in whatever thread
    the garbage collector runs, and its generators with it.
    """
    _at_work.add(task)
    task.add_done_callback(_at_work.discard)
    return task


class BackgroundTask(Generic[R]):
    """A coroutine on the background loop, as other threads see it.

    It is made first and started then, so that a signal in between, or while it starts, finds something to cancel.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, R]) -> None:
        self._loop = loop
        self._coroutine = coroutine
        self._done = threading.Event()
        self._task: asyncio.Task[None] | None = None
        self._returned: tuple[R] | None = None
        self._above: BackgroundTask[Any] | None = None

    def start(self) -> None:
        """Let it begin, with the context variables of the caller."""
        self._above = _above.get()
        context = copy_context()
        context.run(_above.set, self)
        self._loop.call_soon_threadsafe(lambda: self._start(context))

    def _start(self, context: Context) -> None:
        self._task = kept(self._loop.create_task(self._work(), context=context))
        self._task.add_done_callback(self._over)

    async def _work(self) -> None:
        self._returned = (await self._coroutine,)

    def cancel(self) -> None:
        """Cancel the coroutine, or never begin it; `wait` for what it does about that."""
        self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
        elif not self._done.is_set():  # what interrupted the caller came before the start
            self._over()

    def give_up(self) -> None:
        """Cancel the coroutine, and wait for what it does about that, if the caller can.

        A caller cannot wait in the loop's own thread, in work that the coroutine itself waits for, or in a finalizer:
        the garbage collector runs in the middle of anything, with locks that the coroutine may need. It then ends by
        itself, and the end of the process waits for it.
        """
        self.cancel()
        if self.can_be_awaited():
            self.wait()
        else:
            self.leave()

    def leave(self) -> None:
        """Let the end of the process wait for it, although nobody refers to it any more."""
        _left_alone.add(self)
        if self._done.is_set():
            _left_alone.discard(self)

    def _over(self, _: object = None) -> None:
        self._coroutine.close()  # of a task that was cancelled before it began
        if self._returned is not None:
            self._task = None  # whose context refers to this object: a ring would wait for the garbage collector
        self._done.set()
        _left_alone.discard(self)

    def can_be_awaited(self) -> bool:
        """Whether the caller may wait for it."""
        above = _above.get()
        while above is not None and above is not self:
            above = above._above
        return above is None and background.may_be_awaited() and not collecting.here()

    def wait(self) -> None:
        """Wait until it has ended."""
        while not self._done.wait(WAKE_SECONDS):
            continue

    def ended_within(self, seconds: float) -> bool:
        """Wait for its end for so long; tells whether it has ended."""
        return self._done.wait(seconds)

    def wait_until(self, moment: float) -> None:
        """Wait until it has ended, or until a moment of the monotonic clock."""
        self._done.wait(max(0.0, moment - time.monotonic()))

    def result(self) -> R:
        """Wait, and return what it returned, or raise what it raised."""
        self.wait()
        if self._task is not None:
            self._task.result()  # which raises
        assert self._returned is not None, "set before it is done"
        return self._returned[0]


background = Background()
forks.first_in_child(background.after_fork)

_left_alone: set[BackgroundTask[Any]] = set()


def _wait_at_exit() -> None:
    """Let what was cancelled in finalizers store what it has: the background loop ends with the process."""
    until = time.monotonic() + EXIT_SECONDS
    for task in list(_left_alone):
        task.wait_until(until)


atexit.register(_wait_at_exit)


def forget_closed(by_loop: MutableMapping[asyncio.AbstractEventLoop, Any]) -> None:
    """Drop what is kept for event loops that are closed.

    Clients refer to their loop, so weak references to the loops do not let go of them.
    """
    for loop in [loop for loop in by_loop if loop.is_closed()]:
        del by_loop[loop]


class LoopEnd:
    """Does something when the running event loop ends, while it still runs: closes what belongs to it.

    An event loop tells nobody that it ends, but closes the asynchronous generators that it knows (`asyncio.run` and
    `asyncio.Runner` see to that). This is one that waits for nothing else. It is also closed, in its loop, when nobody
    refers to it any more.
    """

    def __init__(self, action: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._waits = True
        self._generator = self._wait(action)
        try:
            self._generator.__anext__().send(None)  # it begins at once, and so in this loop
        except StopIteration:
            return

    async def _wait(self, action: Callable[[], Coroutine[Any, Any, None]]) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            if self._waits:
                await action()

    async def forget(self) -> None:
        """Do nothing then."""
        self._waits = False
        await self._generator.aclose()


class OneLoop:
    """Sees to it that asynchronous connections are used on one event loop only, that of their first use.

    Args:
        where: names the database in messages.
        reusable: whether another event loop may use them when the first one is closed.
    """

    def __init__(self, where: str, *, reusable: bool = False) -> None:
        self._where = where
        self._reusable = reusable
        self._loop: weakref.ref[asyncio.AbstractEventLoop] | None = None

    def check(self) -> None:
        """Raise `UnsupportedError` on another event loop than theirs."""
        import asyncio

        loop = asyncio.get_running_loop()
        first = None if self._loop is None else self._loop()
        if self._loop is None or (self._reusable and (first is None or first.is_closed())):
            self._loop = weakref.ref(loop)
        elif first is not loop:
            raise UnsupportedError(
                f"The asynchronous connections to {self._where} belong to another event loop.",
                hint="Let the storage make its own, which serve every loop and synchronous callers too.",
            )
