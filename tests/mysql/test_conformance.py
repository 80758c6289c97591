"""`MySQLStorage` does what the contract says, against a real server."""

from __future__ import annotations

import pytest
from tests.campaigns import SampledConformance
from tests.servers.fixtures import connect_mysql

from sessile import MySQLStorage
from sessile.storage import Storage


class TestMySQL(SampledConformance):
    """Each storage has tables of its own, told apart by their prefix."""

    @pytest.fixture(autouse=True)
    def _database(self, mysql_url: str) -> None:
        self.url = mysql_url
        self.prefixes: dict[Storage, str] = {}

    def make_storage(self) -> Storage:
        prefix = f"t{len(self.prefixes)}_"
        storage = MySQLStorage(self.url, prefix=prefix)
        self.prefixes[storage] = prefix
        return storage

    def location(self, storage: Storage) -> str:
        return f"{self.url}?prefix={self.prefixes[storage]}"

    def break_database(self, storage: Storage) -> bool:
        """Another program drops the tables."""
        with connect_mysql(self.url) as connection, connection.cursor() as cursor:
            for table in ("records", "commits", "sessions"):
                cursor.execute(f"DROP TABLE {self.prefixes[storage]}{table}")
        return True
