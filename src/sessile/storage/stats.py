"""Counts of what happens beside the work: lost races, retries, reconnects. Each is logged where it happens, too."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Literal

from ..errors import StorageError

Happening = Literal[
    "lost_races",
    "retries",
    "unknown_answers",
    "reconnects",
    "pool_waits",
    "catch_ups",
    "unreadable",
]
"""What is counted: appends that another writer was ahead of; operations tried again after an error; writes whose answer
was lost; connections rebuilt in place of one that was cut or grew old; waits for a connection of a full pool; heads
rolled forward after a crash; sessions that a list could not read."""


class Stats:
    """Counters of one driver, from its making on. May be used by several threads, and in finalizers."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._counts: Counter[str] = Counter()

    def unknown(self, error: StorageError) -> None:
        """Count the write of an error as one whose answer was lost; an error that is passed on counts once."""
        if "counted" not in vars(error):
            vars(error)["counted"] = True
            self.count("unknown_answers")

    def count(self, what: Happening, times: int = 1) -> None:
        """Count something that has happened."""
        with self._lock:
            self._counts[what] += times

    def counts(self) -> dict[str, int]:
        """All that has happened at least once, and how often."""
        with self._lock:
            return dict(self._counts)

    def after_fork(self) -> None:
        """In a forked child: a thread of the parent's may have held the lock."""
        self._lock = threading.RLock()
