"""What lists cost among very many sessions and runs: every filter, and every pair of filters.

Beside each list stands the same question as a statement of one's own, with an index that is made for it alone and
removed again. Both go through the same client.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import sessile
from sessile import ANY_USER, SqliteStorage
from sessile.insight import Index, runs
from sessile.insight.filters import Whose
from sessile.insight.place import Place
from sessile.insight.sessions import IndexedDriver
from sessile.records import datetime_of
from sessile.storage import Storage
from sessile.storage.core import Core
from sessile.storage.driver import ListQuery
from sessile.storage.extending import operate
from sessile.storage.filters import page_query

from .many import fill
from .measure import ms
from .tables import Table, verdict

LIMIT = 2.0
USAGE = 0.300
PAGE = 20
ROUNDS = 9


@dataclass(frozen=True)
class Filter:
    """A filter with a value, as the library takes it and as a condition with its columns.

    `like` says how many sessions match: `much`, `few` or `none`; of a pair only those of different fields are taken.
    """

    name: str
    like: str
    given: Mapping[str, Any] = field(hash=False)
    where: str
    columns: str


def session_filters(place: Place, newest: int) -> list[Filter]:
    """Each filter of lists of sessions, with values that much, few and nothing match."""
    named = [
        ("user_id", "user_id", {"much": "big", "few": "u7-3", "none": "nobody"}),
        ("agent", "agent", {"much": "a0", "few": "rare", "none": "nobody"}),
        ("kind", "kind", {"much": "agent", "few": "workflow", "none": "other"}),
        ("status", "status", {"much": "completed", "few": "failed", "none": "running"}),
    ]
    made = [
        Filter(name, like, {name: value}, f"{column} = '{value}'", column)
        for name, column, values in named
        for like, value in values.items()
    ]
    for like, prefix in {"much": "Order", "few": "Zeb", "none": "Xen"}.items():
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        made.append(
            Filter("name_prefix", like, {"name_prefix": prefix}, f"name >= '{prefix}' AND name < '{end}'", "name")
        )
    for like, tier in {"much": "gold", "few": "rare", "none": "other"}.items():
        made.append(
            Filter(
                "metadata",
                like,
                {"metadata": {"tier": tier}},
                f"{_json(place, 'tier')} = '{tier}'",
                _json(place, "tier"),
            )
        )
    old = newest - 30 * 24 * 3600 * 1_000_000
    made.append(Filter("since", "much", {"since": datetime_of(old)}, f"updated_at >= {old}", ""))
    made.append(Filter("until", "much", {"until": datetime_of(old)}, f"updated_at < {old}", ""))
    return made


def _json(place: Place, key: str) -> str:
    return {
        "sqlite": f"json_extract(metadata, '$.{key}')",
        "postgres": f"((metadata::json) ->> '{key}')",
        "mysql": f"by_hand_{key}",  # it has no indexes of expressions
    }[place.engine.dialect]


def chosen(filters: Sequence[Filter]) -> list[tuple[Filter, ...]]:
    """Each filter alone, and each pair of different ones."""
    pairs = [pair for pair in itertools.combinations(filters, 2) if pair[0].name != pair[1].name]
    return [(one,) for one in filters] + pairs


async def _list(core: Core, query: ListQuery, place: Place) -> Any:
    await core.prepare(core.deadline())
    return await IndexedDriver(core.driver, place).list(replace(query, now=core.clock.now()), core.deadline())


def median(call: Callable[[], Any], rounds: int = ROUNDS) -> float:
    """The median of some calls; of slow ones fewer."""
    call()
    times: list[float] = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
        if sum(times) > 0.5:
            break
    return statistics.median(times)


class ByHand:
    """Statements of one's own, with indexes that stand only while they are measured."""

    def __init__(self, place: Place, table: str) -> None:
        self._place, self._table, self._number = place, table, 0

    def make(self, columns: str) -> str:
        """Make an index; returns its name."""
        self._number += 1
        name = f"by_hand_{self._number}"
        self._run(f"CREATE INDEX {name} ON {{{self._table}}} ({columns})")
        return name

    def remove(self, name: str) -> None:
        """Remove it."""
        on = f" ON {{{self._table}}}" if self._place.engine.dialect == "mysql" else ""
        self._run(f"DROP INDEX {name}{on}")

    @contextmanager
    def column(self, key: str) -> Iterator[None]:
        """A column that is computed of the metadata, where an index cannot be on an expression."""
        if self._place.engine.dialect != "mysql":
            yield
            return
        computed = (
            f"VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin AS (JSON_VALUE(metadata, '$.{key}')) VIRTUAL"
        )
        self._run(f"ALTER TABLE {{{self._table}}} ADD COLUMN by_hand_{key} {computed}")
        try:
            yield
        finally:
            self._run(f"ALTER TABLE {{{self._table}}} DROP COLUMN by_hand_{key}")

    def _run(self, sql: str) -> None:
        self._place.change(lambda run: run(self._place.sql(sql), {}))

    def read(self, sql: str) -> Any:
        """Its rows."""
        return self._place.read(sql)


@dataclass
class Measured:
    """Seconds: of the whole call, of the driver's query, of that when nothing is remembered of it, and by hand."""

    name: str
    call: float
    query: float
    first: float
    by_hand: float

    @property
    def over(self) -> float:
        """How many times longer than by hand; what is below half a millisecond is not told apart."""
        return times(self.query, self.by_hand)


def times(took: float, by_hand: float) -> float:
    """How many times longer."""
    return max(took, FLOOR) / max(by_hand, FLOOR)


SHORT = 0.002
"""Seconds; below that the way to a server and back is much of a list."""

FLOOR = 0.0005
"""Seconds that are not told apart: to make the records of a page of nothing takes as long."""


def measure_sessions(storage: Storage, place: Place) -> list[Measured]:
    """Lists of sessions."""
    newest = place.read("SELECT MAX(updated_at) FROM {heads}")[0][0]
    cases = chosen(session_filters(place, newest))
    index = Index(storage)
    ours = {case: _ours(index, place, case) for case in cases}
    hand = ByHand(place, "heads")
    found: list[Measured] = []
    by_columns: dict[tuple[str, ...], list[tuple[Filter, ...]]] = {}
    for case in cases:
        by_columns.setdefault(tuple(one.columns for one in case if one.columns), []).append(case)
    with hand.column("tier"):
        for columns, some in by_columns.items():
            index = hand.make(", ".join([*columns, "updated_at", "session_id"])) if columns else None
            try:
                for case in some:
                    name = " and ".join(f"{one.name} ({one.like})" for one in case)
                    found.append(Measured(name, *ours[case], _by_hand(hand, place, case, index)))
            finally:
                if index is not None:
                    hand.remove(index)
    return found


def _ours(index: Index, place: Place, case: tuple[Filter, ...]) -> tuple[float, float, float]:
    given: dict[str, Any] = {"user_id": ANY_USER}
    for one in case:
        given |= one.given
    filters = {name: value for name, value in given.items() if name != "user_id"}
    query = page_query(given["user_id"], PAGE, None, filters)  # pyright: ignore[reportArgumentType]
    storage = index._storage  # pyright: ignore[reportPrivateUsage] (below the index)
    return (
        median(lambda: index.sessions(limit=PAGE, **given)),
        median(lambda: operate(storage, _list, query, place)),
        median(lambda: (place.leads.clear(), operate(storage, _list, query, place))),
    )


def _by_hand(hand: ByHand, place: Place, case: tuple[Filter, ...], index: str | None) -> float:
    forced = {"sqlite": "INDEXED BY {}", "mysql": "FORCE INDEX ({})", "postgres": ""}[place.engine.dialect]
    columns = (
        "session_id, incarnation, revision, kind, agent, user_id, name, status, created_at, updated_at, expires_at,"
        " hidden, metadata, body"
    )
    where = " AND ".join([*(one.where for one in case), "NOT hidden"])
    order = f"ORDER BY updated_at DESC, session_id DESC LIMIT {PAGE + 1}"
    ways = ["", *([forced.format(index)] if index and forced else [])]
    return min(
        median(lambda way=way: hand.read(f"SELECT {columns} FROM {{heads}} {way} WHERE {where} {order}"))
        for way in ways
    )


def table_of(title: str, found: Sequence[Measured]) -> Table:
    """The slowest and all that is over, and how many are not."""
    table = Table(title, ("filter", "whole call ms", "query ms", "by hand ms", "times", ""))
    good = [one for one in found if one.over <= LIMIT]
    for one in sorted(found, key=lambda one: -one.over):
        if one.over > LIMIT or len(found) <= 40:
            took = [ms(value) for value in (one.call, one.query, one.by_hand)]
            table.rows.append((one.name, *took, f"{one.over:.1f}", verdict(one.over, LIMIT)))
    calls = sorted(one.call for one in found)
    again = sorted(one.query for one in found)
    first = sorted(one.first for one in found)
    table.notes.append(f"{len(good)} of {len(found)} are at most {LIMIT:.0f} x the same by hand")
    at_first = sum(times(one.first, one.by_hand) <= LIMIT for one in found)
    slow = sum(one.over > LIMIT and one.query > SHORT for one in found)
    table.notes.append(f"{at_first} when nothing is remembered of them; of those over, {slow} take more than 2 ms")
    for what, some in (("whole calls", calls), ("queries", again), ("when nothing is remembered", first)):
        table.notes.append(f"{what}: median {ms(statistics.median(some))} ms, slowest {ms(some[-1])} ms")
    return table


# ---------------------------------------------------------------- runs


def run_filters(place: Place) -> list[Filter]:
    """Each filter of lists of runs, with values that much, few and nothing match."""
    newest = place.read("SELECT MAX(started_at) FROM {runs}")[0][0]
    old = newest - 30 * 24 * 3600 * 1_000_000
    named = [
        ("user_id", "r.user_id", {"much": "big", "few": "u7-3", "none": "nobody"}),
        ("agent", "r.agent", {"much": "a0", "few": "rare", "none": "nobody"}),
        ("kind", "r.kind", {"much": "agent", "few": "workflow", "none": "other"}),
        ("status", "r.status", {"much": "completed", "few": "failed", "none": "running"}),
        ("error", "r.error", {"few": "ValueError", "none": "OSError"}),
        ("model", "m.model", {"much": "m1", "none": "other"}),
        ("tool", "t.tool", {"much": "refund", "few": "rare", "none": "other"}),
        ("label", "l.label", {"much": "good", "none": "other"}),
    ]
    made = [
        Filter(name, like, {name: value}, f"{column} = '{value}'", column)
        for name, column, values in named
        for like, value in values.items()
    ]
    for seconds, like in ((60, "much"), (599.9, "few"), (900, "none")):
        made.append(
            Filter("min_duration", like, {"min_duration": seconds}, f"r.duration >= {int(seconds * 1e6)}", "r.duration")
        )
    for dollars, like in ((0.001, "much"), (0.00499, "few"), (1, "none")):
        made.append(
            Filter("min_cost", like, {"min_cost": dollars}, f"r.total_cost >= {round(dollars * 1e9)}", "r.total_cost")
        )
    made.append(Filter("min_score", "much", {"min_score": 1}, "l.score >= 1", "l.score"))
    made.append(Filter("min_score", "none", {"min_score": 2}, "l.score >= 2", "l.score"))
    made.append(Filter("on_branch", "none", {"on_branch": False}, "r.on_branch = 0", "r.on_branch"))
    made.append(Filter("since", "much", {"since": datetime_of(old)}, f"r.id >= {old // 16}", ""))
    made.append(Filter("until", "much", {"until": datetime_of(old)}, f"r.id < {old // 16}", ""))
    return made


BESIDE = {"m": "{models} m", "t": "{tools} t", "l": "{ratings} l"}


def measure_runs(storage: Storage, place: Place, *, ascending: bool = False) -> list[Measured]:
    """Lists of runs."""
    cases = chosen(run_filters(place))
    ours = {case: _our_runs(storage, place, case, ascending) for case in cases}
    hand = ByHand(place, "runs")
    by_columns: dict[tuple[str, ...], list[tuple[Filter, ...]]] = {}
    for case in cases:
        own = tuple(one.columns for one in case if one.columns.startswith("r."))
        by_columns.setdefault(own, []).append(case)
    found: list[Measured] = []
    for columns, some in by_columns.items():
        name = hand.make(", ".join([*(one.removeprefix("r.") for one in columns), "id"])) if columns else None
        try:
            for case in some:
                said = " and ".join(f"{one.name} ({one.like})" for one in case)
                took = min(
                    median(lambda sql=sql: hand.read(sql)) for sql in _runs_by_hand(place, case, name, ascending)
                )
                found.append(Measured(said, *ours[case], took))
        finally:
            if name is not None:
                hand.remove(name)
    return found


def _our_runs(storage: Storage, place: Place, case: tuple[Filter, ...], ascending: bool) -> tuple[float, float, float]:
    given: dict[str, Any] = {}
    for one in case:
        given |= one.given
    whose = Whose(given.pop("user_id", ANY_USER))

    def ask() -> Any:
        return runs.runs(
            storage,
            place,
            2**62,
            whose=whose,
            limit=PAGE,
            cursor=None,
            ascending=ascending,
            filters=given,  # pyright: ignore[reportArgumentType]
        )

    took = median(ask)
    return took, took, median(lambda: (place.leads.clear(), ask()))


def _runs_by_hand(place: Place, case: tuple[Filter, ...], index: str | None, ascending: bool) -> list[str]:
    """The same with each table leading that can."""
    where = " AND ".join([*(one.where for one in case), "r.number > 0", "r.parent_run_id IS NULL"])
    aliases = [one.columns[0] for one in case if one.columns and not one.columns.startswith("r.")]
    aliases = list(dict.fromkeys(aliases))
    join = {"sqlite": "CROSS JOIN", "mysql": "STRAIGHT_JOIN", "postgres": "JOIN"}[place.engine.dialect]
    by = {"sqlite": f"INDEXED BY {index}", "mysql": f"FORCE INDEX ({index})", "postgres": ""}[place.engine.dialect]
    direction = "ASC" if ascending else "DESC"
    first = [f"{BESIDE[one]}" for one in aliases]
    on = {one: f"{one}.run = r.id" for one in aliases}
    led_by_runs = f"{{runs}} r {by if index else ''} " + " ".join(
        f"{join} {BESIDE[one]} ON {on[one]}" for one in aliases
    )
    ways = [(led_by_runs, "r.id")]
    if index:
        ways.append(("{runs} r " + " ".join(f"{join} {BESIDE[one]} ON {on[one]}" for one in aliases), "r.id"))
    for one in aliases:
        rest = " ".join(f"{join} {BESIDE[other]} ON {on[other]}" for other in aliases if other != one)
        ways.append((f"{BESIDE[one]} {join} {{runs}} r ON {on[one]} {rest}", f"{one}.run"))
    if first and index is None:
        ways = ways[1:]
    return [
        f"SELECT r.* FROM {source} WHERE {where} ORDER BY {key} {direction} LIMIT {PAGE + 1}" for source, key in ways
    ]


# ---------------------------------------------------------------- all of it


def run(opened: Callable[..., Storage], where: str, sessions: int) -> Iterator[Table]:
    """Fill a database, and measure lists of sessions and runs, and sums of runs, there.

    Args:
        opened: opens the database; takes the options of a storage.
        where: its name.
        sessions: how many, of one run each.
    """
    with opened(timeout=3600) as filling, Index(filling) as index:
        fill(filling, index, sessions)
    time.sleep(95)  # what has changed within the last minute and a half is looked at by every question
    with opened() as storage, Index(storage) as index:
        index.runs(user_id=ANY_USER)
        place = index._place  # pyright: ignore[reportPrivateUsage] (what is measured lies there)
        title = f"{sessions:,} sessions of one run each ({where}): pages of {PAGE} by each filter and each pair"
        yield table_of(f"Sessions, {title}", measure_sessions(storage, place))
        yield table_of(f"Runs, {title}", measure_runs(storage, place))
        yield table_of(f"Runs, the oldest first, {title}", measure_runs(storage, place, ascending=True))
        yield usage_table(index, place, f"Usage of {sessions:,} runs ({where})")


def usage_table(index: Index, place: Place, title: str) -> Table:
    """What sums over all runs take."""
    table = Table(title, ("question", "ms", "by hand ms", "limit ms", ""))
    started = time.perf_counter()
    index.update()
    table.notes.append(f"summing up what is over, once: {time.perf_counter() - started:.0f} s")
    hour = place.engine.steps("started_at", 86_400_000_000)
    asked: list[tuple[str, dict[str, Any], str]] = [
        ("by day", {"by": "day"}, f"{hour}"),
        ("by week and model", {"by": ("week", "model")}, ""),
        ("by agent", {"by": "agent"}, "agent"),
        ("by status", {"by": "status"}, "status"),
        ("by tool", {"by": "tool"}, ""),
        ("by user", {"by": "user"}, "user_id"),
        ("of one user", {"user_id": "u7-3"}, ""),
        ("of one user by day", {"user_id": "u7-3", "by": "day"}, ""),
        ("of the largest user, a tenth of all", {"user_id": "big"}, ""),
        ("by session", {"by": "session"}, "session"),
    ]
    for name, given, group in asked:
        took = median(lambda given=given: index.usage(**{"user_id": ANY_USER, **given}), 5)
        hand = ""
        if group:
            sql = f"SELECT {group}, COUNT(*), SUM(cost), SUM(input_tokens) FROM {{runs}} WHERE number > 0 GROUP BY 1"
            hand = ms(median(lambda sql=sql: place.read(sql), 5))
        table.rows.append((f"usage {name}", ms(took), hand, ms(USAGE), verdict(took, USAGE)))
    return table


def on_sqlite(data: Path, sessions: int) -> Iterator[Table]:
    """On a file."""
    path = data / "many.db"
    return run(lambda **options: SqliteStorage(path, **options), "SQLite", sessions)


def on_server(url: str, name: str, sessions: int) -> Iterator[Table]:
    """On a server."""
    return run(lambda **options: sessile.open(url, **options), name, sessions)
