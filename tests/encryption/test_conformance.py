"""Over every storage the wrapper does what the contract of drivers says."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import quote

import pytest
from tests.campaigns import TORTURE, SampledConformance
from tests.conformance_drivers import LaggingDriver, suspending_storage
from tests.encryption.opening import FILTERED, KEYS, opened

import sessile
from sessile import MemoryStorage
from sessile.encryption import EncryptedStorage, SqliteKeyStore
from sessile.storage import Storage


class Encrypted(SampledConformance):
    """Names and metadata stay clear, so that everything that filters by them is tried, too."""

    def make_storage(self) -> Storage:
        storage = EncryptedStorage(self.plain(), keys=KEYS, clear=FILTERED)
        self.names[storage] = self.name
        return storage

    @pytest.fixture(autouse=True)
    def _place(self, tmp_path: Path) -> None:
        self.folder, self.count = tmp_path, 0
        self.names: dict[Storage, str] = {}

    def plain(self) -> Storage:
        self.count += 1
        self.name = self.url(self.count)
        return sessile.open(self.name)

    def url(self, number: int) -> str:
        raise NotImplementedError

    def location(self, storage: Storage) -> Callable[..., Storage] | None:
        return partial(opened, self.names[storage]) if storage in self.names else None


@pytest.mark.measured_children
class TestSqlite(Encrypted):
    one_of_async = 4

    def url(self, number: int) -> str:
        return f"sqlite:///{quote(str(self.folder))}/{number}.db"


class TestMemory(Encrypted):
    """All sealed: what filters by names and metadata is not declared."""

    one_of_async = 4

    def make_storage(self) -> Storage:
        return EncryptedStorage(MemoryStorage(), keys=KEYS)


class TestKeysApart(Encrypted):
    """With a key store, on an asynchronous client."""

    one_of_sync = 4

    def make_storage(self) -> Storage:
        self.count += 1
        store = SqliteKeyStore(self.folder / f"keys{self.count}.db")
        return EncryptedStorage(suspending_storage(sync_driver=False), keys=KEYS, clear=FILTERED, key_store=store)


class TestLagging(Encrypted):
    """Heads that lag behind their log."""

    one_of_async = 4

    def make_storage(self) -> Storage:
        return EncryptedStorage(Storage(LaggingDriver()), keys=KEYS, clear=FILTERED)


@pytest.mark.skipif(not TORTURE, reason="long; SESSILE_TORTURE=1 runs it")
class TestJson(Encrypted):
    def url(self, number: int) -> str:
        return f"json:///{quote(str(self.folder))}/{number}"


@pytest.mark.skipif(not TORTURE, reason="long; SESSILE_TORTURE=1 runs it")
class TestPostgres(Encrypted):
    @pytest.fixture(autouse=True)
    def _database(self, postgres_url: str) -> None:
        self.base = postgres_url

    def url(self, number: int) -> str:
        return f"{self.base}?prefix=e{number}_"


@pytest.mark.skipif(not TORTURE, reason="long; SESSILE_TORTURE=1 runs it")
class TestMongoDb(Encrypted):
    @pytest.fixture(autouse=True)
    def _database(self, mongodb_url: str) -> None:
        self.base = mongodb_url

    def url(self, number: int) -> str:
        return f"{self.base}?prefix=e{number}_"
