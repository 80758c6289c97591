"""`PostgresStorage`: what is particular to PostgreSQL, against a real server."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from tests.forking import in_child
from tests.servers.fixtures import Address
from tests.servers.postgres import PgBouncer, PostgresServer
from tests.storage.helpers import hurry

import sessile
from sessile import ANY_USER, PostgresStorage
from sessile.errors import (
    ClosedError,
    DeadlineError,
    InvalidInputError,
    NewerVersionError,
    ReadOnlyError,
    StorageError,
    StorageUnavailableError,
)
from sessile.records import Entry
from sessile.storage.driver import Deadline
from sessile.storage.extending import operate


def inputs(storage: PostgresStorage, session_id: str = "s") -> list[Any]:
    return [run.input for run in storage.runs(session_id)]


def sql(url: str, statement: str) -> list[tuple[Any, ...]]:
    """Run a statement by hand."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def driver_of(storage: PostgresStorage) -> Any:
    """The driver of synchronous callers."""
    assert storage._core is not None
    return storage._core.driver


def as_user(url: str, user: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=f"{user}@{parts.hostname}:{parts.port}").geturl()


# ---------------------------------------------------------------- addresses


def test_addresses(postgres_url: str) -> None:
    fields = psycopg.conninfo.conninfo_to_dict(postgres_url)
    with PostgresStorage(psycopg.conninfo.make_conninfo(**fields)) as storage:
        storage.add_run("s", input="a")
    url = f"{postgres_url}?application_name=mine&prefix=sessile_&pool_size=2"
    with sessile.open(url) as storage, sessile.open(url.replace("postgresql", "postgres", 1)) as other:
        assert [run.input for run in storage.runs("s")] == ["a"]
        assert other.get_session("s") is not None
        names = sql(postgres_url, "SELECT application_name FROM pg_stat_activity WHERE application_name = 'mine'")
        assert names


def test_options_of_libpqs_in_an_address(postgres_url: str) -> None:
    """They arrive as they are written, also in an address without a host."""
    fields = psycopg.conninfo.conninfo_to_dict(postgres_url)
    where = f"host={fields['host']}&port={fields['port']}&user={fields['user']}"
    options = "options=-c%20search_path%3Delsewhere&application_name=a+b%26c"
    sql(postgres_url, "CREATE SCHEMA elsewhere")
    with sessile.open(f"postgresql:///{fields['dbname']}?{where}&{options}&prefix=%78_") as storage:
        storage.setup()
        names = sql(postgres_url, "SELECT 1 FROM pg_stat_activity WHERE application_name = 'a+b&c'")
        assert names == [(1,)]
    tables = sql(postgres_url, "SELECT schemaname FROM pg_tables WHERE tablename = 'x_sessions'")
    assert tables == [("elsewhere",)]


@pytest.mark.parametrize(
    "make",
    [
        lambda: PostgresStorage("postgresql://host/db?no_such_parameter=1"),
        lambda: PostgresStorage(7),  # pyright: ignore[reportArgumentType]
        lambda: PostgresStorage("dbname=x", prefix="a-b"),
        lambda: PostgresStorage("dbname=x", schema='x"; DROP TABLE y; --'),
        lambda: PostgresStorage("dbname=x", pool_size=0),
        lambda: sessile.open("postgresql://host/db?pool_size=many"),
    ],
)
def test_what_is_no_address_is_refused_before_anything_is_done(make: Callable[[], Any]) -> None:
    with pytest.raises(InvalidInputError):
        make()


def test_errors_never_show_the_password() -> None:
    with (
        PostgresStorage("postgresql://ada:geheim@127.0.0.1:1/db") as storage,
        pytest.raises(StorageUnavailableError) as caught,
    ):
        storage.get_session("s")
    assert "geheim" not in str(caught.value)
    assert "127.0.0.1:1" in str(caught.value)
    assert (caught.value.written, caught.value.retryable) == ("no", True)


# ---------------------------------------------------------------- schema


def test_schema_and_prefix_of_the_users_choice(postgres_url: str) -> None:
    with (
        PostgresStorage(postgres_url, schema="Apps", prefix="x_") as one,
        PostgresStorage(postgres_url, schema="Apps", prefix="y_") as other,
    ):
        one.add_run("s", input="one")
        other.add_run("s", input="other")
        assert inputs(one) == ["one"]
    tables = sql(postgres_url, "SELECT schemaname, tablename FROM pg_tables WHERE schemaname !~ '^(pg_|information)'")
    assert {schema for schema, _ in tables} == {"Apps"}
    assert {name for _, name in tables} == {
        f"{prefix}_{table}" for prefix in "xy" for table in ("sessions", "commits", "records", "schema")
    }


def test_prefixes_that_differ_in_case_only(postgres_url: str) -> None:
    with PostgresStorage(postgres_url, prefix="App_") as one, PostgresStorage(postgres_url, prefix="app_") as other:
        one.add_run("s", input="one")
        other.add_run("s", input="other")
        assert inputs(one) == ["one"]


def test_eight_processes_that_start_at_once(postgres_url: str) -> None:
    """Whatever isolation the database gives to transactions."""
    name = urlsplit(postgres_url).path[1:]
    sql(postgres_url, f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")
    code = "import sys, sessile; s = sessile.open(sys.argv[1]); s.add_run('s', input=1); s.close()"
    children = [subprocess.Popen([sys.executable, "-c", code, postgres_url]) for _ in range(8)]
    assert [child.wait() for child in children] == [0] * 8
    with PostgresStorage(postgres_url) as storage:
        assert storage.verify("s") == 8
        assert storage.migrate() == []
    assert sql(postgres_url, "SELECT version, oldest FROM sessile_schema") == [(2, 2)]


def test_a_database_of_a_newer_version_is_refused(postgres_url: str) -> None:
    with PostgresStorage(postgres_url) as storage:
        storage.setup()
    sql(postgres_url, "UPDATE sessile_schema SET version = 9, oldest = 9")
    with PostgresStorage(postgres_url) as storage, pytest.raises(NewerVersionError):
        storage.get_session("s")


def test_a_user_who_may_not_create_tables(postgres_url: str) -> None:
    """It hears which statement is missing; when another one has run it, everything works."""
    limited = as_user(postgres_url, "limited")
    sql(
        postgres_url,
        "DROP ROLE IF EXISTS limited; CREATE ROLE limited LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC",
    )
    try:
        with PostgresStorage(limited) as storage:
            with pytest.raises(ReadOnlyError, match=r"permission denied.* CREATE TABLE") as caught:
                storage.add_run("s")
            assert caught.value.written == "no"
            missing = storage.migrate(dry_run=True)
        sql(postgres_url, ";".join([*missing, "GRANT SELECT ON sessile_schema TO limited"]))
        with PostgresStorage(limited) as storage, pytest.raises(ReadOnlyError, match=r"sessile_sessions.*GRANT"):
            storage.add_run("s")
        sql(postgres_url, "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO limited")
        with PostgresStorage(limited) as storage:
            storage.add_run("s", input="a")
            assert inputs(storage) == ["a"]
            assert storage.delete("s")
    finally:
        sql(postgres_url, "DROP OWNED BY limited; DROP ROLE limited")


def test_tables_are_left_alone_when_the_storage_is_told_so(postgres_url: str) -> None:
    with PostgresStorage(postgres_url, auto_migrate=False) as storage:
        with pytest.raises(StorageError, match=r"(?s)lacks schema version 2.*CREATE TABLE.*sessile migrate"):
            storage.add_run("s")
        assert storage.migrate(dry_run=True) == storage.migrate()
        storage.add_run("s", input="a")
        assert inputs(storage) == ["a"]


def test_statements_that_somebody_else_runs(postgres_url: str) -> None:
    """They are all that is missing, with the schema to begin with and the version in the end."""
    with PostgresStorage(postgres_url, schema="agents", auto_migrate=False) as storage:
        with pytest.raises(StorageError, match='CREATE SCHEMA "agents"'):
            storage.add_run("s")
        for statement in storage.migrate(dry_run=True):
            sql(postgres_url, statement)
        assert storage.migrate(dry_run=True) == []
        storage.add_run("s", input="a")
        assert inputs(storage) == ["a"]


# ---------------------------------------------------------------- text


def test_text_that_postgresql_cannot_hold(postgres_url: str) -> None:
    odd = {"nul \0": "\0", "surrogate": "\ud800", "\udfff": 1, "escaped \\u0000": "\\u0000", "deep": [{"a": "\0"}]}
    with PostgresStorage(postgres_url) as storage:
        storage.create_session("s", state=odd, metadata={**odd, "plain": "x"})
        storage.add_run("s", input=odd, format="test/1", messages=[odd])
        head = storage.get_session("s")
        assert head is not None
        assert head.state == odd
        assert head.metadata == {**odd, "plain": "x"}
        assert storage.messages("s")[0].data == odd
        for found in ({"plain": "x"}, {"escaped \\u0000": "\\u0000"}):
            assert [item.session_id for item in storage.sessions(metadata=found)] == ["s"]
        assert len(storage.sessions(metadata_keys=["surrogate", "deep", "plain"])) == 1


def test_metadata_filters_use_their_index(postgres_url: str) -> None:
    with PostgresStorage(postgres_url) as storage:
        for number in range(50):
            storage.create_session(f"s{number}", metadata={"n": number})
        assert [item.session_id for item in storage.sessions(metadata={"n": 7})] == ["s7"]
    with psycopg.connect(postgres_url) as connection:
        connection.execute("SET enable_seqscan = off")
        plan = connection.execute(
            "EXPLAIN SELECT session_id FROM sessile_sessions WHERE filterable @> '{\"n\": 7}'::jsonb"
        ).fetchall()
    assert any("sessile_sessions_metadata" in line for (line,) in plan)


# ---------------------------------------------------------------- poolers and replicas


@pytest.mark.parametrize("prepare", [None, False])
def test_through_pgbouncer_in_transaction_mode(pgbouncer_url: str, prepare: bool | None) -> None:
    """The statements of one storage spread over the pooler's connections, often enough to be prepared."""
    with PostgresStorage(pgbouncer_url, prepare=prepare, pool_size=4) as storage:
        threads = [
            threading.Thread(target=lambda: [storage.add_run("s", input=i) for i in range(12)]) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert storage.verify("s") == 48

        async def turns() -> None:
            for number in range(12):
                await storage.aadd_run("s", input=number)
            await storage.aclose()

        asyncio.run(turns())


def test_followers_behind_a_pooler(pgbouncer_url: str, postgres_url: str) -> None:
    """They poll, or listen past it."""
    for listen_url in (None, postgres_url):
        with PostgresStorage(pgbouncer_url, listen_url=listen_url) as storage:
            assert follow_one(storage, storage.add_run) == "run.started"


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_pooler_that_has_no_server_for_us(
    pgbouncer: PgBouncer | Address, pgbouncer_url: str, asynchronous: bool
) -> None:
    """It lets clients in, and then lets them wait: the deadline ends that, also before the first statement."""
    if isinstance(pgbouncer, Address):
        pytest.skip("Only a PgBouncer of our own can be paused.")
    name = urlsplit(pgbouncer_url).path[1:]
    sql(pgbouncer_url, "SELECT 1")
    with psycopg.connect(pgbouncer.admin_url, autocommit=True, cursor_factory=psycopg.ClientCursor) as admin:
        admin.execute(f"PAUSE {name}".encode())
        storage = PostgresStorage(pgbouncer_url, timeout=1)
        with pytest.raises(StorageUnavailableError, match="no answer in time") as caught:
            asyncio.run(storage.aadd_run("s")) if asynchronous else storage.add_run("s")
        assert caught.value.written == "no"
        admin.execute(f"RESUME {name}".encode())
        storage.add_run("s", input="a")
        assert inputs(storage) == ["a"]
        storage.close()


def test_lists_from_a_replica(own_postgres: PostgresServer) -> None:
    replica = PostgresServer(replica_of=own_postgres)
    replica.start()
    try:
        with PostgresStorage(own_postgres.url, replica_url=replica.url) as storage:
            assert not storage.capabilities.exact_order
            storage.add_run("s", input="a")
            wait_until(lambda: sql(replica.url, "SELECT 1 FROM pg_class WHERE relname = 'sessile_records'") != [])
            wait_until(lambda: storage.count_sessions() == 1)
            assert [head.session_id for head in storage.sessions()] == ["s"]
            sql(replica.url, "SELECT pg_wal_replay_pause()")
            storage.add_run("late", user_id="ada")
            assert storage.count_sessions(user_id=ANY_USER) == 1
            assert storage.delete_user("ada") == 1  # misses nothing
            assert storage.get_session("late", user_id=ANY_USER) is None
            replica.stop()
            assert inputs(storage) == ["a"]
            with pytest.raises(StorageUnavailableError):
                storage.sessions()
        replica.start()
        with PostgresStorage(replica.url) as storage:
            assert inputs(storage) == ["a"]
            with pytest.raises(ReadOnlyError, match="name the primary") as caught:
                operate(storage, append_once)
            assert caught.value.written == "no"
    finally:
        replica.close()


async def append_once(core: Any) -> None:
    """An append that is not tried again."""
    await core.driver.put_record("s", "x", "key", b"", Deadline(5))


def wait_until(condition: Callable[[], bool]) -> None:
    while not condition():
        threading.Event().wait(0.05)


# ---------------------------------------------------------------- following


def follow_one(storage: PostgresStorage, write: Callable[[str], Any]) -> str:
    """The kind of the first entry that a follower sees of what is written while it waits."""
    storage.create_session("f")
    head = storage.get_session("f")
    assert head is not None
    seen: list[Entry] = []
    thread = threading.Thread(target=lambda: seen.append(next(storage.follow("f", after=head.revision))))
    thread.start()
    write("f")
    thread.join()
    storage.delete("f")
    return seen[0].kind


def test_followers_are_woken_and_others_cost_no_announcement(postgres_url: str) -> None:
    with PostgresStorage(postgres_url) as storage, psycopg.connect(postgres_url, autocommit=True) as watcher:
        storage.create_session("s")
        watcher.execute(f"LISTEN {driver_of(storage)._channel}".encode())
        storage.add_run("s")
        assert list(watcher.notifies(timeout=0.2)) == []
        assert follow_one(storage, storage.add_run) == "run.started"
        assert len(list(watcher.notifies(timeout=60, stop_after=1))) >= 1


def test_followers_where_nobody_listens(postgres_url: str) -> None:
    """An address for announcements that does not answer is not tried again at every look: followers poll."""
    accepted: list[Any] = []

    def refuse(server: socket.socket) -> None:
        while True:
            try:
                connection, address = server.accept()
            except OSError:
                return
            accepted.append(address)
            connection.close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=refuse, args=(server,), daemon=True).start()
        listen_url = f"postgresql://127.0.0.1:{server.getsockname()[1]}/nobody"
        with PostgresStorage(postgres_url, listen_url=listen_url) as storage:
            for _ in range(3):
                assert follow_one(storage, storage.add_run) == "run.started"
        server.shutdown(socket.SHUT_RDWR)
    assert len(accepted) <= 2  # libpq may try with encryption, and without


async def test_many_followers_share_one_connection(postgres_url: str) -> None:
    async with PostgresStorage(postgres_url, pool_size=2) as storage:
        for number in range(20):
            await storage.acreate_session(f"s{number}")

        async def follow(session_id: str) -> Entry:
            return await anext(storage.afollow(session_id, after=1))

        tasks = [asyncio.create_task(follow(f"s{number}")) for number in range(20)]
        waiting = "SELECT count(*) FROM sessile_sessions WHERE followed_until > 0"
        await asyncio.to_thread(wait_until, lambda: sql(postgres_url, waiting) == [(20,)])
        name = urlsplit(postgres_url).path[1:]
        count = sql(postgres_url, f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}'")
        assert count[0][0] <= 2 + 1 + 1
        for number in range(20):
            await storage.arename(f"s{number}", "x")
        assert {entry.kind for entry in await asyncio.gather(*tasks)} == {"session.renamed"}


def test_a_follower_survives_the_loss_of_its_connection(postgres_url: str) -> None:
    with PostgresStorage(postgres_url) as storage:

        def cut_and_write(session_id: str) -> None:
            wait_until(lambda: sql(postgres_url, "SELECT 1 FROM sessile_sessions WHERE followed_until > 0") != [])
            sql(postgres_url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'")
            storage.add_run(session_id)

        assert follow_one(storage, cut_and_write) == "run.started"


# ---------------------------------------------------------------- the application's own transaction


def test_a_run_is_stored_with_the_applications_own_rows(postgres_url: str) -> None:
    sql(postgres_url, "CREATE TABLE orders (id int PRIMARY KEY)")
    with PostgresStorage(postgres_url) as storage, psycopg.connect(postgres_url) as connection:
        storage.add_run("s", input="before")
        ours = PostgresStorage(connection)
        for outcome in ("rolled back", "committed"):
            connection.execute("INSERT INTO orders VALUES (1)")
            ours.add_run("s", input=outcome)
            ours.add_run("new", input=outcome)
            assert inputs(ours) == ["before", outcome]
            assert inputs(storage) == ["before"]
            connection.rollback() if outcome == "rolled back" else connection.commit()
        ours.close()
        assert not connection.closed
        assert inputs(storage) == ["before", "committed"]
        assert inputs(storage, "new") == ["committed"]
        assert storage.verify("s") == 2
    assert sql(postgres_url, "SELECT id FROM orders") == [(1,)]


async def test_the_applications_asynchronous_transaction(postgres_url: str) -> None:
    async with (
        PostgresStorage(postgres_url) as storage,
        await psycopg.AsyncConnection.connect(postgres_url) as connection,
    ):
        await storage.asetup()
        ours = PostgresStorage(connection)
        await ours.aadd_run("s", input="a")
        assert await storage.aget_session("s") is None
        await connection.commit()
        assert [run.input for run in await storage.aruns("s")] == ["a"]


def test_an_error_spoils_the_applications_transaction_and_says_so(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        storage = PostgresStorage(connection)
        with pytest.raises(StorageError, match="lacks schema version 2"):
            storage.add_run("s")
        storage.migrate()
        storage.add_run("s", input="a")
        with pytest.raises(psycopg.errors.DivisionByZero):
            connection.execute("SELECT 1 / 0")
        with pytest.raises(StorageError, match="Roll the transaction back") as caught:
            storage.add_run("s")
        assert not caught.value.retryable


# ---------------------------------------------------------------- connections


def test_a_forked_child_has_connections_of_its_own(postgres_url: str) -> None:
    with PostgresStorage(postgres_url) as storage:
        storage.add_run("s", input="parent")
        assert in_child(lambda: storage.add_run("s", input="child")) == 0
        storage.add_run("s", input="parent again")
        assert inputs(storage) == ["parent", "child", "parent again"]


def test_a_database_that_cannot_hold_all_text_is_refused(postgres_url: str) -> None:
    sql(postgres_url, "CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    try:
        url = urlsplit(postgres_url)._replace(path="/latin").geturl()
        with PostgresStorage(url) as storage, pytest.raises(StorageError, match="LATIN1"):
            storage.setup()
    finally:
        sql(postgres_url, "DROP DATABASE latin WITH (FORCE)")


def test_idle_connections_that_the_server_has_closed(postgres_url: str) -> None:
    with PostgresStorage(postgres_url) as storage:
        storage.add_run("s", input=1)
        name = urlsplit(postgres_url).path[1:]
        ours = f"datname = '{name}' AND pid <> pg_backend_pid()"
        cut = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {ours}"
        sql(postgres_url, cut)
        assert inputs(storage) == [1]
        sql(postgres_url, cut)
        storage.add_run("s", input=2)
        assert inputs(storage) == [1, 2]

        async def turn() -> None:
            await storage.aadd_run("s", input=3)
            sql(postgres_url, cut)
            assert len(await storage.aruns("s")) == 3
            await storage.aclose()

        asyncio.run(turn())


def test_an_exhausted_pool(postgres_url: str) -> None:
    with PostgresStorage(postgres_url, pool_size=1) as storage:
        storage.add_run("s")
        hurry(storage, 0.5)
        pool = driver_of(storage).port._pool
        connection = pool.acquire(Deadline(5))
        with pytest.raises(
            StorageUnavailableError, match=r"All 1 connections of the pool were in use for 0\.5 s"
        ) as caught:
            storage.get_session("s")
        assert caught.value.retryable
        pool.release(connection)
        hurry(storage, 30)
        assert storage.get_session("s") is not None


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_statement_that_does_not_end(postgres_url: str, asynchronous: bool) -> None:
    """Another transaction holds the session's row: the deadline ends the wait, and nothing was written."""
    with PostgresStorage(postgres_url) as storage, psycopg.connect(postgres_url) as other:
        storage.create_session("s")
        hurry(storage, 1)
        other.execute("SELECT 1 FROM sessile_sessions FOR UPDATE")
        with pytest.raises(DeadlineError) as caught:
            asyncio.run(storage.arename("s", "x")) if asynchronous else storage.rename("s", "x")
        assert caught.value.written == "unknown"
        other.rollback()
        hurry(storage, 30)
        head = storage.get_session("s")
        assert head is not None
        assert head.name is None  # the statement was cancelled, not only abandoned


def test_a_closed_storage(postgres_url: str) -> None:
    storage = PostgresStorage(postgres_url)
    storage.add_run("s")
    storage.close()
    with pytest.raises(ClosedError):
        storage.get_session("s")
    storage.close()


async def test_a_cancelled_task_leaves_a_sound_pool(postgres_url: str) -> None:
    async with PostgresStorage(postgres_url, pool_size=1) as storage:
        await storage.acreate_session("s")
        with psycopg.connect(postgres_url) as other:
            other.execute("SELECT 1 FROM sessile_sessions FOR UPDATE")
            task = asyncio.create_task(storage.arename("s", "x"))
            blocked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            await asyncio.to_thread(wait_until, lambda: sql(postgres_url, blocked) != [(0,)])
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            other.rollback()
        assert (await storage.arename("s", "y")).name == "y"


def test_of_all_commands_only_migrate_makes_tables(postgres_url: str) -> None:
    def command(name: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "sessile", name, postgres_url], capture_output=True, text=True)

    done = command("sessions")
    assert (done.returncode, done.stdout) == (1, "")
    assert "`sessile migrate`" in done.stderr
    assert len(done.stderr.splitlines()) == 2
    assert command("migrate").returncode == 0
    assert command("sessions").returncode == 0
