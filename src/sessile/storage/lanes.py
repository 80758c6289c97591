"""Which threads serve asynchronous callers of a driver that blocks. Reads, writes and long work do not wait for others.

Writers that wait for SQLite's lock hold up no reader, and a fork of a long session or a sweep neither: so many of each
kind run at most, and there are threads for all of them.
"""

from __future__ import annotations

from .on_loop import OnLoop
from .threads import Threads, Worker

LONG = frozenset({"fork", "sweep", "delete_user", "verify", "erase", "rewrite_commits", "_migrate", "wait_entries"})
"""Operations whose length depends on how much there is, or on when somebody else does something."""

READING = frozenset({f"{__package__}.reads", f"{__package__}.tailing"})
"""Modules of operations that read."""


READERS, WRITERS, LONG_ONES = 4, 16, 4
"""How many of each kind run at most. Of writers on SQLite that is how many go to the disk together."""


class Lanes:
    """The threads of one storage, made when they are first needed."""

    def __init__(self) -> None:
        self._threads = Threads()  # shared: who reads and writes in turn has one thread, whose caches are warm
        kinds = (READERS, WRITERS, LONG_ONES)
        self._reads, self._writes, self._long = (Worker(threads, self._threads) for threads in kinds)
        self.on_loop = OnLoop(self._reads, self._writes)
        """What is done on event loops instead."""

    def of(self, operation: object) -> Worker:
        """The threads that an operation runs in."""
        if getattr(operation, "__name__", "") in LONG:
            return self._long
        return self._reads if getattr(operation, "__module__", None) in READING else self._writes

    def close(self) -> None:
        """Let the threads end when they have nothing to do."""
        self._threads.close()
