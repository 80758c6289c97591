"""Lists of sessions: filters, order, pages, counts."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from sessile import MemoryStorage, Storage
from sessile.errors import InvalidInputError
from sessile.records import Page

from .helpers import crash


def ids(page: Page[Any]) -> list[str]:
    return [head.session_id for head in page]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The time that commits are made at; add to it to let time pass. Far ahead, so that nothing has expired."""
    now = [4_000_000_000_000_000]
    monkeypatch.setattr("sessile.storage.core.now_micros", lambda: now[0])
    return now


def make(storage: Storage, clock: list[int]) -> None:
    storage.create_session("a", user_id="ada", owner="bot", name="Alpha", metadata={"tier": 1})
    clock[0] += 10
    storage.create_session("b", user_id="bob", kind="team", name="Al dente", metadata={"tier": True, "x": None})
    clock[0] += 10
    storage.create_session("c", user_id="ada", owner="bot", name="Beta", metadata={"tier": "1", "pi": 3.5})
    clock[0] += 10
    storage.add_run("a", status="failed", error={"type": "E", "message": "m"})


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, "acb"),
        ({"order": "created"}, "cba"),
        ({"user_id": "ada"}, "ac"),
        ({"owner": "bot"}, "ac"),
        ({"kind": "team"}, "b"),
        ({"name_prefix": "Al"}, "ab"),
        ({"name_prefix": "al"}, ""),
        ({"name_prefix": "%"}, ""),
        ({"status": "failed"}, "a"),
        ({"status": "completed"}, ""),
        ({"metadata": {"tier": 1}}, "a"),
        ({"metadata": {"tier": True}}, "b"),
        ({"metadata": {"tier": "1"}}, "c"),
        ({"metadata": {"x": None}}, "b"),
        ({"metadata": {"pi": 3.5, "tier": "1"}}, "c"),
        ({"metadata_keys": ["tier"]}, "acb"),
        ({"metadata_keys": ["tier", "x"]}, "b"),
        ({"metadata_keys": ["absent"]}, ""),
        ({"user_id": "ada", "owner": "bot", "name_prefix": "B"}, "c"),
    ],
)
def test_filters(storage: Storage, clock: list[int], filters: dict[str, Any], expected: str) -> None:
    make(storage, clock)
    assert "".join(ids(storage.sessions(**filters))) == expected
    assert storage.count_sessions(**filters) == len(expected)


def test_time_ranges_are_of_the_last_change_or_of_the_creation(storage: Storage, clock: list[int]) -> None:
    begin = clock[0]
    make(storage, clock)
    assert ids(storage.sessions(since=begin + 20)) == ["a", "c"]
    assert ids(storage.sessions(until=begin + 20)) == ["b"]
    assert ids(storage.sessions(since=begin, until=begin + 20, order="created")) == ["b", "a"]
    assert storage.count_sessions(since=begin, until=begin + 20, order="created") == 2


@pytest.mark.parametrize(
    "key", ["a.b", 'a"b', "a\\b", "$", "[0]", "ключ", "🙂", "a\nb", "'; DROP TABLE x; --", "\ue000"]
)
def test_metadata_keys_and_values_are_any_text(storage: Storage, key: str) -> None:
    storage.create_session("s", metadata={key: key, "other": 1})
    storage.create_session("t", metadata={"nested": {key: key}})
    assert ids(storage.sessions(metadata={key: key})) == ["s"]
    assert ids(storage.sessions(metadata_keys=[key])) == ["s"]


@pytest.mark.parametrize("order", ["updated", "created"])
def test_pages_hold_every_session_once(storage: Storage, clock: list[int], order: Any) -> None:
    names = [f"s{number:02}" for number in range(11)]
    for number, name in enumerate(names):
        clock[0] += number % 2  # some at the same moment
        storage.create_session(name)
    seen: list[str] = []
    cursor = None
    while True:
        page = storage.sessions(limit=3, cursor=cursor, order=order)
        seen += ids(page)
        cursor = page.next_cursor
        if cursor is None:
            break
        assert len(page) == 3
    assert sorted(seen) == names
    heads = [storage.session(name) for name in seen]
    keys = [(head.created_at, head.session_id) for head in heads if head]
    assert keys == sorted(keys, reverse=True)


def test_the_last_full_page_has_no_cursor(storage: Storage) -> None:
    for name in "abc":
        storage.create_session(name)
    assert storage.sessions(limit=3).next_cursor is None
    assert storage.sessions(limit=2).next_cursor is not None


def test_lists_are_bounded_by_default(memory: MemoryStorage) -> None:
    for number in range(25):
        memory.create_session(f"s{number}")
    page = memory.sessions()
    assert (len(page), page.next_cursor is not None) == (20, True)
    assert memory.count_sessions() == 25


def test_a_session_whose_process_is_gone_is_listed_as_interrupted(tmp_path: Any) -> None:
    with MemoryStorage(lease=0.01) as storage:
        crash(storage)
        assert [head.status for head in storage.sessions()] == ["interrupted"]


def cursor(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


@pytest.mark.parametrize(
    "arguments",
    [
        {"limit": 0}, {"limit": 1001}, {"limit": "5"}, {"limit": True}, {"order": "newest"},
        {"since": "yesterday"}, {"since": 10**30}, {"until": 1.5}, {"until": -(10**30)}, {"status": ["failed"]},
        {"name_prefix": ""}, {"name_prefix": "\0"}, {"kind": ""}, {"owner": 5}, {"metadata": {"k": []}},
        {"metadata": {"k": {}}}, {"metadata": {"k": "\ud800"}}, {"metadata": {"k": "\0"}}, {"metadata": {1: 2}},
        {"metadata": {"": 2}}, {"metadata": {"k": 2**63}}, {"metadata_keys": [5]}, {"metadata_keys": [""]},
        {"cursor": "x"}, {"cursor": "é"}, {"cursor": 5}, {"cursor": cursor([1])}, {"cursor": cursor(5)},
        {"cursor": cursor(["x", "s"])}, {"cursor": cursor([float("inf"), "s"])}, {"cursor": cursor([10**30, "s"])},
        {"cursor": cursor([5, "\ud800"])}, {"cursor": cursor([5, 5])},
    ],
)  # fmt: skip
def test_bad_filters_are_refused(storage: Storage, arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        storage.sessions(**arguments)
    if not arguments.keys() & {"limit", "cursor"}:
        with pytest.raises(InvalidInputError):
            storage.count_sessions(**arguments)


def test_a_status_that_there_is_not_is_refused(storage: Storage) -> None:
    """It would find nothing, and look as if nothing were there."""
    for find in (storage.sessions, storage.count_sessions):
        with pytest.raises(InvalidInputError, match="status must be one of 'running', "):
            find(status="complete")  # pyright: ignore[reportArgumentType]
    for status in ("complete", ["completed", "complete"]):
        with pytest.raises(InvalidInputError, match="it is 'complete'"):
            storage.runs("s", status=status)  # pyright: ignore[reportArgumentType]
