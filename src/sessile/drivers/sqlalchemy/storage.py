"""`SqlAlchemyStorage` and the driver behind it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self, TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy import URL, Connection, Dialect, Engine
from sqlalchemy.exc import IntegrityError, SQLAlchemyError, StatementError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from ...errors import StorageError, StorageUnavailableError, UnsupportedError
from ...storage.driver import (
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
from ...storage.matching import matches, place_of
from ...storage.storage import Storage
from ..sql import log
from ..sql.migrations import Part, schema_missing
from ..sql.names import check_names
from . import opening
from .errors import ALREADY_THERE, Attempt, is_lost, late, translate
from .migrating import Migrator
from .ports import Port, Work, check_transactions
from .statements import Statements, statements_for

R = TypeVar("R")

LOST_ATTEMPTS = 3
"""How often an operation is tried on connections that turn out to be lost. Idle ones all are, after a restart."""

SCAN = 200
"""How many heads are read at once where metadata is compared."""

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
        engine_options: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        check_names(schema, prefix)
        opened = opening.open_database(database, engine_options, options.get("timeout", 30.0))

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
    capabilities = Capabilities(commits_per_append=500, max_record_bytes=1024 * 1024)

    def __init__(self, port: Port, *, schema: str | None, prefix: str, auto_migrate: bool) -> None:
        self.port = port
        self.suspends = port.suspends
        self.sql = statements_for(schema, prefix, port.dialect.name)
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
                raise _spoiled(failed) if self.port.borrowed else failed from error
            except (SQLAlchemyError, OSError) as error:
                failed = translate(error, what, self.port.where, self.port.dialect.name, attempt)
                if self.port.borrowed:
                    raise _spoiled(failed) from error
                lost = isinstance(error, SQLAlchemyError) and is_lost(error)
                again = failed.retry and failed.written == "no" and attempt.phase != "connecting"
                if not again or (lost and attempts == LOST_ATTEMPTS) or deadline.remaining() <= 0:
                    raise failed from error
                attempts += 1
            await self.pause(random.uniform(0, min(0.1, 0.001 * 2**attempts)))

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
            loaded = self._load(connection, session_id, newest)
            if loaded is not None and len(loaded.commits) < min(newest, loaded.head.revision):
                # Deleted between head and log, which one statement sees where it locks rows as it comes to them.
                return self._load(connection, session_id, newest)
            return loaded

        return await self._run("Loading a session", work, deadline)

    def _load(self, connection: Connection, session_id: str, newest: int) -> Loaded | None:
        statement = self.sql.load if newest else self.sql.load_head
        rows = connection.execute(statement, {"of_session_id": session_id, "newest": newest}).all()
        if not rows:
            return None
        # Positions, because head and commits have columns of the same name: the head's, the clock, the commit's.
        commits = sorted(CommitRow(*row[WIDTH + 1 :]) for row in rows) if newest and rows[0][WIDTH + 1] else []
        row = next((row for row in rows if row[WIDTH - 1] is not None), None)
        if row is None:  # the newest commit, whose row has the long columns, is not there
            return self._load(connection, session_id, 0)
        now = row[WIDTH]
        return Loaded(_head(row[:WIDTH]), commits, time.time_ns() // 1000 if now is None else now)

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
            except IntegrityError:
                return False
        of_head = {
            "of_session_id": write.session_id,
            "of_incarnation": write.incarnation,
            "of_revision": write.expected,
        }
        return connection.execute(self.sql.advance, values | of_head).rowcount == 1

    def _check_view(self, connection: Connection, write: Append) -> None:
        """See whether the application's transaction sees the database as it was: then it would lose for ever."""
        loaded = self._load(connection, write.session_id, 0)
        seen = 0 if loaded is None else loaded.head.revision
        if seen == write.expected and (loaded is None or loaded.head.incarnation == write.incarnation):
            raise StorageUnavailableError(
                f"Session {write.session_id!r} was changed by somebody else after the transaction had begun.",
                hint="Roll the transaction back, and repeat it whole.",
                retry=False,
            )

    async def entries(self, session_id: str, incarnation: str, span: Span, deadline: Deadline) -> list[CommitRow]:
        name, values = log.span_statement(span)
        statement = self.sql.entries[name, span.newest_first]
        values |= _of(session_id, incarnation)

        def work(connection: Connection) -> list[CommitRow]:
            return [CommitRow(*row) for row in connection.execute(statement, values)]

        return await self._run("Reading a session's log", work, deadline)

    async def delete(self, session_id: str, incarnation: str, deadline: Deadline) -> None:
        def work(connection: Connection) -> None:
            for statement in self.sql.delete:
                connection.execute(statement, _of(session_id, incarnation))

        await self._run("Deleting a session", work, deadline, writes=True)

    # ------------------------------------------------------------ lists

    async def list(self, query: ListQuery, deadline: Deadline) -> list[HeadRow]:
        by_metadata = bool(query.metadata or query.metadata_keys)
        size = max(query.limit, SCAN) if by_metadata else query.limit

        def work(connection: Connection) -> list[HeadRow]:
            found: list[HeadRow] = []
            after = query.after
            while True:
                page = [_head(row) for row in connection.execute(self.sql.page(query, after, size))]
                found += [head for head in page if matches(head, query)]
                if len(page) < size or len(found) >= query.limit:
                    return found[: query.limit]
                deadline.check("Listing sessions")
                after = place_of(page[-1], query)

        return await self._run("Listing sessions", work, deadline)

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


def _head(row: Sequence[Any]) -> HeadRow:
    head = HeadRow(*row)
    return head._replace(hidden=bool(head.hidden))


def _of(session_id: str, incarnation: str) -> dict[str, Any]:
    return {"of_session_id": session_id, "of_incarnation": incarnation}


def _spoiled(failed: StorageError) -> StorageError:
    """An error in a transaction of the application's, which no attempt of ours can repair."""
    failed.retry = False
    failed.hint = f"Roll the transaction back, and repeat it whole. {failed.hint}"
    return failed
