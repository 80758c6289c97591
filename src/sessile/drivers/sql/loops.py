"""Asynchronous connections and clients of the application's belong to one event loop."""

from __future__ import annotations

import asyncio
import weakref

from ...errors import UnsupportedError


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
