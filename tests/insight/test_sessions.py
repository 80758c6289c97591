"""Lists of sessions by the index are those of the storage, whatever is filtered by."""

from __future__ import annotations

import itertools
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sessile import ANY_USER, SqliteStorage
from sessile.errors import InvalidInputError
from sessile.insight import Index

GIVEN: dict[str, list[Any]] = {
    "user_id": ["ada", "bob", None, "nobody"],
    "agent": ["a", "b", "none"],
    "kind": ["agent", "team", "other"],
    "status": ["completed", "failed", "running", "interrupted", "paused"],
    "name_prefix": ["Ord", "Order 1", "\U0010ffff", "é", "x"],
    "metadata": [{"tier": "gold"}, {"n": 1}, {"n": 1.0}, {"n": True}, {"n": None}, {"tier": "gold", "n": 1}],
    "metadata_keys": [["tier"], ["tier", "n"], ["other"]],
    "order": ["created"],
}


@pytest.fixture(params=[0, 500], ids=["all are many", "all are few"])
def few(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """From how many sessions on a filter leaves many."""
    for name in ("FEW", "SOME", "MANY"):
        monkeypatch.setattr(f"sessile.insight.sessions.{name}", request.param)


def fill(storage: Any) -> None:
    names = ["Order 1", "Order 2", "order 3", "é", "\U0010ffff!", "\U0010ffff", None]
    values: list[dict[str, Any]] = [
        {},
        {"tier": "gold"},
        {"tier": "gold", "n": 1},
        {"n": True},
        {"n": "1"},
        {"n": None, "o": [1]},
    ]
    for number in range(14):
        user = ["ada", "bob", None][number % 3]
        session = f"s{number:02}"
        storage.add_run(
            session,
            input="a question",
            agent=["a", "b"][number % 2],
            kind="team" if number == 4 else "agent",
            user_id=user,
            status="failed" if number % 5 == 0 else "completed",
        )
        storage.set_metadata(session, values[number % len(values)], user_id=user)
        if (name := names[number % len(names)]) is not None:
            storage.rename(session, name, user_id=user)


def pages(index: Any, **filters: Any) -> list[str]:
    found: list[str] = []
    cursor = None
    while True:
        page = index.sessions(limit=3, cursor=cursor, **filters)
        found += [head.session_id for head in page]
        cursor = page.next_cursor
        if cursor is None:
            return found


def test_every_filter_and_pair(index: Index, few: None) -> None:
    storage = index._storage
    fill(storage)
    alone = [{name: value} for name, values in GIVEN.items() for value in values]
    told = [one for one in GIVEN["metadata"] if None not in one.values()]  # which removes a key
    assert all(index.sessions(user_id=ANY_USER, metadata=one).items for one in told)
    pairs = [{**one, **other} for one, other in itertools.combinations(alone, 2) if one.keys() != other.keys()]
    for filters in [{}, *alone, *pairs]:
        given = {"user_id": ANY_USER, **filters}
        wanted = [head.session_id for head in storage.sessions(limit=100, **given)]
        assert [head.session_id for head in index.sessions(limit=100, **given)] == wanted, filters
        assert index.count_sessions(**given) == len(wanted), filters


def test_pages_in_both_directions_and_times(index: Index) -> None:
    storage = index._storage
    fill(storage)
    heads = storage.sessions(user_id=ANY_USER, limit=100).items
    whole = [head.session_id for head in heads]
    assert pages(index, user_id=ANY_USER) == whole
    assert pages(index, user_id=ANY_USER, ascending=True) == whole[::-1]
    assert pages(index, user_id=ANY_USER, agent="a", kind="agent", ascending=True) == [
        head.session_id for head in heads[::-1] if (head.agent, head.kind) == ("a", "agent")
    ]
    middle = heads[5].updated_at
    assert pages(index, user_id=ANY_USER, since=middle) == whole[:6]
    assert pages(index, user_id=ANY_USER, until=middle, agent="b", status="completed") == [
        head.session_id for head in heads[6:] if (head.agent, head.status) == ("b", "completed")
    ]
    assert not index.sessions(user_id="ada", since=heads[0].updated_at + timedelta(seconds=1)).items


def test_what_changes_is_seen_at_once(index: Index) -> None:
    storage = index._storage
    fill(storage)
    assert pages(index, user_id=ANY_USER, name_prefix="New") == []
    storage.rename("s01", "New name", user_id="bob")
    storage.set_metadata("s02", {"tier": "silver"}, user_id=None)
    storage.delete("s03", user_id="ada")
    assert pages(index, user_id=ANY_USER, name_prefix="New") == ["s01"]
    assert pages(index, user_id=None, metadata={"tier": "silver"}) == ["s02"]
    assert not {"s02", "s03"} & set(pages(index, user_id=ANY_USER, metadata={"tier": "gold"}))
    assert "s03" not in pages(index, user_id="ada")


def test_states_come_where_they_are_asked_for(index: Index) -> None:
    storage = index._storage
    storage.add_run("s", input="a question", agent="a", state={"seen": 1})
    with pytest.raises(InvalidInputError, match="not read"):
        assert index.sessions(agent="a").items[0].state["seen"]
    assert index.sessions(agent="a", with_state=True).items[0].state == {"seen": 1}


def test_a_users_own_sessions(index: Index) -> None:
    storage = index._storage
    own = storage.for_user("ada")
    own.add_run("mine", input="a question", agent="a")
    storage.add_run("other", input="a question", agent="a", user_id="ada")
    storage.for_user("bob").add_run("his", input="a question", agent="a")
    assert [
        head.session_id for head in index.for_user("ada").sessions(user_id="ada", agent="a", status="completed")
    ] == ["mine"]
    assert index.for_user("ada").count_sessions(user_id="ada", agent="a") == 1


def test_a_damaged_session_is_named(tmp_path: Path) -> None:
    import sqlite3

    with SqliteStorage(tmp_path / "sessions.db") as storage, Index(storage) as index:
        fill(storage)
        index.update()
        with sqlite3.connect(tmp_path / "sessions.db") as by_hand:
            by_hand.execute("UPDATE sessile_sessions SET body = '{' WHERE session_id = 's01'")
            by_hand.execute("UPDATE sessile_sessions SET metadata = x'00' WHERE session_id = 's03'")
        page = index.sessions(user_id=ANY_USER, agent="b", kind="agent", limit=100)
        assert {"s01", "s03"} <= page.unreadable.keys()
        assert "s05" in [head.session_id for head in page]
