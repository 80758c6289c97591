"""Who uses a connection of the application's now."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from ...errors import ReadOnlyError, StorageError, StorageUnavailableError
from ...storage.driver import Deadline
from ...storage.faces import OneLoop


def spoil(failed: StorageError) -> StorageError:
    """An error in a transaction of the application's: no attempt of ours can repair it, only one of the whole."""
    failed.hint = f"Roll the transaction back, and repeat it whole.{'' if failed.retryable else f' {failed.hint}'}"
    failed.retryable = False
    return failed


def refuse_writes(failed: ReadOnlyError) -> ReadOnlyError:
    """An error in a transaction of the application's that may only read: to repeat it as it is would be of no use."""
    failed.hint = (
        "Roll the transaction back, and begin one that may write; if the server only follows another one, connect to "
        "the primary."
    )
    failed.retryable = False
    return failed


def not_open(where: str) -> StorageUnavailableError:
    """The error of a connection of the application's that was closed, or lost, before anything was sent."""
    return StorageUnavailableError(
        f"Nothing was sent to {where}: the application's connection is closed, or was never opened.",
        hint="Make a storage with an open connection, and repeat the transaction whole.",
        retryable=False,
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
                f"Other operations used the application's connection for {deadline.timeout:g} s.", retryable=False
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
