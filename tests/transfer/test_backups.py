"""Backups and what is put back of them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sessile import ANY_USER, JsonStorage, MemoryStorage, SqliteStorage
from sessile.encryption import EncryptedStorage, new_key
from sessile.errors import AlreadyExistsError, CorruptDataError, InvalidInputError
from sessile.storage import Storage
from sessile.storage.cache import keep_result
from sessile.storage.extending import operate
from sessile.storage.media import digest_of, write_media
from sessile.storage.vocabulary import ResultKept
from sessile.transfer import back_up, restore, verify_all


def fill(storage: Storage) -> None:
    for session_id in ("s1", "s2"):
        storage.add_run(session_id, input="in", output="out", state={"n": 1}, user_id="ada")

    async def keep(core: Any) -> None:
        head = await core.head_of("s1", "ada", core.deadline())
        await write_media(core, head, digest_of(b"x" * 9_999), b"x" * 9_999, core.deadline())

    operate(storage, keep)
    operate(storage, keep_result, "sessile:kept:1", ResultKept(name="step", output=1), 3600.0)


def same(storage: Storage) -> None:
    assert storage.runs("s1", user_id="ada")[0].output == "out"
    assert storage.media("s1", digest_of(b"x" * 9_999), user_id="ada") == b"x" * 9_999
    assert verify_all(storage) == (3, {})
    storage.add_run("s1", input="more", user_id="ada")


def test_sqlite_by_itself(tmp_path: Path) -> None:
    with SqliteStorage(tmp_path / "a.db") as storage:
        fill(storage)
        assert back_up(storage, tmp_path / "b.db").form == "sqlite"  # while it is open
        storage.add_run("s1", input="later", user_id="ada")
    done = restore(tmp_path / "b.db", f"sqlite:///{tmp_path}/c.db")
    assert (done.form, done.sessions, done.skipped, done.wrong) == ("sqlite", 3, {}, {})
    with SqliteStorage(tmp_path / "c.db") as storage:
        assert len(storage.runs("s1", user_id="ada")) == 1
        same(storage)
    assert sorted(path.name for path in tmp_path.glob("b.db*")) == ["b.db"]
    assert restore(tmp_path / "b.db", f"json:///{tmp_path}/d").sessions == 3
    with JsonStorage(tmp_path / "d") as storage:
        same(storage)


def test_whatever_the_file_is_called(tmp_path: Path) -> None:
    path = tmp_path / "b#1 %41?mode=memory.db"
    with SqliteStorage(tmp_path / "a.db") as storage:
        fill(storage)
        back_up(storage, path)
    assert restore(path, f"sqlite:///{tmp_path}/c.db").sessions == 3


def test_a_backup_ends_while_others_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever it lets go of the database another connection writes; it is not begun anew each time."""
    writes: list[int] = []
    with SqliteStorage(tmp_path / "a.db") as storage, SqliteStorage(tmp_path / "a.db") as other:
        for number in range(12):
            storage.add_run("s1", input="x" * 1_000_000, output=str(number))

        class Between(sqlite3.Connection):
            def backup(self, target: sqlite3.Connection, **given: Any) -> None:
                super().backup(target, progress=between, **given)

        def between(*_: int) -> None:
            if len(writes) < 100:
                writes.append(other.add_run("s2", input="more").number)

        with monkeypatch.context() as patch:
            patch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Between))
            back_up(storage, tmp_path / "b.db")
    assert len(writes) < 5
    assert restore(tmp_path / "b.db", f"sqlite:///{tmp_path}/c.db").wrong == {}


def test_others_as_an_archive(tmp_path: Path) -> None:
    with JsonStorage(tmp_path / "a") as storage:
        fill(storage)
        done = back_up(storage, tmp_path / "b.jsonl.gz")
        assert (done.form, done.sessions) == ("archive", 3)
    assert restore(tmp_path / "b.jsonl.gz", f"sqlite:///{tmp_path}/c.db").sessions == 3
    with SqliteStorage(tmp_path / "c.db") as storage:
        same(storage)


def test_what_is_encrypted_stays_so(tmp_path: Path) -> None:
    keys = {"k": new_key()}
    with EncryptedStorage(SqliteStorage(tmp_path / "a.db"), keys=keys) as storage:
        fill(storage)
        back_up(storage, tmp_path / "b.db")
    assert b"out" not in (tmp_path / "b.db").read_bytes()
    path = tmp_path / "c.db"
    done = restore(tmp_path / "b.db", lambda: EncryptedStorage(SqliteStorage(path), keys=keys))
    assert (done.sessions, done.wrong) == (3, {})
    with EncryptedStorage(SqliteStorage(path), keys=keys) as storage:
        same(storage)
    with (
        EncryptedStorage(MemoryStorage(), keys=keys) as storage,
        pytest.raises(InvalidInputError, match="encrypted"),
    ):
        back_up(storage, tmp_path / "d.jsonl")
    assert not (tmp_path / "d.jsonl").exists()


def test_nothing_is_put_over_sessions(tmp_path: Path) -> None:
    with SqliteStorage(tmp_path / "a.db") as storage:
        fill(storage)
        back_up(storage, tmp_path / "b.db")
    before = (tmp_path / "a.db").read_bytes()
    with pytest.raises(AlreadyExistsError):
        restore(tmp_path / "b.db", f"sqlite:///{tmp_path}/a.db")
    assert (tmp_path / "a.db").read_bytes() == before


@pytest.mark.parametrize("what", ["text", "empty", "cut", "other"])
def test_what_is_no_backup(tmp_path: Path, what: str) -> None:
    bad, target = tmp_path / "bad.db", tmp_path / "c.db"
    with SqliteStorage(tmp_path / "a.db") as storage:
        fill(storage)
        back_up(storage, tmp_path / "b.db")
    whole = (tmp_path / "b.db").read_bytes()
    if what == "other":
        with closing(sqlite3.connect(bad)) as connection, connection:
            connection.execute("CREATE TABLE mine (x)")
    else:
        bad.write_bytes({"text": b"hello", "empty": b"", "cut": whole[: len(whole) // 2]}[what])
    with pytest.raises(CorruptDataError):
        restore(bad, f"sqlite:///{target}")
    if target.exists():
        with SqliteStorage(target) as storage:
            assert not storage.sessions(user_id=ANY_USER).items


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    with SqliteStorage(tmp_path / "a.db") as storage:
        fill(storage)
        back_up(storage, tmp_path / "b.db")
    with closing(sqlite3.connect(tmp_path / "b.db")) as connection, connection:
        connection.execute("DELETE FROM sessile_commits WHERE session_id = 's2'")
        connection.execute("DELETE FROM sessile_records WHERE session_id = 's1' AND \"key\" LIKE 'media/%/0'")
    done = restore(tmp_path / "b.db", f"sqlite:///{tmp_path}/c.db")
    assert (done.sessions, sorted(done.wrong)) == (3, ["s1", "s2"])
