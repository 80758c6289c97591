"""Where the tests of `SqlAlchemyStorage` run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.servers.fixtures import mysql_database


@contextmanager
def url_of(kind: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty database of this kind, with a blocking driver."""
    if kind == "sqlite":
        yield request.getfixturevalue("sqlite_url")
    elif kind == "postgresql":
        yield request.getfixturevalue("postgres_url").replace("postgresql:", "postgresql+psycopg:")
    else:
        with mysql_database(request.getfixturevalue(kind)) as url:
            yield url.replace("mysql:", "mysql+pymysql:")
