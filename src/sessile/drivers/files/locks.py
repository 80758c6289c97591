"""Locks between threads and processes of one machine, which the end of their owner releases."""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
import zlib
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from ...errors import DeadlineError
from ...storage.driver import Deadline
from .tree import Tree

SHARDS = 64
"""How many locks there are; sessions that share one wait for each other now and then."""

LONGEST_PAUSE = 0.004
"""How long a process waits at most before it asks again for a lock that another one holds, in seconds."""

if sys.platform == "win32":
    import msvcrt

    def _lock(file: int) -> None:
        os.lseek(file, 0, os.SEEK_SET)
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)

    def _unlock(file: int) -> None:
        os.lseek(file, 0, os.SEEK_SET)
        msvcrt.locking(file, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _lock(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_UN)  # also for a child that was forked by others than Python


class Locks:
    """Locks by name over a fixed set of lock files, which are never removed.

    Nobody but who holds a lock has its file open for long, and nobody forks meanwhile (`before_fork`), so that no
    child inherits a lock and keeps it beyond the end of its owner.
    """

    def __init__(self, tree: Tree, folder: Path) -> None:
        self.folder = folder
        self._tree = tree
        self._threads = _new_locks()
        self._known: dict[int, tuple[int, int]] = {}
        """Device and inode of the files that were opened."""
        self._paths = [folder / f"{number:02}" for number in range(SHARDS)]

    def hold(self, name: str, deadline: Deadline) -> _Hold:
        """A block in which the lock of a name is held; `DeadlineError` if it does not come free."""
        return _Hold(self, zlib.crc32(name.encode()) % SHARDS, deadline)

    def take(self, number: int, deadline: Deadline) -> int:
        """Take a lock; the file that `give_back` needs."""
        thread = self._threads[number]
        if not deadline.acquire(thread):
            raise _late(deadline)
        file = -1
        try:
            file = self._opened(number)
            _patiently(file, deadline)
        except BaseException:
            if file >= 0:
                os.close(file)
            thread.release()
            raise
        return file

    def give_back(self, number: int, file: int) -> None:
        """Let go of a lock."""
        try:
            try:
                _unlock(file)
            finally:
                os.close(file)
        finally:
            self._threads[number].release()

    @contextmanager
    def attempt(self, name: str) -> Generator[bool]:
        """Hold the lock of a name if it is free at this moment; tells whether it was."""
        number = zlib.crc32(name.encode()) % SHARDS
        thread = self._threads[number]
        if not thread.acquire(blocking=False):
            yield False
            return
        try:
            file = self._opened(number)
            try:
                try:
                    _lock(file)
                except (BlockingIOError, PermissionError):
                    yield False
                    return
                try:
                    yield True
                finally:
                    _unlock(file)
            finally:
                os.close(file)
        finally:
            thread.release()

    def _opened(self, number: int) -> int:
        """The file of a lock, which is made if it is not there."""
        path, known = self._paths[number], self._known.get(number)
        again = None if known is None else self._tree.open_again(path, os.O_RDWR, known)
        if again is not None:
            return again[0]
        file = self._tree.open_file(path, os.O_RDWR | os.O_CREAT)
        if file is None:
            raise FileNotFoundError(errno.ENOENT, "the folder of locks is gone", str(path))
        found = os.fstat(file)
        self._known[number] = found.st_dev, found.st_ino
        return file

    def before_fork(self) -> None:
        """Wait until no thread of this process holds a lock."""
        for thread in self._threads:
            thread.acquire()

    def after_fork_in_parent(self) -> None:
        """Let the threads go on."""
        for thread in self._threads:
            with suppress(RuntimeError):  # it is not ours: `before_fork` was interrupted before it
                thread.release()

    def after_fork(self) -> None:
        """The threads that waited are not in the child."""
        self._threads = _new_locks()


class _Hold:
    """A block of `Locks.hold`."""

    __slots__ = ("_deadline", "_file", "_locks", "_number")

    def __init__(self, locks: Locks, number: int, deadline: Deadline) -> None:
        self._locks = locks
        self._number = number
        self._deadline = deadline
        self._file = -1

    def __enter__(self) -> None:
        self._file = self._locks.take(self._number, self._deadline)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._locks.give_back(self._number, self._file)


def _new_locks() -> list[threading.RLock]:
    """Locks that know whose they are: several storages with one driver take them one after the other for a fork."""
    return [threading.RLock() for _ in range(SHARDS)]


def _patiently(file: int, deadline: Deadline) -> None:
    pause = 0.0001
    while True:
        try:
            return _lock(file)
        except (BlockingIOError, PermissionError):  # the latter is what Windows says
            if deadline.remaining() <= 0:
                raise _late(deadline) from None
        time.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)


def _late(deadline: Deadline) -> DeadlineError:
    return DeadlineError(f"The session did not become free for writing within {deadline.timeout:g} s.")
