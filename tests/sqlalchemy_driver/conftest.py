"""Databases by the names that SQLAlchemy gives their drivers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine
from tests.servers.fixtures import Address, mysql_database, postgres_database
from tests.servers.mariadb import MariaDbServer
from tests.servers.postgres import PostgresServer


@pytest.fixture(scope="class")
def one_postgres_url(postgres: PostgresServer | Address) -> Iterator[str]:
    """A database for all tests of a class."""
    with postgres_database(postgres) as url:
        yield url


@pytest.fixture(scope="class")
def one_mysql_url(mariadb: MariaDbServer | Address) -> Iterator[str]:
    """A database for all tests of a class."""
    with mysql_database(mariadb) as url:
        yield url


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/sessions.db"


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def url(request: pytest.FixtureRequest) -> str:
    """An empty database of each kind, with a blocking driver."""
    if request.param == "sqlite":
        return request.getfixturevalue("sqlite_url")
    if request.param == "postgresql":
        return request.getfixturevalue("postgres_url").replace("postgresql:", "postgresql+psycopg:")
    return request.getfixturevalue("mysql_url").replace("mysql:", "mysql+pymysql:")


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
