"""The index of lists: the heads once more, in one SQLite file, so that a list does not open every head.

Nothing in it is the truth: rows carry a stamp of the files that they were made from, lists compare it, and whoever
opens the folder compares all of them once. It can be removed while nobody uses the folder. WAL with `NORMAL`: it never
breaks by a crash or a power cut, but may then lack what came last (sqlite.org/pragma.html#pragma_synchronous).

A process that commits again and again to a session does not write each head into it. It notes once that the session has
changed; the next list of any process looks at the head, with the lock of the session, and takes the note away. Where
others hold that lock, it does not wait for them: all that was acknowledged is in the head.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from ...errors import (
    ClosedError,
    CorruptDataError,
    NewerVersionError,
    ReadOnlyError,
    StorageError,
    StorageFullError,
    StorageUnavailableError,
)
from ...storage.driver import Deadline, HeadRow, ListQuery, Span
from ...storage.withholding import reason_of
from ..sql import filters
from ..sql.sqlite_calls import patiently
from ..sql.sqlite_metadata import SqliteMetadata
from . import disk
from .tree import Tree

R = TypeVar("R")

BUSY_SECONDS = 10.0
"""How long to wait for other processes that write to the index, each for a fraction of a millisecond."""

LOCK_SECONDS = 60.0
"""How long to wait for other threads of this process."""

NAP_SECONDS = 0.05
"""How long SQLite itself waits for them; after that it is looked whether the caller was interrupted."""

INDEX_VERSION = 3
"""Of its tables. An index of an older version is rebuilt."""

_HEAD = ", ".join(HeadRow._fields)
_VALUES = ", ".join(f":{name}" for name in HeadRow._fields)
_SCHEMA = f"""
DROP TABLE IF EXISTS heads;
DROP TABLE IF EXISTS commit_keys;
DROP TABLE IF EXISTS scanned;
DROP TABLE IF EXISTS changed;
CREATE TABLE heads (
    {_HEAD}, folder TEXT NOT NULL, head_stamp TEXT NOT NULL, log_size INTEGER NOT NULL, PRIMARY KEY (session_id)
);
CREATE INDEX heads_updated ON heads (updated_at, session_id);
CREATE INDEX heads_created ON heads (created_at, session_id);
CREATE INDEX heads_user ON heads (user_id, updated_at, session_id);
CREATE INDEX heads_agent ON heads (agent, updated_at, session_id) WHERE agent IS NOT NULL;
CREATE INDEX heads_expires ON heads (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX heads_hidden ON heads (updated_at) WHERE hidden;
CREATE TABLE commit_keys (
    folder TEXT NOT NULL, key TEXT NOT NULL, seq INTEGER NOT NULL, run INTEGER NOT NULL, place INTEGER NOT NULL,
    PRIMARY KEY (folder, key, seq)
) WITHOUT ROWID;
CREATE TABLE scanned (
    folder TEXT NOT NULL PRIMARY KEY, inode INTEGER NOT NULL, place INTEGER NOT NULL, seq INTEGER NOT NULL,
    commit_id TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE changed (session_id TEXT NOT NULL PRIMARY KEY, folder TEXT NOT NULL) WITHOUT ROWID;
PRAGMA user_version = {INDEX_VERSION};
"""
_COLUMNS = f"{_HEAD}, folder, head_stamp, log_size"
_PUT = f"INSERT OR REPLACE INTO heads ({_COLUMNS}) VALUES ({_VALUES}, :folder, :head_stamp, :log_size)"
_UPDATE = """
UPDATE heads SET revision = :revision, name = :name, status = :status, updated_at = :updated_at,
    expires_at = :expires_at, metadata = :metadata, body = :body, head_stamp = :head_stamp, log_size = :log_size
WHERE session_id = :session_id AND incarnation = :incarnation AND kind = :kind AND agent IS :agent
    AND user_id IS :user_id AND created_at = :created_at AND hidden = :hidden AND folder = :folder
"""
"""Nearly every commit: what does not change is not named, so that its indexes are not written."""

_FOLLOW = f"{_UPDATE} AND revision <= :revision"

_IS_CHANGED = "SELECT 1 FROM changed WHERE session_id = ?"

_METADATA = SqliteMetadata()


MOST_CHANGED = 1000
"""So many sessions a process lets a list find changed; of more it writes the heads into the index itself."""


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


class Scanned(NamedTuple):
    """Up to which record the keys of a log are known: the file's inode, the record's offset, and what stands there."""

    inode: int
    offset: int
    seq: int
    commit_id: str


class KeyPlace(NamedTuple):
    """Where a commit with a key stands in its log."""

    key: str
    seq: int
    run: int
    offset: int


class Index:
    """One connection, used by one thread at a time, and opened anew after a fork."""

    def __init__(self, tree: Tree, path: Path) -> None:
        self.path = path
        self._tree = tree
        self._lock = threading.RLock()  # taken more than once for a fork, by several storages with one driver
        self._connection: sqlite3.Connection | None = None
        self._closed = False
        self._changed = 0

    def _connected(self) -> _Connected:
        """A block with the connection, which no other thread uses meanwhile."""
        return _Connected(self)

    def take(self) -> sqlite3.Connection:
        """The connection, until `give_back`."""
        if not self._lock.acquire(blocking=False) and not Deadline(LOCK_SECONDS).acquire(self._lock):
            raise StorageUnavailableError(f"Other threads did not let go of the index {str(self.path)!r}.")
        try:
            if self._closed:
                raise ClosedError("This storage was closed.")
            if self._connection is None:
                with _translated(self.path):
                    self._connection = self._opened()
            return self._connection
        except BaseException:
            self._lock.release()
            raise

    def give_back(self) -> None:
        """Let other threads use the connection."""
        self._lock.release()

    def make(self) -> None:
        """Make the file, if it is not there."""
        with self._connected():
            pass

    def _opened(self) -> sqlite3.Connection:
        self._check_links()
        connection = sqlite3.connect(self.path, timeout=NAP_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            # On PyPy, what is not read keeps a transaction.
            _patiently(lambda: connection.execute("PRAGMA journal_mode = WAL").fetchall())
            connection.execute("PRAGMA synchronous = NORMAL")
            self._make_tables(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _check_links(self) -> None:
        """SQLite would follow links. It gives its logs the rights of the file, which is made first.

        Nothing is opened: to close a file takes away the locks that this process has on it.
        """
        try:
            for end in ("", "-wal", "-shm", "-journal"):
                self._tree.check_no_link(Path(f"{self.path}{end}"))
            self._tree.make_file(self.path)
        except PermissionError:
            return  # of who may only read the folder; SQLite says so if the file is not there
        except OSError as error:
            raise disk.translate(error, "Opening the index", self.path, "no") from error

    def _make_tables(self, connection: sqlite3.Connection) -> None:
        if connection.execute("PRAGMA user_version").fetchone()[0] == INDEX_VERSION:
            return
        _patiently(lambda: connection.execute("BEGIN IMMEDIATE"))
        try:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version > INDEX_VERSION:
                raise NewerVersionError(
                    f"The index {str(self.path)!r} is of version {version}; this version of Sessile knows "
                    f"{INDEX_VERSION}."
                )
            if version < INDEX_VERSION:
                for statement in _SCHEMA.split(";\n"):
                    connection.execute(statement)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def put(self, head: HeadRow, folder: str, stamp: Stamp) -> None:
        """The head of a session, in place of the one before."""
        with self._connected() as connection:
            _put(connection, _values(head, folder, stamp))

    def note_change(self, session_id: str, folder: str) -> bool:
        """Let the next list look at a session's head, which costs less than `put`; False if these are too many.

        The lock of the session must be held: only who holds it takes the note away again (`settle`).
        """
        with self._connected() as connection:
            of_it = (session_id,)
            if _patiently(lambda: connection.execute(_IS_CHANGED, of_it).fetchone()):
                return True
            if self._changed >= MOST_CHANGED:
                return False
            self._changed += 1
            _patiently(lambda: connection.execute("INSERT OR IGNORE INTO changed VALUES (?, ?)", (session_id, folder)))
        return True

    def changed(self) -> list[str]:
        """The sessions whose heads the index may not have."""
        found = self._rows("SELECT session_id FROM changed", {})
        self._changed = 0
        return [row[0] for row in found]

    def settle(self, head: HeadRow, folder: str, stamp: Stamp) -> None:
        """As `put`, and the note that the session has changed is taken away. The lock of the session must be held."""
        self.put(head, folder, stamp)
        with self._connected() as connection:
            _delete(connection, "changed", head.session_id)

    def follow(self, head: HeadRow, folder: str, stamp: Stamp) -> bool:
        """The head of a session whose lock others hold, if it is the next one of a session that is there; else False.

        The note that it has changed stays.
        """
        with self._connected() as connection:
            values = _values(head, folder, stamp)
            return _patiently(lambda: connection.execute(_FOLLOW, values).rowcount) > 0

    def remove(self, session_id: str, folder: str) -> None:
        """There is no such session any more."""
        with self._connected() as connection:
            for table in ("heads", "changed"):
                _delete(connection, table, session_id)
        self.forget_keys(folder)

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

    # ------------------------------------------------------------ the keys of commits

    def scanned(self, folder: str) -> Scanned | None:
        """Up to where the keys of the log in a folder are known."""
        rows = self._rows("SELECT inode, place, seq, commit_id FROM scanned WHERE folder = :folder", {"folder": folder})
        return Scanned(*rows[0]) if rows else None

    def key_places(self, folder: str, span: Span) -> list[KeyPlace]:
        """The places of the commits of a span that asks for a key and has an end, in its direction."""
        low, high = span.runs or (0, None)
        values = {"folder": folder, **span._asdict(), "low": low if span.runs is None else max(1, low), "high": high}
        del values["runs"], values["newest_first"]
        direction = "DESC" if span.newest_first else "ASC"
        rows = self._rows(
            "SELECT key, seq, run, place FROM commit_keys WHERE folder = :folder AND key = :key "
            "AND seq BETWEEN :first AND :last AND run >= :low AND (:high IS NULL OR run <= :high) "
            f"ORDER BY seq {direction} LIMIT :limit",
            values,
        )
        return [KeyPlace(*row) for row in rows]

    def note_keys(self, folder: str, scanned: Scanned | None, places: list[KeyPlace], *, anew: bool) -> None:
        """The keys of a log up to a record, beside those before it, or (`anew`) in place of all that were known."""
        with self._connected() as connection:
            _patiently(lambda: connection.execute("BEGIN IMMEDIATE"))
            try:
                if anew:
                    _forget(connection, folder)
                connection.executemany(
                    "INSERT OR REPLACE INTO commit_keys (folder, key, seq, run, place) VALUES (?, ?, ?, ?, ?)",
                    [(folder, *place) for place in places],
                )
                if scanned is not None:
                    connection.execute("INSERT OR REPLACE INTO scanned VALUES (?, ?, ?, ?, ?)", (folder, *scanned))
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def forget_keys(self, folder: str) -> None:
        """The log in a folder is gone, or was written anew."""
        with self._connected() as connection:
            _patiently(lambda: _forget(connection, folder))

    def _rows(self, sql: str, values: dict[str, Any]) -> list[Any]:
        with self._connected() as connection:
            return _patiently(lambda: connection.execute(sql, values).fetchall())

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
        with suppress(RuntimeError):  # it is not ours: `before_fork` was interrupted before it
            self._lock.release()

    def after_fork(self) -> None:
        """The threads that waited are not in the child."""
        self._lock = threading.RLock()  # taken more than once for a fork, by several storages with one driver


class _Connected:
    """A block of `Index._connected`."""

    __slots__ = ("_index",)

    def __init__(self, index: Index) -> None:
        self._index = index

    def __enter__(self) -> sqlite3.Connection:
        return self._index.take()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._index.give_back()
        if isinstance(error, sqlite3.Error):
            with _translated(self._index.path):
                raise error


def _values(head: HeadRow, folder: str, stamp: Stamp) -> dict[str, Any]:
    return {**head._asdict(), "folder": folder, "head_stamp": stamp.head, "log_size": stamp.log_size}


def _put(connection: sqlite3.Connection, values: dict[str, Any]) -> None:
    if not _patiently(lambda: connection.execute(_UPDATE, values).rowcount):
        _patiently(lambda: connection.execute(_PUT, values))


def _delete(connection: sqlite3.Connection, table: str, session_id: str) -> None:
    _patiently(lambda: connection.execute(f"DELETE FROM {table} WHERE session_id = ?", (session_id,)))


def _forget(connection: sqlite3.Connection, folder: str) -> None:
    connection.execute("DELETE FROM scanned WHERE folder = ?", (folder,))
    connection.execute("DELETE FROM commit_keys WHERE folder = ?", (folder,))


def _patiently(action: Callable[[], R]) -> R:
    """Do what other processes may be doing at the same moment, again and again for `BUSY_SECONDS`."""
    return patiently(action, Deadline(BUSY_SECONDS))


@contextmanager
def _translated(path: Path) -> Generator[None]:
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        text = f"The index {str(path)!r} cannot be used: {reason_of(error)}."
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise StorageUnavailableError(text) from error
        if code == sqlite3.SQLITE_FULL:
            raise StorageFullError(text) from error
        if code == sqlite3.SQLITE_READONLY:
            raise ReadOnlyError(text) from error
        if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            hint = f"End the programs that use the folder, and remove {str(path.parent)!r}; it is rebuilt."
            raise CorruptDataError(text, hint=hint) from error
        raise StorageError(text, hint="Check the disk and the folder.") from error
