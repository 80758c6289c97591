"""Summing up the runs of a time once, so that usage over a long time need not look at each of them.

A block of time (see `spans`) is summed up when usage is asked for, once it is over. Whoever writes a run of it marks
its sums as out of date, in the same transaction; then its runs are looked at one by one until it is summed up anew. So
sums are never wrong, only missing, and may be removed at any time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from ..records import MICROSECOND
from ..storage.driver import RunStatement
from . import histograms
from .facts import COUNTED
from .histograms import Histogram
from .lots import batches, one_of
from .place import Place
from .spans import DAYS, HOUR, first_id, hours_of, larger, last_id

PARTS = ("whole", "model", "tool")
"""What cells are about, by the number that is kept."""

ALL = 3
"""The number of the cells that are about whole runs of all agents and states."""

OVER = 600 * MICROSECOND
"""How long after its end a block is summed up; most runs are over by then."""

TIMED = "(r.duration IS NOT NULL OR r.first_token IS NOT NULL)"
"""Which runs have times to tell of."""

TOGETHER = 8
"""How many blocks are written in one transaction."""

COLUMNS = (
    "block",
    "cell",
    "part",
    "nobody",
    "below",
    "agent",
    "status",
    "name",
    "runs",
    "errors",
    *COUNTED,
    "took",
    "first_took",
)


class Cell(NamedTuple):
    """What the runs of one cell have in common."""

    part: int
    nobody: int
    below: int
    agent: str
    status: str
    name: str


class _Sums:
    """The sums of some cells."""

    def __init__(self) -> None:
        self.counts: dict[Cell, list[int]] = {}
        self.took: defaultdict[Cell, Histogram] = defaultdict(dict)
        self.first_took: defaultdict[Cell, Histogram] = defaultdict(dict)

    def add(self, cell: Cell, counts: Sequence[Any]) -> None:
        have = self.counts.get(cell)
        added = [int(one or 0) for one in counts]
        self.counts[cell] = added if have is None else [one + other for one, other in zip(have, added, strict=True)]

    def add_times(self, cell: Cell, other: _Sums, its: Cell) -> None:
        """Add the times of a cell of other sums."""
        histograms.add(self.took[cell], other.took[its])
        histograms.add(self.first_took[cell], other.first_took[its])

    def rows(self, block: int) -> Iterator[tuple[Any, ...]]:
        """The rows of a block, with those that are about all agents and states."""
        whole = _Sums()
        for cell, counts in self.counts.items():
            if cell.part == 0:
                all_of_them = cell._replace(part=ALL, agent="", status="")
                whole.add(all_of_them, counts)
                whole.add_times(all_of_them, self, cell)
        cells = [(one, cell) for one in (self, whole) for cell in sorted(one.counts)]
        for number, (sums, cell) in enumerate(cells):
            times = (histograms.dump(sums.took[cell]), histograms.dump(sums.first_took[cell]))
            yield (block, number, *cell, *sums.counts[cell], *times)


def sum_up(place: Place, now: int) -> int:
    """Sum up all times that are over and whose sums are missing or out of date; returns how many blocks these were."""
    missing: dict[int, int] = dict(place.read("SELECT block, changed FROM {spans} WHERE summed = 0"))
    hours = {block for block in missing if block < DAYS and (block + 1) * HOUR + OVER <= now}
    done = 0
    whole = sorted(block for block in missing if block >= DAYS and (hours_of(block).stop * HOUR + OVER) <= now)
    single = sorted(hour for hour in hours if larger(hour) not in set(whole))
    for some in batches([*whole, *single], TOGETHER):
        made: dict[int, _Sums] = {}
        for block in some:
            found = _summed(place, hours_of(block) if block >= DAYS else range(block, block + 1))
            made |= {hour: found.get(hour, _Sums()) for hour in (*hours_of(block), block) if hour in hours}
            if block >= DAYS:
                made[block] = _together(found.values())
        done += _write(place, made, missing)
    return done


def _together(hours: Iterable[_Sums]) -> _Sums:
    """The sums of several hours."""
    made = _Sums()
    for hour in hours:
        for cell, counts in hour.counts.items():
            made.add(cell, counts)
            made.add_times(cell, hour, cell)
    return made


def _summed(place: Place, hours: range) -> dict[int, _Sums]:
    """The sums of some hours that follow each other, from their runs."""
    start, end = hours.start * HOUR, hours.stop * HOUR
    values = {"start": start, "end": end, "first": first_id(start), "last": last_id(end)}
    when = "r.number > 0 AND r.id >= :first AND r.id < :last AND r.started_at >= :start AND r.started_at < :end"
    hour = place.engine.steps("r.started_at", HOUR)
    nobody = "CASE WHEN r.user_id IS NULL THEN 1 ELSE 0 END"
    below = "CASE WHEN r.parent_run_id IS NULL THEN 0 ELSE 1 END"
    by = f"{hour}, {nobody}, {below}, coalesce(r.agent, ''), r.status"
    made: defaultdict[int, _Sums] = defaultdict(_Sums)
    for part, kind in enumerate(PARTS):
        source = f"{{runs}} r JOIN {{{kind}s}} p ON p.run = r.id" if part else "{runs} r"
        name, grouped = (f"p.{kind}", f"{by}, p.{kind}") if part else ("''", by)
        sql = f"SELECT {by}, {name}, {sums_of(part)} FROM {source} WHERE {when} GROUP BY {grouped}"
        for at, nobody_is, below_is, agent, status, of, *counts in place.read(sql, values):
            made[int(at)].add(Cell(part, int(nobody_is), int(below_is), agent, status, of), counts)
    sql = f"SELECT {by}, r.duration, r.first_token FROM {{runs}} r WHERE {when} AND {TIMED}"
    for at, nobody_is, below_is, agent, status, *times in place.read(sql, values):
        cell = Cell(0, int(nobody_is), int(below_is), agent, status, "")
        histograms.count(made[int(at)].took[cell], times[0])
        histograms.count(made[int(at)].first_took[cell], times[1])
    return made


def sums_of(part: int, counted: str = "1") -> str:
    """What runs are summed up to: runs, errors and the counts; `counted` is 1 for runs that count."""
    if part == 2:
        zeros = ", ".join("SUM(p.calls)" if name == "tool_calls" else "0" for name in COUNTED)
        return f"COUNT(*), SUM(p.errors), {zeros}"
    counts = ", ".join(f"SUM({'p' if part else 'r'}.{name})" for name in COUNTED)
    failed = "CASE WHEN r.status = 'failed' THEN 1 ELSE 0 END"
    return f"SUM({counted}), SUM({counted} * {failed}), {counts}"


def _write(place: Place, made: dict[int, _Sums], seen: dict[int, int]) -> int:
    """Write the sums of blocks of which no run was written since; returns how many these are."""

    async def work(run: RunStatement) -> int:
        condition, values = one_of("block", sorted(made))
        rows = await run(place.sql(f"SELECT block, changed FROM {{spans}} WHERE {condition}"), values)
        same = sorted(block for block, changed in rows if changed == seen[block])
        if same:
            condition, values = one_of("block", same)
            parts = ", ".join(map(str, range(ALL + 1)))  # by which rows are found
            await run(place.sql(f"DELETE FROM {{sums}} WHERE part IN ({parts}) AND {condition}"), values)
            cells = [row for block in same for row in made[block].rows(block)]
            await place.engine.insert(run, place.tables["sums"], COLUMNS, cells)
            await run(place.sql(f"UPDATE {{spans}} SET summed = 1 WHERE {condition}"), values)
        return len(same)

    return place.change(work)
