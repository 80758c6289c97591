"""`SqlAlchemyStorage` does what the contract says, against real databases."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from sessile import SqlAlchemyStorage
from sessile.storage import Storage
from sessile.testing import DriverConformance
from sessile.testing.checks import Scale


class Conformance(DriverConformance):
    """Each storage has tables of its own, told apart by their prefix; on a server all tests share one database.

    The long checks are shorter than by default: the databases' own drivers run them whole.
    """

    one_of_async = 4
    url: str
    numbers = count()

    @pytest.fixture(autouse=True)
    def _prefixes(self) -> None:
        self.prefixes: dict[Storage, str] = {}

    def make_storage(self) -> Storage:
        prefix = f"t{next(self.numbers)}_"
        storage = SqlAlchemyStorage(self.url, prefix=prefix)
        self.prefixes[storage] = prefix
        return storage

    def scale(self) -> Scale:
        whole = super().scale()
        return replace(whole, examples=whole.examples // 5, appends=whole.appends // 2, kills=whole.kills // 2)

    def location(self, storage: Storage) -> Any:
        return partial(SqlAlchemyStorage, self.url, prefix=self.prefixes[storage])

    def break_database(self, storage: Storage) -> bool:
        """Another program drops the tables."""
        engine = create_engine(self.url.replace("+psycopg_async:", "+psycopg:"))
        with engine.begin() as connection:
            for table in ("records", "commits", "sessions"):
                connection.execute(text(f"DROP TABLE {self.prefixes[storage]}{table}"))
        engine.dispose()
        return True


class TestSqlite(Conformance):
    @pytest.fixture(autouse=True)
    def _database(self, sqlite_url: str) -> None:
        self.url = sqlite_url


class TestPostgres(Conformance):
    @pytest.fixture(autouse=True)
    def _database(self, one_postgres_url: str) -> None:
        self.url = one_postgres_url.replace("postgresql:", "postgresql+psycopg:")


class TestPostgresAsync(Conformance):
    """An asynchronous driver: synchronous callers are served by the background loop."""

    one_of, one_of_sync = 2, 4

    @pytest.fixture(autouse=True)
    def _database(self, one_postgres_url: str) -> None:
        self.url = one_postgres_url.replace("postgresql:", "postgresql+psycopg_async:")


class TestMariaDb(Conformance):
    @pytest.fixture(autouse=True)
    def _database(self, one_mysql_url: str) -> None:
        self.url = one_mysql_url.replace("mysql:", "mysql+pymysql:")
