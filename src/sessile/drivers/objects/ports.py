"""Ways to an object store: obstore's functions that block, and their twins for event loops.

Requests that may be repeated without harm are repeated here when the store is busy or the connection breaks. Others are
sent once, since a create that came through is refused when it is repeated: whoever asked can tell by the commit's own
id. obstore itself never repeats one.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple, TypeVar, cast

import obstore

from ...errors import ClosedError, DeadlineError, StorageError, Written
from ...storage.driver import Deadline
from ...storage.faces import step
from .errors import FAILURES, REFUSED, is_absent, translate

T = TypeVar("T")

ATTEMPTS = 6
"""How often a request that may be repeated is sent until the caller hears of the trouble: about a second."""

FIRST_PAUSE, LONGEST_PAUSE = 0.02, 1.0
"""Seconds within which the first pause between two attempts lies, and the longest."""

CONNECT_SECONDS, REQUEST_SECONDS = 3.0, 15.0
"""How long a connection and a request may take, if the storage's timeout is not shorter."""

AT_ONCE = 16
"""How many requests one operation has under way."""

LIST_PAGE = 1000
"""How many names one request lists, by all services alike."""

FORKED = "This process was forked from one that had used obstore, whose threads do not live on in it."


class Version(NamedTuple):
    """Which content of an object one has seen: an ETag (S3), a generation (GCS)."""

    e_tag: str | None
    generation: str | None


class Object(NamedTuple):
    """The content of an object."""

    data: bytes
    version: Version


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
            return Object(data, Version(meta["e_tag"], meta["version"]))

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
            return [Listed(meta["path"], int(meta["last_modified"].timestamp() * 1e6)) for meta in found]

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
                over = not error.retry or attempt == ATTEMPTS or deadline.remaining() <= 0
            if over:
                raise failed
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
            raise DeadlineError(text, written=written, retry=written == "no") from error
        except FAILURES as error:
            raise translate(error, what, self.where, written) from error

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


class _RefusedError(Exception):
    """The condition of a write does not hold."""


_user: list[int] = []  # the process that has used obstore first, which alone can go on using it


def _check_not_forked() -> None:
    if not _user:
        _user.append(os.getpid())
    if _user[0] != os.getpid():
        raise StorageError(FORKED, hint="Fork before the first use of a storage, or start processes without fork.")


def back_off(attempt: int, deadline: Deadline) -> float:
    """Seconds until the next attempt: anything up to a bound that doubles, so that those who collide spread."""
    return min(random.uniform(0, min(LONGEST_PAUSE, FIRST_PAUSE * 2**attempt)), deadline.remaining())


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
        pieces = list(work)
        if len(pieces) < 2:
            return [await piece() for piece in pieces]
        with ThreadPoolExecutor(min(len(pieces), AT_ONCE), "sessile-objects") as pool:
            futures = [pool.submit(step, piece()) for piece in pieces]
        return [future.result() for future in futures]


class TaskPort(Port):
    """Requests that an event loop awaits."""

    suspends = True

    async def _get(self, name: str, deadline: Deadline) -> tuple[bytes, Any]:
        async with asyncio.timeout(deadline.remaining()):
            found = await obstore.get_async(self._opened(), name)
            return bytes(await found.bytes_async()), found.meta

    async def _put(self, name: str, data: bytes, mode: Any, deadline: Deadline) -> None:
        async with asyncio.timeout(deadline.remaining()):
            await obstore.put_async(self._opened(), name, data, mode=mode, use_multipart=False)

    async def _delete(self, names: Sequence[str], deadline: Deadline) -> None:
        async with asyncio.timeout(deadline.remaining()):
            await obstore.delete_async(self._opened(), names if len(names) > 1 else names[0])

    async def _list(self, prefix: str, after: str | None, deadline: Deadline) -> Sequence[Any]:
        async with asyncio.timeout(deadline.remaining()):
            async for page in self._chunks(prefix, after):  # `anext` with a default garbles errors, on Python 3.11
                return page
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
