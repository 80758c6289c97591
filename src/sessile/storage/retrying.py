"""Trying again: which errors are worth it, how often it is counted, and how long to wait before it.

One rule for whoever repeats something: the core, and drivers within one operation. What may have been written is never
repeated here; whoever calls looks first.
"""

from __future__ import annotations

import logging

from ..errors import StorageError, StorageFullError, StorageUnavailableError
from .driver import Deadline, Driver

logger = logging.getLogger(__name__)

FIRST_PAUSE = 0.001
LONGEST_PAUSE = 0.1
"""Seconds: the bound of a random pause doubles with each attempt, from twice the first up to the longest."""


def is_worth_retrying(error: StorageError, deadline: Deadline) -> bool:
    """Whether the same may succeed if it is tried again, and there is time for that.

    A full disk does not empty itself within a timeout: the caller is told at once.
    """
    return error.retryable and not isinstance(error, StorageFullError) and deadline.remaining() > 0


def pause_before(attempt: int, *, first: float = FIRST_PAUSE, longest: float = LONGEST_PAUSE) -> float:
    """Seconds to wait before the attempt of that number (2 is the first repetition): full jitter.

    Anything up to a bound that doubles, so that those who collide spread.
    """
    import random  # not needed until something has to be tried again, and slow to import

    return random.uniform(0, min(longest, first * 2**attempt))


def back_off(attempt: int, deadline: Deadline) -> float:
    """The same for a service that limits how often it is asked: longer, and no longer than there is time."""
    return min(pause_before(attempt, first=0.02, longest=1.0), deadline.remaining())


class Attempts:
    """The attempts of one operation on a driver.

    Attributes:
        made: how many attempts there were.
        unknown: whether one of them may have written without our knowing.
    """

    __slots__ = ("_deadline", "_driver", "_what", "made", "unknown")

    def __init__(self, driver: Driver, deadline: Deadline, what: str, *, unknown: bool = False) -> None:
        self._driver, self._deadline, self._what = driver, deadline, what
        self.made, self.unknown = 0, unknown

    def failed(self, error: StorageError) -> None:
        """Take note of an error; raises it, with what is known of the write by now, if it is not worth another try."""
        self.made += 1
        if error.written != "no":
            self.unknown = True
            self._driver.stats.unknown(error)
        if not is_worth_retrying(error, self._deadline):
            self.tell(error)
            raise error
        self._driver.stats.count("retries")
        logger.info("%s is tried again after: %s", self._what, error)

    def lost(self) -> None:
        """Take note of an attempt that another writer was ahead of."""
        self.made += 1
        self._driver.stats.count("lost_races")
        logger.debug("%s has lost a race", self._what)

    def tell(self, error: StorageError) -> None:
        """Let an error say what is known of the whole, not only of the request that failed last."""
        error.written = "unknown" if self.unknown else "no"
        if self.unknown:
            error.retryable = False
            error.hint = "Look whether it is there before you repeat it."

    async def pause(self) -> None:
        """Wait a random moment, not before the first repetition; raises `DeadlineError` if time is up."""
        self._deadline.check(self._what, written="unknown" if self.unknown else "no")
        if self.made > 1:
            await self._driver.pause(pause_before(self.made))


def cut_off() -> StorageError:
    """What each of several callers is told whose commits went together, if nobody knows what has become of them."""
    return StorageUnavailableError("A batch of commits was cut off.", written="unknown")


def copy_of(error: StorageError) -> StorageError:
    """The error for another caller: each raises its own."""
    return type(error)(error.message, hint=error.hint, retryable=error.retryable, written=error.written)
