"""The log over an SQL server: a driver written once, over a port that blocks or suspends.

`sql/<database>/queries.sql` has the statements; a subclass says how its engine appends, and how it locks a migration.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple, Protocol

from ...errors import CorruptDataError, StorageError
from ...storage.driver import CommitRow, Deadline, Driver, HeadRow, Listing, ListQuery, Loaded, Span
from ...storage.matching import listing, page_of
from ...storage.rows import LOADED_BYTES, Append
from ...storage.states import columns_without_state
from ...storage.stats import Stats
from . import damage, filters, log
from .batches import CommitBatches, Load, LoadBatches, Rows
from .migrations import Migrations, SchemaState, schema_missing, statements_of
from .statements import Style, in_style, load_statements, put_in

Parameters = Mapping[str, Any]

HEAD = ", ".join(HeadRow._fields)
COMMIT = ", ".join(CommitRow._fields)


class Result(NamedTuple):
    """What a statement brought: its rows, and how many rows it found or changed."""

    rows: list[tuple[Any, ...]]
    affected: int


Execute = Callable[[str, Parameters | bytes | None], Awaitable[Result]]
"""Runs a statement with its parameters; on PostgreSQL a COPY with its data."""


class Port(Protocol):
    """A way to a database: a pool of connections, or one connection of the application's."""

    suspends: bool
    borrowed: bool
    """Whether it is a connection of the application's."""
    ends_promptly: bool
    """As of a driver."""
    where: str
    """Names the database in messages."""
    stats: Stats
    """What has happened beside the work."""

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
        self.in_callers_thread = port.borrowed
        self.ends_promptly = port.ends_promptly and (replica is None or replica.ends_promptly)
        self.port = port
        self.stats = port.stats
        self.replica = replica
        self.where = where
        self.auto_migrate = auto_migrate
        self._style: Style = style
        self._metadata = metadata
        self._stateless = columns_without_state(HEAD, database)
        self._migrations = migrations
        self.sql = load_statements(database, {"head": HEAD, "commit": COMMIT, **words}, style)
        self._begin_batches()

    # ------------------------------------------------------------ several sessions at once

    def _begin_batches(self) -> None:
        """Let what several sessions want at one moment go together.

        Not on a connection of the application's, whose transactions are its own.
        """
        self._loads: LoadBatches | None = None
        self._batches: CommitBatches | None = None
        if not self.port.borrowed:
            self._loads = LoadBatches(self._load, self._load_many, suspends=self.suspends, stats=self.stats)
            self._batches = CommitBatches(self._append, self._append_many, suspends=self.suspends, stats=self.stats)

    @abstractmethod
    async def _append(self, write: Append, deadline: Deadline) -> bool:
        """One append."""

    @abstractmethod
    async def _append_many(self, writes: Sequence[Append], deadline: Deadline) -> Collection[str]:
        """One commit for each of several sessions; tells which of them have won."""

    @abstractmethod
    async def _load_many(self, loads: Sequence[Load], deadline: Deadline) -> Mapping[str, Rows]:
        """The rows of several sessions; those whose commits are too large to come with others are left out."""

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
                    await self.run_part_of_migration(execute, in_style(statement, self._style))
                except StorageError as error:
                    error.message += f" The statement was: {statement}"
                    raise
        return statements

    async def run_part_of_migration(self, execute: Execute, sql: str) -> None:
        """Run one statement of a migration."""
        await execute(sql, None)

    async def _to_do(self, execute: Execute, *, finish: bool) -> list[str]:
        """The statements that bring the database up to date, in order."""
        state = await self._state_by(execute)
        self._migrations.up_to_date(state, self.where)
        return [*await self._namespace(execute), *statements_of(self._migrations.to_do(state, finish=finish))]

    async def _namespace(self, execute: Execute) -> list[str]:
        """The statement that makes the schema that the tables shall be in, if it is not there."""
        return []

    def _reading(self, deadline: Deadline) -> Execute:
        async def execute(sql: str, parameters: Parameters | bytes | None) -> Result:
            assert not isinstance(parameters, bytes), "COPY is no reading"
            return await self.port.read("Reading the schema version", sql, parameters or {}, deadline)

        return execute

    async def _state_by(self, execute: Execute) -> SchemaState:
        if not (await execute(self.sql["schema_exists"], None)).rows[0][0]:
            return SchemaState()
        rows = (await execute(self.sql["schema_state"], None)).rows
        return SchemaState.stored(*rows[0]) if rows else SchemaState()

    # ------------------------------------------------------------ the log

    async def load(self, session_id: str, newest: int, deadline: Deadline) -> Loaded | None:
        asked = Load(session_id, newest)
        load = self._load if self._loads is None else self._loads.ask
        return self._loaded(await load(asked, deadline))

    async def _load(self, asked: Load, deadline: Deadline) -> Rows:
        """What is there of one session, to be made out by `_loaded`."""
        parameters = {**asked._asdict(), "max_bytes": LOADED_BYTES}
        sql = self.sql["load" if asked.newest else "load_head"]
        return (await self.port.read("Loading a session", sql, parameters, deadline)).rows

    def _loaded(self, rows: Rows) -> Loaded | None:
        """The head and its newest commits; raises `CorruptDataError` for what no program of ours has written."""
        # The rows of commits have no session_id, and their columns stand where the head has columns of their types.
        heads = [row for row in rows if row[0] is not None]
        if not heads:
            return None
        commits = [CommitRow(row[2], row[1], row[9], row[8], row[13], row[4]) for row in rows if row[0] is None]
        commits.sort()
        return Loaded(damage.head_of(heads[0][:-1]), commits, heads[0][-1])

    async def append(self, write: Append, deadline: Deadline) -> bool:
        append = self._append if self._batches is None else self._batches.ask
        return await append(write, deadline)

    async def now(self, deadline: Deadline) -> int:
        return (await self.port.read("Reading the clock", self.sql["now"], {}, deadline)).rows[0][0]

    async def entries(self, session_id: str, incarnation: str, span: Span, deadline: Deadline) -> list[CommitRow]:
        statement, parameters = log.span_statement(span)
        parameters |= {"session_id": session_id, "incarnation": incarnation}
        sql = self.sql[statement]
        if span.max_bytes is not None:
            parameters["max_bytes"] = span.max_bytes
            sql = await self.within(sql, parameters, span, deadline)
        sql = put_in(sql, {"direction": log.direction(span)})
        result = await self.port.read("Reading a session's log", sql, parameters, deadline)
        return page_of(map(CommitRow._make, result.rows), span)

    @abstractmethod
    async def within(self, sql: str, parameters: dict[str, Any], span: Span, deadline: Deadline) -> str:
        """A statement that reads a span, as one that ends with the bytes of a page, or with a limit that does."""

    async def list(self, query: ListQuery, deadline: Deadline) -> Listing:
        port = self._port_for(query)
        try:
            rows = [damage.head_of(row) for row in await self._page(port, "list", query, deadline)]
        except CorruptDataError:
            return await self._list_one_by_one(port, query, deadline)
        return listing(rows, query)

    async def _page(self, port: Port, statement: str, query: ListQuery, deadline: Deadline) -> list[tuple[Any, ...]]:
        page, parameters = filters.page(query, self._metadata)
        words = {
            "page": in_style(page, self._style),
            "moment": filters.time_column(query),
            "columns": HEAD if query.with_state else self._stateless,
        }
        sql = put_in(self.sql[statement], words)
        return (await port.read("Listing sessions", sql, parameters, deadline)).rows

    async def _list_one_by_one(self, port: Port, query: ListQuery, deadline: Deadline) -> Listing:
        """A page on which something is damaged: each head read by itself, so that the others are not lost with it."""

        async def read(session_id: str) -> HeadRow | None:
            sql, parameters = self.sql["head"], {"session_id": session_id}
            rows = (await port.read("Listing sessions", sql, parameters, deadline)).rows
            return damage.head_of(rows[0]) if rows else None

        return await damage.page_of(await self._page(port, "list_places", query, deadline), read, query)

    async def count(self, query: ListQuery, deadline: Deadline) -> int:
        where, parameters = filters.conditions(query, self._metadata)
        sql = put_in(self.sql["count"], {"where": in_style(where, self._style)})
        result = await self._port_for(query).read("Counting sessions", sql, parameters, deadline)
        return result.rows[0][0]

    def _port_for(self, query: ListQuery) -> Port:
        """Where to list: what asks for hidden heads is about to remove sessions, and must not miss any."""
        return self.port if self.replica is None or query.hidden is not False else self.replica

    async def discard(self, session_id: str, deadline: Deadline) -> bool:
        sql, parameters = self.sql["incarnation"], {"session_id": session_id}
        rows = (await self.port.read("Deleting a session", sql, parameters, deadline)).rows
        for (incarnation,) in rows:
            await self.delete(session_id, incarnation, deadline)
        return bool(rows)

    # ------------------------------------------------------------ records

    async def get_record(self, session_id: str, incarnation: str, key: str, deadline: Deadline) -> bytes | None:
        parameters = {"session_id": session_id, "incarnation": incarnation, "key": key}
        rows = (await self.port.read("Reading a record", self.sql["get_record"], parameters, deadline)).rows
        return bytes(rows[0][0]) if rows else None

    async def record_keys(
        self, session_id: str, incarnation: str, prefix: str, deadline: Deadline, *, after: str = "", limit: int = 500
    ) -> list[str]:
        parameters = {
            "session_id": session_id,
            "incarnation": incarnation,
            "after": after,
            "prefix": prefix,
            "last": log.last_with(prefix),
            "limit": limit,
        }
        sql = self.sql["record_keys"]
        return [row[0] for row in (await self.port.read("Listing records", sql, parameters, deadline)).rows]

    # ------------------------------------------------------------ life

    async def close(self) -> None:
        await self.port.close()
        if self.replica is not None:
            await self.replica.close()

    def after_fork(self) -> None:
        self.port.after_fork()
        self._begin_batches()
        if self.replica is not None:
            self.replica.after_fork()
