"""Filters of lists of sessions: what a caller passes, checked once and put into the driver's query."""

from __future__ import annotations

import binascii
import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, TypedDict, cast

from ..errors import CorruptDataError, InvalidInputError
from ..later import Later
from ..records import Status, UserId
from .checks import LARGEST, STATUSES, check_choice, check_count, moment_micros
from .ids import check_id, check_optional_id
from .rows import Json, ListQuery

if TYPE_CHECKING:
    import base64
else:
    base64 = Later("base64")

MAX_PAGE = 1000
"""The largest page of a list."""

Order = Literal["updated", "created"]


class WhichSessions(TypedDict, total=False):
    """What sessions are chosen by, beside whose they are; see `Storage.sessions`."""

    kind: str | None
    agent: str | None
    name_prefix: str | None
    status: Status | None
    since: datetime | None
    until: datetime | None
    metadata: Mapping[str, Json] | None
    metadata_keys: Collection[str]


class SessionFilters(WhichSessions, total=False):
    """Which sessions a list has, and in which order."""

    order: Order


def page_query(
    user_id: UserId, limit: int, cursor: str | None, filters: SessionFilters, *, with_state: bool = False
) -> ListQuery:
    """The query of one page; it asks for one session more than the page is to have, which tells whether that is all."""
    check_count(limit, "limit", least=1, most=MAX_PAGE)
    query = query_of(user_id, **filters)
    after = None if cursor is None else place_of_cursor(cursor, query.order)
    return replace(query, after=after, limit=limit + 1, with_state=with_state)


def query_of(
    user_id: UserId,
    *,
    kind: str | None = None,
    agent: str | None = None,
    name_prefix: str | None = None,
    status: Status | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    metadata: Mapping[str, Json] | None = None,
    metadata_keys: Collection[str] = (),
    order: Order = "updated",
) -> ListQuery:
    """The query that these filters are. Raises `InvalidInputError`."""
    for value, what in ((kind, "kind"), (agent, "agent"), (name_prefix, "name_prefix")):
        check_optional_id(value, what)
    if status is not None:
        check_choice(status, "status", STATUSES)
    check_metadata(metadata, metadata_keys)
    check_choice(order, "order", ("updated", "created"))
    return ListQuery(
        kind=kind,
        agent=agent,
        user_id=user_id,
        name_prefix=name_prefix,
        status=status,
        since=moment_micros(since, "since"),
        until=moment_micros(until, "until"),
        metadata=dict(metadata or {}),
        metadata_keys=tuple(metadata_keys),
        order=order,
    )


def check_metadata(metadata: Any, keys: Any) -> None:
    """Raises `InvalidInputError` where a filter on metadata is none."""
    if not isinstance(metadata or {}, Mapping) or not isinstance(keys, (list, tuple, set, frozenset)):
        raise InvalidInputError("metadata must be a dict, and metadata_keys a list of keys.")
    for key, value in cast("Mapping[Any, Any]", metadata or {}).items():
        _check_value(key, value)
    for key in cast("Collection[Any]", keys):
        check_id(key, "a key of metadata_keys")


def _check_value(key: Any, value: Any) -> None:
    check_id(key, "a key of metadata")
    if isinstance(value, str) and value:
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidInputError("A metadata filter cannot hold a lone surrogate.") from None
        if "\0" in value:
            raise InvalidInputError("A metadata filter cannot hold NUL.")
    elif value is not None and not isinstance(value, (str, bool, int, float)):
        raise InvalidInputError(f"metadata filters compare scalar values, not {type(value).__name__}.")
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise InvalidInputError("A metadata filter cannot hold an integer of more than 64 bits.")


def cursor_of(place: tuple[int, str] | None, order: str) -> str | None:
    """The cursor of the page that begins behind this place, of a list in this order.

    Raises `CorruptDataError` where the row that stands there has no id at all: nothing would come behind it.
    """
    if place is None:
        return None
    try:
        return base64.urlsafe_b64encode(json.dumps([*place, order]).encode()).decode()
    except TypeError:
        raise CorruptDataError(f"A list reaches a session whose id or time is {place!r:.200}.") from None


def place_of_cursor(cursor: str, order: str) -> tuple[int, str]:
    """The place that a cursor names; `InvalidInputError` if it is none, or of a list in another order."""
    try:
        time, session_id, of = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        check_count(time, "the time", least=-LARGEST)
        check_id(session_id, "session_id")
    except (ValueError, TypeError, AttributeError, RecursionError, binascii.Error):
        raise InvalidInputError("This is not a cursor of a list.", hint="Pass next_cursor as it came.") from None
    if of != order:
        raise InvalidInputError(
            f"The cursor is of a list by {of!r}, not by {order!r}.",
            hint="Pass it with the arguments that it came from.",
        )
    return time, session_id
