"""Lists of sessions: along a sorted set, with a look at the head of each session on the way."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ...errors import CorruptDataError, StorageError
from ...records import ANY_USER
from ...storage.driver import Deadline, HeadRow, Listing, ListQuery
from ...storage.matching import follows, listing, matches, place_of
from .index import Entry, Index, Place
from .keys import STORED, STORED_WITHOUT_BODY, Keys
from .ports import Port
from .scripts import PAGE

LEAST_BATCH, MOST_BATCH = 20, 200
"""How many heads are read at once."""


class Source(NamedTuple):
    """The sorted set that serves a query; `ordered` if its scores are the times that the query orders by."""

    key: bytes
    ordered: bool


@dataclass(slots=True)
class Looks:
    """What looks at heads have brought: heads by their sessions' ids, and entries whose heads cannot be read."""

    heads: dict[str, HeadRow] = field(default_factory=dict[str, HeadRow])
    damaged: list[tuple[Entry, StorageError]] = field(default_factory=list[tuple[Entry, StorageError]])


class Lists:
    """Answers queries out of the index of a storage."""

    def __init__(self, port: Port, keys: Keys, index: Index) -> None:
        self._port = port
        self._keys = keys
        self._index = index

    async def page(self, query: ListQuery, deadline: Deadline) -> Listing:
        """The heads that a query asks for, in its order, and what cannot be read among them."""
        looks = Looks()
        walk: Walk | None = self._walk(query, query.limit)
        ordered = walk.ordered
        while walk is not None:
            while not (walk.over or (walk.ordered and walk.enough(query, looks.heads))):
                for head in await self._step(walk, STORED, looks, deadline):
                    if matches(head, query) and follows(head, query):
                        looks.heads[head.session_id] = head
            walk = walk.above()
        first = heapq.nsmallest if query.ascending else heapq.nlargest
        rows = first(query.limit, looks.heads.values(), key=lambda head: place_of(head, query))
        return _with_damage(listing(rows, query), looks.damaged, query, ordered=ordered)

    async def count(self, query: ListQuery, deadline: Deadline) -> int:
        """How many heads match."""
        found: set[str] = set()
        walk: Walk | None = self._walk(query, MOST_BATCH)
        while walk is not None:
            while not walk.over:
                heads = await self._step(walk, STORED_WITHOUT_BODY, Looks(), deadline)
                found.update(head.session_id for head in heads if matches(head, query))
            walk = walk.above()
        return len(found)

    def _source(self, query: ListQuery) -> Source:
        """The shortest list that has everything that the query asks for."""
        if query.expired_before is not None:
            return Source(self._keys.index("expires"), False)
        if query.user_id is not ANY_USER and query.user_id is not None:
            return Source(self._keys.index(query.order, "user", query.user_id), True)
        if query.agent is not None:
            return Source(self._keys.index(query.order, "agent", query.agent), True)
        if query.hidden:
            return Source(self._keys.index("hidden"), query.order == "updated")
        if query.status == "running":
            return Source(self._keys.index("running"), query.order == "updated")
        if query.user_id is None:
            return Source(self._keys.index(query.order, "user"), True)
        return Source(self._keys.index(query.order), True)

    def _walk(self, query: ListQuery, limit: int) -> Walk:
        source = self._source(query)
        high, low = b"+inf", b"-inf"
        if query.expired_before is not None:
            high = str(query.expired_before).encode()
        if source.ordered and query.until is not None:
            high = f"({query.until}".encode()
        if source.ordered and query.since is not None:
            low = str(query.since).encode()
        begin, end = (low, high) if query.ascending else (high, low)
        walk = Walk(self._port, source, begin, end, min(max(limit, LEAST_BATCH), MOST_BATCH), up=query.ascending)
        if source.ordered and query.after is not None and _within(query):
            walk.begin_behind(query.after)
        return walk

    async def _step(self, walk: Walk, names: Sequence[bytes], looks: Looks, deadline: Deadline) -> list[HeadRow]:
        """The heads of the next entries; entries that are wrong are mended on the way."""
        entries: list[Entry] = []
        for entry in await walk.next(deadline):
            if entry.is_id:
                entries.append(entry)
            else:
                looks.damaged.append((entry, CorruptDataError(f"A list has an entry that is no session: {entry.raw}.")))
        heads = await self._index.heads([entry.member for entry in entries], deadline, names)
        wrong: list[tuple[Entry, HeadRow]] = []
        gone: list[Entry] = []
        for entry, head in zip(entries, heads, strict=True):
            if head is None:
                gone.append(entry)
            elif isinstance(head, CorruptDataError):
                looks.damaged.append((entry, head))
            else:
                score = self._keys.scores(head).get(walk.key)
                if score is None or float(score) != entry.score:
                    wrong.append((entry, head))
        if wrong or gone:
            await self._index.mend(walk.key, wrong, gone, deadline)
        return [head for head in heads if isinstance(head, HeadRow)]


def _within(query: ListQuery) -> bool:
    """Whether a page begins behind where the query itself does."""
    assert query.after is not None, "asked for"
    if query.ascending:
        return query.since is None or query.after[0] >= query.since
    return query.until is None or query.after[0] < query.until


def _with_damage(
    page: Listing, damaged: Sequence[tuple[Entry, StorageError]], query: ListQuery, *, ordered: bool
) -> Listing:
    """Name what cannot be read on the page where its entry stands; where entries are in another order, on the first."""

    def belongs(place: Place) -> bool:
        if not ordered:
            return query.after is None
        if page.after is None:
            return True
        last = (float(page.after[0]), page.after[1].encode())
        return place < last if query.ascending else place > last

    return page._replace(unreadable={entry.member: error for entry, error in damaged if belongs(entry.place)})


class Walk:
    """Goes along a sorted set, a batch at a time, downwards or `up`; `over` when its end was reached."""

    def __init__(self, port: Port, source: Source, begin: bytes, end: bytes, size: int, *, up: bool = False) -> None:
        self._port = port
        self.key, self.ordered = source
        self._bounded = begin not in (b"+inf", b"-inf")
        self._begin, self._end = begin, end
        self._size = size
        self._up = up
        self._frontier: Place | None = None
        self._top: bytes | None = None
        self._steps = 0
        self.over = False

    def begin_behind(self, place: tuple[int, str]) -> None:
        """Begin after the last row of the page before."""
        self._frontier = (float(place[0]), place[1].encode())
        self._begin = str(place[0]).encode()
        self._bounded = True

    async def next(self, deadline: Deadline) -> list[Entry]:
        """The next entries. More are read where more have the same score than fit."""
        size = self._size
        while True:
            args = [self._begin, self._end, str(size).encode(), b"1" if self._up else b""]
            (flat,) = await self._port.run("Listing sessions", PAGE, [([self.key], args)], deadline)
            entries = [Entry(raw, int(float(score)), score) for raw, score in zip(flat[::2], flat[1::2], strict=True)]
            fresh = [entry for entry in entries if self._frontier is None or self._passes(entry.place, self._frontier)]
            self.over = len(entries) < size
            if fresh or self.over:
                break
            size *= 2
        if fresh:
            self._top = self._top or fresh[0].text
            self._frontier = fresh[-1].place
            self._begin = fresh[-1].text
        self._steps += 1
        return fresh

    def _passes(self, place: Place, other: Place) -> bool:
        return place > other if self._up else place < other

    def above(self) -> Walk | None:
        """A walk over what may have been further down, and has moved to the top before this one was there.

        None if there is no such thing: where this one took a single step, did not begin at the top, or ends there.
        """
        if self._steps < 2 or self._top is None or self._bounded or self._up:
            return None
        return Walk(self._port, Source(self.key, self.ordered), b"+inf", self._top, self._size)

    def enough(self, query: ListQuery, found: dict[str, HeadRow]) -> bool:
        """Whether a page is full of heads that nothing further on can come before."""
        if self._frontier is None or len(found) < query.limit:
            return False
        places = (place_of(head, query) for head in found.values())
        frontier = self._frontier
        return sum(not self._passes((float(at), name.encode()), frontier) for at, name in places) >= query.limit
