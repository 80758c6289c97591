"""PostgreSQL: the floor by hand with psycopg, and what a turn really writes. psycopg and the standard library only.

The floor has two tables; loading is one statement that reads the head and the last runs, appending one that compares
and sets the head and inserts the run. Nothing is checked, there is no index for lists.
"""

from __future__ import annotations

import asyncio
import queue
import statistics
from collections.abc import Callable
from typing import Any, Self

import psycopg

from .floor import Encoder
from .payload import Exchange
from .sizes import Inspector, Written

SCHEMA = """
CREATE TABLE IF NOT EXISTS floor_head (
    session_id text COLLATE "C" PRIMARY KEY, revision bigint NOT NULL, body text NOT NULL
) WITH (fillfactor = 80);
CREATE TABLE IF NOT EXISTS floor_log (
    session_id text COLLATE "C", seq bigint, body text NOT NULL, PRIMARY KEY (session_id, seq)
);
"""
LOAD = """
SELECT NULL, body FROM floor_head WHERE session_id = %s
UNION ALL (SELECT seq, body FROM floor_log WHERE session_id = %s ORDER BY seq DESC LIMIT %s)
"""
APPEND = """
WITH advanced AS (
    UPDATE floor_head SET revision = %s, body = %s WHERE session_id = %s AND revision = %s RETURNING session_id
)
INSERT INTO floor_log SELECT session_id, %s, %s FROM advanced
"""

Rows = list[tuple[Any, ...]]


class PostgresEncoder(Encoder):
    """What the blocking and the asynchronous floor share: tables, sessions, parameters and JSON."""

    def fill_by(self, connection: psycopg.Connection[Any], session_id: str, runs: int) -> None:
        """Create a session with that many runs, in one transaction."""
        bodies, head = self.session(session_id, runs)
        with connection.transaction(), connection.cursor() as cursor:
            cursor.execute("INSERT INTO floor_head VALUES (%s, %s, %s)", (session_id, runs, head))
            with cursor.copy("COPY floor_log FROM STDIN") as copy:
                for seq, body in enumerate(bodies, 1):
                    copy.write_row((session_id, seq, body))

    def loaded(self, rows: Rows) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The head and the runs of a load, oldest first."""
        return self.value(rows[0][1]), [self.value(body) for _, body in sorted(rows[1:])]

    def append_parameters(self, session_id: str, head: dict[str, Any], turn: Exchange) -> tuple[Any, ...]:
        """Of `APPEND`, for a run that follows that head."""
        revision = head["revision"] + 1
        body, after = self.encode(session_id, head, revision, turn)
        return revision, after, session_id, revision - 1, revision, body


class PostgresFloor(PostgresEncoder):
    """Blocking connections; each statement takes one that is free."""

    def __init__(self, url: str, padding: tuple[int, int] = (0, 0), connections: int = 1) -> None:
        super().__init__(*padding)
        self.free: queue.LifoQueue[psycopg.Connection[Any]] = queue.LifoQueue()
        for _ in range(connections):
            self.free.put(psycopg.connect(url, autocommit=True))
        with self.free.queue[0].cursor() as cursor:
            cursor.execute(SCHEMA)

    def turn(self, session_id: str, turn: Exchange, reads: int = 1) -> None:
        """Load head and last 3 runs, append one run; before that look at the head again if `reads` is 2."""
        head, runs = self.loaded(self.read(session_id, 3))
        assert len(runs) == 3
        if reads == 2:
            head, _ = self.loaded(self.read(session_id, 0))
        self.append(self.append_parameters(session_id, head, turn))

    def read(self, session_id: str, last: int) -> Rows:
        connection = self.free.get()
        rows = connection.execute(LOAD, (session_id, session_id, last)).fetchall()
        self.free.put(connection)
        return rows

    def append(self, parameters: tuple[Any, ...]) -> None:
        connection = self.free.get()
        assert connection.execute(APPEND, parameters).rowcount == 1
        self.free.put(connection)

    def fill(self, session_id: str, runs: int) -> None:
        """Create a session with that many runs."""
        self.fill_by(self.free.queue[0], session_id, runs)

    def close(self) -> None:
        while not self.free.empty():
            self.free.get().close()


class AsyncPostgresFloor(PostgresEncoder):
    """Asynchronous connections of one event loop; each statement takes one that is free."""

    free: asyncio.LifoQueue[psycopg.AsyncConnection[Any]]

    @classmethod
    async def open(cls, url: str, padding: tuple[int, int] = (0, 0), connections: int = 1) -> Self:
        self = cls(*padding)
        self.free = asyncio.LifoQueue()
        for _ in range(connections):
            self.free.put_nowait(await psycopg.AsyncConnection.connect(url, autocommit=True))
        return self

    async def turn(self, session_id: str, turn: Exchange, reads: int = 1) -> None:
        """As `PostgresFloor.turn`."""
        head, runs = self.loaded(await self.read(session_id, 3))
        assert len(runs) == 3
        if reads == 2:
            head, _ = self.loaded(await self.read(session_id, 0))
        await self.append(self.append_parameters(session_id, head, turn))

    async def read(self, session_id: str, last: int) -> Rows:
        connection = await self.free.get()
        cursor = await connection.execute(LOAD, (session_id, session_id, last))
        rows = await cursor.fetchall()
        self.free.put_nowait(connection)
        return rows

    async def append(self, parameters: tuple[Any, ...]) -> None:
        connection = await self.free.get()
        assert (await connection.execute(APPEND, parameters)).rowcount == 1
        self.free.put_nowait(connection)

    async def close(self) -> None:
        while not self.free.empty():
            await self.free.get_nowait().close()


class PostgresInspector(Inspector):
    """A database, over a connection of its own."""

    marker = "%s"

    def __init__(self, url: str) -> None:
        self.connection = psycopg.connect(url, autocommit=True)

    def query(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        return self.connection.execute(sql, parameters).fetchall()  # type: ignore[call-overload]

    def columns(self) -> dict[str, list[str]]:
        result: dict[str, list[str]] = {}
        for table, column in self.query(
            "SELECT format('%%I.%%I', table_schema, table_name), format('%%I', column_name)"
            " FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name)"
            " WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema')"
        ):
            result.setdefault(table, []).append(column)
        return result

    def size(self, column: str) -> str:
        """A `bytea` shows each byte as two digits after a prefix of two."""
        text = f"octet_length({column}::text)"
        return f"CASE WHEN pg_typeof({column}) = 'bytea'::regtype THEN {text} / 2 - 1 ELSE {text} END"

    def written(self, turn: Callable[[], object], turns: int = 9) -> Written:
        """Commits are transaction numbers that were given out. Medians: the server has work of its own."""
        self.connection.execute("CHECKPOINT")
        turn()  # the first change of a page after a checkpoint logs the whole page
        rows = self.total()
        commits: list[int] = []
        wal: list[int] = []
        for _ in range(turns):
            before = self._position()
            turn()
            after = self._position()
            commits.append(after[0] - before[0])
            wal.append(after[1] - before[1])
        return Written((self.total() - rows) / turns, statistics.median(commits), statistics.median(wal))

    def _position(self) -> tuple[int, int]:
        next_transaction, log = self.query(
            "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint,"
            " (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint"
        )[0]
        return next_transaction, log

    def settle(self) -> None:
        """After filling: statistics for the planner, and nothing left to write."""
        self.connection.execute("VACUUM ANALYZE")
        self.connection.execute("CHECKPOINT")

    def close(self) -> None:
        self.connection.close()
