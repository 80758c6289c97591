"""`MySQLStorage` on servers of all kinds of settings, and on ones that do not answer."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from sqlalchemy import create_engine
from tests.forking import forked
from tests.mysql.helpers import LOCK_WAITS, driver_of, inputs, sql, wait_until
from tests.servers import MySqlFamilyServer
from tests.servers.certificates import write_certificate
from tests.servers.fixtures import MYSQL_KINDS, connect_mysql, running

from sessile import MySQLStorage, SqlAlchemyStorage
from sessile.errors import DeadlineError, StorageUnavailableError
from sessile.storage.driver import Deadline
from sessile.storage.faces import step

SLEEPING = "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'SELECT SLEEP%'"


@contextmanager
def setting(url: str, name: str, value: object) -> Iterator[None]:
    """A global setting of the server, for the length of the context."""
    ((before,),) = sql(url, f"SELECT @@GLOBAL.{name}")
    sql(url, f"SET GLOBAL {name} = {value}")
    try:
        yield
    finally:
        sql(url, f"SET GLOBAL {name} = {before!r}")


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_server_whose_commit_begins_the_next_transaction(mysql_url: str, asynchronous: bool) -> None:
    """`completion_type = CHAIN`: what a connection wrote next would never be committed."""
    with setting(mysql_url, "completion_type", "'CHAIN'"):
        storage = MySQLStorage(mysql_url)

        async def write() -> None:
            await storage.aadd_run("s", input="a")
            await storage.acancel_run("s", 1)
            await storage.aclose()

        if asynchronous:
            asyncio.run(write())
        else:
            storage.add_run("s", input="a")
        with MySQLStorage(mysql_url) as other:
            assert inputs(other) == ["a"]
            driver, (incarnation,) = driver_of(other), sql(mysql_url, "SELECT incarnation FROM sessile_sessions")[0]
            assert step(driver.put_record("s", incarnation, "k", b"v", Deadline(5)))
            assert sql(mysql_url, "SELECT COUNT(*) FROM sessile_records WHERE `key` = 'k'") == [(1,)]
        storage.close()


def test_servers_that_take_only_tables_with_a_primary_key(own_mysql: MySqlFamilyServer) -> None:
    name = "innodb_force_primary_key" if own_mysql.is_mariadb else "sql_require_primary_key"
    with (
        setting(own_mysql.url, name, "ON" if own_mysql.is_mariadb else "1"),
        MySQLStorage(own_mysql.url) as storage,
    ):
        storage.add_run("s", input="a")
        assert storage.migrate() == []


def test_records_are_no_larger_than_the_server_takes(mysql_url: str) -> None:
    with setting(mysql_url, "max_allowed_packet", 1024 * 1024), MySQLStorage(mysql_url) as storage:
        storage.create_session("s")
        largest = storage.capabilities.max_record_bytes
        assert 400_000 < largest < 600_000
        (incarnation,) = sql(mysql_url, "SELECT incarnation FROM sessile_sessions")[0]
        value = os.urandom(largest)
        assert step(driver_of(storage).put_record("s", incarnation, "'" * 255, value, Deadline(5)))
        assert step(driver_of(storage).get_record("s", incarnation, "'" * 255, Deadline(5))) == value


def test_the_clock_does_not_go_back_when_summer_ends(mysql_kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In New York, 1:30 comes twice on the second of November 2025."""
    monkeypatch.setenv("TZ", "America/New_York")
    with running(MYSQL_KINDS[mysql_kind]) as server, MySQLStorage(server.url) as storage:
        storage.create_session("s")
        connection = connect_mysql(server.url)
        engine = create_engine(server.url.replace("mysql:", "mysql+pymysql:"))
        SqlAlchemyStorage(engine, prefix="sa_").create_session("s")
        for moment in (1_762_061_400, 1_762_065_000):  # 1:30 of summer, 1:30 of winter
            with connection.cursor() as cursor:
                cursor.execute(f"SET timestamp = {moment}.25")
            with engine.connect() as borrowed:
                borrowed.exec_driver_sql(f"SET timestamp = {moment}.25")
                for ours in (MySQLStorage(connection), SqlAlchemyStorage(borrowed, prefix="sa_")):
                    loaded = step(driver_of(ours).load("s", 0, Deadline(5)))
                    assert loaded is not None
                    assert loaded.now == moment * 1_000_000 + 250_000
        connection.close()
        engine.dispose()


# ---------------------------------------------------------------- deadlocks


def test_a_deadlock_is_tried_again(mysql_url: str) -> None:
    """Somebody holds what our commit needs second, and asks for what it has locked first."""
    with MySQLStorage(mysql_url) as storage, connect_mysql(mysql_url) as other, other.cursor() as cursor:
        storage.create_session("s")
        other.begin()
        cursor.execute(
            "INSERT INTO sessile_commits SELECT session_id, incarnation, 2, 'x', 0, 0, '', NULL FROM sessile_sessions"
        )
        for number in range(200):  # so that the server chooses the other one as the victim
            cursor.execute("INSERT INTO sessile_schema VALUES (%s, 0)", (number + 10,))
        names: list[Any] = []
        thread = threading.Thread(target=lambda: names.append(storage.rename("s", "y").name))
        thread.start()
        wait_until(lambda: sql(mysql_url, LOCK_WAITS) != [(0,)])
        # Our transaction has this row while it waits: it is free only after a deadlock.
        cursor.execute("SELECT revision FROM sessile_sessions FOR UPDATE")
        assert cursor.fetchall() == ((1,),)
        other.rollback()
        thread.join()
        assert names == ["y"]
        assert storage.verify("s") == 2


# ---------------------------------------------------------------- time


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_statement_has_what_is_left_of_its_deadline_and_is_stopped(mysql_url: str, asynchronous: bool) -> None:
    """The server does not go on with what nobody waits for."""
    storage = MySQLStorage(mysql_url, timeout=60)

    async def late(driver: Any) -> None:
        deadline = Deadline(60)
        deadline._at = time.monotonic() + 0.5
        with pytest.raises(DeadlineError, match="Sleeping on MySQL"):
            await driver.port.read("Sleeping", "SELECT SLEEP(50)", {}, deadline)

    async def run() -> None:
        await storage.asetup()
        await late(storage._loop_cores[asyncio.get_running_loop()].driver)
        assert await storage.aget_session("s") is None
        await storage.aclose()

    if asynchronous:
        asyncio.run(run())
    else:
        storage.setup()
        step(late(driver_of(storage)))
        assert storage.get_session("s") is None
    wait_until(lambda: sql(mysql_url, SLEEPING) == [(0,)])
    storage.close()


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_server_that_accepts_and_says_nothing(asynchronous: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        storage = MySQLStorage(f"mysql://root@127.0.0.1:{silent.getsockname()[1]}/db", timeout=1)
        with pytest.raises(StorageUnavailableError, match="Connecting to MySQL at") as caught:
            asyncio.run(storage.aget_session("s")) if asynchronous else storage.get_session("s")
        assert caught.value.written == "no"
        storage.close()


class Late(Deadline):
    """A deadline that has nearly passed when somebody says so."""

    over = False

    def remaining(self) -> float:
        return 0.05 if self.over else 60.0


def test_the_making_of_a_connection_has_one_deadline(mysql_url: str) -> None:
    """A server that answers the first packet late, and the next one never, is not given that time for each of them."""
    deadline = Late(60)
    parts = urlsplit(mysql_url)
    given_up: list[bytes] = []

    def serve() -> None:
        client, _ = listener.accept()
        with client, socket.create_connection((parts.hostname, parts.port)) as server:
            hello = server.recv(4096)
            deadline.over = True
            client.sendall(hello)
            client.settimeout(20)
            while True:
                given_up.append(client.recv(4096))  # raises if the client waits on
                if not given_up[-1]:
                    return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        storage = MySQLStorage(f"mysql://root@127.0.0.1:{listener.getsockname()[1]}/db")
        with pytest.raises(StorageUnavailableError, match="Connecting to"):
            driver_of(storage).port._connect(deadline)
        thread.join()
    assert given_up[-1] == b""


# ---------------------------------------------------------------- forks


def test_a_fork_leaves_the_connections_of_the_parents_event_loop_alone(mysql_url: str) -> None:
    storage = MySQLStorage(mysql_url, timeout=10)

    async def run() -> None:
        await storage.aadd_run("s", input="parent")
        child = forked(gc.collect)
        await asyncio.to_thread(os.waitpid, child, 0)
        await storage.aadd_run("s", input="parent again")
        assert [run.input for run in await storage.aruns("s")] == ["parent", "parent again"]
        await storage.aclose()

    asyncio.run(run())


# ---------------------------------------------------------------- encryption


@contextmanager
def encrypted_server(kind: str) -> Iterator[MySqlFamilyServer]:
    """A server with a certificate."""
    with running(MYSQL_KINDS[kind]) as server:
        write_certificate(server.folder)
        for name in ("cert.pem", "key.pem"):
            (server.folder / name).chmod(0o644)
        server.own_settings += [f"--ssl-cert={server.folder}/cert.pem", f"--ssl-key={server.folder}/key.pem"]
        server.restart()
        yield server


def connect_both_ways(url: str) -> Iterator[Callable[[], Any]]:
    """Use a storage of this URL through each face."""

    async def asynchronously() -> None:
        async with MySQLStorage(url, timeout=10) as storage:
            await storage.aadd_run("s", input="a")

    def synchronously() -> None:
        with MySQLStorage(url, timeout=10) as storage:
            storage.add_run("s", input="a")

    yield synchronously
    yield lambda: asyncio.run(asynchronously())


def test_encryption(mysql_kind: str) -> None:
    with encrypted_server(mysql_kind) as server:
        for use in connect_both_ways(f"{server.url}?ssl_ca={server.folder}/cert.pem"):
            use()
        for use in connect_both_ways(f"{server.url}?ssl=true"):
            with pytest.raises(StorageUnavailableError, match="certificate"):
                use()
        sql(server.url, "CREATE USER 'tls'@'127.0.0.1' REQUIRE SSL", "GRANT ALL ON *.* TO 'tls'@'127.0.0.1'")
        for use in connect_both_ways(server.url.replace("root@", "tls@") + f"?ssl_ca={server.folder}/cert.pem"):
            use()


def test_what_was_asked_to_be_encrypted_is_never_sent_in_the_clear(mysql_url: str) -> None:
    if sql(mysql_url, "SHOW VARIABLES LIKE 'have_ssl'") != [("have_ssl", "DISABLED")]:
        pytest.skip("This server offers encryption.")
    assert ssl.HAS_TLSv1_2
    for use in connect_both_ways(f"{mysql_url}?ssl=true"):
        with pytest.raises(StorageUnavailableError, match="SSL is required"):
            use()
