"""One change stream for all followers of a storage on one event loop. Only replica sets and clusters have them."""

from __future__ import annotations

import asyncio
from typing import Any

from pymongo.errors import PyMongoError

from .port import Port

OPEN_SECONDS = 10.0

COMMITS = [
    {"$match": {"operationType": "insert", "fullDocument.seq": {"$gte": 1}}},
    {"$project": {"fullDocument.incarnation": 1}},
]
"""What is announced: the incarnation of each commit, as soon as the majority has it."""


class Changes:
    """Wakes who waits for a commit to an incarnation.

    Args:
        port: over an asynchronous client, which is used on one event loop.
    """

    def __init__(self, port: Port) -> None:
        self._port = port
        self._opening = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._waiting: dict[str, set[asyncio.Event]] = {}

    async def register(self, incarnation: str) -> asyncio.Event | None:
        """An event that is set by the next commit from now on, or at the end of the stream; None: there is none."""
        async with self._opening:
            if self._task is None or self._task.done():
                try:
                    async with asyncio.timeout(OPEN_SECONDS):
                        stream = await self._port.collection(self._port.target.sessions).watch(COMMITS)
                except (PyMongoError, TimeoutError):
                    return None
                self._task = asyncio.create_task(self._serve(stream))
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

    async def _serve(self, stream: Any) -> None:
        try:
            async with stream:
                async for change in stream:
                    for event in self._waiting.get(change["fullDocument"]["incarnation"], ()):
                        event.set()
        except PyMongoError:
            return  # whoever waits next opens another one
        finally:
            for events in self._waiting.values():
                for event in events:
                    event.set()

    async def close(self) -> None:
        """Stop listening."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
