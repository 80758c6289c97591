"""The log over an SQL server: a driver written once, over a port that blocks or suspends.

`sql/<database>/queries.sql` has the statements; a subclass says how its engine appends, and how it locks a migration.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple, Protocol

from ...errors import StorageError
from ...storage.driver import CommitRow, Deadline, Driver, HeadRow, ListQuery, Loaded, Span
from . import filters, log
from .migrations import Migrations, SchemaState, schema_missing, statements_of
from .statements import Style, in_style, load_statements, put_in

Parameters = Mapping[str, Any]

HEAD = ", ".join(HeadRow._fields)
COMMIT = ", ".join(CommitRow._fields)


class Result(NamedTuple):
    """What a statement brought: its rows, and how many rows it found or changed."""

    rows: list[tuple[Any, ...]]
    affected: int


Execute = Callable[[str, Parameters | None], Awaitable[Result]]


class Port(Protocol):
    """A way to a database: a pool of connections, or one connection of the application's."""

    suspends: bool
    where: str
    """Names the database in messages."""

    async def read(self, what: str, sql: str, parameters: Parameters, deadline: Deadline) -> Result:
        """Run a statement that changes nothing; run again if the connection turns out to be lost."""
        ...

    async def write(self, what: str, sql: str, parameters: Parameters, deadline: Deadline) -> Result:
        """Run a statement as a transaction of its own; a lost answer is an error with `written="unknown"`."""
        ...

    def transaction(self, what: str, deadline: Deadline) -> AbstractAsyncContextManager[Execute]:
        """A transaction of several statements, rolled back if its body raises."""
        ...

    async def close(self) -> None:
        """Close what the port opened itself. Idempotent."""
        ...

    def after_fork(self) -> None:
        """In a forked child: forget the parent's connections without closing them."""
        ...


class SqlDriver(Driver):
    """A driver over an SQL server.

    Args:
        port: the way to the database; `replica`: the way for lists, which may lag then.
        database: the folder with its statements and migrations.
        words: what `{words}` in them stand for, the names of the tables among them.
        metadata: how it compares metadata.
        style: how its client wants parameters.
        where: names the database in messages.
        auto_migrate: whether `setup` may create and migrate tables.
    """

    def __init__(
        self,
        port: Port,
        *,
        database: str,
        words: Mapping[str, str],
        migrations: Migrations,
        metadata: filters.MetadataFilters,
        style: Style,
        where: str,
        replica: Port | None = None,
        auto_migrate: bool = True,
    ) -> None:
        self.suspends = port.suspends
        self.port = port
        self.replica = replica
        self.where = where
        self.auto_migrate = auto_migrate
        self._style: Style = style
        self._metadata = metadata
        self._migrations = migrations
        self.sql = load_statements(database, {"head": HEAD, "commit": COMMIT, **words}, style)

    # ------------------------------------------------------------ schema

    @abstractmethod
    def migrating(self, deadline: Deadline) -> AbstractAsyncContextManager[Execute]:
        """Statements on one connection, while no other process migrates; a transaction where the engine can."""

    async def setup(self, deadline: Deadline) -> None:
        reading = self._reading(deadline)
        if self._migrations.up_to_date(await self._state_by(reading), self.where):
            return
        if not self.auto_migrate:
            missing = await self._to_do(reading, finish=False)
            if not missing:  # another process has just migrated it
                return
            raise schema_missing(self._migrations.newest, missing[0], self.where)
        await self.migrate(deadline)

    async def migrate(self, deadline: Deadline, *, finish: bool = False, dry_run: bool = False) -> list[str]:
        if dry_run:
            return await self._to_do(self._reading(deadline), finish=finish)
        async with self.migrating(deadline) as execute:
            statements = await self._to_do(execute, finish=finish)
            for statement in statements:
                try:
                    await execute(in_style(statement, self._style), None)
                except StorageError as error:
                    error.message += f" The statement was: {statement}"
                    raise
        return statements

    async def _to_do(self, execute: Execute, *, finish: bool) -> list[str]:
        """The statements that bring the database up to date, in order."""
        state = await self._state_by(execute)
        self._migrations.up_to_date(state, self.where)
        return [*await self._namespace(execute), *statements_of(self._migrations.to_do(state, finish=finish))]

    async def _namespace(self, execute: Execute) -> list[str]:
        """The statement that makes the schema that the tables shall be in, if it is not there."""
        return []

    def _reading(self, deadline: Deadline) -> Execute:
        async def execute(sql: str, parameters: Parameters | None) -> Result:
            return await self.port.read("Reading the schema version", sql, parameters or {}, deadline)

        return execute

    async def _state_by(self, execute: Execute) -> SchemaState:
        if not (await execute(self.sql["schema_exists"], None)).rows[0][0]:
            return SchemaState()
        rows = (await execute(self.sql["schema_state"], None)).rows
        return SchemaState(*rows[0]) if rows else SchemaState()

    # ------------------------------------------------------------ the log

    async def load(self, session_id: str, newest: int, deadline: Deadline) -> Loaded | None:
        parameters = {"session_id": session_id, "newest": newest}
        sql = self.sql["load" if newest else "load_head"]
        rows = (await self.port.read("Loading a session", sql, parameters, deadline)).rows
        # The rows of commits have no session_id, and their columns stand where the head has columns of their types.
        heads = [row for row in rows if row[0] is not None]
        if not heads:
            return None
        commits = [CommitRow(row[2], row[1], row[9], row[8], row[13]) for row in rows if row[0] is None]
        commits.sort()
        return Loaded(_head(heads[0][:-1]), commits, heads[0][-1])

    async def entries(self, session_id: str, incarnation: str, span: Span, deadline: Deadline) -> list[CommitRow]:
        statement, parameters = log.span_statement(span)
        sql = put_in(self.sql[statement], {"direction": log.direction(span)})
        parameters |= {"session_id": session_id, "incarnation": incarnation}
        result = await self.port.read("Reading a session's log", sql, parameters, deadline)
        return [CommitRow._make(row) for row in result.rows]

    async def list(self, query: ListQuery, deadline: Deadline) -> list[HeadRow]:
        page, parameters = filters.page(query, self._metadata)
        sql = put_in(self.sql["list"], {"page": in_style(page, self._style)})
        result = await self._port_for(query).read("Listing sessions", sql, parameters, deadline)
        return [_head(row) for row in result.rows]

    async def count(self, query: ListQuery, deadline: Deadline) -> int:
        where, parameters = filters.conditions(query, self._metadata)
        sql = put_in(self.sql["count"], {"where": in_style(where, self._style)})
        result = await self._port_for(query).read("Counting sessions", sql, parameters, deadline)
        return result.rows[0][0]

    def _port_for(self, query: ListQuery) -> Port:
        """Where to list: what asks for hidden heads is about to remove sessions, and must not miss any."""
        return self.port if self.replica is None or query.hidden is not False else self.replica

    # ------------------------------------------------------------ records

    async def get_record(self, session_id: str, incarnation: str, key: str, deadline: Deadline) -> bytes | None:
        parameters = {"session_id": session_id, "incarnation": incarnation, "key": key}
        rows = (await self.port.read("Reading a record", self.sql["get_record"], parameters, deadline)).rows
        return bytes(rows[0][0]) if rows else None

    # ------------------------------------------------------------ life

    async def close(self) -> None:
        await self.port.close()
        if self.replica is not None:
            await self.replica.close()

    def after_fork(self) -> None:
        self.port.after_fork()
        if self.replica is not None:
            self.replica.after_fork()


def _head(row: tuple[Any, ...]) -> HeadRow:
    head = HeadRow._make(row)
    return head._replace(hidden=bool(head.hidden))
