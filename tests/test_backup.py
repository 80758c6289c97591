"""Backups as docs/backup.md tells, while others write: whole, and with all that was acknowledged before."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.servers.fixtures import Address, mysql_database, postgres_database
from tests.servers.mariadb import MariaDbServer
from tests.servers.postgres import PostgresServer, postgres_programs
from tests.servers.process import find_program

import sessile
from sessile import ANY_USER, SqliteStorage, Storage
from sessile.errors import SessileError
from sessile.testing.checks import all_runs

SESSIONS = [f"s{number}" for number in range(4)]


@contextmanager
def writers(storage: Storage) -> Generator[dict[str, int]]:
    """Threads that write for the length of the context; what was acknowledged when it began."""
    over = threading.Event()
    acknowledged = dict.fromkeys(SESSIONS, 0)
    warm = threading.Barrier(len(SESSIONS) + 1)

    def write(session_id: str) -> None:
        number = 0
        while not over.is_set():
            number += 1
            storage.add_run(session_id, input=number, output="x" * 2000, state={"newest": number})
            acknowledged[session_id] = number
            if number == 5:
                warm.wait()

    threads = [threading.Thread(target=write, args=(session_id,)) for session_id in SESSIONS]
    for thread in threads:
        thread.start()
    warm.wait()
    try:
        yield dict(acknowledged)
    finally:
        over.set()
        for thread in threads:
            thread.join()


def check(storage: Storage, acknowledged: dict[str, int]) -> None:
    """The copy is whole, goes on where it stopped, and has what was there before it was begun."""
    page = storage.sessions(user_id=ANY_USER, limit=100)
    assert not page.unreadable
    assert {head.session_id for head in page.items} == set(SESSIONS)
    for session_id, number in acknowledged.items():
        storage.verify(session_id)
        runs = all_runs(storage, session_id)
        assert [run.input for run in runs] == list(range(1, len(runs) + 1))
        assert len(runs) >= number
        head = storage.get_session(session_id)
        assert head is not None
        assert head.state == {"newest": len(runs)}
        assert storage.add_run(session_id, input="later").number == len(runs) + 1


@pytest.mark.parametrize("way", ["vacuum", "backup"])
def test_sqlite(tmp_path: Path, way: str) -> None:
    with (
        SqliteStorage(tmp_path / "s.db") as storage,
        writers(storage) as acknowledged,
        closing(sqlite3.connect(tmp_path / "s.db")) as source,
    ):
        if way == "vacuum":
            source.execute("VACUUM INTO ?", [str(tmp_path / "copy.db")])
        else:
            with closing(sqlite3.connect(tmp_path / "copy.db")) as target:
                source.backup(target, pages=20, sleep=0.001)
    with SqliteStorage(tmp_path / "copy.db") as copy:
        check(copy, acknowledged)


def test_a_plain_copy_of_sqlites_file_is_no_backup(tmp_path: Path) -> None:
    with SqliteStorage(tmp_path / "s.db") as storage:
        storage.add_run("s", input="acknowledged")
        shutil.copy(tmp_path / "s.db", tmp_path / "copy.db")
        with SqliteStorage(tmp_path / "copy.db") as copy:
            assert copy.get_session("s") is None


def test_postgres(postgres: PostgresServer | Address, postgres_url: str, tmp_path: Path) -> None:
    programs, file = postgres_programs(), str(tmp_path / "sessions.dump")
    with sessile.open(postgres_url) as storage, writers(storage) as acknowledged:
        subprocess.run([programs / "pg_dump", "--format=custom", f"--file={file}", postgres_url], check=True)
    with postgres_database(postgres) as other:
        restore = ["--clean", "--if-exists", "--no-owner", f"--dbname={other}", file]
        subprocess.run([programs / "pg_restore", *restore], check=True)
        with sessile.open(other) as copy:
            check(copy, acknowledged)


def test_mariadb(mariadb: MariaDbServer | Address, tmp_path: Path) -> None:
    programs = [find_program([name]) for name in ("mariadb-dump", "mariadb")]
    if None in programs:
        missing = "mariadb-dump is not on this machine. Debian, Ubuntu: apt-get install mariadb-client"
        assert os.environ.get("CI") != "true", missing
        pytest.skip(missing)
    dump, client = map(str, programs)
    file = tmp_path / "sessions.sql"
    with mysql_database(mariadb) as url, mysql_database(mariadb) as other:
        with sessile.open(url) as storage, writers(storage) as acknowledged:
            how = ["--single-transaction", "--hex-blob", f"--result-file={file}", database_of(url)]
            subprocess.run([dump, *address_of(url), *how], check=True)
        with file.open() as text:
            subprocess.run([client, *address_of(other), database_of(other)], stdin=text, check=True)
        with sessile.open(other) as copy:
            check(copy, acknowledged)


def address_of(url: str) -> list[str]:
    parts = urlsplit(url)
    where = [f"--host={parts.hostname}", f"--port={parts.port}", f"--user={parts.username}"]
    return ["--no-defaults", "--protocol=tcp", *where]


def database_of(url: str) -> str:
    return urlsplit(url).path[1:]


@pytest.mark.parametrize("scheme", ["json", "yaml"])
def test_files(scheme: str, tmp_path: Path) -> None:
    tar = ["tar", "--sort=name", "--exclude=.sessile", "--create", "--file=sessions.tar", "sessions"]
    with sessile.open(f"{scheme}:///{tmp_path}/sessions") as storage, writers(storage) as acknowledged:
        done = subprocess.run(tar, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode in (0, 1), done.stderr  # 1: a file changed while it was read
    (tmp_path / "restored").mkdir()
    subprocess.run(["tar", "--extract", "--file=../sessions.tar"], cwd=tmp_path / "restored", check=True)
    with sessile.open(f"{scheme}:///{tmp_path}/restored/sessions") as copy:
        check(copy, acknowledged)


def test_doctor_finds_a_head_that_is_ahead_of_its_log(tmp_path: Path) -> None:
    """What a copy in the wrong order may be."""
    with sessile.open(f"json:///{tmp_path}/sessions") as storage:
        storage.add_run("s", input=1)
        (log,) = tmp_path.rglob("log.jsonl")
        before = log.read_bytes()
        storage.add_run("s", input=2)
        log.write_bytes(before)
        with pytest.raises(SessileError):
            storage.verify("s")
