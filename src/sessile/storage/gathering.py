"""What several tasks of one event loop ask for at one moment, done together on it: their commits are one transaction.

Who is the first waits until all tasks that are ready by then have had their turn, and not for anybody else.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextvars import Context

from ..errors import StorageError
from .deferring import deferred
from .leaving import Gathered, WouldWait, here
from .retrying import copy_of, cut_off
from .uninterrupted import UninterruptedFuture

logger = logging.getLogger("sessile")

MOST = 32
"""How many are done together at most."""


class Gathering:
    """What waits on one event loop; `took` is told how many seconds it was held up, and when that was."""

    def __init__(self, took: Callable[[float, float], None]) -> None:
        self._took = took
        self._waiting: list[tuple[Gathered, UninterruptedFuture[None]]] = []
        self._context = Context()  # what is done together is nobody's

    async def add(self, gathered: Gathered) -> None:
        """Wait until it is done, or until it is known that it is to be done in another way."""
        loop = asyncio.get_running_loop()
        future: UninterruptedFuture[None] = UninterruptedFuture(loop=loop)
        if not self._waiting:
            self._call(loop)
        self._waiting.append((gathered, future))
        await future

    def _call(self, loop: asyncio.AbstractEventLoop) -> None:
        """See to it that what waits is done; twice, because a handler of signals may raise before the first begins."""
        for _ in range(2):
            loop.call_soon(self._flush, loop, context=self._context)

    def _flush(self, loop: asyncio.AbstractEventLoop) -> None:
        """Do what waits, if anything does; where it is much, others have their turn in between."""
        if self._waiting:
            deferred(self._settle)  # whole, whatever comes: nobody else lets these tasks go on
            if self._waiting:
                self._call(loop)

    def _settle(self) -> None:
        began = time.monotonic()
        some: dict[str, tuple[Gathered, UninterruptedFuture[None]]] = {}
        later: list[tuple[Gathered, UninterruptedFuture[None]]] = []
        for gathered, future in self._waiting:
            if len(some) < MOST and gathered.key not in some:
                some[gathered.key] = gathered, future
            else:
                later.append((gathered, future))
        try:
            here(lambda: _do([gathered for gathered, _ in some.values()]))
        finally:
            self._waiting = later
            for _, future in some.values():
                if not future.done():
                    future.set_result(None)
            now = time.monotonic()
            self._took(now - began, now)


def _do(waiting: list[Gathered]) -> None:
    """Do what several ask for, and note for each what has come of it."""
    first = waiting[0]
    for each in waiting:
        each.error = cut_off()  # unless it is learned what has happened
    try:
        won = first.together([each.asked for each in waiting], first.deadline)
    except (WouldWait, StorageError) as error:
        if isinstance(error, StorageError):
            logger.info("What %d tasks have asked for together failed: %s", len(waiting), error.message)
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
