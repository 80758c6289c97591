"""What SQLite refuses or fails to do is one clear error of ours."""

from __future__ import annotations

import sqlite3
import stat
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessile import SqliteStorage
from sessile.drivers import sqlite as driver_module
from sessile.errors import (
    ClosedError,
    ConstraintError,
    CorruptDataError,
    DeadlineError,
    ReadOnlyError,
    StorageError,
    StorageFullError,
    StorageUnavailableError,
)
from sessile.storage import Deadline, ListQuery, Span
from sessile.storage.extending import operate
from sessile.storage.faces import step
from sessile.storage.turns import renew_turn

from .helpers import child, driver_of, finish, hurry, start, texts


def test_a_file_that_is_no_database(path: Path) -> None:
    path.write_text("These are my notes, and they are longer than a page of a database needs to be. " * 20)
    before = path.read_bytes()
    with SqliteStorage(path) as storage, pytest.raises(CorruptDataError, match="file is not a database") as caught:
        storage.add_run("s")
    assert (caught.value.retryable, caught.value.written) == (False, "no")
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before


def test_a_folder_where_the_file_should_be(tmp_path: Path) -> None:
    with SqliteStorage(tmp_path) as storage, pytest.raises(StorageUnavailableError, match="unable to open") as caught:
        storage.get_session("s")
    assert not caught.value.retryable


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "s.db", tmp_path / "file" / "sub" / "s.db"):
        with SqliteStorage(path) as storage, pytest.raises(ReadOnlyError, match=r"folder of .* cannot be made"):
            storage.get_session("s")


def test_a_full_disk(path: Path) -> None:
    with SqliteStorage(path) as storage:
        storage.add_run("s", format="test/1", messages=[{"text": "first"}])
        writer = driver_of(storage)._writer
        assert writer is not None
        pages = writer.execute("PRAGMA page_count").fetchone()[0]
        writer.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StorageFullError, match="is full") as caught:
            storage.add_run("s", format="test/1", messages=[{"text": "x" * 100_000}])
        assert (caught.value.retryable, caught.value.written) == (True, "no")
        assert "Free some space" in str(caught.value)
        assert texts(storage.messages("s")) == ["first"]
        writer.execute("PRAGMA max_page_count = 1000000")
        storage.add_run("s", format="test/1", messages=[{"text": "second"}])
        assert texts(storage.messages("s")) == ["first", "second"]
        storage.verify("s")


def test_a_limit_of_the_process_on_file_sizes(path: Path) -> None:
    code = """
import resource, sys
from sessile import SqliteStorage
from sessile.errors import StorageError
with SqliteStorage(sys.argv[1]) as storage:
    storage.add_run("s", input="first")
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
    try:
        storage.add_run("s", input="x" * 1_000_000)
    except StorageError as error:
        print(type(error).__name__, error.written, "disk" in error.hint or "space" in error.hint)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    storage.add_run("s", input="second")
    print([run.input for run in storage.runs("s")], storage.verify("s"))
"""
    pytest.importorskip("resource")
    lines = finish(child(code, path)).splitlines()
    assert lines[0] in ("StorageError unknown False", "StorageFullError no True")
    assert lines[1] == "['first', 'second'] 2"


READ_ONLY = """
import os, sys
from sessile import SqliteStorage
from sessile.errors import StorageError
with SqliteStorage(":memory:") as first:
    first.runs("s", last=first.add_run("s").number)  # imports what is imported at first use
root = os.getuid() == 0
if root:
    os.seteuid(65534)  # permissions do not bind root
with SqliteStorage(sys.argv[1]) as storage:
    for call in (lambda: storage.get_run("s", 1).input, lambda: storage.add_run("s"), lambda: storage.delete("s")):
        try:
            print(call())
        except StorageError as error:
            print(type(error).__name__, error.retryable, error.written, "permissions" in error.hint)
if root:
    os.seteuid(0)
"""


@pytest.fixture
def everybodys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that other users may enter too; pytest's own ones are private."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_a_file_that_may_only_be_read(everybodys: Path) -> None:
    path = everybodys / "s.db"
    with SqliteStorage(path) as storage:
        storage.add_run("s", input="kept")
    everybodys.chmod(0o777)  # WAL needs its files beside the database
    path.chmod(stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH)
    lines = finish(child(READ_ONLY, path)).splitlines()
    assert lines == ["kept", "ReadOnlyError False no True", "ReadOnlyError False no True"]


def test_a_folder_that_may_only_be_read(everybodys: Path) -> None:
    everybodys.chmod(0o555)
    lines = finish(child(READ_ONLY, everybodys / "s.db")).splitlines()
    assert lines == ["StorageUnavailableError False no True"] * 3
    lines = finish(child(READ_ONLY, everybodys / "sub" / "s.db")).splitlines()
    assert lines == ["ReadOnlyError False no True"] * 3
    everybodys.chmod(0o755)


def test_a_writer_who_does_not_let_go(path: Path, by_hand: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver_module, "BUSY_MILLISECONDS", 1)
    with SqliteStorage(path) as storage:
        turn = start(storage)
        hurry(storage, 0.1)
        by_hand.execute("BEGIN IMMEDIATE")
        for call in (
            lambda: storage.add_run("s"),
            lambda: storage.delete("s"),
            lambda: operate(storage, renew_turn, turn),
        ):
            with pytest.raises((StorageUnavailableError, DeadlineError)) as caught:
                call()
            assert (caught.value.retryable, caught.value.written) == (True, "no")
        assert storage.get_run("s", 1).status == "running", "readers go on"
        by_hand.execute("ROLLBACK")
        hurry(storage, 30)
        storage.add_run("s")


def test_waiting_for_another_process_to_let_go(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another connection writes; the storage waits until it has ended, beyond what SQLite itself waits."""
    monkeypatch.setattr(driver_module, "BUSY_MILLISECONDS", 1)
    released: list[bool] = []
    with SqliteStorage(path) as storage:
        storage.create_session("s")
        other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")

        def sleep(seconds: float) -> None:
            if len(released) == 3:
                other.execute("ROLLBACK")
            released.append(True)

        monkeypatch.setattr("sessile.drivers.sql.sqlite_calls.time.sleep", sleep)
        storage.rename("s", "patient")
        assert len(released) == 4
        other.close()


def test_a_thread_that_waits_for_another_one(path: Path) -> None:
    with SqliteStorage(path) as storage:
        storage.create_session("s")
        hurry(storage, 0.05)
        driver = driver_of(storage)
        held, go = threading.Event(), threading.Event()

        def hold() -> None:
            with driver._writing(Deadline(60)):
                held.set()
                go.wait()

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait()
        with pytest.raises(DeadlineError, match=r"did not become free for writing within 0.05 s"):
            storage.rename("s", "x")
        go.set()
        thread.join()


def test_a_list_that_takes_too_long_is_stopped(path: Path, by_hand: sqlite3.Connection) -> None:
    with SqliteStorage(path) as storage:
        storage.add_run("s", format="test/1", messages=[{"text": "x"}])
        columns = [name for _, name, *_ in by_hand.execute("PRAGMA table_info(sessile_sessions)")][1:]
        by_hand.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)"
            f" INSERT INTO sessile_sessions SELECT 's' || i, {', '.join(columns)} FROM sessile_sessions, n"
        )
        query = ListQuery(metadata={"absent": 1}, name_prefix="x")
        with pytest.raises(DeadlineError) as caught:
            step(driver_of(storage).list(query, Deadline(0)))
        assert caught.value.retryable
        assert storage.count_sessions() == 20001


def test_a_connection_that_is_closed_under_way(path: Path) -> None:
    with SqliteStorage(path) as storage:
        storage.add_run("s")
        storage.sessions()
        driver = driver_of(storage)
        for connection in [*driver._readers, driver._writer]:
            connection.close()
        for call in (lambda: storage.get_session("s"), storage.sessions, lambda: storage.add_run("s")):
            with pytest.raises(ClosedError):
                call()
    with pytest.raises(ClosedError):
        step(driver.entries("s", "i", Span(), Deadline(1)))


def test_an_unknown_error_of_sqlite_is_one_of_ours(path: Path, by_hand: sqlite3.Connection) -> None:
    with SqliteStorage(path) as storage:
        storage.add_run("s")
        by_hand.execute("DROP TABLE sessile_commits")
        with pytest.raises(StorageError, match="no such table") as caught:
            storage.messages("s", last_runs=1)
        assert caught.value.hint
        with pytest.raises(StorageError, match="no such table"):
            storage.add_run("s")


def test_what_a_key_or_a_constraint_refuses(path: Path) -> None:
    """A row stands where the next commit belongs; and somebody has added a trigger."""
    with SqliteStorage(path) as storage, sqlite3.connect(path) as connection:
        storage.create_session("s")
        connection.execute(
            "INSERT INTO sessile_commits (session_id, incarnation, seq, commit_id, run, time, body) "
            "SELECT session_id, incarnation, 2, 'forged', 0, time, body FROM sessile_commits"
        )
        connection.commit()
        with pytest.raises(CorruptDataError, match="no head knows of") as taken:
            storage.add_run("s", input="x")
        assert (taken.value.written, storage.get_session("s").revision) == ("no", 1)  # type: ignore[union-attr]
        assert storage.delete("s")
        connection.execute(
            "CREATE TRIGGER guard BEFORE INSERT ON sessile_sessions BEGIN SELECT RAISE(ABORT, 'not now'); END"
        )
        connection.commit()
        with pytest.raises(ConstraintError, match="not now") as refused:
            storage.create_session("s")
        assert (refused.value.written, storage.get_session("s")) == ("no", None)
