"""`MongoDbStorage` does what the contract says, against a real server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.servers.fixtures import running
from tests.servers.mongodb import FerretServer
from tests.storage.helpers import hurry

from sessile import MongoDbStorage
from sessile.storage import Storage
from sessile.testing import DriverConformance
from sessile.testing.checks import Scale


class TestMongoDb(DriverConformance):
    """Each storage has collections of its own, told apart by their prefix."""

    @pytest.fixture(autouse=True)
    def _database(self, request: pytest.FixtureRequest) -> Iterator[None]:
        self.prefixes: dict[Storage, str] = {}
        self.server: FerretServer | None = None
        if not any(one in request.node.name for one in ("a_broken_database", "errors_tell_nothing")):
            self.url = request.getfixturevalue("mongodb_url")
            yield
            return
        with running(FerretServer) as self.server:
            self.url = self.server.url
            yield

    def make_storage(self) -> Storage:
        prefix = f"t{len(self.prefixes)}_"
        storage = MongoDbStorage(self.url, prefix=prefix, timeout=300.0)  # many at once, on a busy machine
        self.prefixes[storage] = prefix
        return storage

    def scale(self) -> Scale:
        """FerretDB looks at every document of a collection, so that everything takes long."""
        scale = super().scale()
        ours = "TEST_MONGODB_URL" not in os.environ
        return replace(scale, examples=scale.examples // 4, appends=scale.appends // 2) if ours else scale

    def location(self, storage: Storage) -> str:
        return f"{self.url}?prefix={self.prefixes[storage]}"

    def break_database(self, storage: Storage) -> bool:
        """The server is gone."""
        assert self.server is not None
        self.server.kill()
        hurry(storage, 1.0)
        return True
