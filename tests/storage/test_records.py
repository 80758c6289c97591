"""What users see of times, durations and money."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import reduce
from typing import Any

import pytest

from sessile import ANY_USER, MemoryStorage, Storage
from sessile.errors import InvalidInputError
from sessile.records import Session, Usage, datetime_of, micros_of, timedelta_of

# ---------------------------------------------------------------- times and durations


def test_times_are_datetimes_in_utc(storage: Storage) -> None:
    before = datetime.now(UTC) - timedelta(seconds=5)
    made = storage.create_session("s")
    run = storage.add_run("s", format="test/1", messages=[{"text": "x"}])
    head = storage.get_session("s")
    assert head is not None
    assert run.ended_at is not None
    assert before < made.created_at == head.created_at <= run.started_at <= run.ended_at == head.updated_at
    assert head.updated_at < datetime.now(UTC) + timedelta(seconds=5)
    assert head.updated_at.utcoffset() == timedelta(0)
    assert [entry.time for entry in storage.entries("s")][-1] == run.messages[0].time == head.updated_at
    assert (head.ttl, head.expires_at) == (None, None)


@pytest.mark.parametrize("ttl", [3600, 3600.0, timedelta(hours=1)])
def test_how_long_sessions_last_is_seconds_or_a_timedelta(storage: Storage, ttl: Any) -> None:
    made = storage.create_session("s", ttl=ttl)
    assert made.ttl == timedelta(hours=1)
    assert made.expires_at == made.updated_at + timedelta(hours=1)
    changed = storage.set_ttl("s", ttl * 2)
    assert (changed.ttl, changed.expires_at) == (timedelta(hours=2), changed.updated_at + timedelta(hours=2))
    assert storage.fork("s", session_id="t").ttl == timedelta(hours=2)
    assert storage.set_ttl("s", None).expires_at is None


@pytest.mark.parametrize("ttl", [60, timedelta(minutes=1)])
def test_the_storages_own_ttl(ttl: Any) -> None:
    with MemoryStorage(ttl=ttl) as storage:
        assert storage.create_session("s").ttl == timedelta(minutes=1)
        assert storage.create_session("t", ttl=5).ttl == timedelta(seconds=5)
        assert storage.settings.ttl == ttl


@pytest.mark.parametrize("ttl", [-1, timedelta(days=-1), "1", True, float("nan"), 1e11, timedelta.max])
def test_what_is_no_duration(memory: MemoryStorage, ttl: Any) -> None:
    memory.create_session("s")
    for call in (
        lambda: MemoryStorage(ttl=ttl),
        lambda: memory.create_session("t", ttl=ttl),
        lambda: memory.set_ttl("s", ttl),
        lambda: memory.sweep(abandoned_after=ttl),
    ):
        with pytest.raises(InvalidInputError, match="must be a number of seconds, a timedelta, or None"):
            call()


def test_times_that_no_calendar_has() -> None:
    head = Session("s", "i", created_us=-(2**62), updated_us=2**62, ttl_us=2**90, expires_us=2**62)
    assert (head.created_at.year, head.updated_at.year, head.ttl) == (1, 9999, timedelta.max)
    assert head.expires_at == head.updated_at
    for micros in (0, 1, -1, 1_764_338_400_123_456):
        assert micros_of(datetime_of(micros)) == micros == timedelta_of(micros) / timedelta(microseconds=1)


def test_local_times_mean_what_they_say(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """An application in Berlin that asks for what has happened since midnight gets just that."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        head = storage.create_session("s", user_id="ada")
        local = head.updated_at.astimezone()
        assert len(storage.sessions(user_id=ANY_USER, since=local)) == 1
        assert len(storage.sessions(user_id=ANY_USER, since=local + timedelta(microseconds=1))) == 0
    finally:
        monkeypatch.undo()
        time.tzset()


# ---------------------------------------------------------------- money


PRICED = Usage(requests=2, input_tokens=100, output_tokens=10, cost=Decimal("0.0123"))
FREE = Usage(requests=1, input_tokens=5, cost=0)
UNPRICED = Usage(requests=3, input_tokens=7)
OLD = Usage.from_json({"requests": 4, "input_tokens": 9, "cost": 5_000_000})
OLD_UNPRICED = Usage.from_json({"requests": 4, "input_tokens": 9})


@pytest.mark.parametrize(
    ("usage", "cost", "known"),
    [
        (Usage(), Decimal(0), Decimal(0)),
        (Usage(tool_calls=3), Decimal(0), Decimal(0)),
        (PRICED, Decimal("0.0123"), Decimal("0.0123")),
        (FREE, Decimal(0), Decimal(0)),
        (UNPRICED, None, Decimal(0)),
        (Usage(input_tokens=7), None, Decimal(0)),
        (OLD, Decimal("0.005"), Decimal("0.005")),
        (OLD_UNPRICED, None, Decimal(0)),
        (PRICED + FREE, Decimal("0.0123"), Decimal("0.0123")),
        (PRICED + UNPRICED, None, Decimal("0.0123")),
        (PRICED + UNPRICED - UNPRICED, Decimal("0.0123"), Decimal("0.0123")),
        (PRICED + OLD, Decimal("0.0173"), Decimal("0.0173")),
        (Usage(requests=1, cost=0.25), Decimal("0.25"), Decimal("0.25")),
        (Usage(requests=1, cost=10**9), Decimal(10**9), Decimal(10**9)),
    ],
)
def test_what_usage_costs(usage: Usage, cost: Decimal | None, known: Decimal) -> None:
    """Tokens that have no price are unknown, never free."""
    assert (usage.cost, usage.known_cost) == (cost, known)
    assert Usage.from_json(usage.to_json()) == usage


def test_counts_of_later_versions_are_kept() -> None:
    """Also where one is zero: that it says so may mean something, as it does for `unpriced`."""
    stored = {"requests": 1, "audio_tokens": 3, "unheard": 0}
    usage = Usage.from_json(stored)
    assert usage.to_json() == stored
    assert (usage + usage).to_json() == {"requests": 2, "audio_tokens": 6}
    with pytest.raises(TypeError):
        usage.count({"requests": True})


def test_costs_add_up_over_runs_and_sessions(storage: Storage) -> None:
    for number, usage in enumerate((PRICED, FREE, PRICED), 1):
        assert storage.add_run("s", usage=usage).usage == usage
        head = storage.get_session("s")
        assert head is not None
        assert head.usage == reduce(Usage.__add__, (PRICED, FREE, PRICED)[:number])
    storage.add_run("s", usage=UNPRICED)
    head = storage.get_session("s", last_runs=4)
    assert head is not None
    assert (head.usage.cost, head.usage.known_cost, head.usage.unpriced) == (None, Decimal("0.0246"), 3)
    assert [run.usage.cost for run in head.runs] == [Decimal("0.0123"), Decimal(0), Decimal("0.0123"), None]
    storage.verify("s")


@pytest.mark.parametrize(
    "usage",
    [5, {"requests": 1}, Usage(requests=-1), Usage(requests=1, cost=-1), Usage(input_tokens=2**63), Usage(cost=10**12),
     Usage(input_tokens="7"), Usage(tool_calls=True)],
)  # fmt: skip
def test_what_is_no_usage(storage: Storage, usage: Any) -> None:
    with pytest.raises(InvalidInputError, match="usage"):
        storage.add_run("s", usage=usage)


@pytest.mark.parametrize("cost", ["much", float("nan"), float("inf"), Decimal("-Infinity"), [1]])
def test_what_is_no_cost(cost: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"usage\.cost must be a number of dollars"):
        Usage(requests=1, cost=cost)
