"""What one call reads is bounded in bytes as well as in number, and callers go on where it has ended."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.storage.helpers import append, end, start

from sessile import MemoryStorage, Run, SqliteStorage, Storage
from sessile.drivers.memory import MemoryDriver
from sessile.drivers.sqlite import SqliteDriver
from sessile.errors import CorruptDataError
from sessile.storage import extending
from sessile.storage.driver import Capabilities, CommitRow, Deadline, Span
from sessile.storage.storage import operate
from sessile.storage.wrapping import WrappedDriver
from sessile.testing.checks import all_runs

TEXT = "x" * 20_000
BUDGET = 100_000
"""Four of such texts, with what stands around them."""


class Watched(WrappedDriver):
    """Notes how much each page of a log had; with `ignores` it is a driver that does not end pages by their bytes."""

    def __init__(self, inner: Any, *, ignores: bool) -> None:
        super().__init__(inner)
        self.ignores = ignores
        self.pages: list[int] = []

    @property
    def capabilities(self) -> Capabilities:
        declared = self.inner.capabilities
        return Capabilities(commits_per_append=declared.commits_per_append, bounded_pages=not self.ignores)

    async def entries(self, session_id: str, incarnation: str, span: Span, deadline: Deadline) -> list[CommitRow]:
        span = span._replace(max_bytes=None) if self.ignores else span
        page = await super().entries(session_id, incarnation, span, deadline)
        self.pages.append(sum(len(row.body) for row in page))
        return page


@pytest.fixture(params=["memory", "sqlite", "one that does not end pages"])
def driver(request: pytest.FixtureRequest, path: Path) -> Watched:
    inner = SqliteDriver(str(path), "NORMAL") if request.param == "sqlite" else MemoryDriver()
    return Watched(inner, ignores=request.param == "one that does not end pages")


@pytest.fixture
def storage(driver: Watched) -> Iterator[Storage]:
    with Storage(driver, max_read_bytes=BUDGET) as made:
        yield made


def fill(storage: Storage, count: int, large: int = 0) -> None:
    """So many runs; those from `large` on have a large input."""
    for number in range(1, count + 1):
        storage.add_run("s", input=TEXT if number >= large else "x", output=number)


def numbers(runs: list[Run]) -> list[int]:
    return [run.number for run in runs]


def test_runs(storage: Storage, driver: Watched) -> None:
    fill(storage, 60)
    driver.pages.clear()
    newest = storage.runs("s")
    assert newest[-1].number == 60
    assert numbers(newest) == list(range(newest[0].number, 61))
    assert 1 <= len(newest) <= 5
    seen, to_run = numbers(newest), newest[0].number - 1
    while to_run > 0:
        page = storage.runs("s", to_run=to_run)
        assert 1 <= len(page) <= 5
        seen = numbers(page) + seen
        to_run = page[0].number - 1
    assert seen == list(range(1, 61))
    assert numbers(storage.runs("s", from_run=3, to_run=30))[-1] == 30
    if not driver.ignores:
        assert max(driver.pages) <= BUDGET + len(TEXT) + 1000


def test_runs_that_come_with_the_head_count_as_well(storage: Storage) -> None:
    fill(storage, 8)
    head = storage.get_session("s", last_runs=8)
    assert head is not None
    assert 1 <= len(head.runs) <= 5
    assert numbers(head.runs) == numbers(storage.runs("s", last=8)) == [*range(9 - len(head.runs), 9)]
    fill(storage, 2, large=3)
    assert numbers(storage.runs("s", last=4))[-2:] == [9, 10]


def test_a_run_that_is_larger_than_all_that_is_read_at_once(storage: Storage) -> None:
    storage.add_run("s", input="x")
    storage.add_run("s", input=TEXT * 10, messages=[{"text": TEXT}], format="test/1")
    storage.add_run("s", input="x")
    assert numbers(storage.runs("s", to_run=2)) == [2]
    assert [message.run for message in storage.messages("s", to_run=2)] == [2]
    head = storage.get_session("s", last_runs=3)
    assert head is not None
    assert numbers(head.runs)[-1] == 3


def test_runs_of_a_status(storage: Storage) -> None:
    """Pages that have none are passed over, because they are not kept."""
    storage.add_run("s", input=TEXT, status="failed")
    fill(storage, 240)
    storage.add_run("s", input=TEXT, status="failed")
    assert numbers(storage.runs("s", status="failed")) == [242]
    assert numbers(storage.runs("s", status="failed", to_run=241)) == [1]


def test_runs_of_many_commits(storage: Storage) -> None:
    """A run is never brought in part."""
    for number in range(12):
        turn = start(storage, run_id=f"r{number}")
        for _ in range(3):
            append(storage, turn, TEXT)
        end(storage, turn)
    for to_run in range(1, 13):
        page = storage.runs("s", to_run=to_run)
        assert page
        assert page[-1].number == to_run
        assert [len(run.messages) for run in page] == [3] * len(page)
        assert {run.status for run in page} == {"completed"}


def test_entries(storage: Storage, driver: Watched) -> None:
    fill(storage, 30)
    seen: list[int] = []
    after, calls = 0, 0
    while found := storage.entries("s", after=after):
        assert len({entry.seq for entry in found}) <= 5
        seen += [entry.seq for entry in found]
        after, calls = found[-1].seq, calls + 1
    assert sorted(set(seen)) == list(range(1, 31))
    assert calls >= 6
    followed = storage.follow("s")
    assert [next(followed).seq for _ in range(len(seen))] == seen


def test_tail(storage: Storage) -> None:
    fill(storage, 60)
    seen: list[int] = []
    before = None
    while True:
        tail = storage.tail("s", 500, before=before)
        assert tail is not None
        assert len({entry.seq for entry in tail.entries}) <= 25
        seen += [entry.seq for entry in tail.entries]
        before = tail.before
        if before is None:
            break
    assert sorted(set(seen), reverse=True) == list(range(60, 0, -1))
    assert seen == sorted(seen, reverse=True)


def test_the_number_of_requests_does_not_grow_with_small_commits(storage: Storage, driver: Watched) -> None:
    fill(storage, 400, large=1000)
    driver.pages.clear()
    assert len(storage.runs("s", last=100)) == 100
    assert len(driver.pages) <= (4 if driver.ignores else 1)


def test_memory_of_a_reader(tmp_path: Path) -> None:
    """Twenty-five runs of 2 MB are not in memory at once."""
    with SqliteStorage(tmp_path / "s.db", max_read_bytes=4_000_000) as storage:
        for _ in range(25):
            storage.add_run("s", input="x" * 2_000_000)
        tracemalloc.start()
        try:
            runs = storage.runs("s", from_run=1)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert numbers(all_runs(storage, "s")) == list(range(1, 26))
    assert numbers(runs) == [24, 25]
    assert peak < 30_000_000


def test_memory_of_verifying(tmp_path: Path) -> None:
    """However long the log is, and with the limits that everybody has."""
    with SqliteStorage(tmp_path / "s.db", synchronous="NORMAL") as storage:
        for _ in range(40):
            storage.add_run("s", input="x" * 1_000_000)
        tracemalloc.start()
        try:
            assert storage.verify("s") == 40
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 35_000_000


def test_what_goes_through_a_whole_log_reads_it_in_parts(storage: Storage, driver: Watched) -> None:
    fill(storage, 30)
    turn = start(storage, run_id="long")
    for _ in range(12):  # of more than is read at once
        append(storage, turn, TEXT)
    end(storage, turn)
    driver.pages.clear()
    head = storage.get_session("s")
    assert head is not None
    assert storage.verify("s") == head.revision == 44
    assert storage.fork("s", session_id="copy").run_count == 31
    assert storage.rewind("s", at=2).tip == 2
    if not driver.ignores:
        # A run is read whole, and so are those that a fork copies in one commit.
        assert sum(pages > BUDGET + len(TEXT) + 1000 for pages in driver.pages) <= 4
        assert len(driver.pages) > 12


def test_verify_finds_what_is_wrong_in_any_part(storage: Storage, driver: Watched) -> None:
    fill(storage, 12)
    inner: Any = driver.inner
    if not isinstance(inner, MemoryDriver):
        pytest.skip("the damage is done to a driver in memory")
    log = inner._sessions["s"].log
    log[9] = log[9]._replace(body=log[9].body.replace('"run.started"', '"run.strange"'))
    with pytest.raises(CorruptDataError):
        storage.verify("s")


def test_entries_between(storage: Storage) -> None:
    fill(storage, 20)
    head = storage.get_session("s")
    assert head is not None
    seen: list[int] = []
    while found := operate(storage, extending.entries_between, head, len(seen) + 1):
        page = sorted({entry.seq for entry in found})
        assert 1 <= len(page) <= 5
        seen += page
    assert seen == list(range(1, 21))


def test_views_and_limits() -> None:
    with MemoryStorage(max_read_bytes=BUDGET) as storage:
        mine = storage.for_user("ada")
        fill(mine, 30)
        assert 1 <= len(mine.runs("s", to_run=9)) <= 5
