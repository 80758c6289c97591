"""One of a storage's threads works at a time, until it waits for something.

Python has one interpreter for all threads, and each statement of SQLite lets go of it. Where many threads want it,
another one has it after each statement, and to wake a thread takes longer than most statements. So an operation begins
when it has its turn, in the order in which they come, and gives way where it would wait: for a disk, for a lock, for
others who commit with it.

That is a hint and nothing more. Nobody relies on being alone; who holds others up is passed by. Where what is done in a
turn takes long, because it reads from a disk what no cache has, all begin at once: there they wait at the same time.
"""

from __future__ import annotations

import sys
import threading
import time
from _thread import LockType, allocate_lock
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from .pace import Pace

R = TypeVar("R")
T = TypeVar("T")

SHORT = 0.0005
"""Seconds that a turn takes on average at most, for threads to wait for theirs."""

LONGEST = 0.02
"""For how many seconds a turn is waited for; then an operation begins without one."""

SOON = 0.002
"""The same for who leads a batch of commits, whom others wait for."""


class _Mine(threading.local):
    """Of one thread, while it is in an operation: where it takes its turns, and since when it has one."""

    turnstile: Turnstile | None = None
    turn: LockType | None = None
    since = 0.0


_mine = _Mine()


class Turnstile:
    """Lets one thread in at a time. A turn is the bell that its thread has waited for."""

    __slots__ = ("_lock", "_pace", "_queue", "_turn")

    def __init__(self) -> None:
        self._pace = Pace()
        self._lock = allocate_lock()  # held for moments
        self._queue: deque[LockType] = deque()
        self._turn: LockType | None = None
        """Whoever has another one does not count any more, whatever it does."""

    def enter(self, longest: float) -> None:
        """Wait for a turn, but no longer than these seconds."""
        now = time.monotonic()
        if not self._pace.is_quick(now):
            return
        turn = allocate_lock()
        turn.acquire()
        lock = self._held()
        try:
            before = self._turn
            if before is None:
                self._turn = turn
            else:
                self._queue.append(turn)
        finally:
            lock.release()
        if before is not None and not turn.acquire(timeout=longest) and not self._taken(turn, before):
            return
        _mine.turn, _mine.since = turn, time.monotonic()

    def _taken(self, turn: LockType, before: LockType) -> bool:
        """After waiting in vain: whether the turn has come at last, or is taken from who has had it all the time."""
        lock = self._held()
        try:
            self._queue.remove(turn)
            if self._turn is before:
                self._turn = turn
        except ValueError:  # it has been called meanwhile
            pass
        finally:
            lock.release()
        return self._turn is turn

    def leave(self, turn: LockType, since: float) -> None:
        """Let the next one in."""
        now = time.monotonic()
        lock = self._held()
        try:
            if self._turn is turn:
                self._turn = self._queue.popleft() if self._queue else None
                if self._turn is not None:
                    self._turn.release()
        finally:
            lock.release()
        self._pace.took(now - since, now, SHORT)

    def _held(self) -> LockType:
        """Its lock, held: a new one if who has it does not come back, being struck or not in a forked child."""
        lock = self._lock
        while not lock.acquire(timeout=LONGEST):
            if lock is self._lock:
                self._lock = allocate_lock()
            lock = self._lock
        return lock


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
        turnstile.enter(LONGEST)
        return do(operation)
    finally:
        give_way()
        _mine.turnstile = None


def give_way() -> None:
    """Let others in, if this thread has its turn: what follows waits, or takes long."""
    turn, turnstile = _mine.turn, _mine.turnstile
    if turn is not None:
        _mine.turn = None
        if turnstile is not None:
            turnstile.leave(turn, _mine.since)


def enter_again() -> None:
    """Wait a moment for another turn, in an operation that has given way."""
    if _mine.turnstile is not None and _mine.turn is None:
        _mine.turnstile.enter(SOON)
