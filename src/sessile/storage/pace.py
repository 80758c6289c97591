"""How long operations take, for what is only worth it while they are quick."""

from __future__ import annotations

QUICK = 0.002
"""Seconds that an operation takes on average at most, to count as quick."""

COUNTED = 4 * QUICK
"""As how many seconds one operation counts at most: a single one that met a checkpoint is not the disk's pace."""

WEIGHT = 1 / 16
"""What the newest operation weighs in the average."""

PAUSE = 1.0
"""For how many seconds they count as slow when that is exceeded."""


class Pace:
    """That of operations of one kind."""

    __slots__ = ("_mean", "_slow_until")

    def __init__(self) -> None:
        self._mean = self._slow_until = 0.0

    def is_quick(self, now: float) -> bool:
        """Whether they are quick, as far as is known at this moment of the monotonic clock."""
        return now >= self._slow_until

    def took(self, seconds: float, now: float) -> None:
        """Take note of one."""
        self._mean += WEIGHT * (min(seconds, COUNTED) - self._mean)
        if self._mean > QUICK:
            self._mean = QUICK  # after the pause one that is slow is enough for the next
            self._slow_until = now + PAUSE
