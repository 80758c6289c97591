"""`DynamoDbStorage` when connections break and the server goes away."""

from __future__ import annotations

from functools import partial
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.servers import DynoxideServer
from tests.servers.dynamodb import endpoint_of, table_of, url_of
from tests.servers.networks import TORTURE, check

import sessile
from sessile.storage import Storage
from sessile.testing import Network, Scale, run_absent, run_cuts, run_restarts

SAMPLES = None if TORTURE else 12
RESTARTS = 100 if TORTURE else 10


def connect(host: str, port: int, *, table: str, **options: Any) -> Storage:
    return sessile.open(url_of(f"http://{host}:{port}", table), **options)


def network(url: str) -> Network:
    parts = urlsplit(endpoint_of(url))
    return Network(partial(connect, table=table_of(url)), parts.hostname or "", parts.port or 80)


def test_cuts_anywhere_in_a_commit(dynamodb_url: str, scale: Scale, capsys: pytest.CaptureFixture[str]) -> None:
    check(run_cuts(network(dynamodb_url), scale, samples=SAMPLES), capsys)


def test_a_server_that_is_not_there_at_first_use(dynamodb_url: str) -> None:
    run_absent(network(dynamodb_url))


def test_restarts_while_many_write(
    own_dynamodb: DynoxideServer, scale: Scale, capsys: pytest.CaptureFixture[str]
) -> None:
    """The emulator is killed in the midst of commits, and started again on its data."""
    figures = run_restarts(network(url_of(own_dynamodb.url, "sessile")), own_dynamodb, scale, restarts=RESTARTS)
    check(figures, capsys)
    assert figures.rounds == RESTARTS
