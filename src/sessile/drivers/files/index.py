"""The index of lists: the heads once more, in one SQLite file, so that a list does not open every head.

Nothing in it is the truth: rows carry a stamp of the files that they were made from, lists compare it, and whoever
opens the folder compares all of them once. It can be removed while nobody uses the folder. WAL with `NORMAL`: it never
breaks by a crash or a power cut, but may then lack what came last (sqlite.org/pragma.html#pragma_synchronous).
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import (
    ClosedError,
    CorruptDataError,
    ReadOnlyError,
    StorageError,
    StorageFullError,
    StorageUnavailableError,
)
from ...storage.driver import HeadRow, ListQuery
from ..sql import filters
from ..sql.sqlite_metadata import SqliteMetadata

BUSY_SECONDS = 10.0
"""How long to wait for other processes that write to the index, each for a fraction of a millisecond."""

_HEAD = ", ".join(HeadRow._fields)
_VALUES = ", ".join(f":{name}" for name in HeadRow._fields)
_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS heads (
    {_HEAD}, folder TEXT NOT NULL, head_stamp TEXT NOT NULL, log_size INTEGER NOT NULL, PRIMARY KEY (session_id)
);
CREATE INDEX IF NOT EXISTS heads_updated ON heads (updated_at, session_id);
CREATE INDEX IF NOT EXISTS heads_created ON heads (created_at, session_id);
CREATE INDEX IF NOT EXISTS heads_user ON heads (user_id, updated_at, session_id) WHERE user_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS heads_owner ON heads (owner, updated_at, session_id) WHERE owner IS NOT NULL;
CREATE INDEX IF NOT EXISTS heads_expires ON heads (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS heads_hidden ON heads (updated_at) WHERE hidden;
COMMIT;
"""
_COLUMNS = f"{_HEAD}, folder, head_stamp, log_size"
_PUT = f"INSERT OR REPLACE INTO heads ({_COLUMNS}) VALUES ({_VALUES}, :folder, :head_stamp, :log_size)"
_METADATA = SqliteMetadata()


class Stamp(NamedTuple):
    """Which files a row was made from."""

    head: str
    log_size: int

    @classmethod
    def of(cls, head: os.stat_result, log_size: int) -> Stamp:
        """The stamp of a head, which is a new file after each commit, and of its log."""
        return cls(f"{head.st_ino}-{head.st_size}-{head.st_mtime_ns}", log_size)


class Indexed(NamedTuple):
    """A row of the index."""

    head: HeadRow
    folder: str
    stamp: Stamp


class Index:
    """One connection, used by one thread at a time, and opened anew after a fork."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._closed = False

    @contextmanager
    def _connected(self) -> Generator[sqlite3.Connection]:
        with self._lock, _translated(self.path):
            if self._closed:
                raise ClosedError("This storage was closed.")
            if self._connection is None:
                self._connection = self._opened()
            yield self._connection

    def make(self) -> None:
        """Make the file, if it is not there."""
        with self._connected():
            pass

    def _opened(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.executescript(_SCHEMA)
        except BaseException:
            connection.close()
            raise
        return connection

    def put(self, head: HeadRow, folder: str, stamp: Stamp) -> None:
        """The head of a session, in place of the one before."""
        values = {**head._asdict(), "folder": folder, "head_stamp": stamp.head, "log_size": stamp.log_size}
        with self._connected() as connection:
            connection.execute(_PUT, values)

    def remove(self, session_id: str) -> None:
        """There is no such session any more."""
        with self._connected() as connection:
            connection.execute("DELETE FROM heads WHERE session_id = ?", (session_id,))

    def page(self, query: ListQuery) -> list[Indexed]:
        """The rows of `Driver.list`."""
        page, values = filters.page(query, _METADATA)
        rows = self._rows(f"SELECT {_COLUMNS} FROM heads {page}", values)
        return [Indexed(HeadRow._make(row[:-3]), row[-3], Stamp(*row[-2:])) for row in rows]

    def count(self, query: ListQuery) -> int:
        """How many rows match."""
        where, values = filters.conditions(query, _METADATA)
        return self._rows(f"SELECT count(*) FROM heads WHERE {where}", values)[0][0]

    def stamps(self) -> dict[str, tuple[str, Stamp]]:
        """By folder: which session it is, and the stamp of its row."""
        rows = self._rows("SELECT folder, session_id, head_stamp, log_size FROM heads", {})
        return {folder: (session_id, Stamp(head, size)) for folder, session_id, head, size in rows}

    def _rows(self, sql: str, values: dict[str, Any]) -> list[Any]:
        with self._connected() as connection:
            return connection.execute(sql, values).fetchall()

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._closed = True
            self._disconnect()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def before_fork(self) -> None:
        """Let the child inherit no connection (sqlite.org/howtocorrupt.html, section 2.6)."""
        self._lock.acquire()
        self._disconnect()

    def after_fork_in_parent(self) -> None:
        """Let the threads go on."""
        self._lock.release()

    def after_fork(self) -> None:
        """The threads that waited are not in the child."""
        self._lock = threading.Lock()


@contextmanager
def _translated(path: Path) -> Generator[None]:
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        text = f"The index {str(path)!r} cannot be used: {error}."
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise StorageUnavailableError(text) from error
        if code == sqlite3.SQLITE_FULL:
            raise StorageFullError(text) from error
        if code == sqlite3.SQLITE_READONLY:
            raise ReadOnlyError(text) from error
        if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            hint = f"End the programs that use the folder, and remove {str(path.parent)!r}; it is made anew."
            raise CorruptDataError(text, hint=hint) from error
        raise StorageError(text, hint="Check the disk and the folder.") from error
