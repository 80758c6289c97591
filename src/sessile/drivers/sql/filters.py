"""What lists filter by, as SQL. Only filters on metadata differ between databases."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from ...storage.driver import Json, ListQuery

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
    moment = time_column(query)
    parameters: Parameters = {}
    where: list[str] = []

    def add(condition: str, **values: Any) -> None:
        where.append(condition)
        parameters.update(values)

    for column in ("kind", "owner", "user_id", "status"):
        value = getattr(query, column)
        if value is not None:
            add(f"{column} = :{column}", **{column: value})
    if query.name_prefix is not None:
        add("substr(name, 1, :prefix_length) = :prefix", prefix_length=len(query.name_prefix), prefix=query.name_prefix)
    if query.since is not None:
        add(f"{moment} >= :since", since=query.since)
    if query.until is not None:
        add(f"{moment} < :until", until=query.until)
    if query.now is not None:
        add("(expires_at IS NULL OR expires_at > :now)", now=query.now)
    if query.expired_before is not None:
        add("expires_at <= :expired_before", expired_before=query.expired_before)
    if query.hidden is not None:
        add("hidden" if query.hidden else "NOT hidden")
    for number, key in enumerate(query.metadata_keys):
        condition, values = metadata.has_key(key, number)
        add(condition, **values)
    for number, (key, value) in enumerate(query.metadata.items()):
        condition, values = metadata.has_value(key, value, number)
        add(condition, **values)
    return " AND ".join(where) or "1 = 1", parameters


def page(query: ListQuery, metadata: MetadataFilters) -> tuple[str, Parameters]:
    """The text from WHERE on for one page of a list, newest first, and its parameters."""
    moment = time_column(query)
    where, parameters = conditions(query, metadata)
    parameters["limit"] = query.limit
    if query.after is not None:
        # Not a comparison of rows, for which MySQL uses no index.
        where += f" AND {moment} <= :after_time AND ({moment} < :after_time OR session_id < :after_id)"
        parameters["after_time"], parameters["after_id"] = query.after
    return f"WHERE {where} ORDER BY {moment} DESC, session_id DESC LIMIT :limit", parameters


def time_column(query: ListQuery) -> str:
    """The column that a query orders and filters by."""
    return "created_at" if query.order == "created" else "updated_at"
