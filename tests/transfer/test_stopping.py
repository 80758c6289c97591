"""Moving for good: when the writers have stopped, nothing that was acknowledged is missing in the target."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.campaigns import TORTURE

import sessile
from sessile import ANY_USER, MemoryStorage, SqliteStorage, Storage
from sessile.drivers.memory import MemoryDriver
from sessile.errors import ConflictError, DeadlineError, InvalidInputError, StorageUnavailableError
from sessile.storage.extending import WrappedDriver
from sessile.transfer import Copied, copy, copying

from .helpers import everything

WRITER = """
import signal, sys, time, sessile
url, name = sys.argv[1:]
stopped = []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
with sessile.open(url, timeout=60) as storage:
    number = 0
    while not stopped:
        number += 1
        own = f"{name}-{number % 5}"
        for session_id in (own, "shared", f"{name}-new-{number}" if number % 3 == 0 else own):
            run = storage.add_run(session_id, input=f"{name} {number}", output="x" * 500, user_id="ada")
            print(session_id, run.run_id, flush=True)
        time.sleep(0.02)
        if number % 6 == 0:
            print("going", f"{name}-new-{number}", flush=True)
            storage.delete(f"{name}-new-{number}", user_id="ada")
            print("gone", f"{name}-new-{number}", flush=True)
"""
"""Writes until it is told to stop, and says each run that was acknowledged, and each session that it has deleted."""


MORE = ("json", "postgres_url", "mysql_url", "redis_url", "mongodb_url", "dynamodb_url", "s3_url", "gcs_url")


class Writers:
    """Four processes, what they have been told, and how they are stopped."""

    def __init__(self, url: str, folder: Path, how: signal.Signals) -> None:
        self._how = how
        self._said = [folder / f"writer{number}" for number in range(4)]
        self._processes: list[subprocess.Popen[bytes]] = []
        for path in self._said:
            with path.open("wb") as file:
                self._processes.append(subprocess.Popen([sys.executable, "-c", WRITER, url, path.name], stdout=file))

    def stop(self, _: Copied | None = None) -> None:
        for process in self._processes:
            process.send_signal(self._how)
        for process in self._processes:
            process.wait()

    def lines(self) -> list[list[str]]:
        """What they have said; the last line may be cut off."""
        texts = [path.read_text() for path in self._said]
        return [line.split() for text in texts for line in text[: text.rfind("\n") + 1].splitlines()]

    def wait_for(self, lines: int) -> None:
        while len(self.lines()) < lines:
            assert all(process.poll() is None for process in self._processes)


@contextmanager
def writers(url: str, folder: Path, how: signal.Signals) -> Generator[Writers]:
    at_work = Writers(url, folder, how)
    try:
        at_work.wait_for(60)
        yield at_work
    finally:
        at_work.stop()


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("sqlite", signal.SIGTERM),
        ("sqlite", signal.SIGKILL),
        ("postgres_url", signal.SIGTERM),
        *((name, signal.SIGKILL) for name in MORE if TORTURE),
    ],
)
def test_nothing_acknowledged_is_missing(
    name: str, how: signal.Signals, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Four processes write until they are stopped, or killed, in the middle of what they do."""
    url = request.getfixturevalue(name) if name.endswith("_url") else f"{name}:///{tmp_path}/source"
    with sessile.open(url) as source:
        source.setup()
        with writers(url, tmp_path, how) as at_work, SqliteStorage(tmp_path / "target.db") as target:
            copied = copy(source, target, stop=at_work.stop)
            assert not copied.skipped
            said = at_work.lines()
            gone = {name for what, name in said if what == "gone"}
            assert gone
            assert not any(target.get_session(name, user_id=ANY_USER) for name in gone)
            going = {name for what, name in said if what == "going"}  # in the middle of which it may have been killed
            for session_id in {line[0] for line in said} - {"gone", "going", *going}:
                runs = {run.run_id for run in target.runs(session_id, last=100_000, user_id=ANY_USER)}
                assert {run_id for name, run_id in said if name == session_id} <= runs, session_id
            if how == signal.SIGTERM:
                assert everything(target) == everything(source)


@pytest.fixture
def busy(source: SqliteStorage) -> SqliteStorage:
    for number in range(10):
        source.add_run(f"s{number}", input="1", output="1")
    return source


def test_somebody_who_does_not_stop_is_named(busy: SqliteStorage) -> None:
    """Somebody writes whenever something is copied, so that no look is the last one."""
    stopped: list[Copied] = []

    class Met(WrappedDriver):
        async def append(self, write: Any, deadline: Any) -> bool:
            if stopped:
                busy.add_run("s3", input="still here", output="1")
            return await self.inner.append(write, deadline)

    def stop(copied: Copied) -> None:
        stopped.append(copied)
        busy.add_run("s3", input="still here", output="1")

    with Storage(Met(MemoryDriver())) as target:
        with pytest.raises(ConflictError, match="'s3' has changed since the stop"):
            copy(busy, target, stop=stop)
        stopped.clear()
        assert not copy(busy, target, stop=lambda _: None).skipped
        assert everything(target) == everything(busy)


def test_what_was_long_on_its_way_is_seen(busy: SqliteStorage, target: MemoryStorage, tmp_path: Path) -> None:
    """Of a writer with another time limit: what it has written is older than what the passes before look back to."""

    def stop(_: Copied) -> None:
        busy.add_run("s4", input="late", output="1")
        with sqlite3.connect(tmp_path / "source.db") as database:
            database.execute("UPDATE sessile_sessions SET updated_at = updated_at - 1000000 * 86400 WHERE revision > 1")

    copy(busy, target, verify=False, stop=stop)
    assert [run.input for run in target.runs("s4")] == ["1", "late"]


def test_lists_that_lag(monkeypatch: pytest.MonkeyPatch, target: MemoryStorage) -> None:
    """As some databases have them: what was written a moment ago is not in them yet."""
    written: dict[str, float] = {}

    class Lagging(WrappedDriver):
        capabilities = replace(MemoryDriver.capabilities, exact_order=False)  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]

        async def append(self, write: Any, deadline: Any) -> bool:
            written[write.session_id] = time.monotonic()
            return await self.inner.append(write, deadline)

        async def list(self, query: Any, deadline: Any) -> Any:
            found = await self.inner.list(query, deadline)
            settled = time.monotonic() - 0.2
            return found._replace(rows=[row for row in found.rows if written[row.session_id] < settled])

    monkeypatch.setattr(copying, "LISTED_AFTER", 0.3)
    with Storage(Lagging(MemoryDriver())) as source:
        source.add_run("old", input="1")
        copy(source, target, stop=lambda _: source.add_run("new", input="1"))
        assert everything(target).keys() == {"old", "new"}


def test_what_is_deleted_before_it_is_compared_is_gone(busy: SqliteStorage) -> None:
    """It stands in the target as a whole by then."""

    class Met(WrappedDriver):
        async def append(self, write: Any, deadline: Any) -> bool:
            appended = await self.inner.append(write, deadline)
            if write.session_id == "s3":
                busy.delete("s3")
            return appended

    with Storage(Met(MemoryDriver())) as target:
        copied = copy(busy, target)
        assert not copied.skipped
        assert "s3" not in everything(busy)
        assert everything(target) == everything(busy)


def test_what_was_deleted_before_the_stop_is_gone(busy: SqliteStorage, target: MemoryStorage) -> None:
    def stop(_: Copied) -> None:
        busy.delete("s1")
        busy.delete("s2")
        busy.add_run("s2", input="another one", output="1")

    assert copy(busy, target, stop=stop).removed == 2
    assert everything(target) == everything(busy)


def test_a_stop_that_fails_ends_the_copy(busy: SqliteStorage, target: MemoryStorage) -> None:
    def stop(copied: Copied) -> None:
        assert copied.sessions == 10
        busy.add_run("s1", input="more", output="1")
        raise RuntimeError("they do not stop")

    with pytest.raises(RuntimeError, match="they do not stop"):
        copy(busy, target, stop=stop)
    assert len(target.runs("s1")) == 1


def test_nobody_is_stopped_for_a_copy_that_fails_before(busy: SqliteStorage) -> None:
    class Full(WrappedDriver):
        async def append(self, write: Any, deadline: Any) -> bool:
            raise StorageUnavailableError("gone", written="no")

    stopped: list[Copied] = []
    with Storage(Full(MemoryDriver()), timeout=0.1) as target, pytest.raises(StorageUnavailableError):
        copy(busy, target, stop=stopped.append)
    assert not stopped


def test_the_stop_has_an_end(busy: SqliteStorage, target: MemoryStorage) -> None:
    with pytest.raises(DeadlineError, match="did not end within"):
        copy(busy, target, stop=lambda _: busy.add_run("s1", input="more", output="1"), stop_seconds=1e-6)
    copy(busy, target, stop=lambda _: None)
    assert everything(target) == everything(busy)
    with pytest.raises(InvalidInputError, match="stop_seconds"):
        copy(busy, target, stop=lambda _: None, stop_seconds=0)


STOPPED = """
import sys, sessile
from sessile.transfer import copy
with sessile.open(sys.argv[1]) as source, sessile.open(sys.argv[2]) as target:
    def stop(_):
        for number in range(30):
            source.add_run(f"late{number}", input="1" * 3000, output="1")
        print("stopped", flush=True)
    copy(source, target, stop=stop, workers=1, progress=lambda _: print("one more", flush=True))
"""


def test_killed_behind_the_stop(busy: SqliteStorage, tmp_path: Path) -> None:
    """Nothing is left stopped in the source, and the next call brings the rest."""
    url = f"sqlite:///{tmp_path}/target.db"
    command = [sys.executable, "-c", STOPPED, f"sqlite:///{tmp_path}/source.db", url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while process.stdout.readline() != "stopped\n":
            assert process.poll() is None
        for _ in range(5):
            process.stdout.readline()
        process.kill()
    assert busy.add_run("s1", input="goes on", output="1").number == 2
    with sessile.open(url) as target:
        copied = copy(busy, target, stop=lambda _: None)
        assert (copied.skipped, copied.unchanged > 10) == ({}, True)
        assert everything(target) == everything(busy)
