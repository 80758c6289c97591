"""`Storage`: the object that a user makes, hands over, and looks into."""

# pyright: reportPrivateUsage=false
# The functions of this module are the class's own: what forks do to storages, and how others run operations over them.

from __future__ import annotations

import functools
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Coroutine, MutableMapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, NoReturn, ParamSpec, Self, TypeVar, Unpack

from ..errors import ClosedError, InvalidInputError, SessileError, UnsupportedError
from ..records import Duration
from .core import Core
from .driver import Capabilities, Driver
from .faces import LoopEnd, background, forget_closed, step
from .forking import Hooks, forks
from .ids import check_id
from .interrupts import uninterrupted
from .lanes import Lanes
from .methods.branching import Branching
from .methods.deciding import Deciding
from .methods.filing import Filing
from .methods.keeping import Keeping
from .methods.listing import Listing
from .methods.rating import Judging
from .methods.reading import Reading
from .methods.remembering import Remembering
from .methods.scoping import Scoping
from .methods.writing import Writing
from .settings import Settings, SettingsOptions
from .threads import undisturbed
from .turnstile import in_turn, new_turnstile
from .users import core_of
from .withholding import withhold
from .working import at_work, ended

if TYPE_CHECKING:
    import asyncio

P = ParamSpec("P")
R = TypeVar("R")


class Storage(Reading, Listing, Writing, Scoping, Remembering, Filing, Branching, Judging, Deciding, Keeping):
    """Keeps sessions in one database.

    Every operation comes twice: `storage.get_session(…)` for synchronous code and `await storage.aget_session(…)` for
    asynchronous code, on the same object, from any thread or event loop. Subclasses (`SqliteStorage`,
    `MemoryStorage`, …) make the driver; this class knows nothing of any database.

    Args:
        driver: the driver that synchronous callers use; asynchronous ones too, in a worker thread, unless there
            is an `async_driver`. None: synchronous callers are served by the async driver on a background loop.
        async_driver: makes a driver over an asynchronous client; called once for each event loop that uses the
            storage, because such clients belong to one loop.
        **settings: see `Settings`: `timeout`, `require_user`, `ttl`, `lease`, `max_commit_bytes`, `max_state_bytes`,
            `max_metadata_bytes`, `max_media_bytes`, `inline_media_bytes`, `max_read_bytes`.

    Raises:
        InvalidInputError: a setting is wrong.
    """

    def __init__(
        self,
        driver: Driver | None,
        *,
        async_driver: Callable[[], Driver] | None = None,
        **settings: Unpack[SettingsOptions],
    ) -> None:
        self._settings = Settings(**settings)
        if driver is None and async_driver is None:
            raise InvalidInputError("A storage needs a driver.")
        self._removals: list[Callable[[str, str], None]] = []
        self._core = None if driver is None else Core(driver, self._settings, removals=self._removals)
        self._async_driver = async_driver
        self._loop_cores: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Core] = weakref.WeakKeyDictionary()
        self._loop_ends: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, LoopEnd] = weakref.WeakKeyDictionary()
        self._views: weakref.WeakValueDictionary[str, UserStorage] = weakref.WeakValueDictionary()
        self._lock = threading.RLock()  # a finalizer that runs while it is held may use the storage, too
        self._lanes = Lanes()
        self._turnstile = new_turnstile()
        self._closed = False
        self._taken = False
        # Its threads would wait for ever. Not at the end of the process, when runs still store what they have.
        weakref.finalize(self, self._lanes.close).atexit = False
        forks.join(self, _FORKED)

    # ------------------------------------------------------------ life

    @property
    def capabilities(self) -> Capabilities:
        """What the database can do. Of some databases a part of it is known only after the first operation."""
        with self._lock:
            cores = [core for core in (self._core, *self._loop_cores.values()) if core is not None]
        asked = [core for core in cores if core.ready]
        first = next(iter(asked or cores), None) or self._loop_core(background.loop())
        return first.driver.capabilities

    @property
    def settings(self) -> Settings:
        """What the storage was made with."""
        return self._settings

    def stats(self) -> dict[str, int]:
        """How often something had to be done again, or was waited for: lost races, retries, reconnects and others.

        Counted in this process over all connections of this object, since it was made; what never happened is left
        out. Each event is logged as well (`logging.getLogger("sessile")`).
        """
        with self._lock:
            cores = [core for core in (self._core, *self._loop_cores.values()) if core is not None]
        counts: Counter[str] = Counter()
        for core in cores:
            counts.update(core.driver.stats.counts())
        return dict(counts)

    def close(self) -> None:
        """Close what the storage opened itself; further operations raise `ClosedError`. Idempotent.

        Asynchronous clients of event loops other than the background one are closed by `aclose` in their loop.
        """
        if self._closed:
            return
        self._closed = True
        if self._core is not None:
            core = self._core
            self._here(core, lambda: step(core.driver.close()))
        ours = self._loop_cores.pop(background.loop(), None) if self._async_driver is not None else None
        if ours is not None:
            background.finish(_close(ours))
        self._lanes.close()

    async def aclose(self) -> None:
        """As `close`, for asynchronous callers; closes also the asynchronous client of the running event loop.

        Runs of agents, teams and workflows that are running in this event loop have a second to end. Then they are
        told to stop, and stored as `interrupted`.
        """
        import asyncio

        await ended(self)
        loop = asyncio.get_running_loop()
        ours, end = self._loop_cores.pop(loop, None), self._loop_ends.pop(loop, None)
        if ours is not None:
            await ours.driver.close()
        if end is not None:
            await end.forget()
        if not self._closed:
            await self._lanes.of(None).run(self.close)

    def __reduce__(self) -> NoReturn:
        """Refused: connections, locks and threads belong to one process, and to one object that closes them."""
        raise UnsupportedError(
            "A storage cannot be copied or pickled.",
            hint="Use the same object in all threads, and make one from the same URL or path in each other process.",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    # ------------------------------------------------------------ for one user

    def for_user(self, user_id: str) -> UserStorage:
        """This storage as one user sees it: for a server, which makes one for each request. No I/O.

        Every call has that user, and ids are the user's own: two users can have a session of the same id without
        meeting, and no answer tells what others have. Agents, teams and workflows take it like any storage
        (`agent.for_user("ada")`).

        ```python
        mine = storage.for_user("ada")
        mine.add_run("s1", input="Hello", output="Hi")
        [session.session_id for session in mine.sessions()]     # ["s1"]
        ```

        The view does not have the sessions that were made without it, under ids that all users share. The storage
        itself shows a view's sessions to callers who ask for all users' (`ANY_USER`), under the ids by which they
        are stored. The ids of a user's own sessions have at most 200 bytes.

        Args:
            user_id: whose sessions.

        Raises:
            InvalidInputError: the id is wrong.
        """
        check_id(user_id, "user_id")
        with self._lock:
            view = self._views.get(user_id)
            if view is None:
                view = self._views[user_id] = UserStorage(self, user_id)
            return view

    # ------------------------------------------------------------ running operations

    def _run(
        self, operation: Callable[Concatenate[Core, P], Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Run an operation for a synchronous caller."""
        self._check_open()
        core = self._core
        try:
            if core is not None:
                return self._here(core, lambda: self._stepped(core, operation(core, *args, **kwargs)))
            core = self._loop_core(background.loop())
            return background.run(operation(core, *args, **kwargs))
        except SessileError as error:
            withhold(error)
            raise

    def _here(self, core: Core, work: Callable[[], R]) -> R:
        """Do what blocks the caller, where its signal handlers do not interrupt it."""
        if core.driver.in_callers_thread:
            return work()
        return uninterrupted(work) if core.driver.ends_promptly else undisturbed(work)

    def _stepped(self, core: Core, operation: Coroutine[Any, Any, R]) -> R:
        """Do an operation in this thread, where the driver asks for it in its turn."""
        return in_turn(self._turnstile if core.driver.takes_turns else None, step, operation)

    async def _arun(
        self, operation: Callable[Concatenate[Core, P], Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Run an operation for an asynchronous caller: awaited, or the whole of it in one hop, or on the event loop."""
        self._check_open()
        core = self._core
        try:
            if self._async_driver is not None or core is None:
                return await operation(self._running_core(), *args, **kwargs)
            worker = self._lanes.of(operation)
            if core.driver.on_loop and core.ready and self._lanes.on_loop.may_begin(worker):
                return await self._lanes.on_loop.run(lambda: operation(core, *args, **kwargs), worker)
            deadline = core.deadline()

            def work() -> R:
                deadline.check("Waiting for a worker thread")
                return self._stepped(core, operation(core, *args, **kwargs))

            return await worker.run(work)
        except SessileError as error:
            withhold(error)
            raise

    def _running_core(self) -> Core:
        """The core over the running event loop's own driver."""
        import asyncio

        loop = asyncio.get_running_loop()
        return self._loop_cores.get(loop) or self._closed_with(loop, self._loop_core(loop))

    def _closed_with(self, loop: asyncio.AbstractEventLoop, core: Core) -> Core:
        """The core, whose connections are closed when this running loop ends."""
        forget_closed(self._loop_ends)
        cores = self._loop_cores
        self._loop_ends[loop] = LoopEnd(lambda: _close_last(cores, loop, core))
        return core

    def _loop_core(self, loop: asyncio.AbstractEventLoop) -> Core:
        """The core over this event loop's own asynchronous driver."""
        with self._lock:
            core = self._loop_cores.get(loop)
            if core is None:
                assert self._async_driver is not None, "checked when the storage was made"
                forget_closed(self._loop_cores)
                core = self._loop_cores[loop] = Core(self._async_driver(), self._settings, removals=self._removals)
            return core

    def _check_open(self) -> None:
        if self._taken:
            raise ClosedError("This storage was wrapped by another one.", hint="Use that one.")
        if self._closed:
            raise ClosedError("This storage was closed.")

    def _before_fork(self) -> None:
        """Before a fork: bring what the child will inherit to rest."""
        if self._core is not None:
            self._core.driver.before_fork()

    def _after_fork_in_parent(self) -> None:
        """In the parent of a fork: go on."""
        if self._core is not None:
            self._core.driver.after_fork_in_parent()

    def _after_fork(self) -> None:
        """In a forked child: open everything anew at first use."""
        if self._core is not None:
            self._core.driver.after_fork()
            self._core.driver.stats.after_fork()
            self._core.ready = False
        _inherited.extend((*self._loop_cores.items(), *self._loop_ends.items()))
        self._loop_ends = weakref.WeakKeyDictionary()
        self._loop_cores = weakref.WeakKeyDictionary()
        self._lock = threading.RLock()
        self._lanes = Lanes()
        self._turnstile = new_turnstile()


class UserStorage(Storage):
    """A storage as one user sees it, from `storage.for_user`: each call has that user, and the ids are the user's own.

    What belongs to the whole database is refused: `sweep`, `migrate`. Closing it closes nothing.
    """

    def __init__(self, whole: Storage, user_id: str) -> None:  # without super's: it has no driver, and no threads
        self._whole = whole
        self._settings = whole.settings
        self._user_id = user_id

    @property
    def user_id(self) -> str:
        """Whose sessions it shows."""
        return self._user_id

    @property
    def whole(self) -> Storage:
        """The storage that it is a view of."""
        return self._whole

    @property
    def capabilities(self) -> Capabilities:
        """See `Storage.capabilities`."""
        return self._whole.capabilities

    def stats(self) -> dict[str, int]:
        """See `Storage.stats`; counted for all users."""
        return self._whole.stats()

    def close(self) -> None:
        """Do nothing: the storage that this is a view of serves others, too."""

    async def aclose(self) -> None:
        """As `close`."""

    def for_user(self, user_id: str) -> UserStorage:
        """This very object; `InvalidInputError` for another user."""
        if user_id != self._user_id:
            raise InvalidInputError(f"This storage serves the user {self._user_id!r} alone.")
        return self

    def delete_user(self, user_id: str) -> int:
        """See `Storage.delete_user`; also takes the user's sessions under ids that all users share."""
        return self.for_user(user_id).whole.delete_user(user_id)

    async def adelete_user(self, user_id: str) -> int:
        """As `delete_user`, for asynchronous callers."""
        return await self.for_user(user_id).whole.adelete_user(user_id)

    def sweep(self, *, abandoned_after: Duration = 3600.0) -> int:
        """Refused, because it reaches all users: `UnsupportedError`."""
        raise _of_all("sweep")

    async def asweep(self, *, abandoned_after: Duration = 3600.0) -> int:
        """As `sweep`."""
        raise _of_all("sweep")

    def migrate(self, *, finish: bool = False, dry_run: bool = False) -> list[str]:
        """Refused, because it is the whole database's: `UnsupportedError`."""
        raise _of_all("migrate")

    async def amigrate(self, *, finish: bool = False, dry_run: bool = False) -> list[str]:
        """As `migrate`."""
        raise _of_all("migrate")

    def _run(
        self, operation: Callable[Concatenate[Core, P], Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        return self._whole._run(self._seen(operation), *args, **kwargs)

    async def _arun(
        self, operation: Callable[Concatenate[Core, P], Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        return await self._whole._arun(self._seen(operation), *args, **kwargs)

    def _seen(
        self, operation: Callable[Concatenate[Core, P], Coroutine[Any, Any, R]]
    ) -> Callable[Concatenate[Core, P], Coroutine[Any, Any, R]]:
        """The operation over the core as this user sees it."""

        @functools.wraps(operation)  # its name tells which threads may do it
        async def seen(core: Core, *args: P.args, **kwargs: P.kwargs) -> R:
            own = core_of(core, self._user_id)
            try:
                return await operation(own, *args, **kwargs)
            finally:
                core.ready = core.ready or own.ready

        return seen


def _of_all(what: str) -> UnsupportedError:
    return UnsupportedError(
        f"A storage of one user's cannot {what} the database of all.", hint="Call it on the storage itself."
    )


def seen_like(storage: Storage, other: Storage) -> Storage:
    """`other` as it is to be used beside `storage`: for the same user alone, if that is a view of one user's."""
    return other.for_user(storage.user_id) if isinstance(storage, UserStorage) else other


def whole(storage: Storage) -> Storage:
    """The storage itself, also where this is one user's view of it."""
    return storage.whole if isinstance(storage, UserStorage) else storage


async def _close(core: Core) -> None:
    await core.driver.close()


async def _close_last(
    cores: MutableMapping[asyncio.AbstractEventLoop, Core], loop: asyncio.AbstractEventLoop, core: Core
) -> None:
    """Close the client of an event loop that ends, unless another loop has the same one."""
    if cores.get(loop) is core:
        del cores[loop]
        if not any(other.driver is core.driver for other in cores.values()):
            await core.driver.close()


def wrap(storage: Storage, wrapper: Callable[[Driver], Driver]) -> None:
    """Put a wrapper (a `WrappedDriver`) around the drivers of a storage, also around those of event loops to come.

    To be called before the storage is used, and before `for_user`: a view keeps the drivers that it was made with.
    """
    made: weakref.WeakValueDictionary[int, Driver] = weakref.WeakValueDictionary()

    def wrapped(driver: Driver) -> Driver:
        """One wrapper for each driver: event loops may share one, which the last of them closes."""
        found = made.get(id(driver))
        if found is None:
            found = made[id(driver)] = wrapper(driver)
        return found

    with storage._lock:  # pyright: ignore[reportPrivateUsage] (of the same module)
        cores = [storage._core, *storage._loop_cores.values()]  # pyright: ignore[reportPrivateUsage]
        for core in cores:
            if core is not None:
                core.driver = wrapped(core.driver)
        inner = storage._async_driver  # pyright: ignore[reportPrivateUsage]
        if inner is not None:
            storage._async_driver = lambda: wrapped(inner())  # pyright: ignore[reportPrivateUsage]


def take_drivers(storage: Storage) -> tuple[Driver | None, Callable[[], Driver] | None]:
    """The driver of a storage and what makes its asynchronous ones, for another storage that wraps them.

    From then on the storage itself is of no use: `ClosedError`. Raises `InvalidInputError` if it was used or closed
    before, or is one user's view.
    """
    if isinstance(storage, UserStorage):
        raise InvalidInputError("Wrap the storage itself, and call for_user on what that makes.")
    with storage._lock:
        core, loops = storage._core, storage._loop_cores
        if storage._closed or loops or (core is not None and core.ready):
            raise InvalidInputError("A storage is to be wrapped before it is used.", hint="Make a new one.")
        storage._taken = storage._closed = True
    forks.leave(storage)
    return None if core is None else core.driver, storage._async_driver


def working_on(storage: Storage) -> AbstractContextManager[None]:
    """While the block is running, in the current task, a run works on the storage: `aclose` waits for it."""
    return at_work(storage.whole if isinstance(storage, UserStorage) else storage)


def operate(
    storage: Storage,
    operation: Callable[Concatenate[Core, P], Coroutine[Any, Any, R]],
    *args: P.args,
    **kwargs: P.kwargs,
) -> R:
    """Run an operation over a storage, `async def operation(core, …)`, for a synchronous caller.

    It may await nothing but the core and its driver: it is run by whatever kind of client the storage has. Raises
    `ClosedError`, and what the operation raises.
    """
    return storage._run(operation, *args, **kwargs)


async def aoperate(
    storage: Storage,
    operation: Callable[Concatenate[Core, P], Coroutine[Any, Any, R]],
    *args: P.args,
    **kwargs: P.kwargs,
) -> R:
    """As `operate`, for asynchronous callers."""
    return await storage._arun(operation, *args, **kwargs)


def suspends(storage: Storage) -> bool:
    """Whether operations of asynchronous callers are awaited on their event loop; else they are done in threads."""
    return whole(storage)._async_driver is not None


def removals_of(storage: Storage) -> list[Callable[[str, str], None]]:
    """What hears of each session that this object removes, by id and incarnation, in the thread that removes it."""
    return storage._removals


def check_storage(value: Any) -> None:
    """Refuse what is neither a storage nor None: a URL, for example."""
    if value is not None and not isinstance(value, Storage):
        raise InvalidInputError(
            f"storage must be a storage object, not a {type(value).__name__}.",
            hint='Make one: SqliteStorage("sessions.db"), or sessile.open(url).',
        )


_FORKED = Hooks(Storage._before_fork, Storage._after_fork_in_parent, Storage._after_fork)

_inherited: list[tuple[asyncio.AbstractEventLoop, Core | LoopEnd]] = []
"""In a forked child: the parent's event loops and their drivers, which must never be collected.

Streams of asyncio close themselves when they are (`StreamWriter.__del__`), and parent and child have one list of what
the loop listens to (epoll): the parent would hear no more of its connections, and wait for ever.
"""
