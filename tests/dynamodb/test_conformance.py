"""`DynamoDbStorage` does what the contract says, against two emulators, or any endpoint in `TEST_DYNAMODB_URL`."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.servers.dynamodb import dynamodb_client, table_of
from tests.servers.networks import TORTURE

import sessile
from sessile.storage import Storage
from sessile.testing import DriverConformance, Scale, contract, lists, recovery, sessions
from sessile.testing.checks import Check


class OnDynamoDb(DriverConformance):
    """Each storage has a table of its own."""

    base: str

    @pytest.fixture(autouse=True)
    def _tables(self) -> None:
        self.urls: dict[Storage, str] = {}

    def make_storage(self) -> Storage:
        url = self.base.replace("?", f"-{len(self.urls)}?", 1)
        storage = sessile.open(url, timeout=300.0)  # a busy machine needs longer than the default for many at once
        self.urls[storage] = url
        return storage

    def location(self, storage: Storage) -> str:
        return self.urls[storage]

    def break_database(self, storage: Storage) -> bool:
        """Somebody deletes the table."""
        dynamodb_client(self.base).delete_table(TableName=table_of(self.urls[storage]))
        return True

    def scale(self) -> Scale:
        """Less than elsewhere: a request to an emulator takes milliseconds, and a list is several."""
        scale = Scale.from_environment()
        return scale if TORTURE else replace(scale, examples=4, kills=5)


class TestDynoxide(OnDynamoDb):
    one_of = 2

    @pytest.fixture(autouse=True)
    def _server(self, dynamodb_url: str) -> None:
        self.base = dynamodb_url


MOTO = [
    check
    for area in (contract.area, lists.area, recovery.area, *([sessions.area] if TORTURE else []))
    for check in area.checks
    if check.name not in ("writers_lose_nothing", "lost_answers_among_rivals")  # it serves one request at a time
]


class TestMoto(OnDynamoDb):
    """It is slow, and the faces differ in nothing that it could know: what is about the driver, once."""

    one_of = 6

    test_contract = test_lists = test_sessions = test_branches = None  # type: ignore[assignment]
    test_faults = test_model = test_writers = test_kill = None  # type: ignore[assignment]

    @pytest.fixture(autouse=True)
    def _server(self, moto_url: str) -> None:
        self.base = moto_url

    @pytest.mark.parametrize("check", MOTO, ids=lambda check: check.name)
    def test_suite(self, check: Check) -> None:
        self.run_check(check, "sync")
