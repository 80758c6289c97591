"""Connections that are cut, grow old or are too few: what is done about them, and that it is counted and logged."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from sessile.errors import InvalidInputError
from sessile.storage import Storage

from .helpers import Database, driver_of

PIDS = {
    True: "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
    False: "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()",
}
WAITS = {
    True: "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()",
    False: "SELECT trx_mysql_thread_id FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'",
}


def pids(database: Database, statement: dict[bool, str] = PIDS) -> set[int]:
    return {pid for (pid,) in database.sql(statement[database.is_postgres])}


def cut(database: Database, *numbers: int) -> None:
    for number in numbers:
        database.sql(f"SELECT pg_terminate_backend({number})" if database.is_postgres else f"KILL {number}")


def counts(storage: Storage) -> dict[str, int]:
    return driver_of(storage).stats.counts()


def wait_until(condition: Callable[[], Any]) -> None:
    """Ask until it is so; seldom enough for InnoDB, which tells what it told before to who asks within 0.1 s."""
    while not condition():
        time.sleep(0.15)


class Locked:
    """Holds the row of session "s"; whoever commits to it waits."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def __enter__(self) -> None:
        import psycopg
        from tests.servers.fixtures import connect_mysql

        connect: Any = psycopg.connect if self.database.is_postgres else connect_mysql
        self.connection = connect(self.database.address)
        cursor = self.connection.cursor()
        cursor.execute("BEGIN")
        cursor.execute("SELECT 1 FROM sessile_sessions WHERE session_id = 's' FOR UPDATE")

    def __exit__(self, *_: object) -> None:
        self.connection.rollback()
        self.connection.close()


def test_a_connection_that_was_cut(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sessile")
    with database.open() as storage:
        storage.add_run("s", input="a")
        assert counts(storage) == {}
        cut(database, *pids(database))
        assert [run.input for run in storage.runs("s")] == ["a"]
        assert counts(storage)["retries"] == 1
        assert counts(storage)["reconnects"] == 1
    said = [record.message for record in caplog.records]
    assert any("is tried again" in text for text in said)
    assert any("in place of one that was cut" in text for text in said)


def test_an_answer_that_was_lost(database: Database) -> None:
    """The core finds out whether it was written. SQLAlchemy's transaction had not come to its end, which is known."""
    with database.open() as storage:
        storage.create_session("s")
        with Locked(database):
            writer = threading.Thread(target=storage.add_run, args=("s",), kwargs={"input": "once"})
            writer.start()
            wait_until(lambda: pids(database, WAITS))
            cut(database, *pids(database, WAITS))
            wait_until(lambda: counts(storage).get("retries", 0) or not writer.is_alive())
        writer.join()
        assert [run.input for run in storage.runs("s")] == ["once"]
        assert (counts(storage).get("unknown_answers", 0) > 0) is not database.by_engine


def test_connections_grow_old(database: Database) -> None:
    with database.open(max_connection_age=0.3) as storage:
        storage.add_run("s", input=1)
        before = pids(database)
        time.sleep(0.4)
        storage.add_run("s", input=2)
        storage.add_run("s", input=3)
        assert len(before) == 1
        assert not before & pids(database)
        assert [run.input for run in storage.runs("s")] == [1, 2, 3]
        assert counts(storage)["reconnects"] >= 1
    with database.open() as storage:
        storage.add_run("s", input=4)
        before = pids(database)
        storage.add_run("s", input=5)
        assert pids(database) == before
        assert "reconnects" not in counts(storage)


def test_a_connection_is_too_old_when_it_comes_back(database: Database) -> None:
    """It is replaced by the one that whoever comes next makes, also if nobody had to wait for it to be idle."""
    with database.open(max_connection_age=0.3) as storage:
        storage.create_session("s")
        with Locked(database):
            writer = threading.Thread(target=storage.add_run, args=("s",))
            writer.start()
            wait_until(lambda: pids(database, WAITS))
            [old] = pids(database, WAITS)
            time.sleep(0.4)
        writer.join()
        storage.runs("s")
        wait_until(lambda: old not in pids(database))


def test_ages_differ() -> None:
    """Connections that were made at once do not end at once."""
    from sessile.drivers.sql.pool import jittered

    ages = [jittered(3600) for _ in range(1000)]
    assert 3240 <= min(ages) < 3300
    assert 3900 < max(ages) <= 3960


@pytest.mark.parametrize("age", [0, -1, "1h", True, float("nan")])
def test_ages_that_are_refused(database: Database, age: Any) -> None:
    with pytest.raises(InvalidInputError, match="max_connection_age"):
        database.open(max_connection_age=age)


def test_the_age_in_an_address(database: Database) -> None:
    import sessile

    with sessile.open(f"{database.address}?max_connection_age=0.1&pool_size=2") as storage:
        storage.add_run("s")
        before = pids(database)
        time.sleep(0.2)
        storage.runs("s")
        assert not before & pids(database)
    with pytest.raises(InvalidInputError, match="max_connection_age"):
        sessile.open(f"{database.address}?max_connection_age=soon")


def test_waits_for_a_connection(database: Database) -> None:
    few: dict[str, Any] = {"engine_options": {"pool_size": 1, "max_overflow": 0}} if database.by_engine else {}
    with database.open(**few or {"pool_size": 1}) as storage:
        storage.create_session("s")
        with Locked(database):
            writer = threading.Thread(target=storage.add_run, args=("s",))
            writer.start()
            wait_until(lambda: pids(database, WAITS))
            reader = threading.Thread(target=storage.runs, args=("s",))
            reader.start()
            wait_until(lambda: counts(storage).get("pool_waits", 0))
        writer.join()
        reader.join()
        assert counts(storage)["pool_waits"] == 1


def test_waits_of_tasks(postgres_url: str) -> None:
    import sessile

    async def turns() -> dict[str, int]:
        async with sessile.open(postgres_url, pool_size=1) as storage:
            await storage.acreate_session("s")
            await asyncio.gather(*(storage.aruns("s") for _ in range(5)))
            [core] = storage._loop_cores.values()
            return core.driver.stats.counts()

    assert asyncio.run(turns())["pool_waits"] >= 1


def test_event_loops_that_have_ended_leave_no_connections(database: Database) -> None:
    """Also where nothing collects garbage: the server must not run out of connections."""

    async def write(storage: Storage) -> None:
        await asyncio.gather(*(storage.aadd_run(f"s{number}", input=number) for number in range(3)))

    with database.open() as storage:
        storage.setup()
        gc.disable()
        try:
            before = len(pids(database))
            asyncio.run(write(storage))
            asyncio.run(write(storage))
            most = before + 3 if database.by_engine else before  # an engine's are for all threads and loops
            wait_until(lambda: len(pids(database)) <= most)
        finally:
            gc.enable()
        assert len(storage.runs("s0")) == 2
