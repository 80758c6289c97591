"""What followers of sessions share, whatever announces commits to them."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from typing import Generic, TypeVar

S = TypeVar("S")

RETRY_SECONDS = 10.0
"""How long after a connection for announcements could not be opened the next attempt is made; until then they poll."""


class Announcements(ABC, Generic[S]):
    """One connection for all followers of a storage on one event loop, which wakes who waits for a commit."""

    def __init__(self) -> None:
        self._opening = asyncio.Lock()
        self._not_before = 0.0
        self._task: asyncio.Task[None] | None = None
        self._waiting: dict[str, set[asyncio.Event]] = {}

    @abstractmethod
    async def _open(self) -> S | None:
        """A connection that announces from now on; None if there is none for the moment."""

    @abstractmethod
    async def _listen(self, connection: S) -> None:
        """Call `wake` for each announcement until the connection is lost, and close it."""

    async def register(self, incarnation: str) -> asyncio.Event | None:
        """An event that is set by the next announcement from now on, or when the connection is lost; None: poll."""
        async with self._opening:
            if self._task is None or self._task.done():
                if time.monotonic() < self._not_before:
                    return None
                connection = await self._open()
                if connection is None:
                    self._not_before = time.monotonic() + RETRY_SECONDS
                    return None
                self._task = asyncio.create_task(self._serve(connection))
        event = asyncio.Event()
        self._waiting.setdefault(incarnation, set()).add(event)
        return event

    async def wait(self, incarnation: str, event: asyncio.Event, seconds: float) -> None:
        """Wait for a registered event, at most so long, and forget it."""
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return
        finally:
            events = self._waiting.get(incarnation, set())
            events.discard(event)
            if not events:
                self._waiting.pop(incarnation, None)

    def wake(self, incarnation: str) -> None:
        """Wake who waits for a commit to an incarnation."""
        for event in self._waiting.get(incarnation, ()):
            event.set()

    async def _serve(self, connection: S) -> None:
        try:
            await self._listen(connection)
        finally:  # whoever waits next connects anew
            for incarnation in self._waiting:
                self.wake(incarnation)

    async def close(self) -> None:
        """Stop listening."""
        async with self._opening:
            if self._task is not None:
                self._task.cancel()
                await asyncio.wait([self._task])
