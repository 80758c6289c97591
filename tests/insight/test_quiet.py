"""An index that has all looks at nothing until somebody commits, and then at what was committed, whoever did."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest

from sessile import ANY_USER, SqliteStorage, Storage
from sessile.insight import Index
from sessile.insight.catching_up import WINDOW
from sessile.insight.place import Place
from sessile.records import MICROSECOND

from .conftest import storage_at

SHARED = ("sqlite", "postgres", "mariadb")
"""Where log and index lie in one database."""


@pytest.fixture(params=SHARED)
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return storage_at(request, request.param, tmp_path)[0]


def settled(storage: Storage) -> Index:
    """An index that has all, and knows that."""
    storage.add_run("s", input="hello", user_id="ada")
    index = Index(storage)
    for _ in range(3):
        assert len(index.runs(user_id=ANY_USER)) == 1
    return index


def looks(index: Index, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Notes each look at what has changed, from now on."""
    noted: list[str] = []
    read = Place.read

    def noting(place: Place, statement: str, values: dict[str, object] | None = None) -> list[object]:
        if statement == WINDOW:
            noted.append(statement)
        return read(place, statement, values)

    monkeypatch.setattr(Place, "read", noting)
    return noted


def test_commits_are_found_at_once(shared: Storage) -> None:
    with shared:
        index = settled(shared)
        for number in range(2, 6):
            shared.add_run("s", input="hello", user_id="ada")
            assert len(index.runs(user_id=ANY_USER)) == number
            assert len(index.runs(user_id=ANY_USER)) == number
        shared.rewind("s", at=1, user_id=ANY_USER)
        assert len(index.runs(user_id=ANY_USER, on_branch=True)) == 1
        shared.delete("s", user_id=ANY_USER)
        assert index.usage(user_id=ANY_USER).total.runs == 0


def test_commits_of_other_processes_are_found_at_once(tmp_path: Path) -> None:
    with SqliteStorage(tmp_path / "s.db") as mine, SqliteStorage(tmp_path / "s.db") as others:
        index = settled(mine)
        others.add_run("s", input="hello", user_id="ada")
        assert len(index.runs(user_id=ANY_USER)) == 2


def test_a_commit_whose_clock_was_late_is_found_at_once(tmp_path: Path) -> None:
    with SqliteStorage(tmp_path / "s.db") as storage:
        index = settled(storage)
        storage.add_run("late", input="hello", user_id="ada")
        with sqlite3.connect(tmp_path / "s.db") as raw:
            raw.execute("UPDATE sessile_sessions SET updated_at = updated_at - ?", (80 * MICROSECOND,))
        assert len(index.runs(user_id=ANY_USER)) == 2


def test_what_expires_is_gone_though_nobody_commits(shared: Storage) -> None:
    with shared:
        index = settled(shared)
        shared.set_ttl("s", 0.3, user_id=ANY_USER)
        until = time.monotonic() + 30
        while index.usage(user_id=ANY_USER).total.runs:
            assert time.monotonic() < until
            time.sleep(0.05)


def test_an_index_that_another_drops_is_made_again(shared: Storage) -> None:
    with shared:
        index = settled(shared)
        Index(shared).drop()
        assert len(index.runs(user_id=ANY_USER)) == 1


def test_nothing_is_looked_at_while_nobody_commits(sqlite: SqliteStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a server, whatever others do there counts."""
    with sqlite:
        index = settled(sqlite)
        noted = looks(index, monkeypatch)
        for _ in range(5):
            assert len(index.runs(user_id=ANY_USER)) == 1
        assert noted == []
        sqlite.add_run("s", input="hello", user_id="ada")
        assert len(index.runs(user_id=ANY_USER)) == 2
        assert noted
