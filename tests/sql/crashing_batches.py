"""Campaigns on what several sessions do at one moment: `python -m tests.torture`.

Processes write to sessions of all, with threads or with tasks, so that nearly every commit goes with others. They are
killed, or their server is, or their connections are cut, or somebody's locks cross with theirs. Then each commit that
was acknowledged must be there once, none may be there that an error called not written, and each log must be whole.
"""

from __future__ import annotations

import asyncio
import logging
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from typing import Any, Literal, Self

import psycopg
import pymysql
from tests.servers import Server
from tests.servers.fixtures import connect_mysql
from tests.sql.helpers import cut_statements

import sessile
from sessile.errors import SessileError, StorageError
from sessile.storage import Storage
from sessile.testing import Figures
from sessile.testing.checks import all_runs

Face = Literal["sync", "async"]

SESSIONS = [f"s{number:02}" for number in range(24)]

TIMEOUT = 60.0
"""Of an operation, in seconds: longer than a server takes to start again."""


# ---------------------------------------------------------------- who writes


def write(url: str, who: str, face: Face) -> None:
    """Write to all sessions at once until the input ends; say of each commit what has become of it."""
    logging.getLogger("sessile").setLevel(logging.ERROR)  # lost answers are what this is about
    storage = sessile.open(url, timeout=TIMEOUT)
    over, lock = threading.Event(), threading.Lock()

    def say(what: str, session_id: str, text: str) -> None:
        with lock:
            print(what, session_id, text, flush=True)

    def work(session_id: str) -> None:
        number = 0
        while not over.is_set():
            text, number = f"{who}-{number}", number + 1
            try:
                storage.add_run(session_id, input=text)
            except StorageError as error:
                say(error.written, session_id, text)
            else:
                say("yes", session_id, text)

    async def awork(session_id: str) -> None:
        number = 0
        while not over.is_set():
            text, number = f"{who}-{number}", number + 1
            try:
                await storage.aadd_run(session_id, input=text)
            except StorageError as error:
                say(error.written, session_id, text)
            else:
                say("yes", session_id, text)

    async def all_of_them() -> None:
        await asyncio.gather(*map(awork, SESSIONS))
        await storage.aclose()

    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    if face == "async":
        asyncio.run(all_of_them())
    else:
        with ThreadPoolExecutor(len(SESSIONS)) as threads:
            list(threads.map(work, SESSIONS))


class Writer:
    """A process that writes, and what it has said by now."""

    def __init__(self, url: str, who: str, face: Face, said: dict[str, set[tuple[str, str]]]) -> None:
        command = [sys.executable, "-m", __name__, url, who, face]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._said = said
        self._reading = threading.Thread(target=self._read)
        self._progress = threading.Condition()
        self._count = 0

    def __enter__(self) -> Self:
        self._reading.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.endswith("\n"):
                what, session_id, text = line.split()
                self._said[what].add((session_id, text))
            with self._progress:
                self._count += 1
                self._progress.notify_all()
        with self._progress:
            self._count += sys.maxsize  # it has ended, by itself or not
            self._progress.notify_all()

    def wait_for(self, more: int) -> None:
        """Wait until so many further commits have ended, in one way or another."""
        with self._progress:
            wanted = self._count + more
            self._progress.wait_for(lambda: self._count >= wanted)

    def kill(self) -> None:
        """End it at once, and hear the last that it has said."""
        self._process.kill()
        self._over()

    def stop(self) -> None:
        """Let it end what it has begun."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._over()
        if self._process.returncode:
            raise AssertionError(f"A writer has ended with code {self._process.returncode}.")

    def _over(self) -> None:
        self._reading.join()
        self._process.wait()


class Ledger:
    """What writers say, and how that compares with what is there in the end."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.said: dict[str, set[tuple[str, str]]] = {"yes": set(), "no": set(), "unknown": set()}
        self._began = time.monotonic()
        with sessile.open(url) as storage:
            for session_id in SESSIONS:
                storage.create_session(session_id)

    def writer(self, who: str, face: Face) -> Writer:
        return Writer(self.url, who, face, self.said)

    @contextmanager
    def writers(self) -> Iterator[list[Writer]]:
        """One with threads and one with tasks, until the block ends."""
        with self.writer("threads", "sync") as first, self.writer("tasks", "async") as second:
            yield [first, second]
            for each in (first, second):
                each.stop()

    def figures(self, rounds: int, unheard: int = 0) -> Figures:
        """What has come of it. `unheard`: how many commits may be there of which nobody has said anything."""
        figures = Figures(rounds=rounds, acknowledged=len(self.said["yes"]))
        there: Counter[tuple[str, str]] = Counter()
        with sessile.open(self.url) as storage:
            for session_id in SESSIONS:
                try:
                    there.update((session_id, text) for text in _whole(storage, session_id))
                except SessileError as error:
                    figures.problems.append(f"{session_id}: {error}")
        figures.lost = len(self.said["yes"] - there.keys())
        figures.doubled = sum(count - 1 for count in there.values())
        figures.problems += [f"{each} was called not written" for each in self.said["no"] & there.keys()]
        silent = there.keys() - self.said["yes"] - self.said["unknown"]
        figures.unacknowledged = len(there.keys() - self.said["yes"])
        if len(silent) > unheard:
            figures.problems.append(f"{len(silent)} commits of which nobody had said anything")
        figures.seconds = time.monotonic() - self._began
        return figures


def _whole(storage: Storage, session_id: str) -> list[Any]:
    """The inputs of a session whose log is as its head says."""
    assert storage.verify(session_id) > 0
    return [run.input for run in all_runs(storage, session_id)]


# ---------------------------------------------------------------- campaigns


def run_killed_writers(url: str, seed: int, kills: int) -> Figures:
    """Processes are killed with SIGKILL in the middle of their batches; every third time two work at once."""
    chance, ledger = random.Random(seed), Ledger(url)
    for number in range(kills):
        faces: list[Face] = ["sync", "async"]
        count = 2 if number % 3 == 2 else 1
        writers = [ledger.writer(f"k{number}{each}", faces[(number + each) % 2]) for each in range(count)]
        for writer in writers:
            writer.__enter__()
        writers[0].wait_for(chance.randrange(20, 300))
        time.sleep(chance.random() * 0.005)
        for writer in writers:
            writer.kill()
    return ledger.figures(kills, unheard=2 * kills * len(SESSIONS))


def run_killed_server(server: Server, seed: int, restarts: int) -> Figures:
    """The server is killed with SIGKILL, and started again, while two processes write in batches."""
    chance, ledger = random.Random(seed), Ledger(server.url)
    with ledger.writers() as writers:
        for _ in range(restarts):
            for writer in writers:
                writer.wait_for(chance.randrange(10, 150))
            time.sleep(chance.random() * 0.01)
            server.kill()
            server.start()
    return ledger.figures(restarts)


def run_cut_connections(url: str, seed: int, cuts: int) -> Figures:
    """All connections that are in the middle of a statement are cut, while two processes write in batches."""
    chance, ledger = random.Random(seed), Ledger(url)
    with ledger.writers() as writers:
        for number in range(cuts):
            writers[number % 2].wait_for(chance.randrange(1, 60))
            time.sleep(chance.random() * 0.01)
            cut_statements(url)
    return ledger.figures(cuts)


def run_deadlocks(url: str, seed: int, deadlocks: int) -> Figures:
    """Somebody's locks cross with those of batches, which are the ones that the server ends. Rounds: so often.

    First what a batch takes second, then what it takes first.
    """
    chance, ledger = random.Random(seed), Ledger(url)
    before = ended = _deadlocks(url)
    with ledger.writers():
        while ended - before < deadlocks:
            _cross(url, chance.choice(SESSIONS), chance.random() * 0.02)
            ended = _deadlocks(url)
    return ledger.figures(ended - before)


IN_THE_WAY = 50
"""How many places in a log somebody takes, and does not keep."""


def _cross(url: str, session_id: str, seconds: float) -> None:
    """Stand where the next commits of a session have their place, then wait for its head, which a batch may have.

    The server ends the batch, which waits for the place: on PostgreSQL because its time is up first, on MariaDB because
    it has changed fewer rows.
    """
    numbers = " UNION ALL ".join(f"SELECT {number} AS n" for number in range(1, IN_THE_WAY + 1))
    place = (
        "INSERT INTO sessile_commits (session_id, incarnation, seq, commit_id, run, time, body) "
        "SELECT session_id, incarnation, revision + n, 'x', 0, 0, '{}' "
        f"FROM sessile_sessions, ({numbers}) AS numbers WHERE session_id = %s"
    )
    head = "SELECT 1 FROM sessile_sessions WHERE session_id = %s FOR UPDATE"
    if url.startswith("postgresql"):
        begin, connection = "SET deadlock_timeout = '20s'", psycopg.connect(url)
    else:
        begin, connection = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", connect_mysql(url)
    with suppress(*OVERTAKEN), closing(connection), connection.cursor() as cursor:
        for statement in (begin, "COMMIT", "BEGIN"):
            cursor.execute(statement)
        cursor.execute(place, (session_id,))
        time.sleep(seconds)
        cursor.execute(head, (session_id,))


OVERTAKEN = (
    psycopg.errors.UniqueViolation,
    psycopg.errors.DeadlockDetected,
    pymysql.err.IntegrityError,
    pymysql.err.OperationalError,
)
"""A batch was there first, or goes on."""


def _deadlocks(url: str) -> int:
    """How many the server has ended so far."""
    if url.startswith("postgresql"):
        with psycopg.connect(url, autocommit=True) as connection:
            found = connection.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
            return int(found.fetchall()[0][0])
    with connect_mysql(url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count FROM information_schema.innodb_metrics WHERE name = 'lock_deadlocks'")
        return int(cursor.fetchall()[0][0])


if __name__ == "__main__":
    write(*sys.argv[1:])  # type: ignore[arg-type]
