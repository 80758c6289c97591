"""Changing sessions: make, add runs, rename, metadata, state, expiry, deletion, sweeping."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from sessile import ANY_USER, MemoryStorage, SqliteStorage, Storage
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
from sessile.records import Session, Usage
from sessile.storage.clock import Clock

from .helpers import Tapped, crash, end, start, texts

STRANGE_IDS = ["/", "..", "../../etc/passwd", "a\nb", "🙂", "'; DROP TABLE sessile_sessions; --", '{"a": [1]}', " ",
               "%", "a" * 255, "é" * 127, "\x7f\x01", "CON", "null", "0"]  # fmt: skip


def head_of(storage: Storage, session_id: str = "s", user_id: str | None = None) -> Session:
    head = storage.get_session(session_id, user_id=user_id)
    assert head is not None
    return head


# ---------------------------------------------------------------- ids


@pytest.mark.parametrize("strange", STRANGE_IDS)
def test_strange_ids_simply_work(storage: Storage, strange: str) -> None:
    storage.add_run(
        strange, user_id=strange, agent=strange, run_id=strange, kind=strange, format="test/1", messages=[{"text": "x"}]
    )
    storage.rename(strange, strange, user_id=strange)
    storage.create_session("other", user_id="other")
    head = storage.get_session(strange, user_id=strange)
    assert head is not None
    assert (head.session_id, head.user_id, head.agent, head.kind, head.name) == (strange,) * 5
    found = storage.sessions(user_id=strange, agent=strange, kind=strange, name_prefix=strange)
    assert [item.session_id for item in found] == [strange]
    assert storage.get_run(strange, 1, user_id=strange).run_id == strange
    assert texts(storage.messages(strange, user_id=strange)) == ["x"]
    assert storage.fork(strange, user_id=strange).forked_from == {"session_id": strange, "run": 1}
    assert storage.delete(strange, user_id=strange) is True
    assert storage.get_session(strange) is None


BAD_IDS: list[Any] = ["", "x" * 256, "é" * 128, "a\0b", "\ud800", 5, b"s", ["s"]]


@pytest.mark.parametrize("bad", BAD_IDS)
def test_bad_ids_are_refused_before_any_io(bad: Any) -> None:
    driver = Tapped(MemoryDriver())
    with Storage(driver) as storage:
        calls = [
            lambda: storage.create_session(bad),
            lambda: storage.create_session("s", user_id=bad),
            lambda: storage.create_session("s", agent=bad),
            lambda: storage.create_session("s", kind=bad),
            lambda: storage.create_session("s", name=bad),
            lambda: storage.add_run(bad),
            lambda: storage.add_run("s", user_id=bad),
            lambda: storage.add_run("s", agent=bad),
            lambda: storage.add_run("s", kind=bad),
            lambda: storage.add_run("s", run_id=bad),
            lambda: storage.rename(bad, "n"),
            lambda: storage.rename("s", bad),
            lambda: storage.set_metadata(bad, {}),
            lambda: storage.update_state(bad, {}),
            lambda: storage.set_ttl(bad, 1),
            lambda: storage.delete(bad),
            lambda: storage.delete("s", user_id=bad),
            lambda: storage.delete_user(bad),
            lambda: storage.fork(bad),
            lambda: storage.fork("s", session_id=bad),
            lambda: storage.rewind(bad, at=0),
            lambda: storage.cancel_run(bad),
            lambda: storage.get_session("s", user_id=bad),
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


@pytest.mark.parametrize(
    "bad", [float("nan"), {1, 2}, b"x", object(), {1: 2}], ids=["nan", "set", "bytes", "object", "key"]
)
def test_what_is_not_json_is_refused_before_any_io(bad: Any) -> None:
    driver = Tapped(MemoryDriver())
    with Storage(driver) as storage:
        for call in (
            lambda: storage.create_session("s", state={"a": bad}),
            lambda: storage.create_session("s", metadata={"a": bad}),
            lambda: storage.add_run("s", input=bad),
            lambda: storage.add_run("s", output=bad),
            lambda: storage.add_run("s", format="test/1", messages=[{"text": "fine"}, {"text": bad}]),
            lambda: storage.add_run("s", state={"a": bad}),
            lambda: storage.add_run("s", metadata={"a": bad}),
            lambda: storage.add_run("s", error={"a": bad}),
            lambda: storage.update_state("s", {"a": bad}),
            lambda: storage.set_metadata("s", {"a": bad}),
        ):
            with pytest.raises(InvalidStateError):
                call()
        with pytest.raises(InvalidStateError, match=r"^messages\[1\] "):
            storage.add_run("s", format="test/1", messages=[{}, {"a": bad}])
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
    storage.add_run(
        "s", input=hostile, output=hostile, format="test/1", messages=[hostile], state=hostile, metadata=hostile
    )
    storage.set_metadata("s", hostile)
    run = storage.get_run("s", 1)
    for value in (run.input, run.output, run.messages[0].data, run.metadata, head_of(storage).state):
        assert repr(value) == repr(hostile)
    assert repr(head_of(storage).metadata) == repr(hostile)


def test_limits_are_the_storages(tmp_path: Any) -> None:
    limits = {"max_commit_bytes": 2000, "max_state_bytes": 100, "max_metadata_bytes": 50}
    with SqliteStorage(tmp_path / "s.db", **limits) as storage:
        storage.add_run("s", state={"a": "x" * 80})
        for call, what in (
            (lambda: storage.add_run("s", format="test/1", messages=[{"text": "x" * 2000}]), "The commit has"),
            (lambda: storage.add_run("s", input="é" * 1000), "The commit has"),
            (lambda: storage.update_state("s", {"b": "x" * 20}), "The session's state has 115 bytes; the limit is 100"),
            (lambda: storage.set_metadata("s", {"b": "x" * 50}), "The session's metadata has"),
            (lambda: storage.create_session("t", state={"a": "x" * 100}), "The session's state has"),
        ):
            with pytest.raises(TooLargeError, match=what) as caught:
                call()
            assert caught.value.written == "no"
        assert head_of(storage).revision == 1
        assert storage.get_session("t") is None
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
    assert head_of(storage, user_id="ada").name == "first"


def test_a_run_makes_its_session(storage: Storage) -> None:
    run = storage.add_run("s", input="hi", user_id="ada", agent="bot", kind="team", format="openai", run_id="r-1",
                          messages=[{"role": "user"}], metadata={"k": 1}, usage=Usage(cost=3))  # fmt: skip
    assert (run.number, run.run_id, run.status, run.agent, run.metadata) == (1, "r-1", "completed", "bot", {"k": 1})
    assert (run.messages[0].format, run.usage) == ("openai", Usage(cost=3))
    assert run == storage.get_run("s", 1, user_id="ada")
    head = head_of(storage, user_id="ada")
    assert (head.user_id, head.agent, head.kind, head.revision) == ("ada", "bot", "team", 1)
    assert storage.add_run("s", user_id="ada").number == 2


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_runs_that_failed_are_kept_too(storage: Storage, status: Any) -> None:
    storage.add_run("s", status=status, error={"type": "ValueError", "message": "no"})
    run = storage.get_run("s", 1)
    assert (run.status, run.error, head_of(storage).status) == (status, {"type": "ValueError", "message": "no"}, status)


@pytest.mark.parametrize("status", ["running", "paused", "interrupted", "done", None])
def test_an_added_run_is_finished(storage: Storage, status: Any) -> None:
    with pytest.raises(InvalidInputError, match="completed, failed or cancelled"):
        storage.add_run("s", status=status)


def test_a_run_with_an_id_of_the_callers_own_may_be_added_again(storage: Storage) -> None:
    first = storage.add_run("s", run_id="same", format="test/1", messages=[{"text": "one"}])
    storage.add_run("s", run_id="other")
    again = storage.add_run("s", run_id="same", format="test/1", messages=[{"text": "one"}])
    assert (again.number, again.run_id, texts(again.messages)) == (first.number, "same", ["one"])
    assert storage.get_session("s").run_count == 2
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


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ({"set": {"a": None}}, {"a": None, "b": [1, 2]}),
        ({"set": {"a": {}}}, {"a": {}, "b": [1, 2]}),
        ({"set": {"a": {"y": 2}}}, {"a": {"y": 2}, "b": [1, 2]}),
        ({"set": {"new": {"deep": None}}}, {"a": {"x": 1}, "b": [1, 2], "new": {"deep": None}}),
        ({"remove": ["b", "absent"]}, {"a": {"x": 1}}),
        ({"remove": {"a", "b"}}, {}),
        ({"patch": {"a": {"y": 2}}, "set": {"b": None}}, {"a": {"x": 1, "y": 2}, "b": None}),
        ({"patch": {"new": 1}, "set": {"a": 2}, "remove": ("b",)}, {"a": 2, "new": 1}),
        ({}, {"a": {"x": 1}, "b": [1, 2]}),
    ],
)
def test_state_can_be_set_whole_and_removed(storage: Storage, change: dict[str, Any], state: dict[str, Any]) -> None:
    before = storage.create_session("s", state={"a": {"x": 1}, "b": [1, 2]})
    after = storage.update_state("s", **change)
    assert after.state == head_of(storage).state == state
    assert after.revision == (1 if after.state == before.state else 2)
    storage.add_run("s")
    assert storage.rewind("s", at=0).state == state  # all of it was before the first run
    storage.verify("s")


@pytest.mark.parametrize(
    "change",
    [
        {"patch": {"a": 1}, "set": {"a": 2}},
        {"set": {"a": 2}, "remove": ["a"]},
        {"patch": {"a": 1}, "remove": ["a"]},
        {"remove": ["a", "a"]},
        {"remove": "a"},
        {"remove": [1]},
        {"remove": None},
        {"set": [("a", 1)]},
        {"set": {"a": float("nan")}},
        {"set": {1: 2}},
    ],
)
def test_changes_of_the_state_that_are_no_such(storage: Storage, change: dict[str, Any]) -> None:
    storage.create_session("s", state={"a": 0})
    with pytest.raises(InvalidInputError):
        storage.update_state("s", **change)
    assert (head_of(storage).state, head_of(storage).revision) == ({"a": 0}, 1)


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
        lambda: storage.set_ttl("s", 5),
    ):
        with pytest.raises(SessionNotFoundError):
            call()
    assert storage.count_sessions(user_id=ANY_USER) == 0


def test_require_user() -> None:
    with MemoryStorage(require_user=True) as storage:
        storage.add_run("s", user_id="ada", format="test/1", messages=[{"text": "x"}])
        for call in (
            lambda: storage.get_session("s"),
            lambda: storage.sessions(),
            lambda: storage.count_sessions(),
            lambda: storage.runs("s"),
            lambda: storage.get_run("s", 1),
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
            lambda: storage.set_ttl("s", 1),
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
        assert texts(storage.messages("s", user_id=ANY_USER)) == ["x"]  # said explicitly


def test_clock_that_goes_back_does_not_turn_time_back(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [2_000_000]
    monkeypatch.setattr(Clock, "now", lambda clock: now[0])
    with MemoryStorage() as storage:
        storage.add_run("s")
        now[0] -= 1_000_000
        storage.add_run("s")
        moment = datetime(1970, 1, 1, 0, 0, 2, tzinfo=UTC)
        assert [entry.time for entry in storage.entries("s")] == [moment] * 5
        assert head_of(storage).updated_at == moment


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
        assert storage.get_session("s") is None
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
        assert storage.get_run("s", 1).status == "interrupted"
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
        assert (storage.get_run("s", 1).status, texts(storage.get_run("s", 1).messages)) == (
            "completed",
            ["late, but there"],
        )
