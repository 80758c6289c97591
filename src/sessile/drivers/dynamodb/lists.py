"""Lists: walking down an index whose partitions are merged, and the conditions of the queries."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ...records import ANY_USER
from ...storage.driver import ListQuery
from .items import Item, moment_key, number, plain, text
from .table import Place

PAGE = 100
"""How many heads are read at once, the most that DynamoDB takes, and the most places of an index."""

LEAST_PAGE = 10
"""How many places of an index are read at least."""


def conditions(table: str, place: Place, query: ListQuery) -> dict[str, Any] | None:
    """The request for one partition of an index, its partition (`:partition`) aside; None if nothing can match."""
    lowest = moment_key(query.since or 0)
    highest = "~" if query.until is None else moment_key(query.until)
    if query.after is not None:
        edge = f"{moment_key(query.after[0])}#{query.after[1]}"
        lowest, highest = (max(lowest, edge), highest) if query.ascending else (lowest, min(highest, edge))
    if lowest > highest:
        return None
    filters, names, values = _filters(query) if place.filters else ([], {}, {})
    request: dict[str, Any] = {
        "TableName": table,
        "IndexName": place.name,
        "KeyConditionExpression": "#partition = :partition AND #place BETWEEN :lowest AND :highest",
        "ExpressionAttributeNames": {"#partition": place.attribute, "#place": place.sort_attribute, **names},
        "ExpressionAttributeValues": {":lowest": text(lowest), ":highest": text(highest), **values},
        "ScanIndexForward": query.ascending,
    }
    if filters:
        request["FilterExpression"] = " AND ".join(filters)
    return request


def page_size(query: ListQuery) -> int:
    """How many places of each partition a list reads at once."""
    return min(PAGE, max(LEAST_PAGE, query.limit))


def is_served(place: Place, query: ListQuery) -> bool:
    """Whether the index alone can tell which heads match."""
    by_key = query.agent is None if isinstance(query.user_id, str) else query.user_id is ANY_USER
    return place.filters and by_key and query.name_prefix is None and not query.metadata and not query.metadata_keys


def _filters(query: ListQuery) -> tuple[list[str], dict[str, str], dict[str, Any]]:
    """What the indexes by last change filter by themselves."""
    filters: list[str] = []
    names: dict[str, str] = {}
    values: dict[str, Any] = {}
    for name, wanted in (("kind", query.kind), ("status", query.status)):
        if wanted is not None:
            filters.append(f"#{name} = :{name}")
            names[f"#{name}"], values[f":{name}"] = name, text(wanted)
    if query.hidden is not None:
        filters.append("#hidden = :hidden")
        names["#hidden"], values[":hidden"] = "hidden", {"BOOL": query.hidden}
    if query.now is not None:
        filters.append("(attribute_not_exists(expires_at) OR expires_at > :now)")
        values[":now"] = number(query.now)
    if query.expired_before is not None:
        filters.append("expires_at <= :expired_before")
        values[":expired_before"] = number(query.expired_before)
    return filters, names, values


ReadPage = Callable[[str, Item | None], Awaitable[tuple[list[Item], Item | None]]]
"""Reads a page of a partition, after a place (None: from the top); also returns where it ended, None at the end."""


Gather = Callable[[Iterable[Callable[[], Coroutine[Any, Any, None]]]], Awaitable[list[None]]]
"""Does several pieces of work, at the same time where that can be."""


@dataclass(slots=True)
class _Partition:
    name: str
    places: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])  # the next one last
    start: Item | None = None
    ended: bool = False


class Walk:
    """Walks through all partitions of an index at once: the ids of sessions in the order of the query.

    What an index says may be out of date: the heads decide.
    """

    def __init__(self, place: Place, query: ListQuery, read: ReadPage, gather: Gather) -> None:
        self._next = min if query.ascending else max
        self._sort_attribute = place.sort_attribute
        self._read = read
        self._gather = gather
        self._partitions = [_Partition(name) for name in place.partitions]

    async def take(self, count: int) -> list[str]:
        """The next ids, at most so many; none at the end."""
        ids: list[str] = []
        while len(ids) < count:
            dry = [each for each in self._partitions if not each.places and not each.ended]
            if dry:
                await self._gather(partial(self._fill, each) for each in dry)
                continue
            filled = [each for each in self._partitions if each.places]
            if not filled:
                break
            ids.append(self._next(filled, key=lambda each: each.places[-1]).places.pop()[1])
        return ids

    async def _fill(self, partition: _Partition) -> None:
        items, partition.start = await self._read(partition.name, partition.start)
        partition.ended = partition.start is None
        partition.places = [(plain(item[self._sort_attribute]), plain(item["session_id"])) for item in reversed(items)]
