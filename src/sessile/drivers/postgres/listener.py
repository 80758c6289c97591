"""LISTEN: one connection to hear announcements on."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.sql import SQL, Identifier

from ..sql.following import Announcements

CONNECT_SECONDS = 10


class Listener(Announcements[AsyncConnection[Any]]):
    """Hears a channel, whose payloads are incarnations of sessions.

    Args:
        conninfo: leads to the database itself: poolers in transaction mode lose announcements.
        channel: its name.
    """

    def __init__(self, conninfo: str, channel: str) -> None:
        super().__init__()
        self._conninfo = conninfo
        self._channel = channel

    async def _open(self) -> AsyncConnection[Any] | None:
        connection = None
        try:
            connection = await AsyncConnection.connect(self._conninfo, autocommit=True, connect_timeout=CONNECT_SECONDS)
            await connection.execute(SQL("LISTEN {}").format(Identifier(self._channel)))
        except BaseException as error:
            if connection is not None:
                await connection.close()
            if isinstance(error, psycopg.Error):
                return None
            raise
        return connection

    async def _listen(self, connection: AsyncConnection[Any]) -> None:
        try:
            async for notification in connection.notifies():
                self.wake(notification.payload)
        except psycopg.Error:
            return
        finally:
            await connection.close()
