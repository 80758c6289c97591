"""The one clock of a storage: the database's time, carried on by this machine's monotonic clock.

Every commit, lease, expiry, list and sweep takes its time from here, so that they agree however wrong the clocks of the
machines are. Only where a database has no clock of its own (SQLite, files, memory), that of the machine is the
database's; it is looked at with each `load`, and never in between.

**When a session is ahead.** Times never go back within a session, with one exception. A commit that was made while a
clock was wrong may lie years ahead, and would keep its session from expiring, and at the top of all lists, until then.
So the next commit of a session that was updated more than `AHEAD` after now takes the true time. `sweep` makes such a
commit (`session.repaired`) for sessions that nobody writes to. From then on their time to live counts anew. When the
session was created stays what its first commit says.
"""

from __future__ import annotations

import sys
import time
from functools import partial

from ..records import MICROSECOND

AHEAD = 60 * MICROSECOND
"""How far after now, in microseconds, a time may lie and still be believed: more than clocks that are set differ by."""


class Clock:
    """Tells the database's time, in microseconds UTC. May be used by several threads.

    Until it is set, it goes by this machine's clock.
    """

    __slots__ = ("_ahead",)

    def __init__(self) -> None:
        self._ahead = time.time_ns() // 1000 - _ticks()

    def set(self, now: int) -> None:
        """Take over what the database has just said; it is late by the way of its answer, which no lease minds."""
        self._ahead = now - _ticks()  # one number, so that no thread ever sees half of it

    def now(self) -> int:
        """What time it is for the database."""
        return self._ahead + _count() // 1000

    def next(self, before: int) -> int:
        """The time of a commit that follows one made at `before`: now, and not earlier, unless that one is ahead."""
        now = self.now()
        return before if now < before <= now + AHEAD else now

    def is_ahead(self, moment: int) -> bool:
        """Whether something happened later than now, so that a clock was wrong."""
        return moment > self.now() + AHEAD


def _ticks() -> int:
    """Microseconds that this machine has counted, whatever its clock is set to; with the time that it has slept."""
    return _count() // 1000


# Which of a machine's clocks goes on while it sleeps: CLOCK_MONOTONIC does on macOS, and not on Linux.
if sys.platform == "linux":
    _count = partial(time.clock_gettime_ns, time.CLOCK_BOOTTIME)
elif sys.platform == "darwin":
    _count = partial(time.clock_gettime_ns, time.CLOCK_MONOTONIC)
else:
    _count = time.monotonic_ns
