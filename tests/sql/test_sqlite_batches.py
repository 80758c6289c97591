"""Group commit on SQLite: sessions that wait for each other are one transaction, and each hears of its own alone."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.servers.networks import TORTURE
from tests.sql.test_server_batches import ACKNOWLEDGING

from sessile import SqliteStorage
from sessile.drivers.sql import batches, sqlite_log
from sessile.drivers.sqlite import SqliteDriver
from sessile.errors import ConstraintError, DeadlineError, SessionNotFoundError
from sessile.testing.checks import all_runs

NAMES = [f"s{number}" for number in range(12)]

KILLS = 60 if TORTURE else 4
"""How often a process is killed in the middle of its batches."""


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is slow sends nobody off alone."""
    monkeypatch.setattr(batches, "PATIENCE", 30.0)


def driver_of(storage: SqliteStorage) -> SqliteDriver:
    core = storage._core
    assert core is not None
    assert isinstance(core.driver, SqliteDriver)
    return core.driver


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[SqliteStorage]:
    with SqliteStorage(tmp_path / "s.db") as storage:
        for name in NAMES:
            storage.add_run(name, input=0)
        yield storage


@contextmanager
def transactions(storage: SqliteStorage) -> Iterator[list[str]]:
    """What is said to SQLite on the writing connection."""
    said: list[str] = []
    writer = driver_of(storage)._writer
    assert writer is not None
    writer.set_trace_callback(said.append)
    yield said
    writer.set_trace_callback(None)


def together(
    storage: SqliteStorage, works: Sequence[Callable[[], Any]], meanwhile: Callable[[], None] = lambda: None
) -> list[BaseException | Any]:
    """What several threads are told, all of which wait for one that came first, and for whom the file is locked."""
    driver = driver_of(storage)
    group = driver._batches
    assert group is not None
    with ThreadPoolExecutor(len(works) + 1) as threads:
        with driver._write_lock:
            first = threads.submit(storage.rename, "s0", "first")
            while not group._at_work:
                pass
            rest: list[Future[Any]] = []
            for work in works:
                rest.append(threads.submit(work))
                while len(group._waiting) < len(rest):
                    pass
            meanwhile()
        first.result()
        told = [each.exception() or each.result() for each in rest]
    assert (group._at_work, len(group._waiting)) == (0, 0)
    return told


def test_who_waits_is_one_transaction(storage: SqliteStorage) -> None:
    works = [lambda name=name: storage.add_run(name, input=1).number for name in NAMES[1:]]
    with transactions(storage) as said:
        assert together(storage, works) == [2] * 11
    assert said.count("COMMIT") == 2
    assert sum(text.startswith("UPDATE") for text in said) == 2  # one of them is of all eleven
    for name in NAMES[1:]:
        assert [run.input for run in storage.runs(name)] == [0, 1]
        storage.verify(name)


def test_who_is_alone_waits_for_nobody(storage: SqliteStorage) -> None:
    with transactions(storage) as said:
        for _ in range(3):
            storage.add_run("s1", input=1)
    assert said.count("COMMIT") == 3


@pytest.mark.parametrize("new", [True, False])
def test_who_has_lost_its_race_tries_again_alone(
    storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch, *, new: bool
) -> None:
    """Somebody else has written to one of the sessions meanwhile, and removed another. With an old SQLite as well."""
    monkeypatch.setattr(sqlite_log, "TOGETHER", new)

    def meanwhile() -> None:
        with SqliteStorage(driver_of(storage).path) as other:
            other.add_run("s3", input="another's")
            other.delete("s4")

    works = [lambda name=name: storage.add_run(name, input=1, user_id=None).number for name in ("s1", "s2", "s3")]
    told = together(storage, [*works, lambda: storage.rename("s4", "new")], meanwhile)
    assert told[:3] == [2, 2, 3]
    assert isinstance(told[3], SessionNotFoundError)
    assert [run.input for run in storage.runs("s3")] == [0, "another's", 1]
    for name in NAMES[:4]:
        storage.verify(name)


def test_one_bad_commit_harms_no_other(storage: SqliteStorage) -> None:
    """A trigger of the application's refuses one session's commits, and with it the whole transaction."""
    with sqlite3.connect(driver_of(storage).path) as other:
        other.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON sessile_commits WHEN NEW.session_id = 's3' "
            "BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    other.close()
    works = [lambda name=name: storage.add_run(name, input=1).number for name in NAMES[1:]]
    told = together(storage, works)
    assert isinstance(told.pop(2), ConstraintError)
    assert told == [2] * 10
    assert [run.input for run in storage.runs("s3")] == [0]
    for name in NAMES:
        storage.verify(name)


def test_no_time_is_left(storage: SqliteStorage) -> None:
    """The file stays locked: nobody's commit is made, and each is told so."""
    with SqliteStorage(driver_of(storage).path, timeout=0.3) as hasty:
        hasty.sessions()
        driver = driver_of(hasty)
        with driver._write_lock, ThreadPoolExecutor(4) as threads:
            told = [threads.submit(hasty.add_run, name, input=1) for name in NAMES[:4]]
            errors = [each.exception() for each in told]
    assert [(type(error), getattr(error, "written", None)) for error in errors] == [(DeadlineError, "no")] * 4
    assert [len(storage.runs(name)) for name in NAMES[:4]] == [1] * 4


def test_a_file_that_was_replaced_gets_nothing_of_a_batch(storage: SqliteStorage, tmp_path: Path) -> None:
    """The batch is noticed to go to a file which the path names no more, and each writes to the new one."""

    def meanwhile() -> None:
        source = sqlite3.connect(driver_of(storage).path)
        target = sqlite3.connect(tmp_path / "copy.db")
        source.backup(target)
        source.close()
        target.close()
        (tmp_path / "copy.db").replace(tmp_path / "s.db")

    works = [lambda name=name: storage.add_run(name, input=1).number for name in NAMES[1:5]]
    assert together(storage, works, meanwhile) == [2] * 4
    with SqliteStorage(tmp_path / "s.db") as again:
        assert [len(again.runs(name)) for name in NAMES[1:5]] == [2] * 4


def test_a_child_does_not_wait_for_its_parents_batch(storage: SqliteStorage, tmp_path: Path) -> None:
    code = (
        "import os, sys, threading, sessile\n"
        "storage = sessile.SqliteStorage(sys.argv[1])\n"
        "over = threading.Event()\n"
        "def write(name):\n"
        "    while not over.is_set():\n"
        "        storage.add_run(name, input='parent')\n"
        "threads = [threading.Thread(target=write, args=(f's{n}',)) for n in range(8)]\n"
        "[thread.start() for thread in threads]\n"
        "for number in range(5):\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        storage.add_run('s9', input=f'child {number}')\n"
        "        os._exit(0)\n"
        "    assert os.waitpid(child, 0)[1] == 0\n"
        "over.set()\n"
        "[thread.join() for thread in threads]\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code, str(tmp_path / "s.db")], check=True, timeout=120)
    assert [run.input for run in storage.runs("s9")] == [0, *(f"child {number}" for number in range(5))]
    for name in NAMES:
        storage.verify(name)


def test_killed_in_the_middle_of_batches(storage: SqliteStorage) -> None:
    """What was acknowledged is there, once; the commit of each session is whole or absent."""
    acknowledged: set[tuple[str, ...]] = set()
    choices = random.Random(18)
    for kill in range(KILLS):
        command = [sys.executable, "-c", ACKNOWLEDGING, f"sqlite:///{driver_of(storage).path}", f"k{kill}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            for _ in range(choices.randrange(20, 300)):
                acknowledged.add(tuple(writer.stdout.readline().split()))
            writer.kill()
            acknowledged.update(tuple(line.split()) for line in writer.stdout if line.endswith("\n"))
    there = Counter((name, run.input) for name in NAMES for run in all_runs(storage, name) if run.input != 0)
    for name in NAMES:
        storage.verify(name)
    assert acknowledged - there.keys() == set()
    assert max(there.values()) == 1
    assert len(there) - len(acknowledged) <= len(NAMES) * KILLS  # what was on its way


def test_two_processes_batch_the_same_sessions(storage: SqliteStorage) -> None:
    """Each run is there once, in the order of who wrote it."""
    code = ACKNOWLEDGING.replace("10_000", "15")
    command = [sys.executable, "-c", code, f"sqlite:///{driver_of(storage).path}"]
    writers = [subprocess.Popen([*command, who], stdout=subprocess.PIPE) for who in "ab"]
    for writer in writers:
        assert len(writer.communicate()[0].splitlines()) == 15 * len(NAMES)
        assert writer.returncode == 0
    for name in NAMES:
        found = [run.input for run in all_runs(storage, name)][1:]
        assert [each for each in found if each[0] == "a"] == [f"a-{number}" for number in range(15)]
        assert [each for each in found if each[0] == "b"] == [f"b-{number}" for number in range(15)]
        storage.verify(name)
