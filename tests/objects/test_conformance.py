"""`S3Storage` and `GcsStorage` do what the contract says, against emulators or what the environment names."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlsplit

import pytest
from tests.servers.fixtures import Address
from tests.servers.networks import TORTURE
from tests.servers.objects import FakeGcs, ObjectServer

import sessile
from sessile.storage import Storage
from sessile.testing import DriverConformance, Scale


class OnObjects(DriverConformance):
    """Each storage has a prefix of its own."""

    base: str
    server: ObjectServer | Address

    @pytest.fixture(autouse=True)
    def _prefixes(self) -> None:
        self.urls: dict[Storage, str] = {}

    def make_storage(self) -> Storage:
        url = self.base.replace("?", f"/{len(self.urls)}?", 1)
        storage = sessile.open(url, timeout=300.0)  # a busy machine needs longer than the default for many at once
        self.urls[storage] = url
        return storage

    def location(self, storage: Storage) -> str:
        return self.urls[storage]

    def break_database(self, storage: Storage) -> bool:
        """Somebody deletes the bucket."""
        if isinstance(self.server, Address):
            return False
        name = urlsplit(self.base).netloc
        self.server.remove_bucket(name)
        return True

    def scale(self) -> Scale:
        """Less than elsewhere: an operation is several requests."""
        scale = Scale.from_environment()
        return scale if TORTURE else replace(scale, examples=4, kills=5, appends=5)


class TestS3(OnObjects):
    @pytest.fixture(autouse=True)
    def _server(self, s3_kind: str, s3_url: str, request: pytest.FixtureRequest) -> None:
        self.server, self.base = request.getfixturevalue(s3_kind), s3_url


class TestGcs(OnObjects):
    """What is above the driver, once: the two differ in nothing that it could know."""

    one_of_async = 4  # the asynchronous client of S3 is the same

    if not TORTURE:
        test_sessions = test_branches = test_model = None  # type: ignore[assignment]

    @pytest.fixture(autouse=True)
    def _server(self, gcs: FakeGcs | Address, gcs_url: str) -> None:
        self.server, self.base = gcs, gcs_url
