"""Adding up usage: of times that are summed up from their sums, of all others from their runs.

Engines add up what lies between two moments, so that none of them needs to know time zones: which moments these are is
worked out here.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from itertools import chain
from operator import add
from typing import Any, Literal, NamedTuple

from ..records import ANY_USER, datetime_of, micros_of
from ..storage.checks import moment_micros
from . import histograms
from .facts import COUNTED
from .filters import RunFilters, Where, Whose, where_of
from .histograms import Histogram
from .lots import batches
from .place import Place
from .spans import DAYS, HOUR, HOURS, first_id, hours_of, larger, last_id
from .sums import ALL, TIMED, sums_of

Group = Literal["hour", "day", "week", "month", "agent", "model", "user", "session", "tool", "status"]
"""What usage is told by."""

TIMES: tuple[Group, ...] = ("hour", "day", "week", "month")
GROUPS: tuple[Group, ...] = ("hour", "day", "week", "month", "agent", "model", "user", "session", "tool", "status")

QUARTER = 15 * 60 * 1_000_000
"""Microseconds of the steps in which time is summed up: zones differ by multiples of it."""

AT_ONCE = 200
"""How many times one statement asks for."""

FEW = 8
"""How many ranges of sums are asked for one by one."""

BLOCKS = 2000
"""How many blocks of sums one statement asks for."""

SUMMED = frozenset({"since", "until", "agent", "status", "members"})
"""Filters that sums know."""

Key = tuple[int | str | None, ...]
"""What a row is about; of a time the microsecond at which it begins."""


def begin_of(group: Group, moment: int, zone: tzinfo) -> datetime:
    """The beginning of the hour, day, week or month in which a moment lies."""
    local = datetime_of(moment).astimezone(zone)
    if group == "hour":
        return local.replace(minute=0, second=0, microsecond=0)
    day = datetime(local.year, local.month, local.day, tzinfo=zone)
    if group == "week":
        day -= timedelta(days=day.weekday())
    return day.replace(day=1) if group == "month" else day


@dataclass(slots=True)
class Sum:
    """What was added up."""

    runs: int = 0
    errors: int = 0
    counts: list[int] = field(default_factory=lambda: [0] * len(COUNTED))
    took: Histogram = field(default_factory=dict[int, int])
    first_took: Histogram = field(default_factory=dict[int, int])

    @classmethod
    def of(cls, values: Sequence[Any]) -> Sum:
        """A row of sums; where nothing was added up, and of counts that are not kept, there is None."""
        runs, errors, *counts = [int(value) if value else 0 for value in values]
        return cls(runs, errors, counts)

    def add(self, other: Sum) -> None:
        """Add another one."""
        self.runs += other.runs
        self.errors += other.errors
        self.counts = list(map(add, self.counts, other.counts))
        histograms.add(self.took, other.took)
        histograms.add(self.first_took, other.first_took)


class Window(NamedTuple):
    """A part of the time that is asked for, and of which group it is: blocks from sums, or moments."""

    period: int
    start: int
    end: int


def is_in_sums(groups: Sequence[Group], whose: Whose, filters: RunFilters) -> bool:
    """Whether sums tell what is asked for: those of users and sessions are not kept."""
    given = {name for name, value in filters.items() if value is not None}
    everybody = (whose.user_id is ANY_USER or whose.user_id is None) and not whose.space
    return everybody and given <= SUMMED and not {"user", "session"} & set(groups)


class Adding:
    """One question."""

    def __init__(
        self, place: Place, groups: tuple[Group, ...], zone: tzinfo, whose: Whose, filters: RunFilters
    ) -> None:
        self._place, self._groups, self._zone, self._whose = place, groups, zone, whose
        self._where = where_of(whose, {**filters, "members": True})
        # Runs below others are counted where it is told whose they are; else they are a part of the run above them.
        given = {name for name, value in filters.items() if value is not None}
        self._by_agent = "agent" in {*groups, *given}
        self._whole = 0 if {"agent", "status"} & {*groups, *given} else ALL
        self._led = self._leading()
        self._time: Group | None = next((one for one in TIMES if one in groups), None)
        self._summed: list[Window] | None = None
        self._single: list[Window] = []
        if is_in_sums(groups, whose, filters):
            self._look_for_sums(filters)

    # ------------------------------------------------------------ from where

    def _look_for_sums(self, filters: RunFilters) -> None:
        """Find out which times are summed up; their filters on times are then needless."""
        since, until = moment_micros(filters.get("since"), "since"), moment_micros(filters.get("until"), "until")
        start = 0 if since is None else since
        end = DAYS * HOUR if until is None else until
        first, last = start // HOUR, -(-end // HOUR)
        known = self._spans(larger(first), larger(last) + 1)
        fitting = ((block, self._fits(block, start, end)) for block, summed in known.items() if summed)
        whole = {block: period for block, period in fitting if period is not None}
        parts = [hours_of(block) for block in sorted(known) if block not in whole]
        ranges = (
            [(max(first, one.start), min(last, one.stop)) for one in parts] if len(parts) <= FEW else [(first, last)]
        )
        hours: defaultdict[int, list[tuple[int, bool]]] = defaultdict(list)
        for low, high in ranges:
            for hour, summed in sorted(self._spans(low, high).items()):
                hours[larger(hour)].append((hour, summed))
        self._summed = []
        for block in sorted(known):
            self._cover(block, hours[block], whole, start, end)
        timeless: RunFilters = {**filters, "members": True, "since": None, "until": None}
        self._where = where_of(self._whose, timeless)
        self._led = self._leading()

    def _spans(self, first: int, last: int) -> dict[int, bool]:
        """Of some blocks, those that have runs, and whether they are summed up."""
        sql = "SELECT block, summed FROM {spans} WHERE block >= :first AND block < :last"
        return {block: bool(summed) for block, summed in self._place.read(sql, {"first": first, "last": last})}

    def _leading(self) -> tuple[str, str]:
        """From where runs are read, and the condition: from a table beside them, if one is asked for."""
        beside = next((one for one in self._where.indexed if one.beside in ("tools", "models")), None)
        if beside is None:
            return "{runs} r", self._where.text
        conditions = [*beside.keys, *beside.more, *(one for one in self._where.conditions if one not in beside.stands)]
        return f"{{{beside.beside}}} x {self._place.engine.join} {{runs}} r ON r.id = x.run", " AND ".join(conditions)

    def _fits(self, block: int, start: int, end: int) -> int | None:
        """The group in which a larger block lies as a whole, if it does."""
        return self._period(hours_of(block).start * HOUR, HOURS * HOUR, start, end)

    def _cover(self, block: int, hours: list[tuple[int, bool]], whole: dict[int, int], start: int, end: int) -> None:
        """Cover the hours of a larger block by its sums, by theirs, or by parts of them."""
        assert self._summed is not None
        if (period := whole.get(block)) is not None:
            _append(self._summed, Window(period, block, block + 1))
            return
        for hour, summed in hours:
            begin = hour * HOUR
            period = self._period(begin, HOUR, start, end)
            if summed and period is not None:
                _append(self._summed, Window(period, hour, hour + 1))
                continue
            for quarter in range(begin, begin + HOUR, QUARTER):
                low, high = max(quarter, start), min(quarter + QUARTER, end)
                if low < high:
                    _append(self._single, Window(self._begin(low), low, high))

    def _begin(self, moment: int) -> int:
        return 0 if self._time is None else micros_of(begin_of(self._time, moment, self._zone))

    def _period(self, begin: int, length: int, start: int, end: int) -> int | None:
        """The group in which a time lies as a whole, if it does."""
        if begin < start or begin + length > end:
            return None
        period = self._begin(begin)
        return period if self._time is None or self._begin(begin + length - 1) == period else None

    # ------------------------------------------------------------ adding up

    def table(self) -> tuple[dict[Key, Sum], Sum]:
        """The sum of each group, and of all of it together.

        The sum of the rows by model or tool is not all of it: a run stands in several of them.
        """
        part = next((one for one in self._groups if one in ("model", "tool")), None)
        made = self._sums(self._groups, part)
        if part is not None:
            whole = self._sums((), None)
            self._add_times((), whole)
            return made, whole.get((), Sum())
        self._add_times(self._groups, made)
        total = Sum()
        for row in made.values():
            total.add(row)
        return made, total

    def _sums(self, groups: tuple[Group, ...], part: str | None) -> dict[Key, Sum]:
        made: dict[Key, Sum] = {}
        number = {None: 0, "model": 1, "tool": 2}[part]
        all_count = self._by_agent or part == "tool"
        single = sums_of(number, "1" if all_count else "CASE WHEN r.parent_run_id IS NULL THEN 1 ELSE 0 END")
        times = "" if all_count else "(1 - c.below) * "
        counts = ", ".join(f"SUM(c.{name})" for name in COUNTED)
        summed = f"SUM({times}c.runs), SUM({times}c.errors), {counts}"
        found = chain(
            self._single_rows(groups, part, single, grouped=True),
            self._summed_rows(groups, number or self._whole, summed, "1 = 1"),
        )
        for key, values in found:
            if any(values):  # else there was nothing to add up
                found_sum = Sum.of(values)
                if (known := made.setdefault(key, found_sum)) is not found_sum:
                    known.add(found_sum)
        return made

    def _add_times(self, groups: tuple[Group, ...], rows: dict[Key, Sum]) -> None:
        counted = "" if self._by_agent else " AND r.parent_run_id IS NULL"
        times = "r.duration, r.first_token"
        for key, (duration, first) in self._single_rows(groups, None, times, f" AND {TIMED}{counted}"):
            if (row := rows.get(key)) is not None:  # else it was written a moment ago
                histograms.count(row.took, duration)
                histograms.count(row.first_took, first)
        which = "1 = 1" if self._by_agent else "c.below = 0"
        kept: defaultdict[Key, list[tuple[str, str]]] = defaultdict(list)
        for key, (took, first) in self._summed_rows(groups, self._whole, "c.took, c.first_took", which, grouped=False):
            kept[key].append((took, first))
        for key, some in kept.items():
            if (row := rows.get(key)) is not None:
                histograms.add_kept(row.took, [took for took, _ in some])
                histograms.add_kept(row.first_took, [first for _, first in some])

    # ------------------------------------------------------------ from runs

    def _single_rows(
        self, groups: tuple[Group, ...], part: str | None, selected: str, more: str = "", *, grouped: bool = False
    ) -> Iterator[tuple[Key, Sequence[Any]]]:
        """Rows of what is not summed up, each with its group."""
        source = self._source(groups, part, grouped=grouped)
        if self._summed is None:
            columns = [self._column(one, self._place.engine.steps("r.started_at", QUARTER)) for one in groups]
            sql = _select(columns, selected, source, f"{self._led[1]}{more}", grouped=grouped)
            yield from self._keyed(sql, self._where, groups, lambda step: self._begin(step * QUARTER))
            return
        for some in batches(self._single, AT_ONCE):
            selects: list[str] = []
            for window in some:
                columns = [self._column(one, str(window.period)) for one in groups]
                when = (
                    f"r.id >= {first_id(window.start)} AND r.id < {last_id(window.end)}"
                    f" AND r.started_at >= {window.start} AND r.started_at < {window.end}"
                )
                where = f"{when} AND {self._led[1]}{more}"
                selects.append(_select(columns, selected, source, where, grouped=grouped))
            yield from self._keyed(" UNION ALL ".join(selects), self._where, groups)

    def _source(self, groups: tuple[Group, ...], part: str | None, *, grouped: bool) -> str:
        source = self._led[0]
        if grouped and not self._where.indexed:  # else rows are looked up one by one in the order of the groups' index
            source += self._place.engine.by_id
        if part is not None:
            source += f" JOIN {{{part}s}} p ON p.run = r.id"
        if "session" in groups:
            source += " JOIN {sessions} s ON s.id = r.session"
        return source

    def _column(self, group: Group, time: str) -> str:
        names = {
            "agent": "r.agent",
            "model": "p.model",
            "user": "r.user_id",
            "session": "s.session_id",
            "tool": "p.tool",
            "status": "r.status",
        }
        return time if group in TIMES else names[group]

    # ------------------------------------------------------------ from sums

    def _summed_rows(
        self, groups: tuple[Group, ...], part: int, selected: str, which: str, *, grouped: bool = True
    ) -> Iterator[tuple[Key, Sequence[Any]]]:
        """Rows of what is summed up, each with its group.

        Blocks are made groups of time here: a server would take seconds to plan a sum for each group of a year.
        """
        where = Where([f"c.part = {part}", which])
        for condition in self._where.conditions:
            if condition == "r.user_id IS NULL":
                where.add("c.nobody = 1")
            elif condition.startswith(("r.agent = ", "r.status ")):
                where.add(f"c.{condition.removeprefix('r.')}")
        where.values = self._where.values
        names = {"agent": "c.agent", "model": "c.name", "tool": "c.name", "status": "c.status"}
        columns = [names.get(one, "c.block") for one in groups]
        windows = sorted(self._summed or [], key=lambda one: one.start)
        for blocks in _which_blocks(_ranges(windows)):
            sql = _select(columns, selected, "{sums} c", f"{where.text} AND {blocks}", grouped=grouped)
            yield from self._keyed(sql, where, groups, lambda block: _window_of(windows, block).period)

    def _keyed(
        self, sql: str, where: Where, groups: tuple[Group, ...], begin: Callable[[int], int] | None = None
    ) -> Iterator[tuple[Key, Sequence[Any]]]:
        """Rows with the keys of their groups; `begin` makes of what is read the moment at which a time begins."""
        begins: dict[int, int] = {}
        if not {*TIMES, "session"} & set(groups):
            for row in self._place.read(sql, where.values):
                yield tuple([value or None for value in row[: len(groups)]]), row[len(groups) :]
            return
        for row in self._place.read(sql, where.values):
            key: list[int | str | None] = []
            for group, value in zip(groups, row, strict=False):
                if group not in TIMES:
                    key.append(self._whose.said(value) if group == "session" else value or None)
                    continue
                moment = int(value)
                if begin is not None:
                    if moment not in begins:
                        begins[moment] = begin(moment)
                    moment = begins[moment]
                key.append(moment)
            yield tuple(key), row[len(groups) :]


def _append(windows: list[Window], one: Window) -> None:
    """Add a window, or make the last one longer."""
    if windows and windows[-1].period == one.period and windows[-1].end == one.start:
        windows[-1] = windows[-1]._replace(end=one.end)
    else:
        windows.append(one)


def _ranges(windows: Sequence[Window]) -> list[tuple[int, int]]:
    """What windows that are in order cover, as few ranges."""
    ranges: list[tuple[int, int]] = []
    for one in windows:
        if ranges and ranges[-1][1] == one.start:
            ranges[-1] = (ranges[-1][0], one.end)
        else:
            ranges.append((one.start, one.end))
    return ranges


def _which_blocks(ranges: Sequence[tuple[int, int]]) -> Iterator[str]:
    """Conditions on the blocks of ranges: these, or each block, where they are many, as of days of most zones."""
    if len(ranges) <= FEW:
        for first, end in ranges:
            yield f"c.block >= {first} AND c.block < {end}"
        return
    for some in batches([block for one in ranges for block in range(*one)], BLOCKS):
        yield f"c.block IN ({', '.join(map(str, some))})"


def _window_of(windows: Sequence[Window], block: int) -> Window:
    """The window, of some that are in order, in which a block lies."""
    return windows[bisect_right(windows, block, key=lambda one: one.start) - 1]


def _select(columns: Sequence[str], selected: str, source: str, where: str, *, grouped: bool) -> str:
    sql = f"SELECT {', '.join([*columns, selected])} FROM {source} WHERE {where}"
    named = [one for one in columns if not one.isdigit()]  # a number would stand for a column
    return f"{sql} GROUP BY {', '.join(named)}" if grouped and named else sql
