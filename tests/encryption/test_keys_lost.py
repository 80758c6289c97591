"""Keys in unlucky moments: what can be read stays readable, and what cannot be is never taken for absent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cryptography")

from sessile import MemoryStorage, SqliteStorage, Storage
from sessile.encryption import EncryptedStorage, SqliteKeyStore, new_key
from sessile.errors import SealedError, StorageError
from sessile.retention import Policy, retain
from sessile.storage.extending import WrappedDriver, operate
from sessile.transfer import copy, give

KEY = new_key()


def opened(path: Path, *, apart: bool = False, keys: Any = KEY, **options: Any) -> EncryptedStorage:
    store = SqliteKeyStore(path.parent / "keys.db") if apart else None
    return EncryptedStorage(SqliteStorage(path), keys=keys, key_store=store, **options)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


def remember(storage: Storage) -> None:
    storage.memories(user_id="ada").add("likes tea")
    storage.scope(user_id="ada").update({"tea": "green"})


def known(storage: Storage) -> tuple[list[str], Any]:
    memories = [one.memory for one in storage.memories(user_id="ada").all()]
    return memories, storage.scope(user_id="ada").state()


def test_what_outlives_sessions_gets_the_new_master_key(path: Path) -> None:
    old, new = new_key(), new_key()
    with opened(path, keys={"old": old}) as storage:
        remember(storage)
    with opened(path, keys={"new": new, "old": old}) as storage:
        done = storage.rotate_master_key()
        assert (done.sessions, done.skipped) == (2, {})
    with opened(path, keys={"new": new}) as storage:
        assert known(storage) == (["likes tea"], {"tea": "green"})


@pytest.mark.parametrize("how", ["another key", "no key"])
def test_without_the_key_what_outlives_sessions_is_neither_absent_nor_swept(path: Path, how: str) -> None:
    with opened(path) as storage:
        remember(storage)
    other = SqliteStorage(path) if how == "no key" else opened(path, keys=new_key())
    with other as storage:
        for look in (
            lambda: storage.memories(user_id="ada").all(),
            lambda: storage.memories(user_id="ada").add("hates tea"),
            lambda: storage.scope(user_id="ada").state(),
        ):
            with pytest.raises(SealedError):
                look()
        assert storage.sweep() == 0
        retain(storage, [Policy(keep=1e-6, kind="memories")])
    with opened(path) as storage:
        assert known(storage) == (["likes tea"], {"tea": "green"})


@pytest.mark.parametrize("apart", [False, True])
def test_a_session_that_is_given_to_a_user_keeps_its_key(path: Path, apart: bool) -> None:
    with opened(path, apart=apart) as storage:
        storage.add_run("s1", input="mine")
        give(storage, "s1", "ada")
    with opened(path, apart=apart) as storage:
        hers = storage.for_user("ada")
        assert [run.input for run in hers.runs("s1")] == ["mine"]
        assert storage.get_session("s1") is None
        storage.rotate_master_key()
        hers.add_run("s1", input="more")
        if apart:
            assert storage.destroy_user_keys("ada") == 1
    with opened(path, apart=apart) as storage:
        if apart:
            with pytest.raises(SealedError):
                storage.for_user("ada").runs("s1")
        else:
            assert len(storage.for_user("ada").runs("s1")) == 2


def test_what_a_user_has_claimed_is_destroyed_with_all_else(path: Path, tmp_path: Path) -> None:
    """Also what was claimed when nobody noted that in the key store, if it is in the database."""
    with opened(path, apart=True) as storage:
        for name in ("s1", "s2", "s3"):
            storage.add_run(name, input="x")
        storage.claim("s1", "ada")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sessile.encryption.driver.EncryptedDriver._give", _nothing)
            storage.claim("s2", "ada")
        storage.delete("s1", user_id="ada")
        storage.claim("s3", "bob")
        assert storage.destroy_user_keys("ada") == 1
        assert [key.session_id for key in SqliteKeyStore(tmp_path / "keys.db").all(None, 10)] == ["s3"]


async def _nothing(*_: object) -> None:
    pass


def test_a_copy_beside_the_same_key_store_costs_the_source_nothing(path: Path, tmp_path: Path) -> None:
    with opened(path, apart=True) as source, opened(tmp_path / "other.db", apart=True) as target:
        source.add_run("s1", input="x")
        assert copy(source, target).skipped == {}
    for one in (path, tmp_path / "other.db"):
        with opened(one, apart=True) as storage:
            assert [run.input for run in storage.runs("s1")] == ["x"]


class Between(WrappedDriver):
    """Lets something happen once, right after a page of a log was read."""

    happens: Any = None

    async def entries(self, session_id: str, incarnation: str, span: Any, deadline: Any) -> Any:
        rows = await self.inner.entries(session_id, incarnation, span, deadline)
        happens, self.happens = self.happens, None
        if happens is not None:
            happens()
        return rows


def between(path: Path) -> tuple[EncryptedStorage, Between]:
    found: list[Between] = []

    class Opened(Storage):
        def __init__(self) -> None:
            plain = SqliteStorage(path)

            async def driver(core: Any) -> Any:
                return core.driver

            found.append(Between(operate(plain, driver)))
            super().__init__(found[0])

    return EncryptedStorage(Opened(), keys=KEY), found[0]


@pytest.mark.parametrize("what", ["erase", "rotate"])
def test_another_key_in_the_middle_of_something_else(path: Path, what: str) -> None:
    """Somebody gives the session another key while it is rewritten: what is written then can be read by that key."""
    storage, middle = between(path)
    with storage, opened(path) as other:
        for number in range(3):
            storage.add_run("s1", input=f"said {number}")
        middle.happens = lambda: other.rotate_key("s1")
        storage.erase_run("s1", 1) if what == "erase" else storage.rotate_key("s1")
    with opened(path) as storage:
        assert [run.input for run in storage.runs("s1")][1:] == ["said 1", "said 2"]
        storage.verify("s1")


def test_two_that_give_another_key_at_once_take_different_numbers(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that comes later has put its key into the store before it sees that it is late."""
    with opened(path, apart=True) as one, opened(path, apart=True) as two:
        one.add_run("s1", input="x")
        two.runs("s1")
        put, late = SqliteKeyStore.put, list[Any]()

        def put_late(store: SqliteKeyStore, key: Any) -> None:
            if not late:
                late.append(key)
                one.rotate_key("s1")
            put(store, key)

        monkeypatch.setattr(SqliteKeyStore, "put", put_late)
        two.rotate_key("s1")
    with opened(path, apart=True) as storage:
        assert [run.input for run in storage.runs("s1")] == ["x"]


def test_a_key_store_that_cannot_be_made(path: Path, tmp_path: Path) -> None:
    store = SqliteKeyStore(tmp_path / "nowhere" / "keys.db")
    with EncryptedStorage(MemoryStorage(), keys=KEY, key_store=store) as storage:
        with pytest.raises(StorageError, match="The key store cannot be used"):
            storage.add_run("s1", input="x")
        assert storage.get_session("s1") is None
