"""Storages on each kind of database, and a source with sessions of all shapes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import sessile
from sessile import MemoryStorage, SqliteStorage, Storage

from .helpers import fill

SERVERS = ("postgres_url", "mysql_url", "redis_url", "mongodb_url", "dynamodb_url", "s3_url")


@pytest.fixture(params=("sqlite", "json", "memory", *SERVERS))
def other(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    """A storage on each kind of database."""
    name: str = request.param
    if name == "memory":
        url = "memory://"
    else:
        url = request.getfixturevalue(name) if name.endswith("_url") else f"{name}:///{tmp_path}/other"
    with sessile.open(url) as made:
        yield made


@pytest.fixture
def source(tmp_path: Path) -> Iterator[SqliteStorage]:
    with SqliteStorage(tmp_path / "source.db", synchronous="NORMAL") as made:
        yield made


@pytest.fixture
def filled(source: SqliteStorage) -> SqliteStorage:
    """The source with sessions of all shapes."""
    fill(source)
    return source


@pytest.fixture
def target() -> Iterator[MemoryStorage]:
    with MemoryStorage() as made:
        yield made
