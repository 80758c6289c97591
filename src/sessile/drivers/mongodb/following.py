"""One change stream for all followers of a storage on one event loop. Only replica sets and clusters have them."""

from __future__ import annotations

import asyncio
from typing import Any

from pymongo.errors import PyMongoError

from ..sql.following import Announcements
from .port import Port

OPEN_SECONDS = 10.0

COMMITS = [
    {"$match": {"operationType": "insert", "fullDocument.seq": {"$gte": 1}}},
    {"$project": {"fullDocument.incarnation": 1}},
]
"""What is announced: the incarnation of each commit, as soon as the majority has it."""


class Changes(Announcements[Any]):
    """Hears of commits by a change stream.

    Args:
        port: over an asynchronous client, which is used on one event loop.
    """

    def __init__(self, port: Port) -> None:
        super().__init__()
        self._port = port

    async def _open(self) -> Any:
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                return await self._port.collection(self._port.target.sessions).watch(COMMITS)
        except (PyMongoError, TimeoutError):
            return None

    async def _listen(self, connection: Any) -> None:
        try:
            async with connection:
                async for change in connection:
                    self.wake(change["fullDocument"]["incarnation"])
        except PyMongoError:
            return
