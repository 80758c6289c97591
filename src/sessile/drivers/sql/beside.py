"""Tables of others beside a driver's own, over the same port."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any

from ...storage.driver import Beside, Deadline, Dialect, Row, RunStatement, Values
from .base import Port
from .statements import in_style

_EXISTS: Mapping[Dialect, str] = {
    "postgres": "SELECT to_regclass(:name) IS NOT NULL",
    "mysql": "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = :name",
}


class SqlBeside(Beside):
    """A way to them.

    Args:
        port: the driver's.
        dialect: whose SQL the server speaks.
        words: what `{words}` in the driver's own statements stand for.
        where: names the database in messages.
        may_create: whether tables may be made on first use.
    """

    def __init__(self, port: Port, dialect: Dialect, words: Mapping[str, str], where: str, *, may_create: bool) -> None:
        self._port = port
        self.dialect = dialect
        self.where = where
        self.may_create = may_create
        self.index_prefix = words["prefix"]
        self._quote = "`" if dialect == "mysql" else '"'
        self._schema = words.get("namespace_dot", "")

    def table(self, name: str) -> str:
        return f"{self._schema}{self._quote}{self.index_prefix}{name}{self._quote}"

    async def has_table(self, name: str, deadline: Deadline) -> bool:
        named = self.table(name) if self.dialect == "postgres" else f"{self.index_prefix}{name}"
        rows = await self.read("Looking for a table", _EXISTS[self.dialect], {"name": named}, deadline)
        return bool(rows[0][0])

    async def read(self, what: str, sql: str, values: Values, deadline: Deadline) -> list[Row]:
        return (await self._port.read(what, _pyformat(sql), values, deadline)).rows

    @asynccontextmanager
    async def transaction(self, what: str, deadline: Deadline) -> AsyncGenerator[RunStatement]:
        async with self._port.transaction(what, deadline) as execute:

            async def run(sql: str, values: Values | Sequence[Sequence[Any]] | bytes | None) -> list[Row]:
                assert values is None or isinstance(values, (Mapping, bytes)), "many rows are SQLite's"
                return (await execute(_pyformat(sql), values)).rows

            yield run


@lru_cache(maxsize=512)
def _pyformat(sql: str) -> str:
    return in_style(sql, "pyformat")
