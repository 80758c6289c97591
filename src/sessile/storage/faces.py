"""The synchronous and the asynchronous face of operations that are written once.

An operation is `async def op(core, …)` and awaits nothing but the core's driver. Over a driver that blocks, it
never suspends: `step` runs it to its end for synchronous callers, and for asynchronous ones a worker thread does,
the whole operation in one hop. Over a driver that suspends, asynchronous callers await it, each event loop with a
driver of its own, and synchronous ones are served by one lasting background loop.
"""

from __future__ import annotations

import functools
import queue
import threading
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, cast, overload

from ..errors import SessileError, UnsupportedError
from .core import Core

if TYPE_CHECKING:
    import asyncio
    import contextvars

P = ParamSpec("P")
R = TypeVar("R")

Operation = Callable[Concatenate[Core, P], Coroutine[Any, Any, R]]
Job = Callable[[], Callable[[], None]]
"""Does the work, and returns how to hand over what came of it."""


def step(coroutine: Awaitable[R]) -> R:
    """Run a coroutine that never suspends to its end."""
    generator = cast(Coroutine[Any, Any, R], coroutine)
    try:
        generator.send(None)
    except StopIteration as stop:
        return stop.value
    generator.close()
    raise RuntimeError("A driver that declares suspends=False has awaited something.")


class Worker:
    """A few lasting threads that run whole operations for event loops.

    Half the cost per hop of `ThreadPoolExecutor`, whose futures are wrapped once more. A job goes to the thread that
    was busy last, whose caches are warm: a caller that awaits one operation after the other has one thread.
    """

    def __init__(self, threads: int = 4) -> None:
        self._lock = threading.Lock()
        self._left = threads
        self._idle: list[queue.SimpleQueue[Job | None]] = []
        self._waiting: deque[Job] = deque()
        self._closing = False

    async def run(self, function: Callable[[], R]) -> R:
        """The result of `function`, called in a worker thread.

        A cancellation does not stop the call; it is raised when the call has ended, so that no write is abandoned
        half-way when an event loop ends (`asyncio.run` then cancels all tasks, and the process goes).
        """
        import asyncio

        from .uninterrupted import UninterruptedFuture

        loop = asyncio.get_running_loop()
        future: UninterruptedFuture[R] = UninterruptedFuture(loop=loop)

        def job() -> Callable[[], None]:
            try:
                outcome: Callable[[], None] = functools.partial(_set_result, future, function())
            except BaseException as error:  # noqa: BLE001 (handed over to the caller, whatever it is)
                outcome = functools.partial(_set_error, future, error)
            return functools.partial(_deliver, loop, outcome)

        self._submit(job)
        return await future

    def _submit(self, job: Job) -> None:
        with self._lock:
            if self._idle:
                self._idle.pop().put(job)
            elif self._left > 0:
                self._left -= 1
                jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
                jobs.put(job)
                threading.Thread(target=self._serve, args=(jobs,), name="sessile-worker", daemon=True).start()
            else:
                self._waiting.append(job)

    def _serve(self, jobs: queue.SimpleQueue[Job | None]) -> None:
        while (job := jobs.get()) is not None:
            deliver = job()
            with self._lock:  # ready for the next job before the caller hears of this one
                if self._waiting:
                    jobs.put(self._waiting.popleft())
                elif self._closing:
                    jobs.put(None)
                else:
                    self._idle.append(jobs)
            deliver()

    def close(self) -> None:
        """Let the threads end when they have nothing to do."""
        with self._lock:
            self._closing = True
            for jobs in self._idle:
                jobs.put(None)
            self._idle.clear()


def _deliver(loop: asyncio.AbstractEventLoop, outcome: Callable[[], None]) -> None:
    try:
        loop.call_soon_threadsafe(outcome)
    except RuntimeError:  # the caller's loop is closed: nobody is waiting any more
        return


def _set_result(future: asyncio.Future[R], value: R) -> None:
    if not future.done():
        future.set_result(value)


def _set_error(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


class Background:
    """One lasting event loop in a thread of its own, for synchronous callers of asynchronous code.

    Synchronous callers work also where an event loop already runs in their own thread (notebooks).
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
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
        if self._thread is threading.current_thread():
            coroutine.close()
            raise SessileError(
                "A synchronous method was called inside asynchronous code that it would wait for.",
                hint="Await the method's twin whose name begins with a.",
            )
        return BackgroundTask(self.loop(), coroutine)

    def run(self, coroutine: Coroutine[Any, Any, R]) -> R:
        """Run the coroutine on the loop and wait for it; an interrupt of the caller cancels it, and waits.

        Raises as `task` and as the coroutine.
        """
        task = self.task(coroutine)
        try:
            task.start()
            return task.result()
        except BaseException:  # KeyboardInterrupt, SystemExit: stop the work, let it store what it has, go on
            task.cancel()
            task.wait()
            raise

    def after_fork(self) -> None:
        """Forget the parent's loop: its thread does not exist in the child."""
        self._lock = threading.Lock()
        self._loop = self._thread = None


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    while True:
        try:
            return loop.run_forever()
        except (SystemExit, KeyboardInterrupt):
            continue  # of one task, whose waiter gets it; the loop is there for the others


WAKE_SECONDS = 0.5
"""How often a thread that waits wakes up. A signal that arrives just before a wait begins does not end it."""


class BackgroundTask(Generic[R]):
    """A coroutine on the background loop, as other threads see it.

    It is made first and started then, so that a signal in between, or while it starts, finds something to cancel.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, R]) -> None:
        self._loop = loop
        self._coroutine = coroutine
        self._done = threading.Event()
        self._task: asyncio.Task[R] | None = None

    def start(self) -> None:
        """Let it begin, with the context variables of the caller."""
        import contextvars

        context = contextvars.copy_context()
        self._loop.call_soon_threadsafe(lambda: self._start(context))

    def _start(self, context: contextvars.Context) -> None:
        self._task = self._loop.create_task(self._coroutine, context=context)
        self._task.add_done_callback(lambda _: self._done.set())

    def cancel(self) -> None:
        """Cancel the coroutine, or never begin it; `wait` for what it does about that."""
        self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
        else:  # what interrupted the caller came before the start
            self._coroutine.close()
            self._done.set()

    def wait(self) -> None:
        """Wait until it has ended."""
        while not self._done.wait(WAKE_SECONDS):
            continue

    def result(self) -> R:
        """Wait, and return what it returned, or raise what it raised."""
        self.wait()
        assert self._task is not None, "set before it is done"
        return self._task.result()


background = Background()


def forget_closed(by_loop: MutableMapping[asyncio.AbstractEventLoop, Any]) -> None:
    """Drop what is kept for event loops that are closed.

    Clients refer to their loop, so weak references to the loops do not let go of them.
    """
    for loop in [loop for loop in by_loop if loop.is_closed()]:
        del by_loop[loop]


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


class Face(Generic[P, R]):
    """How a type checker sees an operation on a storage object: a method with the operation's own parameters."""

    @overload
    def __get__(self, instance: None, owner: type) -> Face[P, R]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> Callable[P, R]: ...
    def __get__(self, instance: object, owner: type) -> Any: ...

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """On the class itself: the storage comes first."""


def sync_face(operation: Operation[P, R]) -> Face[P, R]:
    """The synchronous method of an operation."""

    @functools.wraps(operation)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return self.run_operation(operation, *args, **kwargs)

    return cast(Face[P, R], method)


def async_face(operation: Operation[P, R]) -> Face[P, Coroutine[Any, Any, R]]:
    """The asynchronous method of an operation."""

    @functools.wraps(operation)
    async def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return await self.arun_operation(operation, *args, **kwargs)

    return cast("Face[P, Coroutine[Any, Any, R]]", method)
