"""How the campaigns of `sessile.testing` reach the servers."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from pymongo import common

import sessile
from sessile.storage import Storage
from sessile.testing import Figures, Network
from sessile.testing.proxy import (
    Framing,
    http_messages,
    mongodb_messages,
    mongodb_monitoring,
    mysql_messages,
    postgres_messages,
    redis_messages,
)

from .dynamodb import endpoint_of, table_of, url_of

TORTURE = "SESSILE_TORTURE" in os.environ

SAMPLES = None if TORTURE else 8
"""At how many bytes of each direction a commit is cut; None: at every one."""

READ_SAMPLES = None if TORTURE else 5
"""The same for a read."""

RESTARTS = 200 if TORTURE else 10
"""How often a server is killed."""


def check(figures: Figures, capsys: pytest.CaptureFixture[str]) -> None:
    """Print what a campaign has done, and fail if anything was wrong."""
    with capsys.disabled():
        print(f"{figures.rounds} rounds, {figures.acknowledged} acknowledged, {figures.lost} lost,", end=" ")
        print(f"{figures.doubled} doubled, {figures.seconds:.0f} s")
    figures.check()


def network(url: str, framing: Framing | None, query: str = "", scheme: str | None = None, **more: Any) -> Network:
    """The way to the database of a URL. `query` is added to it, `scheme` another driver; `more` are the storage's."""
    parts = urlsplit(url)
    user = "".join(parts.netloc.rpartition("@")[:2])

    def connect(host: str, port: int, **options: Any) -> Storage:
        address = parts._replace(netloc=f"{user}{host}:{port}", query=query or parts.query)
        own, _, rest = address.geturl().partition(":")
        return sessile.open(f"{scheme or own}:{rest}", **more, **options)

    return Network(connect, parts.hostname or "127.0.0.1", parts.port or 0, framing)


def postgres_network(url: str, **more: Any) -> Network:
    """PostgreSQL without encryption, so that the proxy sees messages."""
    return network(url, postgres_messages, "sslmode=disable&gssencmode=disable", **more)


def mysql_network(url: str, **more: Any) -> Network:
    """MySQL or MariaDB."""
    return network(url, mysql_messages, **more)


def redis_network(url: str, **more: Any) -> Network:
    """Redis or Valkey."""
    return network(url, redis_messages, **more)


def dynamodb_network(url: str, **more: Any) -> Network:
    """A table of DynamoDB's at an endpoint without encryption; `more` are options of the storage."""
    parts = urlsplit(endpoint_of(url))

    def connect(host: str, port: int, **options: Any) -> Storage:
        return sessile.open(url_of(f"http://{host}:{port}", table_of(url)), **more, **options)

    return Network(connect, parts.hostname or "127.0.0.1", parts.port or 80, http_messages)


def mongodb_network(url: str, query: str = "", **more: Any) -> Network:
    """MongoDB, or what speaks its protocol.

    PyMongo looks for a lost server at most twice a second, which only makes campaigns long; here it looks more often.
    """
    common.MIN_HEARTBEAT_INTERVAL = 0.01
    return replace(network(url, mongodb_messages, query, **more), monitoring=mongodb_monitoring)


def objects_network(url: str, **more: Any) -> Network:
    """A bucket at an endpoint without encryption; `more` are options of the storage."""
    endpoint = urlsplit(dict(parse_qsl(urlsplit(url).query))["endpoint"])

    def connect(host: str, port: int, **options: Any) -> Storage:
        return sessile.open(url, endpoint=f"http://{host}:{port}", **more, **options)

    return Network(connect, endpoint.hostname or "127.0.0.1", endpoint.port or 80, http_messages)
