"""Put under the framework's own tests: its SQLite savers are ours, over the storage that SESSILE_URL names."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import langgraph.checkpoint.sqlite
import langgraph.checkpoint.sqlite.aio

import sessile
from sessile.integrations.langgraph import SessileSaver

os.environ["NO_DOCKER"] = "true"
_whole = sessile.open(os.environ["SESSILE_URL"])


class Saver(SessileSaver):
    """Each connection is a space of its own."""

    @classmethod
    @contextmanager
    def from_conn_string(cls, conn_string: str) -> Iterator[Saver]:
        yield cls(_whole.for_user(secrets.token_hex(8)))


class AsyncSaver(SessileSaver):
    """The same for asynchronous tests."""

    @classmethod
    @asynccontextmanager
    async def from_conn_string(cls, conn_string: str) -> AsyncIterator[AsyncSaver]:
        yield cls(_whole.for_user(secrets.token_hex(8)))


langgraph.checkpoint.sqlite.SqliteSaver = Saver  # type: ignore[misc, assignment]
langgraph.checkpoint.sqlite.aio.AsyncSqliteSaver = AsyncSaver  # type: ignore[misc, assignment]
