"""`SqlAlchemyStorage` when connections break and servers go away. The databases' own drivers run the long campaigns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.servers import MySqlFamilyServer, PostgresServer
from tests.servers.networks import TORTURE, check, mysql_network, postgres_network

from sessile.storage import Storage
from sessile.testing import Network, Scale, run_absent, run_cuts, run_exhausted, run_read_cuts, run_restarts

SAMPLES = None if TORTURE else 0  # message boundaries only
RESTARTS = 200 if TORTURE else 3


def postgres(url: str, driver: str = "psycopg", **options: Any) -> Network:
    """A campaign compares with what a blocking driver sees, whose synchronous face works on every thread."""
    network = postgres_network(url, scheme=f"sqlalchemy+postgresql+{driver}", **options)
    blocking = postgres_network(url, scheme="sqlalchemy+postgresql+psycopg", **options)

    def connect(host: str, port: int, **options: Any) -> Storage:
        return (blocking if port == network.port else network).connect(host, port, **options)

    return replace(network, connect=connect)


def mysql(url: str, **options: Any) -> Network:
    return mysql_network(url, scheme="sqlalchemy+mysql+pymysql", **options)


@pytest.mark.parametrize("driver", ["psycopg", "psycopg_async"])
def test_cuts_on_postgresql(postgres_url: str, driver: str, scale: Scale, capsys: pytest.CaptureFixture[str]) -> None:
    check(run_cuts(postgres(postgres_url, driver), scale, samples=SAMPLES), capsys)


def test_cuts_on_mysql(mysql_url: str, scale: Scale, capsys: pytest.CaptureFixture[str]) -> None:
    check(run_cuts(mysql(mysql_url), scale, samples=SAMPLES), capsys)


def test_cuts_in_reads(postgres_url: str, mysql_url: str, scale: Scale) -> None:
    run_read_cuts(postgres(postgres_url), scale, samples=SAMPLES).check()
    run_read_cuts(mysql(mysql_url), scale, samples=SAMPLES).check()


def test_a_server_that_is_not_there_at_first_use(postgres_url: str, mysql_url: str) -> None:
    run_absent(postgres(postgres_url))
    run_absent(mysql(mysql_url))


def test_an_exhausted_pool(postgres_url: str) -> None:
    few = {"pool_size": 2, "max_overflow": 0}
    run_exhausted(postgres(postgres_url, "psycopg_async", engine_options=few), pool_size=2)


def test_restarts_of_postgresql(own_postgres: PostgresServer, scale: Scale, capsys: pytest.CaptureFixture[str]) -> None:
    check(run_restarts(postgres(own_postgres.url), own_postgres, scale, restarts=RESTARTS), capsys)


def test_restarts_of_mysql(own_mysql: MySqlFamilyServer, scale: Scale, capsys: pytest.CaptureFixture[str]) -> None:
    check(run_restarts(mysql(own_mysql.url), own_mysql, scale, restarts=RESTARTS), capsys)
