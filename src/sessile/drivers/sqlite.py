"""SQLite, with the standard library's `sqlite3`: one file, one writer, readers beside it.

WAL with `synchronous=FULL`: an acknowledged commit survives a power cut (sqlite.org/pragma.html#pragma_synchronous).
Every append is one transaction, so that a head never lags behind its log.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

from ..errors import (
    ClosedError,
    CorruptDataError,
    DeadlineError,
    InvalidInputError,
    ReadOnlyError,
    StorageError,
    StorageFullError,
    StorageUnavailableError,
)
from ..storage.driver import (
    Append,
    Capabilities,
    CommitRow,
    Deadline,
    Driver,
    HeadRow,
    ListQuery,
    Loaded,
    Span,
)
from ..storage.storage import Storage
from ..storage.urls import check_no_url
from .sql import filters, log
from .sql.migrations import Migrations, Part, SchemaState, read_texts, schema_missing, statements_of
from .sql.sqlite_metadata import SqliteMetadata
from .sql.statements import load_statements, put_in

R = TypeVar("R")

BUSY_MILLISECONDS = 50
"""How long SQLite itself waits for another writer; after that the driver tries again until the deadline."""

FORK_SECONDS = 10.0
"""How long a fork waits for other threads to end what they read."""

_SQL = load_statements("sqlite", {"head": ", ".join(HeadRow._fields), "commit": ", ".join(CommitRow._fields)}, "named")


class SqliteStorage(Storage):
    """Sessions in one SQLite file.

    Args:
        path: the file, made with its folder if it is not there; `":memory:"` keeps everything in this process.
        synchronous: `"FULL"`: an acknowledged commit survives a power cut. `"NORMAL"`: it survives the end of the
            process, but a power cut may take the last commits; the file stays intact either way.
        auto_migrate: False: never make the file, and never create or migrate tables except by `migrate`.
        options: the keyword arguments of `Storage`.
    """

    def __init__(
        self,
        path: str | Path = "sessions.db",
        *,
        synchronous: Literal["FULL", "NORMAL"] = "FULL",
        auto_migrate: bool = True,
        **options: Any,
    ) -> None:
        if synchronous not in ("FULL", "NORMAL"):
            raise InvalidInputError(f'synchronous must be "FULL" or "NORMAL"; it is {synchronous!r}.')
        super().__init__(SqliteDriver(_checked_path(path), synchronous, auto_migrate=auto_migrate), **options)

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Self:
        """`sqlite:///relative.db`, `sqlite:////absolute.db`, `sqlite://` in memory; `?synchronous=NORMAL`."""
        parts = urlsplit(url)
        if parts.netloc:
            raise InvalidInputError(
                "The URL names a host, which SQLite does not have.",
                hint="Write sqlite:///relative/path.db or sqlite:////absolute/path.db.",
            )
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        if parts.fragment or "#" in url or query.keys() - {"synchronous"}:
            raise InvalidInputError(
                "The URL has more than a path and ?synchronous=.",
                hint="Write # as %23 and ? as %3F, and give other options as keyword arguments.",
            )
        path = unquote(parts.path.removeprefix("/"))
        options = {**query, **options}
        return cls(path or ":memory:", **options)


class SqliteDriver(Driver):
    """The driver behind `SqliteStorage`: one writing connection, and a pool of reading ones."""

    name: ClassVar[str] = "sqlite"

    def __init__(self, path: str, synchronous: str, *, auto_migrate: bool = True) -> None:
        self.path = path
        self.synchronous = synchronous
        self.auto_migrate = auto_migrate
        self.in_memory = path == ":memory:"
        self.capabilities = Capabilities(
            durable=not self.in_memory,
            multi_process=not self.in_memory,
            commits_per_append=500,
            max_record_bytes=16 * 1024 * 1024,
        )
        self._migrations = Migrations(read_texts("sqlite"), {}, table="sessile_schema")
        self._closed = False
        self._forget()

    def _forget(self) -> None:
        self._write_lock = threading.RLock()
        self._pool = threading.Condition()  # guards all that follows
        self._forking = False
        self._writer: sqlite3.Connection | None = None
        self._readers: list[sqlite3.Connection] = []
        self._busy: set[sqlite3.Connection] = set()

    # ------------------------------------------------------------ connections

    def _connect(self) -> sqlite3.Connection:
        if self._closed:
            raise ClosedError("This storage was closed.")
        connection = sqlite3.connect(
            self.path, timeout=BUSY_MILLISECONDS / 1000, isolation_level=None, check_same_thread=False
        )
        connection.execute(f"PRAGMA synchronous = {self.synchronous}")
        connection.execute("PRAGMA foreign_keys = ON")
        return connection

    @contextmanager
    def _writing(self, deadline: Deadline) -> Generator[sqlite3.Connection]:
        """The writing connection, held by one thread at a time."""
        if not self._write_lock.acquire(timeout=deadline.remaining()):
            raise DeadlineError(f"SQLite did not become free for writing within {deadline.timeout:g} s.")
        try:
            if self._writer is None:
                self._writer = self._connect()
            yield self._writer
        finally:
            self._write_lock.release()

    @contextmanager
    def _reading(self, deadline: Deadline, *, short: bool = True) -> Generator[sqlite3.Connection]:
        """A connection to read with; a database in memory has only the writing one.

        A short read takes the writing connection if that is free: its page cache has what was just written, which
        every other connection must read anew (40 µs of a turn). Otherwise it takes one from the pool.
        """
        if self.in_memory:
            with self._writing(deadline) as connection:
                yield connection
        elif short and self._writer is not None and self._write_lock.acquire(blocking=False):
            try:
                with self._writing(deadline) as connection:
                    yield connection
            finally:
                self._write_lock.release()
        else:
            with self._pooled(deadline) as connection:
                yield connection

    @contextmanager
    def _pooled(self, deadline: Deadline) -> Generator[sqlite3.Connection]:
        """A reading connection from the pool, beside which others read and write."""
        with self._pool:
            if not self._pool.wait_for(lambda: not self._forking, deadline.remaining()):
                raise DeadlineError(f"The process did not finish forking within {deadline.timeout:g} s.")
            connection = self._readers.pop() if self._readers else self._connect()
            self._busy.add(connection)
        try:
            yield connection
        finally:
            with self._pool:
                self._busy.discard(connection)
                if self._closed:
                    connection.close()
                else:
                    self._readers.append(connection)
                self._pool.notify_all()

    async def close(self) -> None:
        """Close what is idle; a connection that another thread is reading with is closed when it is done."""
        with self._write_lock, self._pool:
            self._closed = True
            self._close_idle()

    def _close_idle(self) -> None:
        idle = self._readers if self._writer is None else [*self._readers, self._writer]
        self._writer, self._readers = None, []
        for connection in idle:
            connection.close()

    # ------------------------------------------------------------ forks

    def before_fork(self) -> None:
        """Close all connections, so that the child inherits none; both processes open their own at the next use.

        SQLite remembers the locks of a process by the file. A child of a process with an open connection believes
        that it holds locks that it does not: when the parent then closes the file, SQLite removes the write-ahead
        log from under the child, and with it what the child commits. Long reads are given a while, then interrupted.
        """
        self._write_lock.acquire()
        self._pool.acquire()
        self._forking = True
        if self.in_memory:
            return
        if not self._pool.wait_for(lambda: not self._busy, FORK_SECONDS):
            for connection in self._busy:
                connection.interrupt()
            self._pool.wait_for(lambda: not self._busy, FORK_SECONDS)
        self._close_idle()

    def after_fork_in_parent(self) -> None:
        self._forking = False
        self._pool.notify_all()
        self._pool.release()
        self._write_lock.release()

    def after_fork(self) -> None:
        """Never close what the parent could not: SQLite would then drop the parent's locks and its log."""
        inherited = [*self._busy, *self._readers, *([self._writer] if self._writer is not None else [])]
        if inherited:
            import ctypes

            for connection in inherited:
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
        self._forget()

    # ------------------------------------------------------------ schema

    async def setup(self, deadline: Deadline) -> None:
        with _translated("Setting up the database", self.path):
            if not self.auto_migrate and self._absent():
                raise StorageError(f"There is no database {self.path!r}.", hint="`sessile migrate` makes it.")
            self._make_folder()
            with self._writing(deadline) as connection:
                state = _patiently(lambda: _schema_state(connection), deadline)
                if not self._migrations.up_to_date(state, repr(self.path)):
                    if not self.auto_migrate:
                        first = statements_of(self._migrations.to_do(state))[0]
                        raise schema_missing(self._migrations.newest, first, repr(self.path))
                    self._use_wal(connection, deadline)
                    self._migrate(connection, deadline, finish=False)

    async def migrate(self, deadline: Deadline, *, finish: bool = False, dry_run: bool = False) -> list[str]:
        with _translated("Migrating the database", self.path):
            if dry_run and self._absent():
                return statements_of(self._migrations.to_do(SchemaState()))  # opening the file would make it
            self._make_folder()
            with self._writing(deadline) as connection:
                if not dry_run:
                    self._use_wal(connection, deadline)
                    return statements_of(self._migrate(connection, deadline, finish=finish))
                state = _patiently(lambda: _schema_state(connection), deadline)
                self._migrations.up_to_date(state, repr(self.path))
                return statements_of(self._migrations.to_do(state, finish=finish))

    def _absent(self) -> bool:
        return not self.in_memory and not os.path.exists(self.path)

    def _make_folder(self) -> None:
        if self.in_memory:
            return
        try:
            Path(self.path).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ReadOnlyError(f"The folder of {self.path!r} cannot be made: {error}.") from error

    def _use_wal(self, connection: sqlite3.Connection, deadline: Deadline) -> None:
        _patiently(lambda: connection.execute("PRAGMA journal_mode = WAL"), deadline)

    def _migrate(self, connection: sqlite3.Connection, deadline: Deadline, *, finish: bool) -> list[Part]:
        """Bring the schema up to date in one transaction; of processes that start at once, one does the work."""
        _patiently(lambda: connection.execute("BEGIN IMMEDIATE"), deadline)
        try:
            state = _schema_state(connection)
            self._migrations.up_to_date(state, repr(self.path))
            parts = self._migrations.to_do(state, finish=finish)
            for part in parts:
                for statement in part.statements:
                    connection.execute(statement)
            connection.execute("COMMIT")
        except BaseException:
            _roll_back(connection)
            raise
        return parts

    # ------------------------------------------------------------ the log

    async def load(self, session_id: str, newest: int, deadline: Deadline) -> Loaded | None:
        key: dict[str, Any] = {"session_id": session_id}
        with _translated("Loading a session", self.path), self._reading(deadline) as connection:
            if newest == 0:
                found = _patiently(lambda: connection.execute(_SQL["head"], key).fetchone(), deadline)
                return None if found is None else Loaded(HeadRow._make(found), [], _now())
            connection.execute("BEGIN")  # one consistent look at both tables
            try:
                found = _patiently(lambda: connection.execute(_SQL["head"], key).fetchone(), deadline)
                if found is None:
                    return None
                head = HeadRow._make(found)
                key |= {"incarnation": head.incarnation, "newest": newest}
                rows = connection.execute(_SQL["newest"], key).fetchall()
            finally:
                _roll_back(connection)
            rows.reverse()
            return Loaded(head, [CommitRow._make(row) for row in rows], _now())

    async def append(self, write: Append, deadline: Deadline) -> bool:
        with _translated("Appending to a session", self.path), self._writing(deadline) as connection:
            _patiently(lambda: connection.execute("BEGIN IMMEDIATE"), deadline)
            try:
                if not _claim(connection, write):
                    connection.execute("ROLLBACK")
                    return False
                key = (write.session_id, write.incarnation)
                connection.executemany(_SQL["append"], [key + commit for commit in write.commits])
            except BaseException:
                _roll_back(connection)
                raise
            _commit(connection)
            return True

    async def entries(self, session_id: str, incarnation: str, span: Span, deadline: Deadline) -> list[CommitRow]:
        statement, values = log.span_statement(span)
        sql = put_in(_SQL[statement], {"direction": log.direction(span)})
        values |= {"session_id": session_id, "incarnation": incarnation}
        with _translated("Reading a session's log", self.path), self._reading(deadline) as connection:
            rows = _patiently(lambda: connection.execute(sql, values).fetchall(), deadline)
        return [CommitRow._make(row) for row in rows]

    async def list(self, query: ListQuery, deadline: Deadline) -> list[HeadRow]:
        page, values = filters.page(query, _METADATA)
        rows = self._scan("Listing sessions", put_in(_SQL["list"], {"page": page}), values, deadline)
        return [HeadRow._make(row) for row in rows]

    async def count(self, query: ListQuery, deadline: Deadline) -> int:
        where, values = filters.conditions(query, _METADATA)
        return self._scan("Counting sessions", put_in(_SQL["count"], {"where": where}), values, deadline)[0][0]

    def _scan(self, what: str, sql: str, values: filters.Parameters, deadline: Deadline) -> list[Any]:
        """A read that may have to look at many rows, stopped at its deadline."""
        with _translated(what, self.path), self._reading(deadline, short=False) as connection:
            connection.set_progress_handler(lambda: int(deadline.remaining() <= 0), 10_000)
            try:
                return connection.execute(sql, values).fetchall()
            finally:
                connection.set_progress_handler(None, 0)

    async def delete(self, session_id: str, incarnation: str, deadline: Deadline) -> None:
        key = {"session_id": session_id, "incarnation": incarnation}
        with _translated("Deleting a session", self.path), self._writing(deadline) as connection:
            _patiently(lambda: connection.execute(_SQL["delete"], key), deadline)

    # ------------------------------------------------------------ records

    async def get_record(self, session_id: str, incarnation: str, key: str, deadline: Deadline) -> bytes | None:
        values = {"session_id": session_id, "incarnation": incarnation, "key": key}
        with _translated("Reading a record", self.path), self._reading(deadline) as connection:
            found = _patiently(lambda: connection.execute(_SQL["get_record"], values).fetchone(), deadline)
        return None if found is None else found[0]

    async def put_record(
        self, session_id: str, incarnation: str, key: str, value: bytes | None, deadline: Deadline
    ) -> bool:
        values = {"session_id": session_id, "incarnation": incarnation, "key": key, "value": value}
        sql = _SQL["remove_record" if value is None else "put_record"]
        with _translated("Writing a record", self.path), self._writing(deadline) as connection:
            return _patiently(lambda: connection.execute(sql, values), deadline).rowcount == 1 or value is None


# ---------------------------------------------------------------- helpers


def _checked_path(path: Any) -> str:
    """The path of the file, absolute: a process that changes its folder goes on with the same file."""
    if not isinstance(path, (str, Path)):
        raise InvalidInputError(f"The path of a database file must be text or a Path, not {type(path).__name__}.")
    text = str(path)
    if not text or "\0" in text:
        raise InvalidInputError(f"{text!r} is not the path of a file.", hint='Name a file, or ":memory:".')
    check_no_url(text, "the path of a file")
    return text if text == ":memory:" else os.path.abspath(text)


def _now() -> int:
    return time.time_ns() // 1000


def _claim(connection: sqlite3.Connection, write: Append) -> bool:
    """Put the new head in place, if the session is still at the expected revision."""
    if write.expected == 0:
        return connection.execute(_SQL["create"], write.head._asdict()).rowcount == 1
    return connection.execute(_SQL["advance"], {**write.head._asdict(), "expected": write.expected}).rowcount == 1


def _commit(connection: sqlite3.Connection) -> None:
    """COMMIT; if that fails for want of I/O, the commit may still be found in the log after a restart."""
    try:
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        _roll_back(connection)
        code = _code(error)
        raise _translate(
            error, "Committing", "", written="no" if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY) else "unknown"
        ) from error


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def _schema_state(connection: sqlite3.Connection) -> SchemaState:
    """What the file has; version 0 if Sessile has no tables in it."""
    found = connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'sessile_schema'")
    row = None if found.fetchone() is None else connection.execute(_SQL["schema_state"]).fetchone()
    return SchemaState() if row is None else SchemaState(*row)


def _patiently(action: Callable[[], R], deadline: Deadline) -> R:
    """Do what other processes may be doing at the same moment, again and again until the deadline."""
    while True:
        try:
            return action()
        except sqlite3.OperationalError as error:
            if _code(error) not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) or deadline.remaining() <= 0:
                raise
            time.sleep(0.01)


_METADATA = SqliteMetadata()


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary result code (sqlite.org/rescode.html), 0 if the error is not SQLite's own."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


@contextmanager
def _translated(what: str, path: str) -> Generator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise _translate(error, what, path) from error


def _translate(error: sqlite3.Error, what: str, path: str, written: Literal["no", "unknown"] = "no") -> StorageError:
    """An error of SQLite as one of ours."""
    text = f"{what} failed{f' on {path!r}' if path else ''}: {error}."
    code = _code(error)
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StorageUnavailableError(text, hint="Another process is writing; try again.", written=written)
    if code == sqlite3.SQLITE_FULL:
        return StorageFullError(text, written=written)
    if code == sqlite3.SQLITE_READONLY:
        return ReadOnlyError(text, written=written)
    if code == sqlite3.SQLITE_CANTOPEN:
        return StorageUnavailableError(text, hint="Check the path and its permissions.", retry=False)
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return CorruptDataError(text, written=written)
    if code == sqlite3.SQLITE_INTERRUPT:
        return DeadlineError(text)
    if isinstance(error, sqlite3.ProgrammingError) and "closed" in str(error):
        return ClosedError("This storage was closed.")
    if code == sqlite3.SQLITE_IOERR:
        return StorageError(
            text, hint="Check the disk that the file is on, and this process's limits.", written=written
        )
    if "decode to UTF-8" in str(error):
        return CorruptDataError(text, written=written)
    return StorageError(text, written=written)
