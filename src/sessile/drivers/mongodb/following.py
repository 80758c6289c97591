"""One change stream for all followers of a storage on one event loop. Only replica sets and clusters have them."""

from __future__ import annotations

import asyncio
from typing import Any

from pymongo.errors import PyMongoError

from ...storage.waking import Waking
from .port import Port

OPEN_SECONDS = 10.0

COMMITS = [
    {"$match": {"operationType": "insert", "fullDocument.seq": {"$gte": 1}}},
    {"$project": {"fullDocument.incarnation": 1}},
]
"""What is announced: the incarnation of each commit, as soon as the majority has it."""


class Changes(Waking):
    """Wakes who waits for a commit to an incarnation.

    Args:
        port: over an asynchronous client, which is used on one event loop.
    """

    def __init__(self, port: Port) -> None:
        super().__init__()
        self._port = port
        self._opening = asyncio.Lock()

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
        return self.expect(incarnation)

    async def _serve(self, stream: Any) -> None:
        try:
            async with stream:
                async for change in stream:
                    self.wake(change["fullDocument"]["incarnation"])
        except PyMongoError:
            return  # whoever waits next opens another one
        finally:
            self.wake_all()
