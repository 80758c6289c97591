"""Group commit: what goes to the database together is for each of its callers as if it had gone alone."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from typing import Any

import pytest

from sessile.drivers.sql import batches
from sessile.drivers.sql.batches import CommitBatches, Load, LoadBatches, Rows
from sessile.errors import DeadlineError, StorageError, StorageUnavailableError
from sessile.storage.driver import Append, CommitRow, Deadline, HeadRow
from sessile.storage.faces import step
from sessile.storage.stats import Stats


def commit_of(session_id: str, expected: int = 1, size: int = 10, body: str = "b") -> Append:
    """A commit that follows a revision."""
    seq = expected + 1
    head = HeadRow(session_id, "i", seq, "agent", None, None, None, None, 1, seq, None, False, "{}", body)
    return Append(session_id, "i", expected, (CommitRow(seq, f"{session_id}-{seq}", 0, seq, "x" * size),), head)


class Database:
    """One whose first writes stand still until they may go on, so that others come meanwhile."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.alone: list[str] = []
        self.together: list[list[str]] = []
        self.fails: BaseException | None = None
        self.loses: set[str] = set()

    async def one(self, write: Append, deadline: Deadline) -> bool:
        self.alone.append(write.session_id)
        if write.session_id.startswith("first"):
            assert self.go.wait(30)
        return write.session_id not in self.loses

    async def many(self, writes: Sequence[Append], deadline: Deadline) -> Collection[str]:
        self.together.append([write.session_id for write in writes])
        if self.fails is not None:
            raise self.fails
        return {write.session_id for write in writes} - self.loses


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is slow sends nobody off alone."""
    monkeypatch.setattr(batches, "PATIENCE", 30.0)
    monkeypatch.setattr(batches, "SOON", 0.0)


def written(database: Database, names: Sequence[str], timeout: float = 30.0) -> list[bool | BaseException]:
    """What the callers of some commits are told, all of which wait for two that came first."""
    group = CommitBatches(database.one, database.many, suspends=False, stats=Stats())

    def append(name: str) -> bool | BaseException:
        try:
            return step(group.ask(commit_of(name), Deadline(timeout)))
        except StorageError as error:
            return error

    with ThreadPoolExecutor(len(names) + 2) as threads:
        first = [threads.submit(append, f"first{number}") for number in range(2)]
        while len(database.alone) < 2:
            pass
        rest: list[Any] = []
        for name in names:
            rest.append(threads.submit(append, name))
            while len(group._waiting) < len(rest):
                pass
        database.go.set()
        assert all(each.result() is True for each in first)
        told = [each.result() for each in rest]
    assert group._at_work == 0
    return told


def test_who_finds_nobody_at_work_goes_alone() -> None:
    database = Database()
    database.go.set()
    group = CommitBatches(database.one, database.many, suspends=False, stats=Stats())
    for number in range(5):
        assert step(group.ask(commit_of(f"s{number}"), Deadline(5)))
    assert (len(database.alone), database.together) == (5, [])


def test_who_waits_goes_together_sorted_and_each_session_once() -> None:
    database = Database()
    assert written(database, ["c", "a", "b", "a"]) == [True] * 4
    assert ["a", "b", "c"] in database.together
    assert Counter([*database.alone, *chain(*database.together)])["a"] == 2


def test_a_lost_race_is_told_to_its_caller_alone() -> None:
    database = Database()
    database.loses = {"b"}
    assert written(database, ["a", "b", "c"]) == [True, False, True]


def test_a_batch_that_was_refused_is_tried_one_by_one() -> None:
    database = Database()
    database.fails = StorageUnavailableError("A deadlock.", written="no")
    database.loses = {"b"}
    assert written(database, ["a", "b", "c"]) == [True, False, True]
    assert sorted(database.alone[2:]) == ["a", "b", "c"]


def test_a_lost_answer_of_a_batch_is_one_for_each() -> None:
    """And nobody writes again what may have been written."""
    database = Database()
    database.fails = StorageUnavailableError("Cut off.", written="unknown")
    told = written(database, ["a", "b", "c"])
    assert [getattr(each, "written", None) for each in told] == ["unknown"] * 3
    assert len({id(each) for each in told}) == 3
    assert len(database.alone) == 2


def test_what_is_large_new_or_of_several_commits_goes_at_once() -> None:
    database = Database()
    group = CommitBatches(database.one, database.many, suspends=False, stats=Stats())
    group._at_work = 2
    two = commit_of("two")
    for write in (commit_of("new", 0), commit_of("large", size=100_000), two._replace(commits=two.commits * 2)):
        assert step(group.ask(write, Deadline(5)))
    assert database.alone == ["new", "large", "two"]


def test_who_has_waited_too_long_goes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others stand still: that holds nobody up for long."""
    monkeypatch.setattr(batches, "PATIENCE", 0.01)
    database = Database()
    group = CommitBatches(database.one, database.many, suspends=False, stats=Stats())
    group._at_work = 2
    assert step(group.ask(commit_of("a"), Deadline(5)))
    assert (database.alone, len(group._waiting)) == (["a"], 0)


def test_tasks_that_have_waited_too_long_go_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each in its time, whoever came before it, and whatever has become of that."""
    monkeypatch.setattr(batches, "PATIENCE", 0.02)
    database = Database()
    group = CommitBatches(database.one, database.many, suspends=True, stats=Stats())

    async def come(name: str, seconds: float) -> bool:
        await asyncio.sleep(seconds)
        return await group.ask(commit_of(name), Deadline(30))

    async def run() -> None:
        group._at_work = 2
        tasks = [asyncio.create_task(come(name, 0.01 * number)) for number, name in enumerate("abcde")]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        tasks[0].cancel()  # the one for which the others' time was counted first
        assert await asyncio.gather(*tasks[1:]) == [True] * 4
        await asyncio.sleep(0.05)
        assert await come("later", 0)

    asyncio.run(run())
    assert (database.alone, database.together) == ([*"bcde", "later"], [])


def test_each_keeps_its_own_deadline() -> None:
    """Who has less time leaves its batch before the others, and does not know what becomes of it."""

    async def slow(writes: Sequence[Append], deadline: Deadline) -> Collection[str]:
        assert deadline.timeout == 30  # that of who has most
        await asyncio.sleep(0.3)
        return {write.session_id for write in writes}

    async def run() -> None:
        group = CommitBatches(Database().one, slow, suspends=True, stats=Stats())
        group._at_work = 2
        hasty = asyncio.create_task(group.ask(commit_of("hasty"), Deadline(0.1)))
        calm = asyncio.create_task(group.ask(commit_of("calm"), Deadline(30)))
        await asyncio.sleep(0)
        group._next()
        with pytest.raises(DeadlineError) as caught:
            await hasty
        assert caught.value.written == "unknown"
        assert not calm.done()
        assert await calm

    asyncio.run(run())


@pytest.mark.parametrize("suspends", [False, True])
def test_a_batch_may_take_longer_than_one_waits_for_its_beginning(
    monkeypatch: pytest.MonkeyPatch, *, suspends: bool
) -> None:
    monkeypatch.setattr(batches, "PATIENCE", 0.05)

    async def slow(writes: Sequence[Append], deadline: Deadline) -> Collection[str]:
        if suspends:
            await asyncio.sleep(0.2)
        else:
            time.sleep(0.2)  # noqa: ASYNC251 (a driver that blocks)
        return {write.session_id for write in writes}

    database = Database()
    group = CommitBatches(database.one, slow, suspends=suspends, stats=Stats())
    group._at_work = 2

    async def run() -> list[bool]:
        tasks = [asyncio.create_task(group.ask(commit_of(name), Deadline(30))) for name in "abc"]
        await asyncio.sleep(0)
        group._next()
        return [await task for task in tasks]

    if suspends:
        assert asyncio.run(run()) == [True] * 3
    else:
        with ThreadPoolExecutor(3) as threads:
            told = [threads.submit(lambda n=name: step(group.ask(commit_of(n), Deadline(30)))) for name in "abc"]
            while len(group._waiting) + len(database.alone) < 3:
                pass
            group._next()
            assert [each.result() for each in told] == [True] * 3


def test_threads_hear_of_their_batch_though_one_of_them_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """They wake each other: who waits no more is passed over."""
    monkeypatch.setattr(batches, "PATIENCE", 3600.0)
    begun, go = threading.Event(), threading.Event()

    async def slow(writes: Sequence[Append], deadline: Deadline) -> Collection[str]:
        begun.set()
        assert go.wait(30)
        return {write.session_id for write in writes}

    group = CommitBatches(Database().one, slow, suspends=False, stats=Stats(), at_work=1)
    group._at_work = 1

    def append(name: str) -> object:
        try:
            return step(group.ask(commit_of(name), Deadline(0.5 if name == "b" else 3600)))
        except StorageError as error:
            return error

    with ThreadPoolExecutor(5) as threads:
        told: dict[str, Future[object]] = {}
        for name in "bacde":
            told[name] = threads.submit(append, name)
            while len(group._waiting) < len(told):
                pass
        group._next()
        assert begun.wait(30)
        assert isinstance(told["b"].result(), DeadlineError)
        go.set()
        assert [told[name].result(30) for name in "acde"] == [True] * 4
    assert group._at_work == 0


@pytest.mark.parametrize("full", [False, True])
def test_a_batch_begins_beside_another_one_only_if_it_is_full(monkeypatch: pytest.MonkeyPatch, *, full: bool) -> None:
    """Or has waited for a moment: two halves cost more than a whole."""
    monkeypatch.setattr(batches, "SOON", 3600.0)
    database = Database()
    group = CommitBatches(database.one, database.many, suspends=False, stats=Stats(), most=2)

    def append(name: str) -> bool:
        return step(group.ask(commit_of(name), Deadline(30)))

    with ThreadPoolExecutor(3) as threads:
        first = threads.submit(append, "first")
        while not database.alone:
            pass
        group._at_work += 1  # and another one, that ends soon
        rest: list[Future[bool]] = []
        for name in "ab" if full else "a":
            rest.append(threads.submit(append, name))
            while len(group._waiting) < len(rest):
                pass
        group._next()
        if full:
            assert [each.result() for each in rest] == [True, True]
        assert (len(group._waiting), group._at_work, first.done()) == (0 if full else 1, 1, False)
        database.go.set()
        assert [each.result() for each in (first, *rest)] == [True] * (3 if full else 2)
    assert database.together == ([["a", "b"]] if full else [])


@pytest.mark.parametrize("begun", [False, True])
def test_a_cancelled_task_leaves_the_others_alone(*, begun: bool) -> None:
    async def run() -> None:
        database, may_go = Database(), asyncio.Event()

        async def many(writes: Sequence[Append], deadline: Deadline) -> Collection[str]:
            await may_go.wait()
            return await database.many(writes, deadline)

        group = CommitBatches(database.one, many, suspends=True, stats=Stats())
        group._at_work = 2
        tasks = [asyncio.create_task(group.ask(commit_of(name), Deadline(30))) for name in "abc"]
        await asyncio.sleep(0)
        if begun:
            group._next()
            await asyncio.sleep(0)
        tasks[0].cancel()
        await asyncio.wait([tasks[0]])
        assert tasks[0].cancelled()
        if not begun:
            group._next()
        may_go.set()
        assert [await task for task in tasks[1:]] == [True, True]
        assert database.together == [["a", "b", "c"] if begun else ["b", "c"]]
        assert group._at_work == 1

    asyncio.run(run())


def test_who_should_lead_and_is_struck_holds_nobody_up() -> None:
    """Queues of jobs raise their time limits in threads, between any two instructions."""

    class StruckError(BaseException):
        pass

    database = Database()
    database.fails = StruckError()
    group = CommitBatches(database.one, database.many, suspends=False, stats=Stats())
    group._at_work = 1

    def append(name: str) -> object:
        try:
            return step(group.ask(commit_of(name), Deadline(30)))
        except BaseException as error:  # noqa: BLE001 (what it is, is asked)
            return error

    with ThreadPoolExecutor(4) as threads:
        first = threads.submit(append, "first")
        while not database.alone:
            pass
        rest = [threads.submit(append, name) for name in "abc"]
        while len(group._waiting) < 3:
            pass
        database.go.set()
        assert first.result() is True
        told = [each.result() for each in rest]
    assert sorted(type(each).__name__ for each in told) == [
        "StorageUnavailableError",
        "StorageUnavailableError",
        "StruckError",
    ]
    assert group._at_work == 1


# ---------------------------------------------------------------- loads


class Reading:
    """A database whose batches of loads wait until they may go on."""

    def __init__(self, fails: StorageError | None = None, large: Collection[str] = ()) -> None:
        self.alone: list[str] = []
        self.together: list[list[str]] = []
        self.fails, self.large = fails, large
        self.go = asyncio.Event()

    async def one(self, load: Load, deadline: Deadline) -> Rows:
        self.alone.append(load.session_id)
        return [(load.session_id, load.newest)]

    async def many(self, loads: Sequence[Load], deadline: Deadline) -> Mapping[str, Rows]:
        self.together.append([load.session_id for load in loads])
        await self.go.wait()
        if self.fails is not None:
            raise self.fails
        return {load.session_id: [tuple(load)] for load in loads if load.session_id not in self.large}


async def loaded(reading: Reading, *loads: Load) -> list[Rows | BaseException]:
    """What the callers of loads are told that came while others were at work."""
    group = LoadBatches(reading.one, reading.many, suspends=True, stats=Stats())
    group._at_work = 2
    tasks = [asyncio.create_task(group.ask(load, Deadline(30))) for load in loads]
    await asyncio.sleep(0)
    reading.go.set()
    group._next()
    return await asyncio.gather(*tasks, return_exceptions=True)


def test_loads_go_together_those_that_want_the_same_of_their_sessions() -> None:
    async def run() -> None:
        reading = Reading()
        wanted = [Load("c", 4), Load("a", 4), Load("b", 0), Load("a", 4), Load("d", 0)]
        assert await loaded(reading, *wanted) == [[tuple(load)] for load in wanted]
        assert reading.together == [["a", "c"], ["b", "d"]]
        assert reading.alone == []  # who asks for the same session gets the same

    asyncio.run(run())


def test_a_session_that_many_load_is_loaded_once() -> None:
    async def run() -> None:
        reading = Reading()
        assert await loaded(reading, *[Load("a", 4)] * 30) == [[("a", 4)]] * 30
        assert (reading.together, reading.alone) == ([], ["a"])

    asyncio.run(run())


def test_what_is_too_large_to_be_loaded_with_others_is_loaded_alone() -> None:
    async def run() -> None:
        reading = Reading(large={"b"})
        assert await loaded(reading, Load("a", 4), Load("b", 4)) == [[("a", 4)], [("b", 4)]]
        assert reading.alone == ["b"]

    asyncio.run(run())


def test_loads_that_failed_together_are_tried_one_by_one() -> None:
    """Whatever is known of it: nothing was written."""

    async def run() -> None:
        for written in ("no", "unknown"):
            reading = Reading(fails=StorageUnavailableError("Cut off.", written=written))
            assert await loaded(reading, Load("a", 4), Load("b", 4)) == [[("a", 4)], [("b", 4)]]
            assert reading.alone == ["a", "b"]

    asyncio.run(run())


def test_a_load_whose_batch_does_not_come_back_ends_by_its_deadline() -> None:
    async def run() -> None:
        reading = Reading()
        group = LoadBatches(reading.one, reading.many, suspends=True, stats=Stats())
        group._at_work = 2
        hasty = asyncio.create_task(group.ask(Load("a", 4), Deadline(0.1)))
        calm = asyncio.create_task(group.ask(Load("b", 4), Deadline(30)))
        await asyncio.sleep(0)
        group._next()
        with pytest.raises(DeadlineError) as caught:
            await hasty
        assert caught.value.written == "no"
        reading.go.set()
        assert await calm == [("b", 4)]

    asyncio.run(run())


def test_loads_of_many_commits_go_at_once() -> None:
    async def run() -> None:
        reading = Reading()
        group = LoadBatches(reading.one, reading.many, suspends=True, stats=Stats())
        group._at_work = 2
        await group.ask(Load("a", 500), Deadline(5))
        assert reading.alone == ["a"]

    asyncio.run(run())
