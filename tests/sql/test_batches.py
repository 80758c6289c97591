"""Group commit: what goes to the database together is for each of its callers as if it had gone alone."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any

import psycopg
import pytest
from tests.postgres.test_postgres import driver_of, inputs, sql
from tests.servers.networks import TORTURE

from sessile import PostgresStorage
from sessile.drivers.sql import batches
from sessile.drivers.sql.batches import CommitBatches
from sessile.errors import DeadlineError, StorageError, StorageUnavailableError
from sessile.storage.driver import Append, CommitRow, Deadline, HeadRow
from sessile.storage.faces import step
from sessile.storage.stats import Stats
from sessile.testing.checks import all_runs


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


# ---------------------------------------------------------------- PostgreSQL


def many(storage: PostgresStorage, writes: Sequence[Append]) -> Collection[str]:
    """A batch, by hand."""
    return step(driver_of(storage)._append_many(writes, Deadline(10)))


def of_runs(storage: PostgresStorage, session_id: str) -> Append:
    """A commit that changes nothing, after the newest of a session."""
    loaded = step(driver_of(storage).load(session_id, 1, Deadline(10)))
    head, newest = loaded.head, loaded.commits[-1]
    row = newest._replace(seq=head.revision + 1, commit_id=f"{session_id}-next", run=0, body='{"v":1,"entries":[]}')
    after = head._replace(revision=row.seq, name="né'w\\", metadata='{"a":"\\u0000"}')
    return Append(session_id, head.incarnation, head.revision, (row,), after)


def test_a_batch_on_postgres(postgres_url: str) -> None:
    """One has lost its race, one meets a lock of somebody's: neither is written, nor holds up the others."""
    with PostgresStorage(postgres_url) as storage:
        for name in "abcd":
            storage.add_run(name, input="1", metadata={"k": "v"})
        writes = [of_runs(storage, name) for name in "abcd"]
        storage.add_run("b", input="2")
        with psycopg.connect(postgres_url) as other:
            other.execute("SELECT 1 FROM sessile_sessions WHERE session_id = 'c' FOR UPDATE")
            assert many(storage, writes) == {"a", "d"}
        found = sql(
            postgres_url, "SELECT session_id, name, metadata, filterable::text FROM sessile_sessions ORDER BY 1"
        )
        assert [row[1] for row in found] == ["né'w\\", None, None, "né'w\\"]
        assert found[0][2] == '{"a":"\\u0000"}'
        seqs = sql(postgres_url, "SELECT session_id, max(seq), count(*) FROM sessile_commits GROUP BY 1 ORDER BY 1")
        assert seqs == [("a", 2, 2), ("b", 2, 2), ("c", 1, 1), ("d", 2, 2)]


def test_followers_hear_of_batches(postgres_url: str) -> None:
    with PostgresStorage(postgres_url) as storage, psycopg.connect(postgres_url, autocommit=True) as follower:
        for name in "abc":
            storage.add_run(name, input="1")
        sql(postgres_url, f"UPDATE sessile_sessions SET followed_until = {2**60} WHERE session_id <> 'b'")
        follower.execute(f"LISTEN {driver_of(storage)._channel}".encode())
        writes = [of_runs(storage, name) for name in "abc"]
        assert many(storage, writes) == {"a", "b", "c"}
        heard = sorted(each.payload for each in follower.notifies(timeout=30, stop_after=2))
        assert heard == sorted(write.incarnation for write in writes if write.session_id != "b")


def test_one_bad_commit_harms_no_other(postgres_url: str) -> None:
    """A trigger of the application's refuses one session's commits, and with it the whole statement."""
    with PostgresStorage(postgres_url, pool_size=20) as storage:
        names = [f"s{number}" for number in range(12)]
        for name in names:
            storage.create_session(name)
        sql(postgres_url, "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "IF NEW.session_id = 's3' THEN RAISE 'no'; END IF; RETURN NEW; END $$")  # fmt: skip
        sql(
            postgres_url,
            "CREATE TRIGGER refuse BEFORE INSERT ON sessile_commits FOR EACH ROW EXECUTE FUNCTION refuse()",
        )

        def write(name: str) -> list[str]:
            refused: list[str] = []
            for number in range(10):
                try:
                    storage.add_run(name, input=number)
                except StorageError as error:
                    refused.append(f"{type(error).__name__} {error.written}")
            return refused

        with ThreadPoolExecutor(len(names)) as threads:
            refused = dict(zip(names, threads.map(write, names), strict=True))
        assert refused == {name: ["ConstraintError no"] * 10 if name == "s3" else [] for name in names}
        assert all(inputs(storage, name) == list(range(10)) for name in names if name != "s3")


WRITER = """
import sys, json, asyncio
from concurrent.futures import ThreadPoolExecutor
import sessile
url, who, face = sys.argv[1:]
names = [f"s{n}" for n in range(12)]
storage = sessile.open(url)

def write(name):
    for number in range(15):
        storage.add_run(name, input=f"{who}-{number}")

async def awrite(name):
    for number in range(15):
        await storage.aadd_run(name, input=f"{who}-{number}")

async def run():
    await asyncio.gather(*(awrite(name) for name in names))
    await storage.aclose()

if face == "async":
    asyncio.run(run())
else:
    with ThreadPoolExecutor(len(names)) as threads:
        list(threads.map(write, names))
print(json.dumps(storage.stats()))
"""


def test_two_processes_batch_the_same_sessions(postgres_url: str) -> None:
    """No deadlock, and each run there once; one of them uses threads, the other tasks."""
    with PostgresStorage(postgres_url) as storage:
        for number in range(12):
            storage.create_session(f"s{number}")
        writers = [
            subprocess.Popen([sys.executable, "-c", WRITER, postgres_url, who, face], stdout=subprocess.PIPE, text=True)
            for who, face in (("a", "sync"), ("b", "async"))
        ]
        for writer in writers:
            out, _ = writer.communicate()
            assert writer.returncode == 0
            assert "unknown_answers" not in json.loads(out)
        wanted = sorted(f"{who}-{number}" for who in "ab" for number in range(15))
        for number in range(12):
            found = [run.input for run in storage.runs(f"s{number}", last=100)]
            assert sorted(found) == wanted
            for who in "ab":
                assert [each for each in found if each[0] == who] == [f"{who}-{n}" for n in range(15)]
    assert sql(postgres_url, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == [(0,)]


ACKNOWLEDGING = """
import sys, threading
from concurrent.futures import ThreadPoolExecutor
import sessile
url, who = sys.argv[1:]
storage, lock = sessile.open(url), threading.Lock()

def write(name):
    for number in range(10_000):
        storage.add_run(name, input=f"{who}-{number}")
        with lock:
            print(name, f"{who}-{number}", flush=True)

with ThreadPoolExecutor(12) as threads:
    list(threads.map(write, [f"s{n}" for n in range(12)]))
"""

KILLS = 60 if TORTURE else 3
"""How often a process is killed in the middle of its batches."""

CUTS = 200 if TORTURE else 15
"""How often all connections are cut."""


def whole(storage: PostgresStorage, session_id: str) -> list[Any]:
    """The inputs of a session whose log is as its head says."""
    assert storage.verify(session_id) > 0
    return [run.input for run in all_runs(storage, session_id)]


def test_killed_in_the_middle_of_batches(postgres_url: str) -> None:
    """What was acknowledged is there, once; the commit of each session is whole or absent."""
    acknowledged: set[tuple[str, ...]] = set()
    choices = random.Random(18)
    with PostgresStorage(postgres_url) as storage:
        for number in range(12):
            storage.create_session(f"s{number}")
        for kill in range(KILLS):
            command = [sys.executable, "-c", ACKNOWLEDGING, postgres_url, f"k{kill}"]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
                assert writer.stdout is not None
                for _ in range(choices.randrange(20, 300)):
                    acknowledged.add(tuple(writer.stdout.readline().split()))
                writer.kill()
                acknowledged.update(tuple(line.split()) for line in writer.stdout if line.endswith("\n"))
        found = {f"s{number}": whole(storage, f"s{number}") for number in range(12)}
    there = Counter((name, each) for name, each_of in found.items() for each in each_of)
    assert acknowledged - there.keys() == set()
    assert max(there.values()) == 1
    assert len(there) - len(acknowledged) <= 12 * KILLS  # what was on its way


@pytest.mark.parametrize("face", ["sync", "async"])
def test_cut_in_the_middle_of_batches(postgres_url: str, face: str) -> None:
    """Answers are lost, and each caller finds out by itself whether its commit was written."""
    names = [f"s{number}" for number in range(12)]
    over = threading.Event()

    def write(name: str) -> int:
        number = 0
        while not over.is_set():
            storage.add_run(name, input=number)
            number += 1
        return number

    async def awrite(name: str) -> int:
        number = 0
        while not over.is_set():
            await storage.aadd_run(name, input=number)
            number += 1
        return number

    async def run() -> list[int]:
        counts = await asyncio.gather(*(awrite(name) for name in names))
        await storage.aclose()
        return counts

    def cut() -> None:
        try:
            with psycopg.connect(postgres_url, autocommit=True) as connection:
                for _ in range(CUTS):
                    over.wait(0.03)
                    connection.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
                        " AND pid <> pg_backend_pid() AND backend_type = 'client backend' AND state = 'active'"
                    )
        finally:
            over.set()

    storage = PostgresStorage(postgres_url)
    for name in names:
        storage.create_session(name)
    cutter = threading.Thread(target=cut)
    cutter.start()
    if face == "async":
        counts = asyncio.run(run())
    else:
        with ThreadPoolExecutor(len(names)) as threads:
            counts = list(threads.map(write, names))
    cutter.join()
    storage.close()
    with PostgresStorage(postgres_url) as again:
        for name, count in zip(names, counts, strict=True):
            assert whole(again, name) == list(range(count))
