"""How long operations take, for what is only worth it while they are quick."""

from __future__ import annotations

MOST = 4
"""As how many times the limit one operation counts at most: a single one that met a checkpoint is not the pace."""

WEIGHT = 1 / 16
"""What the newest operation weighs in the average."""

PAUSE = 1.0
"""For how many seconds they count as slow when the average exceeds the limit."""


class Pace:
    """That of operations of one kind."""

    __slots__ = ("_mean", "_slow_until")

    def __init__(self) -> None:
        self._mean = self._slow_until = 0.0

    def is_quick(self, now: float) -> bool:
        """Whether they are quick, as far as is known at this moment of the monotonic clock."""
        return now >= self._slow_until

    def took(self, seconds: float, now: float, limit: float) -> None:
        """Take note of one; they are to take no longer than the limit on average."""
        self._mean += WEIGHT * (min(seconds, MOST * limit) - self._mean)
        if self._mean > limit:
            self._mean = limit  # after the pause one that is slow is enough for the next
            self._slow_until = now + PAUSE
