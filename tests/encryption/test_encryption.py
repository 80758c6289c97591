"""What users of an encrypted storage notice, and what whoever has its files does not."""

from __future__ import annotations

import base64
import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai.models.test import TestModel

from sessile import ANY_USER, Agent, JsonStorage, MemoryStorage, SqliteStorage
from sessile.encryption import (
    AwsKms,
    EncryptedStorage,
    GcpKms,
    LocalKeys,
    SqliteKeyStore,
    new_key,
)
from sessile.errors import (
    ClosedError,
    InvalidInputError,
    SealedError,
    SessionNotFoundError,
    StorageUnavailableError,
    UnsupportedError,
)
from sessile.insight import Index
from sessile.storage import Storage
from sessile.storage.extending import operate
from sessile.storage.media import digest_of, write_media
from sessile.transfer import copy, export_runs

SECRET = "walrus-7731"
PICTURE = b"\x89PNG" + SECRET.encode() * 2_000


def fill(storage: Storage, session_id: str = "s1", user_id: str | None = "ada") -> None:
    """A session that has the secret wherever text can be."""
    storage.create_session(session_id, metadata={"word": SECRET}, user_id=user_id, agent="support")
    storage.add_run(
        session_id,
        input=f"{SECRET} in",
        output=f"{SECRET} out",
        messages=[{"role": "user", "content": SECRET}],
        state={SECRET: SECRET},
        user_id=user_id,
        agent="support",
        format="mine",
    )
    storage.rename(session_id, f"{SECRET} name", user_id=user_id)

    async def keep(core: Any) -> None:
        head = await core.head_of(session_id, user_id, core.deadline())
        await write_media(core, head, digest_of(PICTURE), PICTURE, core.deadline())

    operate(storage, keep)


def on_disk(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def stored_in(folder: Path, kind: type[Any]) -> Storage:
    return kind(folder / ("sessions.db" if kind is SqliteStorage else "sessions"))


@pytest.mark.parametrize("kind", [SqliteStorage, JsonStorage])
def test_nothing_that_was_said_is_in_the_files(tmp_path: Path, kind: type[Any]) -> None:
    keys = {"one": new_key()}
    with EncryptedStorage(stored_in(tmp_path, kind), keys=keys) as storage:
        fill(storage)
        assert SECRET.encode() not in on_disk(tmp_path)  # the write-ahead log is there, too
        digest = next(key for key in _media(storage, "s1"))
        assert digest.encode() not in on_disk(tmp_path)
        session = storage.get_session("s1", user_id="ada")
        assert session is not None
        assert (session.name, session.metadata, session.state) == (f"{SECRET} name", {"word": SECRET}, {SECRET: SECRET})
        assert storage.runs("s1", user_id="ada")[0].output == f"{SECRET} out"
        assert storage.media("s1", digest, user_id="ada") == PICTURE
        listed = storage.sessions(user_id="ada", agent="support", status="completed")
        assert [one.name for one in listed] == [f"{SECRET} name"]
        storage.verify("s1", user_id="ada")
    with EncryptedStorage(stored_in(tmp_path, kind), keys=keys) as storage:
        assert storage.runs("s1", user_id="ada")[0].input == f"{SECRET} in"
    found = on_disk(tmp_path)
    assert SECRET.encode() not in found
    assert base64.b64encode(PICTURE)[:40] not in found


def _media(storage: Storage, session_id: str) -> list[str]:
    async def names(core: Any) -> list[str]:
        head = await core.head_of(session_id, ANY_USER, core.deadline())
        keys = await core.driver.record_keys(session_id, head.incarnation, "media/", core.deadline())
        return [key.removeprefix("media/") for key in keys if key.count("/") == 1]

    return operate(storage, names)


def test_without_the_key_a_session_is_not_absent(tmp_path: Path) -> None:
    path, right = tmp_path / "sessions.db", new_key()
    with EncryptedStorage(SqliteStorage(path), keys={"k": right}) as storage:
        fill(storage)
    others = {
        "no key": lambda: SqliteStorage(path),
        "another key": lambda: EncryptedStorage(SqliteStorage(path), keys={"k": new_key()}),
        "a key of another name": lambda: EncryptedStorage(SqliteStorage(path), keys={"other": right}),
    }
    for make in others.values():
        with make() as storage:
            for read in (storage.get_session, storage.runs, storage.verify, storage.entries):
                with pytest.raises(SealedError, match="encrypted"):
                    read("s1", user_id="ada")
            with pytest.raises(SealedError, match="encrypted"):
                storage.add_run("s1", input="x", user_id="ada")
            page = storage.sessions(user_id="ada")
            assert not page.items
            assert isinstance(page.unreadable["s1"], SealedError)
    with EncryptedStorage(SqliteStorage(path), keys={"k": right}) as storage:
        assert storage.verify("s1", user_id="ada") == 3
    with EncryptedStorage(SqliteStorage(path), keys=new_key()) as storage:
        assert storage.delete_user("ada") == 1  # to delete it one need not read it
        assert not storage.sessions(user_id=ANY_USER).unreadable
        storage.add_run("s1", input="anew", user_id="ada")
        assert storage.runs("s1", user_id="ada")[0].input == "anew"


def test_what_was_stored_without_encryption_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    with SqliteStorage(path) as plain:
        plain.add_run("s1", input="said openly")
        with EncryptedStorage(SqliteStorage(tmp_path / "sealed.db"), keys=new_key()) as target:
            assert copy(plain, target).sessions == 1
            assert target.runs("s1")[0].input == "said openly"
    with EncryptedStorage(SqliteStorage(path), keys=new_key()) as storage:
        with pytest.raises(SealedError, match="without encryption"):
            storage.get_session("s1")
        assert storage.delete("s1", user_id=ANY_USER)


MOVES = {
    "a commit put in another's place": (
        "UPDATE sessile_commits SET body = (SELECT body FROM sessile_commits WHERE seq = 1 AND session_id = 's1')"
        " WHERE seq = 2 AND session_id = 's1'"
    ),
    "a commit of another session": (
        "UPDATE sessile_commits SET body = (SELECT body FROM sessile_commits WHERE seq = 1 AND session_id = 's2')"
        " WHERE seq = 1 AND session_id = 's1'"
    ),
    "another time": "UPDATE sessile_commits SET time = time + 1 WHERE seq = 1 AND session_id = 's1'",
    "another run": "UPDATE sessile_commits SET run = 7 WHERE seq = 1 AND session_id = 's1'",
    "not encrypted": 'UPDATE sessile_commits SET body = \'{"version":1,"entries":[]}\' WHERE seq = 1',
    "cut off": "UPDATE sessile_commits SET body = substr(body, 1, 60) WHERE seq = 1",
    "another user": "UPDATE sessile_sessions SET user_id = 'eve' WHERE session_id = 's1'",
    "another status": "UPDATE sessile_sessions SET status = 'failed' WHERE session_id = 's1'",
    "another session's head": (
        "UPDATE sessile_sessions SET body = (SELECT body FROM sessile_sessions WHERE session_id = 's2')"
        " WHERE session_id = 's1'"
    ),
    "a head that is not encrypted": 'UPDATE sessile_sessions SET body = \'{"version":1,"state":{}}\'',
}


@pytest.mark.parametrize("how", MOVES)
def test_what_was_moved_or_changed_is_refused(tmp_path: Path, how: str) -> None:
    path, keys = tmp_path / "sessions.db", {"k": new_key()}
    with EncryptedStorage(SqliteStorage(path), keys=keys) as storage:
        fill(storage)
        fill(storage, "s2")
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute(MOVES[how]).rowcount
    with (
        EncryptedStorage(SqliteStorage(path), keys=keys) as storage,
        pytest.raises(SealedError, match=r"damaged|not encrypted|without encryption|is not the one"),
    ):
        storage.verify("s1", user_id=ANY_USER)


def test_a_row_of_before_is_refused_when_the_session_was_made_again(tmp_path: Path) -> None:
    path, keys = tmp_path / "sessions.db", {"k": new_key()}
    with EncryptedStorage(SqliteStorage(path), keys=keys) as storage:
        fill(storage)
    with closing(sqlite3.connect(path)) as connection:
        (old,) = connection.execute("SELECT body FROM sessile_commits WHERE seq = 1").fetchone()
    with EncryptedStorage(SqliteStorage(path), keys=keys) as storage:
        storage.delete("s1", user_id="ada")
        fill(storage)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE sessile_commits SET body = ? WHERE seq = 1", (old,))
    with EncryptedStorage(SqliteStorage(path), keys=keys) as storage, pytest.raises(SealedError):
        storage.verify("s1", user_id="ada")


def test_filters_by_what_is_sealed_are_refused() -> None:
    with EncryptedStorage(MemoryStorage(), keys=new_key()) as storage:
        fill(storage)
        for filters in ({"name_prefix": "w"}, {"metadata": {"word": SECRET}}, {"metadata_keys": ["word"]}):
            for ask in (storage.sessions, storage.count_sessions):
                with pytest.raises(UnsupportedError, match="encrypted"):
                    ask(user_id="ada", **filters)
        for into in (None, "sqlite://"):
            with pytest.raises(InvalidInputError, match="plain_index"):
                storage.index(into)
            with pytest.raises(InvalidInputError, match="plain_index"):
                Index(storage, into=into)
    with EncryptedStorage(MemoryStorage(), keys=new_key(), clear=["name", "metadata"]) as storage:
        fill(storage)
        assert len(storage.sessions(user_id="ada", name_prefix="walrus", metadata={"word": SECRET}).items) == 1


def test_an_index_where_it_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    with EncryptedStorage(SqliteStorage(path), keys=new_key(), plain_index=True) as storage:
        fill(storage)
        assert {hit.session_id for hit in storage.index().search("walrus", user_id="ada")} == {"s1"}


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("whole", [False, True])
def test_an_index_forgets_what_nobody_can_read_any_more(apart: bool, whole: bool, tmp_path: Path) -> None:
    """Of a session, or of a user, whose keys were destroyed: no hits, and no words in the files."""
    keys, store = new_key(), SqliteKeyStore(tmp_path / "keys.db")
    into = f"sqlite:///{tmp_path}/index.db" if apart else None
    with EncryptedStorage(
        SqliteStorage(tmp_path / "sessions.db"), keys=keys, key_store=store, plain_index=True
    ) as storage:
        storage.add_run("s1", input="quetzalcoatlus hummingbird", output="walrus", user_id="ada")
        storage.add_run("s2", input="archaeopteryx", output="walrus", user_id="bob")
        index = storage.index(into)
        assert len(index.search("walrus", user_id=ANY_USER).items) == 2
        if whole:
            storage.destroy_user_keys("ada")
        else:
            storage.destroy_key("s1", user_id="ada")
        assert [hit.session_id for hit in index.search("walrus", user_id=ANY_USER)] == ["s2"]
        assert len(index.runs(user_id=ANY_USER).items) == 1
        index.compact()
    for path in tmp_path.glob("*.db"):
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    found = on_disk(tmp_path)
    assert b"quetzalcoatlus" not in found
    assert b"archaeopteryx" in found


def test_an_agent_works_as_ever(tmp_path: Path) -> None:
    keys = new_key()
    with EncryptedStorage(SqliteStorage(tmp_path / "sessions.db"), keys=keys) as storage:
        agent = Agent(TestModel(), storage=storage, history=3)
        agent.run(f"My name is {SECRET}.", session_id="s1", user_id="ada")
        agent.run("What is my name?", session_id="s1", user_id="ada")
        mine = storage.for_user("bob")
        mine.add_run("s1", input=SECRET)
        assert [one.session_id for one in mine.sessions()] == ["s1"]
    with EncryptedStorage(SqliteStorage(tmp_path / "sessions.db"), keys=keys) as storage:
        assert len(storage.messages("s1", user_id="ada")) >= 4
        assert export_runs(storage, tmp_path / "runs.csv").rows == 3
    assert SECRET.encode() in (tmp_path / "runs.csv").read_bytes()
    (tmp_path / "runs.csv").unlink()
    assert SECRET.encode() not in on_disk(tmp_path)


async def test_asynchronous_callers(tmp_path: Path) -> None:
    async with EncryptedStorage(SqliteStorage(tmp_path / "sessions.db"), keys=new_key()) as storage:
        await storage.aadd_run("s1", input=SECRET)
        assert await storage.arotate_key("s1") == 2
        assert (await storage.arotate_master_key()).sessions == 0
        assert (await storage.aruns("s1"))[0].input == SECRET
        with pytest.raises(UnsupportedError, match="key_store"):
            await storage.adestroy_key("s1")
        with pytest.raises(UnsupportedError, match="key_store"):
            await storage.adestroy_user_keys("ada")


# ---------------------------------------------------------------- other keys


@pytest.mark.parametrize("apart", [False, True])
def test_master_keys_are_changed_without_touching_data(tmp_path: Path, apart: bool) -> None:
    path, old, new = tmp_path / "sessions.db", new_key(), new_key()

    def opened(keys: Any) -> EncryptedStorage:
        return EncryptedStorage(
            SqliteStorage(path), keys=keys, key_store=SqliteKeyStore(tmp_path / "keys.db") if apart else None
        )

    with opened({"old": old}) as storage:
        fill(storage)
        fill(storage, "s2", None)
        before = storage.get_session("s1", user_id="ada")
    with closing(sqlite3.connect(path)) as connection:
        bodies = connection.execute("SELECT body FROM sessile_commits WHERE seq <= 3 ORDER BY 1").fetchall()
    with opened({"new": new, "old": old}) as storage:
        done = storage.rotate_master_key()
        assert (done.sessions, done.skipped) == (2, {})
        assert storage.rotate_master_key().sessions == 0
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT body FROM sessile_commits WHERE seq <= 3 ORDER BY 1").fetchall() == bodies
    with opened({"new": new}) as storage:
        assert storage.runs("s1", user_id="ada")[0].input == f"{SECRET} in"
        after = storage.get_session("s1", user_id="ada")
        assert before is not None
        assert after is not None
        assert after.updated_at == before.updated_at
        storage.verify("s1", user_id="ada")
    with opened({"old": old}) as storage, pytest.raises(SealedError, match="'new' is missing"):
        storage.runs("s1", user_id="ada")


@pytest.mark.parametrize("apart", [False, True])
def test_a_session_gets_another_key(tmp_path: Path, apart: bool) -> None:
    path, keys = tmp_path / "sessions.db", new_key()
    store = SqliteKeyStore(tmp_path / "keys.db") if apart else None
    with (
        EncryptedStorage(SqliteStorage(path), keys=keys, key_store=store) as storage,
        EncryptedStorage(SqliteStorage(path), keys=keys, key_store=store) as other,
    ):
        fill(storage)
        other.runs("s1", user_id="ada")  # has the old key at hand
        with closing(sqlite3.connect(path)) as connection:
            before = set(connection.execute("SELECT body FROM sessile_commits"))
        assert storage.rotate_key("s1", user_id="ada") == 4
        with closing(sqlite3.connect(path)) as connection:
            assert not before & set(connection.execute("SELECT body FROM sessile_commits"))
        for one in (storage, other):
            one.verify("s1", user_id="ada")
            one.add_run("s1", input="more", user_id="ada")
            assert one.media("s1", _media(one, "s1")[0], user_id="ada") == PICTURE
            assert one.runs("s1", user_id="ada")[0].input == f"{SECRET} in"
        if store is not None:
            session = storage.get_session("s1", user_id="ada")
            assert session is not None
            assert [key.number > 1 for key in store.get(session.incarnation)] == [True]
        with pytest.raises(SessionNotFoundError):
            storage.rotate_key("s1", user_id="eve")


def test_a_destroyed_key_is_nowhere(tmp_path: Path) -> None:
    """Whoever has the master key, and a copy of the database of before, can still not read it."""
    path, keys, secrets = tmp_path / "db" / "sessions.db", {"k": new_key()}, tmp_path / "keys"
    path.parent.mkdir()
    secrets.mkdir()
    store = SqliteKeyStore(secrets / "keys.db")

    def opened(place: Path) -> EncryptedStorage:
        return EncryptedStorage(SqliteStorage(place), keys=keys, key_store=store)

    with opened(path) as storage:
        for session_id, user in (("s1", "ada"), ("s2", "ada"), ("s3", "bob"), ("s4", "bob")):
            fill(storage, session_id, user)
        incarnation = {one.session_id: one.incarnation for one in storage.sessions(user_id=ANY_USER)}
        kept = {name: store.get(one)[0].wrapped for name, one in incarnation.items()}
    backup = tmp_path / "backup.db"
    shutil.copy(path, backup)
    assert all(wrapped in on_disk(secrets) for wrapped in kept.values())
    assert not any(base64.b64encode(wrapped) in path.read_bytes() for wrapped in kept.values())
    with opened(path) as storage:
        assert storage.destroy_key("s4", user_id="bob")
        assert not storage.destroy_key("s4", user_id="bob")
        assert storage.delete("s3", user_id="bob")
        assert storage.destroy_user_keys("ada") == 2
        with pytest.raises(SealedError, match="destroyed"):
            storage.runs("s1", user_id="ada")
        with pytest.raises(SessionNotFoundError):
            storage.destroy_key("s1", user_id="eve")
    left = on_disk(secrets)
    assert not any(wrapped in left for wrapped in kept.values())
    with opened(backup) as storage:
        for session_id in incarnation:
            with pytest.raises(SealedError, match="destroyed"):
                storage.runs(session_id, user_id=ANY_USER)
            assert storage.delete(session_id, user_id=ANY_USER)
        assert not storage.sessions(user_id=ANY_USER).items


# ---------------------------------------------------------------- where keys come from


def test_keys_of_environment_file_and_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, path, file = new_key(), tmp_path / "sessions.db", tmp_path / "keys.txt"
    monkeypatch.setenv("MY_KEYS", f"2026:{key}")
    file.write_text(f"# the keys\n\n2026:{key}\n")
    raw = base64.b64decode(key)
    for given in ("env:MY_KEYS", f"file:{file}", {"2026": key}, lambda: {"2026": raw}, LocalKeys({"2026": key})):
        with EncryptedStorage(SqliteStorage(path), keys=given) as storage:
            storage.add_run("s1", input=SECRET)
            assert storage.runs("s1")[-1].input == SECRET
    asked: list[int] = []
    keys = {"2026": key}

    def current() -> dict[str, str]:
        asked.append(1)
        return keys

    with EncryptedStorage(SqliteStorage(path), keys=current) as storage:
        storage.runs("s1")
        keys = {"2027": new_key(), **keys}
        with EncryptedStorage(SqliteStorage(path), keys=keys) as other:
            other.add_run("s2", input=SECRET)
        assert storage.runs("s2")[0].input == SECRET  # it has asked again
    assert len(asked) == 2


@pytest.mark.parametrize("given", ["", "short", b"x" * 31, {}, {"": b"k" * 32}, {"a": "?" * 44}])
def test_what_is_no_key_is_refused(given: Any) -> None:
    with pytest.raises(InvalidInputError) as refused:
        EncryptedStorage(MemoryStorage(), keys=given)
    assert "?" * 44 not in str(refused.value)


def test_wrong_arguments() -> None:
    used = MemoryStorage()
    used.add_run("s1", input="x")
    for wrong in (used, MemoryStorage().for_user("ada"), "memory://"):
        with pytest.raises(InvalidInputError):
            EncryptedStorage(wrong, keys=new_key())  # pyright: ignore[reportArgumentType]
    for options in ({"clear": ["state"]}, {"clear": "name"}, {"key_store": "keys.db"}, {"remember": 0}):
        with pytest.raises(InvalidInputError):
            EncryptedStorage(MemoryStorage(), keys=new_key(), **options)
    plain = MemoryStorage()
    EncryptedStorage(plain, keys=new_key())
    with pytest.raises(ClosedError, match="wrapped"):
        plain.sessions()
    with (
        EncryptedStorage(MemoryStorage(), keys="env:SESSILE_NOT_SET") as storage,
        pytest.raises(InvalidInputError, match="SESSILE_NOT_SET"),
    ):
        storage.add_run("s1", input="x")


class NamedError(Exception):
    """As boto3's, whose answer has a code."""

    def __init__(self, code: str) -> None:
        self.response = {"Error": {"Code": code}}


@dataclass
class Cipher:
    """A key service that has its keys in memory: of AWS's shape, and of Google's."""

    keys: LocalKeys
    error: Exception | None = None
    calls: int = 0

    def encrypt(self, *, request: dict[str, Any] | None = None, **given: Any) -> Any:
        self._ask()
        if request is not None:
            context = request["additional_authenticated_data"].decode()
            return Answer(ciphertext=self.keys.wrap(request["plaintext"], context)[1])
        return {"CiphertextBlob": self.keys.wrap(given["Plaintext"], json.dumps(given["EncryptionContext"]))[1]}

    def decrypt(self, *, request: dict[str, Any] | None = None, **given: Any) -> Any:
        self._ask()
        if request is not None:
            context = request["additional_authenticated_data"].decode()
            return Answer(plaintext=self.keys.unwrap("k", request["ciphertext"], context))
        return {"Plaintext": self.keys.unwrap("k", given["CiphertextBlob"], json.dumps(given["EncryptionContext"]))}

    def _ask(self) -> None:
        self.calls += 1
        if self.error is not None:
            raise self.error


@dataclass
class Answer:
    ciphertext: bytes = b""
    plaintext: bytes = b""


@pytest.mark.parametrize("service", [AwsKms, GcpKms])
def test_a_key_service(tmp_path: Path, service: type[AwsKms] | type[GcpKms]) -> None:
    client = Cipher(LocalKeys({"k": new_key()}))

    def opened() -> EncryptedStorage:
        return EncryptedStorage(SqliteStorage(tmp_path / "sessions.db"), keys=service(client, "k"))

    with opened() as storage:
        fill(storage)
        storage.runs("s1", user_id="ada")
        assert client.calls == 1
    with opened() as storage:
        client.error = NamedError("ThrottlingException")
        with pytest.raises(StorageUnavailableError, match="ThrottlingException"):
            storage.runs("s1", user_id="ada")
        client.error = NamedError("AccessDeniedException")
        with pytest.raises(SealedError, match="AccessDenied"):
            storage.runs("s1", user_id="ada")
        client.error = None
        assert storage.runs("s1", user_id="ada")[0].input == f"{SECRET} in"
        assert not storage.rotate_master_key().sessions
