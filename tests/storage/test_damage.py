"""Data that is damaged, tampered with or newer than the program; and what engines claim."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sessile import MemoryStorage, SqliteStorage, Storage
from sessile.errors import CorruptDataError, NewerVersionError, SessionNotFoundError

from .helpers import texts


def say(storage: Storage, text: str) -> None:
    storage.add_run("s", messages=[{"text": text}], state={text: 1})


def test_verify_counts_the_commits(storage: Storage) -> None:
    for number in range(3):
        say(storage, str(number))
    assert storage.verify("s") == 3
    with pytest.raises(SessionNotFoundError):
        storage.verify("absent")


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Any]:
    """A file with a session of three commits, opened by Sessile and by hand."""
    with SqliteStorage(tmp_path / "s.db") as storage:
        for number in range(3):
            say(storage, str(number))
        by_hand = sqlite3.connect(tmp_path / "s.db", isolation_level=None)
        yield storage, by_hand.execute
        by_hand.close()


@pytest.mark.parametrize(
    ("sql", "match"),
    [
        ("UPDATE sessile_sessions SET name = 'tampered'", "not what its log folds to"),
        ("UPDATE sessile_sessions SET body = replace(body, '\"run_count\":3', '\"run_count\":2')", "folds to"),
        ("UPDATE sessile_sessions SET body = replace(body, '\"2\":1', '\"2\":7')", "folds to"),
        ("DELETE FROM sessile_commits WHERE seq = 2", "commit 3 where commit 2 should be"),
        ("DELETE FROM sessile_commits WHERE seq = 3", "folds to"),
        ("DELETE FROM sessile_commits", "folds to"),
        ("UPDATE sessile_commits SET body = '{' WHERE seq = 2", "commit 2 cannot be read"),
        ("UPDATE sessile_commits SET body = '[]' WHERE seq = 2", "commit 2 has no format version"),
        ("UPDATE sessile_commits SET body = replace(body, 'run.ended', 'run.gone') WHERE seq = 2", "folds to"),
        (
            "UPDATE sessile_commits SET body = replace(body, '\"status\"', '\"sta\"') WHERE seq = 2",
            "Commit 2 is damaged",
        ),
        ("UPDATE sessile_commits SET body = CAST(x'ff' AS TEXT) WHERE seq = 2", "UTF-8"),
        ("UPDATE sessile_commits SET body = x'ff00' WHERE seq = 2", "commit 2 cannot be read"),
    ],
)
def test_tampering_is_detected(file: Any, sql: str, match: str) -> None:
    storage, execute = file
    execute(sql)
    with pytest.raises(CorruptDataError, match=match) as caught:
        storage.verify("s")
    assert not caught.value.retry


def test_damage_is_raised_by_every_read_that_meets_it(file: Any) -> None:
    storage, execute = file
    execute("UPDATE sessile_commits SET body = replace(body, '\"status\"', '\"sta\"') WHERE seq = 2")
    assert texts(storage.run("s", 3).messages) == ["2"]
    for read in (lambda: storage.runs("s"), lambda: storage.run("s", 2), lambda: storage.messages("s")):
        with pytest.raises(CorruptDataError, match="Commit 2 is damaged"):
            read()
    execute("UPDATE sessile_sessions SET body = '{}'")
    for read in (lambda: storage.session("s"), lambda: storage.add_run("s")):
        with pytest.raises(CorruptDataError, match="head of session 's'"):
            read()


@pytest.mark.parametrize(
    ("damage", "error"),
    [("'{}'", CorruptDataError), ("replace(body, '\"version\":1', '\"version\":2')", NewerVersionError)],
)
def test_what_cannot_be_read_does_not_hide_the_others(file: Any, damage: str, error: type[Exception]) -> None:
    storage, execute = file
    storage.create_session("ada's", user_id="ada")
    storage.create_session("broken", user_id="ada")
    storage.create_session("expired", ttl=1)
    execute(f"UPDATE sessile_sessions SET body = {damage} WHERE session_id = 'broken'")
    execute("UPDATE sessile_sessions SET expires_at = 1 WHERE session_id IN ('broken', 'expired')")
    with pytest.raises(error, match="The others were swept; 1 were removed"):
        storage.sweep()
    execute("UPDATE sessile_sessions SET expires_at = NULL WHERE session_id = 'broken'")
    pages = [storage.sessions(limit=1)]
    while pages[-1].next_cursor is not None:
        pages.append(storage.sessions(limit=1, cursor=pages[-1].next_cursor))
    assert sorted(head.session_id for page in pages for head in page) == ["ada's", "s"]
    assert [(name, type(why)) for page in pages for name, why in page.unreadable.items()] == [("broken", error)]
    with pytest.raises(error, match="All other sessions of the user, 1, were deleted"):
        storage.delete_user("ada")
    assert [head.session_id for head in storage.sessions()] == ["s"]


def test_an_older_program_refuses_what_a_newer_one_wrote(file: Any) -> None:
    storage, execute = file
    execute("UPDATE sessile_commits SET body = replace(body, '\"version\":1', '\"version\":2') WHERE seq = 2")
    with pytest.raises(NewerVersionError, match="commit 2 needs format version 2"):
        storage.messages("s")
    execute("UPDATE sessile_sessions SET body = replace(body, '\"version\":1', '\"version\":2')")
    for call in (lambda: storage.session("s"), lambda: storage.add_run("s"), lambda: storage.delete("s")):
        with pytest.raises(NewerVersionError, match="head of session 's' needs format version 2"):
            call()


def test_capabilities_say_what_the_engine_does(tmp_path: Path) -> None:
    with MemoryStorage() as memory, SqliteStorage(tmp_path / "s.db") as file, SqliteStorage(":memory:") as inside:
        claims = [(s.capabilities.durable, s.capabilities.multi_process) for s in (memory, file, inside)]
        assert claims == [(False, False), (True, True), (False, False)]
        assert all(s.capabilities.transactional_head and s.capabilities.exact_order for s in (memory, file, inside))
