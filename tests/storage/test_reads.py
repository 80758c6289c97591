"""Reading sessions: one, lists of them, runs, messages, entries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from sessile import ANY_USER, MemoryStorage, Storage
from sessile.errors import InvalidIdError, InvalidInputError, RunNotFoundError, SessionNotFoundError
from sessile.records import Usage
from sessile.storage import reads
from sessile.storage.extending import operate
from sessile.storage.turns import append_to_turn

from .helpers import end, say, start, texts


def message(text: str) -> dict[str, Any]:
    return {"text": text}


# ---------------------------------------------------------------- one session


def test_one_session(storage: Storage) -> None:
    storage.create_session("s", user_id="ada", agent="bot", kind="team", name="N", state={"a": 1}, metadata={"m": 2})
    storage.add_run("s", input="hi", output="ho", usage=Usage(requests=1, input_tokens=10, cost=5), user_id="ada")
    head = storage.get_session("s", user_id="ada")
    assert head is not None
    assert (head.session_id, head.user_id, head.agent, head.kind, head.name) == ("s", "ada", "bot", "team", "N")
    assert (head.state, head.metadata) == ({"a": 1}, {"m": 2})
    assert (head.revision, head.run_count, head.status) == (2, 1, "completed")
    assert head.usage == Usage(requests=1, input_tokens=10, cost=5)
    assert head.created_at <= head.updated_at


def test_head_and_runs_in_one_look(storage: Storage) -> None:
    for number in range(1, 6):
        storage.add_run("s", format="test/1", messages=[message(f"m{number}")], state={"n": number})
    view = storage.get_session("s", last_runs=3)
    assert view is not None
    assert [run.number for run in view.runs] == [3, 4, 5]
    assert texts(view.messages) == ["m3", "m4", "m5"]
    assert view.state == {"n": 5}
    only_head = storage.get_session("s", last_runs=0)
    assert only_head is not None
    assert (only_head.run_count, only_head.runs) == (5, [])


def test_runs_that_are_not_among_the_newest_commits_are_found(storage: Storage) -> None:
    storage.add_run("s", format="test/1", messages=[message("first")])
    for number in range(30):
        storage.update_state("s", {"n": number})
    view = storage.get_session("s", last_runs=1)
    assert view is not None
    assert texts(view.messages) == ["first"]


def expect_absent(storage: Storage, session_id: str, user: str | None) -> None:
    assert storage.get_session(session_id, user_id=user) is None
    assert storage.runs(session_id, user_id=user) == []
    assert storage.messages(session_id, user_id=user) == []
    assert storage.delete(session_id, user_id=user) is False
    answers = set()
    for call in (
        lambda: storage.get_run(session_id, 1, user_id=user),
        lambda: storage.entries(session_id, user_id=user),
        lambda: storage.branches(session_id, user_id=user),
        lambda: storage.media(session_id, "0" * 64, user_id=user),
        lambda: storage.verify(session_id, user_id=user),
        lambda: storage.rename(session_id, "mine", user_id=user),
        lambda: storage.set_metadata(session_id, {"a": 1}, user_id=user),
        lambda: storage.update_state(session_id, {"a": 1}, user_id=user),
        lambda: storage.set_ttl(session_id, 5, user_id=user),
        lambda: storage.fork(session_id, user_id=user),
        lambda: storage.rewind(session_id, at=0, user_id=user),
        lambda: storage.cancel_run(session_id, user_id=user),
        lambda: next(storage.follow(session_id, user_id=user)),
    ):
        with pytest.raises(SessionNotFoundError) as caught:
            call()
        answers.add(str(caught.value))
    assert answers == {str(SessionNotFoundError(f"There is no session {session_id!r}."))}


def test_another_users_session_is_answered_as_one_that_does_not_exist(storage: Storage) -> None:
    storage.add_run("s", user_id="ada", format="test/1", messages=[message("secret")])
    storage.create_session("nobody's")
    for session_id, user in (("s", "eve"), ("nobody's", "eve"), ("absent", "eve"), ("s", None), ("absent", None)):
        expect_absent(storage, session_id, user)
    for user in ("eve", None):
        with pytest.raises(SessionNotFoundError):
            storage.add_run("s", user_id=user)
    assert texts(storage.messages("s", user_id="ada")) == ["secret"]


def test_any_user_reaches_the_sessions_of_all(storage: Storage) -> None:
    storage.add_run("s", user_id="ada", format="test/1", messages=[message("hers")])
    storage.add_run("nobody's")
    for session_id, user in (("s", "ada"), ("nobody's", None)):
        assert storage.add_run(session_id, user_id=ANY_USER).number == 2
        head = storage.get_session(session_id, last_runs=2, user_id=ANY_USER)
        assert head is not None
        assert (head.user_id, len(head.runs)) == (user, 2)
        assert storage.rename(session_id, "n", user_id=ANY_USER).user_id == user
        assert storage.verify(session_id, user_id=ANY_USER) == 3
        assert storage.delete(session_id, user_id=ANY_USER) is True
    expect_absent(storage, "s", "ada")


def test_any_user_makes_no_session(storage: Storage) -> None:
    with pytest.raises(InvalidInputError, match="A session has one user, or none"):
        storage.create_session("s", user_id=ANY_USER)  # pyright: ignore[reportArgumentType]
    with pytest.raises(SessionNotFoundError, match="ANY_USER reaches sessions, and makes none"):
        storage.add_run("s", user_id=ANY_USER)
    assert storage.count_sessions(user_id=ANY_USER) == 0


# ---------------------------------------------------------------- runs and messages


@pytest.fixture
def ten(storage: Storage) -> Storage:
    for number in range(1, 11):
        status = "failed" if number % 3 == 0 else "completed"
        storage.add_run(
            "s", input=number, status=status, format="test/1", messages=[message(f"{number}a"), message(f"{number}b")]
        )
    return storage


@pytest.mark.parametrize(
    ("arguments", "numbers"),
    [
        ({}, range(1, 11)),
        ({"last": 3}, [8, 9, 10]),
        ({"last": 0}, []),
        ({"last": 100}, range(1, 11)),
        ({"from_run": 9}, [9, 10]),
        ({"to_run": 2}, [1, 2]),
        ({"to_run": 0}, []),
        ({"from_run": 0, "to_run": 1}, [1]),
        ({"from_run": 4, "to_run": 6}, [4, 5, 6]),
        ({"from_run": 4, "to_run": 6, "last": 2}, [5, 6]),
        ({"from_run": 11}, []),
        ({"status": "failed"}, [3, 6, 9]),
        ({"status": "failed", "last": 2}, [6, 9]),
        ({"status": ["failed", "completed"], "last": 1}, [10]),
        ({"status": "running"}, []),
        ({"status": "failed", "from_run": 4}, [6, 9]),
        ({"last": 2**53}, range(1, 11)),
    ],
)
def test_which_runs(ten: Storage, arguments: dict[str, Any], numbers: Any) -> None:
    assert [run.number for run in ten.runs("s", **arguments)] == list(numbers)


def test_which_messages(ten: Storage) -> None:
    assert texts(ten.messages("s", last_runs=2)) == ["9a", "9b", "10a", "10b"]
    assert texts(ten.messages("s", from_run=2, to_run=3)) == ["2a", "2b", "3a", "3b"]
    first = ten.messages("s", to_run=1)[0]
    assert (first.run, first.run_id, first.seq) == (1, ten.get_run("s", 1).run_id, 1)


def test_one_run(ten: Storage) -> None:
    run = ten.get_run("s", 3)
    assert (run.number, run.input, run.status, texts(run.messages)) == (3, 3, "failed", ["3a", "3b"])
    with pytest.raises(RunNotFoundError, match="no run 11"):
        ten.get_run("s", 11)
    with pytest.raises(RunNotFoundError):
        ten.get_run("s", 2**53)
    with pytest.raises(SessionNotFoundError):
        ten.get_run("absent", 1)


@pytest.mark.parametrize("value", [-1, 1.0, "1", True, 2**53 + 1, 10**40])
def test_bad_numbers_are_refused(ten: Storage, value: Any) -> None:
    for call in (
        lambda: ten.runs("s", last=value),
        lambda: ten.runs("s", from_run=value),
        lambda: ten.runs("s", to_run=value),
        lambda: ten.get_run("s", value),
        lambda: ten.get_session("s", last_runs=value),
        lambda: ten.entries("s", after=value),
        lambda: ten.entries("s", limit=value),
        lambda: ten.rewind("s", at=value),
        lambda: ten.fork("s", at=value),
        lambda: ten.cancel_run("s", value),
        lambda: next(ten.follow("s", after=value)),
    ):
        with pytest.raises(InvalidInputError, match="must be a whole number"):
            call()


def test_loads_are_bounded_by_default(memory: MemoryStorage) -> None:
    for _ in range(reads.DEFAULT_RUNS + 20):
        memory.add_run("s", format="test/1", messages=[message("x")])
    assert [run.number for run in memory.runs("s")] == list(range(21, 121))
    assert len(memory.messages("s")) == reads.DEFAULT_RUNS
    assert len(memory.runs("s", from_run=1)) == 120
    assert [run.number for run in memory.runs("s", to_run=110)] == list(range(11, 111))
    assert [run.number for run in memory.runs("s", status="completed", last=110)] == list(range(11, 121))


def test_the_messages_of_a_run_are_together_though_two_were_at_work_at_once(storage: Storage) -> None:
    one, two = start(storage, run_id="one"), start(storage, run_id="two")
    for turn, text in ((two, "2a"), (one, "1a"), (two, "2b"), (one, "1b")):
        operate(storage, append_to_turn, turn, [say(turn, text)])
    end(storage, two, "2c")
    end(storage, one, "1c")
    assert texts(storage.messages("s")) == ["1a", "1b", "1c", "2a", "2b", "2c"]
    assert texts(storage.messages("s", last_runs=1)) == ["2a", "2b", "2c"]
    assert [run.status for run in storage.runs("s")] == ["completed", "completed"]


def test_entries_are_everything_in_the_order_of_the_log(storage: Storage) -> None:
    storage.create_session("s")
    storage.add_run("s", format="test/1", messages=[message("x")], state={"a": 1})
    storage.rename("s", "new")
    found = storage.entries("s")
    assert [(entry.seq, entry.kind) for entry in found] == [
        (1, "session.created"), (2, "run.started"), (2, "message"), (2, "state.patched"), (2, "run.ended"),
        (3, "session.renamed"),
    ]  # fmt: skip
    assert {entry.seq for entry in storage.entries("s", after=1, limit=1)} == {2}
    assert storage.entries("s", after=3) == []


def test_bad_ids_are_refused_by_reads(storage: Storage) -> None:
    for bad in ("", "x" * 256, "é" * 128, "a\0b", "\ud800", 5, None, b"s"):
        for read in (
            storage.get_session,
            storage.runs,
            storage.messages,
            storage.entries,
            storage.branches,
            storage.verify,
        ):
            with pytest.raises(InvalidIdError):
                read(bad)  # pyright: ignore[reportArgumentType]
        with pytest.raises(InvalidIdError):
            next(storage.follow(bad))  # pyright: ignore[reportArgumentType]


# ---------------------------------------------------------------- following


def follow(storage: Storage, **options: Any) -> Iterator[str]:
    return (entry.kind for entry in storage.follow("s", poll=0.001, **options))


def test_following_gives_what_is_there_and_then_what_comes(storage: Storage) -> None:
    storage.create_session("s")
    storage.rename("s", "one")
    kinds = follow(storage, after=1)
    assert next(kinds) == "session.renamed"
    storage.update_state("s", {"a": 1})
    storage.set_ttl("s", None)
    assert [next(kinds), next(kinds)] == ["state.patched", "session.ttl"]
    storage.delete("s")
    assert list(kinds) == []


def test_following_ends_when_another_session_is_made_under_the_id(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sessile.storage.methods.reading.time.sleep", lambda seconds: pytest.fail("it goes on"))
    storage.create_session("s", name="old")
    kinds = follow(storage)
    assert next(kinds) == "session.created"
    storage.delete("s")
    storage.create_session("s", name="new")
    storage.rename("s", "newer")
    assert list(kinds) == []


def test_following_what_is_not_there(storage: Storage) -> None:
    with pytest.raises(SessionNotFoundError):
        next(storage.follow("s"))
    for poll in (0, -1, float("nan")):
        with pytest.raises(InvalidInputError, match="poll"):
            next(storage.follow("s", poll=poll))


def test_a_follower_looks_again_and_again(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            storage.rename("s", "at last")

    storage.create_session("s")
    monkeypatch.setattr("sessile.storage.methods.reading.time.sleep", sleep)
    kinds = (entry.kind for entry in storage.follow("s", after=1, poll=7))
    assert next(kinds) == "session.renamed"
    assert waits == [7, 7, 7]
