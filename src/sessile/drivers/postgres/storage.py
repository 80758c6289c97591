"""`PostgresStorage` and the driver behind it."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Collection, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar, Self, TypeVar, cast
from zlib import crc32

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ...errors import InvalidInputError
from ...records import MICROSECOND
from ...storage import quick_json
from ...storage.driver import Beside, Capabilities, Deadline
from ...storage.faces import background
from ...storage.rows import FEW, Append, CommitRow, HeadRow, Json, RecordName, Span
from ...storage.stats import Stats
from ...storage.storage import Storage
from ...storage.urls import split_server_url, take_settings
from ..sql import durability, filters, names
from ..sql.base import Execute, Port, SqlDriver
from ..sql.batches import FEW_COMMITS, LOADED_CHARS, Load, Rows
from ..sql.beside import SqlBeside
from ..sql.migrations import Migrations, read_texts
from ..sql.pool import MAX_AGE, pool_settings
from ..sql.statements import put_in
from .direct import Statement
from .listener import Listener
from .ports import BorrowedPort, PostgresPort, Target, TaskPort, ThreadPort

R = TypeVar("R")

POLL_SECONDS = 0.5
"""How long a follower waits between looks where announcements do not come through."""

FOLLOW_SECONDS = 60.0
"""How long commits of a session are announced after somebody has begun to wait for one."""

_QUOTED = re.compile(r'(?<!parameter: )(?<!option )"(?!=")[^"]*"')
"""What libpq repeats of an address that it cannot read, but for the names of parameters: it may be a password."""

_OF_COMMIT = ("seq", "commit_id", "run", "time", "commit_body", "key")
"""What the columns of a commit are called beside those of a head."""

_NOT_JSONB = re.compile(r"\\u(0000|[dD][89a-fA-F])")


class PostgresStorage(Storage):
    """Sessions in a PostgreSQL database, 12 or later.

    Args:
        database: a URL or connection string of libpq's; or a connection of psycopg's (`Connection` for synchronous
            callers, `AsyncConnection` for asynchronous ones): then everything happens inside the transaction that it
            is in, is committed or rolled back with it, and the tables must be there.
        schema: where the tables are; it is made if it is not there. None: the first one of the search path.
        prefix: what the tables' names begin with.
        pool_size: the most connections, for synchronous callers and for each event loop.
        max_connection_age: seconds after which a connection is replaced when nobody uses it, a tenth more or less.
        replica_url: where lists are read, which may then lag.
        listen_url: leads past a pooler in transaction mode, for followers, who poll otherwise.
        prepare: whether the server prepares statements that are run often. None: unless a pooler stands in between;
            PgBouncer takes them from version 1.21 on.
        auto_migrate: False: never create or migrate tables except by `migrate`.
        options: the keyword arguments of `Storage`.
    """

    def __init__(
        self,
        database: str | psycopg.Connection[Any] | psycopg.AsyncConnection[Any],
        *,
        schema: str | None = None,
        prefix: str = "sessile_",
        pool_size: int = 10,
        max_connection_age: float = MAX_AGE,
        replica_url: str | None = None,
        listen_url: str | None = None,
        prepare: bool | None = None,
        auto_migrate: bool = True,
        **options: Any,
    ) -> None:
        settings = pool_settings(pool_size, max_connection_age)
        words = _words(schema, prefix)
        if isinstance(database, (psycopg.Connection, psycopg.AsyncConnection)):
            port = BorrowedPort(database)
            driver = PostgresDriver(port, words, schema=schema, auto_migrate=False)
            if port.suspends:
                super().__init__(None, async_driver=lambda: driver, **options)
            else:
                super().__init__(driver, **options)
            return
        target = Target(_checked(database), prepare=prepare)
        replica = None if replica_url is None else Target(_checked(replica_url), prepare=prepare)
        listen = None if listen_url is None else _checked(listen_url)

        def make(kind: type[ThreadPort] | type[TaskPort]) -> PostgresDriver:
            stats = Stats()
            return PostgresDriver(
                kind(target, settings, stats),
                words,
                schema=schema,
                auto_migrate=auto_migrate,
                replica=None if replica is None else kind(replica, settings, stats),
                listen=listen,
            )

        super().__init__(make(ThreadPort), async_driver=lambda: make(TaskPort), **options)

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Self:
        """`postgresql://user@host/database`, with libpq's parameters.

        And with these of ours: `schema`, `prefix`, `pool_size`, `max_connection_age`.
        """
        ours, address = take_settings(url, ("schema", "prefix", "pool_size", "max_connection_age"))
        return cls(address, **{**ours, **options})


class PostgresDriver(SqlDriver):
    """The driver behind `PostgresStorage`. A commit is one statement, so head and log change together."""

    name: ClassVar[str] = "postgres"

    def __init__(
        self,
        port: Port,
        words: Mapping[str, str],
        *,
        schema: str | None,
        auto_migrate: bool,
        replica: Port | None = None,
        listen: str | None = None,
    ) -> None:
        target = port.target if isinstance(port, (ThreadPort, TaskPort)) else None
        super().__init__(
            port,
            database="postgres",
            words=words,
            migrations=Migrations(read_texts("postgres"), words, table=words["schema_state"]),
            metadata=_Metadata(),
            style="pyformat",
            where=port.where,
            replica=replica,
            auto_migrate=auto_migrate,
        )
        self.capabilities = Capabilities(
            exact_order=replica is None,
            commits_per_append=500,
            max_record_bytes=16 * 1024 * 1024,
            push=target is not None,
            rewrites=True,
            bounded_pages=True,
            checks_body=not port.borrowed,  # what is acknowledged there may be rolled back
        )
        self._commits = words["commits"].replace("'", "''")
        self._schema = schema
        self._words = words
        self._target = target
        self._listen = listen
        self._channel = f"sessile_{crc32(words['sessions'].encode()):08x}"
        self._listener: Listener | None = None
        self._texts: dict[tuple[str, int], str] = {}
        self._direct = port.direct if isinstance(port, PostgresPort) else {}
        for name in ("load_head", "load_few", "load", "load_many", "advance_many"):
            self._direct[self.sql[name]] = Statement(self.sql[name])

    @asynccontextmanager
    async def migrating(self, deadline: Deadline) -> AsyncGenerator[Execute]:
        """One transaction, in which PostgreSQL also creates and alters tables, under a lock that ends with it."""
        async with self.port.transaction("Migrating the database", deadline) as execute:
            await execute(self.sql["lock_migrations"], None)
            yield execute

    async def _namespace(self, execute: Execute) -> list[str]:
        there = self._schema is None or (await execute(self.sql["namespace_exists"], None)).rows[0][0]
        return [] if there else [f'CREATE SCHEMA "{self._schema}"']

    def beside(self) -> Beside | None:
        if isinstance(self.port, BorrowedPort):  # whose transactions are the application's
            return None
        return SqlBeside(self.port, "postgres", self._words, self.where, may_create=self.auto_migrate)

    async def _load(self, asked: Load, deadline: Deadline) -> Rows:
        if not 0 < asked.newest <= FEW:
            return await super()._load(asked, deadline)
        return (await self.port.read("Loading a session", self.sql["load_few"], asked._asdict(), deadline)).rows

    async def _load_many(self, loads: Sequence[Load], deadline: Deadline) -> dict[str, Rows]:
        """The rows of several sessions; those whose commits are too large to come with others are left out."""
        parameters = {
            "session_ids": _text_array([load.session_id for load in loads]),
            "newest": loads[0].newest,
            "max_bytes": LOADED_CHARS,
        }
        rows = (await self.port.read("Loading sessions", self.sql["load_many"], parameters, deadline)).rows
        found: dict[str, Rows] = {load.session_id: [] for load in loads}
        revisions: dict[str, int] = {}
        for row in rows:
            if row[0] is not None:
                revisions[row[0]] = row[2]
            found[row[3] if row[0] is None else row[0]].append(row)
        for load in loads:  # the log is dense, so what is short was cut off
            if len(found[load.session_id]) - 1 < min(load.newest, revisions.get(load.session_id, -1)):
                del found[load.session_id]
        return found

    async def _append(self, write: Append, deadline: Deadline) -> bool:
        """One append, as one statement."""
        sql = self._append_text("create" if write.expected == 0 else "advance", len(write.commits))
        parameters = write.head._asdict()
        parameters |= {
            "expected": write.expected,
            "was_body": write.was_body,
            "was_updated_at": write.was_updated_at,
            "filterable": _filterable(write.head),
            "channel": self._channel,
        }
        for number, row in enumerate(write.commits):
            parameters |= {f"{column}_{number}": value for column, value in zip(row._fields, row, strict=True)}
        result = await self.port.write("Appending to a session", sql, parameters, deadline)
        return bool(result.rows)

    def _append_text(self, name: str, commits: int) -> str:
        """The statement for so many commits: the same text object each time, which psycopg has made out already."""
        text = self._texts.get((name, commits))
        if text is None:
            text = put_in(self.sql[name], {"rows": _rows(commits)})
            if commits <= FEW_COMMITS:
                self._texts[name, commits] = text
                self._direct[text] = Statement(text)
        return text

    async def _append_many(self, writes: Sequence[Append], deadline: Deadline) -> Collection[str]:
        """One commit for each of several sessions, as one statement; tells which of them have won.

        Its text is the same for any number, so that it is prepared once: the rows are a JSON array.
        """
        rows = [
            {
                **write.head._asdict(),
                **dict(zip(_OF_COMMIT, write.commits[0], strict=True)),
                "expected": write.expected,
                "was_body": write.was_body,
                "was_updated_at": write.was_updated_at,
                "filterable": _filterable(write.head),
            }
            for write in writes
        ]
        parameters = {"rows": quick_json.dumps(rows) or json.dumps(rows), "channel": self._channel}
        result = await self.port.write("Appending to sessions", self.sql["advance_many"], parameters, deadline)
        return {row[0] for row in result.rows}

    async def within(self, sql: str, parameters: dict[str, Any], span: Span, deadline: Deadline) -> str:
        """One statement, which sums up what the bodies have."""
        return put_in(self.sql["within"], {"page": sql})

    async def delete(self, session_id: str, incarnation: str, deadline: Deadline) -> None:
        key = {"session_id": session_id, "incarnation": incarnation}
        await self.port.write("Deleting a session", self.sql["delete"], key, deadline)

    async def put_record(
        self, session_id: str, incarnation: str, key: str, value: bytes | None, deadline: Deadline
    ) -> bool:
        parameters = {"session_id": session_id, "incarnation": incarnation, "key": key, "value": value}
        sql = self.sql["remove_record" if value is None else "put_record"]
        result = await self.port.write("Writing a record", sql, parameters, deadline)
        return value is None or result.affected == 1

    async def get_records(self, names: Sequence[RecordName], deadline: Deadline) -> list[bytes | None]:
        found: list[bytes | None] = [None] * len(names)
        parameters = _columns(names, ("session_ids", "incarnations", "keys"))
        result = await self.port.read("Reading records", self.sql["get_records"], parameters, deadline)
        for number, value in result.rows:
            found[number - 1] = bytes(value)
        return found

    async def newest(
        self, sessions: Sequence[tuple[str, str]], count: int, deadline: Deadline
    ) -> list[list[CommitRow]]:
        found: list[list[CommitRow]] = [[] for _ in sessions]
        parameters = {**_columns(sessions, ("session_ids", "incarnations")), "count": count}
        result = await self.port.read("Reading the newest commits", self.sql["newest"], parameters, deadline)
        for row in result.rows:
            number: int = row[0]
            found[number - 1].append(CommitRow._make(row[1:]))
        return [sorted(rows) for rows in found]

    async def rewrite(
        self, session_id: str, incarnation: str, commits: Sequence[CommitRow], deadline: Deadline
    ) -> bool:
        names = ("seqs", "commit_ids", "runs", "times", "bodies", "keys")
        parameters = {**_columns(commits, names), "session_id": session_id, "incarnation": incarnation}
        result = await self.port.write("Rewriting commits", self.sql["rewrite"], parameters, deadline)
        return result.affected == len(commits)

    async def settings_warnings(self, deadline: Deadline) -> Sequence[str]:
        sql = put_in(durability.POSTGRES, {"table": self._commits})
        found = await self.port.read("Reading settings", sql, {}, deadline)
        return durability.of_postgres(dict(found.rows))

    # ------------------------------------------------------------ following

    async def wait(self, session_id: str, incarnation: str, revision: int, deadline: Deadline) -> None:
        listener = self._listening()
        event = None if listener is None else await self._on_loop(listener.register(incarnation))
        if listener is None or event is None:
            await self.pause(min(POLL_SECONDS, deadline.remaining()))
            return
        parameters = {
            "session_id": session_id,
            "incarnation": incarnation,
            "microseconds": int(FOLLOW_SECONDS * MICROSECOND),
        }
        seconds = 0.0
        try:
            # Only after this are commits announced; what was committed before is seen here.
            result = await self.port.write("Following a session", self.sql["follow"], parameters, deadline)
            if result.rows and result.rows[0][0] <= revision:
                seconds = deadline.remaining()
        finally:
            await self._on_loop(listener.wait(incarnation, event, seconds))

    def _listening(self) -> Listener | None:
        """Who hears announcements; None if they do not come through."""
        assert self._target is not None, "a borrowed connection does not declare that it pushes"
        if self._target.pooled and self._listen is None:
            return None
        if self._listener is None:
            self._listener = Listener(self._listen or self._target.conninfo, self._channel)
        return self._listener

    async def _on_loop(self, coroutine: Coroutine[Any, Any, R]) -> R:
        """Await on the driver's own event loop; a blocking driver uses the lasting one in the background."""
        return await coroutine if self.suspends else background.run(coroutine)

    async def close(self) -> None:
        await super().close()
        listener, self._listener = self._listener, None
        if listener is not None:
            await self._on_loop(listener.close())

    def after_fork(self) -> None:
        super().after_fork()
        self._listener = None


class _Metadata(filters.MetadataFilters):
    """Filters on the `jsonb` copy, which its index serves."""

    def has_key(self, key: str, number: int) -> tuple[str, filters.Parameters]:
        return f"filterable ? :has_key_{number}", {f"has_key_{number}": key}

    def has_value(self, key: str, value: Json, number: int) -> tuple[str, filters.Parameters]:
        return f"filterable @> :metadata_{number}::jsonb", {f"metadata_{number}": json.dumps({key: value})}


def _rows(count: int) -> str:
    """The rows of a `VALUES` of so many commits. Arrays would take psycopg half a millisecond to write per commit."""
    return ", ".join(
        f"(%(seq_{n})s::bigint, %(commit_id_{n})s::text, %(run_{n})s::bigint, %(time_{n})s::bigint, %(body_{n})s::text,"
        f" %(key_{n})s::text)"
        for n in range(count)
    )


def _text_array(texts: Sequence[str]) -> str:
    """An array as PostgreSQL writes it: psycopg takes several times as long."""
    quoted = (text.replace("\\", "\\\\").replace('"', '\\"') for text in texts)
    return "{" + ",".join(f'"{text}"' for text in quoted) + "}"


def _columns(rows: Sequence[tuple[Any, ...]], names: Sequence[str]) -> dict[str, list[Any]]:
    """The columns of some rows as arrays: one statement, whatever their number."""
    return {name: [row[place] for row in rows] for place, name in enumerate(names)}


def _filterable(head: HeadRow) -> str | None:
    """The metadata as `jsonb` takes it: without NUL and lone surrogates, which no filter can name."""
    if head.metadata == "{}":
        return None
    if _NOT_JSONB.search(head.metadata) is None:
        return head.metadata
    whole: dict[str, Any] = json.loads(head.metadata)
    return json.dumps({key: value if _fits(value) else {} for key, value in whole.items() if _fits(key)})


def _fits(value: Any) -> bool:
    """Whether `jsonb` can hold a value."""
    if isinstance(value, str):
        return not any(char == "\0" or "\ud800" <= char <= "\udfff" for char in value)
    if isinstance(value, dict):
        return all(_fits(key) and _fits(item) for key, item in cast("dict[str, Any]", value).items())
    return not isinstance(value, list) or all(_fits(item) for item in cast("list[Any]", value))


def _words(schema: Any, prefix: Any) -> dict[str, str]:
    """What `{words}` in the SQL stand for."""
    names.check_names(schema, prefix)
    where = "" if schema is None else f'"{schema}".'
    parts = {"schema_state": "schema", "sessions": "sessions", "commits": "commits", "records": "records"}
    tables = {word: f'{where}"{prefix}{name}"' for word, name in parts.items()}
    return {
        **tables,
        "prefix": prefix,
        "namespace_dot": where,
        "namespace": schema or "",
        "namespaces": "ANY (current_schemas(false))" if schema is None else f"'{schema}'",
        "lock": str(crc32(tables["schema_state"].encode())),
        "now": "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint",
    }


def _checked(conninfo: Any) -> str:
    """A connection string; with several hosts it looks for the one that can be written to."""
    if not isinstance(conninfo, str):
        raise InvalidInputError(
            f"A database is a URL, a connection string or a connection, not {type(conninfo).__name__}."
        )
    if "://" in conninfo:
        split_server_url(conninfo)
    try:
        fields = conninfo_to_dict(conninfo)
    except psycopg.Error as error:
        said = _QUOTED.sub('"…"', " ".join(str(error).split()))
        raise InvalidInputError(f"This is not an address of PostgreSQL's: {said}.") from None
    if "," in str(fields.get("host", "")) and "target_session_attrs" not in fields:
        return make_conninfo(conninfo, target_session_attrs="read-write")
    return conninfo


__all__ = ["PostgresDriver", "PostgresStorage"]
