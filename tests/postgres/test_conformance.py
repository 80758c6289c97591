"""`PostgresStorage` does what the contract says, against a real server."""

from __future__ import annotations

import psycopg
import pytest
from tests.campaigns import SampledConformance

from sessile import PostgresStorage
from sessile.storage import Storage


class TestPostgres(SampledConformance):
    """Each storage has tables of its own, told apart by their prefix."""

    @pytest.fixture(autouse=True)
    def _database(self, postgres_url: str) -> None:
        self.url = postgres_url
        self.prefixes: dict[Storage, str] = {}

    def make_storage(self) -> Storage:
        prefix = f"t{len(self.prefixes)}_"
        storage = PostgresStorage(self.url, prefix=prefix)
        self.prefixes[storage] = prefix
        return storage

    def location(self, storage: Storage) -> str:
        return f"{self.url}?prefix={self.prefixes[storage]}"

    def break_database(self, storage: Storage) -> bool:
        """Another program drops the tables."""
        with psycopg.connect(self.url) as connection:
            for table in ("records", "commits", "sessions"):
                connection.execute(f"DROP TABLE {self.prefixes[storage]}{table} CASCADE".encode())
        return True
