"""Lists of sessions: filters, order, pages, counts."""

from __future__ import annotations

import base64
import json
from datetime import UTC, date, datetime, timedelta, timezone
from functools import partial
from typing import Any

import pytest

from sessile import ANY_USER, MemoryStorage, Storage
from sessile.drivers.memory import MemoryDriver
from sessile.errors import InvalidInputError
from sessile.records import Page, datetime_of
from sessile.storage.clock import Clock

from .helpers import Counted, crash, start, wait_until


def ids(page: Page[Any]) -> list[str]:
    return [head.session_id for head in page]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The time that commits are made at; add to it to let time pass. Far ahead, so that nothing has expired."""
    now = [4_000_000_000_000_000]
    monkeypatch.setattr(Clock, "now", lambda clock: now[0])
    return now


def make(storage: Storage, clock: list[int]) -> None:
    storage.create_session("a", user_id="ada", agent="bot", name="Alpha", metadata={"tier": 1})
    clock[0] += 10
    storage.create_session("b", user_id="bob", kind="team", name="Al dente", metadata={"tier": True, "x": None})
    clock[0] += 10
    storage.create_session("c", user_id="ada", agent="bot", name="Beta", metadata={"tier": "1", "pi": 3.5})
    clock[0] += 10
    storage.add_run("a", user_id="ada", status="failed", error={"type": "E", "message": "m"})


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, "acb"),
        ({"order": "created"}, "cba"),
        ({"user_id": "ada"}, "ac"),
        ({"agent": "bot"}, "ac"),
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
        ({"user_id": "ada", "agent": "bot", "name_prefix": "B"}, "c"),
    ],
)
def test_filters(storage: Storage, clock: list[int], filters: dict[str, Any], expected: str) -> None:
    make(storage, clock)
    whose = {"user_id": ANY_USER, **filters}
    assert "".join(ids(storage.sessions(**whose))) == expected
    assert storage.count_sessions(**whose) == len(expected)


def test_a_list_that_names_no_user_has_the_sessions_without_one(storage: Storage) -> None:
    for number, user in enumerate((None, "ada", None, "bob")):
        storage.create_session(f"s{number}", user_id=user)
    assert sorted(ids(storage.sessions())) == ["s0", "s2"]
    assert storage.count_sessions() == 2
    assert sorted(ids(storage.sessions(user_id=ANY_USER))) == ["s0", "s1", "s2", "s3"]
    assert storage.count_sessions(user_id=ANY_USER) == 4
    page = storage.sessions(limit=1)
    assert ids(storage.sessions(limit=1, cursor=page.next_cursor)) + ids(page) == ["s0", "s2"]


def test_time_ranges_are_of_the_last_change_or_of_the_creation(storage: Storage, clock: list[int]) -> None:
    begin = clock[0]
    make(storage, clock)
    every = partial(storage.sessions, user_id=ANY_USER)
    moment, later = datetime_of(begin), datetime_of(begin + 20)
    assert ids(every(since=later)) == ["a", "c"]
    assert ids(every(until=later.astimezone(timezone(timedelta(hours=5))))) == ["b"]
    assert ids(every(since=moment, until=later, order="created")) == ["b", "a"]
    assert storage.count_sessions(user_id=ANY_USER, since=moment, until=later, order="created") == 2
    assert len(every(since=datetime.min.replace(tzinfo=UTC), until=datetime.max.replace(tzinfo=UTC))) == 3
    newest = every().items[0]
    assert ids(every(since=newest.updated_at)) == [newest.session_id]


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
    heads = [storage.get_session(name) for name in seen]
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


def test_the_leases_of_a_page_are_one_round_trip() -> None:
    driver = Counted(MemoryDriver())
    with Storage(driver, lease=0.001) as storage:
        for number in range(20):
            start(storage, f"s{number}", "r")
        storage.create_session("idle")
        gone = [None] + ["interrupted"] * 20
        wait_until(lambda: [head.status for head in storage.sessions(limit=100)] == gone)
        driver.reset()
        assert [head.status for head in storage.sessions(limit=100)] == gone
        assert driver.calls == {"list": 1, "get_records": 1}
        driver.reset()
        assert [head.status for head in storage.sessions(limit=1)] == [None]
        assert driver.calls == {"list": 1}


def test_a_page_of_runs_at_work_and_of_runs_whose_process_is_gone() -> None:
    driver = MemoryDriver()
    with Storage(driver, lease=0.001) as short, Storage(driver, lease=1000) as long:
        start(short, "gone", "r")
        start(long, "working", "r")
        wait_until(lambda: {head.session_id: head.status for head in long.sessions()}["gone"] == "interrupted")
        assert {head.session_id: head.status for head in long.sessions()} == {
            "gone": "interrupted",
            "working": "running",
        }
        assert ids(long.sessions(status="running")) == ["working"], "what is shown is what was asked for"


def cursor(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


@pytest.mark.parametrize(
    "arguments",
    [
        {"limit": 0}, {"limit": 1001}, {"limit": "5"}, {"limit": True}, {"order": "newest"},
        {"since": "yesterday"}, {"since": 10**15}, {"until": 1.5}, {"until": datetime(2030, 1, 1)},  # noqa: DTZ001
        {"status": ["failed"]}, {"since": date(2030, 1, 1)},
        {"name_prefix": ""}, {"name_prefix": "\0"}, {"kind": ""}, {"agent": 5}, {"metadata": {"k": []}},
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
