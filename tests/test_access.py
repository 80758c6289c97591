"""Nobody reaches what is not theirs, by whatever operation, and docs/access.md says who reaches what."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.access_page import (
    MAKERS,
    ONLY_MAKE,
    PAGE,
    PLACES,
    SUBJECTS,
    Caller,
    Place,
    S,
    Subject,
    conversation,
    everything,
    outcome,
    page,
    verdict,
)

from sessile import ANY_USER, MemoryStorage
from sessile.errors import InvalidIdError, InvalidInputError, SessionNotFoundError, UnsupportedError
from sessile.storage.users import space_of

OPERATIONS = [
    pytest.param(subject, name, id=f"{subject.name}.{name}") for subject in SUBJECTS for name in subject.calls
]


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)
def test_no_operation_is_forgotten(subject: Subject) -> None:
    assert subject.found <= subject.described, "describe it in tests/access_page.py"
    assert {name.split(",")[0] for name in subject.calls} <= subject.found


@pytest.mark.no_cover  # each has tests of its own
@pytest.mark.parametrize(("subject", "name"), OPERATIONS)
def test_who_reaches_what(subject: Subject, name: str) -> None:
    """Who does not reach a session is told nothing of it, by either twin, and changes nothing."""
    for place in PLACES:
        for caller, reaches in place.callers:
            words = [verdict(subject, name, place, caller)]
            if subject.name != "extending":
                words.append(verdict(subject, name, place, caller, twin=True))
            assert {one.word for one in words} == {expected(subject, name, place, caller, reaches)}, (place, caller)
            claimed = name == "claim" and place.user is None
            assert not any(one.changed for one in words) or reaches or claimed, (place, caller)


def expected(subject: Subject, name: str, place: Place, caller: Caller, reaches: bool) -> str:
    made_apart = caller.view is not None or place.view is not None
    if name == "delete_user":
        return "yes" if reaches and caller.user in (None, place.user) and place.user is not None else "no"
    if name == "claim":  # what has no user, who knows its id may claim, and `ANY_USER` is nobody whose it could be
        return "yes" if caller.user is not ANY_USER and (reaches or place.user is None) else "no"
    if (subject.name, name) in ONLY_MAKE:
        refused = name == "create_session" and caller.user is ANY_USER  # wherever it is: it makes nothing
        return "no" if refused or (made_apart and not reaches) else "taken"
    if reaches:
        return "yes"
    return "taken" if (subject.name, name) in MAKERS and not made_apart else "no"


@pytest.mark.no_cover
def test_the_page_says_so() -> None:
    assert PAGE.read_text() == page(), "write it anew: python -m tests.access_page"


def test_ids_that_sessile_makes_itself() -> None:
    """They are refused, whoever names them, and whatever stands there, but for `ANY_USER`."""
    with MemoryStorage(inline_media_bytes=0) as storage:
        conversation(storage.for_user("ada"), "ada")
        stored = f"{space_of('ada')}{S}"
        before = everything(storage)
        assert list(before) == [stored]
        calls = [
            (subject, name)
            for subject in SUBJECTS
            for name, (args, kwargs) in subject.calls.items()
            if S in (*args, *kwargs.values()) and name != "fork, as its target"
        ]
        for subject, name in calls:
            args, kwargs = subject.calls[name]
            for session_id in (stored, "sessile:kept:1"):
                renamed = tuple(session_id if arg == S else arg for arg in args)
                options = {key: session_id if value == S else value for key, value in kwargs.items()}
                other = replace(subject, calls={name: (renamed, options)})
                for caller in (Caller("", "ada"), Caller("", "bob"), Caller(""), Caller("", view="ada")):
                    error, message = outcome(other, name, storage, caller, twin=False)
                    assert (error, "such ids Sessile makes for itself" in message) == ("InvalidIdError", True), name
        with pytest.raises(SessionNotFoundError):
            storage.add_run("sessile:kept:1", user_id=ANY_USER)
        with pytest.raises(InvalidIdError, match="such ids Sessile makes for itself"):
            storage.fork(stored, session_id="sessile:kept:1", user_id=ANY_USER)
        head = storage.get_session(stored, user_id=ANY_USER)
        assert head is not None
        assert (head.user_id, storage.verify(stored, user_id=ANY_USER)) == ("ada", head.revision)
        assert everything(storage) == before


def test_what_is_made_apart() -> None:
    """Two users have a session of the same id, and neither is told of the other's."""
    with MemoryStorage() as storage:
        ada, bob = storage.for_user("ada"), storage.for_user("bob")
        assert ada is storage.for_user("ada")
        assert ada.for_user("ada") is ada
        ada.add_run("s", input="Ada's")
        bob.create_session("s")
        storage.add_run("s", input="shared", user_id="ada")
        assert [run.input for run in ada.runs("s")] == ["Ada's"]
        assert bob.runs("s", user_id="bob") == bob.runs("s", user_id=ANY_USER) == []
        assert [head.session_id for head in ada.sessions()] == ["s"]
        assert (ada.count_sessions(), bob.count_sessions(user_id=ANY_USER)) == (1, 1)
        assert storage.count_sessions(user_id=ANY_USER) == 3
        assert [run.input for run in storage.runs("s", user_id="ada")] == ["shared"]
        with pytest.raises(InvalidInputError, match="serves the user 'ada' alone"):
            ada.get_session("s", user_id="bob")
        with pytest.raises(InvalidInputError, match="serves the user 'ada' alone"):
            ada.for_user("bob")
        with pytest.raises(UnsupportedError):
            ada.sweep()
        with pytest.raises(UnsupportedError):
            ada.migrate()
        with pytest.raises(InvalidIdError, match="may have 200"):
            ada.create_session("x" * 201)
        ada.create_session("x" * 200)
        ada.close()
        assert ada.delete_user("ada") == 3
        assert bob.count_sessions() == 1


def test_pages_of_a_user_who_has_others_too() -> None:
    with MemoryStorage() as storage:
        ada = storage.for_user("ada")
        for number in range(25):
            ada.create_session(f"own-{number}")
            for other in range(number):
                storage.create_session(f"{number}-{other}", user_id="ada")
        for limit in (1, 2, 7, 24, 25, 26, 100):
            found: list[str] = []
            page = ada.sessions(limit=limit, order="created")
            found += [head.session_id for head in page]
            while page.next_cursor is not None:
                page = ada.sessions(limit=limit, order="created", cursor=page.next_cursor)
                assert len(page) <= limit
                found += [head.session_id for head in page]
            assert found == [f"own-{number}" for number in reversed(range(25))]
        assert ada.count_sessions() == 25
