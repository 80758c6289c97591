"""Data that is damaged, tampered with or newer than the program; and what engines claim."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sessile import ANY_USER, MemoryStorage, SqliteStorage, Storage
from sessile.errors import CorruptDataError, NewerVersionError, SessionNotFoundError
from sessile.storage.cache import keep_result, read_result
from sessile.storage.extending import Core, operate
from sessile.storage.turns import renew_turn
from sessile.storage.vocabulary import ResultKept

from .helpers import crash, start, texts


def say(storage: Storage, text: str) -> None:
    storage.add_run("s", format="test/1", messages=[{"text": text}], state={text: 1})


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
        ("UPDATE sessile_sessions SET body = replace(body, '\"run_count\":3', '\"run_count\":2')", "is damaged"),
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
    assert not caught.value.retryable


def test_an_error_that_somebody_keeps_holds_nothing_up(file: Any) -> None:
    """It refers to what it came from, and a statement that is not closed shows its connection nothing newer."""
    storage, execute = file
    storage.create_session("other")
    execute("UPDATE sessile_commits SET commit_id = CAST(x'ff' AS TEXT) WHERE session_id = 's' AND seq = 3")
    with pytest.raises(CorruptDataError) as kept:
        storage.get_session("s", last_runs=1)
    execute("UPDATE sessile_sessions SET name = 'by hand' WHERE session_id = 'other'")
    assert storage.get_session("other").name == "by hand"
    storage.rename("other", "by us")
    assert storage.get_session("other").name == "by us"
    assert "UTF-8" in str(kept.value)


def test_a_damaged_run_costs_only_itself_and_is_named(file: Any, caplog: pytest.LogCaptureFixture) -> None:
    storage, execute = file
    execute("UPDATE sessile_commits SET body = replace(body, '\"status\"', '\"sta\"') WHERE seq = 2")
    runs, messages = storage.runs("s"), storage.messages("s")
    assert ([run.number for run in runs], texts(messages)) == ([1, 3], ["0", "2"])
    for found in (runs, messages, storage.get_session("s", last_runs=2).runs):
        ((number, error),) = found.unreadable.items()
        assert (number, str(error)[:21]) == (2, "Commit 2 is damaged: ")
    with pytest.raises(CorruptDataError, match="Commit 2 is damaged"):
        storage.get_run("s", 2)
    said = [record.message for record in caplog.records if "Run 2 of session 's' is left out" in record.message]
    assert len(said) == 1, "what is read again and again is logged once"
    execute("UPDATE sessile_sessions SET body = '{}'")
    for read in (lambda: storage.get_session("s"), lambda: storage.add_run("s")):
        with pytest.raises(CorruptDataError, match="head of session 's'"):
            read()


@pytest.mark.parametrize(
    ("damage", "error"),
    [("'{}'", CorruptDataError), ("replace(body, '\"version\":1', '\"version\":99')", NewerVersionError)],
)
def test_what_cannot_be_read_does_not_hide_the_others(file: Any, damage: str, error: type[Exception]) -> None:
    storage, execute = file
    storage.create_session("ada's", user_id="ada")
    storage.create_session("broken", user_id="ada")
    storage.create_session("expired", ttl=1)
    execute(f"UPDATE sessile_sessions SET body = {damage} WHERE session_id = 'broken'")
    execute("UPDATE sessile_sessions SET expires_at = 1 WHERE session_id IN ('broken', 'expired')")
    assert storage.sweep() == 2
    storage.create_session("broken", user_id="ada")
    execute(f"UPDATE sessile_sessions SET body = {damage} WHERE session_id = 'broken'")
    pages = [storage.sessions(user_id=ANY_USER, limit=1)]
    while pages[-1].next_cursor is not None:
        pages.append(storage.sessions(user_id=ANY_USER, limit=1, cursor=pages[-1].next_cursor))
    assert sorted(head.session_id for page in pages for head in page) == ["ada's", "s"]
    assert [(name, type(why)) for page in pages for name, why in page.unreadable.items()] == [("broken", error)]
    assert storage.delete_user("ada") == 2
    page = storage.sessions(user_id=ANY_USER)
    assert ([head.session_id for head in page], page.unreadable) == (["s"], {})


STRANGE = {
    "revision": "'many'",
    "name": "x'ff'",
    "body": "x'fffe00'",
    "expires_at": "'soon'",
    "updated_at": "1.5",
    "metadata": "'{nothing'",
}


@pytest.mark.parametrize("column", STRANGE)
def test_a_damaged_column_costs_only_its_session(file: Any, column: str, tmp_path: Path) -> None:
    """SQLite takes every type in every column; the session is named, refused, and deleted by who may say so."""
    storage, execute = file
    for session_id in ("broken", "sound"):
        storage.create_session(session_id, user_id="ada", metadata={"team": "red"})
    execute(f"UPDATE sessile_sessions SET {column} = {STRANGE[column]} WHERE session_id = 'broken'")
    for query in ({}, {"metadata": {"team": "red"}}, {"metadata_keys": ["team"]}):
        page = storage.sessions(user_id=ANY_USER, **query)
        assert "sound" in [head.session_id for head in page]
        assert [(name, type(why)) for name, why in page.unreadable.items()] == [("broken", CorruptDataError)]
    with SqliteStorage(tmp_path / "s.db") as fresh:
        for call in ("get_session", "runs", "messages", "entries", "add_run", "verify"):
            with pytest.raises(CorruptDataError, match="broken"):
                getattr(fresh, call)("broken", user_id="ada")
    assert storage.sweep() == 0
    assert storage.delete("broken", user_id=ANY_USER)
    assert storage.get_session("broken", user_id="ada") is None
    assert storage.delete_user("ada") == 1
    assert execute("SELECT count(*) FROM sessile_commits WHERE session_id = 'broken'").fetchone() == (0,)


def test_what_is_not_deleted_is_named(file: Any) -> None:
    storage, execute = file
    names = [f"s{number:02}" for number in range(14)]
    for name in names:
        storage.create_session(name, user_id="ada")
    storage.create_session("sound", user_id="ada")
    execute("UPDATE sessile_sessions SET revision = 'many' WHERE session_id GLOB 's[01]*'")
    with pytest.raises(CorruptDataError) as caught:
        storage.delete_user("ada")
    assert sum(name in str(caught.value) for name in names) == 11  # the first, with its reason, and ten others
    assert "and 3 others" in str(caught.value)
    assert storage.get_session("sound", user_id="ada") is None


NEWER = "UPDATE {} SET body = replace(body, '\"version\":1', '\"version\":99')"


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE sessile_sessions SET name = CAST(x'ff' AS TEXT) WHERE session_id = 'b'",
        "UPDATE sessile_sessions SET revision = 'many' WHERE session_id = 'b'",
        "UPDATE sessile_sessions SET body = x'00' WHERE session_id = 'b'",
    ],
)
def test_a_list_goes_past_a_damaged_row(tmp_path: Path, damage: str) -> None:
    with SqliteStorage(tmp_path / "s.db") as storage:
        for session_id in "abc":
            storage.create_session(session_id)
        by_hand = sqlite3.connect(tmp_path / "s.db", isolation_level=None)
        by_hand.execute(damage)
        by_hand.close()
        page = storage.sessions()
        assert [item.session_id for item in page.items] == ["c", "a"]
        assert isinstance(page.unreadable["b"], CorruptDataError)
        found: list[str] = []
        cursor = None
        while cursor is not None or not found:
            page = storage.sessions(limit=1, cursor=cursor)
            found += [item.session_id for item in page.items]
            cursor = page.next_cursor
        assert found == ["c", "a"]


def test_an_older_program_refuses_what_a_newer_one_wrote(file: Any) -> None:
    storage, execute = file
    execute(NEWER.format("sessile_commits") + " WHERE seq = 2")
    for read in (storage.messages, storage.runs):
        assert "commit 2 needs format version 99" in str(read("s").unreadable[2])
    entries = storage.entries("s")
    assert ({entry.run for entry in entries}, list(entries.unreadable)) == ({None, 1, 3}, [2])
    assert {entry.run for entry in storage.tail("s", 100).entries} == {None, 1, 3}
    assert [entry.seq for entry, _ in zip(storage.follow("s", after=1), range(3), strict=False)] == [3, 3, 3]
    for call in (lambda: storage.get_run("s", 2), lambda: storage.fork("s"), lambda: storage.verify("s")):
        with pytest.raises(NewerVersionError, match="commit 2 needs format version 99"):
            call()
    execute(NEWER.format("sessile_sessions"))
    for call in (lambda: storage.get_session("s"), lambda: storage.add_run("s")):
        with pytest.raises(NewerVersionError, match="head of session 's' needs format version 99"):
            call()


def test_what_a_newer_version_wrote_can_be_deleted_by_whom_it_belongs_to(file: Any) -> None:
    storage, execute = file
    storage.create_session("ada's", user_id="ada")
    execute(NEWER.format("sessile_sessions"))
    assert storage.delete("ada's") is False
    assert storage.delete("ada's", user_id="ada") is True
    assert storage.delete("s") is True
    for table in ("sessile_sessions", "sessile_commits"):
        assert execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)


def test_an_expired_session_of_a_newer_version_is_absent_and_leaves_its_id_free(file: Any) -> None:
    storage, execute = file
    execute(NEWER.format("sessile_sessions"))
    execute("UPDATE sessile_sessions SET expires_at = 1")
    assert (storage.get_session("s"), storage.runs("s")) == (None, [])
    assert storage.add_run("s", output="new").number == 1
    assert storage.verify("s") == 1


def test_a_run_of_a_newer_version_is_left_to_its_programs_by_a_sweep(file: Any) -> None:
    storage, execute = file
    execute(NEWER.format("sessile_sessions"))
    execute("UPDATE sessile_sessions SET status = 'running', updated_at = 1")
    assert storage.sweep() == 0


def test_a_kept_result_that_cannot_be_read_is_computed_again(file: Any) -> None:
    storage, execute = file
    operate(storage, keep_result, "cache:x", ResultKept(name="step", output=1), 60)
    for damage in ("replace(body, '\"version\":1', '\"version\":99')", "'{'"):
        for table in ("sessile_sessions", "sessile_commits"):
            execute(f"UPDATE {table} SET body = {damage} WHERE session_id = 'cache:x'")
            assert operate(storage, read_result, "cache:x", 60) is None
            operate(storage, keep_result, "cache:x", ResultKept(name="step", output=2), 60)
        assert operate(storage, read_result, "cache:x", 60).output == 2


@pytest.mark.parametrize("record", [b"\xff", b"{}", b"[]", b'{"epoch":"1","until":null}', b""])
def test_a_damaged_lease_renews_nothing_and_costs_no_other_session(record: bytes) -> None:
    with MemoryStorage(lease=0.05) as storage:
        crash(storage)
        turn = start(storage, "other")
        for session_id in ("s", "other"):
            head = storage.get_session(session_id)
            for name in ("lease/1", "cancel/1"):
                operate(storage, put, head, name, record)
        assert storage.get_session("s").status == "interrupted"
        assert {head.session_id for head in storage.sessions()} == {"s", "other"}
        assert operate(storage, renew_turn, turn) is False
        storage.sweep()
        assert storage.get_run("s", 1).status == "interrupted"


async def put(core: Core, head: Any, key: str, value: bytes) -> None:
    await core.driver.put_record(head.session_id, head.incarnation, key, value, core.deadline())


def test_capabilities_say_what_the_engine_does(tmp_path: Path) -> None:
    with MemoryStorage() as memory, SqliteStorage(tmp_path / "s.db") as file, SqliteStorage(":memory:") as inside:
        claims = [(s.capabilities.durable, s.capabilities.multi_process) for s in (memory, file, inside)]
        assert claims == [(False, False), (True, True), (False, False)]
        assert all(s.capabilities.transactional_head and s.capabilities.exact_order for s in (memory, file, inside))
