"""`MySQLStorage`: what is particular to MySQL and MariaDB, against a real server."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiomysql
import pytest
from tests.forking import in_child
from tests.mysql.helpers import LOCK_WAITS, database_of, driver_of, inputs, sql, wait_until
from tests.servers.fixtures import connect_mysql
from tests.storage.helpers import hurry

import sessile
from sessile import ANY_USER, MySQLStorage
from sessile.drivers.sql.migrations import SchemaState
from sessile.errors import (
    ClosedError,
    DeadlineError,
    InvalidInputError,
    NewerVersionError,
    ReadOnlyError,
    StorageError,
    StorageUnavailableError,
    TooLargeError,
    UnsupportedError,
)
from sessile.storage.driver import Deadline

# ---------------------------------------------------------------- addresses

SCHEMAS = Path(__file__).parent.parent / "schemas"


def test_addresses(mysql_url: str) -> None:
    with (
        sessile.open(f"{mysql_url}?prefix=x_&pool_size=2") as storage,
        sessile.open(f"{mysql_url}?prefix=x_".replace("mysql:", "mariadb:", 1)) as other,
    ):
        storage.add_run("s", input="a")
        assert [run.input for run in other.runs("s")] == ["a"]
    assert {name for (name,) in sql(mysql_url, "SHOW TABLES")} == {
        f"x_{table}" for table in ("sessions", "commits", "records", "schema")
    }


@pytest.mark.parametrize(
    "make",
    [
        lambda: MySQLStorage("mysql://host"),
        lambda: MySQLStorage("postgresql://host/db"),
        lambda: MySQLStorage("mysql://host:x/db"),
        lambda: MySQLStorage("mysql://host/db?no_such_option=1"),
        lambda: MySQLStorage("mysql://host/db?prefix=mine_"),
        lambda: MySQLStorage(7),  # pyright: ignore[reportArgumentType]
        lambda: MySQLStorage("mysql://host/db", prefix="a-b"),
        lambda: MySQLStorage("mysql://host/db?ssl_ca=/no/such/file"),
        lambda: sessile.open("mysql://host/db?pool_size=many"),
    ],
)
def test_what_is_no_address_is_refused_before_anything_is_done(make: Callable[[], Any]) -> None:
    with pytest.raises(InvalidInputError):
        make()


@pytest.mark.parametrize("asynchronous", [False, True])
def test_errors_never_show_the_password(asynchronous: bool) -> None:
    with MySQLStorage("mysql://ada:geheim@127.0.0.1:1/db") as storage, pytest.raises(StorageUnavailableError) as caught:
        asyncio.run(storage.aget_session("s")) if asynchronous else storage.get_session("s")
    assert "geheim" not in str(caught.value)
    assert "127.0.0.1:1" in str(caught.value)
    assert (caught.value.written, caught.value.retryable) == ("no", True)


# ---------------------------------------------------------------- ids and text


def test_ids_that_collations_take_for_the_same(mysql_url: str) -> None:
    ids = ["a", "A", "ä", "a ", "a  ", "ß", "ss", "æ", "ae", "Ａ", "e\u0301", "é", "🦪", "🦀", "ı", "i", "İ"]
    with MySQLStorage(mysql_url) as storage:
        for session_id in ids:
            storage.add_run(session_id, input=session_id, user_id=session_id, agent=session_id)
            storage.rename(session_id, session_id, user_id=session_id)
        assert storage.count_sessions(user_id=ANY_USER) == len(ids)
        for session_id in ids:
            assert inputs(storage, session_id) == [session_id]
            assert [head.session_id for head in storage.sessions(user_id=session_id)] == [session_id]
            assert [head.session_id for head in storage.sessions(user_id=ANY_USER, agent=session_id)] == [session_id]
        prefixed = storage.sessions(user_id=ANY_USER, name_prefix="a ").items
        assert sorted(head.session_id for head in prefixed) == ["a ", "a  "]


def test_strict_whatever_the_server_is_set_to(mysql_url: str) -> None:
    """Nothing relies on the server's modes: text is never cut off, and backslashes are text."""
    with MySQLStorage(mysql_url) as storage:
        odd = {"a": "\\", "b": "'; DROP TABLE x; --", "c": "\\'", "d": "%s %(x)s", "e": "\0", "f": "\ud800"}
        storage.create_session("s", state=odd, metadata=odd)
        head = storage.get_session("s")
        assert head is not None
        assert (head.state, head.metadata) == (odd, odd)
        assert [item.session_id for item in storage.sessions(metadata={"b": odd["b"]})] == ["s"]


# ---------------------------------------------------------------- schema


def test_eight_processes_that_start_at_once(mysql_url: str) -> None:
    code = "import sys, sessile; s = sessile.open(sys.argv[1]); s.add_run('s', input=1); s.close()"
    children = [subprocess.Popen([sys.executable, "-c", code, mysql_url]) for _ in range(8)]
    assert [child.wait() for child in children] == [0] * 8
    with MySQLStorage(mysql_url) as storage:
        assert storage.verify("s") == 8
        assert storage.migrate() == []
    assert sql(mysql_url, "SELECT version, oldest FROM sessile_schema") == [(2, 2)]


def test_an_interrupted_migration_is_finished_by_the_next_start(mysql_url: str) -> None:
    with MySQLStorage(mysql_url) as storage:
        wanted = storage.migrate(dry_run=True)
    for done in range(1, len(wanted) + 1):
        sql(mysql_url, *wanted[:done])
        with MySQLStorage(mysql_url) as storage:
            storage.add_run("s", input=done)
            assert inputs(storage) == [done]
            storage.delete("s")
        sql(mysql_url, *(f"DROP TABLE sessile_{table}" for table in ("records", "commits", "sessions", "schema")))


def test_a_database_of_a_newer_version_is_refused(mysql_url: str) -> None:
    with MySQLStorage(mysql_url) as storage:
        storage.setup()
    sql(mysql_url, "UPDATE sessile_schema SET version = 9, oldest = 9")
    with MySQLStorage(mysql_url) as storage, pytest.raises(NewerVersionError):
        storage.get_session("s")


def test_a_migration_that_another_process_does_not_finish(mysql_url: str) -> None:
    with connect_mysql(mysql_url) as other, other.cursor() as cursor, MySQLStorage(mysql_url) as storage:
        statements = driver_of(storage).sql
        cursor.execute(statements["lock_migrations"], {"seconds": 1})
        hurry(storage, 1)
        with pytest.raises(StorageUnavailableError, match="did not finish migrating"):
            storage.setup()
        cursor.execute(statements["unlock_migrations"])
        hurry(storage, 30)
        storage.setup()


def test_a_user_who_may_not_create_tables(mysql_url: str) -> None:
    name = database_of(mysql_url)
    parts = urlsplit(mysql_url)
    limited = parts._replace(netloc=f"limited:secret@{parts.hostname}:{parts.port}").geturl()
    user = "'limited'@'%'"
    sql(mysql_url, f"CREATE USER {user} IDENTIFIED BY 'secret'", f"GRANT SELECT ON {name}.* TO {user}")
    try:
        with MySQLStorage(limited) as storage:
            with pytest.raises(ReadOnlyError, match=r"(?s)CREATE command denied.*CREATE TABLE") as caught:
                storage.add_run("s")
            assert caught.value.written == "no"
            missing = storage.migrate(dry_run=True)
        sql(mysql_url, *missing)
        with MySQLStorage(limited) as storage, pytest.raises(ReadOnlyError, match=r"INSERT command denied.*GRANT"):
            storage.add_run("s")
        sql(mysql_url, f"GRANT INSERT, UPDATE, DELETE ON {name}.* TO {user}")
        with MySQLStorage(limited) as storage:
            storage.add_run("s", input="a")
            assert inputs(storage) == ["a"]
            assert storage.delete("s")
    finally:
        sql(mysql_url, f"DROP USER {user}")


def test_tables_are_left_alone_when_the_storage_is_told_so(mysql_url: str) -> None:
    with MySQLStorage(mysql_url, auto_migrate=False) as storage:
        with pytest.raises(StorageError, match=r"(?s)lacks schema version 2.*CREATE TABLE.*sessile migrate"):
            storage.add_run("s")
        storage.migrate()
        storage.add_run("s", input="a")
        assert driver_of(storage)._migrations.to_do(SchemaState(2, 2)) == []


def test_a_migration_of_an_older_database_that_was_interrupted_anywhere(mysql_url: str) -> None:
    """Each change of the schema is committed by itself: whoever comes next passes over what is done."""
    old = (SCHEMAS / "mysql" / "001.sql").read_text(encoding="utf-8").split(";\n")
    with connect_mysql(mysql_url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT VERSION()")
        exact = "utf8mb4_nopad_bin" if "MariaDB" in cursor.fetchall()[0][0] else "utf8mb4_0900_bin"
    with MySQLStorage(mysql_url) as storage:
        steps = [statement for statement in old if statement.startswith(("CREATE", "INSERT INTO sessile_schema"))]
        for done in range(6):
            sql(mysql_url, "DROP TABLE IF EXISTS sessile_records, sessile_commits, sessile_sessions, sessile_schema")
            sql(mysql_url, *(statement.replace("utf8mb4_nopad_bin", exact) for statement in steps))
            statements = storage.migrate(dry_run=True)
            assert len(statements) == 5
            sql(mysql_url, *statements[:done], "SELECT 1")
            storage.migrate()
            assert sql(mysql_url, "SELECT version, oldest FROM sessile_schema") == [(2, 2)]
            storage.add_run("s", input=done)
            assert inputs(storage) == [done]


# ---------------------------------------------------------------- large statements, locks


@pytest.mark.parametrize("asynchronous", [False, True])
def test_what_max_allowed_packet_does_not_let_through_is_not_sent(mysql_url: str, asynchronous: bool) -> None:
    sql(mysql_url, "SET GLOBAL max_allowed_packet = 1048576")
    try:
        with MySQLStorage(mysql_url) as storage:
            storage.add_run("s", input="small")
            big = "ä" * 600_000
            with pytest.raises(TooLargeError, match=r"max_allowed_packet.*1,048,576 bytes") as caught:
                asyncio.run(storage.aadd_run("s", input=big)) if asynchronous else storage.add_run("s", input=big)
            assert caught.value.written == "no"
            storage.add_run("s", input="small again")
            assert inputs(storage) == ["small", "small again"]
    finally:
        sql(mysql_url, "SET GLOBAL max_allowed_packet = 16777216")


def test_a_deadlock_ends_the_applications_transaction(mysql_url: str) -> None:
    """Two transactions lock sessions in different orders; the application's loses, and must be repeated whole."""
    with MySQLStorage(mysql_url) as storage, connect_mysql(mysql_url) as other, other.cursor() as cursor:
        storage.create_session("a")
        storage.create_session("b")
        cursor.execute("START TRANSACTION")
        cursor.execute("SELECT 1 FROM sessile_sessions WHERE session_id = 'a' FOR UPDATE")
        for number in range(200):  # so that the server chooses the other one as the victim
            cursor.execute("INSERT INTO sessile_schema VALUES (%s, 0)", (number + 10,))
        mine = connect_mysql(mysql_url)
        ours = MySQLStorage(mine)
        mine.begin()
        ours.rename("b", "mine")
        failures: list[StorageError] = []

        def close_the_circle() -> None:
            try:
                ours.rename("a", "mine")
            except StorageError as error:
                failures.append(error)

        thread = threading.Thread(target=close_the_circle)
        thread.start()
        wait_until(lambda: sql(mysql_url, LOCK_WAITS) != [(0,)])
        cursor.execute("SELECT 1 FROM sessile_sessions WHERE session_id = 'b' FOR UPDATE")
        thread.join()
        assert len(failures) == 1
        assert (failures[0].written, failures[0].retryable) == ("no", False)
        assert "Roll the transaction back" in str(failures[0])
        other.rollback()
        mine.rollback()
        mine.close()
        head = storage.rename("a", "after all")
        assert head.name == "after all"


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_lock_that_is_not_released(mysql_url: str, asynchronous: bool) -> None:
    with MySQLStorage(mysql_url) as storage, connect_mysql(mysql_url) as other, other.cursor() as cursor:
        storage.create_session("s")
        hurry(storage, 2)
        cursor.execute("START TRANSACTION")
        cursor.execute("SELECT 1 FROM sessile_sessions FOR UPDATE")
        with pytest.raises((DeadlineError, StorageUnavailableError)) as caught:
            asyncio.run(storage.arename("s", "x")) if asynchronous else storage.rename("s", "x")
        other.rollback()
        hurry(storage, 30)
        assert storage.rename("s", "y").name == "y"
        names = [entry.data["name"] for entry in storage.entries("s") if entry.kind == "session.renamed"]
        assert names in ([["y"]] if caught.value.written == "no" else [["y"], ["x", "y"]])


# ---------------------------------------------------------------- the application's own transaction


def test_a_run_is_stored_with_the_applications_own_rows(mysql_url: str) -> None:
    sql(mysql_url, "CREATE TABLE orders (id INT PRIMARY KEY) ENGINE = InnoDB")
    connection = connect_mysql(mysql_url)
    with MySQLStorage(mysql_url) as storage, connection.cursor() as cursor:
        storage.add_run("s", input="before")
        ours = MySQLStorage(connection)
        for outcome in ("rolled back", "committed"):
            connection.begin()
            cursor.execute("INSERT INTO orders VALUES (1)")
            ours.add_run("s", input=outcome)
            ours.add_run("new", input=outcome)
            assert inputs(ours) == ["before", outcome]
            assert inputs(storage) == ["before"]
            connection.rollback() if outcome == "rolled back" else connection.commit()
        ours.close()
        assert connection.open
        assert inputs(storage) == ["before", "committed"]
        assert inputs(storage, "new") == ["committed"]
        assert storage.delete("new")
    connection.close()
    assert sql(mysql_url, "SELECT id FROM orders") == [(1,)]


async def test_the_applications_asynchronous_transaction(mysql_url: str) -> None:
    parts = urlsplit(mysql_url)
    connection = await aiomysql.connect(
        host=parts.hostname or "", port=parts.port or 0, user=parts.username, db=database_of(mysql_url)
    )
    async with MySQLStorage(mysql_url) as storage:
        await storage.asetup()
        ours = MySQLStorage(connection)
        await connection.begin()
        await ours.aadd_run("s", input="a")
        assert await storage.aget_session("s") is None
        with pytest.raises(UnsupportedError, match="another event loop"):
            await asyncio.to_thread(ours.runs, "s")
        await connection.commit()
        assert [run.input for run in await storage.aruns("s")] == ["a"]
    connection.close()


# ---------------------------------------------------------------- connections


def test_idle_connections_that_the_server_has_closed(mysql_url: str) -> None:
    def cut() -> None:
        name = database_of(mysql_url)
        own = "SELECT id FROM information_schema.processlist WHERE db = '%s' AND id <> CONNECTION_ID()"
        for (number,) in sql(mysql_url, own % name):
            sql(mysql_url, f"KILL {number}")

    with MySQLStorage(mysql_url) as storage:
        storage.add_run("s", input=1)
        cut()
        assert inputs(storage) == [1]
        cut()
        storage.add_run("s", input=2)
        assert inputs(storage) == [1, 2]

        async def turn() -> None:
            await storage.aadd_run("s", input=3)
            cut()
            assert len(await storage.aruns("s")) == 3
            await storage.aclose()

        asyncio.run(turn())


def test_an_exhausted_pool(mysql_url: str) -> None:
    with MySQLStorage(mysql_url, pool_size=1) as storage:
        storage.add_run("s")
        hurry(storage, 0.5)
        pool = driver_of(storage).port._pool
        connection = pool.acquire(Deadline(5))
        with pytest.raises(StorageUnavailableError, match="All 1 connections of the pool were in use"):
            storage.get_session("s")
        pool.release(connection)
        hurry(storage, 30)
        assert storage.get_session("s") is not None


def test_a_forked_child_has_connections_of_its_own(mysql_url: str) -> None:
    with MySQLStorage(mysql_url) as storage:
        storage.add_run("s", input="parent")
        assert in_child(lambda: storage.add_run("s", input="child")) == 0
        storage.add_run("s", input="parent again")
        assert inputs(storage) == ["parent", "child", "parent again"]


def test_several_event_loops_and_threads(mysql_url: str) -> None:
    with MySQLStorage(mysql_url) as storage:

        async def turns(name: str) -> None:
            for number in range(5):
                await storage.aadd_run("s", input=f"{name}{number}")

        threads = [threading.Thread(target=lambda n=n: asyncio.run(turns(n))) for n in "ab"]
        threads += [threading.Thread(target=lambda: [storage.add_run("s", input=i) for i in range(5)])]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert storage.verify("s") == 15


async def test_a_cancelled_task_leaves_a_sound_pool(mysql_url: str) -> None:
    async with MySQLStorage(mysql_url, pool_size=1) as storage:
        await storage.acreate_session("s")
        with connect_mysql(mysql_url) as other, other.cursor() as cursor:
            cursor.execute("START TRANSACTION")
            cursor.execute("SELECT 1 FROM sessile_sessions FOR UPDATE")
            task = asyncio.create_task(storage.arename("s", "x"))
            await asyncio.to_thread(wait_until, lambda: sql(mysql_url, LOCK_WAITS) != [(0,)])
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            other.rollback()
        assert (await storage.arename("s", "y")).name == "y"


def test_a_closed_storage(mysql_url: str) -> None:
    storage = MySQLStorage(mysql_url)
    storage.add_run("s")
    storage.close()
    with pytest.raises(ClosedError):
        storage.get_session("s")
    storage.close()
