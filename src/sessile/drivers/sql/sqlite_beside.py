"""Tables of others in the same SQLite file as the log."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Any, Protocol

from ...storage.driver import Beside, Deadline, Row, RunStatement, Values
from ...storage.leaving import leave
from .filters import Parameters


class File(Protocol):
    """What it needs of the driver of the file."""

    path: str
    auto_migrate: bool

    def scan(self, what: str, sql: str, values: Parameters, deadline: Deadline) -> list[Any]:
        """A read of tables of others, beside which the log is written and read."""
        ...

    def sign(self, deadline: Deadline) -> object:
        """See `Beside.sign`."""
        ...

    def changing(self, what: str, deadline: Deadline) -> AbstractContextManager[sqlite3.Connection]:
        """A transaction on tables of others, on a connection of its own: the log waits only for the lock."""
        ...


class SqliteBeside(Beside):
    """See the module's text."""

    dialect = "sqlite"
    index_prefix = "sessile_"

    def __init__(self, file: File) -> None:
        self._file = file
        self.where = repr(file.path)
        self.may_create = file.auto_migrate

    def table(self, name: str) -> str:
        return f"sessile_{name}"

    async def has_table(self, name: str, deadline: Deadline) -> bool:
        await leave()
        sql = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = :name"
        return bool(self._file.scan("Looking for a table", sql, {"name": self.table(name)}, deadline))

    async def read(self, what: str, sql: str, values: Values, deadline: Deadline) -> list[Row]:
        await leave()
        return self._file.scan(what, sql, dict(values), deadline)

    async def sign(self, deadline: Deadline) -> object:
        return self._file.sign(deadline)

    @asynccontextmanager
    async def transaction(self, what: str, deadline: Deadline) -> AsyncGenerator[RunStatement]:
        await leave()
        with self._file.changing(what, deadline) as connection:

            async def run(sql: str, values: Values | Sequence[Sequence[Any]] | bytes | None) -> list[Row]:
                assert not isinstance(values, bytes), "COPY is PostgreSQL's"
                if values is None or isinstance(values, Mapping):
                    return connection.execute(sql, values or {}).fetchall()
                connection.executemany(sql, values)
                return []

            yield run
