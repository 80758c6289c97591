"""The places that sessions have in lists, and walking down a list.

A place is an empty object whose name has a time and a session. The head of the session decides what a list shows; a
place only tells where to look. It moves when a checkpoint is written, unless a run is at work: then it stays until the
run has ended.
"""

from __future__ import annotations

from collections.abc import Awaitable, Collection, Iterable
from typing import Protocol

from ...storage.driver import Deadline, HeadRow, ListQuery
from ...storage.matching import place_of
from .layout import digest, place_name, place_of_name, place_start
from .ports import LIST_PAGE, Listed

ALL = "all"


def places(head: HeadRow, there: Iterable[str], now: int) -> frozenset[str]:
    """The places that a session must have, of which it has those that are `there`."""
    session = digest(head.session_id)
    kept = {_list_of(name): place_of_name(name)[0] for name in there}
    wanted: dict[str, int] = {}
    for name in _groups(head):
        wanted[f"created/{name}"] = head.created_at
        updated = f"updated/{name}"
        wanted[updated] = kept.get(updated, head.updated_at) if head.status == "running" else head.updated_at
    for name, belongs in (("hidden", head.hidden), ("running", head.status == "running")):
        if belongs:
            wanted[name] = kept.get(name, head.updated_at)
    if head.expires_at is not None:
        # A session that goes on living is looked for at the time that it was first to end, and then moved.
        known = kept.get("expires", 0)
        wanted["expires"] = known if now < known <= head.expires_at else head.expires_at
    return frozenset(place_name(name, moment, session) for name, moment in wanted.items())


def hidden_place(head: HeadRow) -> str:
    """The place by which sweeping finds a session that has just been hidden."""
    return place_name("hidden", head.updated_at, digest(head.session_id))


def names(of_places: Iterable[str]) -> frozenset[str]:
    """The lists that some places are in."""
    return frozenset(map(_list_of, of_places))


def _list_of(name: str) -> str:
    return name.partition("/")[2].rpartition("/")[0]


def _groups(head: HeadRow) -> list[str]:
    found = [ALL]
    if head.owner is not None:
        found.append(f"owner/{digest(head.owner)}")
    if head.user_id is not None:
        found.append(f"user/{digest(head.user_id)}")
    return found


def list_for(query: ListQuery) -> tuple[str, bool]:
    """The shortest list that has everything that a query asks for, and whether it is in the query's order."""
    if query.expired_before is not None:
        return "expires", False
    if query.user_id is not None:
        return f"{query.order}/user/{digest(query.user_id)}", True
    if query.owner is not None:
        return f"{query.order}/owner/{digest(query.owner)}", True
    if query.hidden:
        return "hidden", False
    if query.status == "running":
        return "running", False
    return f"{query.order}/{ALL}", True


def _highest(query: ListQuery, *, ordered: bool) -> int | None:
    """The latest time of places that can matter; None if any can."""
    if query.expired_before is not None:
        return query.expired_before
    bounds = [query.until - 1] if query.until is not None else []
    if query.after is not None:
        bounds.append(query.after[0])
    return min(bounds) if ordered and bounds else None


class ListPage(Protocol):
    """Brings the first objects below a prefix, after a name."""

    def __call__(self, prefix: str, deadline: Deadline, after: str | None) -> Awaitable[list[Listed]]: ...


class Walk:
    """Goes down the list that serves a query, the newest places first."""

    def __init__(self, list_page: ListPage, query: ListQuery) -> None:
        self._list_page = list_page
        self._query = query
        name, self._ordered = list_for(query)
        self._prefix = f"lists/{name}"
        highest = _highest(query, ordered=self._ordered)
        self._after: str | None = None if highest is None else place_start(name, highest)
        self._ended = False
        self._waiting: list[Listed] = []
        self._time = 0

    async def take(self, count: int, deadline: Deadline) -> list[Listed]:
        """The next places, at most so many; none at the end, or where none can match any more."""
        if not self._waiting and not self._ended:
            self._waiting = await self._list_page(self._prefix, deadline, self._after)
            self._ended = len(self._waiting) < LIST_PAGE
            if self._waiting:
                self._after = self._waiting[-1].name
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        if self._ordered and self._query.since is not None:
            taken = [place for place in taken if place_of_name(place.name)[0] >= self._query.since]
        if taken:
            self._time = place_of_name(taken[-1].name)[0]
        return taken

    def has_passed(self, found: Collection[HeadRow], limit: int) -> bool:
        """Whether so many heads were found that nothing further down can come before any of them."""
        if not self._ordered or len(found) < limit:
            return False
        return sum(place_of(head, self._query)[0] > self._time for head in found) >= limit
