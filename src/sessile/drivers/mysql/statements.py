"""Statements as a connection sends them: several as one text, in one round trip, and none that the server refuses."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from typing import Any

import aiomysql  # pyright: ignore[reportMissingTypeStubs]
import pymysql
from pymysql.constants import SERVER_STATUS

from ...errors import TooLargeError
from ..sql.base import Parameters, Result

SEPARATOR = ";\n"
"""Between the statements of one write, which are one transaction."""


_NAME = re.compile(r"%\((\w+)\)s")


def whole(sql: str) -> str:
    """Several statements as a transaction."""
    return SEPARATOR.join(("START TRANSACTION", sql, "COMMIT")) if SEPARATOR in sql else sql


def execute(connection: Any, sql: str, parameters: Parameters | None, limit: int | None = None) -> list[Result]:
    """Run statements on a connection of the application's; the result of each. `limit`: see `filled`."""
    results: list[Result] = []
    with connection.cursor(pymysql.cursors.Cursor) as cursor:
        cursor.execute(filled(sql, parameters, connection, pymysql.cursors.Cursor, limit))
        results.append(Result(list(cursor.fetchall()), cursor.rowcount))
        while cursor.nextset():
            results.append(Result(list(cursor.fetchall()), cursor.rowcount))
    return results


async def aexecute(connection: Any, sql: str, parameters: Parameters | None, limit: int | None = None) -> list[Result]:
    """The same on a connection of aiomysql's."""
    results: list[Result] = []
    async with connection.cursor(aiomysql.Cursor) as cursor:
        await cursor.execute(filled(sql, parameters, connection, aiomysql.Cursor, limit))
        results.append(Result(list(await cursor.fetchall()), cursor.rowcount))
        while await cursor.nextset():
            results.append(Result(list(await cursor.fetchall()), cursor.rowcount))
    return results


def filled(
    sql: str, parameters: Parameters | None, connection: Any, cursor: Callable[[Any], Any], limit: int | None
) -> str:
    """A statement with its parameters as literals.

    They are as `cursor.mogrify` writes them, which takes several times as long: the clients look at each character, and
    escape also what needs no escaping between single quotes.

    Args:
        sql, parameters: the statement.
        connection: where it will be sent.
        cursor: makes one of the client's cursors.
        limit: the server's max_allowed_packet; for what has more, `TooLargeError` is raised.
    """
    parameters = parameters or {}
    if (connection.server_status or 0) & SERVER_STATUS.SERVER_STATUS_NO_BACKSLASH_ESCAPES:  # the application's choice
        return _checked(cursor(connection).mogrify(sql, parameters), limit)
    literals: dict[str, str] = {}
    for name, value in parameters.items():
        if type(value) is str:
            literals[name] = quoted(value)
        elif value is None:
            literals[name] = "NULL"
        elif isinstance(value, int):  # true is 1
            literals[name] = f"{value:d}"
        else:
            literals[name] = cursor(connection).mogrify("%s", (value,))
    return _checked(sql % literals, limit)


def quoted(text: str) -> str:
    """Text as a literal, where a backslash escapes.

    The connection's character set is utf8mb4, in which no other character has a quote or a backslash in it.
    """
    if "\\" in text:
        text = text.replace("\\", "\\\\")
    if "'" in text:
        text = text.replace("'", "\\'")
    if "\0" in text:
        text = text.replace("\0", "\\0")
    return f"'{text}'"


def needed(sql: str, parameters: Parameters) -> Parameters:
    """The parameters of one statement of several: clients quote all that they are given."""
    return {name: parameters[name] for name in set(_NAME.findall(sql))}


def numbered(sql: str, number: int, names: Collection[str]) -> str:
    """A statement that is sent several times at once, with these parameters numbered, as in `parameters_of`."""
    return _NAME.sub(lambda found: f"%({found[1]}_{number})s" if found[1] in names else found[0], sql)


def parameters_of(rows: Sequence[Sequence[Any]], names: Sequence[str]) -> Parameters:
    """The parameters of statements that are sent once for each of some rows."""
    return {
        f"{name}_{number}": value for number, row in enumerate(rows) for name, value in zip(names, row, strict=True)
    }


def joined(results: Sequence[Result]) -> Result:
    """What several statements found and changed together."""
    rows = [row for result in results for row in result.rows]
    return Result(rows, sum(max(0, result.affected) for result in results))


def _checked(sql: str, limit: int | None) -> str:
    """The statement, unless the server would close the connection instead of running it."""
    if limit is not None and len(sql) * 4 >= limit and (size := len(sql.encode())) + 1 > limit:
        raise TooLargeError(
            f"A statement of {size:,} bytes is more than the server's max_allowed_packet of {limit:,} bytes.",
            hint="Store less, or raise max_allowed_packet on the server; nothing was written.",
        )
    return sql
