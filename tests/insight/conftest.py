from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

import sessile
from sessile import JsonStorage, MemoryStorage, SqliteStorage, Storage
from sessile.insight import Index

PLACES = ("sqlite", "memory", "json into sqlite", "postgres", "mariadb")
"""Where the log lies; and where the index does, if not beside it."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def fresh(url: str) -> str:
    """The URL of tables of their own on a server."""
    return f"{url}{'&' if '?' in url else '?'}prefix=i{secrets.token_hex(6)}_"


@pytest.fixture(params=PLACES)
def index(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Index]:
    """An index on each database."""
    made, into = storage_at(request, request.param, tmp_path)
    with made, Index(made, into) as index:
        yield index


def storage_at(request: pytest.FixtureRequest, place: str, folder: Path) -> tuple[Storage, str | None]:
    """A new storage, and where its index is to lie."""
    if place == "sqlite":
        return SqliteStorage(folder / "sessions.db", synchronous="NORMAL"), None
    if place == "memory":
        return MemoryStorage(), None
    if place == "json into sqlite":
        return JsonStorage(folder / "sessions"), f"sqlite:///{folder}/index.db"
    server = request.getfixturevalue(place)
    return sessile.open(fresh(server.url)), None


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[SqliteStorage]:
    with SqliteStorage(tmp_path / "sessions.db", synchronous="NORMAL") as made:
        yield made
