"""What several tasks of one event loop ask for at one moment, done together on it: their commits are one transaction.

Who is the first waits until all tasks that are ready by then have had their turn, and not for anybody else. Where that
has waited too long, or they are many, it is done at once.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Callable

from ..errors import StorageError
from .deferring import deferred
from .leaving import Gathered, WouldWait, here
from .retrying import copy_of, cut_off
from .uninterrupted import UninterruptedFuture

MOST = 32
"""How many are done together at most."""

SOON = 0.005
"""After how many seconds whoever comes next does not wait for others."""


class Gathering:
    """What waits on one event loop; `took` is told how many seconds it was held up."""

    def __init__(self, loop: asyncio.AbstractEventLoop, took: Callable[[float], None]) -> None:
        self._loop = weakref.ref(loop)
        self._took = took
        self._waiting: dict[str, tuple[Gathered, UninterruptedFuture[None]]] = {}
        self._since = 0.0

    def is_of(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether it is that of this event loop."""
        return self._loop() is loop

    async def add(self, gathered: Gathered) -> None:
        """Wait until it is done, or until it is known that it is to be done in another way."""
        loop = asyncio.get_running_loop()
        if gathered.key in self._waiting:
            self._flush()
        if not self._waiting:
            self._since = time.monotonic()
            loop.call_soon(self._flush)
        future: UninterruptedFuture[None] = UninterruptedFuture(loop=loop)
        self._waiting[gathered.key] = gathered, future
        if len(self._waiting) >= MOST or time.monotonic() - self._since > SOON:
            self._flush()
        await future

    def _flush(self) -> None:
        """Do what waits, if anything does."""
        waiting, self._waiting = self._waiting, {}
        if not waiting:
            return
        all_of_them = [gathered for gathered, _ in waiting.values()]
        began = time.monotonic()
        try:
            deferred(lambda: here(lambda: _do(all_of_them)))
        finally:
            self._took(time.monotonic() - began)
            for _, future in waiting.values():
                if not future.done():
                    future.set_result(None)


def _do(waiting: list[Gathered]) -> None:
    """Do what several ask for, and note for each what has come of it: nothing is raised."""
    first = waiting[0]
    for each in waiting:
        each.error = cut_off()  # unless it is learned what has happened
    try:
        won = first.together([each.asked for each in waiting], first.deadline)
    except (WouldWait, StorageError) as error:
        for each in waiting:
            each.error = _for_each(error)
    except (UnicodeError, OverflowError):  # of one of them; it will hear of it alone
        for each in waiting:
            each.error = WouldWait()
    else:
        for each in waiting:
            each.answer, each.error = each.key in won, None


def _for_each(error: WouldWait | StorageError) -> BaseException:
    """What each of them is told of an error: to try it again in a thread, unless it may have been written."""
    if isinstance(error, StorageError) and error.written != "no":
        return copy_of(error)
    return WouldWait()
