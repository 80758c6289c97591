"""Threads in which whole operations run: for event loops, which must not block, and for the main thread.

Nothing here relies on a line of code being reached: a signal, or the garbage collector, may come between any two.
"""

from __future__ import annotations

import functools
import gc
import sys
import threading
import time
from _thread import LockType, allocate_lock
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar, copy_context
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import DeadlineError, StorageUnavailableError
from .forking import forks

if TYPE_CHECKING:
    import asyncio

R = TypeVar("R")

Job = Callable[[], Callable[[], object]]
"""Does the work, and returns how to hand over what came of it."""

WAKE_SECONDS = 0.5
"""How often a thread that waits wakes up. A signal that arrives just before a wait begins does not end it."""

PATIENCE = 1.0
"""Seconds that an interrupted caller waits for the end of its operation, which goes on without it after that."""

NOTICE_SECONDS = 0.2
"""How soon one who waits for a lock, or for another thread, notices that its caller was interrupted."""


class Collecting:
    """Tells whether the garbage collector is running in this thread, and so the code that asks in a finalizer.

    The collector's callbacks are made of functions in C, on purpose: a signal that came while it worked is handled in
    the first Python code that runs, and what a handler raises in a callback is thrown away. Ctrl-C would be lost.
    """

    def __init__(self) -> None:
        self._at_work: set[object] = set()
        self._here, self._anywhere = threading.local(), SimpleNamespace()
        if hasattr(gc, "callbacks"):  # PyPy's collector tells nobody
            # Called with "start" or "stop", and a dictionary that is another one each time.
            phases = type("Phases", (), {"start": property(self._at_work.add), "stop": property(self._at_work.discard)})
            gc.callbacks.append(functools.partial(setattr, self._here))
            gc.callbacks.append(functools.partial(setattr, self._anywhere))
            gc.callbacks.append(functools.partial(getattr, phases()))

    def here(self) -> bool:
        """Whether it is. In a forked child it is not, if it was running in another thread."""
        return bool(self._at_work) and getattr(self._here, "start", None) is self._anywhere.start


collecting = Collecting()


class Threads:
    """Lasting threads that do the jobs of one or several `Worker`s.

    Half the cost per hop of `ThreadPoolExecutor`, whose futures are wrapped once more. A job goes to the thread that
    was busy last, whose caches are warm: a caller that awaits one operation after the other has one thread.

    A thread that has nothing to do lies down beside its bell, and looks for jobs whenever that rings; who leaves a job
    rings the bell of one. So a job is found whatever happens to who has left it, and no thread is lost: a bell that
    rings in vain is heard, too.
    """

    def __init__(self) -> None:
        self._workers: list[Worker] = []
        self._most = 0
        self._idle: deque[LockType] = deque()
        self._starting = threading.RLock()
        self._threads = 0
        self._closing = False

    def join(self, worker: Worker, threads: int) -> None:
        """Do the jobs of this worker, too, with so many more threads at most."""
        self._workers.append(worker)
        self._most += threads

    def wake(self) -> None:
        """See to it that somebody looks for jobs. Raises `StorageUnavailableError` if nobody can."""
        try:
            bell = self._idle[-1]
        except IndexError:
            self._start()
        else:
            _ring(bell)

    def _start(self) -> None:
        """Start another thread, unless there are enough."""
        with self._starting:
            if self._threads >= self._most:
                return
            try:
                threading.Thread(target=self._serve, name="sessile-worker", daemon=True).start()
            except RuntimeError as error:  # no memory for it, too many of them, or the process ends
                if self._threads == 0:
                    raise StorageUnavailableError(
                        f"No thread can be started for an operation: {error}.", written="no"
                    ) from error
                return
            self._threads += 1

    def _serve(self) -> None:
        bell = allocate_lock()
        bell.acquire()
        idle = False
        while True:
            found = self._next()
            if found is None:
                if not idle:
                    self._idle.append(bell)
                    idle = True  # and looks once more: somebody may have left a job before seeing the bell
                elif self._closing:
                    self._idle.remove(bell)
                    idle = False
                    if self._ended():
                        return
                else:
                    bell.acquire()
                continue
            if idle:
                self._idle.remove(bell)
                idle = False
            if self._wanted():
                with suppress(StorageUnavailableError):
                    self.wake()
            worker, job = found
            deliver = job()
            worker.done()
            if not self._wanted():  # ready for the next job before the caller hears of this one
                self._idle.append(bell)
                idle = True
            deliver()
            del found, job, deliver

    def _ended(self) -> bool:
        """Count a thread out; False if somebody has left a job meanwhile, which nobody else may see."""
        with self._starting:
            self._threads -= 1
        if not self._wanted():
            return True
        with self._starting:
            self._threads += 1
        return False

    def _next(self) -> tuple[Worker, Job] | None:
        for worker in self._workers:
            if worker.jobs and (job := worker.take()) is not None:
                return worker, job
        return None

    def _wanted(self) -> bool:
        for worker in self._workers:  # noqa: SIM110 (`any` takes three times as long, of 20 µs for a whole job)
            if worker.jobs and worker.free:  # there is a job, and it may begin
                return True
        return False

    def close(self) -> None:
        """Let the threads end when they have nothing to do. Takes no lock: it is called in finalizers, too."""
        self._closing = True
        for bell in self._idle.copy():
            _ring(bell)


class Worker:
    """Runs whole operations, so many at once, in lasting threads; in its own, or in some that it shares with others."""

    def __init__(self, threads: int = 4, shared: Threads | None = None) -> None:
        self.jobs: deque[Job] = deque()
        """What nobody has begun with."""
        self.free: deque[None] = deque([None] * threads)
        """As many as may be begun now."""
        self._threads = Threads() if shared is None else shared
        self._threads.join(self, threads)

    async def run(self, function: Callable[[], R], *, withdrawable: bool = True) -> R:
        """The result of `function`, called in a worker thread.

        A cancellation does not stop the call; it is raised when the call has ended, so that no write is abandoned
        half-way when an event loop ends (`asyncio.run` then cancels all tasks, and the process goes). A call that has
        not begun is never made, unless it is not `withdrawable`, being the rest of what was begun elsewhere.

        Raises `StorageUnavailableError` if this machine has no thread left.
        """
        import asyncio

        from .uninterrupted import UninterruptedFuture

        loop = asyncio.get_running_loop()

        def job() -> Callable[[], None]:
            try:
                outcome: Callable[[], None] = functools.partial(_set_result, future, function())
            except BaseException as error:  # noqa: BLE001 (handed over to the caller, whatever it is)
                outcome = functools.partial(_set_error, future, error)
            return functools.partial(_deliver, loop, outcome)

        future: UninterruptedFuture[R] = UninterruptedFuture(loop=loop, withdraw=lambda: self._withdraw(job))
        if not withdrawable:
            future.begun()
        self.submit(job)
        try:
            return await future
        finally:
            future.begun()  # and so nothing refers to itself: what the call returned goes when its last user lets go

    def submit(self, job: Job) -> None:
        """Let one of the threads do a job. Raises `StorageUnavailableError` if there is none, and can be none."""
        self.jobs.append(job)
        try:
            self._threads.wake()
        except StorageUnavailableError:
            if self._withdraw(job):
                raise

    def _withdraw(self, job: Job) -> bool:
        """Take back a job that nobody has begun with."""
        try:
            self.jobs.remove(job)
        except ValueError:
            return False
        return True

    def take(self) -> Job | None:
        """The next job, if there is one and it may begin; it counts as being done until `done`."""
        while self.jobs:
            try:
                self.free.pop()
            except IndexError:
                return None  # who ends one of the others looks for it
            try:
                return self.jobs.popleft()
            except IndexError:  # somebody else was faster; but who came meanwhile may have found nothing free
                self.free.append(None)
        return None

    def done(self) -> None:
        """A job that was taken has ended."""
        self.free.append(None)

    def close(self) -> None:
        """Let the threads end when they have nothing to do. Takes no lock: it is called in finalizers, too."""
        self._threads.close()


def _ring(bell: LockType) -> None:
    try:
        bell.release()
    except RuntimeError:  # it rings already
        return


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


# ---------------------------------------------------------------- beside the main thread


class Hurry:
    """Tells an operation that its caller was interrupted: its deadlines have passed.

    What is on its way may end until `PATIENCE` is over, or until somebody interrupts once more.
    """

    __slots__ = ("now", "until")

    def __init__(self) -> None:
        self.now = False
        self.until = 0.0
        """On the monotonic clock: until when an answer may be waited for."""

    def tell(self) -> None:
        """The caller was interrupted. Called in handlers of signals: takes no lock."""
        self.until = time.monotonic() + (0.0 if self.now else PATIENCE)
        self.now = True


hurry: ContextVar[Hurry | None] = ContextVar("sessile_hurry", default=None)
"""That of the running operation."""


def check_hurry() -> None:
    """In what takes long to compute, for each of many things: raise `DeadlineError` if the caller was interrupted.

    Who computes looks at no deadline, and Ctrl-C waits for it. The caller has the error of its own interruption.
    """
    told = hurry.get()
    if told is not None and told.now:
        raise DeadlineError("What was computed was not ended: the caller was interrupted.", written="unknown")


_beside = Worker(threads=32)


def undisturbed(function: Callable[[], R]) -> R:
    """The result of `function`, called where no signal handler runs.

    Python runs handlers in the main thread, between any two instructions, and many raise: Ctrl-C, Celery's soft time
    limit, `signal.alarm`. In the middle of an operation such an error would leave a transaction open, or lose a
    connection, here or in a client library. So what the main thread asks for is done in another one, with the caller's
    context variables, while it waits. If it is interrupted, the operation is told that its time is up; the caller has
    its error when that has ended, or after a second.
    """
    elsewhere = threading.current_thread() is not threading.main_thread()
    if elsewhere or sys.is_finalizing() or collecting.here():  # a finalizer waits for nobody
        return function()
    done = allocate_lock()
    done.acquire()
    told = Hurry()
    outcomes: list[tuple[bool, Any]] = []
    context = copy_context()
    context.run(hurry.set, told)

    def job() -> Callable[[], None]:
        try:
            outcomes.append((True, context.run(function)))
        except BaseException as error:  # noqa: BLE001 (handed over to the caller, whatever it is)
            outcomes.append((False, error))
        return done.release

    try:
        _beside.submit(job)
    except StorageUnavailableError:
        return function()
    try:
        while not done.acquire(timeout=WAKE_SECONDS):
            continue
    except BaseException:
        told.tell()
        if not outcomes:  # it came while we waited, not just after that
            done.acquire(timeout=PATIENCE)
        raise
    return _come_of(*outcomes.pop())


def _come_of(went_well: bool, outcome: Any) -> Any:
    if went_well:
        return outcome
    try:
        raise outcome
    finally:
        del outcome  # it refers to this frame


def unless_interrupted(function: Callable[[], R], too_late: Callable[[R], object] | None = None) -> R | None:
    """The result of `function`, which may hang in what cannot be ended (to look up a host); None if it was left alone.

    In the main thread, whose handler of Ctrl-C only tells the operation, `function` is called in another thread and
    waited for until that happens. What was interrupted before waits for nothing. Everywhere else it is just called.

    Args:
        function: goes on by itself if it is left alone. Knows nothing of the interruption.
        too_late: is given its result then, in the other thread.
    """
    told = hurry.get()
    if told is None or sys.is_finalizing() or collecting.here():
        return function()
    if not told.now and threading.current_thread() is not threading.main_thread():
        return function()  # beside the main thread, which waits no longer than it likes
    done = allocate_lock()
    done.acquire()
    ours = deque([None])  # whoever takes this decides whether somebody waits
    outcomes: list[tuple[bool, Any]] = []

    def job() -> Callable[[], object]:
        try:
            result = function()
        except BaseException as error:  # noqa: BLE001 (handed over to the caller, whatever it is)
            if _took(ours):
                outcomes.append((False, error))
        else:
            if _took(ours):
                outcomes.append((True, result))
            elif too_late is not None:
                too_late(result)
        return done.release

    try:
        _beside.submit(job)
    except StorageUnavailableError:
        return function()
    while not told.now:
        if done.acquire(timeout=NOTICE_SECONDS):
            return _come_of(*outcomes.pop())
    return None if _took(ours) else _come_of(*outcomes.pop())


def _took(one: deque[None]) -> bool:
    try:
        one.pop()
    except IndexError:
        return False
    return True


_computing = Worker(threads=2)


async def elsewhere(function: Callable[[], R]) -> R:
    """On an event loop: the result of `function`, which computes, called in another thread; or here if there is none.

    A cancellation is raised when the call has ended.
    """
    begun = False
    context = copy_context()

    def work() -> R:
        nonlocal begun
        begun = True
        return context.run(function)

    try:
        return await _computing.run(work)
    except StorageUnavailableError:
        if begun:
            raise
    return function()


@forks.first_in_child
def renew() -> None:
    """Begin with new threads: a forked child has none of its parent's."""
    global _beside, _computing
    before = _beside, _computing
    _beside, _computing = Worker(threads=32), Worker(threads=2)
    for worker in before:
        worker.close()
