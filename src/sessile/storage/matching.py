"""Which heads a list shows: the meaning of `ListQuery` in plain Python, for drivers whose engine cannot filter."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .driver import HeadRow, Json, ListQuery


def place_of(head: HeadRow, query: ListQuery) -> tuple[int, str]:
    """Where a head stands in the order of a query; lists go from the greatest place to the least."""
    return (head.created_at if query.order == "created" else head.updated_at, head.session_id)


def matches(head: HeadRow, query: ListQuery) -> bool:
    """Whether a head is what a query asks for, `after` and `limit` aside."""
    moment = place_of(head, query)[0]
    return (
        (query.kind is None or head.kind == query.kind)
        and (query.owner is None or head.owner == query.owner)
        and (query.user_id is None or head.user_id == query.user_id)
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


def _metadata_matches(text: str, wanted: Mapping[str, Json], keys: tuple[str, ...]) -> bool:
    if not wanted and not keys:
        return True
    metadata: dict[str, Any] = json.loads(text)
    return all(key in metadata for key in keys) and all(
        key in metadata and _same_scalar(metadata[key], value) for key, value in wanted.items()
    )


def _same_scalar(a: Any, b: Json) -> bool:
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    return type(a) in (str, int, float, type(None)) and a == b
