"""What lists filter by, as SQL. Only filters on metadata differ between databases."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

from ...records import ANY_USER
from ...storage.rows import Json, ListQuery

Parameters = dict[str, Any]


class MetadataFilters(ABC):
    """How a database compares a key of the metadata. Parameters are written `:name`, with names of one's own.

    `number` tells the filters of one query apart.
    """

    @abstractmethod
    def has_key(self, key: str, number: int) -> tuple[str, Parameters]:
        """The condition that the metadata has the key, whatever its value."""

    @abstractmethod
    def has_value(self, key: str, value: Json, number: int) -> tuple[str, Parameters]:
        """The condition that the key has exactly this scalar value: `true` is not 1, and "1" is not 1."""


def conditions(query: ListQuery, metadata: MetadataFilters) -> tuple[str, Parameters]:
    """The text behind WHERE for a query, page and limit aside, and its parameters."""
    parts = [*_columns(query), *_metadata(query, metadata)]
    parameters: Parameters = {}
    for _, values in parts:
        parameters |= values
    return " AND ".join(text for text, _ in parts) or "1 = 1", parameters


def _columns(query: ListQuery) -> Iterator[tuple[str, Parameters]]:
    moment = time_column(query)
    for column in ("kind", "agent", "status"):
        if (value := getattr(query, column)) is not None:
            yield f"{column} = :{column}", {column: value}
    if query.user_id is None:
        yield "user_id IS NULL", {}
    elif query.user_id is not ANY_USER:
        yield "user_id = :user_id", {"user_id": query.user_id}
    if query.name_prefix is not None:
        prefix = {"prefix_length": len(query.name_prefix), "prefix": query.name_prefix}
        yield "substr(name, 1, :prefix_length) = :prefix", prefix
    if query.since is not None:
        yield f"{moment} >= :since", {"since": query.since}
    if query.until is not None:
        yield f"{moment} < :until", {"until": query.until}
    if query.now is not None:
        yield "(expires_at IS NULL OR expires_at > :now)", {"now": query.now}
    if query.expired_before is not None:
        yield "expires_at <= :expired_before", {"expired_before": query.expired_before}
    if query.hidden is not None:
        yield "hidden" if query.hidden else "NOT hidden", {}


def _metadata(query: ListQuery, metadata: MetadataFilters) -> Iterator[tuple[str, Parameters]]:
    for number, key in enumerate(query.metadata_keys):
        yield metadata.has_key(key, number)
    for number, (key, value) in enumerate(query.metadata.items()):
        yield metadata.has_value(key, value, number)


def page(query: ListQuery, metadata: MetadataFilters) -> tuple[str, Parameters]:
    """The text from WHERE on for one page of a list, in its order, and its parameters."""
    moment = time_column(query)
    where, parameters = conditions(query, metadata)
    parameters["limit"] = query.limit
    before, direction = (">", "ASC") if query.ascending else ("<", "DESC")
    if query.after is not None:
        # Not a comparison of rows, for which MySQL uses no index.
        where += (
            f" AND {moment} {before}= :after_time AND ({moment} {before} :after_time OR session_id {before} :after_id)"
        )
        parameters["after_time"], parameters["after_id"] = query.after
    return f"WHERE {where} ORDER BY {moment} {direction}, session_id {direction} LIMIT :limit", parameters


def time_column(query: ListQuery) -> str:
    """The column that a query orders and filters by."""
    return "created_at" if query.order == "created" else "updated_at"
