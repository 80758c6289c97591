"""Databases by the names that SQLAlchemy gives their drivers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine
from tests.servers.fixtures import Address, mysql_database, postgres_database
from tests.servers.postgres import PostgresServer
from tests.sqlalchemy_driver.databases import url_of


@pytest.fixture(scope="class")
def one_postgres_url(postgres: PostgresServer | Address) -> Iterator[str]:
    """A database for all tests of a class."""
    with postgres_database(postgres) as url:
        yield url


@pytest.fixture(scope="class")
def one_mysql_url(mysql_kind: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """A database for all tests of a class."""
    with mysql_database(request.getfixturevalue(mysql_kind)) as url:
        yield url


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/sessions.db"


@pytest.fixture(params=["sqlite", "postgresql", "mariadb", "mysql"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty database of each kind, with a blocking driver."""
    with url_of(request.param, request) as url:
        yield url


@pytest.fixture
def async_url(url: str) -> str:
    """The same with an asynchronous driver."""
    return (
        url.replace("sqlite:", "sqlite+aiosqlite:")
        .replace("+psycopg:", "+psycopg_async:")
        .replace("+pymysql:", "+aiomysql:")
    )


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    """The application's own engine."""
    engine = create_engine(url)
    yield engine
    engine.dispose()
