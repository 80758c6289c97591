"""What followers of sessions share where announcements come over one connection for all sessions."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from ...storage.waking import Waking

S = TypeVar("S")

RETRY_SECONDS = 10.0
"""How long after a connection for announcements could not be opened the next attempt is made; until then they poll."""


class Announcements(Waking, ABC, Generic[S]):
    """One connection for all followers of a storage on one event loop, opened when the first of them waits."""

    def __init__(self) -> None:
        super().__init__()
        self._opening = asyncio.Lock()
        self._not_before = 0.0
        self._closed = False

    @abstractmethod
    async def _open(self) -> S | None:
        """A connection that announces from now on; None if there is none for the moment."""

    @abstractmethod
    async def _listen(self, connection: S) -> None:
        """Call `wake` for each announcement until the connection is lost, and close it."""

    async def register(self, incarnation: str) -> asyncio.Event | None:
        """An event that is set by the next announcement from now on, or when the connection is lost; None: poll."""
        async with self._opening:
            if self._closed:  # the follower's next look says so
                return None
            if self._task is None or self._task.done():
                if time.monotonic() < self._not_before:
                    return None
                connection = await self._open()
                if connection is None:
                    self._not_before = time.monotonic() + RETRY_SECONDS
                    return None
                self._task = asyncio.create_task(self._serve(connection))
                await asyncio.sleep(0)  # a task that is cancelled before it begins would close nothing
        return self.expect(incarnation)

    async def _serve(self, connection: S) -> None:
        try:
            await self._listen(connection)
        finally:
            self.wake_all()  # whoever waits next connects anew

    async def close(self) -> None:
        """Stop listening."""
        async with self._opening:
            self._closed = True
            await super().close()
