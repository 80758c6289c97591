"""`MongoDbStorage` when connections break and servers go away."""

from __future__ import annotations

import pytest
from tests.servers import FerretServer
from tests.servers.networks import READ_SAMPLES, RESTARTS, SAMPLES, check, mongodb_network

from sessile.testing import Scale, run_absent, run_cuts, run_exhausted, run_failover, run_read_cuts, run_restarts


def test_cuts_anywhere_in_a_commit(mongodb_url: str, scale: Scale, capsys: pytest.CaptureFixture[str]) -> None:
    check(run_cuts(mongodb_network(mongodb_url), scale, samples=SAMPLES), capsys)


def test_cuts_anywhere_in_a_read(mongodb_url: str, scale: Scale) -> None:
    run_read_cuts(mongodb_network(mongodb_url), scale, samples=READ_SAMPLES).check()


def test_a_server_that_is_not_there_at_first_use(mongodb_url: str) -> None:
    run_absent(mongodb_network(mongodb_url))


def test_an_exhausted_pool(mongodb_url: str) -> None:
    run_exhausted(mongodb_network(mongodb_url, "maxPoolSize=2"), pool_size=2)


def test_restarts_while_many_write(
    own_ferretdb: FerretServer, scale: Scale, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = run_restarts(mongodb_network(own_ferretdb.url), own_ferretdb, scale, restarts=RESTARTS)
    check(figures, capsys)
    assert figures.rounds == RESTARTS


def test_failover_to_another_address(own_ferretdb: FerretServer, scale: Scale) -> None:
    """The server comes back at another address."""

    def fail_over() -> tuple[str, int]:
        own_ferretdb.move()
        return "127.0.0.1", own_ferretdb.port

    run_failover(mongodb_network(own_ferretdb.url), fail_over, scale).check()
