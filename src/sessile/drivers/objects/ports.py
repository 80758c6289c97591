"""Ways to an object store: obstore's functions that block, and those for event loops.

Requests that may be repeated without harm are repeated here when the store is busy or the connection breaks. Others are
sent once, since a create that came through is refused when it is repeated: whoever asked can tell by the commit's own
id. obstore itself never repeats one.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple, TypeVar, cast

import obstore

from ...errors import ClosedError, DeadlineError, StorageError, Written
from ...storage.dates import ServerClock
from ...storage.driver import Deadline
from ...storage.faces import stepped_together
from ...storage.retrying import back_off
from ...storage.stats import Stats
from .errors import FAILURES, REFUSED, is_absent, is_broken, translate

T = TypeVar("T")

logger = logging.getLogger("sessile")

ATTEMPTS = 6
"""How often a request that may be repeated is sent until the caller hears of the trouble: about a second."""

CONNECT_SECONDS, REQUEST_SECONDS = 3.0, 15.0
"""How long a connection and a request may take, if the storage's timeout is not shorter."""

AT_ONCE = 16
"""How many requests one operation has under way."""

LIST_PAGE = 1000
"""How many names one request lists, by all services alike."""

PANICS = ("PanicException", "RustPanic")
"""What obstore raises where its own code cannot go on; not to be imported, and the first is no `Exception`."""

FORKED = "This process was forked from one that had used obstore, whose threads do not live on in it."


class Version(NamedTuple):
    """Which content of an object one has seen: an ETag (S3), a generation (GCS)."""

    e_tag: str | None
    generation: str | None


class Object(NamedTuple):
    """The content of an object, and when it was written (the store's clock, microseconds, maybe to the second)."""

    data: bytes
    version: Version
    time: int


class Listed(NamedTuple):
    """An object's name, and when it was written (the store's clock, microseconds)."""

    name: str
    time: int


@dataclass(frozen=True, slots=True)
class Target:
    """A bucket.

    Attributes:
        where: names it in messages.
        make: makes obstore's store, with options that all stores have.
        timeout: that of the storage, in seconds.
        bulk: whether one request deletes many objects.
    """

    where: str
    make: Callable[[dict[str, Any]], Any]
    timeout: float
    bulk: bool

    def store(self) -> Any:
        """A new store."""
        options = {
            "client_options": {
                "allow_http": True,
                "timeout": timedelta(seconds=min(REQUEST_SECONDS, self.timeout)),
                "connect_timeout": timedelta(seconds=min(CONNECT_SECONDS, self.timeout)),
            },
            "retry_config": {"max_retries": 0},
        }
        return self.make(options)


class Port(ABC):
    """A way to a bucket. Raises our errors."""

    suspends: bool

    def __init__(self, target: Target) -> None:
        self.where = target.where
        self.stats = Stats()
        self.clock = ServerClock()
        self._target = target
        self._store: Any = None
        self._closed = False
        self._lock = threading.Lock()

    @abstractmethod
    async def _get(self, name: str, deadline: Deadline) -> tuple[bytes, Any]: ...

    @abstractmethod
    async def _put(self, name: str, data: bytes, mode: Any, deadline: Deadline) -> None: ...

    @abstractmethod
    async def _delete(self, names: Sequence[str], deadline: Deadline) -> None: ...

    @abstractmethod
    async def _list(self, prefix: str, after: str | None, deadline: Deadline) -> Sequence[Any]: ...

    @abstractmethod
    async def pause(self, seconds: float) -> None:
        """Wait."""

    @abstractmethod
    async def gather(self, work: Iterable[Callable[[], Coroutine[Any, Any, T]]]) -> list[T]:
        """The results of several pieces of work, done at the same time."""

    # ------------------------------------------------------------ requests

    async def get(self, what: str, name: str, deadline: Deadline) -> Object | None:
        """An object, or None if there is none of that name."""

        async def send() -> Object | None:
            try:
                data, meta = await self._get(name, deadline)
            except FileNotFoundError as error:
                if is_absent(error):
                    return None
                raise
            return Object(data, Version(meta["e_tag"], meta["version"]), _micros_of(meta))

        return await self._repeat(what, send, deadline, "no")

    async def put(self, what: str, name: str, data: bytes, deadline: Deadline) -> None:
        """Write an object, whatever is there."""
        await self._repeat(what, lambda: self._put(name, data, "overwrite", deadline), deadline, "unknown")

    async def create(self, what: str, name: str, data: bytes, deadline: Deadline, *, repeatable: bool = False) -> bool:
        """Write an object unless there is one of that name; False if there is. Sent once unless it is `repeatable`.

        One that is repeated may find what it has written itself.
        """
        return await self._conditional(what, lambda: self._put(name, data, "create", deadline), deadline, repeatable)

    async def replace(
        self, what: str, name: str, data: bytes, seen: Version, deadline: Deadline, *, repeatable: bool = False
    ) -> bool:
        """Write an object over the content that was seen; False if it has another now. `repeatable` as in `create`."""
        known = {"e_tag": seen.e_tag, "version": seen.generation}
        mode = {name: value for name, value in known.items() if value is not None}
        return await self._conditional(what, lambda: self._put(name, data, mode, deadline), deadline, repeatable)

    async def delete(self, what: str, names: Sequence[str], deadline: Deadline) -> None:
        """Remove objects; those that are not there are removed already."""
        size = LIST_PAGE if self._target.bulk else 1
        pages = [names[start : start + size] for start in range(0, len(names), size)]
        await self.gather(partial(self._delete_page, what, page, deadline) for page in pages)

    async def _delete_page(self, what: str, names: Sequence[str], deadline: Deadline) -> None:
        async def send() -> None:
            try:
                await self._delete(names, deadline)
            except FileNotFoundError as error:
                if not is_absent(error):
                    raise

        await self._repeat(what, send, deadline, "unknown")

    async def list(self, what: str, prefix: str, deadline: Deadline, after: str | None = None) -> list[Listed]:
        """The first objects below `prefix` in the order of their names, after a name; at most `LIST_PAGE`."""

        async def send() -> list[Listed]:
            found = await self._list(prefix, after, deadline)
            return [Listed(meta["path"], _micros_of(meta)) for meta in found]

        return await self._repeat(what, send, deadline, "no")

    async def _repeat(
        self, what: str, send: Callable[[], Coroutine[Any, Any, T]], deadline: Deadline, written: Written
    ) -> T:
        """Send a request until it has an answer."""
        unknown, failed = False, None
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await self._send(what, send, deadline, written)
            except StorageError as error:
                unknown = unknown or error.written == "unknown"
                if failed is None or not isinstance(error, DeadlineError):
                    failed = error  # which says more than that time is up
                failed.written = "unknown" if unknown else "no"
                over = not error.retryable or attempt == ATTEMPTS or deadline.remaining() <= 0
            if over:
                raise failed
            self.stats.count("retries")
            logger.info("%s on %s is tried again after: %s", what, self.where, failed)
            await self.pause(back_off(attempt, deadline))
        raise AssertionError("the last attempt returns or raises")

    async def _conditional(
        self, what: str, send: Callable[[], Coroutine[Any, Any, None]], deadline: Deadline, repeatable: bool
    ) -> bool:
        """Send a request with a condition; False if the condition does not hold."""
        try:
            await (self._repeat if repeatable else self._send)(what, send, deadline, "unknown")
        except _RefusedError:
            return False
        return True

    async def _send(
        self, what: str, send: Callable[[], Coroutine[Any, Any, T]], deadline: Deadline, written: Written
    ) -> T:
        deadline.check(f"{what} on {self.where}")
        try:
            return await send()
        except REFUSED as error:
            raise _RefusedError from error
        except TimeoutError as error:
            text = f"{what} on {self.where} did not end within {deadline.timeout:g} s."
            late = DeadlineError(text, written=written, retryable=written == "no")
            self._count_trouble(late)
            raise late from error
        except FAILURES as error:
            failure = translate(error, what, self.where, written)
            self._count_trouble(failure, broken=is_broken(error))
            raise failure from error
        except BaseException as error:
            if type(error).__name__ not in PANICS:
                raise
            hint = "Look at its settings: endpoint, region and config."
            raise StorageError(f"obstore gives up: {what} on {self.where}.", written=written, hint=hint) from error

    def _count_trouble(self, failure: StorageError, *, broken: bool = False) -> None:
        """Count a write whose answer was lost, and a connection that is rebuilt by the next request."""
        if failure.written == "unknown":
            self.stats.unknown(failure)
            logger.info("A write had no answer: %s", failure)
        if broken:
            self.stats.count("reconnects")
            logger.info("A connection to %s broke, and the next request makes another.", self.where)

    # ------------------------------------------------------------ life

    def _chunks(self, prefix: str, after: str | None) -> Any:
        """Pages of what is below a prefix; each is requested when it is taken."""
        client = cast(Any, obstore)  # its types name a package that it does not need
        return client.list(self._opened(), prefix, offset=after, chunk_size=LIST_PAGE)

    def _opened(self) -> Any:
        with self._lock:
            if self._closed:
                raise ClosedError("This storage was closed.")
            _check_not_forked()
            if self._store is None:
                self._store = self._target.store()
            return self._store

    async def close(self) -> None:
        """Let go of the store. Idempotent."""
        self._closed = True
        self._store = None

    def after_fork(self) -> None:
        """In a forked child: open everything anew."""
        self._store = None
        self._lock = threading.Lock()


def _micros_of(meta: Any) -> int:
    """When an object was written."""
    return int(meta["last_modified"].timestamp() * 1e6)


class _RefusedError(Exception):
    """The condition of a write does not hold."""


_user: list[int] = []  # the process that has used obstore first, which alone can go on using it


def _check_not_forked() -> None:
    if not _user:
        _user.append(os.getpid())
    if _user[0] != os.getpid():
        raise StorageError(FORKED, hint="Fork before the first use of a storage, or start processes without fork.")


class ThreadPort(Port):
    """Requests that block. The deadline is looked at between them; one takes no longer than its own timeout."""

    suspends = False

    async def _get(self, name: str, deadline: Deadline) -> tuple[bytes, Any]:
        found = obstore.get(self._opened(), name)
        return bytes(found.bytes()), found.meta

    async def _put(self, name: str, data: bytes, mode: Any, deadline: Deadline) -> None:
        obstore.put(self._opened(), name, data, mode=mode, use_multipart=False)

    async def _delete(self, names: Sequence[str], deadline: Deadline) -> None:
        obstore.delete(self._opened(), names if len(names) > 1 else names[0])

    async def _list(self, prefix: str, after: str | None, deadline: Deadline) -> Sequence[Any]:
        return next(self._chunks(prefix, after), ())

    async def pause(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251 (it blocks, as the port says)

    async def gather(self, work: Iterable[Callable[[], Coroutine[Any, Any, T]]]) -> list[T]:
        return await stepped_together(work, AT_ONCE)


_under_way: weakref.WeakSet[Any] = weakref.WeakSet()  # the answers that a thread of obstore may still hold


async def _answer(request: Awaitable[Any]) -> Any:
    _under_way.add(request)
    return await request


@atexit.register
def settle() -> None:
    """Wait, for a second at most, until obstore's threads have let go of all that was awaited.

    A thread of theirs holds an answer for a moment longer than whoever awaited it. When the interpreter ends in that
    moment, the thread is unwound through code that does not allow it, and the process aborts with all its work done.
    """
    end = time.monotonic() + 1.0
    while len(_under_way) and time.monotonic() < end:
        obstore.store.MemoryStore()  # any call: what threads have put aside is let go of then
        time.sleep(0.0005)


class TaskPort(Port):
    """Requests that an event loop awaits."""

    suspends = True

    async def _get(self, name: str, deadline: Deadline) -> tuple[bytes, Any]:
        async with asyncio.timeout(deadline.remaining()):
            found = await _answer(obstore.get_async(self._opened(), name))
            return bytes(await _answer(found.bytes_async())), found.meta

    async def _put(self, name: str, data: bytes, mode: Any, deadline: Deadline) -> None:
        async with asyncio.timeout(deadline.remaining()):
            await _answer(obstore.put_async(self._opened(), name, data, mode=mode, use_multipart=False))

    async def _delete(self, names: Sequence[str], deadline: Deadline) -> None:
        async with asyncio.timeout(deadline.remaining()):
            await _answer(obstore.delete_async(self._opened(), names if len(names) > 1 else names[0]))

    async def _list(self, prefix: str, after: str | None, deadline: Deadline) -> Sequence[Any]:
        async with asyncio.timeout(deadline.remaining()):
            try:  # `anext` with a default garbles errors, on Python 3.11
                return await _answer(aiter(self._chunks(prefix, after)).__anext__())
            except StopAsyncIteration:
                return ()

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def gather(self, work: Iterable[Callable[[], Coroutine[Any, Any, T]]]) -> list[T]:
        room = asyncio.Semaphore(AT_ONCE)

        async def within(piece: Callable[[], Coroutine[Any, Any, T]]) -> T:
            async with room:
                return await piece()

        results = await asyncio.gather(*(within(piece) for piece in work), return_exceptions=True)
        done: list[T] = []
        for result in results:  # all of them have ended
            if isinstance(result, BaseException):
                raise result
            done.append(result)
        return done
