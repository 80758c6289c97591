"""The places that sessions have in lists, and walking down a list.

A place is an empty object whose name has a time and a session. The head of the session decides what a list shows; a
place only tells where to look. It moves when a checkpoint is written, unless a run is running: then it stays until the
run has ended.
"""

from __future__ import annotations

from collections.abc import Awaitable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from ...storage.driver import Deadline, HeadRow, ListQuery
from ...storage.matching import place_of
from .layout import digest, is_place, place_name, place_of_name, place_start
from .ports import LIST_PAGE, Listed

ALL = "all"

LAG = 2_000_000
"""How far the place of a session that is not running may lie before its last change, in microseconds: the time between
two checkpoints, and some."""


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
    if head.agent is not None:
        found.append(f"agent/{digest(head.agent)}")
    if head.user_id is not None:
        found.append(f"user/{digest(head.user_id)}")
    return found


def lists_for(query: ListQuery) -> tuple[list[str], bool]:
    """The shortest lists that together have everything that a query asks for, and whether they are in its order."""
    if query.expired_before is not None:
        return ["expires"], False
    if isinstance(query.user_id, str):
        return [f"{query.order}/user/{digest(query.user_id)}"], True
    if query.agent is not None:
        # Before the first release an agent was called owner; sessions move when they are written to, or found here.
        return [f"{query.order}/{name}/{digest(query.agent)}" for name in ("agent", "owner")], True
    if query.hidden:
        return ["hidden"], False
    if query.status == "running":
        return ["running"], False
    return [f"{query.order}/{ALL}"], True


def _latest(query: ListQuery) -> int | None:
    """The latest time of places that can matter; None if any can."""
    if query.expired_before is not None:
        return query.expired_before
    bounds = [query.until - 1] if query.until is not None else []
    if query.after is not None and not query.ascending:
        bounds.append(query.after[0])
    return min(bounds, default=None)


def _earliest(query: ListQuery) -> int | None:
    """The earliest time of places that can matter, since those of the last change lag; None if any can."""
    bounds = [query.since] if query.since is not None else []
    if query.after is not None and query.ascending:
        bounds.append(query.after[0])
    return max(bounds) - (LAG if query.order == "updated" else 0) if bounds else None


class ListPage(Protocol):
    """Brings the first objects below a prefix, after a name."""

    def __call__(self, prefix: str, deadline: Deadline, after: str | None) -> Awaitable[list[Listed]]: ...


class Walk:
    """Goes through the lists that serve a query, in its order: mostly down, the newest places first.

    Stores list names in one direction only. Where the oldest are asked for first, all places that can matter are read
    before the first is taken, a thousand with each request.

    Attributes:
        strays: the names of objects that were passed over because they are no places.
    """

    def __init__(self, list_page: ListPage, query: ListQuery) -> None:
        self._list_page = list_page
        self._query = query
        names, self._ordered = lists_for(query)
        latest = _latest(query) if self._ordered or query.expired_before is not None else None
        self._earliest = _earliest(query) if self._ordered else None
        self._lists = [_List(f"lists/{name}", None if latest is None else place_start(name, latest)) for name in names]
        self._time = 0
        self.strays: set[str] = set()

    async def take(self, count: int, deadline: Deadline) -> list[Listed]:
        """The next places, at most so many; none at the end, or where none can match any more."""
        if self._query.ascending and self._ordered:
            for each in self._lists:
                while await self._fill(each, deadline):
                    pass
            taken = self._take(count, reverse=True)
        else:
            for each in self._lists:
                while not each.waiting and await self._fill(each, deadline):
                    pass
            taken = self._take(count)
        if taken:
            self._time = place_of_name(taken[-1].name)[0]
        return taken

    def _take(self, count: int, *, reverse: bool = False) -> list[Listed]:
        """The next places of those that were read. Beyond the last of a list there may be more of that list."""
        open_ends = [_newest_first(each.waiting[-1]) for each in self._lists if each.waiting and not each.ended]
        edge = min(open_ends, default=None)
        waiting = sorted((place for each in self._lists for place in each.waiting), key=_newest_first, reverse=reverse)
        taken = [place for place in waiting if edge is None or _newest_first(place) <= edge][:count]
        gone = {place.name for place in taken}
        for each in self._lists:
            each.waiting = [place for place in each.waiting if place.name not in gone]
        return taken

    async def _fill(self, each: _List, deadline: Deadline) -> bool:
        """Read one page more of a list, if there is one; whether there was."""
        if each.ended:
            return False
        page = await self._list_page(each.prefix, deadline, each.after)
        each.ended = len(page) < LIST_PAGE
        if page:
            each.after = page[-1].name
        self.strays.update(place.name for place in page if not is_place(place.name))
        found = [place for place in page if is_place(place.name)]
        kept = [place for place in found if self._earliest is None or place_of_name(place.name)[0] >= self._earliest]
        each.ended = each.ended or len(kept) < len(found)  # what follows is older still
        each.waiting += kept
        return True

    def has_passed(self, found: Collection[HeadRow], limit: int) -> bool:
        """Whether so many heads were found that nothing further on can come before any of them."""
        if not self._ordered or len(found) < limit:
            return False
        times = [place_of(head, self._query)[0] for head in found]
        return sum(time < self._time if self._query.ascending else time > self._time for time in times) >= limit


@dataclass(slots=True)
class _List:
    prefix: str
    after: str | None
    ended: bool = False
    waiting: list[Listed] = field(default_factory=list[Listed])


def _newest_first(place: Listed) -> str:
    return place.name.rpartition("/")[2]
