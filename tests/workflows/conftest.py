from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.workflows.calls import Calls

pytest.importorskip("pydantic_ai")

from sessile import ANY_USER, SqliteStorage


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


@pytest.fixture
def storage(path: Path) -> Iterator[SqliteStorage]:
    with SqliteStorage(path) as made:
        yield made
        for head in made.sessions(user_id=ANY_USER, limit=1000):
            made.verify(head.session_id, user_id=ANY_USER)


@pytest.fixture
def calls() -> Calls:
    return Calls()
