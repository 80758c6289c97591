"""What was used, by whatever people ask for."""

from __future__ import annotations

import csv
import io
import json
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import product
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from sessile import ANY_USER, MemoryStorage, SqliteStorage, Usage
from sessile.errors import InvalidInputError
from sessile.insight import Index, histograms
from sessile.insight.adding import begin_of
from sessile.records import micros_of
from sessile.storage.extending import Core, Snapshot, commit, operate, started_session
from sessile.storage.snapshots import Draft
from sessile.storage.vocabulary import MessageAdded, RunEnded, RunStarted

from .test_runs import answer

USED = Usage(1, 10, 5, cost=Decimal("0.002"))


def add_at(index: Index, session: str, began: datetime, seconds: float, **more: object) -> None:
    """A run that began and ended at these times."""
    start = round(began.timestamp() * 1_000_000)

    async def write(core: Core) -> None:
        async def change(snapshot: Snapshot) -> Draft:
            head, entries = started_session(core, snapshot, session, agent="a")
            number = head.run_count + 1
            common = (f"r{number}", number, None, "a")
            ended = RunEnded(
                status=more.get("status", "completed"),
                usage=USED.to_json(),
                ended_at=start + round(seconds * 1e6),
                first_token=more.get("first_token"),
            )  # type: ignore[arg-type] (a status)
            entries += [RunStarted(input="x", started_at=start).entry(*common), ended.entry(*common)]
            return Draft(entries, number)

        await commit(core, session, change)

    operate(index._storage, write)


def test_days_weeks_and_months_in_a_zone(index: Index) -> None:
    berlin = ZoneInfo("Europe/Berlin")
    for moment in (
        datetime(2026, 3, 28, 22, 59, tzinfo=UTC),  # 23:59 on Saturday
        datetime(2026, 3, 28, 23, 1, tzinfo=UTC),  # Sunday, of 23 hours
        datetime(2026, 3, 29, 21, 59, tzinfo=UTC),  # 23:59 on Sunday
        datetime(2026, 3, 29, 22, 1, tzinfo=UTC),  # Monday
        datetime(2026, 3, 31, 22, 30, tzinfo=UTC),  # April
    ):
        add_at(index, "s", moment, 1)

    def told(by: str, zone: str) -> list[tuple[str, int]]:
        return [(str(row.group[0])[:16], row.runs) for row in index.usage(by=by, zone=zone).rows]  # type: ignore[arg-type] (a group)

    assert told("day", "Europe/Berlin") == [
        ("2026-03-28 00:00", 1),
        ("2026-03-29 00:00", 2),
        ("2026-03-30 00:00", 1),
        ("2026-04-01 00:00", 1),
    ]
    assert told("day", "UTC") == [("2026-03-28 00:00", 2), ("2026-03-29 00:00", 2), ("2026-03-31 00:00", 1)]
    assert told("week", "Europe/Berlin") == [("2026-03-23 00:00", 3), ("2026-03-30 00:00", 2)]
    assert told("month", "Europe/Berlin") == [("2026-03-01 00:00", 4), ("2026-04-01 00:00", 1)]
    assert told("hour", "Asia/Kathmandu")[0] == ("2026-03-29 04:00", 2)
    assert begin_of(
        "day", round(datetime(2026, 3, 29, 12, tzinfo=UTC).timestamp() * 1e6), berlin
    ).utcoffset() == timedelta(hours=1)


def test_percentiles_are_of_all_runs(index: Index) -> None:
    for second in range(1, 101):
        add_at(
            index, "s", datetime(2026, 1, 1, tzinfo=UTC), second, status="failed" if second % 10 == 0 else "completed"
        )
    total = index.usage().total
    assert (total.runs, total.errors, total.cost) == (100, 10, Decimal("0.2"))
    for told, exact in ((total.p50, 50), (total.p95, 95), (total.p99, 99)):
        assert told is not None
        assert told.total_seconds() == pytest.approx(exact, rel=0.01)
    (row,) = index.usage(by="agent", status="failed").rows
    assert (row.group, row.runs, row.errors) == (("a",), 10, 10)
    assert row.p50 is not None
    assert row.p50.total_seconds() == pytest.approx(50, rel=0.01)


def test_times_to_the_first_token_are_of_the_streamed_runs(index: Index) -> None:
    """Out of sums as from runs one by one, of all, and of those that filters leave."""
    began = datetime(2026, 1, 1, 12, 30, tzinfo=UTC)
    for number in range(1, 101):
        add_at(index, "s", began, number, first_token=number * 100_000 if number % 2 else None)
    add_at(index, "odd", began, 1, first_token="soon")  # whatever somebody has written: the run is told all the same
    add_at(index, "paused", began, 5, status="paused", first_token=40_000_000)
    assert index.usage(by="model").total.first_token_p50 == index.usage().total.first_token_p50
    assert index._place.read("SELECT COUNT(*) FROM {sums} WHERE first_took <> '[]'")[0][0] > 0
    some = {"since": began - timedelta(minutes=1), "until": began + timedelta(minutes=1)}
    whole = [index.usage(), index.usage(**some), index.usage(by=("day", "agent"))]
    over = index.usage(min_duration=0)  # looked at one by one, without the run that is not over
    for table, runs in (*((one, 102) for one in whole), (over, 101)):
        total = table.total
        assert total.runs == runs
        for told, exact in ((total.first_token_p50, 5.1), (total.first_token_p95, 9.7)):
            assert told is not None
            assert told.total_seconds() == pytest.approx(exact, rel=0.05)
    assert index.usage(min_duration=1000).total.first_token_p50 is None


BEGAN = datetime(2026, 3, 27, 21, 40, tzinfo=UTC)
"""Two days before a day of 23 hours in Berlin."""


def add_many(index: Index, count: int, seed: int = 1) -> None:
    """Runs of several agents, models, tools and states over some days."""
    chance = random.Random(seed)
    for number in range(count):
        start = round(BEGAN.timestamp() * 1e6) + chance.randrange(4 * 86_400) * 1_000_000
        agent, status = chance.choice("ab"), chance.choice(["completed", "failed"])
        user = chance.choice([None, None, "ada"])
        messages = [answer(chance.choice(["m1", "m2"]), *(["find"] if chance.random() < 0.5 else []))]
        operate(index._storage, write_at, f"s{seed}-{number % 7}-{user}", start, chance, agent, status, user, messages)


async def write_at(
    core: Core, session: str, start: int, chance: random.Random, agent: str, status: Any, user: str | None, said: Any
) -> None:
    async def change(snapshot: Snapshot) -> Draft:
        head, entries = started_session(core, snapshot, session, agent=agent, user_id=user)
        number = head.run_count + 1
        common = (f"r{number}", number, None, agent)
        ended = RunEnded(status=status, usage=USED.to_json(), ended_at=start + chance.randrange(60_000_000))
        entries.append(RunStarted(input="x", started_at=start).entry(*common))
        entries += [MessageAdded(one).entry(*common, format="pydantic-ai/2") for one in said]
        return Draft([*entries, ended.entry(*common)], number)

    await commit(core, session, change, user_id=user)


def told_by_runs(index: Index, by: tuple[str, ...], zone: str, user: Any, **filters: Any) -> dict[Any, Any]:
    """Usage as it is found by looking at each run."""
    found: dict[Any, list[int]] = {}
    for run in index.runs(user_id=user, limit=1000, **filters):
        names = {"agent": [run.agent], "status": [run.status], "model": [run.model], "tool": list(run.tools)}
        times = {one: [begin_of(one, run.started_us, ZoneInfo(zone))] for one in ("hour", "day", "week")}  # type: ignore[arg-type] (groups)
        for key in product(*((names | times)[one] for one in by)):
            sums = found.setdefault(tuple(micros_of(one) if isinstance(one, datetime) else one for one in key), [0] * 4)
            calls = run.tools[key[by.index("tool")]] if "tool" in by else 0
            used = (0, 0, calls) if "tool" in by else (run.usage.input_tokens, run.usage.nano_dollars, 0)
            found[tuple(micros_of(one) if isinstance(one, datetime) else one for one in key)] = [
                have + more for have, more in zip(sums, (1, *used), strict=True)
            ]
    return found


def told(index: Index, by: tuple[str, ...], zone: str, user: Any, **filters: Any) -> dict[Any, Any]:
    """Usage as the index tells it."""
    rows = index.usage(user_id=user, by=by, zone=zone, **filters).rows  # type: ignore[arg-type] (groups)
    return {
        tuple(micros_of(one) if isinstance(one, datetime) else one for one in row.group): [
            row.runs,
            row.usage.input_tokens,
            row.usage.nano_dollars,
            row.usage.tool_calls if "tool" in by else 0,
        ]
        for row in rows
    }


def test_sums_are_what_the_runs_are_together(index: Index) -> None:
    """In zones of whole, half and quarter hours, whatever was summed up before, and changed since."""

    def check() -> None:
        for by, zone in (
            *product(
                [("day",), ("hour", "agent"), ("day", "model"), ("week", "tool", "status")], ["UTC", "Asia/Kathmandu"]
            ),
            (("day", "agent"), "Europe/Berlin"),
            (("hour",), "Australia/Adelaide"),
            (("status",), "UTC"),
        ):
            for user in (ANY_USER, None):
                assert told(index, by, zone, user) == told_by_runs(index, by, zone, user), (by, zone)
        odd = {"since": BEGAN + timedelta(hours=5, minutes=17), "until": BEGAN + timedelta(days=2, minutes=3)}
        for more in ({"agent": "a"}, {"status": "failed"}, {}):
            by = ("day", "agent")
            expected = told_by_runs(index, by, "Europe/Berlin", ANY_USER, **odd, **more)
            assert told(index, by, "Europe/Berlin", ANY_USER, **odd, **more) == expected

    add_many(index, 60)
    check()
    assert index._place.read("SELECT COUNT(*) FROM {sums}")[0][0] > 0
    assert index._place.read("SELECT COUNT(*) FROM {spans} WHERE summed = 0")[0][0] == 0
    add_many(index, 25, seed=2)
    index._storage.delete("s1-1-None")
    index._storage.rate("s1-2-None", 1, score=1)
    index._storage.rename("s1-3-ada", "again", user_id="ada")
    index.runs()
    assert index._place.read("SELECT COUNT(*) FROM {spans} WHERE summed = 0")[0][0] > 0
    check()


def test_histograms_tell_percentiles_within_one_percent() -> None:
    chance = random.Random(3)
    values = sorted(round(chance.lognormvariate(14, 2)) for _ in range(5000))
    whole: histograms.Histogram = {}
    parts = [histograms.histogram(values[start : start + 100]) for start in range(0, 5000, 100)]
    histograms.add_kept(whole, [histograms.dump(one) for one in [*parts[:20], {}]])
    histograms.add_kept(whole, [histograms.dump({}), *map(histograms.dump, parts[20:])])
    histograms.add_kept(whole, [histograms.dump({})])
    shares = (0.0, 0.5, 0.95, 0.99, 1.0)
    exact = [values[max(0, -(-round(share * 5000) // 1) - 1)] for share in shares]
    assert histograms.percentiles(whole, shares) == pytest.approx(exact, rel=0.01)
    small = histograms.histogram(range(128))
    assert histograms.percentiles(small, (0.25, 0.5, 1.0)) == [31, 63, 127]
    assert histograms.percentiles({}, (0.5,)) == []


def test_unknown_prices_are_unknown(index: Index) -> None:
    add = index._storage.add_run
    add("s", usage=USED)
    assert index.usage().total.cost == Decimal("0.002")
    add("s", usage=Usage(2, 5, 5))
    total = index.usage().total
    assert (total.cost, total.known_cost, total.usage.unpriced) == (None, Decimal("0.002"), 2)
    add("t")
    assert index.usage(session_id="t").total.cost == 0  # nothing was used


def test_each_model_has_its_own(index: Index) -> None:
    messages = [answer("m1"), answer("m2"), answer("m1")]
    used = Usage(3, 30, 15, tool_calls=2, cost=Decimal("0.006"))
    index._storage.add_run("s", messages=messages, format="pydantic-ai/2", usage=used)
    index._storage.add_run("s", usage=USED)
    rows = {row.group[0]: (row.runs, row.usage.requests, row.cost) for row in index.usage(by="model").rows}
    assert rows == {
        "m1": (1, 2, Decimal("0.004")),
        "m2": (1, 1, Decimal("0.002")),
        None: (1, 1, Decimal("0.002")),
    }
    assert index.usage(by="model").total.cost == Decimal("0.008")


def test_members_are_counted_once(index: Index) -> None:
    async def write(core: Core) -> None:
        async def change(snapshot: Snapshot) -> Draft:
            _, entries = started_session(core, snapshot, "s", agent="team", kind="team")
            entries += [
                RunStarted(input="x").entry("top", 1, None, "team"),
                RunStarted(input="y").entry("member", 1, "top", "writer"),
                RunEnded(status="completed", usage=USED.to_json()).entry("member", 1, "top", "writer"),
                RunEnded(status="completed", usage=USED.to_json()).entry("top", 1, None, "team"),
            ]
            return Draft(entries, 1)

        await commit(core, "s", change)

    operate(index._storage, write)
    total = index.usage().total
    assert (total.runs, total.usage.requests, total.cost) == (1, 2, Decimal("0.004"))
    rows = {row.group[0]: (row.runs, row.cost) for row in index.usage(by="agent").rows}
    assert rows == {"team": (1, Decimal("0.002")), "writer": (1, Decimal("0.002"))}
    (run,) = index.runs()
    assert (run.cost, run.usage.cost, run.total_tokens) == (Decimal("0.004"), Decimal("0.002"), 30)
    members = index.runs(members=True, agent="writer")
    assert [(run.parent_run_id, run.number) for run in members] == [("top", 1)]
    index._storage.rate("s", "member", label="good")
    assert [run.run_id for run in index.runs(members=True, label="good")] == ["member"]


def test_a_budget_counts_what_was_just_committed(index: Index) -> None:
    for number in range(1, 6):
        index._storage.add_run("s", usage=USED, user_id="ada")
        assert index.usage(user_id="ada").total.cost == number * Decimal("0.002")


def test_by_user_session_tool_and_status(index: Index) -> None:
    add = index._storage.add_run
    add("s1", user_id="ada", messages=[answer("m", "find"), answer("m", "find")], format="pydantic-ai/2")
    add("s2", user_id="bob", status="cancelled")
    add("s3")

    def told(by: str) -> list[tuple[object, int]]:
        return [(row.group[0], row.runs) for row in index.usage(user_id=ANY_USER, by=by).rows]  # type: ignore[arg-type] (a group)

    assert told("user") == [(None, 1), ("ada", 1), ("bob", 1)]
    assert told("session") == [("s1", 1), ("s2", 1), ("s3", 1)]
    assert told("status") == [("cancelled", 1), ("completed", 2)]
    (row,) = index.usage(user_id=ANY_USER, by="tool").rows
    assert (row.group, row.usage.tool_calls) == (("find",), 2)
    two = index.usage(user_id=ANY_USER, by=("user", "status")).rows
    assert [row.group for row in two] == [(None, "completed"), ("ada", "completed"), ("bob", "cancelled")]


@pytest.mark.parametrize("by", ["colour", ("day", "week"), ("day", "day"), ("model", "tool")])
def test_wrong_groups(sqlite: SqliteStorage, by: object) -> None:
    with pytest.raises(InvalidInputError):
        Index(sqlite).usage(by=by)  # type: ignore[arg-type] (what is tested)


def test_wrong_zone() -> None:
    with MemoryStorage() as storage, pytest.raises(InvalidInputError, match="Mars"):
        Index(storage).usage(zone="Mars/Base")


def test_forms_for_others(sqlite: SqliteStorage) -> None:
    add = sqlite.add_run
    add("s1", agent='a "quoted"', usage=USED)
    add("s1", agent="b", usage=Usage(1, 7, 0), status="failed")
    table = Index(sqlite).usage(by="agent")
    rows = list(csv.DictReader(io.StringIO(table.csv())))
    assert [(row["agent"], row["runs"], row["errors"], row["input_tokens"], row["cost"]) for row in rows] == [
        ('a "quoted"', "1", "0", "10", "0.002"),
        ("b", "1", "1", "7", ""),
    ]
    said = table.to_json()
    assert json.loads(json.dumps(said))["rows"][0]["cost"] == "0.002"
    assert (said["total"]["cost"], said["total"]["known_cost"], said["total"]["unpriced"]) == (None, "0.002", 1)
    text = table.prometheus()
    assert 'sessile_runs{agent="a \\"quoted\\""} 1\n' in text
    assert 'sessile_cost_dollars{agent="a \\"quoted\\""} 0.002\n' in text
    assert 'sessile_unpriced_requests{agent="b"} 1\n' in text
    assert 'sessile_run_seconds{agent="b",quantile="0.95"}' in text
    assert text.count("# TYPE sessile_runs gauge\n") == 1
    assert (table.charts()["tokens"], table.charts()["errors"]) == ("█▄", " █")
    assert "\nsessile_runs 2\n" in Index(sqlite).usage().prometheus()
    assert Index(sqlite).usage(user_id="nobody").charts()["cost"] == ""
