"""Group commit, and loads that go together, on PostgreSQL, MariaDB and MySQL."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import psycopg
import pytest
from tests.servers.fixtures import connect_mysql
from tests.servers.networks import TORTURE, check
from tests.sql.crashing_batches import run_deadlocks
from tests.sql.helpers import Database, driver_of

from sessile.drivers.sql import batches
from sessile.drivers.sql.batches import Load
from sessile.errors import CorruptDataError, StorageError
from sessile.storage import Storage
from sessile.storage.driver import Append, Deadline, Loaded
from sessile.storage.faces import step
from sessile.testing.checks import all_runs


@pytest.fixture(params=["postgres", "mariadb", "mysql-itself"])
def database(request: pytest.FixtureRequest) -> Database:
    return Database("mysql" if request.param == "mariadb" else request.param, request)


@pytest.fixture
def on_postgres(request: pytest.FixtureRequest) -> Database:
    return Database("postgres", request)


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is slow sends nobody off alone."""
    monkeypatch.setattr(batches, "PATIENCE", 30.0)


def many(storage: Storage, writes: Sequence[Append]) -> set[str]:
    """A batch, by hand."""
    return set(step(driver_of(storage)._append_many(writes, Deadline(10))))


def of_runs(storage: Storage, session_id: str) -> Append:
    """A commit that changes nothing, after the newest of a session."""
    loaded = step(driver_of(storage).load(session_id, 1, Deadline(10)))
    head, newest = loaded.head, loaded.commits[-1]
    row = newest._replace(seq=head.revision + 1, commit_id=f"{session_id}-next", run=0, body='{"v":1,"entries":[]}')
    after = head._replace(revision=row.seq, name=f"né'w\\ {session_id}", metadata='{"a":"\\u0000"}')
    return Append(session_id, head.incarnation, head.revision, (row,), after)


def connection_to(database: Database) -> Any:
    """A connection of somebody else's, in a transaction of its own."""
    if database.is_postgres:
        return psycopg.connect(database.address)
    connection = connect_mysql(database.address)
    connection.begin()
    return connection


NEW = "né'w\\ {}"


def test_a_batch_on_a_server(database: Database) -> None:
    """Some have lost their races, one meets a lock of somebody's: none is written, nor holds up the others."""
    with database.open() as storage:
        for name in "abcdef":
            storage.add_run(name, input="1", metadata={"k": "v"})
        writes = [of_runs(storage, name) for name in "abcdef"]
        storage.add_run("b", input="2")
        writes[4] = writes[4]._replace(was_body="another")
        first = step(driver_of(storage).load("f", 0, Deadline(10))).head
        writes[5] = writes[5]._replace(was_body=first.body, was_updated_at=first.updated_at)
        with closing(connection_to(database)) as other:
            other.cursor().execute("SELECT 1 FROM sessile_sessions WHERE session_id = 'c' FOR UPDATE")
            assert many(storage, writes) == {"a", "d", "f"}
        assert [head.name for head in heads(storage, "abcdef")] == [
            NEW.format(name) if name in "adf" else None for name in "abcdef"
        ]
        assert heads(storage, "a")[0].metadata == '{"a":"\\u0000"}'
        found = database.sql("SELECT session_id, MAX(seq), COUNT(*) FROM sessile_commits GROUP BY 1 ORDER BY 1")
        assert found == [(name, *((1, 1) if name in "ce" else (2, 2))) for name in "abcdef"]
        assert many(storage, writes) == {"c"}  # the others are there: nobody writes a commit twice


def heads(storage: Storage, names: str) -> list[Any]:
    return [step(driver_of(storage).load(name, 0, Deadline(10))).head for name in names]


def test_a_batch_of_nobody(database: Database) -> None:
    """All have lost; and what is remembered of a batch is not that of the one before on the same connection."""
    with database.open(pool_size=1) as storage:
        for name in "ab":
            storage.add_run(name, input="1")
        writes = [of_runs(storage, name) for name in "ab"]
        assert many(storage, writes) == {"a", "b"}
        assert many(storage, writes) == set()
        assert many(storage, [of_runs(storage, "a"), writes[1]]) == {"a"}
        assert [head.revision for head in heads(storage, "ab")] == [3, 2]


@pytest.mark.parametrize("newest", [0, 1, 4, 16])
def test_loads_together_bring_what_lone_ones_bring(database: Database, newest: int) -> None:
    names = ["a", "A", "é'\"\\{}, %s", "few", "a "]
    with database.open() as storage:
        for name in names:
            for number in range(2 if name == "few" else 6):
                storage.add_run(name, input=f"{name} {number}", metadata={"k": "né"})
        driver = driver_of(storage)
        loads = [Load(name, newest) for name in sorted([*names, "missing"])]
        found = step(driver._load_many(loads, Deadline(10)))
        assert found.keys() == {load.session_id for load in loads}
        for load in loads:
            one = step(driver.load(load.session_id, newest, Deadline(10)))
            assert without_clock(driver._loaded(found[load.session_id])) == without_clock(one)


def without_clock(loaded: Loaded | None) -> Loaded | None:
    return None if loaded is None else loaded._replace(now=0)


def test_large_commits_are_not_loaded_with_others(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("sessile.drivers.postgres.storage", "sessile.drivers.mysql.together"):
        monkeypatch.setattr(f"{module}.LOADED_CHARS", 20_000)
    with database.open() as storage:
        for name in "ab":
            for size in (10, 30_000 if name == "b" else 10, 10):
                storage.add_run(name, input="x" * size)
        found = step(driver_of(storage)._load_many([Load("a", 2), Load("b", 2)], Deadline(10)))
        assert found.keys() == {"a"}


def test_one_damaged_session_harms_no_other(database: Database) -> None:
    names = [f"s{number}" for number in range(12)]
    with database.open(pool_size=20) as storage:
        for name in names:
            storage.add_run(name, input=0)
        database.sql("UPDATE sessile_sessions SET incarnation = '' WHERE session_id = 's3'")

        def read(name: str) -> list[str]:
            said: list[str] = []
            for _ in range(10):
                try:
                    said += [run.input for run in storage.runs(name)]
                except CorruptDataError:
                    said.append("damaged")
            return said

        with ThreadPoolExecutor(len(names)) as threads:
            found = dict(zip(names, threads.map(read, names), strict=True))
        assert found == {name: ["damaged" if name == "s3" else 0] * 10 for name in names}


def test_followers_hear_of_batches(on_postgres: Database) -> None:
    url = on_postgres.address
    with on_postgres.open() as storage, psycopg.connect(url, autocommit=True) as follower:
        for name in "abc":
            storage.add_run(name, input="1")
        on_postgres.sql(f"UPDATE sessile_sessions SET followed_until = {2**60} WHERE session_id <> 'b'")
        follower.execute(f"LISTEN {driver_of(storage)._channel}".encode())
        writes = [of_runs(storage, name) for name in "abc"]
        assert many(storage, writes) == {"a", "b", "c"}
        heard = sorted(each.payload for each in follower.notifies(timeout=30, stop_after=2))
        assert heard == sorted(write.incarnation for write in writes if write.session_id != "b")


REFUSING = (
    "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
    "IF NEW.session_id = 's3' THEN RAISE 'no'; END IF; RETURN NEW; END $$",
    "CREATE TRIGGER refuse BEFORE INSERT ON sessile_commits FOR EACH ROW EXECUTE FUNCTION refuse()",
)
REFUSING_ON_MYSQL = (
    "CREATE TRIGGER refuse BEFORE INSERT ON sessile_commits FOR EACH ROW "
    "IF NEW.session_id = 's3' THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no'; END IF",
)


def test_one_bad_commit_harms_no_other(database: Database) -> None:
    """A trigger of the application's refuses one session's commits, and with it the whole statement."""
    with database.open(pool_size=20) as storage:
        names = [f"s{number}" for number in range(12)]
        for name in names:
            storage.create_session(name)
        database.sql(*(REFUSING if database.is_postgres else REFUSING_ON_MYSQL))

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
        assert all(whole(storage, name) == list(range(10)) for name in names if name != "s3")


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


def test_two_processes_batch_the_same_sessions(database: Database) -> None:
    """No deadlock, and each run there once; one of them uses threads, the other tasks."""
    with database.open() as storage:
        for number in range(12):
            storage.create_session(f"s{number}")
        writers = [
            subprocess.Popen([sys.executable, "-c", WRITER, database.url, who, face], stdout=subprocess.PIPE, text=True)
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
    if database.is_postgres:
        assert database.sql("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == [(0,)]


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


def whole(storage: Storage, session_id: str) -> list[Any]:
    """The inputs of a session whose log is as its head says."""
    assert storage.verify(session_id) > 0
    return [run.input for run in all_runs(storage, session_id)]


def test_killed_in_the_middle_of_batches(database: Database) -> None:
    """What was acknowledged is there, once; the commit of each session is whole or absent."""
    acknowledged: set[tuple[str, ...]] = set()
    choices = random.Random(18)
    with database.open() as storage:
        for number in range(12):
            storage.create_session(f"s{number}")
        for kill in range(KILLS):
            command = [sys.executable, "-c", ACKNOWLEDGING, database.url, f"k{kill}"]
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
def test_cut_in_the_middle_of_batches(database: Database, face: str) -> None:
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
            for _ in range(CUTS):
                over.wait(0.03)
                database.cut()
        finally:
            over.set()

    storage = database.open()
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
    with database.open() as again:
        for name, count in zip(names, counts, strict=True):
            assert whole(again, name) == list(range(count))


def test_batches_that_the_server_ends(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a deadlock with somebody else's locks a batch is what is undone: its commits are made one by one then."""
    check(run_deadlocks(database.url, seed=18, deadlocks=20 if TORTURE else 1), capsys)
