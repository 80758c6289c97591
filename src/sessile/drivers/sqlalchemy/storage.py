"""`SqlAlchemyStorage` and the driver behind it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self, TypeVar, cast
from weakref import WeakKeyDictionary

from sqlalchemy import URL, Connection, Dialect, Engine, Executable
from sqlalchemy.exc import IntegrityError, SQLAlchemyError, StatementError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from ...errors import (
    CorruptDataError,
    InvalidInputError,
    SessileError,
    StorageError,
    StorageUnavailableError,
    UnsupportedError,
)
from ...storage.checks import check_seconds
from ...storage.driver import Capabilities, Deadline, Driver
from ...storage.matching import listing, matches, page_of, with_bodies
from ...storage.retrying import pause_before
from ...storage.rows import LOADED_BYTES, Append, CommitRow, HeadRow, Listing, ListQuery, Loaded, RecordName, Span
from ...storage.storage import Storage
from ...storage.urls import WRONG_CALL
from ...storage.withholding import reason_of
from ..sql import damage, durability, log
from ..sql.borrowed import spoil
from ..sql.migrations import Part, schema_missing
from ..sql.names import check_names
from ..sql.pool import MAX_AGE
from ..sql.ports import not_text
from ..sql.statements import put_in
from . import opening
from .errors import ALREADY_THERE, Attempt, codes_of, is_lost, kind_of, late, translate
from .migrating import Migrator
from .ports import Port, Work, check_transactions
from .statements import CLOCKS, FIXED, Statements, statements_for

R = TypeVar("R")
T = TypeVar("T")

logger = logging.getLogger("sessile")

LOST_ATTEMPTS = 3
"""How often an operation is tried on connections that turn out to be lost. Idle ones all are, after a restart."""

SCAN = 200
"""How many heads are read at once where metadata is compared."""

AT_ONCE = 300
"""How many sessions, records or commits a statement names: SQL Server takes 2,100 parameters, old SQLite 999."""

WIDTH = len(HeadRow._fields)

_CURRENT: WeakKeyDictionary[Dialect, set[Statements]] = WeakKeyDictionary()
"""Whose tables were seen to be up to date, by engine (each has a dialect of its own).

An application may make a storage for each of its transactions: only the first one looks.
"""

Database = str | URL | Engine | AsyncEngine | Connection | AsyncConnection | Session | AsyncSession


class SqlAlchemyStorage(Storage):
    """Sessions in a database that SQLAlchemy has a dialect for.

    Args:
        database: a URL of SQLAlchemy's; or an engine of the application's, which is never disposed of here; or a
            connection or ORM session of the application's: then everything happens inside the transaction that it is
            in, is committed or rolled back with it, and the tables must be there. Asynchronous engines, connections
            and sessions serve the event loop that they are used on; a URL of an asynchronous driver serves all.
        schema: where the tables are; None: the database's default.
        prefix: what the tables' names begin with.
        auto_migrate: False: never create or migrate tables except by `migrate`.
        max_connection_age: for a URL: seconds after which a connection is replaced when it is used again, a tenth more
            or less.
        engine_options: for a URL: the keyword arguments of SQLAlchemy's `create_engine` (`pool_size`, `connect_args`).
        options: the keyword arguments of `Storage`.
    """

    def __init__(
        self,
        database: Database,
        *,
        schema: str | None = None,
        prefix: str = "sessile_",
        auto_migrate: bool = True,
        max_connection_age: float = MAX_AGE,
        engine_options: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        check_names(schema, prefix)
        check_seconds(max_connection_age, "max_connection_age")
        opened = opening.open_database(database, engine_options, options.get("timeout", 30.0), max_connection_age)

        def driver(make: Callable[[], Port]) -> SqlAlchemyDriver:
            return SqlAlchemyDriver(make(), schema=schema, prefix=prefix, auto_migrate=auto_migrate)

        if opened.suspends:
            super().__init__(None, async_driver=lambda: driver(opened.make), **options)
        else:
            super().__init__(driver(opened.make), **options)

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Self:
        """`sqlalchemy+postgresql+psycopg://user@host/database`: a URL of SQLAlchemy's; `?schema=` and `prefix=`."""
        parsed = opening.parse(url.removeprefix("sqlalchemy+"))
        ours: dict[str, Any] = {key: parsed.query[key] for key in ("schema", "prefix") if key in parsed.query}
        return cls(parsed.difference_update_query(ours), **{**ours, **options})


class SqlAlchemyDriver(Driver):
    """The driver behind `SqlAlchemyStorage`. An append is one transaction, so head and log change together."""

    name: ClassVar[str] = "sqlalchemy"

    def __init__(self, port: Port, *, schema: str | None, prefix: str, auto_migrate: bool) -> None:
        self.port = port
        self.stats = port.stats
        self.suspends = port.suspends
        self.in_callers_thread = not port.owned
        self.sql = statements_for(schema, prefix, port.dialect.name)
        self.capabilities = Capabilities(
            commits_per_append=500,
            max_record_bytes=1024 * 1024,
            rewrites=True,
            bounded_pages=bool(self.sql.sizes),
        )
        self._migrator = Migrator(self.sql, port.where)
        self._auto_migrate = auto_migrate and not port.borrowed

    async def _run(self, what: str, work: Work[R], deadline: Deadline, *, writes: bool = False) -> R:
        """Do the work; again, if it is certain that nothing was done and another attempt may do better."""
        attempts = 1
        while True:
            deadline.check(what)
            attempt = Attempt(writes)
            try:
                return await self.port.run(work, attempt, deadline)
            except TimeoutError as error:
                failed = late(what, self.port.where, deadline, attempt)
                self._count_unknown(failed)
                raise spoil(failed) if self.port.borrowed else failed from error
            except UnicodeDecodeError as error:
                raise not_text(error, what, self.port.where) from error
            except WRONG_CALL as error:
                if attempt.phase != "connecting" or isinstance(error, SessileError):
                    raise
                raise InvalidInputError(
                    f"{what} failed: the client of {self.port.where} refuses how it was called: {reason_of(error)}.",
                    hint="Correct the URL, or connect_args in engine_options.",
                ) from error
            except (SQLAlchemyError, OSError) as error:
                failed = translate(error, what, self.port.where, self.port.dialect.name, attempt)
                self._count_unknown(failed)
                if self.port.borrowed:
                    raise spoil(failed) from error
                lost = isinstance(error, SQLAlchemyError) and is_lost(error)
                again = failed.retryable and failed.written == "no" and attempt.phase != "connecting"
                if not again or (lost and attempts == LOST_ATTEMPTS) or deadline.remaining() <= 0:
                    raise failed from error
                attempts += 1
                self.stats.count("retries")
                logger.info("%s is tried again: %s", what, failed.message)
            await self.pause(pause_before(attempts))

    def _count_unknown(self, failed: StorageError) -> None:
        if failed.written == "unknown":
            self.stats.unknown(failed)
            logger.warning("Whether it was written is not known: %s", failed.message)

    # ------------------------------------------------------------ schema

    async def setup(self, deadline: Deadline) -> None:
        known = _CURRENT.setdefault(self.port.dialect, set())
        current = self.port.borrowed and self.sql in known

        def work(connection: Connection) -> Part | None:
            check_transactions(connection)
            return None if current else self._migrator.missing(connection)

        missing = await self._run("Reading the schema version", work, deadline)
        if missing is not None and not self._auto_migrate:
            raise schema_missing(missing.version, missing.statements[0], self.port.where)
        if missing is not None:
            await self.migrate(deadline)
        known.add(self.sql)

    async def settings_warnings(self, deadline: Deadline) -> Sequence[str]:
        dialect, table = self.port.dialect, self.sql.commits
        name = dialect.identifier_preparer.format_table(table).replace("'", "''")

        def work(connection: Connection) -> list[str]:
            def ask(sql: str) -> list[tuple[Any, ...]]:
                return [tuple(row) for row in connection.exec_driver_sql(sql)]

            if dialect.name == "postgresql":
                return durability.of_postgres(dict(ask(put_in(durability.POSTGRES, {"table": name}))))
            if dialect.name in ("mysql", "mariadb"):
                return durability.of_mysql(dict(ask(durability.MYSQL)))
            return durability.of_sqlite(ask("PRAGMA synchronous")[0][0]) if dialect.name == "sqlite" else []

        return await self._run("Reading settings", work, deadline)

    async def migrate(self, deadline: Deadline, *, finish: bool = False, dry_run: bool = False) -> list[str]:
        if dry_run:
            return await self._run(
                "Reading the schema version",
                lambda connection: self._migrator.to_do(connection, finish=finish),
                deadline,
            )
        what = "Migrating the database"
        if self.port.borrowed and self.port.dialect.name in ALREADY_THERE:
            raise UnsupportedError(
                f"{what} would commit the application's transaction.",
                hint="Let a storage that is made with an engine or a URL, or `sessile migrate`, do it.",
            )
        try:
            return await self._run(
                what,
                lambda connection: self._migrator.migrate(connection, deadline, finish=finish),
                deadline,
                writes=True,
            )
        except StorageError as error:
            if await self._is_current(deadline):
                return []
            cause = error.__cause__
            if isinstance(cause, StatementError) and cause.statement:
                error.message += f" The statement was: {cause.statement}"
            raise

    async def _is_current(self, deadline: Deadline) -> bool:
        """After a migration that failed: another process may have done it, where there is no lock for that."""
        try:
            return await self._run("Reading the schema version", self._migrator.missing, deadline) is None
        except StorageError:
            return False

    # ------------------------------------------------------------ the log

    async def load(self, session_id: str, newest: int, deadline: Deadline) -> Loaded | None:
        def work(connection: Connection) -> Loaded | None:
            loaded, there = self._load(connection, session_id, newest)
            if loaded is not None and there < min(newest, loaded.head.revision):
                # Deleted between head and log, which one statement sees where it locks rows as it reaches them.
                loaded, _ = self._load(connection, session_id, newest)
            return loaded

        return await self._run("Loading a session", work, deadline)

    def _load(self, connection: Connection, session_id: str, newest: int) -> tuple[Loaded | None, int]:
        """What a load brings, and how many commits there were for it, those that were kept back included."""
        statement = self.sql.load if newest else self.sql.load_head
        share = LOADED_BYTES // max(newest, 1)
        rows = connection.execute(statement, {"of_session_id": session_id, "newest": newest, "share": share}).all()
        if not rows:
            return None, 0
        # Positions, because head and commits have columns of the same name: the head's, the clock, the commit's.
        found = [_loaded(row[WIDTH + 1 :]) for row in rows] if newest and rows[0][WIDTH + 1] else []
        commits = with_bodies(sorted(found, reverse=True))
        row = next((row for row in rows if row[WIDTH - 1] is not None), None)
        if row is None:  # the newest commit, whose row has the long columns, is not there
            return self._load(connection, session_id, 0)
        now = row[WIDTH]
        now = time.time_ns() // 1000 if now is None else now
        return Loaded(damage.head_of(tuple(row[:WIDTH])), commits, now), len(found)

    async def append(self, write: Append, deadline: Deadline) -> bool:
        key = {"session_id": write.session_id, "incarnation": write.incarnation}
        rows = [{**key, **commit._asdict()} for commit in write.commits]

        def work(connection: Connection) -> bool:
            if not self._claim(connection, write):
                if self.port.borrowed:
                    self._check_view(connection, write)
                return False
            connection.execute(self.sql.log, rows)
            return True

        return await self._run("Appending to a session", work, deadline, writes=True)

    def _claim(self, connection: Connection, write: Append) -> bool:
        """Put the new head in place, if the session is still at the expected revision."""
        values = write.head._asdict() | {"hidden": int(write.head.hidden)}
        if write.expected == 0:
            try:
                return connection.execute(self.sql.create, values).rowcount == 1
            except IntegrityError as error:
                if kind_of(codes_of(error.orig), self.sql.dialect) == "constraint":
                    raise  # it is not the key of a session that is there: nobody else has won
                return False
        of_head = {
            "of_session_id": write.session_id,
            "of_incarnation": write.incarnation,
            "of_revision": write.expected,
        }
        return connection.execute(self.sql.advance, values | of_head).rowcount == 1

    def _check_view(self, connection: Connection, write: Append) -> None:
        """See whether the application's transaction sees the database as it was: then it would lose for ever."""
        loaded, _ = self._load(connection, write.session_id, 0)
        seen = 0 if loaded is None else loaded.head.revision
        if seen == write.expected and (loaded is None or loaded.head.incarnation == write.incarnation):
            raise StorageUnavailableError(
                f"Session {write.session_id!r} was changed by somebody else after the transaction had begun.",
                hint="Roll the transaction back, and repeat it whole.",
                retryable=False,
            )

    async def entries(self, session_id: str, incarnation: str, span: Span, deadline: Deadline) -> list[CommitRow]:
        name, values = log.span_statement(span)
        what, statement = "Reading a session's log", self.sql.entries[name, span.newest_first]
        values |= _of(session_id, incarnation)
        if span.max_bytes is not None and self.capabilities.bounded_pages:
            of_sizes = self.sql.sizes[name, span.newest_first]

            async def sizes(here: dict[str, Any]) -> list[tuple[int, int]]:
                return await self._run(
                    what, lambda connection: [(row[0], row[1]) for row in connection.execute(of_sizes, here)], deadline
                )

            values["limit"] = await log.count_within(sizes, values, span)

        def work(connection: Connection) -> list[CommitRow]:
            return page_of((CommitRow.stored(row) for row in connection.execute(statement, values)), span)

        return await self._run(what, work, deadline)

    async def newest(
        self, sessions: Sequence[tuple[str, str]], count: int, deadline: Deadline
    ) -> list[list[CommitRow]]:
        found: list[list[CommitRow]] = []
        for some in _parts(sessions):
            statement = self.sql.newest(some, count)
            rows = await self._run("Reading the newest commits", _all_of(statement), deadline)
            page: list[list[CommitRow]] = [[] for _ in some]
            for row in rows:
                number: int = row[0]
                page[number].append(CommitRow.stored(row[1:]))
            found += [sorted(commits) for commits in page]
        return found

    async def rewrite(
        self, session_id: str, incarnation: str, commits: Sequence[CommitRow], deadline: Deadline
    ) -> bool:
        of = _of(session_id, incarnation)

        def work(connection: Connection) -> bool:
            # Held to the end of the transaction, so that no deletion comes between.
            if connection.execute(self.sql.hold_head, of).first() is None:
                return False
            for some in _parts(commits):
                there = connection.execute(self.sql.fixed, {**of, "of_seqs": [row.seq for row in some]})
                if {row[: len(FIXED)] for row in some} != {tuple(row) for row in there}:
                    return False
            changes = [{**of, "of_seq": row.seq, "body": row.body, "key": row.key} for row in commits]
            if changes:
                connection.execute(self.sql.rewrite, changes)
            return True

        return await self._run("Rewriting commits", work, deadline, writes=True)

    async def now(self, deadline: Deadline) -> int:
        if self.port.dialect.name not in CLOCKS:
            return await super().now(deadline)
        return (await self._run("Reading the clock", _all_of(self.sql.now), deadline))[0][0]

    async def delete(self, session_id: str, incarnation: str, deadline: Deadline) -> None:
        def work(connection: Connection) -> None:
            for statement in self.sql.delete:
                connection.execute(statement, _of(session_id, incarnation))

        await self._run("Deleting a session", work, deadline, writes=True)

    async def discard(self, session_id: str, deadline: Deadline) -> bool:
        found = await self._run(
            "Deleting a session", lambda c: c.scalar(self.sql.incarnation, {"of_session_id": session_id}), deadline
        )
        if found is not None:
            await self.delete(session_id, found, deadline)
        return found is not None

    # ------------------------------------------------------------ lists

    async def list(self, query: ListQuery, deadline: Deadline) -> Listing:
        size = max(query.limit, SCAN) if query.metadata or query.metadata_keys else query.limit
        found: list[HeadRow] = []
        unreadable: dict[str, StorageError] = {}
        after = query.after
        while True:
            page = await self._page(query, after, size, deadline)
            unreadable |= page.unreadable
            for head in page.rows:
                try:
                    found += [head] if matches(head, query) else []
                except ValueError as error:
                    unreadable[head.session_id] = CorruptDataError(f"The metadata is no JSON: {reason_of(error)}.")
            if len(found) >= query.limit or page.after is None:
                return listing(found[: query.limit], query, unreadable)
            after = page.after

    async def _page(self, query: ListQuery, after: tuple[int, str] | None, size: int, deadline: Deadline) -> Listing:
        """A page of heads, those that do not match by metadata among them."""
        what, paged = "Listing sessions", replace(query, limit=size)
        try:
            statement = self.sql.page(query, after, size)
            rows = await self._run(
                what, lambda c: [damage.head_of(tuple(row)) for row in c.execute(statement)], deadline
            )
            return listing(rows, paged)
        except CorruptDataError:
            # Something on it is damaged: each head is read by itself, so that the others are not lost with it.
            places = self.sql.places(query, after, size)
            found = await self._run(what, lambda c: [tuple(row) for row in c.execute(places)], deadline)

        async def read(session_id: str) -> HeadRow | None:
            loaded = await self.load(session_id, 0, deadline)
            return None if loaded is None else loaded.head

        return await damage.page_of(found, read, paged)

    async def count(self, query: ListQuery, deadline: Deadline) -> int:
        if query.metadata or query.metadata_keys:
            return await super().count(query, deadline)
        statement = self.sql.count(query)
        return await self._run("Counting sessions", lambda connection: connection.scalar(statement) or 0, deadline)

    # ------------------------------------------------------------ records

    async def get_record(self, session_id: str, incarnation: str, key: str, deadline: Deadline) -> bytes | None:
        values = {**_of(session_id, incarnation), "of_key": key}
        rows = await self._run(
            "Reading a record", lambda connection: connection.execute(self.sql.get_record, values).all(), deadline
        )
        return bytes(rows[0].value or b"") if rows else None

    async def get_records(self, names: Sequence[RecordName], deadline: Deadline) -> list[bytes | None]:
        found: dict[tuple[str, ...], bytes] = {}
        for some in _parts(names):
            rows = await self._run("Reading records", _all_of(self.sql.get_records(some)), deadline)
            found |= {tuple(name): bytes(value or b"") for *name, value in rows}
        return [found.get(name) for name in names]

    async def record_keys(
        self, session_id: str, incarnation: str, prefix: str, deadline: Deadline, *, after: str = "", limit: int = 500
    ) -> list[str]:
        statement = self.sql.record_keys(session_id, incarnation, prefix, after, limit)
        return [row[0] for row in await self._run("Listing records", _all_of(statement), deadline)]

    async def put_record(
        self, session_id: str, incarnation: str, key: str, value: bytes | None, deadline: Deadline
    ) -> bool:
        of_record = {**_of(session_id, incarnation), "of_key": key}
        record = {"session_id": session_id, "incarnation": incarnation, "key": key, "value": value}

        def work(connection: Connection) -> bool:
            if value is None:
                connection.execute(self.sql.remove_record, of_record)
                return True
            # Held to the end of the transaction, so that a deletion waits, and other writers of records do.
            if connection.execute(self.sql.hold_head, _of(session_id, incarnation)).first() is None:
                return False
            if connection.execute(self.sql.set_record, of_record | {"value": value}).rowcount == 0:
                connection.execute(self.sql.add_record, record)
            return True

        return await self._run("Writing a record", work, deadline, writes=True)

    # ------------------------------------------------------------ life

    async def close(self) -> None:
        await self.port.close()

    def before_fork(self) -> None:
        self.port.before_fork()

    def after_fork(self) -> None:
        self.port.after_fork()


def _of(session_id: str, incarnation: str) -> dict[str, Any]:
    return {"of_session_id": session_id, "of_incarnation": incarnation}


def _loaded(values: Sequence[Any]) -> CommitRow:
    """A commit that comes along with a head; one that would be too much comes without its body and its key."""
    row = CommitRow._make(values)
    return row if cast("str | None", row.body) is None else CommitRow.stored(values)


def _all_of(statement: Executable) -> Work[list[tuple[Any, ...]]]:
    """What brings all rows of a statement."""
    return lambda connection: [tuple(row) for row in connection.execute(statement)]


def _parts(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Items in parts that a statement has parameters for."""
    return (items[start : start + AT_ONCE] for start in range(0, len(items), AT_ONCE))
