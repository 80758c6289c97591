"""The servers for the tests do what tests rely on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psycopg
import pymongo
import pymysql
import pytest
from tests.servers import (
    DynoxideServer,
    FerretServer,
    MariaDbServer,
    MySqlFamilyServer,
    PgBouncer,
    PostgresServer,
    RedisServer,
)
from tests.servers.dynamodb import dynamodb_client
from tests.servers.fixtures import connect_mysql, running
from tests.servers.process import Server, is_running
from tests.servers.redis import redis_client

KEEP = "CREATE TABLE kept (id INT PRIMARY KEY)"


def test_postgres_survives_restart_and_kill(own_postgres: PostgresServer) -> None:
    with own_postgres.connect() as connection:
        connection.execute(KEEP)
        connection.execute("INSERT INTO kept VALUES (1)")
        own_postgres.restart()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    with own_postgres.connect() as connection:
        connection.execute("INSERT INTO kept VALUES (2)")
        own_postgres.kill()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError):
        own_postgres.connect()
    own_postgres.start()
    with own_postgres.connect() as connection:
        assert connection.execute("SELECT id FROM kept ORDER BY id").fetchall() == [(1,), (2,)]


def test_mysql_survives_restart_and_kill(own_mysql: MySqlFamilyServer) -> None:
    with own_mysql.connect() as connection, connection.cursor() as cursor:
        cursor.execute(KEEP)
        cursor.execute("INSERT INTO kept VALUES (1)")
    own_mysql.restart()
    with own_mysql.connect() as connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO kept VALUES (2)")
        own_mysql.kill()
        with pytest.raises(pymysql.OperationalError):
            cursor.execute("SELECT 1")
    own_mysql.start()
    with own_mysql.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT id FROM kept ORDER BY id")
        assert cursor.fetchall() == ((1,), (2,))


def test_redis_survives_kill(own_redis: RedisServer) -> None:
    with own_redis.connect() as client:
        client.set("kept", 1)
    own_redis.kill()
    own_redis.start()
    with own_redis.connect() as client:
        assert client.get("kept") == b"1"


def test_dynoxide_survives_restart_and_kill(own_dynamodb: DynoxideServer) -> None:
    client = dynamodb_client(own_dynamodb.url)
    key = [{"AttributeName": "id", "KeyType": "HASH"}]
    attributes = [{"AttributeName": "id", "AttributeType": "N"}]
    client.create_table(TableName="kept", KeySchema=key, AttributeDefinitions=attributes, BillingMode="PAY_PER_REQUEST")
    client.put_item(TableName="kept", Item={"id": {"N": "1"}})
    own_dynamodb.restart()
    client.put_item(TableName="kept", Item={"id": {"N": "2"}})
    own_dynamodb.kill()
    own_dynamodb.start()
    assert client.scan(TableName="kept")["Count"] == 2


def test_acknowledged_means_on_disk(postgres_url: str, mysql_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            assert connection.execute(f"SHOW {setting}").fetchone() == ("on",)
    with connect_mysql(mysql_url) as mysql, mysql.cursor() as cursor:
        cursor.execute("SELECT @@innodb_flush_log_at_trx_commit, @@innodb_doublewrite")
        assert tuple(map(str, cursor.fetchone() or ())) in [("1", "1"), ("1", "ON")]


def test_ferretdb_survives_restart_and_kill(own_ferretdb: FerretServer) -> None:
    with own_ferretdb.connect() as client:
        kept = client.get_default_database()["kept"]
        kept.insert_one({"_id": 1})
        own_ferretdb.restart()
        kept.insert_one({"_id": 2})
        own_ferretdb.kill()
        own_ferretdb.start()
        assert [document["_id"] for document in kept.find(sort=[("_id", 1)])] == [1, 2]


def test_a_replica_follows_and_is_promoted(own_postgres: PostgresServer) -> None:
    with own_postgres.connect() as connection:
        connection.execute(KEEP)
    with running(lambda: PostgresServer(replica_of=own_postgres)) as replica:
        with own_postgres.connect() as connection:
            connection.execute("INSERT INTO kept VALUES (1)")
        replica.catch_up()
        with replica.connect() as connection:
            assert connection.execute("SELECT id FROM kept").fetchall() == [(1,)]
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                connection.execute("INSERT INTO kept VALUES (2)")
        own_postgres.kill()
        replica.promote()
        with replica.connect() as connection:
            connection.execute("INSERT INTO kept VALUES (2)")
            assert connection.execute("SELECT id FROM kept ORDER BY id").fetchall() == [(1,), (2,)]


def test_a_bouncer_passes_queries_of_many_clients(pgbouncer_url: str, postgres_url: str) -> None:
    clients = [psycopg.connect(pgbouncer_url, autocommit=True, prepare_threshold=None) for _ in range(30)]
    try:
        clients[0].execute(KEEP)
        for number, client in enumerate(clients):
            client.execute("INSERT INTO kept VALUES (%s)", (number,))
    finally:
        for client in clients:
            client.close()
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (30,)


def test_a_bouncer_reconnects_to_a_restarted_server(own_postgres: PostgresServer) -> None:
    with running(lambda: PgBouncer(own_postgres)) as bouncer:
        psycopg.connect(bouncer.url).close()
        own_postgres.restart()
        bouncer.restart()
        with psycopg.connect(bouncer.url) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_each_test_has_an_empty_database(postgres_url: str, mysql_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)
    with connect_mysql(mysql_url) as mysql, mysql.cursor() as cursor:
        cursor.execute("SHOW TABLES")
        assert cursor.fetchall() == ()


@pytest.mark.parametrize("kind", [PostgresServer, MariaDbServer])
def test_a_server_that_does_not_start_shows_its_log(kind: type[PostgresServer | MariaDbServer]) -> None:
    with running(kind) as server:
        server.stop()
        marker = server.data / ("postgresql.conf" if kind is PostgresServer else "ibdata1")
        marker.write_text("damaged")
        with pytest.raises(Exception, match=r"(?s)did not start: it ended with code .*(contains errors|ibdata1)"):
            server.start()


def test_closing_leaves_nothing() -> None:
    with running(PostgresServer) as server:
        assert server.folder.exists()
    assert not server.folder.exists()
    assert not server.running


def test_a_killed_run_leaves_nothing() -> None:
    """Servers end, and their folders go, with the process that started them, however it ends."""
    code = """
        import signal
        from tests.servers import PostgresServer
        server = PostgresServer()
        server.start()
        print(server._process.pid, server.folder, flush=True)
        signal.pause()
    """
    with running(PostgresServer):
        pass  # it can be had on this machine
    program = "\n".join(line.strip() for line in code.splitlines())
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid, folder = process.stdout.readline().split()
        process.kill()
    while is_running(int(pid)) or Path(folder).exists():
        time.sleep(0.01)


def test_services_print_addresses_and_stop_on_ctrl_c(
    postgres: object,
    mariadb: object,
    mysql: object,
    pgbouncer: object,
    redis_server: object,
    valkey_server: object,
    dynamodb: object,
    mongodb: object,
    s3: object,
    gcs: object,
) -> None:
    with subprocess.Popen([sys.executable, "-m", "tests.servers"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(10)]
        urls = dict(line.removeprefix("export ").strip().split("=", 1) for line in lines)
        for name in ("TEST_POSTGRES_URL", "TEST_PGBOUNCER_URL"):
            psycopg.connect(urls[name]).close()
        for name in ("TEST_MARIADB_URL", "TEST_MYSQL_URL"):
            connect_mysql(urls[name]).close()
        for name in ("TEST_REDIS_URL", "TEST_VALKEY_URL"):
            redis_client(urls[name]).ping()
        dynamodb_client(urls["TEST_DYNAMODB_URL"]).list_tables()
        with pymongo.MongoClient[dict[str, Any]](urls["TEST_MONGODB_URL"]) as client:
            client.admin.command("ping")
        os.kill(process.pid, signal.SIGINT)
    assert process.returncode == 0
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(urls["TEST_POSTGRES_URL"])


def test_without_its_programs_a_server_is_a_failure_in_ci_and_else_a_skip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.servers.mariadb.find_program", lambda *_: None)

    def ask() -> Server:
        with running(MariaDbServer) as server:
            return server

    monkeypatch.setenv("CI", "true")
    with pytest.raises(Exception, match="apt-get install mariadb-server-core"):
        ask()
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match="apt-get install mariadb-server-core"):
        ask()
