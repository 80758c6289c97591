"""SQLite, with the standard library's `sqlite3`: one file, one writer, readers beside it.

WAL with `synchronous=FULL`: an acknowledged commit survives a power cut (sqlite.org/pragma.html#pragma_synchronous).
Every append is one transaction, so that a head never lags behind its log.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar

from ..errors import (
    ClosedError,
    CorruptDataError,
    DeadlineError,
    InvalidInputError,
    ReadOnlyError,
    StorageError,
    StorageUnavailableError,
)
from ..storage.driver import Beside, Capabilities, Deadline, Driver
from ..storage.leaving import FEW_COMMITS, about_to_wait, leave, leave_with, movable, not_on_loop, with_others
from ..storage.matching import listing
from ..storage.rows import Append, CommitRow, HeadRow, Listing, ListQuery, Loaded, Span
from ..storage.states import columns_without_state
from ..storage.storage import Storage
from ..storage.turnstile import give_way
from .sql import damage, durability, filters, log, private, sqlite_log
from .sql.batches import CommitBatches
from .sql.migrations import Migrations, Part, SchemaState, read_texts, schema_missing, statements_of
from .sql.sqlite_beside import SqliteBeside
from .sql.sqlite_calls import begin_writing, commit, patiently, roll_back, take, translate, translated, without_growing
from .sql.sqlite_log import HEAD, SQL, schema_state
from .sql.sqlite_metadata import SqliteMetadata
from .sql.sqlite_places import checked_path, parts_of
from .sql.statements import put_in

R = TypeVar("R")

logger = logging.getLogger("sessile")

File = tuple[int, int]
"""A file, whatever its name: its device and its number there."""

BUSY_MILLISECONDS = 50
"""How long SQLite itself waits for another writer; after that the driver tries again until the deadline."""

COMMITS_TOGETHER = 64
"""How many sessions' commits are one transaction at most, which waits for the disk once."""

GRACE_SECONDS = 0.5
"""For how long a commit waits, when its time is over, to hear of the transaction that it went with."""

FORK_SECONDS = 10.0
"""How long a fork waits for other threads to end what they read."""

_STATELESS = columns_without_state(HEAD, "sqlite")


class SqliteStorage(Storage):
    """Sessions in one SQLite file.

    Args:
        path: the file, made with its folder if it is not there; `":memory:"` keeps everything in this process.
        synchronous: `"FULL"`: an acknowledged commit survives a power cut. `"NORMAL"`: it survives the end of the
            process, but a power cut may take the last commits; the file stays intact either way.
        auto_migrate: False: never make the file, and never create or migrate tables except by `migrate`.
        on_loop: True: small operations of asynchronous callers are done on their event loop, without the way to a
            thread and back, as long as they take less than 2 ms on average and nobody else holds the database. At worst
            the event loop stands still for one write, of several tasks' commits where they come together: as long as
            the disk takes for an `fsync`, or for two where SQLite brings its log into the file (a checkpoint). What
            would wait, and what is large, is done in threads.
        options: the keyword arguments of `Storage`.
    """

    def __init__(
        self,
        path: str | Path = "sessions.db",
        *,
        synchronous: Literal["FULL", "NORMAL"] = "FULL",
        auto_migrate: bool = True,
        on_loop: bool = False,
        **options: Any,
    ) -> None:
        if synchronous not in ("FULL", "NORMAL"):
            raise InvalidInputError(f'synchronous must be "FULL" or "NORMAL"; it is {synchronous!r}.')
        if not isinstance(on_loop, bool):  # pyright: ignore[reportUnnecessaryIsInstance] (users pass anything)
            raise InvalidInputError(f"on_loop must be True or False; it is {on_loop!r}.")
        driver = SqliteDriver(checked_path(path), synchronous, auto_migrate=auto_migrate, on_loop=on_loop)
        super().__init__(driver, **options)

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Self:
        """`sqlite:///relative.db`, `sqlite:////absolute.db`, `sqlite://` in memory.

        Settings stand behind a `?`: `synchronous=NORMAL`, `on_loop=true`; several with a `&` between them.
        """
        path, found = parts_of(url)
        return cls(path, **{**found, **options})


class SqliteDriver(Driver):
    """The driver behind `SqliteStorage`: one writing connection, and a pool of reading ones."""

    name: ClassVar[str] = "sqlite"
    ends_promptly = True
    takes_turns = True

    def __init__(self, path: str, synchronous: str, *, auto_migrate: bool = True, on_loop: bool = False) -> None:
        self.path = path
        self.on_loop = on_loop
        self.synchronous = synchronous
        self.auto_migrate = auto_migrate
        self.in_memory = path == ":memory:"
        self.capabilities = Capabilities(
            durable=not self.in_memory,
            multi_process=not self.in_memory,
            commits_per_append=500,
            max_record_bytes=16 * 1024 * 1024,
            rewrites=True,
            bounded_pages=True,
            checks_body=True,
        )
        self._migrations = Migrations(read_texts("sqlite"), {}, table="sessile_schema")
        self._closed = False
        self._was_there = False
        self._forget()

    def _forget(self) -> None:
        self._write_lock = threading.RLock()
        self._pool = threading.Condition()  # guards all that follows
        self._forking = False
        self._writer: sqlite3.Connection | None = None
        self._readers: list[sqlite3.Connection] = []
        self._busy: set[sqlite3.Connection] = set()
        self._files: dict[sqlite3.Connection, File | None] = {}
        self._batches = self._new_batches()

    def _new_batches(self) -> CommitBatches | None:
        """None where no commit waits for a disk."""
        if self.in_memory:
            return None
        return CommitBatches(
            self._append,
            self._append_many,
            suspends=False,
            stats=self.stats,
            at_work=1,  # one connection writes
            most=COMMITS_TOGETHER,
            grace=GRACE_SECONDS,
        )

    # ------------------------------------------------------------ connections

    def _connect(self, deadline: Deadline) -> sqlite3.Connection:
        if self._closed:
            raise ClosedError("This storage was closed.")
        about_to_wait()
        patience = 0.0 if self.on_loop else BUSY_MILLISECONDS / 1000
        connection = sqlite3.connect(self.path, timeout=patience, isolation_level=None, check_same_thread=False)
        # The first statement looks at the file, which other processes may be making at this moment.
        patiently(lambda: connection.execute(f"PRAGMA synchronous = {self.synchronous}"), deadline)
        connection.execute("PRAGMA foreign_keys = ON")
        self._files[connection] = self._file()
        return connection

    def _file(self) -> File | None:
        """Which file the path names at this moment."""
        if self.in_memory:
            return None
        try:
            found = os.stat(self.path)
        except OSError:
            if self._was_there:
                raise StorageError(
                    f"The database file {self.path!r} is gone.", hint="Put it back; what was stored is in it."
                ) from None
            return None
        self._was_there = True
        return found.st_dev, found.st_ino

    def _is_current(self, connection: sqlite3.Connection) -> bool:
        """Whether a connection is to the file that the path names: what goes to a removed or replaced one is lost.

        As long as the connection is open, no other file can have its number.
        """
        file = self._file()
        if self._files[connection] is None:
            self._files[connection] = file  # it was made by that connection
        return self._files[connection] == file

    def _follow_file(self) -> None:
        """Let go of a writing connection to a file which the path names no more; its lock is held."""
        writer = self._writer
        if writer is not None and not self._is_current(writer):
            self._writer = None
            self._drop(writer)
            self.stats.count("reconnects")
            logger.warning("The database file %r was replaced; it is opened anew.", self.path)

    def _drop(self, connection: sqlite3.Connection) -> None:
        del self._files[connection]
        connection.close()

    @contextmanager
    def _writing(self, deadline: Deadline) -> Generator[sqlite3.Connection]:
        """The writing connection, held by one thread at a time."""
        deadline.check("An operation on SQLite")
        take(self._write_lock, deadline)
        try:
            yield self._writer or self._connected(deadline)
        finally:
            self._write_lock.release()

    def _connected(self, deadline: Deadline) -> sqlite3.Connection:
        """The writing connection, rebuilt; its lock is held."""
        self._writer = self._connect(deadline)
        return self._writer

    @contextmanager
    def _reading(self, deadline: Deadline, *, short: bool = True) -> Generator[sqlite3.Connection]:
        """A connection to read with; a database in memory has only the writing one.

        A short read takes the writing connection if that is free: its page cache has what was just written, which
        every other connection must read anew (40 µs of a turn). Otherwise it takes one from the pool.
        """
        deadline.check("An operation on SQLite")
        if self.in_memory:
            with self._writing(deadline) as connection:
                yield connection
        elif short and self._writer is not None and self._write_lock.acquire(blocking=False):
            try:
                self._follow_file()
                with self._writing(deadline) as connection:
                    yield connection
            finally:
                self._write_lock.release()
        else:
            not_on_loop()
            with self._pooled(deadline) as connection:
                yield connection

    @contextmanager
    def _pooled(self, deadline: Deadline) -> Generator[sqlite3.Connection]:
        """A reading connection from the pool, beside which others read and write."""
        with self._pool:
            if not self._pool.wait_for(lambda: not self._forking, deadline.remaining()):
                raise DeadlineError(f"The process did not finish forking within {deadline.timeout:g} s.")
            while self._readers and not self._is_current(self._readers[-1]):
                self._drop(self._readers.pop())
            connection = self._readers.pop() if self._readers else self._connect(deadline)
            self._busy.add(connection)
        try:
            yield connection
        finally:
            with self._pool:
                self._busy.discard(connection)
                if self._closed:
                    self._drop(connection)
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
            self._drop(connection)

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
        with contextlib.suppress(RuntimeError):  # what is not ours: `before_fork` was interrupted before it
            self._pool.notify_all()
            self._pool.release()
        with contextlib.suppress(RuntimeError):
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
        await leave()
        with translated("Setting up the database", self.path):
            if not self.auto_migrate and self._absent():
                raise StorageError(f"There is no database {self.path!r}.", hint="`sessile migrate` makes it.")
            self._make_file()
            with self._writing(deadline) as connection:
                state = patiently(lambda: schema_state(connection), deadline)
                if not self._migrations.up_to_date(state, repr(self.path)):
                    if not self.auto_migrate:
                        first = statements_of(self._migrations.to_do(state))[0]
                        raise schema_missing(self._migrations.newest, first, repr(self.path))
                    self._use_wal(connection, deadline)
                    self._migrate(connection, deadline, finish=False)

    async def migrate(self, deadline: Deadline, *, finish: bool = False, dry_run: bool = False) -> list[str]:
        await leave()
        with translated("Migrating the database", self.path):
            if dry_run and self._absent():
                return statements_of(self._migrations.to_do(SchemaState()))  # opening the file would make it
            self._make_file()
            with self._writing(deadline) as connection:
                if not dry_run:
                    self._use_wal(connection, deadline)
                    return statements_of(self._migrate(connection, deadline, finish=finish))
                state = patiently(lambda: schema_state(connection), deadline)
                self._migrations.up_to_date(state, repr(self.path))
                return statements_of(self._migrations.to_do(state, finish=finish))

    def _absent(self) -> bool:
        return not self.in_memory and not os.path.exists(self.path)

    def _make_file(self) -> None:
        """Make the file, with its folder, for its owner alone; what is there keeps its rights."""
        if not self._absent():
            return
        try:
            private.make_folder(Path(self.path).parent)
        except OSError as error:
            raise ReadOnlyError(f"The folder of {self.path!r} cannot be made: {error}.") from error
        with contextlib.suppress(OSError):  # which SQLite says better
            private.make_file(self.path)

    def _use_wal(self, connection: sqlite3.Connection, deadline: Deadline) -> None:
        # It answers, and a statement that has not been read to its end keeps a transaction open (on PyPy, at least).
        patiently(lambda: connection.execute("PRAGMA journal_mode = WAL").fetchall(), deadline)

    def _migrate(self, connection: sqlite3.Connection, deadline: Deadline, *, finish: bool) -> list[Part]:
        """Bring the schema up to date in one transaction; of processes that start at once, one does the work."""
        begin_writing(connection, deadline)
        try:
            state = schema_state(connection)
            self._migrations.up_to_date(state, repr(self.path))
            parts = self._migrations.to_do(state, finish=finish)
            for part in parts:
                for statement in part.statements:
                    connection.execute(statement)
            connection.execute("COMMIT")
        except BaseException:
            roll_back(connection)
            raise
        return parts

    def warnings(self) -> Sequence[str]:
        return [] if self.in_memory else durability.of_sqlite(self.synchronous)

    # ------------------------------------------------------------ the log

    @movable()
    async def load(self, session_id: str, newest: int, deadline: Deadline) -> Loaded | None:
        if newest > FEW_COMMITS:
            await leave()
        if self._writer is None or not self._write_lock.acquire(blocking=False):
            with translated("Loading a session", self.path), self._reading(deadline) as connection:
                return sqlite_log.load(connection, session_id, newest, deadline)
        try:  # the same as `_reading`, for what is done most often
            deadline.check("An operation on SQLite")
            self._follow_file()
            return sqlite_log.load(self._writer or self._connected(deadline), session_id, newest, deadline)
        except sqlite3.Error as error:
            raise translate(error, "Loading a session", self.path) from error
        finally:
            self._write_lock.release()

    @movable(writes=True)
    async def append(self, write: Append, deadline: Deadline) -> bool:
        await leave_with(chars=sum(len(commit.body) for commit in write.commits))
        if self._batches is None or deadline.may_be_hurried:  # what may be interrupted goes alone
            return bool(self._written((write,), deadline))
        may_wait = self._batches.may_wait(write, deadline)
        won = await with_others(write.session_id, write, deadline, self._written) if may_wait else None
        return await self._batches.ask(write, deadline) if won is None else won

    async def _append(self, write: Append, deadline: Deadline) -> bool:
        return bool(self._written((write,), deadline))

    async def _append_many(self, writes: Sequence[Append], deadline: Deadline) -> Collection[str]:
        return self._written(writes, deadline)

    def _written(self, writes: Sequence[Append], deadline: Deadline) -> Collection[str]:
        """Commits of several sessions as one transaction; tells which of them have won."""
        deadline.check("An operation on SQLite")
        take(self._write_lock, deadline)
        try:
            if writes[0].was_body is not None or len(writes) > 1:  # nobody may have looked at the file before
                self._follow_file()
            return self._put(self._writer or self._connected(deadline), writes, deadline)
        except sqlite3.Error as error:
            raise translate(error, "Appending to a session", self.path) from error
        finally:
            self._write_lock.release()

    def _put(self, connection: sqlite3.Connection, writes: Sequence[Append], deadline: Deadline) -> Collection[str]:
        begin_writing(connection, deadline)
        many = len(writes) > 1 and sqlite_log.TOGETHER
        try:
            if many and sqlite_log.put_all(connection, writes):
                won = [write.session_id for write in writes]
            else:
                if many:  # some may have been written
                    connection.execute("ROLLBACK")
                    begin_writing(connection, deadline)
                won = sqlite_log.put(connection, writes)
            if not won:
                connection.execute("ROLLBACK")
                return won
        except BaseException:
            roll_back(connection)
            raise
        give_way()
        commit(connection)
        self._check_kept(connection)
        return won

    def _check_kept(self, connection: sqlite3.Connection) -> None:
        """Acknowledge nothing that was written to a file which the path names no more."""
        if not self._is_current(connection):
            self._follow_file()
            raise StorageUnavailableError(f"The database file {self.path!r} was replaced.", written="unknown")

    @movable()
    async def entries(self, session_id: str, incarnation: str, span: Span, deadline: Deadline) -> list[CommitRow]:
        await leave_with(commits=span.limit if span.key is None else 1)
        statement, values = log.span_statement(span)
        sql = put_in(SQL[statement], {"direction": log.direction(span)})
        values |= {"session_id": session_id, "incarnation": incarnation}
        with translated("Reading a session's log", self.path), self._reading(deadline) as connection:
            return patiently(lambda: sqlite_log.page(connection, sql, values, span), deadline)

    async def rewrite(
        self, session_id: str, incarnation: str, commits: Sequence[CommitRow], deadline: Deadline
    ) -> bool:
        await leave()
        key = {"session_id": session_id, "incarnation": incarnation}
        with translated("Rewriting commits", self.path), self._writing(deadline) as connection:
            begin_writing(connection, deadline)
            try:
                changed = [connection.execute(SQL["rewrite"], {**row._asdict(), **key}).rowcount for row in commits]
                if not all(changed):
                    connection.execute("ROLLBACK")
                    return False
            except BaseException:
                roll_back(connection)
                raise
            commit(connection)
            self._check_kept(connection)
            return True

    async def list(self, query: ListQuery, deadline: Deadline) -> Listing:
        await leave()
        page, values = filters.page(query, _METADATA)
        try:
            words = {"page": page, "columns": HEAD if query.with_state else _STATELESS}
            rows = self._scan("Listing sessions", put_in(SQL["list"], words), values, deadline)
            return listing([damage.head_of(row) for row in rows], query)
        except CorruptDataError:  # each by itself, so that the others are not lost with it
            sql = put_in(SQL["list_places"], {"page": page, "moment": filters.time_column(query)})
            places = self._scan("Listing sessions", sql, values, deadline)

        async def read(session_id: str) -> HeadRow | None:
            found = self._scan("Listing sessions", SQL["head"], (session_id,), deadline)
            return damage.head_of(found[0]) if found else None

        return await damage.page_of(places, read, query)

    async def count(self, query: ListQuery, deadline: Deadline) -> int:
        await leave()
        where, values = filters.conditions(query, _METADATA)
        return self._scan("Counting sessions", put_in(SQL["count"], {"where": where}), values, deadline)[0][0]

    def _scan(self, what: str, sql: str, values: filters.Parameters | tuple[str], deadline: Deadline) -> list[Any]:
        """A read that may have to look at many rows, stopped at its deadline."""
        with translated(what, self.path), self._reading(deadline, short=False) as connection:
            connection.set_progress_handler(lambda: int(deadline.remaining() <= 0), 10_000)
            try:
                return patiently(lambda: connection.execute(sql, values).fetchall(), deadline)
            finally:
                connection.set_progress_handler(None, 0)

    async def delete(self, session_id: str, incarnation: str, deadline: Deadline) -> None:
        await leave()
        key = {"session_id": session_id, "incarnation": incarnation}
        with translated("Deleting a session", self.path), self._writing(deadline) as connection:
            without_growing(connection, lambda: connection.execute(SQL["delete"], key), deadline)
            self._check_kept(connection)

    async def discard(self, session_id: str, deadline: Deadline) -> bool:
        await leave()
        key = {"session_id": session_id}
        with translated("Deleting a session", self.path), self._writing(deadline) as connection:
            removed = patiently(lambda: connection.execute(SQL["discard"], key), deadline).rowcount
            self._check_kept(connection)
        return removed > 0

    # ------------------------------------------------------------ tables of others

    def beside(self) -> Beside:
        return SqliteBeside(self)

    def scan(self, what: str, sql: str, values: filters.Parameters, deadline: Deadline) -> list[Any]:
        """A read of tables of others, beside which the log is written and read."""
        return self._scan(what, sql, values, deadline)

    def sign(self, deadline: Deadline) -> object:
        """What others have committed shows in the version, what this connection has in the changes and the schema."""
        with translated("Looking for changes", self.path), self._reading(deadline, short=False) as connection:
            others = connection.execute("PRAGMA data_version").fetchone()
            schema = connection.execute("PRAGMA schema_version").fetchone()
            return connection, others, schema, connection.total_changes

    @contextmanager
    def changing(self, what: str, deadline: Deadline) -> Generator[sqlite3.Connection]:
        """A transaction on tables of others, on a connection of its own: the log waits only for the lock."""
        held = self._writing(deadline) if self.in_memory else self._pooled(deadline)
        with translated(what, self.path), held as connection:
            begin_writing(connection, deadline)
            try:
                yield connection
                commit(connection)
            except BaseException:
                roll_back(connection)
                raise

    # ------------------------------------------------------------ records

    @movable()
    async def get_record(self, session_id: str, incarnation: str, key: str, deadline: Deadline) -> bytes | None:
        values = {"session_id": session_id, "incarnation": incarnation, "key": key}
        with translated("Reading a record", self.path), self._reading(deadline) as connection:
            found = patiently(lambda: connection.execute(SQL["get_record"], values).fetchone(), deadline)
        # SQLite takes a value of any type in any column: whoever reads the record finds that it is damaged.
        return None if found is None else found[0] if type(found[0]) is bytes else str(found[0]).encode()

    @movable(writes=True)
    async def put_record(
        self, session_id: str, incarnation: str, key: str, value: bytes | None, deadline: Deadline
    ) -> bool:
        await leave_with(chars=len(value or b""))
        values = {"session_id": session_id, "incarnation": incarnation, "key": key, "value": value}
        sql = SQL["remove_record" if value is None else "put_record"]
        with translated("Writing a record", self.path), self._writing(deadline) as connection:
            give_way()
            done = patiently(lambda: connection.execute(sql, values), deadline).rowcount == 1 or value is None
            self._check_kept(connection)
            return done

    @movable()
    async def record_keys(
        self, session_id: str, incarnation: str, prefix: str, deadline: Deadline, *, after: str = "", limit: int = 500
    ) -> list[str]:
        values = {"session_id": session_id, "incarnation": incarnation, "after": after, "limit": limit}
        values |= {"prefix": prefix, "length": len(prefix)}
        with translated("Reading the keys of records", self.path), self._reading(deadline) as connection:
            rows = patiently(lambda: connection.execute(SQL["record_keys"], values).fetchall(), deadline)
        return [key for (key,) in rows]


_METADATA = SqliteMetadata()
