"""The SQLite driver: files, schema, settings, errors."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from sessile import SqliteStorage
from sessile.drivers import sqlite as driver_module
from sessile.drivers.sql.migrations import Texts
from sessile.errors import InvalidInputError, NewerVersionError, StorageError
from sessile.storage.extending import operate
from sessile.storage.turns import renew_turn

from .helpers import driver_of, start, texts


def tables(connection: sqlite3.Connection) -> set[str]:
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


# ---------------------------------------------------------------- files


def test_what_is_stored_is_there_the_next_time(path: Path) -> None:
    with SqliteStorage(path) as storage:
        storage.add_run("s", format="test/1", messages=[{"text": "x"}], state={"a": 1})
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
        storage.add_run("s", format="test/1", messages=[{"text": "x"}])
        assert texts(storage.messages("s")) == ["x"]
        assert storage.sessions().items[0].session_id == "s"
        assert other.get_session("s") is None


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
        operate(storage, renew_turn, turn)
        storage.cancel_run("s")
        assert by_hand.execute("SELECT count(*) FROM sessile_records").fetchone() == (2,)
        storage.delete("s")
        for table in ("sessions", "commits", "records"):
            assert by_hand.execute(f"SELECT count(*) FROM sessile_{table}").fetchone() == (0,)


# ---------------------------------------------------------------- schema


FIRST: Texts = {
    (1, "pre"): "CREATE TABLE sessile_schema (version, oldest); CREATE TABLE sessile_things (a TEXT);",
}
SECOND: Texts = {
    **FIRST,
    (2, "pre"): "ALTER TABLE sessile_things ADD COLUMN b TEXT;",
    (2, "post"): "ALTER TABLE sessile_things DROP COLUMN a;",
}


def with_schema(monkeypatch: pytest.MonkeyPatch, path: Path, schema: Texts) -> SqliteStorage:
    """The storage of a program whose migrations are these."""
    monkeypatch.setattr(driver_module, "read_texts", lambda database: schema)
    return SqliteStorage(path)


def columns(connection: sqlite3.Connection) -> list[str]:
    return [row[1] for row in connection.execute("PRAGMA table_info(sessile_things)")]


def state(connection: sqlite3.Connection) -> list[tuple[int, int]]:
    return connection.execute("SELECT version, oldest FROM sessile_schema").fetchall()


def test_a_database_that_only_newer_programs_can_use_is_refused(path: Path, by_hand: sqlite3.Connection) -> None:
    with SqliteStorage(path) as storage:
        storage.add_run("s")
    by_hand.execute("UPDATE sessile_schema SET version = 99, oldest = 98")
    with SqliteStorage(path) as storage:
        calls = (lambda: storage.get_session("s"), lambda: storage.add_run("s"), storage.sessions, storage.sweep)
        for call in (*calls, storage.migrate, lambda: storage.migrate(dry_run=True)):
            with pytest.raises(NewerVersionError, match="knows version 98; this version of Sessile knows 2") as caught:
                call()
            assert not caught.value.retryable
    assert by_hand.execute("SELECT revision FROM sessile_sessions").fetchall() == [(1,)]


def test_a_program_works_on_while_the_next_one_is_rolled_out(path: Path, by_hand: sqlite3.Connection) -> None:
    with SqliteStorage(path) as storage:
        storage.add_run("s")
    by_hand.execute("UPDATE sessile_schema SET version = 3, oldest = 2")
    with SqliteStorage(path) as storage:
        storage.add_run("s")
        assert storage.migrate(finish=True) == []
    assert state(by_hand) == [(3, 2)]


def test_pre_and_post(path: Path, by_hand: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    with with_schema(monkeypatch, path, FIRST) as storage:
        storage.setup()
    assert (columns(by_hand), state(by_hand)) == (["a"], [(1, 1)])
    with with_schema(monkeypatch, path, SECOND) as storage:
        assert storage.migrate(dry_run=True)[0] == "ALTER TABLE sessile_things ADD COLUMN b TEXT"
        assert columns(by_hand) == ["a"]
        storage.setup()
        assert (columns(by_hand), state(by_hand)) == (["a", "b"], [(2, 1)])
        assert storage.migrate() == []
        assert storage.migrate(finish=True)[0] == "ALTER TABLE sessile_things DROP COLUMN a"
        assert (columns(by_hand), state(by_hand)) == (["b"], [(2, 2)])
        assert storage.migrate(finish=True) == []
    with with_schema(monkeypatch, path, FIRST) as storage, pytest.raises(NewerVersionError):
        storage.setup()


def test_a_version_that_locks_older_programs_out_at_once(
    path: Path, by_hand: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    renaming: Texts = {**FIRST, (2, "pre"): "-- oldest: 2\nALTER TABLE sessile_things RENAME COLUMN a TO b;"}
    with with_schema(monkeypatch, path, FIRST) as storage:
        storage.setup()
    with with_schema(monkeypatch, path, renaming) as storage:
        storage.setup()
        assert (columns(by_hand), state(by_hand)) == (["b"], [(2, 2)])
        assert storage.migrate(finish=True) == []
    with with_schema(monkeypatch, path, FIRST) as storage, pytest.raises(NewerVersionError, match="knows version 2"):
        storage.setup()
    third: Texts = {**renaming, (3, "pre"): "ALTER TABLE sessile_things ADD COLUMN c TEXT;"}
    with with_schema(monkeypatch, path, third) as storage:
        storage.setup()
    assert (columns(by_hand), state(by_hand)) == (["b", "c"], [(3, 2)])
    with with_schema(monkeypatch, path, renaming) as storage:
        storage.setup()


def test_a_new_database_may_have_a_script_of_its_own(
    path: Path, by_hand: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts: Texts = {
        (
            2,
            "new",
        ): "-- oldest: 2\nCREATE TABLE sessile_schema (version, oldest); CREATE TABLE sessile_things (b TEXT);",
        (2, "pre"): "-- oldest: 2\nALTER TABLE sessile_things RENAME COLUMN a TO b;",
    }
    with with_schema(monkeypatch, path, texts) as storage:
        assert [statement.split()[0] for statement in storage.migrate()] == ["CREATE", "CREATE", "DELETE", "INSERT"]
        assert storage.migrate(finish=True) == []
    assert (columns(by_hand), state(by_hand)) == (["b"], [(2, 2)])


def test_a_version_is_finished_before_the_next_one_begins(
    path: Path, by_hand: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    for schema in (FIRST, SECOND):
        with with_schema(monkeypatch, path, schema) as storage:
            storage.setup()
    third: Texts = {**SECOND, (3, "pre"): "ALTER TABLE sessile_things ADD COLUMN c TEXT;"}
    with with_schema(monkeypatch, path, third) as storage:
        changes = [statement.split()[3] for statement in storage.migrate() if statement.startswith("ALTER")]
        assert changes == ["DROP", "ADD"]
    assert (columns(by_hand), state(by_hand)) == (["b", "c"], [(3, 2)])


def test_a_new_database_gets_all_at_once(
    path: Path, by_hand: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    with with_schema(monkeypatch, path, SECOND) as storage:
        wanted = storage.migrate(dry_run=True)
        assert storage.migrate() == wanted
    assert (columns(by_hand), state(by_hand)) == (["b"], [(2, 2)])


def test_a_migration_happens_whole_or_not_at_all(
    path: Path, by_hand: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken: Texts = {(1, "pre"): f"{FIRST[1, 'pre']} CREATE TABLE sessile_things (again);"}
    with with_schema(monkeypatch, path, broken) as storage, pytest.raises(StorageError, match="already exists"):
        storage.setup()
    assert tables(by_hand) == set()
    with with_schema(monkeypatch, path, FIRST) as storage:
        storage.setup()
    assert tables(by_hand) == {"sessile_schema", "sessile_things"}


def test_a_program_that_may_not_migrate(path: Path, by_hand: sqlite3.Connection) -> None:
    """It makes no file, and adds nothing to the database of another program."""
    other = path.with_name("other.db")
    with SqliteStorage(other, auto_migrate=False) as storage:
        for call in (storage.sessions, lambda: storage.add_run("s")):
            with pytest.raises(StorageError, match=r"There is no database .*other\.db'.*sessile migrate"):
                call()
        assert not other.exists()
    by_hand.execute("CREATE TABLE mine (a)")
    with SqliteStorage(path, auto_migrate=False) as storage:
        with pytest.raises(StorageError, match=r"(?s)lacks schema version 2.*CREATE TABLE.*sessile migrate"):
            storage.sessions()
        assert tables(by_hand) == {"mine"}
        storage.migrate()
        storage.add_run("s")


def test_a_dry_run_makes_nothing(path: Path) -> None:
    with SqliteStorage(path) as storage:
        assert storage.migrate(dry_run=True)[0].startswith("CREATE TABLE sessile_")
        assert not path.exists()
