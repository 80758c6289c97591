"""The SQLite driver: files, schema, settings, errors."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from sessile import SqliteStorage
from sessile.drivers import sqlite as driver_module
from sessile.drivers.sqlite import SCHEMA_VERSION, migration
from sessile.errors import (
    InvalidInputError,
    NewerVersionError,
    StorageError,
)
from sessile.storage.turns import renew_turn

from .helpers import driver_of, start, texts


def tables(connection: sqlite3.Connection) -> set[str]:
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


# ---------------------------------------------------------------- files


def test_what_is_stored_is_there_the_next_time(path: Path) -> None:
    with SqliteStorage(path) as storage:
        storage.add_run("s", messages=[{"text": "x"}], state={"a": 1})
    with SqliteStorage(str(path)) as storage:
        assert texts(storage.messages("s")) == ["x"]
        storage.add_run("s")
        assert storage.verify("s") == 2
    assert [file.name for file in path.parent.iterdir()] == ["sessions.db"]


def test_a_folder_that_does_not_exist_is_made(tmp_path: Path) -> None:
    with SqliteStorage(tmp_path / "a" / "b c" / "sessions.db") as storage:
        storage.add_run("s")
    assert (tmp_path / "a" / "b c" / "sessions.db").exists()


def test_nothing_is_made_before_first_use(path: Path) -> None:
    with SqliteStorage(path):
        pass
    assert not path.exists()


def test_in_memory() -> None:
    with SqliteStorage(":memory:") as storage, SqliteStorage(":memory:") as other:
        storage.add_run("s", messages=[{"text": "x"}])
        assert texts(storage.messages("s")) == ["x"]
        assert storage.sessions().items[0].session_id == "s"
        assert other.session("s") is None


def connections(storage: SqliteStorage) -> list[Any]:
    driver = driver_of(storage)
    return [*driver._readers, driver._writer]


def test_every_connection_has_its_settings(path: Path) -> None:
    def settings(storage: SqliteStorage) -> set[tuple[Any, ...]]:
        storage.add_run("s")
        storage.sessions()
        found: set[tuple[Any, ...]] = set()
        for connection in connections(storage):
            found.add(tuple(connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names))
        assert len(connections(storage)) == 2, "one writes, one reads"
        return found

    names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
    with SqliteStorage(path) as storage:
        assert settings(storage) == {("wal", 2, 1, 50)}
    with SqliteStorage(path, synchronous="NORMAL") as storage:
        assert settings(storage) == {("wal", 1, 1, 50)}


@pytest.mark.parametrize("bad", ["OFF", "full", "FULL; DROP TABLE x", 1, None])
def test_synchronous_is_full_or_normal(path: Path, bad: Any) -> None:
    with pytest.raises(InvalidInputError, match="synchronous must be"):
        SqliteStorage(path, synchronous=bad)


def test_a_path_with_nul(path: Path) -> None:
    with pytest.raises(InvalidInputError, match="is not the path of a file"):
        SqliteStorage("a\0b")


def test_tables_of_the_application_in_the_same_file_stay_untouched(path: Path, by_hand: sqlite3.Connection) -> None:
    by_hand.execute("CREATE TABLE sessions (id INTEGER PRIMARY KEY, note TEXT)")
    by_hand.execute("INSERT INTO sessions (note) VALUES ('mine')")
    by_hand.execute("PRAGMA user_version = 77")
    with SqliteStorage(path) as storage:
        storage.add_run("s")
        by_hand.execute("INSERT INTO sessions (note) VALUES ('also mine')")
        storage.delete("s")
        storage.sweep()
    assert by_hand.execute("SELECT note FROM sessions ORDER BY id").fetchall() == [("mine",), ("also mine",)]
    assert by_hand.execute("PRAGMA user_version").fetchone() == (77,)
    assert all(name.startswith("sessile_") for name in tables(by_hand) - {"sessions"})


def test_deleting_a_session_leaves_no_row_of_it(path: Path, by_hand: sqlite3.Connection) -> None:
    with SqliteStorage(path) as storage:
        turn = start(storage)
        storage.run_operation(renew_turn, turn)
        storage.cancel_run("s")
        assert by_hand.execute("SELECT count(*) FROM sessile_records").fetchone() == (2,)
        storage.delete("s")
        for table in ("sessions", "commits", "records"):
            assert by_hand.execute(f"SELECT count(*) FROM sessile_{table}").fetchone() == (0,)


# ---------------------------------------------------------------- schema


def test_the_schema_is_the_sum_of_the_migrations(path: Path, by_hand: sqlite3.Connection) -> None:
    with SqliteStorage(path) as storage:
        storage.setup()
    plain = sqlite3.connect(":memory:")
    for version in range(1, SCHEMA_VERSION + 1):
        for statement in migration(version):
            plain.execute(statement)
    query = "SELECT type, name, sql FROM sqlite_master WHERE name NOT IN ('sessile_schema') ORDER BY name"
    assert by_hand.execute(query).fetchall() == plain.execute(query).fetchall()
    assert by_hand.execute("SELECT version FROM sessile_schema").fetchall() == [(SCHEMA_VERSION,)]
    plain.close()


def test_a_database_made_by_a_newer_version_is_refused(path: Path, by_hand: sqlite3.Connection) -> None:
    with SqliteStorage(path) as storage:
        storage.add_run("s")
    by_hand.execute("UPDATE sessile_schema SET version = 99")
    with SqliteStorage(path) as storage:
        for call in (lambda: storage.session("s"), lambda: storage.add_run("s"), storage.sessions, storage.sweep):
            with pytest.raises(
                NewerVersionError, match="has schema version 99; this version of Sessile knows 1"
            ) as caught:
                call()
            assert not caught.value.retry
    assert by_hand.execute("SELECT revision FROM sessile_sessions").fetchall() == [(1,)]


@pytest.mark.parametrize("failure", [sqlite3.OperationalError("cut"), KeyboardInterrupt()])
def test_a_migration_happens_whole_or_not_at_all(
    path: Path, by_hand: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    real = migration

    def cut(version: int) -> Any:
        statements = real(version)
        yield from statements[:-1]
        raise failure

    with SqliteStorage(path) as storage:
        monkeypatch.setattr(driver_module, "migration", cut)
        with pytest.raises((StorageError, KeyboardInterrupt)):
            storage.setup()
        assert tables(by_hand) == set()
        monkeypatch.setattr(driver_module, "migration", real)
        storage.add_run("s")
    assert len(tables(by_hand)) == 4


def test_an_older_schema_is_brought_up_to_date(
    path: Path, by_hand: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SqliteStorage(path) as storage:
        storage.add_run("s", messages=[{"text": "old"}])
    statements = {2: ["CREATE TABLE sessile_new (a)", "ALTER TABLE sessile_sessions ADD COLUMN later TEXT"]}
    monkeypatch.setattr(driver_module, "SCHEMA_VERSION", 2)
    monkeypatch.setattr(driver_module, "migration", lambda version: statements[version])
    with SqliteStorage(path) as storage:
        assert texts(storage.messages("s")) == ["old"]
    assert by_hand.execute("SELECT version FROM sessile_schema").fetchall() == [(2,)]
    assert "sessile_new" in tables(by_hand)


def test_a_schema_table_without_a_version_is_taken_for_none(path: Path, by_hand: sqlite3.Connection) -> None:
    by_hand.execute("CREATE TABLE sessile_schema (version INTEGER NOT NULL)")
    with SqliteStorage(path) as storage:
        storage.add_run("s")
    assert by_hand.execute("SELECT version FROM sessile_schema").fetchall() == [(SCHEMA_VERSION,)]
