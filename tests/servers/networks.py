"""How the campaigns of `sessile.testing` reach the servers."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import urlsplit

import sessile
from sessile.storage import Storage
from sessile.testing import Network
from sessile.testing.proxy import Framing, postgres_messages

TORTURE = "SESSILE_TORTURE" in os.environ

SAMPLES = None if TORTURE else 64
"""At how many bytes of each direction a commit is cut; None: at every one."""

RESTARTS = 200 if TORTURE else 20
"""How often a server is killed."""


def network(url: str, framing: Framing | None, query: str = "", **more: Any) -> Network:
    """The way to the database of a URL. `query` is added to it, `more` are options of the storage."""
    parts = urlsplit(url)
    user = parts.netloc.rpartition("@")[0]

    def connect(host: str, port: int, **options: Any) -> Storage:
        address = parts._replace(netloc=f"{user}@{host}:{port}", query=query or parts.query)
        return sessile.open(address.geturl(), **more, **options)

    return Network(connect, parts.hostname or "127.0.0.1", parts.port or 0, framing)


def postgres_network(url: str, **more: Any) -> Network:
    """PostgreSQL without encryption, so that the proxy sees messages."""
    return network(url, postgres_messages, "sslmode=disable&gssencmode=disable", **more)
