"""A turn in parts, for what runs agents: start, append, end; leases; taking a run over; cancelling."""

from __future__ import annotations

from typing import Any

import pytest

from sessile import ANY_USER, MemoryStorage, Storage
from sessile.errors import (
    ConflictError,
    InvalidStateError,
    SessionBusyError,
    SessionNotFoundError,
)
from sessile.records import MICROSECOND, Session
from sessile.storage import core, turns
from sessile.storage.absence import as_row
from sessile.storage.driver import HeadRow
from sessile.storage.encoding import decode_head, encode_head
from sessile.storage.extending import operate

from .helpers import append, crash, end, open_turn, start, take, texts

# ---------------------------------------------------------------- from start to end


def test_a_run_is_visible_while_it_works(storage: Storage) -> None:
    turn = start(storage, user_id="ada", agent="bot", metadata={"m": 1}, session={"name": "N", "state": {"a": 1}})
    assert (turn.number, turn.epoch, turn.state) == (1, 1, {"a": 1})
    head = storage.get_session("s", user_id="ada")
    assert head is not None
    assert (head.name, head.user_id, head.status, head.run_count, head.state) == ("N", "ada", "running", 1, {"a": 1})
    run = storage.get_run("s", 1, user_id="ada")
    assert (run.status, run.input, run.metadata, run.ended_at) == ("running", "input of r", {"m": 1}, None)
    append(storage, turn, "one", "two")
    assert texts(storage.get_run("s", 1, user_id="ada").messages) == ["one", "two"]
    end(storage, turn, "three", state=[["set", ["b"], 2]])
    run = storage.get_run("s", 1, user_id="ada")
    assert (run.status, run.output, texts(run.messages)) == ("completed", "output of r", ["one", "two", "three"])
    assert run.ended_at is not None
    head = storage.get_session("s", user_id="ada")
    assert head is not None
    assert (head.status, head.state, head.open_runs) == ("completed", {"a": 1, "b": 2}, {})
    storage.verify("s", user_id="ada")


def test_a_commit_that_moves_nothing_but_time_writes_the_head_as_it_was(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[Session] = []

    def counted(head: Session, **limits: int) -> HeadRow:
        encoded.append(head)
        return encode_head(head, **limits)

    monkeypatch.setattr(core, "encode_head", counted)
    turn = start(storage, session={"state": {"a": 1}, "metadata": {"m": "ü"}, "name": "N", "ttl": 60})
    rows: list[Any] = [turn.row]
    for number in range(3):
        append(storage, turn, f"{number}")
        rows.append(turn.row)
    assert len(encoded) == 1
    assert all(row == as_row(decode_head(row)) for row in rows)
    assert [row.revision for row in rows] == [1, 2, 3, 4]
    assert rows[-1].expires_at == rows[-1].updated_at + 60 * MICROSECOND
    storage.update_state("s", {"b": 2})  # somebody else: what was written last does not count any more
    append(storage, turn, "more")
    assert len(encoded) == 3
    head = storage.get_session("s")
    assert head is not None
    assert (head.state, head.name, head.revision) == ({"a": 1, "b": 2}, "N", 6)
    end(storage, turn, "end")
    storage.verify("s")


def test_a_run_that_is_written_at_its_end_is_one_commit(storage: Storage) -> None:
    turn = open_turn(storage, durability="exit", session={"state": {"a": 1}})
    assert turn.state == {"a": 1}
    assert storage.get_session("s") is None
    assert operate(storage, turns.renew_turn, turn) is False
    end(storage, turn, "one", status="failed")
    run = storage.get_run("s", 1)
    assert (run.status, run.durability, texts(run.messages)) == ("failed", "exit", ["one"])
    assert {entry.seq for entry in storage.entries("s")} == {1}


def test_the_end_may_be_repeated_and_is_written_once(storage: Storage) -> None:
    for durability in ("run", "exit"):
        turn = open_turn(storage, durability=durability, run_id=durability)
        if durability == "run":
            operate(storage, turns.start_turn, turn)
        before = turn.before, turn.head
        end(storage, turn, "one")
        storage.update_state("s", {"by": durability})  # others go on meanwhile
        turn.before, turn.head = before  # what the caller knows when the answer was lost
        end(storage, turn, "one")
    assert texts(storage.messages("s")) == ["one", "one"]
    assert [run.status for run in storage.runs("s")] == ["completed", "completed"]
    storage.verify("s")


def test_another_users_session(storage: Storage) -> None:
    storage.create_session("s", user_id="ada")
    with pytest.raises(SessionNotFoundError):
        open_turn(storage, user_id="eve")
    with pytest.raises(SessionNotFoundError):
        open_turn(storage)
    with pytest.raises(SessionNotFoundError):
        take(storage, user_id="eve")
    with pytest.raises(SessionNotFoundError):
        open_turn(storage, "absent", user_id=ANY_USER)


def test_a_turn_of_any_user_is_one_of_the_sessions_user(storage: Storage) -> None:
    storage.create_session("s", user_id="ada")
    turn = start(storage, user_id=ANY_USER)
    assert turn.user_id == "ada"
    end(storage, turn, "one")
    assert texts(storage.messages("s", user_id="ada")) == ["one"]


def test_a_session_that_another_user_makes_first(storage: Storage) -> None:
    turn = open_turn(storage, user_id="eve")
    storage.create_session("s", user_id="ada")
    with pytest.raises(SessionNotFoundError):
        operate(storage, turns.start_turn, turn)


def test_what_a_session_begins_with_is_checked(storage: Storage) -> None:
    with pytest.raises(InvalidStateError):
        start(storage, session={"state": {"a": {1}}})


def test_two_runs_that_change_different_keys_both_win(storage: Storage) -> None:
    storage.create_session("s", state={"shared": 0})
    one, two = start(storage, run_id="one"), start(storage, run_id="two")
    assert (one.number, two.number) == (1, 2)
    end(storage, one, state=[["set", ["one"], 1], ["set", ["shared"], 1]])
    end(storage, two, state=[["set", ["two"], 2], ["set", ["shared"], 2]])
    head = storage.get_session("s")
    assert head is not None
    assert head.state == {"shared": 2, "one": 1, "two": 2}


def test_a_conflict_is_told_to_who_asked(storage: Storage) -> None:
    storage.create_session("s", state={"shared": 0})
    one, two = start(storage, run_id="one"), start(storage, run_id="two")
    end(storage, one, state=[["set", ["shared"], 1]])
    with pytest.raises(ConflictError, match="changed shared in the state"):
        end(storage, two, state=[["set", ["shared"], 2]], refuse_conflicts=True)
    assert storage.get_run("s", 2).status == "running"
    end(storage, two, state=[["set", ["other"], 2]], refuse_conflicts=True)
    head = storage.get_session("s")
    assert head is not None
    assert head.state == {"shared": 1, "other": 2}


def test_history_is_the_session_as_it_was(storage: Storage) -> None:
    for n in (1, 2, 3):
        storage.add_run("s", format="test/1", messages=[{"text": f"m{n}"}])
    turn = open_turn(storage, last_runs=2)
    storage.add_run("s", format="test/1", messages=[{"text": "later"}])
    found, left = operate(storage, turns.history, turn, [1, 2, 3], 100_000)
    assert [texts(run.messages) for run in found] == [["m1"], ["m2"], ["m3"]]
    assert 0 < left < 100_000
    assert turns.runs_at_hand(turn, [2, 3]) == found[1:]
    assert turns.runs_at_hand(turn, [4]) is None
    assert operate(storage, turns.history, open_turn(storage, "absent"), [1], 1000)[0] == []


def test_what_is_at_hand_holds_no_run_at_work(storage: Storage) -> None:
    start(storage)
    assert turns.runs_at_hand(open_turn(storage), [1]) is None
    assert turns.runs_at_hand(open_turn(storage, "absent"), [1]) is None


def test_the_rolling_summary(storage: Storage) -> None:
    storage.add_run("s")
    turn = open_turn(storage)
    storage.rename("s", "meanwhile")
    operate(storage, turns.summarize, turn, 1, "so far")
    head = storage.get_session("s")
    assert head is not None
    assert (head.summary, head.name) == ({"upto": 1, "text": "so far"}, "meanwhile")
    operate(storage, turns.start_turn, turn)
    assert turn.number == 2
    storage.delete("s")
    with pytest.raises(SessionNotFoundError):
        operate(storage, turns.summarize, turn, 1, "too late")


# ---------------------------------------------------------------- runs beside each other


def test_busy(storage: Storage) -> None:
    working = start(storage, run_id="one")
    for on_busy in ("reject", "queue"):
        with pytest.raises(SessionBusyError, match="Run 1 of session 's' is running") as caught:
            start(storage, run_id="two", on_busy=on_busy)
        assert caught.value.retryable
    start(storage, run_id="parallel", on_busy="parallel")
    end(storage, working)
    with pytest.raises(SessionBusyError, match="Run 2"):
        start(storage, run_id="three", on_busy="reject")


def test_a_session_whose_process_is_gone_is_not_busy() -> None:
    with MemoryStorage(lease=0.001) as storage:
        crash(storage)
        assert start(storage, run_id="two", on_busy="reject").number == 2
        assert storage.entries("s", after=1)[0].data == {"status": "interrupted"}


def test_a_paused_run_does_not_keep_others_out(storage: Storage) -> None:
    end(storage, start(storage), status="paused")
    assert start(storage, run_id="two", on_busy="reject").number == 2
