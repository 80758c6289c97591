"""Records as the JSON that people are shown: times as ISO 8601, durations in seconds, costs as text of dollars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, cast

from .records import Entry, Handoff, JsonObject, Message, Rating, Run, Session, Usage
from .storage.states import UnreadState

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_SEEN_AS = {
    "created_us": "created_at",
    "updated_us": "updated_at",
    "expires_us": "expires_at",
    "started_us": "started_at",
    "ended_us": "ended_at",
    "first_token_us": "first_token",
    "ttl_us": "ttl",
    "time_us": "time",
    "written_us": "written_at",
    "granted_us": "granted_at",
}
"""The properties that users see in place of the fields that are stored."""

_AS_THEY_ARE = frozenset({str, int, float, bool, type(None)})


def session_json(session: Session) -> JsonObject:
    """A session, without the runs that were loaded with it, what only the log needs, and a state that was not read."""
    unread = ("state",) if isinstance(session.state, UnreadState) else ()
    shown = record_json(session, without=("runs", "open_runs", "scope_ids", "handoffs", *unread))
    shown["open_runs"] = {
        str(number): {"run_id": run.run_id, "status": run.status, "epoch": run.epoch}
        for number, run in session.open_runs.items()
    }
    shown["lead"] = session.lead
    return shown


def record_json(record: DataclassInstance, *, without: tuple[str, ...] = ()) -> JsonObject:
    """A record, with those that it holds; what later versions have added is there if there is any."""
    seen: JsonObject = {}
    for name in _names(type(record), without):
        value = getattr(record, name)
        seen[name] = value if value.__class__ in _AS_THEY_ARE else _plain(value)
    if not seen.get("more"):
        seen.pop("more", None)
    return seen


@cache
def _names(record: type[DataclassInstance], without: tuple[str, ...]) -> tuple[str, ...]:
    """What is shown of such records: lists show many."""
    return tuple(_SEEN_AS.get(field.name, field.name) for field in fields(record) if field.name not in without)


def usage_json(usage: Usage) -> JsonObject:
    """Counts, and the cost in dollars, null where it is unknown."""
    counts = {name: count for name, count in usage.to_json().items() if name != "cost"}
    return {**counts, "cost": _plain(usage.cost)}


class UsageGroup(Protocol):
    """What was used in one group: `sessile.insight.UsageRow`."""

    @property
    def group(self) -> tuple[datetime | str | None, ...]:
        """What it is about, in the order of the names of its parts."""
        ...

    runs: int
    errors: int
    usage: Usage
    p50: timedelta | None
    p95: timedelta | None
    p99: timedelta | None
    first_token_p50: timedelta | None
    first_token_p95: timedelta | None
    first_token_p99: timedelta | None


PERCENTILES = ("p50", "p95", "p99", "first_token_p50", "first_token_p95", "first_token_p99")
"""How long runs took, and how long it took until the first part of an answer came."""


def usage_row_json(groups: Sequence[str], row: UsageGroup) -> JsonObject:
    """What was used in one group, with the parts of the group by their names.

    `known_cost` is what the requests cost whose price is known, also where `cost`, the whole, is not.
    """
    named = {name: _plain_moment(value) for name, value in zip(groups, row.group, strict=True)}
    seconds = {name: _plain(getattr(row, name)) for name in PERCENTILES}
    known = _plain(Decimal(row.usage.nano_dollars).scaleb(-9).normalize())
    return {
        **named,
        "runs": row.runs,
        "errors": row.errors,
        "usage": usage_json(row.usage),
        "known_cost": known,
        **seconds,
    }


def _plain_moment(value: datetime | str | None) -> str | None:
    return value.isoformat() if isinstance(value, datetime) else value


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat(timespec="microseconds")
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, Usage):
        return usage_json(value)
    if isinstance(value, (Run, Message, Entry, Rating, Handoff)):
        return record_json(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in cast("dict[str, Any]", value).items()}
    return [_plain(item) for item in cast("list[Any]", value)] if isinstance(value, list) else value
