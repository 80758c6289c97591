"""Expiry, deletion, deleting all of a user, sweeping; and sessions made again under the same id."""

from __future__ import annotations

from typing import Any

import pytest

from sessile import ANY_USER, MemoryStorage, SqliteStorage, Storage
from sessile.drivers.memory import MemoryDriver
from sessile.errors import AlreadyExistsError, InvalidInputError, SessionNotFoundError, StorageError
from sessile.records import MICROSECOND
from sessile.storage import clock as clocks

from .helpers import Tapped, end, start, texts, wait_until


def ids(storage: Storage) -> list[str]:
    return [head.session_id for head in storage.sessions(user_id=ANY_USER)]


class Clock:
    """The database's clock and this machine's, moved by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = clocks.Clock().now()
        monkeypatch.setattr(clocks.Clock, "now", lambda clock: self.now)

    def storage(self, **options: Any) -> Storage:
        driver = Tapped(MemoryDriver())
        driver.after["load"] = lambda loaded, *args: loaded and loaded._replace(now=self.now)
        return Storage(driver, **options)

    def advance(self, seconds: float) -> None:
        self.now += int(seconds * MICROSECOND)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


# ---------------------------------------------------------------- expiry


def test_an_expired_session_is_absent_on_every_read(clock: Clock) -> None:
    with clock.storage() as storage:
        storage.add_run("s", format="test/1", messages=[{"text": "x"}])
        storage.set_ttl("s", 10)
        clock.advance(9.999)
        assert storage.get_session("s") is not None
        clock.advance(0.001)
        assert storage.get_session("s") is None
        assert (storage.runs("s"), storage.messages("s"), ids(storage), storage.count_sessions()) == ([], [], [], 0)
        for call in (storage.entries, storage.branches, storage.verify, storage.fork, lambda s: storage.rename(s, "n")):
            with pytest.raises(SessionNotFoundError):
                call("s")
        assert storage.delete("s") is False


def test_every_commit_prolongs_and_never_means_never(clock: Clock) -> None:
    with clock.storage(ttl=10) as storage:
        storage.create_session("s")
        storage.create_session("longer", ttl=100)
        for _ in range(3):
            clock.advance(9)
            storage.add_run("s")
        assert ids(storage) == ["s", "longer"]
        assert storage.set_ttl("s", None).expires_at is None
        clock.advance(1000)
        assert ids(storage) == ["s"]


def test_a_session_may_be_made_again_where_an_expired_one_stood(clock: Clock) -> None:
    with clock.storage() as storage:
        old = storage.create_session("s", ttl=1, state={"old": True}, user_id="ada")
        clock.advance(2)
        storage.add_run("s", user_id="eve", format="test/1", messages=[{"text": "new"}])
        head = storage.get_session("s", user_id="eve")
        assert head is not None
        assert (head.state, head.run_count, head.revision) == ({}, 1, 1)
        assert head.incarnation != old.incarnation
        storage.verify("s", user_id="eve")


def test_sweeping_removes_what_has_expired(clock: Clock) -> None:
    with clock.storage() as storage:
        for number in range(250):
            storage.create_session(f"s{number}", ttl=1 if number % 2 else 100)
        storage.create_session("forever")
        clock.advance(2)
        assert storage.sweep() == 125
        assert storage.sweep() == 0
        assert storage.count_sessions() == 126
        clock.advance(100)
        assert storage.sweep() == 125
        assert ids(storage) == ["forever"]


@pytest.mark.parametrize("bad", [-1, float("nan"), float("inf"), "5", True])
def test_bad_ttls(memory: MemoryStorage, bad: Any) -> None:
    memory.create_session("s")
    for call in (
        lambda: memory.set_ttl("s", bad),
        lambda: memory.create_session("t", ttl=bad),
        lambda: MemoryStorage(ttl=bad),
    ):
        with pytest.raises(InvalidInputError, match="ttl must be"):
            call()


def test_a_ttl_of_zero_ends_the_session_at_once(storage: Storage) -> None:
    storage.create_session("s")
    storage.set_ttl("s", 0)
    assert storage.get_session("s") is None
    assert storage.sweep() == 1


# ---------------------------------------------------------------- deletion


def test_deleting(storage: Storage) -> None:
    storage.add_run("s", format="test/1", messages=[{"text": "x"}])
    storage.create_session("other")
    assert storage.delete("s") is True
    assert storage.delete("s") is False
    assert storage.get_session("s") is None
    assert ids(storage) == ["other"]


def test_a_session_made_again_under_the_same_id_is_another_one(storage: Storage) -> None:
    storage.add_run("s", format="test/1", messages=[{"text": "old"}], state={"a": 1}, user_id="ada")
    working = start(storage, run_id="slow", user_id="ada")
    before = storage.get_session("s", user_id="ada")
    storage.delete("s", user_id="ada")
    storage.add_run("s", format="test/1", messages=[{"text": "new"}], user_id="bob")
    after = storage.get_session("s", user_id="bob")
    assert before is not None
    assert after is not None
    assert before.incarnation != after.incarnation
    assert texts(storage.messages("s", user_id="bob")) == ["new"]
    assert after.state == {}
    with pytest.raises(SessionNotFoundError, match="deleted while run 2 was in progress"):
        end(storage, working, "must not land in the new one")
    assert texts(storage.messages("s", user_id="bob")) == ["new"]
    assert storage.verify("s", user_id="bob") == 1


def test_deleting_between_look_and_commit(memory: MemoryStorage) -> None:
    turn = start(memory)
    memory.delete("s")
    with pytest.raises(SessionNotFoundError, match="deleted while run 1 was in progress"):
        end(memory, turn, "x")
    assert memory.get_session("s") is None


def test_a_deletion_cut_in_the_middle_is_finished_by_sweeping(tmp_path: Any) -> None:
    """The commit is made, and the process ends before the removal."""

    class KilledError(BaseException):
        pass

    def kill(*args: Any) -> None:
        raise KilledError

    with SqliteStorage(tmp_path / "s.db") as sqlite:
        assert sqlite._core is not None
        driver = Tapped(sqlite._core.driver)
        with Storage(driver) as storage:
            storage.add_run("s", format="test/1", messages=[{"text": "x"}])
            storage.add_run("t", user_id="ada")
            driver.before["delete"] = kill
            for session_id in ("s", "t"):
                with pytest.raises(KilledError):
                    storage.delete(session_id, user_id=ANY_USER)
            driver.before.clear()
            assert storage.get_session("s") is None
            assert storage.get_session("t", user_id="ada") is None
            assert (ids(storage), storage.count_sessions(user_id=ANY_USER), storage.runs("s")) == ([], 0, [])
            storage.add_run("t", format="test/1", messages=[{"text": "new"}])  # made again where the rest still stood
            assert texts(storage.messages("t")) == ["new"]
            assert storage.sweep() == 1
            assert storage.sweep() == 0
            assert ids(storage) == ["t"]
            driver.inner.after_fork()  # forget, so that the outer storage closes nothing that is closed


def test_all_of_a_user(storage: Storage) -> None:
    for number in range(230):
        storage.create_session(f"s{number}", user_id="ada" if number % 2 else "bob")
    storage.create_session("nobody's")
    assert storage.delete_user("ada") == 115
    assert storage.delete_user("ada") == 0
    assert storage.count_sessions(user_id="bob") == 115
    assert storage.count_sessions() == 1
    assert storage.count_sessions(user_id=ANY_USER) == 116


def test_all_of_a_user_means_also_what_has_expired(memory: MemoryStorage) -> None:
    memory.create_session("s", user_id="ada", ttl=0)
    memory.create_session("t", user_id="ada")
    assert memory.delete_user("ada") == 1
    assert memory.sweep() == 0


# ---------------------------------------------------------------- what else sweeping does


def test_sweeping_notes_runs_whose_process_is_gone() -> None:
    with MemoryStorage(lease=0.001) as storage:
        start(storage)
        start(storage, "other")
        wait_until(lambda: storage.get_run("s", 1).status == "interrupted")
        wait_until(lambda: storage.get_run("other", 1).status == "interrupted")
        assert [entry.kind for entry in storage.entries("s")] == ["session.created", "run.started"]
        storage.sweep()
        assert storage.entries("s")[-1].data == {"status": "interrupted", "noted": True}
        assert sorted(head.session_id for head in storage.sessions(status="interrupted")) == ["other", "s"]
        revision = storage.entries("s")[-1].seq
        storage.sweep()
        assert storage.entries("s")[-1].seq == revision


def test_sweeping_leaves_runs_at_work_alone() -> None:
    with MemoryStorage(lease=1000) as storage:
        start(storage)
        storage.sweep()
        assert storage.get_run("s", 1).status == "running"


def test_sweeping_removes_abandoned_forks_and_leaves_those_in_the_making() -> None:
    driver = Tapped(MemoryDriver())

    def refuse(write: Any, deadline: Any) -> None:
        if write.session_id == "copy" and write.expected:
            raise StorageError("The process ends here.")

    def no_removal(*args: Any) -> None:
        raise StorageError("The process has ended.")

    with Storage(driver) as storage:
        storage.add_run("s")
        driver.before.update(append=refuse, delete=no_removal)
        with pytest.raises(StorageError, match="ends here"):
            storage.fork("s", session_id="copy")
        driver.before.clear()
        assert storage.get_session("copy") is None
        assert ids(storage) == ["s"]
        assert storage.sweep() == 0
        assert storage.sweep(abandoned_after=0) == 1
        assert storage.fork("s", session_id="copy").run_count == 1
        with pytest.raises(AlreadyExistsError):
            storage.fork("s", session_id="copy")
