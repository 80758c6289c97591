"""One of a storage's threads works at a time, until it waits for something.

Python has one interpreter for all threads, and each statement of SQLite lets go of it. Where many threads want it,
another one has it after each statement, and to wake a thread takes longer than most statements: 64 threads made 30 such
changes a turn, which cost more than the turn. So an operation begins when it has its turn, and gives way where it would
wait: for a disk, for a lock, for others who commit with it.

That is a hint and nothing more. Nobody relies on being alone; who holds others up is passed by. Where what is done in a
turn takes long, because it reads from a disk what no cache has, all begin at once: there they wait at the same time.
"""

from __future__ import annotations

import sys
import threading
import time
from _thread import LockType, allocate_lock
from collections.abc import Callable
from typing import TypeVar

from .pace import Pace

R = TypeVar("R")
T = TypeVar("T")

PATIENCE = 0.02
"""For how many seconds one waits at most while nobody at all passes."""

LONGEST = 1.0
"""For how many seconds one waits at most: locks are not fair."""


class _Mine(threading.local):
    """Of one thread, while it is in an operation: where it takes its turns, and what it holds while it has one."""

    turnstile: Turnstile | None = None
    lock: LockType | None = None
    since = 0.0


_mine = _Mine()


class Turnstile:
    """Lets one thread in at a time."""

    __slots__ = ("_lock", "_pace", "_passed")

    def __init__(self) -> None:
        self._pace = Pace()
        self._lock = allocate_lock()
        self._passed = 0
        """How many have been let in: only whether it changes counts."""

    def enter(self) -> None:
        """Wait for a turn, or until there is no use in waiting."""
        now = time.monotonic()
        if not self._pace.is_quick(now):
            return
        lock = self._lock
        if not lock.acquire(blocking=False):
            lock, now = self._queued(now + LONGEST), time.monotonic()
        _mine.lock, _mine.since = lock, now
        self._passed += 1

    def took(self, since: float) -> None:
        """Take note of a turn that has ended."""
        now = time.monotonic()
        self._pace.took(now - since, now)

    def _queued(self, until: float) -> LockType | None:
        while time.monotonic() < until:
            lock, passed = self._lock, self._passed
            if lock.acquire(timeout=PATIENCE):
                return lock
            if self._passed == passed and self._lock is lock:
                self._lock = allocate_lock()  # who has the other one does not count any more, whatever it does
        return None


def new_turnstile() -> Turnstile | None:
    """One for the threads of a storage; None where the interpreter runs threads at the same time."""
    has_lock = getattr(sys, "_is_gil_enabled", None)
    return Turnstile() if has_lock is None or has_lock() else None


def in_turn(turnstile: Turnstile | None, do: Callable[[T], R], operation: T) -> R:
    """The result of an operation, done in its turn; at once within another one of this thread."""
    if turnstile is None or _mine.turnstile is not None:
        return do(operation)
    _mine.turnstile = turnstile
    try:
        turnstile.enter()
        return do(operation)
    finally:
        give_way()
        _mine.turnstile = None


def give_way() -> None:
    """Let others in, if this thread has its turn: what follows waits, or takes long."""
    lock, turnstile = _mine.lock, _mine.turnstile
    if lock is not None:
        _mine.lock = None
        lock.release()
        if turnstile is not None:
            turnstile.took(_mine.since)


def enter_again() -> None:
    """Wait for another turn, in an operation that has given way."""
    if _mine.turnstile is not None and _mine.lock is None:
        _mine.turnstile.enter()
