"""Fixtures of the servers. Each is started when a test first asks for it, once for each process that runs tests.

`TEST_POSTGRES_URL`, `TEST_MARIADB_URL`, `TEST_MYSQL_URL`, `TEST_PGBOUNCER_URL`, `TEST_REDIS_URL`, `TEST_VALKEY_URL`,
`TEST_MONGODB_URL` and `TEST_DYNAMODB_URL` (an endpoint) name servers that run already, with a user who may do all. A
server that cannot be had is a failure in CI, elsewhere a skip that says how to get it.

What asks for `mysql_url` or `own_mysql` runs on MariaDB and on MySQL: `tests/conftest.py` gives `mysql_kind` values.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

import psycopg
import pymongo
import pymysql
import pytest

from sessile.testing import Scale

from .dynamodb import DynoxideServer, MotoServer, drop_tables, url_of, use_test_credentials
from .mariadb import MariaDbServer, MySqlFamilyServer, MySqlServer
from .mongodb import FerretServer
from .objects import FakeGcs, GoFakeS3, ObjectServer, SeaweedS3
from .postgres import PgBouncer, PostgresServer
from .process import Server, ServerFailedError, ServerMissingError
from .redis import RedisCluster, RedisServer, redis_client, remove_keys


@dataclass(frozen=True, slots=True)
class Address:
    """A server that somebody else runs."""

    url: str


@contextmanager
def running(make: Callable[[], Server | RedisCluster]) -> Iterator[Any]:
    """A server for the length of the context; without one the test is skipped, in CI it fails."""
    with ExitStack() as stack:
        try:
            server = stack.enter_context(make())
        except (ServerMissingError, ServerFailedError) as error:
            if os.environ.get("CI") == "true":
                raise
            pytest.skip(str(error))
        yield server


@contextmanager
def given_or_running(variable: str, make: Callable[[], Server]) -> Iterator[Any]:
    """The server that an environment variable names, or else one of our own."""
    if url := os.environ.get(variable):
        yield Address(url)
        return
    with running(make) as server:
        yield server


# ---------------------------------------------------------------- servers that all tests share


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer | Address]:
    """A PostgreSQL server. Tests that stop it take `own_postgres`."""
    with given_or_running("TEST_POSTGRES_URL", PostgresServer) as server:
        yield server


MYSQL_KINDS: dict[str, type[MariaDbServer | MySqlServer]] = {"mariadb": MariaDbServer, "mysql": MySqlServer}


@pytest.fixture(scope="session")
def mysql_kind(request: pytest.FixtureRequest) -> str:
    """Which of the two a test runs on, by the name of the fixture; MariaDB where a test asks for no kind."""
    return getattr(request, "param", "mariadb")


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDbServer | Address]:
    """A MariaDB server. Tests that stop it take `own_mysql`."""
    with given_or_running("TEST_MARIADB_URL", MariaDbServer) as server:
        yield server


@pytest.fixture(scope="session")
def mysql() -> Iterator[MySqlServer | Address]:
    """A MySQL server. Tests that stop it take `own_mysql`."""
    with given_or_running("TEST_MYSQL_URL", MySqlServer) as server:
        yield server


@pytest.fixture(scope="session")
def pgbouncer(postgres: PostgresServer | Address) -> Iterator[PgBouncer | Address]:
    """PgBouncer in transaction mode before `postgres`."""
    if "TEST_PGBOUNCER_URL" not in os.environ and isinstance(postgres, Address):
        pytest.skip("TEST_POSTGRES_URL is set: set TEST_PGBOUNCER_URL too, to a PgBouncer before that server.")
    with given_or_running("TEST_PGBOUNCER_URL", lambda: PgBouncer(postgres)) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer | Address]:
    """A Redis server. Tests that stop it take `own_redis`."""
    with given_or_running("TEST_REDIS_URL", RedisServer) as server:
        yield server


@pytest.fixture(scope="session")
def dynamodb() -> Iterator[DynoxideServer | Address]:
    """A server that speaks DynamoDB's protocol. Tests that stop it take `own_dynamodb`."""
    use_test_credentials()
    with given_or_running("TEST_DYNAMODB_URL", DynoxideServer) as server:
        yield server


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[RedisServer | Address]:
    """A Valkey server."""
    with given_or_running("TEST_VALKEY_URL", lambda: RedisServer("valkey")) as server:
        yield server


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[RedisCluster]:
    """A cluster of three nodes."""
    with running(RedisCluster) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def moto() -> Iterator[MotoServer]:
    """moto's server."""
    with running(MotoServer) as server:
        yield server


@pytest.fixture(scope="session")
def mongodb() -> Iterator[FerretServer | Address]:
    """A server that speaks MongoDB's protocol. Tests that stop it take `own_ferretdb`."""
    with given_or_running("TEST_MONGODB_URL", FerretServer) as server:
        yield server


@pytest.fixture(scope="session")
def s3() -> Iterator[GoFakeS3 | Address]:
    """A server that speaks S3's protocol; `TEST_S3_URL` is a bucket, perhaps with a prefix."""
    with given_or_running("TEST_S3_URL", GoFakeS3) as server:
        yield server


@pytest.fixture(scope="session")
def seaweedfs() -> Iterator[SeaweedS3]:
    """A real server of S3's protocol."""
    with running(SeaweedS3) as server:
        yield server


@pytest.fixture(scope="session")
def s3_kind(request: pytest.FixtureRequest) -> str:
    """Which of the two a test runs on, by the name of the fixture; gofakes3 where a test asks for no kind."""
    return getattr(request, "param", "s3")


@pytest.fixture(scope="session")
def gcs() -> Iterator[FakeGcs | Address]:
    """Google Cloud Storage, or what speaks its protocol; `TEST_GCS_URL` is a bucket, perhaps with a prefix."""
    with given_or_running("TEST_GCS_URL", FakeGcs) as server:
        yield server


# ---------------------------------------------------------------- a database of its own for each test


@contextmanager
def postgres_database(server: PostgresServer | Address) -> Iterator[str]:
    """An empty database on a PostgreSQL server, gone after the context."""
    name = f"test_{secrets.token_hex(6)}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield at_database(server.url, name)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def mysql_database(server: MySqlFamilyServer | Address) -> Iterator[str]:
    """The same on a MariaDB or MySQL server."""
    name = f"test_{secrets.token_hex(6)}"
    with connect_mysql(server.url) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
        yield at_database(server.url, name)
        cursor.execute(f"DROP DATABASE {name}")


@pytest.fixture
def postgres_url(postgres: PostgresServer | Address) -> Iterator[str]:
    """An empty database on `postgres`, gone after the test."""
    with postgres_database(postgres) as url:
        yield url


@pytest.fixture
def pgbouncer_url(pgbouncer: PgBouncer | Address, postgres_url: str) -> str:
    """The database of `postgres_url`, through PgBouncer."""
    return at_database(pgbouncer.url, urlsplit(postgres_url).path[1:])


@pytest.fixture
def mysql_url(mysql_kind: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty database on `mariadb`, and on `mysql`, gone after the test."""
    with mysql_database(request.getfixturevalue(mysql_kind)) as url:
        yield url


@pytest.fixture
def mysql_itself_url(mysql: MySqlServer | Address) -> Iterator[str]:
    """An empty database on `mysql`, gone after the test."""
    with mysql_database(mysql) as url:
        yield url


@pytest.fixture
def redis_url(redis_server: RedisServer | Address) -> Iterator[str]:
    """`redis_server` with a prefix, all of whose keys are gone after the test; a test may make the prefix longer."""
    yield from with_prefix(redis_server.url, redis_client(redis_server.url))


@pytest.fixture
def redis_database_url(redis_server: RedisServer | Address) -> Iterator[str]:
    """An empty database, by its number, on `redis_server`; emptied after the test."""
    for number in range(1, 16):
        url = at_database(redis_server.url, str(number))
        with redis_client(url) as client:
            if client.dbsize() == 0:
                yield url
                client.flushdb()
                return
    pytest.skip("Redis has no empty database but perhaps 0.")


@pytest.fixture
def valkey_url(valkey_server: RedisServer | Address) -> Iterator[str]:
    """`valkey_server` with a prefix, as `redis_url`."""
    yield from with_prefix(valkey_server.url, redis_client(valkey_server.url))


@pytest.fixture
def redis_cluster_url(redis_cluster: RedisCluster) -> Iterator[str]:
    """`redis_cluster` with a prefix, as `redis_url`."""
    yield from with_prefix(redis_cluster.url, redis_cluster.connect())


def with_prefix(url: str, client: Any) -> Iterator[str]:
    """The URL with a prefix at its end; then all keys that begin with it are removed."""
    prefix = f"test:{secrets.token_hex(6)}:"
    yield f"{url}{'&' if '?' in url else '?'}prefix={prefix}"
    remove_keys(client, prefix)
    client.close()


@pytest.fixture
def dynamodb_url(dynamodb: DynoxideServer | Address) -> Iterator[str]:
    """A table that is not there yet on `dynamodb`; after the test all tables whose names begin like its are gone."""
    name = f"test_{secrets.token_hex(6)}"
    yield url_of(dynamodb.url, name)
    drop_tables(dynamodb.url, name)


@pytest.fixture
def moto_url(moto: MotoServer) -> Iterator[str]:
    """A table that is not there yet on moto's server."""
    name = f"test_{secrets.token_hex(6)}"
    yield url_of(moto.url, name)
    drop_tables(moto.url, name)


@pytest.fixture
def mongodb_url(mongodb: FerretServer | Address) -> Iterator[str]:
    """An empty database on `mongodb`, gone after the test."""
    name = f"test_{secrets.token_hex(6)}"
    yield at_database(mongodb.url, name)
    with pymongo.MongoClient[dict[str, Any]](mongodb.url) as client:
        client.drop_database(name)


@contextmanager
def bucket_url(server: ObjectServer | Address) -> Iterator[str]:
    """An empty prefix of a bucket; on a server of ours the bucket is new, and gone after the context."""
    name = f"test-{secrets.token_hex(6)}"
    if isinstance(server, Address):
        bucket, mark, query = server.url.partition("?")
        yield f"{bucket.rstrip('/')}/{name}{mark}{query}"
        return
    server.revive()
    server.make_bucket(name)
    yield server.at(f"{name}/prefix")
    server.remove_bucket(name)


@pytest.fixture
def s3_url(s3_kind: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty prefix on `s3`, and on `seaweedfs`."""
    with bucket_url(request.getfixturevalue(s3_kind)) as url:
        yield url


@pytest.fixture
def seaweedfs_url(seaweedfs: SeaweedS3) -> Iterator[str]:
    """An empty prefix on `seaweedfs`."""
    with bucket_url(seaweedfs) as url:
        yield url


@pytest.fixture
def gcs_url(gcs: FakeGcs | Address) -> Iterator[str]:
    """An empty prefix on `gcs`."""
    with bucket_url(gcs) as url:
        yield url


def at_database(url: str, name: str) -> str:
    """The URL of another database on the same server."""
    return urlsplit(url)._replace(path=f"/{name}").geturl()


def connect_mysql(url: str) -> pymysql.Connection[Any]:
    """A connection to a `mysql://` URL, where each statement is a transaction. Not encrypted: proxies can read it."""
    parts = urlsplit(url)
    return pymysql.connect(
        host=parts.hostname,
        port=parts.port or 3306,
        user=unquote(parts.username or "root"),
        password=unquote(parts.password or ""),
        database=parts.path[1:] or None,
        autocommit=True,
        ssl_disabled=True,  # else it is whatever the server has
    )


# ---------------------------------------------------------------- servers that a test may stop, kill and start again


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server of this test alone, also where `TEST_POSTGRES_URL` is set."""
    with running(PostgresServer) as server:
        yield server


@pytest.fixture
def own_mysql(mysql_kind: str) -> Iterator[MariaDbServer | MySqlServer]:
    """A MariaDB or MySQL server of this test alone, also where variables name others."""
    with running(MYSQL_KINDS[mysql_kind]) as server:
        yield server


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A Redis server of this test alone, also where `TEST_REDIS_URL` is set; it syncs each commit."""
    with running(lambda: RedisServer(settings={"appendfsync": "always"})) as server:
        yield server


@pytest.fixture
def own_dynamodb() -> Iterator[DynoxideServer]:
    """An emulator of this test alone, also where `TEST_DYNAMODB_URL` is set."""
    with running(DynoxideServer) as server:
        yield server


@pytest.fixture
def own_ferretdb() -> Iterator[FerretServer]:
    """A FerretDB of this test alone, also where `TEST_MONGODB_URL` is set."""
    with running(FerretServer) as server:
        yield server


# ---------------------------------------------------------------- campaigns


@pytest.fixture
def scale() -> Scale:
    """How long a campaign is, and by which seed it chooses: the one that the head of the report names."""
    return Scale.from_environment()
