"""What a turn, a list and a load cost among few sessions and among very many, and in a short and a very long session.

The library writes a thousand sessions of one run. They are multiplied by statements, with other ids, users and times,
so that each row is as the library writes it; their search index is left out.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from sessile import SqliteStorage
from sessile.storage import Storage

from .measure import Stats, interleave, ms, timed
from .payload import Exchange, exchange, messages
from .servers import POSTGRES, fill, running
from .tables import Table
from .turn import AGENT, FORMAT, USER, turn_sync

SEEDS = 1_000
USERS = 100
LENGTHS = (100, 100_000)
"""Runs of the short and of the long session."""
ROUNDS = 60
HOUR = 3600 * 1_000_000

NAMES = {
    "SQLite": "SELECT name FROM pragma_table_info('{}')",
    "PostgreSQL": "SELECT column_name FROM information_schema.columns WHERE table_name = '{}'",
}
"""How a database is asked for the columns of a table."""

Execute = Callable[[str], list[tuple[Any, ...]]]
"""Runs one statement of SQL."""


def run(data: Path, sessions: int) -> Iterator[Table]:
    """Measure on SQLite, and on PostgreSQL where its server can be had."""
    yield _sqlite(data / "scale.db", sessions)
    with running(POSTGRES) as url:
        if url is not None:
            yield _postgres(url, sessions)


def _sqlite(path: Path, sessions: int) -> Table:
    def execute(sql: str) -> list[tuple[Any, ...]]:
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute("PRAGMA cache_size = -400000")
            return connection.execute(sql).fetchall()

    def size() -> int:
        execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return path.stat().st_size

    return _measured("SQLite", SqliteStorage(path), execute, size, sessions)


def _postgres(url: str, sessions: int) -> Table:
    inspector: Any = POSTGRES.inspector(url)

    def execute(sql: str) -> list[tuple[Any, ...]]:
        cursor = inspector.connection.execute(sql)
        return cursor.fetchall() if cursor.description else []

    def size() -> int:
        execute("CHECKPOINT")
        return execute("SELECT pg_database_size(current_database())")[0][0]

    try:
        return _measured("PostgreSQL", POSTGRES.storage(url), execute, size, sessions)
    finally:
        inspector.close()


def _measured(name: str, storage: Storage, execute: Execute, size: Callable[[], int], sessions: int) -> Table:
    table = Table(
        f"Few and many sessions on {name} (ms, median and p95 of {ROUNDS})",
        ["", f"{SEEDS:,} sessions", f"{sessions:,}", "times"],
    )
    started = time.perf_counter()
    with storage:
        for number in range(SEEDS):
            _add(storage, f"s{number:04}", f"u{number % USERS}", exchange(number))
        fill(storage, {"short": LENGTHS[0]})
        before = _times(storage, "short", 1), size() / SEEDS
        _multiply(execute, NAMES[name], sessions // SEEDS - 1)
        many = size() / sessions
        fill(storage, {"long": LENGTHS[1]})
        if name == "PostgreSQL":
            execute("VACUUM ANALYZE")  # the server does both by itself, a while later, and would do it meanwhile
            execute("CHECKPOINT")
        after = _times(storage, "long", sessions // SEEDS), many
    for what, first in before[0].items():
        last = after[0][what]
        cells = [f"{ms(stats.median)} ({ms(stats.p95)})" for stats in (first, last)]
        table.rows.append([what, *cells, f"{last.median / first.median:.2f}"])
    table.rows.append(["bytes on disk for each session", f"{before[1]:,.0f}", f"{after[1]:,.0f}", ""])
    table.notes.append(f"The long session has {LENGTHS[0]:,} runs among few sessions and {LENGTHS[1]:,} among many.")
    table.notes.append(f"All of it took {time.perf_counter() - started:.0f} s.")
    return table


def _add(storage: Storage, session_id: str, user: str, turn: Exchange) -> None:
    said = messages(turn)
    storage.add_run(
        session_id, user_id=user, agent=AGENT, input=turn.user, output=turn.answer, messages=said, format=FORMAT
    )


def _multiply(execute: Execute, names: str, copies: int) -> None:
    """Copies of the seeds, each an hour older than the one before."""
    for table in ("sessile_sessions", "sessile_commits"):
        columns: list[str] = [row[0] for row in execute(names.format(table))]
        execute(f"CREATE TABLE seeds AS SELECT * FROM {table} WHERE session_id <> 'short'")
        for copy in range(1, copies + 1):
            older = {name: f"{name} - {copy * HOUR}" for name in ("created_at", "updated_at", "time")}
            named: dict[str, str] = {**older, **{one: f"{one} || '-{copy}'" for one in ("session_id", "user_id")}}
            selected = ", ".join(named.get(column, column) for column in columns)
            execute(f"INSERT INTO {table} ({', '.join(columns)}) SELECT {selected} FROM seeds")
        execute("DROP TABLE seeds")


def _times(storage: Storage, length: str, copies: int) -> dict[str, Stats]:
    """What is asked of a storage; sessions are picked from all over it."""
    count = [0]

    def some() -> tuple[str, str]:
        count[0] += 1
        number, copy = count[0] * 7919 % SEEDS, count[0] * 104_729 % copies
        end = f"-{copy}" if copy else ""
        return f"s{number:04}{end}", f"u{number % USERS}{end}"

    def turn_in_some() -> None:
        session_id, user = some()
        assert storage.get_session(session_id, last_runs=3, user_id=user) is not None
        _add(storage, session_id, user, exchange(count[0]))

    def load() -> None:
        session_id, user = some()
        session = storage.get_session(session_id, last_runs=3, user_id=user)
        assert session is not None
        assert session.runs

    asked: dict[str, Callable[[], object]] = {
        "a turn in some session": turn_in_some,
        "load some session with its last runs": load,
        "the newest 20 sessions of a user": lambda: storage.sessions(user_id=some()[1], limit=20),
        "how many sessions a user has": lambda: storage.count_sessions(user_id=some()[1]),
        "a turn in the long session": lambda: turn_sync(storage, length, exchange(count[0])),  # type: ignore[arg-type]
        "load the long session, last 3 runs": lambda: storage.get_session(length, last_runs=3, user_id=USER),
        "its last 20 runs": lambda: storage.runs(length, last=20, user_id=USER),
    }
    contenders = {name: partial(timed, work) for name, work in asked.items()}
    interleave(contenders, 3)
    return {name: Stats.of(times) for name, times in interleave(contenders, ROUNDS).items()}
