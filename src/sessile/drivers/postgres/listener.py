"""One connection that listens to announcements, for all followers of a storage on one event loop."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.sql import SQL, Identifier

from ...storage.waking import Waking

CONNECT_SECONDS = 10


class Listener(Waking):
    """LISTENs on a channel, whose payloads are incarnations of sessions, and wakes who waits for one of them.

    Args:
        conninfo: leads to the database itself: poolers in transaction mode lose announcements.
        channel: its name.
    """

    def __init__(self, conninfo: str, channel: str) -> None:
        super().__init__()
        self._conninfo = conninfo
        self._channel = channel
        self._connecting = asyncio.Lock()

    async def register(self, incarnation: str) -> asyncio.Event:
        """An event that is set by the next announcement from now on, or when the connection is lost."""
        async with self._connecting:
            if self._task is None or self._task.done():
                connection = await AsyncConnection.connect(
                    self._conninfo, autocommit=True, connect_timeout=CONNECT_SECONDS
                )
                await connection.execute(SQL("LISTEN {}").format(Identifier(self._channel)))
                self._task = asyncio.create_task(self._serve(connection))
        return self.expect(incarnation)

    async def _serve(self, connection: AsyncConnection[Any]) -> None:
        try:
            async for notification in connection.notifies():
                self.wake(notification.payload)
        except psycopg.Error:
            return  # whoever waits next connects anew
        finally:
            self.wake_all()
            await connection.close()
