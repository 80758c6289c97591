"""Which heads a list shows, and which commits a page: the meaning of `ListQuery` and `Span` in plain Python.

For drivers whose engine cannot filter.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from itertools import islice, takewhile
from typing import Any, cast

from ..errors import StorageError
from ..records import ANY_USER
from .rows import LOADED_BYTES, CommitRow, HeadRow, Json, Listing, ListQuery, Span
from .states import without_state


def place_of(head: HeadRow, query: ListQuery) -> tuple[int, str]:
    """Where a head stands in the order of a query; lists go from the greatest place to the least, or `ascending`."""
    return (head.created_at if query.order == "created" else head.updated_at, head.session_id)


def follows(head: HeadRow, query: ListQuery) -> bool:
    """Whether a head stands behind the place where the page of a query begins."""
    if query.after is None:
        return True
    place = place_of(head, query)
    return place > query.after if query.ascending else place < query.after


def listing(rows: list[HeadRow], query: ListQuery, unreadable: Mapping[str, StorageError] | None = None) -> Listing:
    """A page of readable rows in their order; there may be more behind it if it is full."""
    rows = [as_asked(row, query) for row in rows]
    return Listing(rows, unreadable or {}, place_of(rows[-1], query) if 0 < len(rows) >= query.limit else None)


def as_asked(head: HeadRow, query: ListQuery) -> HeadRow:
    """The head, without its state unless the query asks for states."""
    return head if query.with_state else head._replace(body=without_state(head.body))


def bytes_of(text: Any) -> int:
    """How many bytes a text has in UTF-8; where somebody has stored bytes in its place, how many these are.

    None for anything else: whoever makes a row of it refuses it.
    """
    if isinstance(text, str) and not text.isascii():
        return len(text.encode("utf-8", "surrogatepass"))
    return len(text) if isinstance(text, (str, bytes)) else 0


def page_of(rows: Iterable[CommitRow], span: Span) -> list[CommitRow]:
    """The commits of a span, in its direction, as far as one page of it goes."""
    page: list[CommitRow] = []
    left = span.max_bytes
    for row in islice(rows, span.limit):
        page.append(row)
        if left is not None:
            left -= bytes_of(row.body)
            if left <= 0:
                break
    return page


def newest_of(rows: Iterable[CommitRow], newest: int) -> list[CommitRow]:
    """Of rows that come newest first those that a `load` brings, the oldest of them first."""
    return page_of(rows, Span(limit=newest, max_bytes=LOADED_BYTES))[::-1]


def with_bodies(rows: Iterable[CommitRow]) -> list[CommitRow]:
    """Of rows that come newest first those before the first whose body was left away, the oldest of them first."""
    return list(takewhile(lambda row: cast("str | None", row.body) is not None, rows))[::-1]


def matches(head: HeadRow, query: ListQuery) -> bool:
    """Whether a head is what a query asks for, `after` and `limit` aside."""
    moment = place_of(head, query)[0]
    return (
        (query.kind is None or head.kind == query.kind)
        and (query.agent is None or head.agent == query.agent)
        and (query.user_id is ANY_USER or head.user_id == query.user_id)
        and (query.name_prefix is None or (head.name or "").startswith(query.name_prefix))
        and (query.status is None or head.status == query.status)
        and (query.since is None or moment >= query.since)
        and (query.until is None or moment < query.until)
        and (query.now is None or head.expires_at is None or head.expires_at > query.now)
        and (query.expired_before is None or _expired(head, query.expired_before))
        and (query.hidden is None or head.hidden == query.hidden)
        and _metadata_matches(head.metadata, query.metadata, query.metadata_keys)
    )


def _expired(head: HeadRow, moment: int) -> bool:
    return head.expires_at is not None and head.expires_at <= moment


def filter_tokens(metadata: str) -> list[str]:
    """The tokens of all filters that this metadata matches, for engines that look for tokens."""
    if metadata == "{}":
        return []
    values: dict[str, Any] = json.loads(metadata)
    tokens = [filter_token(key) for key in values]
    return tokens + [filter_token(key, value) for key, value in values.items() if not isinstance(value, (dict, list))]


def filter_token(*parts: Json) -> str:
    """A hash of a key, or of a key and a scalar: `true` is not 1, but 1 is 1.0."""
    import hashlib  # loads OpenSSL, which most databases do not need for this

    plain = [int(part) if isinstance(part, float) and part.is_integer() else part for part in parts]
    return hashlib.sha256(json.dumps(plain).encode()).hexdigest()[:32]


def _metadata_matches(text: str, wanted: Mapping[str, Json], keys: tuple[str, ...]) -> bool:
    """Whether it has these; what is damaged may have them, so that the list names the session."""
    if not wanted and not keys:
        return True
    try:
        metadata: Any = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return True
    return not isinstance(metadata, dict) or _has(cast("dict[str, Any]", metadata), wanted, keys)


def _has(metadata: dict[str, Any], wanted: Mapping[str, Json], keys: tuple[str, ...]) -> bool:
    return all(key in metadata for key in keys) and all(
        key in metadata and _same_scalar(metadata[key], value) for key, value in wanted.items()
    )


def _same_scalar(a: Any, b: Json) -> bool:
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    return type(a) in (str, int, float, type(None)) and a == b
