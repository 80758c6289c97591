"""`Storage`: the object that a user makes, hands over, and looks into."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, NoReturn, ParamSpec, Self, TypeVar

from ..errors import ClosedError, InvalidInputError, SessionNotFoundError, UnsupportedError
from ..records import Entry
from . import branches as branching
from . import media as keeping
from . import reads, turns, writes
from .core import Core, Settings
from .driver import Capabilities, Driver
from .faces import Worker, async_face, background, forget_closed, step, sync_face
from .reads import check_count, check_seconds

if TYPE_CHECKING:
    import asyncio

P = ParamSpec("P")
R = TypeVar("R")


class Storage:
    """Keeps sessions in one database.

    Every operation comes twice: `storage.session(…)` for synchronous code and `await storage.asession(…)` for
    asynchronous code, on the same object, from any thread or event loop. Subclasses (`SqliteStorage`,
    `MemoryStorage`, …) make the driver; this class knows nothing of any database.

    Args:
        driver: the driver that synchronous callers use; asynchronous ones too, in a worker thread, unless there
            is an `async_driver`. None: synchronous callers are served by the async driver on a background loop.
        async_driver: makes a driver over an asynchronous client; called once for each event loop that uses the
            storage, because such clients belong to one loop.
        timeout: seconds that any one operation may take; then `DeadlineError`.
        require_user: refuse operations on sessions that name no `user_id`.
        ttl: seconds after its last change at which a new session expires, if it does not say itself.
        lease: seconds after which a process that does not answer is taken for gone.
        max_commit_bytes, max_state_bytes, max_metadata_bytes, max_media_bytes: limits, in bytes of JSON or media.
        inline_media_bytes: binary parts up to this size stay inside their message.
    """

    def __init__(
        self,
        driver: Driver | None,
        *,
        async_driver: Callable[[], Driver] | None = None,
        timeout: float = 30.0,
        require_user: bool = False,
        ttl: float | None = None,
        lease: float = 30.0,
        max_commit_bytes: int = 16 * 1024 * 1024,
        max_state_bytes: int = 256 * 1024,
        max_metadata_bytes: int = 16 * 1024,
        inline_media_bytes: int = 4 * 1024,
        max_media_bytes: int = 64 * 1024 * 1024,
    ) -> None:
        for value, what in ((timeout, "timeout"), (lease, "lease")):
            check_seconds(value, what)
        for value, what in (
            (max_commit_bytes, "max_commit_bytes"),
            (max_state_bytes, "max_state_bytes"),
            (max_metadata_bytes, "max_metadata_bytes"),
            (inline_media_bytes, "inline_media_bytes"),
            (max_media_bytes, "max_media_bytes"),
        ):
            check_count(value, what, least=0)
        writes.ttl_micros(ttl)
        self._settings = Settings(
            timeout,
            require_user,
            ttl,
            lease,
            max_commit_bytes,
            max_state_bytes,
            max_metadata_bytes,
            inline_media_bytes,
            max_media_bytes,
        )
        if driver is None and async_driver is None:
            raise InvalidInputError("A storage needs a driver.")
        self._core = None if driver is None else Core(driver, self._settings)
        self._async_driver = async_driver
        self._loop_cores: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Core] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()
        self._worker = Worker()
        self._closed = False
        weakref.finalize(self, self._worker.close)  # its threads would wait for ever
        _open_storages.add(self)

    # ------------------------------------------------------------ operations

    session = sync_face(reads.session)
    asession = async_face(reads.session)
    load_session = sync_face(reads.load_session)
    aload_session = async_face(reads.load_session)
    sessions = sync_face(reads.sessions)
    asessions = async_face(reads.sessions)
    count_sessions = sync_face(reads.count_sessions)
    acount_sessions = async_face(reads.count_sessions)
    runs = sync_face(reads.runs)
    aruns = async_face(reads.runs)
    run = sync_face(reads.run)
    arun = async_face(reads.run)
    messages = sync_face(reads.messages)
    amessages = async_face(reads.messages)
    branches = sync_face(reads.branches)
    abranches = async_face(reads.branches)
    entries = sync_face(reads.entries)
    aentries = async_face(reads.entries)
    verify = sync_face(reads.verify)
    averify = async_face(reads.verify)
    media = sync_face(keeping.media)
    amedia = async_face(keeping.media)

    create_session = sync_face(writes.create_session)
    acreate_session = async_face(writes.create_session)
    add_run = sync_face(writes.add_run)
    aadd_run = async_face(writes.add_run)
    rename = sync_face(writes.rename)
    arename = async_face(writes.rename)
    set_metadata = sync_face(writes.set_metadata)
    aset_metadata = async_face(writes.set_metadata)
    update_state = sync_face(writes.update_state)
    aupdate_state = async_face(writes.update_state)
    expire = sync_face(writes.expire)
    aexpire = async_face(writes.expire)
    delete = sync_face(writes.delete)
    adelete = async_face(writes.delete)
    delete_user = sync_face(writes.delete_user)
    adelete_user = async_face(writes.delete_user)
    sweep = sync_face(writes.sweep)
    asweep = async_face(writes.sweep)

    fork = sync_face(branching.fork)
    afork = async_face(branching.fork)
    rewind = sync_face(branching.rewind)
    arewind = async_face(branching.rewind)
    cancel_run = sync_face(turns.cancel_run)
    acancel_run = async_face(turns.cancel_run)

    def follow(
        self, session_id: str, *, after: int = 0, poll: float = 0.5, user_id: str | None = None
    ) -> Iterator[Entry]:
        """The entries of a session after revision `after`, and then new ones as they are committed, without end.

        Ends when the session is deleted, also if another one is made under its id. `poll` is how long to wait
        between looks, in seconds, where the database cannot push. Raises `SessionNotFoundError` if there is no such
        session to begin with.
        """
        _check_follow(after, poll)
        incarnation = None
        while True:
            news = self.run_operation(reads.wait_entries, session_id, after, user_id, incarnation)
            if news is None:
                _check_gone(session_id, incarnation)
                return
            incarnation = news.incarnation
            for entry in news.entries:
                yield entry
                after = entry.seq
            if not news.entries and not news.waited:
                time.sleep(poll)

    async def afollow(
        self, session_id: str, *, after: int = 0, poll: float = 0.5, user_id: str | None = None
    ) -> AsyncIterator[Entry]:
        """The `async` twin of `follow`."""
        import asyncio

        _check_follow(after, poll)
        incarnation = None
        while True:
            news = await self.arun_operation(reads.wait_entries, session_id, after, user_id, incarnation)
            if news is None:
                _check_gone(session_id, incarnation)
                return
            incarnation = news.incarnation
            for entry in news.entries:
                yield entry
                after = entry.seq
            if not news.entries and not news.waited:
                await asyncio.sleep(poll)

    # ------------------------------------------------------------ life

    @property
    def capabilities(self) -> Capabilities:
        """What the database declares that it does; some of it, some databases say at first use."""
        with self._lock:
            cores = [core for core in (self._core, *self._loop_cores.values()) if core is not None]
        asked = [core for core in cores if core.ready]
        first = next(iter(asked or cores), None) or self._loop_core(background.loop())
        return first.driver.capabilities

    @property
    def settings(self) -> Settings:
        """What the storage was made with."""
        return self._settings

    def setup(self) -> None:
        """Create or migrate what the database needs. Done by itself at first use; call it to fail early."""
        self.run_operation(_setup)

    async def asetup(self) -> None:
        """The `async` twin of `setup`."""
        await self.arun_operation(_setup)

    def migrate(self, *, finish: bool = False, dry_run: bool = False) -> list[str]:
        """Create or migrate the schema, and return the statements that were run; none if it was up to date.

        Programs of the version before go on working, until it is called with `finish`, which is for when they are
        gone. With `dry_run` nothing is changed: the statements that would be run are returned. Empty for databases
        that have no schema.
        """
        return self.run_operation(_migrate, finish, dry_run)

    async def amigrate(self, *, finish: bool = False, dry_run: bool = False) -> list[str]:
        """The `async` twin of `migrate`."""
        return await self.arun_operation(_migrate, finish, dry_run)

    def warnings(self) -> list[str]:
        """What may be lost with the database as it is set up, and what to do about it; empty where nothing is known."""
        return self.run_operation(_warnings)

    async def awarnings(self) -> list[str]:
        """The `async` twin of `warnings`."""
        return await self.arun_operation(_warnings)

    def close(self) -> None:
        """Close what the storage opened itself; further operations raise `ClosedError`. Idempotent.

        Asynchronous clients of event loops other than the background one are closed by `aclose` in their loop.
        """
        if self._closed:
            return
        self._closed = True
        if self._core is not None:
            step(self._core.driver.close())
        ours = self._loop_cores.pop(background.loop(), None) if self._async_driver is not None else None
        if ours is not None:
            background.run(_close(ours))
        self._worker.close()

    async def aclose(self) -> None:
        """The `async` twin of `close`; closes also the asynchronous client of the running loop."""
        import asyncio

        ours = self._loop_cores.pop(asyncio.get_running_loop(), None)
        if ours is not None:
            await ours.driver.close()
        if not self._closed:
            await self._worker.run(self.close)

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

    # ------------------------------------------------------------ running operations

    def run_operation(
        self, operation: Callable[Concatenate[Core, P], Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Run an operation of this package for a synchronous caller."""
        self._check_open()
        if self._core is not None:
            return step(operation(self._core, *args, **kwargs))
        core = self._loop_core(background.loop())
        return background.run(operation(core, *args, **kwargs))

    async def arun_operation(
        self, operation: Callable[Concatenate[Core, P], Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Run an operation of this package for an asynchronous caller: awaited, or the whole of it in one hop."""
        self._check_open()
        core = self._core
        if self._async_driver is None and core is not None:
            deadline = core.deadline()

            def work() -> R:
                deadline.check("Waiting for a worker thread")
                return step(operation(core, *args, **kwargs))

            return await self._worker.run(work)
        import asyncio

        return await operation(self._loop_core(asyncio.get_running_loop()), *args, **kwargs)

    def _loop_core(self, loop: asyncio.AbstractEventLoop) -> Core:
        """The core over this event loop's own asynchronous driver."""
        with self._lock:
            core = self._loop_cores.get(loop)
            if core is None:
                assert self._async_driver is not None, "checked when the storage was made"
                forget_closed(self._loop_cores)
                core = self._loop_cores[loop] = Core(self._async_driver(), self._settings)
            return core

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("This storage was closed.")

    def before_fork(self) -> None:
        """Before a fork: bring what the child will inherit to rest."""
        if self._core is not None:
            self._core.driver.before_fork()

    def after_fork_in_parent(self) -> None:
        """In the parent of a fork: go on."""
        if self._core is not None:
            self._core.driver.after_fork_in_parent()

    def after_fork(self) -> None:
        """In a forked child: open everything anew at first use."""
        if self._core is not None:
            self._core.driver.after_fork()
            self._core.ready = False
        _inherited.extend(self._loop_cores.items())
        self._loop_cores = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()
        self._worker = Worker()


async def _close(core: Core) -> None:
    await core.driver.close()


async def _setup(core: Core) -> None:
    await core.prepare(core.deadline())


async def _migrate(core: Core, finish: bool, dry_run: bool) -> list[str]:
    return await core.driver.migrate(core.deadline(), finish=finish, dry_run=dry_run)


async def _warnings(core: Core) -> list[str]:
    await core.prepare(core.deadline())
    return list(core.driver.warnings())


def check_storage(value: Any) -> None:
    """Refuse what is neither a storage nor None: a URL, for example."""
    if value is not None and not isinstance(value, Storage):
        raise InvalidInputError(
            f"storage must be a storage object, not a {type(value).__name__}.",
            hint='Make one: SqliteStorage("sessions.db"), or sessile.open(url).',
        )


def _check_follow(after: int, poll: float) -> None:
    check_count(after, "after", least=0)
    check_seconds(poll, "poll")


def _check_gone(session_id: str, incarnation: str | None) -> None:
    if incarnation is None:
        raise SessionNotFoundError(f"There is no session {session_id!r}.")


_open_storages: weakref.WeakSet[Storage] = weakref.WeakSet()


_fork_lock = threading.Lock()
_forking: list[Storage] = []

_inherited: list[tuple[asyncio.AbstractEventLoop, Core]] = []
"""In a forked child: the parent's event loops and their drivers, which must never be collected.

Streams of asyncio close themselves when they are (`StreamWriter.__del__`), and parent and child have one list of what
the loop listens to (epoll): the parent would hear no more of its connections, and wait for ever.
"""


def _before_fork() -> None:
    _fork_lock.acquire()
    _forking[:] = list(_open_storages)
    for storage in _forking:
        storage.before_fork()


def _after_fork_in_parent() -> None:
    for storage in _forking:
        storage.after_fork_in_parent()
    _forking.clear()
    _fork_lock.release()


def _after_fork_in_child() -> None:
    global _fork_lock
    _fork_lock = threading.Lock()
    _forking.clear()
    background.after_fork()
    for storage in list(_open_storages):
        storage.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
