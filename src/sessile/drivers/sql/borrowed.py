"""Connections and clients of the application's: which event loop they belong to, and who uses them now."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from ...errors import StorageUnavailableError, UnsupportedError
from ...storage.driver import Deadline


class OneLoop:
    """Sees to it that asynchronous connections are used on one event loop only.

    Args:
        where: names the database in messages.
        loop: the event loop; None: that of their first use.
    """

    def __init__(self, where: str, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._where = where
        self._loop = None if loop is None else weakref.ref(loop)

    def check(self) -> None:
        """Raise `UnsupportedError` on another event loop than the first, while that one is there."""
        loop = asyncio.get_running_loop()
        first = None if self._loop is None else self._loop()
        if first is None or first.is_closed():
            self._loop = weakref.ref(loop)
        elif first is not loop:
            raise UnsupportedError(
                f"The asynchronous connections to {self._where} belong to another event loop.",
                hint="Make the storage from a URL, which serves every loop and synchronous callers too.",
            )


class OneAtATime:
    """Lets one operation at a time use a connection, on which the answers of several would be mixed up.

    Args:
        loop: the one of an asynchronous connection; None: threads use it.
    """

    def __init__(self, loop: OneLoop | None) -> None:
        self._loop = loop
        self._tasks = asyncio.Lock()
        self._threads = threading.Lock()

    @asynccontextmanager
    async def turn(self, deadline: Deadline) -> AsyncGenerator[None]:
        """The time in which nobody else uses the connection.

        Raises `UnsupportedError` on another event loop than the connection's, and `StorageUnavailableError` if the
        turn does not come before the deadline.
        """
        lock = self._threads if self._loop is None else self._tasks
        if self._loop is None:
            got = self._threads.acquire(timeout=deadline.remaining())
        else:
            self._loop.check()
            got = await self._wait(deadline)
        if not got:
            raise StorageUnavailableError(
                f"Other operations used the application's connection for {deadline.timeout:g} s.", retry=False
            )
        try:
            yield
        finally:
            lock.release()

    async def _wait(self, deadline: Deadline) -> bool:
        try:
            async with asyncio.timeout(deadline.remaining()):
                return await self._tasks.acquire()
        except TimeoutError:
            return False
