"""The drivers of this package, and drivers of other kinds, do what the contract says."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from urllib.parse import quote

import pytest

from sessile import MemoryStorage, SqliteStorage
from sessile.storage import Storage, on_loop

from .campaigns import SampledConformance
from .conformance_drivers import Breakable, LaggingDriver, suspending_storage
from .storage.helpers import hurry


class Whole(SampledConformance):
    """Quick: all checks run."""

    whole = True


@pytest.mark.measured_children
class TestSqliteFile(Whole):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path
        self.paths: dict[Storage, Path] = {}

    def make_storage(self) -> Storage:
        path = self.folder / f"sessions {len(self.paths)}.db"
        storage = self.new_storage(path)
        self.paths[storage] = path
        return storage

    def new_storage(self, path: Path) -> Storage:
        return SqliteStorage(path)

    def location(self, storage: Storage) -> str:
        return f"sqlite:///{quote(str(self.paths[storage]))}"

    def break_database(self, storage: Storage) -> bool:
        """Another program drops the tables."""
        connection = sqlite3.connect(self.paths[storage])
        for table in ("records", "commits", "sessions"):
            connection.execute(f"DROP TABLE sessile_{table}")
        connection.close()
        return True


class TestSqliteOnLoop(TestSqliteFile):
    """Operations of asynchronous callers are begun on their event loop; a slow disk is taken for a quick one."""

    one_of_sync, one_of_async = 16, 2

    @pytest.fixture(autouse=True)
    def _quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(on_loop, "QUICK", 60.0)

    def new_storage(self, path: Path) -> Storage:
        return SqliteStorage(path, on_loop=True)

    def location(self, storage: Storage) -> str:
        return f"{super().location(storage)}?on_loop=true"


class TestSqliteInMemory(Whole):
    one_of_async = 4

    def make_storage(self) -> Storage:
        return SqliteStorage(":memory:")


class TestMemory(Whole):
    def make_storage(self) -> Storage:
        return MemoryStorage()


class TestSuspendingDriver(Whole):
    """An asynchronous client for everybody: synchronous callers are served by the background loop."""

    def make_storage(self) -> Storage:
        return suspending_storage(sync_driver=False)


class TestTwoDrivers(Whole):
    """A blocking and an asynchronous client on the same data."""

    def make_storage(self) -> Storage:
        return suspending_storage(sync_driver=True)


class TestLaggingDriver(Whole):
    """Heads that lag behind their log."""

    one_of_async = 4

    def make_storage(self) -> Storage:
        return Storage(LaggingDriver())


class TestBreakable(Whole):
    """A database that fails when it is told to."""

    def make_storage(self) -> Storage:
        self.driver = Breakable()
        return Storage(self.driver)

    def break_database(self, storage: Storage) -> bool:
        self.driver.broken = True
        hurry(storage, 1)
        return True
