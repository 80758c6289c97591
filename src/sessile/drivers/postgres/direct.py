"""Statements that every turn runs, given to libpq as they are: a cursor of psycopg's takes more time than sending them.

What is sent and what comes back is the same as through a cursor, errors as well. It is waited for elsewhere, as for any
operation of psycopg's (`Connection.wait`), and so deadlines, Ctrl-C and cancellation are not touched by that.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Generator, Sequence
from typing import Any, TypeAlias

import psycopg
from psycopg.abc import PQGen
from psycopg.adapt import Transformer
from psycopg.errors import FeatureNotSupported, error_from_result
from psycopg.generators import execute
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGresult

from ..sql.base import Parameters, Result

RUNS_UNPREPARED = 5
"""How often a connection runs a statement before it is prepared, which costs another round trip; as in psycopg."""

_PARAMETER = re.compile(r"%\((\w+)\)s")

AnyConnection: TypeAlias = psycopg.Connection[Any] | psycopg.AsyncConnection[Any]


class Statement:
    """A statement as PostgreSQL itself takes it: parameters are numbered, and have the types that it finds for them."""

    __slots__ = ("names", "text")

    def __init__(self, sql: str) -> None:
        """`sql`: with parameters written `%(name)s`, as for a cursor."""
        numbers: dict[str, int] = {}
        numbered = _PARAMETER.sub(lambda found: f"${numbers.setdefault(found[1], len(numbers) + 1)}", sql)
        self.text = numbered.replace("%%", "%").encode()
        self.names = (*numbers,)
        """The parameters in their order."""

    def values(self, parameters: Parameters) -> list[bytes | None]:
        """The parameters as text. Raises what psycopg raises for text that no database takes."""
        values = [
            value.encode() if isinstance(value, str) else None if value is None else b"%d" % value
            for value in map(parameters.__getitem__, self.names)
        ]
        if b"\0" in b"".join(filter(None, values)):  # libpq would cut it off there
            raise psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes")
        return values


class Sender:
    """Runs statements on one connection."""

    def __init__(self, connection: AnyConnection) -> None:
        self._connection = connection
        self._pgconn = connection.pgconn
        self._transformer = Transformer(connection)
        self._runs: dict[bytes, int] = {}
        self._prepared: dict[bytes, bytes] = {}
        self._numbers = itertools.count()

    def run(self, statement: Statement, parameters: Parameters) -> PQGen[Result]:
        """Run a statement; for `Connection.wait`. Raises psycopg's errors."""
        values = statement.values(parameters)
        name = self._prepared.get(statement.text)
        if name is None:
            name = yield from self._prepare(statement.text)
        if name is not None:
            self._pgconn.send_query_prepared(name, values)
            try:
                return self._made_out(_sound((yield from execute(self._pgconn))))
            except FeatureNotSupported:  # somebody has given a column another type since: nothing was done
                self._runs[statement.text] = 0
                del self._prepared[statement.text]
        self._pgconn.send_query_params(statement.text, values)
        return self._made_out(_sound((yield from execute(self._pgconn))))

    def _prepare(self, text: bytes) -> Generator[Any, Any, bytes | None]:
        """Prepare a statement if it is run often, and statements are prepared at all; its name then."""
        runs = self._runs[text] = self._runs.get(text, 0) + 1
        if runs <= RUNS_UNPREPARED or self._connection.prepare_threshold is None:
            return None
        name = b"sessile_%d" % next(self._numbers)
        self._pgconn.send_prepare(name, text)
        _sound((yield from execute(self._pgconn)))
        self._prepared[text] = name
        return name

    def _made_out(self, result: PGresult) -> Result:
        count = result.ntuples
        self._transformer.set_pgresult(result)
        rows = self._transformer.load_rows(0, count, tuple)
        self._transformer.set_pgresult(None)  # a quiet connection keeps nothing of it
        return Result(rows, count)


def _sound(results: Sequence[PGresult]) -> PGresult:
    """The result of a statement; raises its error. Where a server goes down there are more of them, all errors."""
    for result in results:
        if result.status not in (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK):
            raise error_from_result(result)
    if not results:
        raise psycopg.OperationalError("the server sent no result")
    return results[0]
