"""Changing sessions: make, add runs, rename, metadata, state, expiry, deletion, sweeping."""

from __future__ import annotations

from typing import Any

import pytest

from sessile import MemoryStorage, SqliteStorage, Storage
from sessile.drivers.memory import MemoryDriver
from sessile.errors import (
    AlreadyExistsError,
    ConflictError,
    InvalidIdError,
    InvalidInputError,
    InvalidStateError,
    SessionNotFoundError,
    StorageUnavailableError,
    TooLargeError,
    UserRequiredError,
)
from sessile.records import Head, Usage

from .helpers import Tapped, crash, end, start, texts

STRANGE_IDS = ["/", "..", "../../etc/passwd", "a\nb", "🙂", "'; DROP TABLE sessile_sessions; --", '{"a": [1]}', " ",
               "%", "a" * 255, "é" * 127, "\x7f\x01", "CON", "null", "0"]  # fmt: skip


def head_of(storage: Storage, session_id: str = "s") -> Head:
    head = storage.session(session_id)
    assert head is not None
    return head


# ---------------------------------------------------------------- ids


@pytest.mark.parametrize("strange", STRANGE_IDS)
def test_strange_ids_simply_work(storage: Storage, strange: str) -> None:
    storage.add_run(strange, user_id=strange, owner=strange, run_id=strange, kind=strange, messages=[{"text": "x"}])
    storage.rename(strange, strange, user_id=strange)
    storage.create_session("other", user_id="other")
    head = storage.session(strange, user_id=strange)
    assert head is not None
    assert (head.session_id, head.user_id, head.owner, head.kind, head.name) == (strange,) * 5
    found = storage.sessions(user_id=strange, owner=strange, kind=strange, name_prefix=strange)
    assert [item.session_id for item in found] == [strange]
    assert storage.run(strange, 1).run_id == strange
    assert texts(storage.messages(strange)) == ["x"]
    assert storage.fork(strange).forked_from == {"session_id": strange, "run": 1}
    assert storage.delete(strange, user_id=strange) is True
    assert storage.session(strange) is None


BAD_IDS: list[Any] = ["", "x" * 256, "é" * 128, "a\0b", "\ud800", 5, b"s", ["s"]]


@pytest.mark.parametrize("bad", BAD_IDS)
def test_bad_ids_are_refused_before_any_io(bad: Any) -> None:
    driver = Tapped(MemoryDriver())
    with Storage(driver) as storage:
        calls = [
            lambda: storage.create_session(bad),
            lambda: storage.create_session("s", user_id=bad),
            lambda: storage.create_session("s", owner=bad),
            lambda: storage.create_session("s", kind=bad),
            lambda: storage.create_session("s", name=bad),
            lambda: storage.add_run(bad),
            lambda: storage.add_run("s", user_id=bad),
            lambda: storage.add_run("s", owner=bad),
            lambda: storage.add_run("s", kind=bad),
            lambda: storage.add_run("s", run_id=bad),
            lambda: storage.rename(bad, "n"),
            lambda: storage.rename("s", bad),
            lambda: storage.set_metadata(bad, {}),
            lambda: storage.update_state(bad, {}),
            lambda: storage.expire(bad, 1),
            lambda: storage.delete(bad),
            lambda: storage.delete("s", user_id=bad),
            lambda: storage.delete_user(bad),
            lambda: storage.fork(bad),
            lambda: storage.fork("s", session_id=bad),
            lambda: storage.rewind(bad, at=0),
            lambda: storage.cancel_run(bad),
            lambda: storage.session("s", user_id=bad),
            lambda: storage.media("s", bad),
        ]
        for call in calls:
            with pytest.raises(InvalidIdError):
                call()
    assert driver.calls == []


def test_none_is_no_session_id(storage: Storage) -> None:
    with pytest.raises(InvalidIdError, match="must be a string, not NoneType"):
        storage.add_run(None)  # pyright: ignore[reportArgumentType]


# ---------------------------------------------------------------- values


@pytest.mark.parametrize("bad", [float("nan"), {1, 2}, b"x", object(), {1: 2}], ids=repr)
def test_what_is_not_json_is_refused_before_any_io(bad: Any) -> None:
    driver = Tapped(MemoryDriver())
    with Storage(driver) as storage:
        for call in (
            lambda: storage.create_session("s", state={"a": bad}),
            lambda: storage.create_session("s", metadata={"a": bad}),
            lambda: storage.add_run("s", input=bad),
            lambda: storage.add_run("s", output=bad),
            lambda: storage.add_run("s", messages=[{"text": "fine"}, {"text": bad}]),
            lambda: storage.add_run("s", state={"a": bad}),
            lambda: storage.add_run("s", metadata={"a": bad}),
            lambda: storage.add_run("s", error={"a": bad}),
            lambda: storage.update_state("s", {"a": bad}),
            lambda: storage.set_metadata("s", {"a": bad}),
        ):
            with pytest.raises(InvalidStateError):
                call()
        with pytest.raises(InvalidStateError, match=r"^messages\[1\] "):
            storage.add_run("s", messages=[{}, {"a": bad}])
    assert driver.calls == []


@pytest.mark.parametrize("bad", [[1], "state", 5])
def test_state_and_metadata_are_objects(storage: Storage, bad: Any) -> None:
    for call in (
        lambda: storage.create_session("s", state=bad),
        lambda: storage.update_state("s", bad),
        lambda: storage.set_metadata("s", bad),
        lambda: storage.add_run("s", state=bad),
    ):
        with pytest.raises(InvalidInputError, match="must be a dict"):
            call()


def test_text_comes_back_as_it_went_in(storage: Storage) -> None:
    hostile = {"\0": "a\0b", "\ud800": "\udfff x", "🙂": "\u2028\x7f", "": [None, 1.5, -0.0, 10**30, True, {}]}
    storage.add_run("s", input=hostile, output=hostile, messages=[hostile], state=hostile, metadata=hostile)
    storage.set_metadata("s", hostile)
    run = storage.run("s", 1)
    for value in (run.input, run.output, run.messages[0].data, run.metadata, head_of(storage).state):
        assert repr(value) == repr(hostile)
    assert repr(head_of(storage).metadata) == repr(hostile)


def test_limits_are_the_storages(tmp_path: Any) -> None:
    limits = {"max_commit_bytes": 2000, "max_state_bytes": 100, "max_metadata_bytes": 50}
    with SqliteStorage(tmp_path / "s.db", **limits) as storage:
        storage.add_run("s", state={"a": "x" * 80})
        for call, what in (
            (lambda: storage.add_run("s", messages=[{"text": "x" * 2000}]), "The commit has"),
            (lambda: storage.add_run("s", input="é" * 1000), "The commit has"),
            (lambda: storage.update_state("s", {"b": "x" * 20}), "The session's state has 115 bytes; the limit is 100"),
            (lambda: storage.set_metadata("s", {"b": "x" * 50}), "The session's metadata has"),
            (lambda: storage.create_session("t", state={"a": "x" * 100}), "The session's state has"),
        ):
            with pytest.raises(TooLargeError, match=what) as caught:
                call()
            assert caught.value.written == "no"
        assert head_of(storage).revision == 1
        assert storage.session("t") is None
        storage.update_state("s", {"a": None, "b": "x" * 80})


# ---------------------------------------------------------------- making


def test_a_session_gets_an_id_of_its_own(storage: Storage) -> None:
    one, two = storage.create_session(), storage.create_session()
    assert one.session_id < two.session_id or one.session_id[:13] == two.session_id[:13]
    assert one.session_id[14] == "7"
    assert one.incarnation != two.incarnation


def test_a_session_is_made_once(storage: Storage) -> None:
    storage.create_session("s", user_id="ada", name="first")
    for user in (None, "ada", "eve"):
        with pytest.raises(AlreadyExistsError, match="There is a session 's' already"):
            storage.create_session("s", user_id=user)
    assert head_of(storage).name == "first"


def test_a_run_makes_its_session(storage: Storage) -> None:
    run = storage.add_run("s", input="hi", user_id="ada", owner="bot", kind="team", format="openai", run_id="r-1",
                          messages=[{"role": "user"}], metadata={"k": 1}, usage=Usage(cost=3))  # fmt: skip
    assert (run.number, run.run_id, run.status, run.owner, run.metadata) == (1, "r-1", "completed", "bot", {"k": 1})
    assert (run.messages[0].format, run.usage) == ("openai", Usage(cost=3))
    assert run == storage.run("s", 1)
    head = head_of(storage)
    assert (head.user_id, head.owner, head.kind, head.revision) == ("ada", "bot", "team", 1)
    assert storage.add_run("s").number == 2


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_runs_that_failed_are_kept_too(storage: Storage, status: Any) -> None:
    storage.add_run("s", status=status, error={"type": "ValueError", "message": "no"})
    run = storage.run("s", 1)
    assert (run.status, run.error, head_of(storage).status) == (status, {"type": "ValueError", "message": "no"}, status)


@pytest.mark.parametrize("status", ["running", "paused", "interrupted", "done", None])
def test_an_added_run_is_finished(storage: Storage, status: Any) -> None:
    with pytest.raises(InvalidInputError, match="completed, failed or cancelled"):
        storage.add_run("s", status=status)


def test_a_run_with_an_id_of_the_callers_own_may_be_added_again(storage: Storage) -> None:
    first = storage.add_run("s", run_id="same", messages=[{"text": "one"}])
    storage.add_run("s", run_id="other")
    again = storage.add_run("s", run_id="same", messages=[{"text": "one"}])
    assert (again.number, again.run_id, texts(again.messages)) == (first.number, "same", ["one"])
    assert storage.session("s").run_count == 2
    assert storage.fork("s").run_count == 2


# ---------------------------------------------------------------- name, metadata, state


def test_renaming(storage: Storage) -> None:
    storage.create_session("s", name="one")
    assert storage.rename("s", "two").name == "two"
    assert storage.rename("s", None).name is None
    assert head_of(storage).name is None


def test_metadata_and_state_are_merged(storage: Storage) -> None:
    storage.create_session("s", state={"a": {"x": 1}, "b": 2}, metadata={"k": {"x": 1}})
    assert storage.update_state("s", {"a": {"y": 2}, "b": None}).state == {"a": {"x": 1, "y": 2}}
    assert storage.set_metadata("s", {"k": {"x": None}, "l": 1}).metadata == {"k": {}, "l": 1}
    assert storage.add_run("s", state={"a": None, "c": [1]}).number == 1
    assert head_of(storage).state == {"c": [1]}


def test_a_change_that_changes_nothing_is_not_written(storage: Storage) -> None:
    storage.create_session("s", state={"a": 1}, metadata={"m": 1})
    assert storage.update_state("s", {"a": 1, "absent": None}).state == {"a": 1}
    assert storage.set_metadata("s", {"m": 1}).metadata == {"m": 1}
    assert storage.update_state("s", {}).revision == 1
    assert storage.update_state("s", {"a": True}).revision == 2


def test_a_change_that_wants_to_be_alone(storage: Storage) -> None:
    storage.create_session("s")
    assert storage.update_state("s", {"a": 1}, if_revision=1).revision == 2
    with pytest.raises(ConflictError, match="at revision 2, not 1"):
        storage.update_state("s", {"b": 1}, if_revision=1)
    assert head_of(storage).state == {"a": 1}


def test_changes_need_a_session(storage: Storage) -> None:
    for call in (
        lambda: storage.rename("s", "n"),
        lambda: storage.set_metadata("s", {"a": 1}),
        lambda: storage.update_state("s", {"a": 1}),
        lambda: storage.expire("s", 5),
    ):
        with pytest.raises(SessionNotFoundError):
            call()
    assert storage.count_sessions() == 0


def test_require_user() -> None:
    with MemoryStorage(require_user=True) as storage:
        storage.add_run("s", user_id="ada", messages=[{"text": "x"}])
        for call in (
            lambda: storage.session("s"),
            lambda: storage.load_session("s"),
            lambda: storage.sessions(),
            lambda: storage.count_sessions(),
            lambda: storage.runs("s"),
            lambda: storage.run("s", 1),
            lambda: storage.messages("s"),
            lambda: storage.branches("s"),
            lambda: storage.entries("s"),
            lambda: next(storage.follow("s")),
            lambda: storage.media("s", "0" * 64),
            lambda: storage.create_session("t"),
            lambda: storage.add_run("s"),
            lambda: storage.rename("s", "n"),
            lambda: storage.set_metadata("s", {}),
            lambda: storage.update_state("s", {}),
            lambda: storage.expire("s", 1),
            lambda: storage.delete("s"),
            lambda: storage.fork("s"),
            lambda: storage.rewind("s", at=0),
            lambda: storage.cancel_run("s"),
            lambda: start(storage),
        ):
            with pytest.raises(UserRequiredError, match="Pass user_id="):
                call()
        assert storage.fork("s", user_id="ada").user_id == "ada"
        assert texts(storage.messages("s", user_id="ada")) == ["x"]


def test_clock_that_goes_back_does_not_turn_time_back(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [2_000_000]
    monkeypatch.setattr("sessile.storage.core.now_micros", lambda: now[0])
    with MemoryStorage() as storage:
        storage.add_run("s")
        now[0] -= 1_000_000
        storage.add_run("s")
        assert [entry.time for entry in storage.entries("s")] == [2_000_000] * 5
        assert head_of(storage).updated_at == 2_000_000


def test_deleting_says_when_the_commit_was_made_and_the_removal_failed() -> None:
    driver = Tapped(MemoryDriver())

    def fail(*args: Any) -> None:
        raise StorageUnavailableError("Gone away.")

    with Storage(driver) as storage:
        storage.create_session("s")
        driver.before["delete"] = fail
        with pytest.raises(StorageUnavailableError) as caught:
            storage.delete("s")
        assert caught.value.written == "yes"
        assert storage.session("s") is None
        driver.before.clear()
        assert storage.sweep() == 1
        assert storage.sweep() == 0


def test_interrupted_runs_beyond_those_that_the_head_remembers() -> None:
    with MemoryStorage(lease=0.001) as storage:
        for number in range(20):
            crash(storage, run_id=f"r{number}")
        storage.add_run("s")
        storage.sweep()
        assert [run.status for run in storage.runs("s")] == ["interrupted"] * 20 + ["completed"]
        assert storage.run("s", 1).status == "interrupted"
        copied = storage.fork("s")
        assert [run.status for run in storage.runs(copied.session_id, status="completed")] == ["completed"]


def test_a_slow_run_ends_well_though_it_was_noted_as_interrupted() -> None:
    with MemoryStorage(lease=0.001) as storage:
        slow = crash(storage)
        storage.sweep()
        for number in range(20):
            crash(storage, run_id=f"r{number}")
            storage.sweep()
        end(storage, slow, "late, but there")
        assert (storage.run("s", 1).status, texts(storage.run("s", 1).messages)) == ("completed", ["late, but there"])
