"""What drivers whose database announces commits have in common: who waits for an announcement, and is woken by it."""

from __future__ import annotations

import asyncio
from contextlib import suppress


async def set_within(event: asyncio.Event, seconds: float) -> None:
    """Wait until it is set, at most so long."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


class Waking:
    """Wakes who waits for a commit to an incarnation, on one event loop.

    A subclass makes sure that `_task` listens before it lets anybody wait, and calls `wake`; and `wake_all` when it
    hears no more, so that everybody looks.
    """

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None
        self._waiting: dict[str, set[asyncio.Event]] = {}

    def expect(self, incarnation: str) -> asyncio.Event:
        """An event that is set by the next announcement from now on; whoever asks for it must `wait` for it."""
        event = asyncio.Event()
        self._waiting.setdefault(incarnation, set()).add(event)
        return event

    async def wait(self, incarnation: str, event: asyncio.Event, seconds: float) -> None:
        """Wait for an expected event, at most so long, and forget it."""
        try:
            await set_within(event, seconds)
        finally:
            events = self._waiting.get(incarnation, set())
            events.discard(event)
            if not events:
                self._waiting.pop(incarnation, None)

    def wake(self, incarnation: str) -> None:
        """Wake who waits for this one."""
        for event in self._waiting.get(incarnation, ()):
            event.set()

    def wake_all(self) -> None:
        """Wake everybody."""
        for incarnation in self._waiting:
            self.wake(incarnation)

    async def close(self) -> None:
        """Stop listening."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
