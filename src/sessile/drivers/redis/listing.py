"""Lists of sessions: down a sorted set, with a look at the head of each session on the way."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import NamedTuple

from ...errors import CorruptDataError
from ...storage.driver import Deadline, HeadRow, ListQuery
from ...storage.matching import matches, place_of
from .index import Entry, Index
from .keys import FIELDS, FIELDS_WITHOUT_BODY, Keys
from .ports import Port
from .scripts import PAGE

LEAST_BATCH, MOST_BATCH = 20, 200
"""How many heads are read at once."""


class Source(NamedTuple):
    """The sorted set that serves a query; `ordered` if its scores are the times that the query orders by."""

    key: bytes
    ordered: bool


class Lists:
    """Answers queries out of the index of a storage."""

    def __init__(self, port: Port, keys: Keys, index: Index) -> None:
        self._port = port
        self._keys = keys
        self._index = index

    async def page(self, query: ListQuery, deadline: Deadline) -> list[HeadRow]:
        """The heads that a query asks for, in its order."""
        found: dict[str, HeadRow] = {}
        walk: Walk | None = self._walk(query, query.limit)
        while walk is not None:
            while not (walk.over or (walk.ordered and walk.enough(query, found))):
                for head in await self._step(walk, FIELDS, deadline):
                    if matches(head, query) and (query.after is None or place_of(head, query) < query.after):
                        found[head.session_id] = head
            walk = walk.above()
        return heapq.nlargest(query.limit, found.values(), key=lambda head: place_of(head, query))

    async def count(self, query: ListQuery, deadline: Deadline) -> int:
        """How many heads match."""
        found: set[str] = set()
        walk: Walk | None = self._walk(query, MOST_BATCH)
        while walk is not None:
            while not walk.over:
                heads = await self._step(walk, FIELDS_WITHOUT_BODY, deadline)
                found.update(head.session_id for head in heads if matches(head, query))
            walk = walk.above()
        return len(found)

    def _source(self, query: ListQuery) -> Source:
        """The shortest list that has everything that the query asks for."""
        if query.expired_before is not None:
            return Source(self._keys.index("expires"), False)
        if query.user_id is not None:
            return Source(self._keys.index(query.order, "user", query.user_id), True)
        if query.owner is not None:
            return Source(self._keys.index(query.order, "owner", query.owner), True)
        if query.hidden:
            return Source(self._keys.index("hidden"), query.order == "updated")
        if query.status == "running":
            return Source(self._keys.index("running"), query.order == "updated")
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
        walk = Walk(self._port, source, high, low, min(max(limit, LEAST_BATCH), MOST_BATCH))
        if source.ordered and query.after is not None and (query.until is None or query.after[0] < query.until):
            walk.begin_below(query.after)
        return walk

    async def _step(self, walk: Walk, names: Sequence[bytes], deadline: Deadline) -> list[HeadRow]:
        """The heads of the next entries; entries that are wrong are mended on the way."""
        entries = await walk.next(deadline)
        heads = await self._index.heads([entry.member for entry in entries], deadline, names)
        wrong: list[tuple[Entry, HeadRow]] = []
        gone: list[Entry] = []
        for entry, head in zip(entries, heads, strict=True):
            if head is None:
                gone.append(entry)
            else:
                score = self._keys.scores(head).get(walk.key)
                if score is None or float(score) != entry.score:
                    wrong.append((entry, head))
        if wrong or gone:
            await self._index.mend(walk.key, wrong, gone, deadline)
        return [head for head in heads if head is not None]


class Walk:
    """Goes down a sorted set, a batch at a time; `over` when its end was reached."""

    def __init__(self, port: Port, source: Source, high: bytes, low: bytes, size: int) -> None:
        self._port = port
        self.key, self.ordered = source
        self._bounded = high != b"+inf"
        self._high, self._low = high, low
        self._size = size
        self._frontier: tuple[float, str] | None = None
        self._top: bytes | None = None
        self._steps = 0
        self.over = False

    def begin_below(self, place: tuple[int, str]) -> None:
        """Begin after the last row of the page before."""
        self._frontier = (float(place[0]), place[1])
        self._high = str(place[0]).encode()
        self._bounded = True

    async def next(self, deadline: Deadline) -> list[Entry]:
        """The next entries. More are read where more have the same score than fit."""
        size = self._size
        while True:
            args = [self._high, self._low, str(size).encode()]
            (flat,) = await self._port.run("Listing sessions", PAGE, [([self.key], args)], deadline)
            entries = [_entry(member, score) for member, score in zip(flat[::2], flat[1::2], strict=True)]
            fresh = [entry for entry in entries if self._frontier is None or _place(entry) < self._frontier]
            self.over = len(entries) < size
            if fresh or self.over:
                break
            size *= 2
        if fresh:
            self._top = self._top or fresh[0].text
            self._frontier = _place(fresh[-1])
            self._high = fresh[-1].text
        self._steps += 1
        return fresh

    def above(self) -> Walk | None:
        """A walk over what may have been further down, and has come to the top before this one was there.

        None if there is no such thing: where this one took a single step, or did not begin at the top.
        """
        if self._steps < 2 or self._top is None or self._bounded:
            return None
        return Walk(self._port, Source(self.key, self.ordered), b"+inf", self._top, self._size)

    def enough(self, query: ListQuery, found: dict[str, HeadRow]) -> bool:
        """Whether a page is full of heads that nothing further down can come before."""
        if self._frontier is None or len(found) < query.limit:
            return False
        places = (place_of(head, query) for head in found.values())
        return sum((float(moment), name) >= self._frontier for moment, name in places) >= query.limit


def _entry(member: bytes, text: bytes) -> Entry:
    try:
        return Entry(member.decode(), int(float(text)), text)
    except ValueError as error:
        raise CorruptDataError(f"A list has an entry that is no session: {member!r}.") from error


def _place(entry: Entry) -> tuple[float, str]:
    return float(entry.score), entry.member
