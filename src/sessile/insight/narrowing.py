"""By which of several filters a list is best read.

Engines guess which of several filters leaves least, and some go through a million rows before they find that none
matches. So each filter is asked how far back the first of its rows reach, all with one question. One that has only a
few leads to all that match; of the others that one is gone through whose rows reach back furthest, for it has the
fewest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from math import isqrt
from typing import Any, NamedTuple, TypeVar

from .place import Place

T = TypeVar("T")

SOME = 200
"""How many rows of each filter are looked at."""

MOST = 5_000
"""How many rows are looked up one by one at most, of a filter whose rows are in no order."""

REMEMBERED = 1_000
"""Of how many lists it is remembered how they are best read."""

SECONDS = 60.0
"""For how long."""


class Lead(NamedTuple):
    """A filter that can lead the way.

    Attributes:
        source: the table where it is asked for its rows, as it stands after FROM.
        key: the column of ids there.
        conditions: the filter there.
        order: the column that its rows come in the order of; empty: they come in none.
        in_order: whether that is the order of the list; else it leads the way only where it has few rows.
        more: what else is asked for, which its index does not answer in few steps.
    """

    source: str
    key: str
    conditions: list[str]
    order: str
    in_order: bool = True
    more: tuple[str, ...] = ()


def best(
    place: Place, leads: Sequence[Lead], values: dict[str, Any], direction: str = "DESC", limit: int = 20
) -> int | None:
    """The number of the filter that leads best; None if none does.

    Args:
        place: the index.
        leads: the filters.
        values: their parameters.
        direction: that of the list.
        limit: how many are wanted.
    """
    others = any(not lead.in_order for lead in leads)
    if not others and len(leads) < 2:
        return 0 if leads else None
    asked = (direction, limit, *(_from(lead, direction) for lead in leads), *_named(values))
    return remembered(place, asked, lambda: _asked(place, leads, values, direction, few(place, limit) if others else 0))


def remembered(place: Place, asked: tuple[Any, ...], ask: Callable[[], T]) -> T:
    """How a list is best read: what was found within the last minute, else what is found now. It changes slowly."""
    found, until = place.leads.get(asked, (None, 0.0))
    if until < time.monotonic():
        found = ask()
        if len(place.leads) >= REMEMBERED:
            place.leads.clear()
        place.leads[asked] = found, time.monotonic() + SECONDS
    return found


def _asked(place: Place, leads: Sequence[Lead], values: dict[str, Any], direction: str, most: int) -> int | None:
    # The numbers are parameters: PostgreSQL, which cannot be told an index, then plans for the values that are given.
    probes = [f"({_from(lead, direction)} LIMIT 1 OFFSET :{'some' if lead.in_order else 'few'})" for lead in leads]
    ends = answers(place, probes, {**values, "some": SOME, "few": most})
    ordered = [number for number, lead in enumerate(leads) if lead.in_order]
    others = [number for number, lead in enumerate(leads) if not lead.in_order]
    for number in (*ordered, *others):
        if ends[number] is None:  # it has no more
            return number
    return (min if direction == "DESC" else max)(ordered, key=lambda number: ends[number], default=None)


def _named(values: dict[str, Any]) -> list[Any]:
    """What is asked for, but for the place of the page: those that follow each other are read by the same filter."""
    return [one for name, value in values.items() if name != "after" for one in (name, value)]


def _from(lead: Lead, direction: str) -> str:
    which = " AND ".join(lead.conditions) or "1 = 1"
    order = f" ORDER BY {lead.order}{f' {direction}' if lead.in_order else ''}" if lead.order else ""
    return f"SELECT {lead.key} FROM {lead.source} WHERE {which}{order}"


def answers(place: Place, probes: Sequence[str], values: dict[str, Any]) -> list[Any]:
    """What some questions with one answer each bring: one statement, which also tells how many sessions there are."""
    *found, place.newest = place.read(f"SELECT {', '.join(probes)}, (SELECT MAX(id) FROM {{sessions}})", values)[0]
    return found


def few(place: Place, limit: int, most: int = MOST) -> int:
    """How many rows in no order are as quickly looked up and sorted as those in order among which as many match.

    Of `n` runs, a filter that has `m` is met once in `n / m`; so `limit * n / m` are gone through for a page. As `n`
    the number of sessions will do.
    """
    if place.newest is None:
        answers(place, ["1"], {})
    return min(most, max(SOME, isqrt(limit * (place.newest or 0))))
