"""Lists bring no states unless they are asked for."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.storage.helpers import end, start

from sessile import ANY_USER, MemoryStorage, Session, SqliteStorage, Storage
from sessile.drivers.memory import MemoryDriver
from sessile.errors import InvalidInputError
from sessile.storage.driver import Deadline, Listing, ListQuery
from sessile.storage.states import MARK, UnreadState, without_state

STATE = {"city": "Paris", "state": {"state": [1]}}


@pytest.fixture
def storage() -> Storage:
    made = MemoryStorage()
    made.create_session("s", user_id="ada", state=STATE, name="A title")
    made.create_session("t", user_id="ada")
    return made


def test_lists_bring_states_when_they_are_asked_for(storage: Storage) -> None:
    assert [one.state for one in storage.sessions(user_id="ada", with_state=True)] == [{}, STATE]
    assert [one.state for one in storage.changed_sessions(user_id=ANY_USER, with_state=True).items] == [STATE, {}]
    assert [one.state for one in storage.for_user("ada").sessions(with_state=True)] == []
    mine = storage.for_user("ada")
    mine.create_session("s", state=STATE)
    assert [one.state for one in mine.sessions(with_state=True)] == [STATE]


READS: dict[str, Callable[[Any], object]] = {
    "[]": lambda state: state["city"],
    "get": lambda state: state.get("city"),
    "in": lambda state: "city" in state,
    "len": len,
    "iteration": list,
    "dict": dict,
    "unpacking": lambda state: {**state},
    "truth": bool,
    "items": lambda state: state.items(),
    "keys": lambda state: state.keys(),
    "|": lambda state: state | {},
    "pop": lambda state: state.pop("city", None),
    "copy": lambda state: state.copy(),
    "reversed": lambda state: list(reversed(state)),
    "change": lambda state: state.update(city="Rome"),
    "[]=": lambda state: state.__setitem__("city", "Rome"),
    "setdefault": lambda state: state.setdefault("city", 1),
    "json": json.dumps,
    "<": lambda state: state == {} or state["city"],
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_who_looks_into_a_state_that_was_not_read_is_told_so(storage: Storage, read: Callable[[Any], object]) -> None:
    for page in (storage.sessions(user_id="ada").items, storage.changed_sessions(user_id=ANY_USER).items):
        for one in page:
            with pytest.raises(InvalidInputError, match="with_state=True"):
                read(one.state)


def test_a_session_without_its_state_can_be_shown_copied_and_compared(storage: Storage) -> None:
    listed = storage.sessions(user_id="ada").items[1]
    assert (listed.name, listed.user_id, listed.session_id) == ("A title", "ada", "s")
    assert "Paris" not in repr(listed)
    assert "<not read>" in repr(listed)
    for again in (copy.copy(listed), copy.deepcopy(listed), pickle.loads(pickle.dumps(listed))):
        assert again == listed
        assert isinstance(again.state, UnreadState)
    assert storage.get_session("s", user_id="ada") != listed
    assert storage.get_session("s", user_id="ada") == dataclasses.replace(listed, state=STATE)


def test_what_waits_for_people_comes_without_states(storage: Storage) -> None:
    end(storage, start(storage, "s", user_id="ada"), status="paused")
    (waits,) = storage.waiting(user_id="ada")
    assert waits.session.session_id == "s"
    assert isinstance(waits.session.state, UnreadState)


class Watched(MemoryDriver):
    """Notes the bodies that lists have brought, and adds to them what a later version might."""

    def __init__(self) -> None:
        super().__init__()
        self.bodies: list[str] = []
        self.later = ""

    async def list(self, query: ListQuery, deadline: Deadline) -> Listing:
        for session in self._sessions.values():
            if self.later not in session.head.body:
                session.head = session.head._replace(body=f"{self.later}{session.head.body[1:]}")
        page = await super().list(query, deadline)
        self.bodies += [row.body for row in page.rows]
        return page


def test_no_list_asks_the_database_for_states() -> None:
    """But those that remove sessions, which compare heads as a whole."""
    driver = Watched()
    with Storage(driver) as storage:
        storage.create_session("s", user_id="ada", state=STATE)
        end(storage, start(storage, "s", user_id="ada"), status="paused")
        storage.sessions(user_id=ANY_USER)
        storage.sessions(user_id=ANY_USER, status="interrupted")
        storage.count_sessions(user_id=ANY_USER, status="running")
        storage.waiting(user_id=ANY_USER)
        storage.changed_sessions(user_id=ANY_USER)
        storage.for_user("ada").sessions()
        storage.sweep()
    assert driver.bodies
    assert not [body for body in driver.bodies if MARK in body]


@pytest.mark.parametrize("later", ['{"later":{"more":1,"state":{"x":1}},', '{"later":[{"more":1,"state":2}],'])
def test_a_head_in_which_a_later_version_keeps_another_state_is_listed(later: str) -> None:
    driver = Watched()
    with Storage(driver) as storage:
        storage.create_session("s", state=STATE)
        driver.later = later
        listed: list[Session] = [*storage.sessions(), *storage.changed_sessions(user_id=ANY_USER).items]
        assert [one.session_id for one in listed] == ["s", "s"]
        assert storage.sessions(with_state=True).items[0].state == STATE


def test_what_has_no_state_stays_as_it_is() -> None:
    assert without_state("no head") == "no head"
    assert without_state('{"a":1,"state":{"b":2}}') == '{"a":1}'
    assert without_state(without_state('{"a":1,"state":{"b":2}}')) == '{"a":1}'


def test_memory_of_a_list(tmp_path: Path) -> None:
    """A page of sessions with large states takes no memory for them."""
    with SqliteStorage(tmp_path / "s.db") as storage:
        for number in range(40):
            storage.create_session(f"s{number}", state={"text": "x" * 250_000})
        storage.sessions(limit=1)
        tracemalloc.start()
        try:
            assert len(storage.sessions(limit=40)) == 40
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 2_000_000
