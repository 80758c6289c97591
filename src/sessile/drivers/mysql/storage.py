"""`MySQLStorage` and the driver behind it."""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, ClassVar, Self
from urllib.parse import parse_qsl, unquote

import aiomysql  # pyright: ignore[reportMissingTypeStubs]
import pymysql

from ...errors import InvalidInputError, StorageError, StorageUnavailableError
from ...storage.driver import Beside, Capabilities, Deadline
from ...storage.encoding import decode
from ...storage.matching import filter_token, with_bodies
from ...storage.rows import FEW, LOADED_BYTES, Append, CommitRow, HeadRow, Json, Loaded, RecordName, Span
from ...storage.stats import Stats
from ...storage.storage import Storage
from ...storage.urls import split_server_url, take_settings
from ..sql import damage, durability, filters, log
from ..sql.base import COMMIT, Execute, Parameters, SqlDriver
from ..sql.batches import Load, Rows
from ..sql.beside import SqlBeside
from ..sql.migrations import Migrations, SchemaState, read_texts
from ..sql.pool import MAX_AGE, pool_settings
from ..sql.statements import put_in
from .borrowed import BorrowedPort
from .errors import DONE, DuplicateError, number_of
from .ports import Target, TaskPort, ThreadPort
from .statements import SEPARATOR, numbered, parameters_of
from .together import append_many, filterable, load_many, loaded_many, winners

SMALL = HeadRow._fields[:-1]
"""The columns of a head that `load` gets as one JSON array: all but the body, which is the last one."""

FIXED = ("seq", "commit_id", "run", "time", "key")
"""Those of a commit."""

KEY = ("session_id", "incarnation")
REWRITTEN = ("seq", "body", "key")

MAX_RECORD_BYTES = 1024 * 1024
"""The largest record where the server takes statements of that size."""

_IDENTIFIER = re.compile("[A-Za-z_][A-Za-z0-9_]{0,31}")

_OURS = ("prefix", "pool_size", "max_connection_age")
_THEIRS = ("unix_socket", "ssl", "ssl_ca")


class MySQLStorage(Storage):
    """Sessions in a MySQL (8.0 or later) or MariaDB (10.6 or later) database.

    Args:
        database: a URL, as for `from_url` but without settings that are arguments here; or a connection of PyMySQL's
            (for synchronous callers) or aiomysql's (for asynchronous ones), with the character set utf8mb4: then
            everything happens inside the transaction that it is in, is committed or rolled back with it, and the tables
            must be there.
        prefix: what the tables' names begin with.
        pool_size: the most connections, for synchronous callers and for each event loop.
        max_connection_age: seconds after which a connection is replaced when nobody uses it, a tenth more or less.
        auto_migrate: False: never create or migrate tables except by `migrate`.
        options: the keyword arguments of `Storage`.
    """

    def __init__(
        self,
        database: str | pymysql.Connection[Any] | aiomysql.Connection,
        *,
        prefix: str = "sessile_",
        pool_size: int = 10,
        max_connection_age: float = MAX_AGE,
        auto_migrate: bool = True,
        **options: Any,
    ) -> None:
        settings = pool_settings(pool_size, max_connection_age)
        words = _words(prefix)
        if isinstance(database, (pymysql.Connection, aiomysql.Connection)):
            port = BorrowedPort(database, "the application's MySQL connection")
            driver = MySQLDriver(port, words, auto_migrate=False)
            if port.suspends:
                super().__init__(None, async_driver=lambda: driver, **options)
            else:
                super().__init__(driver, **options)
            return
        target = _target(database)
        super().__init__(
            MySQLDriver(ThreadPort(target, settings, Stats()), words, auto_migrate=auto_migrate),
            async_driver=lambda: MySQLDriver(TaskPort(target, settings, Stats()), words, auto_migrate=auto_migrate),
            **options,
        )

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Self:
        """`mysql://user:password@host:3306/database` or `mariadb://…`.

        With `?prefix=`, `?pool_size=`, `?max_connection_age=`, `?unix_socket=/path`, `?ssl=true` (the server's
        certificate is checked against the system's authorities) or `?ssl_ca=/path` (against these).
        """
        ours, address = take_settings(url, _OURS)
        return cls(address, **{**ours, **options})


class MySQLDriver(SqlDriver):
    """The driver behind `MySQLStorage`. A commit is one transaction, sent in one round trip."""

    name: ClassVar[str] = "mysql"

    def __init__(
        self, port: ThreadPort | TaskPort | BorrowedPort, words: dict[str, str], *, auto_migrate: bool
    ) -> None:
        super().__init__(
            port,
            database="mysql",
            words=words,
            migrations=Migrations(read_texts("mysql"), words, table=words["schema_state"]),
            metadata=_Metadata(),
            style="pyformat",
            where=port.where,
            auto_migrate=auto_migrate,
        )
        self.capabilities = Capabilities(
            commits_per_append=200,
            max_record_bytes=MAX_RECORD_BYTES,
            rewrites=True,
            checks_body=not port.borrowed,  # what is acknowledged there may be rolled back
            bounded_pages=True,
        )
        self._words = words
        self._port = port

    def beside(self) -> Beside | None:
        if isinstance(self.port, BorrowedPort):  # whose transactions are the application's
            return None
        return SqlBeside(self.port, "mysql", self._words, self.where, may_create=self.auto_migrate)

    async def within(self, sql: str, parameters: dict[str, Any], span: Span, deadline: Deadline) -> str:
        """The statement itself, behind a look at what the bodies have: to sum that up, it would write them to disk."""
        statement = put_in(sql, {"direction": log.direction(span)}).replace(
            self._words["commit"], "seq, LENGTH(body)", 1
        )

        async def sizes(here: dict[str, Any]) -> list[tuple[Any, ...]]:
            return (await self.port.read("Reading a session's log", statement, here, deadline)).rows

        parameters["limit"] = await log.count_within(sizes, parameters, span)
        return sql

    async def settings_warnings(self, deadline: Deadline) -> Sequence[str]:
        found = await self.port.read("Reading settings", durability.MYSQL, {}, deadline)
        return durability.of_mysql(dict(found.rows))

    async def setup(self, deadline: Deadline) -> None:
        await super().setup(deadline)
        assert self._port.max_packet is not None, "known since the schema version was read"
        # A record is written as hexadecimal digits, next to ids and words.
        largest = max(256, (self._port.max_packet - 4096) // 2)
        self.capabilities = replace(self.capabilities, max_record_bytes=min(MAX_RECORD_BYTES, largest))

    async def _state_by(self, execute: Execute) -> SchemaState:
        version = (await execute("SELECT VERSION()", None)).rows[0][0]
        self._words["collation"] = "utf8mb4_nopad_bin" if "MariaDB" in version else "utf8mb4_0900_bin"
        return await super()._state_by(execute)

    async def run_part_of_migration(self, execute: Execute, sql: str) -> None:
        """Run a change of the schema; one that an interrupted migration has made already is passed over."""
        try:
            await execute(sql, None)
        except StorageError as error:
            cause = error.__cause__
            if not isinstance(cause, pymysql.err.MySQLError) or number_of(cause) not in DONE:
                raise

    @asynccontextmanager
    async def migrating(self, deadline: Deadline) -> AsyncGenerator[Execute]:
        """One connection that holds a lock; each change of the schema is committed by itself, and repeatable."""
        async with self.port.transaction("Migrating the database", deadline) as execute:
            seconds = max(0, int(deadline.remaining() - 0.5))  # so that the server answers before the deadline
            locked = await execute(self.sql["lock_migrations"], {"seconds": seconds})
            if locked.rows[0][0] != 1:
                raise StorageUnavailableError(f"Another process did not finish migrating {self.where}.")
            yield execute
            await execute(self.sql["unlock_migrations"], None)

    async def _load(self, asked: Load, deadline: Deadline) -> Rows:
        if 0 < asked.newest <= FEW:
            return (await self.port.read("Loading a session", self.sql["load_few"], asked._asdict(), deadline)).rows
        parameters = {**asked._asdict(), "share": LOADED_BYTES // max(asked.newest, 1)}
        sql = self.sql["load" if asked.newest else "load_head"]
        return (await self.port.read("Loading a session", sql, parameters, deadline)).rows

    async def _load_many(self, loads: Sequence[Load], deadline: Deadline) -> dict[str, Rows]:
        sql, parameters = load_many(self.sql["load_many"], loads)
        return loaded_many((await self.port.read("Loading sessions", sql, parameters, deadline)).rows, loads)

    def _loaded(self, rows: Rows) -> Loaded | None:
        head: tuple[Any, ...] | None = None
        commits: list[CommitRow] = []
        for small, body in rows:
            columns: list[Any] = decode(small, "row of a session")
            if len(columns) == len(FIXED):
                seq, commit_id, run, time, key = columns
                commits.append(CommitRow(seq, commit_id, run, time, body, key))
            else:
                head = (*columns, body)
        if head is None:
            return None
        commits.sort(reverse=True)
        return Loaded(damage.head_of((*head[: len(SMALL)], head[-1])), with_bodies(commits), head[-2])

    async def append(self, write: Append, deadline: Deadline) -> bool:
        won = await super().append(write, deadline)
        if not won and isinstance(self._port, BorrowedPort):
            await self._check_sight(write, deadline)
        return won

    async def _check_sight(self, write: Append, deadline: Deadline) -> None:
        """Raise if the application's transaction cannot see what has won the race, so that it would never win.

        REPEATABLE READ, the server's default, shows what there was at the transaction's first read.
        """
        loaded = await self.load(write.session_id, 0, deadline)
        if write.expected == (0 if loaded is None else loaded.head.revision):
            raise StorageError(
                f"Session {write.session_id!r} was changed by somebody else after the application's transaction began.",
                hint="Roll the transaction back, and repeat it whole; with READ COMMITTED it would see the change.",
            )

    async def _append(self, write: Append, deadline: Deadline) -> bool:
        parameters = write.head._asdict()
        parameters |= {"expected": write.expected, "filterable": filterable(write.head.metadata)}
        parameters |= {"was_body": write.was_body, "was_updated_at": write.was_updated_at}
        parameters |= parameters_of(write.commits, CommitRow._fields)
        create = write.expected == 0
        rows = [_row(number) for number in range(len(write.commits))]
        if create:
            values = ", ".join(f"(%(session_id)s, %(incarnation)s, {row})" for row in rows)
            statements = [self.sql["create"], put_in(self.sql["first_commits"], {"rows": values})]
        else:
            from_memory = write.was_body is not None or write.was_updated_at is not None
            seen = {"as_seen": self.sql["as_seen"] if from_memory else ""}
            statements = [put_in(self.sql["next_commit"], {"row": row, **seen}) for row in rows]
            statements.append(put_in(self.sql["advance"], seen))
        sql = SEPARATOR.join(statements)
        try:
            result = await self.port.write("Appending to a session", sql, parameters, deadline)
        except DuplicateError:
            if create:
                return False
            raise
        return result.affected > 0

    async def _append_many(self, writes: Sequence[Append], deadline: Deadline) -> Collection[str]:
        """One commit for each of several sessions, in one round trip; tells which of them have won."""
        sql, parameters = append_many(self.sql, writes)
        return winners((await self.port.write("Appending to sessions", sql, parameters, deadline)).rows, writes)

    async def rewrite(
        self, session_id: str, incarnation: str, commits: Sequence[CommitRow], deadline: Deadline
    ) -> bool:
        if not commits:
            return True
        key = {"session_id": session_id, "incarnation": incarnation}
        fixed = put_in(self.sql["fixed"], {"seqs": ", ".join(str(int(row.seq)) for row in commits)})
        there = (await self.port.read("Rewriting commits", fixed, key, deadline)).rows
        if {row[:4] for row in commits} != set(there):
            return False
        # Commits go with their session only, whose head is held meanwhile: they are all there, or none of them.
        updates = [numbered(self.sql["rewrite"], number, REWRITTEN) for number in range(len(commits))]
        rows = [(row.seq, row.body, row.key) for row in commits]
        sql = SEPARATOR.join([self.sql["hold_head"], *updates])
        parameters = {**key, **parameters_of(rows, REWRITTEN)}
        return bool((await self.port.write("Rewriting commits", sql, parameters, deadline)).rows)

    async def newest(
        self, sessions: Sequence[tuple[str, str]], count: int, deadline: Deadline
    ) -> list[list[CommitRow]]:
        found: list[list[CommitRow]] = [[] for _ in sessions]
        for row in await self._for_each("newest", sessions, KEY, {"count": count}, deadline):
            number: int = row[0]
            found[number].append(CommitRow._make(row[1:]))
        return [sorted(rows) for rows in found]

    async def _for_each(
        self, name: str, rows: Sequence[tuple[str, ...]], names: Sequence[str], others: Parameters, deadline: Deadline
    ) -> list[tuple[Any, ...]]:
        """What a statement brings for each of some rows of parameters, in one statement.

        Not by comparing with a list of rows, for which MariaDB uses no index.
        """
        if not rows:
            return []
        texts = (put_in(self.sql[name], {"number": str(number)}) for number in range(len(rows)))
        sql = "\nUNION ALL\n".join(numbered(text, number, names) for number, text in enumerate(texts))
        parameters = {**others, **parameters_of(rows, names)}
        return (await self.port.read("Reading of several sessions", sql, parameters, deadline)).rows

    async def delete(self, session_id: str, incarnation: str, deadline: Deadline) -> None:
        key = {"session_id": session_id, "incarnation": incarnation}
        sql = f"{self.sql['delete_session']}{SEPARATOR}{self.sql['delete_commits']}"
        await self.port.write("Deleting a session", sql, key, deadline)

    async def get_records(self, names: Sequence[RecordName], deadline: Deadline) -> list[bytes | None]:
        found = dict(await self._for_each("get_records", names, RecordName._fields, {}, deadline))
        return [None if (value := found.get(number)) is None else bytes(value) for number in range(len(names))]

    async def put_record(
        self, session_id: str, incarnation: str, key: str, value: bytes | None, deadline: Deadline
    ) -> bool:
        parameters: dict[str, Any] = {"session_id": session_id, "incarnation": incarnation, "key": key}
        if value is not None:
            parameters["value"] = value.hex()  # aiomysql 0.3.2 cannot put bytes into a statement beside PyMySQL 1.2
        sql = self.sql["remove_record" if value is None else "put_record"]
        result = await self.port.write("Writing a record", sql, parameters, deadline)
        return value is None or result.affected > 0


def _row(number: int) -> str:
    """The parameters of one commit of several."""
    return ", ".join(f"%({name}_{number})s" for name in CommitRow._fields)


# ---------------------------------------------------------------- metadata


class _Metadata(filters.MetadataFilters):
    """Filters look for tokens: JSON functions of MySQL and MariaDB differ in how they name keys and compare scalars."""

    def has_key(self, key: str, number: int) -> tuple[str, filters.Parameters]:
        return f"LOCATE(:has_key_{number}, filterable) > 0", {f"has_key_{number}": f"{filter_token(key)} "}

    def has_value(self, key: str, value: Json, number: int) -> tuple[str, filters.Parameters]:
        return f"LOCATE(:metadata_{number}, filterable) > 0", {f"metadata_{number}": f"{filter_token(key, value)} "}


# ---------------------------------------------------------------- addresses


def _words(prefix: Any) -> dict[str, str]:
    """What `{words}` in the SQL stand for."""
    if not isinstance(prefix, str) or not _IDENTIFIER.fullmatch(prefix):
        raise InvalidInputError(
            f"prefix must be up to 32 letters, digits and underscores, not beginning with a digit; it is {prefix!r}."
        )
    names = {"schema_state": "schema", "sessions": "sessions", "commits": "commits", "records": "records"}
    return {
        **{word: f"`{prefix}{name}`" for word, name in names.items()},
        "small": _array(SMALL, "", f", {NOW}"),
        "small_of_head": _array(SMALL, "head.", f", {NOW}"),
        "fixed": _array(FIXED, ""),
        "fixed_of_log": _array(FIXED, "log."),
        "commit": COMMIT.replace("key", "`key`"),
        "prefix": prefix,
        "lock": f"CONCAT('sessile.', LEFT(SHA2(CONCAT(DATABASE(), '.{prefix}'), 256), 40))",  # of up to 64 letters
        "now": NOW,
        "collation": "utf8mb4_bin",
    }


NOW = "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))"
"""The clock; an hour of local time comes twice a year."""


def _array(columns: Sequence[str], table: str, more: str = "") -> str:
    """Columns as one JSON array.

    On MySQL a JSON value is not text, and a UNION takes no texts of two collations, neither of them chosen.
    """
    names = ", ".join(f"{table}`{name}`" for name in columns)
    return f"CONVERT(JSON_ARRAY({names}{more}) USING utf8mb4) COLLATE utf8mb4_bin"


def _target(url: Any) -> Target:
    """Where a URL leads."""
    if not isinstance(url, str):
        raise InvalidInputError(f"A database is a URL or a connection, not {type(url).__name__}.")
    parts = split_server_url(url)
    try:
        port = parts.port or 3306
    except ValueError as error:
        raise InvalidInputError(f"This is not the address of a database: {error}.") from error
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = query.keys() - {*_THEIRS}
    database = unquote(parts.path.removeprefix("/"))
    if parts.scheme not in ("mysql", "mariadb") or unknown or not database:
        raise InvalidInputError(
            f"This is not the address of a MySQL database{f': {sorted(unknown)} are not known' if unknown else ''}.",
            hint="Write mysql://user:password@host:3306/database.",
        )
    options: dict[str, Any] = {
        "host": parts.hostname or "localhost",
        "port": port,
        "user": unquote(parts.username or ""),
        # Both clients write it as Latin-1, and servers know it as UTF-8.
        "password": unquote(parts.password or "").encode().decode("latin-1"),
        "database": database,
    }
    if "unix_socket" in query:
        options["unix_socket"] = query["unix_socket"]
    if "ssl_ca" in query or query.get("ssl", "false") != "false":
        options["ssl"] = _certificates(query.get("ssl_ca"))
    return Target(options, f"MySQL at {parts.hostname or 'localhost'}:{port}/{database}")


def _certificates(path: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=path)
    except OSError as error:
        raise InvalidInputError(f"The certificates in {path!r} cannot be read: {error}.") from error


__all__ = ["MySQLDriver", "MySQLStorage"]
