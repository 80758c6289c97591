"""On which databases the frameworks are tested: SQLite and PostgreSQL; with SESSILE_TORTURE=1 also on others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.campaigns import TORTURE
from tests.frameworks.helpers import close_server

FIRST = ["sqlite", "postgres"]
OTHERS = ["json", "redis", "mongodb", "dynamodb"]


@pytest.fixture(params=[*FIRST, *(OTHERS if TORTURE else [])])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty storage that several processes can use."""
    return _url(request.param, request, tmp_path)


@pytest.fixture(params=[*FIRST, *OTHERS] if TORTURE else ["postgres"])
def busy_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The same, for what takes several processes some time; on SQLite these are the tests of killed ones."""
    return _url(request.param, request, tmp_path)


@pytest.fixture(params=[*FIRST, *OTHERS] if TORTURE else ["sqlite"])
def killed_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The same, for what ends in the middle, and for the frameworks' own tests, which are many."""
    return _url(request.param, request, tmp_path)


@pytest.fixture(params=[1, 3, 8, 21, 55] if TORTURE else [5])
def told(request: pytest.FixtureRequest) -> int:
    """How much a process has told to be written when it is killed."""
    return int(request.param)


def _url(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if name == "sqlite":
        return f"sqlite:///{tmp_path}/sessions.db"
    if name == "json":
        return f"json:///{tmp_path}/sessions"
    return str(request.getfixturevalue(f"{name}_url"))


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The URL of an empty SQLite file."""
    return f"sqlite:///{tmp_path}/sessions.db"


@pytest.fixture(scope="session", autouse=True)
def _programs_end() -> Iterator[None]:
    """The process that programs are forked from has noted what was measured before the figures are put together."""
    yield
    close_server()
