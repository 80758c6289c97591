"""A session that was nobody's, given to a user whose ids are the user's own."""

from __future__ import annotations

from typing import Any

import pytest

from sessile import ANY_USER, Storage
from sessile.errors import (
    AlreadyExistsError,
    ConflictError,
    HeldError,
    SessionBusyError,
    SessionNotFoundError,
    StorageError,
)
from sessile.storage import turns
from sessile.storage.extending import operate
from sessile.storage.users import space_of
from sessile.transfer import give, giving
from sessile.transfer.copying import copy_one

from .helpers import PICTURE, look


def test_the_user_has_it_whole_under_the_same_id(other: Storage) -> None:
    for number in range(40):
        other.add_run("seen", input=f"question {number}", output="x" * 2000, state={"n": number})
    other.rewind("seen", at=20)
    look(other)
    before = other.get_session("seen")
    assert before is not None
    given = give(other, "seen", "ada", agent="helper")
    mine = other.for_user("ada")
    own = mine.get_session("seen")
    assert own is not None
    assert (given.session_id, given.user_id, given.agent) == (f"{space_of('ada')}seen", "ada", "helper")
    assert (own.incarnation, own.run_count, own.state) == (before.incarnation, 41, before.state)
    digest = mine.messages("seen", last_runs=1)[0].data["parts"][0]["content"][1]["data"]["$blob"]
    assert mine.media("seen", digest) == PICTURE
    mine.verify("seen")
    assert mine.add_run("seen", input="on it goes", output="!").number == 42
    assert other.get_session("seen", user_id=ANY_USER) is None
    assert [one.session_id for one in mine.sessions()] == ["seen"]
    again = give(other, "seen", "ada")
    assert (again.session_id, again.run_count) == (given.session_id, 42)
    with pytest.raises(SessionNotFoundError):
        give(other, "seen", "bob")


def test_what_a_crash_has_left_is_brought_to_its_end(source: Storage) -> None:
    source.add_run("s1", input="Hello", output="Hi")
    source.claim("s1", "ada")
    copy_one(source, source.for_user("ada"), "s1")  # and the process dies here
    assert give(source, "s1", "ada").run_count == 1
    assert len(source.sessions(user_id=ANY_USER)) == 1
    assert [run.output for run in source.for_user("ada").runs("s1")] == ["Hi"]


def test_what_is_written_while_it_is_copied_is_given_too(source: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    source.add_run("s1", input="Hello", output="Hi")

    def copied(*given: Any) -> None:
        copy_one(*given)
        if len(source.runs("s1", user_id="ada")) == 1:
            source.add_run("s1", input="meanwhile", output="kept", user_id="ada")

    monkeypatch.setattr(giving, "copy_one", copied)
    give(source, "s1", "ada")
    assert [run.output for run in source.for_user("ada").runs("s1")] == ["Hi", "kept"]
    assert len(source.sessions(user_id=ANY_USER)) == 1


def test_a_held_session_stays_where_it_is(source: Storage) -> None:
    source.add_run("s1", input="Hello", output="Hi")
    source.hold("s1", "case 4711")
    with pytest.raises(HeldError):
        give(source, "s1", "ada")
    assert [one.user_id for one in source.sessions(user_id=None)] == [None]
    assert len(source.for_user("ada").sessions()) == 0


def test_it_is_refused_and_nothing_has_changed(source: Storage) -> None:
    with pytest.raises(SessionNotFoundError):
        give(source, "s1", "ada")
    source.add_run("s1", input="Hello", output="Hi", agent="helper")
    with pytest.raises(ConflictError):
        give(source, "s1", "ada", agent="other")
    source.for_user("ada").add_run("s1", input="mine", output="is another")
    with pytest.raises(AlreadyExistsError):
        give(source, "s1", "ada")
    turn = operate(source, turns.open_turn, turns.TurnSpec("s2", "r", input="at work"), 0)
    operate(source, turns.start_turn, turn)
    with pytest.raises(SessionBusyError):
        give(source, "s2", "ada")
    assert [one.user_id for one in source.sessions(user_id=None)] == [None, None]


def test_a_database_that_fails_in_the_middle_leaves_it_to_be_called_again(
    source: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.add_run("s1", input="Hello", output="Hi")

    def cut(*given: object, **named: object) -> None:
        raise StorageError("The database is gone.")

    with monkeypatch.context() as patched:
        patched.setattr(giving, "remove_unchanged", cut)
        with pytest.raises(StorageError):
            give(source, "s1", "ada")
    assert source.for_user("ada").runs("s1")[0].output == "Hi"
    give(source, "s1", "ada")
    assert source.get_session("s1", user_id=ANY_USER) is None
