"""How often the database is asked, and what it looks at to answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from sessile.drivers.sql.base import Result
from sessile.drivers.sql.batches import Load
from sessile.storage.driver import Append, Deadline, RecordName, Span

from .helpers import Database, driver_of, fill, run


@contextmanager
def counted(storage: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The statements that are sent meanwhile."""
    port = driver_of(storage).port
    sent: list[str] = []
    name = "run" if hasattr(port, "run") else "_run"
    plain = getattr(port, name)

    async def recorded(*args: Any) -> Any:
        sent.append(str(args[0]))
        return await plain(*args)

    with monkeypatch.context() as patch:
        patch.setattr(port, name, recorded)
        yield sent


def test_several_sessions_in_one_round_trip(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    deadline = Deadline(30)
    ids = [f"s{number:02}" for number in range(50)]
    with database.open() as storage:
        fill(storage, *ids, count=3)
        for session_id in ids:
            run(storage, lambda driver, s=session_id: driver.put_record(s, "i1", "lease", s.encode(), deadline))
        with counted(storage, monkeypatch) as sent:
            names = [RecordName(session_id, "i1", "lease") for session_id in ids]
            records = run(storage, lambda driver: driver.get_records(names, deadline))
            assert records == [session_id.encode() for session_id in ids]
            assert len(sent) == 1
        with counted(storage, monkeypatch) as sent:
            sessions = [(session_id, "i1") for session_id in ids]
            newest = run(storage, lambda driver: driver.newest(sessions, 2, deadline))
            assert [[row.seq for row in rows] for rows in newest] == [[2, 3]] * 50
            assert len(sent) == 1


ONE_BY_ONE = {
    True: """
        INSERT INTO sessile_commits SELECT session_id, incarnation, number, 'c' || number, 0, 0, '{}',
            CASE WHEN number = 4000 THEN 'k' END FROM sessile_sessions, generate_series(2, 8000) AS number
    """,
    False: """
        INSERT INTO sessile_commits WITH RECURSIVE numbers AS (
            SELECT 2 AS number UNION ALL SELECT number + 1 FROM numbers WHERE number < 900
        ) SELECT session_id, incarnation, number, number, 0, 0, '{}', IF(number = 400, 'k', NULL)
        FROM sessile_sessions, numbers
    """,
}


def test_a_key_is_found_by_its_index(database: Database) -> None:
    """However long the log is, also for a server that has no statistics of it yet, and after it has."""
    if database.by_engine and not database.is_postgres:
        pytest.skip("MariaDB's own statistics decide there; the statement is the same")
    analyze = "ANALYZE sessile_commits" if database.is_postgres else "ANALYZE TABLE sessile_commits"
    with database.open() as storage:
        fill(storage, "s")
        database.sql(ONE_BY_ONE[database.is_postgres])
        for _ in range(2):
            before = rows_read(database)
            for newest_first in (False, True):
                span = Span(key="k", newest_first=newest_first, limit=1)
                found = run(storage, lambda driver, span=span: driver.entries("s", "i1", span, Deadline(30)))
                assert [row.key for row in found] == ["k"]
            assert rows_read(database) - before < 100
            database.sql(analyze)


def test_a_load_reads_the_end_of_the_log(database: Database) -> None:
    """However long it is, also for a server that has no statistics of it yet, and after it has."""
    if not database.is_postgres:
        pytest.skip("MariaDB does not tell how many rows it has read")
    last = 8000
    with database.open() as storage:
        fill(storage, "s")
        database.sql(ONE_BY_ONE[True], f"UPDATE sessile_sessions SET revision = {last}")
        for _ in range(2):
            before = rows_read(database)
            for newest in (1, 4, 8, 9, 20) * 3:
                loaded = run(storage, lambda driver, newest=newest: driver.load("s", newest, Deadline(30)))
                assert [row.seq for row in loaded.commits] == [*range(last - newest + 1, last + 1)]
            assert rows_read(database) - before < 300
            database.sql("ANALYZE sessile_commits")


MORE_SESSIONS = """
    INSERT INTO sessile_sessions
    SELECT (jsonb_populate_record(one, jsonb_build_object('session_id', 'other' || number))).*
    FROM sessile_sessions AS one, generate_series(1, 700) AS number WHERE session_id = 's0'
"""


def test_a_batch_looks_at_no_other_sessions(database: Database) -> None:
    """However many there are, also for a server that has no statistics of them yet, and after it has."""
    if not database.is_postgres or database.by_engine:
        pytest.skip("MariaDB does not tell how many rows it has read; with SQLAlchemy there are no batches")
    deadline = Deadline(30)
    with database.open() as storage:
        fill(storage, *(f"s{number}" for number in range(5)))
        database.sql(MORE_SESSIONS)
        for _ in range(2):
            before = rows_read(database, "sessile_sessions")
            for _ in range(8):  # as often as it takes to be planned once for all parameters
                loads = [Load(f"s{number}", 4) for number in range(5)]
                found = run(storage, lambda driver, loads=loads: driver._load_many(loads, deadline))
                assert len(found) == 5
                writes = [follow_up(storage, load.session_id) for load in loads]
                won = run(storage, lambda driver, writes=writes: driver._append_many(writes, deadline))
                assert len(won) == 5
            assert rows_read(database, "sessile_sessions") - before < 2000
            database.sql("ANALYZE sessile_sessions")


def test_a_batch_locks_no_head_that_it_does_not_change(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody in it has lost a race: the session is free for whoever writes alone."""
    if not database.is_postgres or database.by_engine:
        pytest.skip("asked of PostgreSQL's own statement")
    asked: list[Any] = []

    async def kept(what: str, sql: str, parameters: Any, deadline: Deadline) -> Result:
        asked.append((sql, parameters))
        return Result([], 0)

    with database.open() as storage:
        fill(storage, "lost", "won")
        lost, won = (follow_up(storage, name) for name in ("lost", "won"))
        monkeypatch.setattr(driver_of(storage).port, "write", kept)
        writes = [lost._replace(expected=lost.expected + 1), won]
        run(storage, lambda driver: driver._append_many(writes, Deadline(30)))
        with psycopg.connect(database.address) as batch, psycopg.connect(database.address) as other:
            assert [row[0] for row in batch.execute(*asked[0])] == ["won"]
            free = other.execute("SELECT session_id FROM sessile_sessions FOR UPDATE SKIP LOCKED").fetchall()
            assert free == [("lost",)]
            batch.rollback()


def follow_up(storage: Any, session_id: str) -> Append:
    """A commit after the newest of a session."""
    head, (newest,), _ = run(storage, lambda driver: driver.load(session_id, 1, Deadline(30)))
    row = newest._replace(seq=head.revision + 1, commit_id=f"{session_id}-{head.revision + 1}")
    return Append(session_id, head.incarnation, head.revision, (row,), head._replace(revision=row.seq))


def rows_read(database: Database, table: str = "sessile_commits") -> int:
    """How many rows of a table, the log, were read by now, by any index or without one."""
    if not database.is_postgres:
        return 0  # the statement names the index
    database.sql("SELECT pg_stat_clear_snapshot()", "SELECT pg_sleep(0.6)")
    return sum(
        row[0] or 0
        for row in database.sql(
            f"SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = '{table}' "
            f"UNION ALL SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = '{table}'"
        )
    )
