"""One connection that is subscribed to the sessions which are followed on one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable
from typing import Any

from redis import exceptions as theirs

from ...errors import ClosedError, StorageUnavailableError
from ...storage.driver import Deadline
from ...storage.waking import set_within
from .ports import close_sentinels, open_connection


class Listener:
    """Wakes who waits for an announcement on a channel. Any number may wait, on any number of channels.

    Args:
        recipe: makes a pool of redis-py's, of which only the way to make an asynchronous connection is used.
        where: names the server in messages.
    """

    def __init__(self, recipe: Callable[[], Any], where: str) -> None:
        self._theirs = recipe()
        self._where = where
        self._connecting = asyncio.Lock()
        self._connection: Any = None
        self._task: asyncio.Task[None] | None = None
        self._subscribed: dict[bytes, asyncio.Event] = {}
        self._waiting: dict[bytes, set[asyncio.Event]] = {}
        self._closed = False

    async def register(self, channel: bytes, deadline: Deadline) -> asyncio.Event:
        """An event that is set by the next announcement from now on, or when the connection is lost.

        Raises `StorageError` if no connection can be made or it was lost meanwhile, redis-py's errors and
        `TimeoutError`.
        """
        event = asyncio.Event()
        self._waiting.setdefault(channel, set()).add(event)
        try:
            async with asyncio.timeout(deadline.remaining()):
                subscribed = await self._subscribe(channel, deadline)
                await subscribed.wait()
            if self._subscribed.get(channel) is not subscribed:
                raise StorageUnavailableError(f"{self._where} lets nobody listen.")
        except BaseException as error:
            if isinstance(error, TimeoutError):
                self._drop()  # a server that has vanished without a word
            await self.forget(channel, event)
            raise
        return event

    async def _subscribe(self, channel: bytes, deadline: Deadline) -> asyncio.Event:
        """The event that the server has confirmed the subscription, or has not and the connection is lost."""
        async with self._connecting:
            if self._task is None:
                connection = await open_connection(self._theirs, self._where, deadline)
                if self._closed:
                    await connection.disconnect(nowait=True)
                    raise ClosedError("This storage was closed.")
                self._connection = connection
                self._task = asyncio.create_task(self._serve(self._connection))
            if channel not in self._subscribed:
                self._subscribed[channel] = asyncio.Event()
                await self._connection.send_command("SUBSCRIBE", channel)
            return self._subscribed[channel]

    async def wait(self, channel: bytes, event: asyncio.Event, seconds: float) -> None:
        """Wait for a registered event, at most so long, and forget it."""
        try:
            await set_within(event, seconds)
        finally:
            await self.forget(channel, event)

    async def forget(self, channel: bytes, event: asyncio.Event) -> None:
        """Wait no longer."""
        events = self._waiting.get(channel, set())
        events.discard(event)
        if events:
            return
        self._waiting.pop(channel, None)
        if self._subscribed.pop(channel, None) is not None:
            with contextlib.suppress(theirs.RedisError):
                await self._connection.send_command("UNSUBSCRIBE", channel)

    async def _serve(self, connection: Any) -> None:
        try:
            while True:
                kind, channel, _ = await connection.read_response(disable_decoding=True, timeout=math.inf)
                if kind == b"subscribe" and channel in self._subscribed:
                    self._subscribed[channel].set()
                elif kind == b"message":
                    for event in self._waiting.get(channel, ()):
                        event.set()
        except theirs.RedisError:
            return  # whoever waits next connects anew
        finally:
            if self._connection is connection:
                self._drop()
            await connection.disconnect(nowait=True)

    def _drop(self) -> asyncio.Task[None] | None:
        """Stop listening on the connection, if there is one, and wake everybody; returns the task that served it."""
        task, self._task, self._connection = self._task, None, None
        subscribed, self._subscribed = self._subscribed, {}
        for events in (subscribed.values(), *self._waiting.values()):
            for event in events:
                event.set()
        if task is not None and task is not asyncio.current_task():
            task.cancel()
        return task

    async def close(self) -> None:
        """Stop listening."""
        self._closed = True
        task = self._drop()
        if task is not None:
            await asyncio.wait([task])
        await close_sentinels(self._theirs)
