"""The SQL databases, and the ways to them, that tests run over."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg
import pymysql
import pytest
from tests.servers.fixtures import connect_mysql

import sessile
from sessile.storage import Storage
from sessile.testing.samples import append_of

SCHEMES = {
    "postgres": "postgresql",
    "mysql": "mysql",
    "sqlalchemy-postgres": "sqlalchemy+postgresql+psycopg",
    "sqlalchemy-mysql": "sqlalchemy+mysql+pymysql",
    "mysql-itself": "mysql",
    "sqlalchemy-mysql-itself": "sqlalchemy+mysql+pymysql",
}
"""Names with `itself` are of MySQL, other ones of MariaDB."""


class Database:
    """An empty database, and one of our ways to it."""

    def __init__(self, way: str, request: pytest.FixtureRequest) -> None:
        self.is_postgres = way.endswith("postgres")
        own = "mysql_itself_url" if way.endswith("itself") else "mysql_url"
        self.address: str = request.getfixturevalue("postgres_url" if self.is_postgres else own)
        self.by_engine = way.startswith("sqlalchemy")
        self.url = SCHEMES[way] + self.address.removeprefix("postgresql" if self.is_postgres else "mysql")

    def open(self, **options: Any) -> Storage:
        return sessile.open(self.url, **options)

    def sql(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements by hand; the rows of the last one."""
        return by_hand(self.address, *statements)

    def cut(self) -> None:
        """End all connections that are in the middle of a statement."""
        cut_statements(self.address)


def by_hand(address: str, *statements: str) -> list[tuple[Any, ...]]:
    """Run statements on a database; the rows of the last one."""
    is_postgres = address.startswith("postgresql")
    connection: Any = psycopg.connect(address, autocommit=True) if is_postgres else connect_mysql(address)
    with connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        return list(cursor.fetchall()) if cursor.description else []


def cut_statements(address: str) -> None:
    """End all connections to a database that are in the middle of a statement."""
    if address.startswith("postgresql"):
        by_hand(
            address,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid() AND backend_type = 'client backend' AND state = 'active'",
        )
        return
    found = by_hand(
        address,
        "SELECT id FROM information_schema.processlist"
        " WHERE db = DATABASE() AND id <> CONNECTION_ID() AND command = 'Query'",
    )
    for (number,) in found:
        with suppress(pymysql.MySQLError):  # it has gone by itself
            by_hand(address, f"KILL {number}")


def driver_of(storage: Storage) -> Any:
    """The driver of synchronous callers, as tests of drivers call it."""
    assert storage._core is not None
    return storage._core.driver


def run(storage: Storage, call: Callable[[Any], Any]) -> Any:
    """What a method of the driver brings."""
    from sessile.storage.faces import step

    storage.setup()
    return step(call(driver_of(storage)))


def fill(storage: Storage, *session_ids: str, **fields: Any) -> None:
    """Sessions of one commit each."""
    from sessile.storage.driver import Deadline

    for session_id in session_ids:
        assert run(storage, lambda driver, s=session_id: driver.append(append_of(s, **fields), Deadline(30)))
