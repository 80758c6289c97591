"""`MySQLStorage` when connections break and servers go away."""

from __future__ import annotations

import pytest
from tests.servers import MySqlFamilyServer
from tests.servers.networks import READ_SAMPLES, RESTARTS, SAMPLES, check, mysql_network

from sessile.testing import Scale, run_absent, run_cuts, run_exhausted, run_failover, run_read_cuts, run_restarts


def test_cuts_anywhere_in_a_commit(mysql_url: str, scale: Scale, capsys: pytest.CaptureFixture[str]) -> None:
    check(run_cuts(mysql_network(mysql_url), scale, samples=SAMPLES), capsys)


def test_cuts_anywhere_in_a_read(mysql_url: str, scale: Scale) -> None:
    run_read_cuts(mysql_network(mysql_url), scale, samples=READ_SAMPLES).check()


def test_a_server_that_is_not_there_at_first_use(mysql_url: str) -> None:
    run_absent(mysql_network(mysql_url))


def test_an_exhausted_pool(mysql_url: str) -> None:
    run_exhausted(mysql_network(mysql_url, pool_size=2), pool_size=2)


def test_restarts_while_many_write(
    own_mysql: MySqlFamilyServer, scale: Scale, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = run_restarts(mysql_network(own_mysql.url), own_mysql, scale, restarts=RESTARTS)
    check(figures, capsys)
    assert figures.rounds == RESTARTS


def test_failover_to_another_address(own_mysql: MySqlFamilyServer, scale: Scale) -> None:
    """The server comes back at another address."""

    def fail_over() -> tuple[str, int]:
        own_mysql.move()
        return "127.0.0.1", own_mysql.port

    run_failover(mysql_network(own_mysql.url), fail_over, scale).check()
