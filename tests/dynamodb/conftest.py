"""Storages on an emulator, directly and through a proxy that spoils answers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.dynamodb.proxy import FaultyProxy
from tests.servers.dynamodb import endpoint_of, table_of, url_of

import sessile
from sessile.storage import Storage


@pytest.fixture
def storage(dynamodb_url: str) -> Iterator[Storage]:
    with sessile.open(dynamodb_url) as made:
        yield made


@pytest.fixture
def proxy(dynamodb_url: str) -> Iterator[FaultyProxy]:
    with FaultyProxy(endpoint_of(dynamodb_url)) as made:
        yield made


@pytest.fixture
def through(dynamodb_url: str, proxy: FaultyProxy) -> Iterator[Storage]:
    """A storage that reaches the emulator through the proxy, with its table made."""
    with sessile.open(url_of(proxy.url, table_of(dynamodb_url))) as made:
        made.setup()
        proxy.seen.clear()
        yield made
