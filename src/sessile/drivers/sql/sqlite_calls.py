"""Calls of SQLite: patient ones, a commit that says what is known of it, and its errors as ours."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Literal, TypeVar

from ... import errors as ours
from ...storage.driver import AnyLock, Deadline
from ...storage.leaving import about_to_wait
from ...storage.withholding import reason_of
from .damage import TAKEN

R = TypeVar("R")


def commit(connection: sqlite3.Connection) -> None:
    """COMMIT; if that fails for want of I/O, the commit may still be found in the log after a restart."""
    try:
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        roll_back(connection)
        code = code_of(error)
        raise translate(
            error, "Committing", "", written="no" if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY) else "unknown"
        ) from error


def roll_back(connection: sqlite3.Connection) -> None:
    """End a transaction, if there is one."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")


PAUSES = (0.001, 0.002, 0.005, 0.01)
"""Seconds between attempts; from the last one on it is always as long."""


def patiently(action: Callable[[], R], deadline: Deadline) -> R:
    """Do what other processes may be doing at the same moment, again and again until the deadline."""
    tries = 0
    while True:
        try:
            return action()
        except sqlite3.OperationalError as error:
            if code_of(error) not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) or deadline.remaining() <= 0:
                raise
        about_to_wait()
        time.sleep(PAUSES[min(tries, len(PAUSES) - 1)])
        tries += 1


def take(lock: AnyLock, deadline: Deadline) -> None:
    """Take the lock of who writes in this process; raises `DeadlineError` if it does not become free."""
    if not deadline.acquire(lock):
        raise ours.DeadlineError(f"SQLite did not become free for writing within {deadline.timeout:g} s.")


def begin_writing(connection: sqlite3.Connection, deadline: Deadline) -> None:
    """BEGIN IMMEDIATE, as soon as no other process writes."""
    patiently(lambda: connection.execute("BEGIN IMMEDIATE"), deadline)


def without_growing(connection: sqlite3.Connection, delete: Callable[[], object], deadline: Deadline) -> None:
    """Delete, also on a full disk, if any room is left in the write-ahead log.

    Then what becomes free is not written over, which some builds of SQLite do, and which takes as much room as it had.
    If that is not enough, the log is brought into the file, where all of it may have its place already, and written
    from its beginning again.
    """
    secure = None
    try:
        for relief in ("PRAGMA secure_delete = OFF", "PRAGMA wal_checkpoint(RESTART)", None):
            try:
                patiently(delete, deadline)
                return
            except sqlite3.OperationalError as error:
                if code_of(error) != sqlite3.SQLITE_FULL or relief is None:
                    raise
            if secure is None:
                secure = connection.execute("PRAGMA secure_delete").fetchone()[0]
            patiently(lambda text=relief: connection.execute(text).fetchall(), deadline)
    finally:
        if secure is not None:
            connection.execute(f"PRAGMA secure_delete = {secure}").fetchall()


def code_of(error: sqlite3.Error) -> int:
    """SQLite's primary result code (sqlite.org/rescode.html), 0 if the error is not SQLite's own."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


@contextmanager
def translated(what: str, path: str) -> Generator[None]:
    """Raise SQLite's errors as ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise translate(error, what, path) from error


def translate(
    error: sqlite3.Error, what: str, path: str, written: Literal["no", "unknown"] = "no"
) -> ours.StorageError:
    """An error of SQLite as one of ours."""
    text = f"{what} failed{f' on {path!r}' if path else ''}: {reason_of(error)}."
    code = code_of(error)
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return ours.StorageUnavailableError(text, hint="Another process is writing; try again.", written=written)
    if code == sqlite3.SQLITE_FULL:
        return ours.StorageFullError(text, written=written)
    if code == sqlite3.SQLITE_READONLY:
        return ours.ReadOnlyError(text, written=written)
    if code == sqlite3.SQLITE_CANTOPEN:
        return ours.StorageUnavailableError(text, hint="Check the path and its permissions.", retryable=False)
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return ours.CorruptDataError(text, written=written)
    if code == sqlite3.SQLITE_CONSTRAINT:
        taken = error.sqlite_errorcode in (sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_UNIQUE)
        return ours.CorruptDataError(text, hint=TAKEN) if taken else ours.ConstraintError(text)
    if code == sqlite3.SQLITE_INTERRUPT:
        return ours.DeadlineError(text)
    if isinstance(error, sqlite3.ProgrammingError) and "closed" in str(error):
        return ours.ClosedError("This storage was closed.")
    if code == sqlite3.SQLITE_IOERR:
        return ours.StorageError(
            text, hint="Check the disk that the file is on, and this process's limits.", written=written
        )
    if "decode to UTF-8" in str(error):
        return ours.CorruptDataError(text, written=written)
    return ours.StorageError(text, written=written)
