"""The clock of a server that dates its answers to the second, for databases that tell no better time."""

from __future__ import annotations

import time

from .forking import Lock

SECOND = 1_000_000


def monotonic_micros() -> int:
    """This machine's clock that nobody sets, in microseconds."""
    return time.monotonic_ns() // 1000


def _utc_micros() -> int:
    return time.time_ns() // 1000


class ServerClock:
    """This machine's clock, put right where it contradicts what a server says. May be used by several threads.

    Each dated answer says between which two moments the server's clock must be. Several of them leave little room, and
    while this machine's clock is within it, nothing is changed: clocks that are right agree to less than a second.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._least = self._most = 0
        self._offset: int | None = None

    @property
    def is_known(self) -> bool:
        """Whether the server has said anything yet."""
        return self._offset is not None

    def now(self) -> int:
        """The server's time as far as it is known, in microseconds UTC."""
        return _utc_micros() if self._offset is None else monotonic_micros() + self._offset

    def saw(self, date: int, sent: int, received: int) -> None:
        """The server has dated an answer, rounded down to the second, between two moments of `monotonic_micros`."""
        least, most = date - received, date + SECOND - sent
        with self._lock:
            offset = self._offset
            if offset is None:
                offset = _utc_micros() - monotonic_micros()
            elif max(least, self._least) <= min(most, self._most):
                least, most = max(least, self._least), min(most, self._most)
            # Else the server's clock was set, or this machine was asleep: what was known is out of date.
            self._least, self._most = least, most
            self._offset = min(max(offset, least), most)
