"""MariaDB or MySQL: the floor by hand with PyMySQL and aiomysql, and what a turn really writes.

The floor has two tables; loading is one statement that reads the head and the last runs. Appending is one transaction:
compare and set the head, insert the run, commit; its statements are sent as one text, and so in one round trip.
"""

from __future__ import annotations

import asyncio
import queue
import statistics
from collections.abc import Callable
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import aiomysql
import pymysql
from pymysql.constants import CLIENT

from .floor import Encoder
from .payload import Exchange
from .sizes import Inspector, Written

SCHEMA = """
CREATE TABLE IF NOT EXISTS floor_head (
    session_id VARCHAR(255) PRIMARY KEY, revision BIGINT NOT NULL, body LONGTEXT NOT NULL
) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
CREATE TABLE IF NOT EXISTS floor_log (
    session_id VARCHAR(255), seq BIGINT, body LONGTEXT NOT NULL, PRIMARY KEY (session_id, seq)
) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
"""
LOAD = """
SELECT 0 AS seq, body FROM floor_head WHERE session_id = %s
UNION ALL (SELECT seq, body FROM floor_log WHERE session_id = %s ORDER BY seq DESC LIMIT %s)
"""
APPEND = """
START TRANSACTION;
UPDATE floor_head SET revision = %s, body = %s WHERE session_id = %s AND revision = %s;
INSERT INTO floor_log VALUES (%s, %s, %s);
COMMIT
"""

Rows = list[tuple[Any, ...]]


def options(url: str) -> dict[str, Any]:
    """The arguments of `connect` for a `mysql://` URL."""
    parts = urlsplit(url)
    return {
        "host": parts.hostname,
        "port": parts.port or 3306,
        "user": unquote(parts.username or "root"),
        "password": unquote(parts.password or ""),
        "db": parts.path[1:],
        "charset": "utf8mb4",
        "autocommit": True,
        "client_flag": CLIENT.MULTI_STATEMENTS,
    }


class MariaDbEncoder(Encoder):
    """What the blocking and the asynchronous floor share: parameters and JSON."""

    def loaded(self, rows: Rows) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The head and the runs of a load, oldest first."""
        head, *runs = (self.value(body) for _, body in sorted(rows))
        return head, runs

    def append_parameters(self, session_id: str, head: dict[str, Any], turn: Exchange) -> tuple[Any, ...]:
        """Of `APPEND`, for a run that follows that head."""
        revision = head["revision"] + 1
        body, after = self.encode(session_id, head, revision, turn)
        return revision, after, session_id, revision - 1, session_id, revision, body


class MariaDbFloor(MariaDbEncoder):
    """Blocking connections; each round trip takes one that is free."""

    def __init__(self, url: str, padding: tuple[int, int] = (0, 0), connections: int = 1) -> None:
        super().__init__(*padding)
        self.free: queue.LifoQueue[pymysql.Connection[Any]] = queue.LifoQueue()
        for _ in range(connections):
            self.free.put(pymysql.connect(**options(url)))
        run(self.free.queue[0], SCHEMA)

    def turn(self, session_id: str, turn: Exchange, reads: int = 1) -> None:
        """Load head and last 3 runs, append one run; before that look at the head again if `reads` is 2."""
        head, runs = self.loaded(self.read(session_id, 3))
        assert len(runs) == 3
        if reads == 2:
            head, _ = self.loaded(self.read(session_id, 0))
        self.append(self.append_parameters(session_id, head, turn))

    def read(self, session_id: str, last: int) -> Rows:
        connection = self.free.get()
        (rows,) = run(connection, LOAD, (session_id, session_id, last))
        self.free.put(connection)
        return rows

    def append(self, parameters: tuple[Any, ...]) -> None:
        connection = self.free.get()
        run(connection, APPEND, parameters)
        self.free.put(connection)

    def fill(self, session_id: str, runs: int) -> None:
        """Create a session with that many runs, in one transaction."""
        bodies, head = self.session(session_id, runs)
        connection = self.free.queue[0]
        connection.begin()
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO floor_head VALUES (%s, %s, %s)", (session_id, runs, head))
            rows = [(session_id, seq, body) for seq, body in enumerate(bodies, 1)]
            cursor.executemany("INSERT INTO floor_log VALUES (%s, %s, %s)", rows)
        connection.commit()

    def close(self) -> None:
        while not self.free.empty():
            self.free.get().close()


def run(connection: pymysql.Connection[Any], sql: str, parameters: tuple[Any, ...] = ()) -> list[Rows]:
    """The rows of each statement."""
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        results = [list(cursor.fetchall())]
        while cursor.nextset():
            results.append(list(cursor.fetchall()))
    return results


class AsyncMariaDbFloor(MariaDbEncoder):
    """Asynchronous connections of one event loop; each round trip takes one that is free."""

    free: asyncio.LifoQueue[aiomysql.Connection]

    @classmethod
    async def open(cls, url: str, padding: tuple[int, int] = (0, 0), connections: int = 1) -> Self:
        self = cls(*padding)
        self.free = asyncio.LifoQueue()
        for _ in range(connections):
            self.free.put_nowait(await aiomysql.connect(**options(url)))
        return self

    async def turn(self, session_id: str, turn: Exchange, reads: int = 1) -> None:
        """As `MariaDbFloor.turn`."""
        head, runs = self.loaded(await self.read(session_id, 3))
        assert len(runs) == 3
        if reads == 2:
            head, _ = self.loaded(await self.read(session_id, 0))
        await self.append(self.append_parameters(session_id, head, turn))

    async def read(self, session_id: str, last: int) -> Rows:
        (rows,) = await self.run(LOAD, (session_id, session_id, last))
        return rows

    async def append(self, parameters: tuple[Any, ...]) -> None:
        await self.run(APPEND, parameters)

    async def run(self, sql: str, parameters: tuple[Any, ...]) -> list[Rows]:
        """The rows of each statement."""
        connection = await self.free.get()
        async with connection.cursor() as cursor:
            await cursor.execute(sql, parameters)
            results = [list(await cursor.fetchall())]
            while await cursor.nextset():
                results.append(list(await cursor.fetchall()))
        self.free.put_nowait(connection)
        return results

    async def close(self) -> None:
        while not self.free.empty():
            await self.free.get_nowait().ensure_closed()


class MariaDbInspector(Inspector):
    """A database, over a connection of its own."""

    marker = "%s"

    def __init__(self, url: str) -> None:
        self.connection = pymysql.connect(**options(url))

    def query(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        return run(self.connection, sql, parameters)[0]

    def columns(self) -> dict[str, list[str]]:
        result: dict[str, list[str]] = {}
        for table, column in self.query(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = DATABASE()"
        ):
            result.setdefault(f"`{table}`", []).append(f"`{column}`")
        return result

    def size(self, column: str) -> str:
        return f"LENGTH({column})"

    def written(self, turn: Callable[[], object], turns: int = 9) -> Written:
        """The server does not count commits; the log is InnoDB's. A median: the server has work of its own."""
        turn()
        rows = self.total()
        log: list[int] = []
        for _ in range(turns):
            before = self._position()
            turn()
            log.append(self._position() - before)
        return Written((self.total() - rows) / turns, None, statistics.median(log))

    def _position(self) -> int:
        rows = self.query("SHOW GLOBAL STATUS WHERE variable_name IN ('Innodb_lsn_current', 'Innodb_os_log_written')")
        return int(sorted(rows)[0][1])

    def settle(self) -> None:
        """After filling: statistics for the planner."""
        self.query(f"ANALYZE TABLE {', '.join(self.columns())}")

    def close(self) -> None:
        self.connection.close()
