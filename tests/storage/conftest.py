from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessile import MemoryStorage, SqliteStorage, Storage


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=["memory", "sqlite"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    made: Storage = MemoryStorage() if request.param == "memory" else SqliteStorage(tmp_path / "sessions.db")
    with made:
        yield made


@pytest.fixture
def memory() -> Iterator[MemoryStorage]:
    with MemoryStorage() as made:
        yield made


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[SqliteStorage]:
    with SqliteStorage(tmp_path / "sessions.db") as made:
        yield made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


@pytest.fixture
def by_hand(path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(path, isolation_level=None)
    yield connection
    connection.close()
