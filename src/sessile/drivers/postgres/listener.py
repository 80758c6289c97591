"""One connection that listens to announcements, for all followers of a storage on one event loop."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.sql import SQL, Identifier

CONNECT_SECONDS = 10


class Listener:
    """LISTENs on a channel, whose payloads are incarnations of sessions, and wakes who waits for one of them.

    Args:
        conninfo: leads to the database itself: poolers in transaction mode lose announcements.
        channel: its name.
    """

    def __init__(self, conninfo: str, channel: str) -> None:
        self._conninfo = conninfo
        self._channel = channel
        self._connecting = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._waiting: dict[str, set[asyncio.Event]] = {}

    async def register(self, incarnation: str) -> asyncio.Event:
        """An event that is set by the next announcement from now on, or when the connection is lost."""
        async with self._connecting:
            if self._task is None or self._task.done():
                connection = await AsyncConnection.connect(
                    self._conninfo, autocommit=True, connect_timeout=CONNECT_SECONDS
                )
                await connection.execute(SQL("LISTEN {}").format(Identifier(self._channel)))
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

    async def _serve(self, connection: AsyncConnection[Any]) -> None:
        try:
            async for notification in connection.notifies():
                for event in self._waiting.get(notification.payload, ()):
                    event.set()
        except psycopg.Error:
            return  # whoever waits next connects anew
        finally:
            for events in self._waiting.values():
                for event in events:
                    event.set()
            await connection.close()

    async def close(self) -> None:
        """Stop listening."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
