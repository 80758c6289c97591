"""Pools of connections: made when they are needed, in the thread or task that needs them, so that errors are its own.

The connection that was used last is given out first, so that a quiet pool shrinks. Two classes, because threads and
tasks wait in different ways; what is idle, too old or too many is decided once, for both.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypedDict, TypeVar

from ...errors import ClosedError, DeadlineError, StorageUnavailableError
from ...storage.checks import check_count, check_seconds
from ...storage.driver import Deadline
from ...storage.stats import Stats
from ...storage.threads import unless_interrupted

logger = logging.getLogger("sessile")

C = TypeVar("C")

MAX_IDLE = 300.0
"""Seconds after which an idle connection is not used again: a firewall may have forgotten it."""

MAX_AGE = 3600.0
"""Seconds after which a connection is replaced, so that a change of servers behind a name comes through."""

JITTER = 0.1
"""By which part of it the greatest age differs between connections, so that not all are rebuilt at once."""


class PoolSettings(TypedDict):
    """What users choose of a pool."""

    size: int
    max_age: float


def pool_settings(pool_size: Any, max_connection_age: Any) -> PoolSettings:
    """The settings, checked."""
    check_count(pool_size, "pool_size", least=1)
    check_seconds(max_connection_age, "max_connection_age")
    return {"size": pool_size, "max_age": max_connection_age}


def jittered(max_age: float) -> float:
    """The greatest age of one connection."""
    return max_age * random.uniform(1 - JITTER, 1 + JITTER)


class _Idle(Generic[C]):
    """The connections that nobody uses, the last used one on top."""

    def __init__(self, max_age: float, stats: Stats) -> None:
        self._lock = threading.Lock()
        self._stack: list[tuple[C, float]] = []  # with the time of last use
        self._until: dict[int, float] = {}  # when each connection, idle or in use, will be too old
        self._max_age = max_age
        self._stats = stats
        self._to_replace = 0  # connections that were cut or too old
        self.closed = False

    def take(self) -> tuple[C | None, list[C]]:
        """A connection that may be used, if there is one, and those that must be closed."""
        now = time.monotonic()
        old: list[C] = []
        with self._lock:
            if self.closed:
                raise ClosedError("This storage was closed.")
            while self._stack:
                connection, used = self._stack.pop()
                too_old = self._is_old(connection, now)
                if now - used < MAX_IDLE and not too_old:
                    return connection, old
                self._forget(connection, replace=too_old)
                old.append(connection)
        return None, old

    def made(self, connection: C) -> None:
        """Note when a connection was made."""
        with self._lock:
            self._until[id(connection)] = time.monotonic() + jittered(self._max_age)
            replaces = self._to_replace > 0
            self._to_replace -= int(replaces)
        if replaces:
            self._stats.count("reconnects")
            logger.info("A connection was made in place of one that was cut or had grown old.")

    def put(self, connection: C) -> bool:
        """Take a connection back; False if it must be closed."""
        now = time.monotonic()
        with self._lock:
            if self.closed or self._is_old(connection, now):
                self._forget(connection, replace=not self.closed)
                return False
            self._stack.append((connection, now))
            return True

    def forget(self, connection: C) -> None:
        """Note that a connection in use will not come back."""
        with self._lock:
            self._forget(connection, replace=True)

    def clear(self, *, close: bool = False) -> list[C]:
        """All idle connections, to be closed."""
        with self._lock:
            self.closed = self.closed or close
            connections = [connection for connection, _ in self._stack]
            self._stack.clear()
            for connection in connections:
                self._forget(connection, replace=not close)
        return connections

    def full(self) -> None:
        """Note that somebody must wait for a connection."""
        self._stats.count("pool_waits")
        logger.info("All connections of the pool are in use; waiting for one.")

    def _is_old(self, connection: C, now: float) -> bool:
        return now >= self._until.get(id(connection), now)

    def _forget(self, connection: C, *, replace: bool) -> None:
        self._until.pop(id(connection), None)
        self._to_replace += int(replace)


def _exhausted(size: int, deadline: Deadline) -> StorageUnavailableError:
    return StorageUnavailableError(
        f"All {size} connections of the pool were in use for {deadline.timeout:g} s.",
        hint="Try again, or make the storage with a larger pool_size.",
    )


class ThreadPool(Generic[C]):
    """At most `size` connections, for threads.

    Args:
        connect: makes a connection within a deadline, or raises an error of ours.
        close: closes one; never raises.
        stats: where reconnects and waits are counted.
        max_age: seconds after which a connection is replaced when it comes back, a tenth more or less.
    """

    def __init__(
        self,
        connect: Callable[[Deadline], C],
        close: Callable[[C], None],
        size: int,
        stats: Stats,
        *,
        max_age: float = MAX_AGE,
    ) -> None:
        self._connect, self._close, self.size = connect, close, size
        self._idle: _Idle[C] = _Idle(max_age, stats)
        self._free = threading.Semaphore(size)

    def acquire(self, deadline: Deadline) -> C:
        """A connection, for this thread alone until it is released or discarded."""
        if not self._free.acquire(blocking=False):
            self._idle.full()
            if not deadline.acquire(self._free):
                raise _exhausted(self.size, deadline)
        try:
            connection, old = self._idle.take()
            for each in old:
                self._close(each)
            if connection is None:
                connection = unless_interrupted(lambda: self._connect(deadline), self._close)
                if connection is None:
                    raise DeadlineError("Connecting was given up: the caller was interrupted.", written="no")
                self._idle.made(connection)
        except BaseException:
            self._free.release()
            raise
        return connection

    def release(self, connection: C) -> None:
        """Give a sound connection back."""
        if not self._idle.put(connection):
            self._close(connection)
        self._free.release()

    def abandon(self, connection: C, stop: Callable[[C], object]) -> None:
        """Give a connection back on which nobody waits for an answer any more, when `stop` has told the server.

        Who is interrupted does not wait for that.
        """

        def end() -> None:
            try:
                stop(connection)
            finally:
                self.discard(connection)

        unless_interrupted(end)

    def discard(self, connection: C) -> None:
        """Give a connection back that cannot be used again."""
        self._idle.forget(connection)
        self._close(connection)
        self._free.release()

    def clear(self) -> None:
        """Close what is idle: the server is another one, or was restarted."""
        for connection in self._idle.clear():
            self._close(connection)

    def close(self) -> None:
        """Close what is idle now, and what is in use when it comes back."""
        for connection in self._idle.clear(close=True):
            self._close(connection)


class TaskPool(Generic[C]):
    """At most `size` connections, for the tasks of one event loop. The methods are those of `ThreadPool`."""

    def __init__(
        self,
        connect: Callable[[Deadline], Awaitable[C]],
        close: Callable[[C], Awaitable[None]],
        size: int,
        stats: Stats,
        *,
        max_age: float = MAX_AGE,
    ) -> None:
        self._connect, self._close, self.size = connect, close, size
        self._idle: _Idle[C] = _Idle(max_age, stats)
        self._free = asyncio.Semaphore(size)

    async def acquire(self, deadline: Deadline) -> C:
        """A connection, for this task alone until it is released or discarded."""
        try:
            if not self._free.locked():
                await self._free.acquire()  # does not wait; a time limit costs more than all the rest
            else:
                self._idle.full()
                async with asyncio.timeout(deadline.remaining()):
                    await self._free.acquire()
        except TimeoutError:
            raise _exhausted(self.size, deadline) from None
        try:
            connection, old = self._idle.take()
            for each in old:
                await self._close(each)
            if connection is None:
                connection = await self._connect(deadline)
                self._idle.made(connection)
        except BaseException:
            self._free.release()
            raise
        return connection

    async def release(self, connection: C) -> None:
        """Give a sound connection back."""
        if not self._idle.put(connection):
            await self._close(connection)
        self._free.release()

    async def discard(self, connection: C) -> None:
        """Give a connection back that cannot be used again."""
        self._idle.forget(connection)
        try:
            await self._close(connection)
        finally:
            self._free.release()

    async def clear(self) -> None:
        """Close what is idle: the server is another one, or was restarted."""
        for connection in self._idle.clear():
            await self._close(connection)

    async def close(self) -> None:
        """Close what is idle now, and what is in use when it comes back."""
        for connection in self._idle.clear(close=True):
            await self._close(connection)
