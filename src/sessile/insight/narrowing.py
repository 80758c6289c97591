"""By which of several filters a list is best read.

Engines guess which of several filters leaves least, and some go through a million rows before they find that none
matches. So each filter is asked for the rows that it would put first. One that has only a few leads to all that match;
of the others that one is gone through whose rows reach back furthest, for it has the fewest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from .place import Place

FEW = 200
"""How many rows of each filter are looked at."""

SOME = 3_000
"""How many rows are looked up one by one at most, of a filter whose rows are in no order."""


class Lead(NamedTuple):
    """A filter that can lead the way.

    Attributes:
        source: the table where it is asked for its rows, as it stands after FROM.
        key: the column of ids there.
        condition: the filter there.
        order: by what its rows are in order in the index, with the direction; None: in none that is of use, so that it
            leads the way only where it has few rows.
    """

    source: str
    key: str
    condition: str
    order: str | None = None


def narrowed(
    place: Place, leads: Sequence[Lead], values: dict[str, Any], direction: str = "DESC"
) -> tuple[set[int] | None, Lead | None]:
    """Which few ids all that match are among, if there are few; else which of the filters leads best, if any does.

    Args:
        place: the index.
        leads: the filters.
        values: their parameters.
        direction: that of the list.
    """
    few: set[int] | None = None
    rarest: tuple[Any, Lead] | None = None
    alone = len(leads) == 1 and leads[0].order is None and leads[0].key == "r.id"  # its few rows are read by its index
    unordered = leads[0] if alone else None
    for lead, rows in () if alone else zip(leads, _first_rows(place, leads, values, direction), strict=True):
        if len(rows) <= FEW:
            ids = {key for key, _ in rows}
            few = ids if few is None else few & ids
            if not few:
                return few, None
        elif lead.order is None:
            unordered = unordered or lead
        else:
            back = min(moment for _, moment in rows) if direction == "DESC" else -max(moment for _, moment in rows)
            if rarest is None or back < rarest[0]:
                rarest = back, lead
    if few is None and unordered is not None:
        sql = f"SELECT {unordered.key} FROM {unordered.source} WHERE {unordered.condition} LIMIT {SOME + 1}"
        counted = place.read(f"SELECT COUNT(*) FROM ({sql}) counted", values)
        if counted[0][0] <= SOME:
            return (None, unordered) if counted[0][0] else (set(), None)
    return few, None if rarest is None else rarest[1]


def _first_rows(
    place: Place, leads: Sequence[Lead], values: dict[str, Any], direction: str
) -> list[list[tuple[int, Any]]]:
    """The rows that each filter would put first, their ids and places; all with one question to the database."""
    if not leads:
        return []
    asked = [
        f"SELECT {lead.key} AS id, {lead.order or 0} AS place FROM {lead.source} WHERE {lead.condition}"
        f"{'' if lead.order is None else f' ORDER BY {lead.order} {direction}'} LIMIT {FEW + 1}"
        for lead in leads
    ]
    parts = [
        f"SELECT {number} AS lead, p{number}.id, p{number}.place FROM ({one}) p{number}"
        for number, one in enumerate(asked)
    ]
    found: dict[int, list[tuple[int, Any]]] = {number: [] for number in range(len(leads))}
    rows: Sequence[tuple[int, int, Any]] = place.read(" UNION ALL ".join(parts), values)
    for number, key, moment in rows:
        found[number].append((key, moment))
    return list(found.values())
