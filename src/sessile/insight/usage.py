"""What was used: tokens, cost, runs, errors and how long runs took, by time, agent, model and others."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ..errors import InvalidInputError
from ..records import Usage, datetime_of, timedelta_of
from ..storage.checks import check_choice
from . import histograms
from .adding import GROUPS, TIMES, Adding, Group, Key, Sum, is_in_sums
from .facts import paid, used
from .filters import RunFilters, Whose, where_of
from .forms import UsageRow, UsageTable
from .place import Place
from .sums import sum_up

SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


def usage(
    place: Place, now: int, *, by: Group | Sequence[Group], zone: str | tzinfo, whose: Whose, filters: RunFilters
) -> UsageTable:
    """See `Index.usage`."""
    groups: tuple[Group, ...] = (by,) if isinstance(by, str) else tuple(by)
    for one in groups:
        check_choice(one, "by", GROUPS)
    if len(set(groups) & set(TIMES)) > 1 or len(set(groups)) < len(groups) or {"model", "tool"} <= set(groups):
        raise InvalidInputError("Usage is told by each group once, by one length of time, and by model or tool.")
    chosen = zone_of(zone)
    where_of(whose, {**filters, "members": True})  # what is wrong is said before anything is summed up
    if is_in_sums(groups, whose, filters):
        sum_up(place, now)
    sums, total = Adding(place, groups, chosen, whose, filters).table()
    rows = [_row(key, one, chosen) for key, one in sorted(sums.items(), key=_in_order)]
    return UsageTable(groups, rows, _row((), total, chosen), now)


def _in_order(item: tuple[Key, Sum]) -> list[tuple[int, int, str]]:
    return [(0, one, "") if isinstance(one, int) else (0 if one is None else 1, 0, one or "") for one in item[0]]


def _row(key: Key, found: Sum, zone: tzinfo) -> UsageRow:
    usage = Usage(*used(found.counts))
    usage.nano_dollars, usage.unpriced = paid(found.counts)
    shown = tuple([datetime_of(one).astimezone(zone) if isinstance(one, int) else one for one in key])
    row = UsageRow(shown, found.runs, found.errors, usage)
    for prefix, times in (("", found.took), ("first_token_", found.first_took)):
        for name, took in zip(SHARES, histograms.percentiles(times, SHARES.values()), strict=False):
            setattr(row, prefix + name, timedelta_of(took))
    return row


def zone_of(zone: str | tzinfo) -> tzinfo:
    """A time zone by its name."""
    if isinstance(zone, tzinfo):
        return zone
    try:
        return UTC if zone == "UTC" else ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidInputError(f"There is no time zone {zone!r}.", hint='Name one, such as "Europe/Berlin".') from None
