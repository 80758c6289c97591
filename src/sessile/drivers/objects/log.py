"""The log of one session: the objects of appends, the checkpoint, and merged commits.

An append creates the object that is named by its first `seq`, which one writer can; the head after it is in it too, so
nothing need be folded. Then it reads the checkpoint. Only if that is of the same incarnation, and has not passed this
`seq` with another commit, has the append happened: what was removed, or never was there, cannot be claimed.

Whoever appends writes the checkpoint too, if the last one is a second old. The newest commits are in it, older ones in
merged objects, and what they were appended in is removed a minute later.

A reader takes the checkpoint and what was appended after it. Because of that minute it misses nothing; one that takes
half as long begins anew.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from ...errors import CorruptDataError, StorageError
from ...storage.driver import Append, CommitRow, Deadline, HeadRow, Span
from . import layout, lists
from .layout import Appended, Checkpoint, Node
from .merging import compact
from .ports import LIST_PAGE, Port, Version

logger = logging.getLogger("sessile")

INTERVAL = 1_000_000
"""Microseconds between two checkpoints of a session. GCS takes about one write a second to one object."""

MOST_TAIL = 16
"""After how many appends there is a checkpoint even so: every reader must read them one by one."""

SETTLED = 60_000_000
"""How long commits have been in checkpoints, in microseconds, before the objects of their appends are removed."""

STALE = 30.0
"""After how many seconds a reader begins anew: well before anything that it relies on may be removed."""

CLEARED_AT_ONCE = 32
"""How many commits' objects are worth a request that lists them, and one that removes them."""

MERGED_AT_ONCE = 8
"""How many merged objects are read at once."""


@dataclass(slots=True)
class View:
    """A session at one moment: its checkpoint, of the version that was seen, and all appends after it, in order."""

    checkpoint: Checkpoint
    version: Version
    tail: list[Appended]

    @property
    def head(self) -> HeadRow:
        return self.tail[-1].head if self.tail else self.checkpoint.head

    @property
    def rows(self) -> list[CommitRow]:
        """The newest commits; those before them are merged."""
        return [*self.checkpoint.rows, *(row for appended in self.tail for row in appended.rows)]

    def is_of(self, incarnation: str) -> bool:
        """Whether it is the session's incarnation of that name, and not being removed."""
        return self.checkpoint.head.incarnation == incarnation and not self.checkpoint.removing


class Log:
    """Reads and writes the logs of a bucket."""

    def __init__(self, port: Port) -> None:
        self.port = port

    # ------------------------------------------------------------ reading

    async def look(self, what: str, session: str, deadline: Deadline) -> View | None:
        """The session of a digest as it is now, also one that is being removed; None if there is none."""
        while True:
            began = time.monotonic()
            view = await self.checkpoint(what, session, deadline)
            if view is None or view.checkpoint.removing:
                return view
            tail = await self._tail(what, view.checkpoint, deadline)
            if tail is not None and time.monotonic() - began < STALE:
                view.tail = tail
                return view
            deadline.check(what)

    async def checkpoint(self, what: str, session: str, deadline: Deadline) -> View | None:
        """The session as its checkpoint has it, without the appends after it."""
        name = layout.head_name(session)
        found = await self.port.get(what, name, deadline)
        if found is None or not found.data:
            return None
        return View(layout.decode_checkpoint(found.data, name), found.version, [])

    async def _tail(self, what: str, checkpoint: Checkpoint, deadline: Deadline) -> list[Appended] | None:
        """The appends after a checkpoint; None if some were removed meanwhile, so that there is a newer checkpoint.

        Mostly there is none, which one request for the next object tells.
        """
        where = layout.folder(checkpoint.head.session_id, checkpoint.head.incarnation)
        first = layout.commit_name(where, checkpoint.revision + 1)
        found = await self.port.get(what, first, deadline)
        if found is None:
            return []
        names = await self._names_after(what, f"{where}/commits", first, deadline)
        later = await self.port.gather(partial(self.port.get, what, name, deadline) for name in names)
        tail: list[Appended] = []
        for name, each in zip([first, *names], [found, *later], strict=True):
            if each is None:
                return None
            appended = layout.decode_append(each.data, name)
            last = tail[-1].head.revision if tail else checkpoint.revision
            if appended.rows[0].seq == last + 1:  # else somebody has claimed a place in the void, and will see that
                tail.append(appended)
        return tail

    async def _names_after(self, what: str, prefix: str, first: str, deadline: Deadline) -> list[str]:
        """The names of all objects below a prefix after a name. More than a page, if no checkpoint can be written."""
        names = [first]
        while True:
            page = await self.port.list(what, prefix, deadline, after=names[-1])
            names.extend(each.name for each in page)
            if len(page) < LIST_PAGE:
                return names[1:]

    async def newest(self, what: str, view: View, count: int, deadline: Deadline) -> list[CommitRow]:
        """The newest commits of a session, the oldest of them first."""
        rows = view.rows[-count:] if count else []
        if len(rows) < count and rows[0].seq > 1:
            span = Span(last=rows[0].seq - 1, limit=count - len(rows), newest_first=True)
            rows = (await self._merged(what, view.checkpoint, span, deadline))[::-1] + rows
        return rows

    async def span(self, what: str, view: View, span: Span, deadline: Deadline) -> list[CommitRow]:
        """The commits of a span, in its direction."""
        if span.limit <= 0:
            return []
        recent = view.rows
        before = recent[0].seq - 1
        recent = [row for row in recent if _within(row, span)]
        merged_last = before if span.last is None else min(span.last, before)
        if span.newest_first:
            recent.reverse()
            rest = span._replace(last=merged_last, limit=span.limit - len(recent))
            return (recent + await self._merged(what, view.checkpoint, rest, deadline))[: span.limit]
        merged = await self._merged(what, view.checkpoint, span._replace(last=merged_last), deadline)
        return (merged + recent)[: span.limit]

    async def _merged(self, what: str, checkpoint: Checkpoint, span: Span, deadline: Deadline) -> list[CommitRow]:
        """The commits of a span that are merged: down the tree of nodes, in the span's direction."""
        where = layout.folder(checkpoint.head.session_id, checkpoint.head.incarnation)
        highest = len(checkpoint.nodes) - 1
        nodes = [(level, node) for level in range(highest, -1, -1) for node in checkpoint.nodes[level]]
        waiting = _ordered(nodes, span)
        found: list[CommitRow] = []
        while waiting and len(found) < span.limit:
            if waiting[-1][0] > 0:
                level, node = waiting.pop()
                name = layout.merged_name(where, level, node)
                inner = layout.decode_nodes(await self._read(what, name, deadline), name)
                waiting.extend(_ordered([(level - 1, each) for each in inner], span))
                continue
            names = [layout.merged_name(where, 0, node) for node in _take(waiting, span, span.limit - len(found))]
            read = await self.port.gather(partial(self._read, what, name, deadline) for name in names)
            for name, data in zip(names, read, strict=True):
                rows = [row for row in layout.decode_rows(data, name) if _within(row, span)]
                found.extend(reversed(rows) if span.newest_first else rows)
        return found[: span.limit]

    async def _read(self, what: str, name: str, deadline: Deadline) -> bytes:
        found = await self.port.get(what, name, deadline)
        if found is None:
            raise MissingError(f"The object {name} is missing, unless its session is being deleted.")
        return found.data

    # ------------------------------------------------------------ appending

    async def append(self, what: str, write: Append, deadline: Deadline) -> bool:
        """Claim the place after the expected revision; False if it is not there or somebody else has it."""
        where = layout.folder(write.session_id, write.incarnation)
        claim = layout.commit_name(where, write.expected + 1)
        if write.head.hidden:  # from the claim on nobody else looks at the session: sweeping must find it even so
            await self.port.put(what, lists.hidden_place(write.head), b"", deadline)
        if not await self.port.create(what, claim, layout.encode_append(write), deadline):
            return False
        try:
            view = await self._confirmed(what, write, deadline)
            if view is None:
                await self.port.delete(what, [claim], deadline)
        except StorageError as error:
            error.written = "unknown"
            raise
        if view is not None:
            await self.renew(view, deadline)
        return view is not None

    async def _confirmed(self, what: str, write: Append, deadline: Deadline) -> View | None:
        """The session with an append that has claimed its place; None if that place is not in the log."""
        mine = Appended(list(write.commits), write.head)
        while True:
            view = await self.checkpoint(what, layout.digest(write.session_id), deadline)
            if view is None or not view.is_of(write.incarnation):
                return None
            if write.expected < view.checkpoint.revision:
                # Others have gone on, and it is among their commits; or it was deep in the past, and removed.
                rows = await self.span(what, view, Span(write.expected + 1, write.expected + 1), deadline)
                return view if rows and rows[0].commit_id == mine.rows[0].commit_id else None
            tail = [mine]
            if write.expected > view.checkpoint.revision:
                tail = await self._tail(what, view.checkpoint, deadline)
            if tail is not None:
                view.tail = tail
                return view if any(each.rows[0].seq == mine.rows[0].seq for each in tail) else None
            deadline.check(what, written="unknown")

    # ------------------------------------------------------------ checkpoints

    async def renew(self, view: View, deadline: Deadline, *, always: bool = False) -> None:
        """Write the checkpoint of a session and its places in lists, if it is time to, or a place is new.

        A failure changes nothing: the next one who comes by writes it. If that cannot be, reading takes ever longer.
        """
        now = time.time_ns() // 1000
        before = view.checkpoint
        places = lists.places(view.head, before.places, now)
        due = abs(now - before.written) >= INTERVAL or len(view.tail) >= MOST_TAIL
        if not view.tail or not (always or due or lists.names(places) != lists.names(before.places)):
            return
        try:
            await self._renew(view, now, places, deadline)
        except StorageError as error:
            if not error.retry:
                logger.warning("The checkpoint of session %r cannot be written: %s", view.head.session_id, error)

    async def _renew(self, view: View, now: int, places: frozenset[str], deadline: Deadline) -> None:
        what, before = "Writing a checkpoint", view.checkpoint
        after = before._replace(head=view.head, rows=view.rows, written=now, places=places)
        if abs(now - before.covered_at) >= SETTLED:
            after = after._replace(safe=before.covered, covered=view.head.revision, covered_at=now)
        clear = after.safe - after.cleared >= CLEARED_AT_ONCE
        if clear:
            after = after._replace(cleared=after.safe)
        after = await self.write_before(what, after, places - before.places, deadline)
        name = layout.head_name(layout.digest(after.head.session_id))
        if not await self.port.replace(what, name, layout.encode_checkpoint(after), view.version, deadline):
            return
        await self.port.delete(what, sorted(before.places - places), deadline)
        if clear:
            await self._clear(what, after, deadline)

    async def write_before(
        self, what: str, checkpoint: Checkpoint, places: Iterable[str], deadline: Deadline
    ) -> Checkpoint:
        """The checkpoint as it can be written after this: what it refers to is there, and its new places are.

        Merged objects are written one by one, so that none refers to another that is not there.
        """
        checkpoint, merged = compact(checkpoint)
        for name, data in merged:
            await self.port.put(what, name, data, deadline)
        await self.port.gather(partial(self.port.put, what, name, b"", deadline) for name in places)
        return checkpoint

    async def _clear(self, what: str, checkpoint: Checkpoint, deadline: Deadline) -> None:
        """Remove the objects of appends that are in checkpoints for long; also what others have failed to remove."""
        where = layout.folder(checkpoint.head.session_id, checkpoint.head.incarnation)
        listed = await self.port.list(what, f"{where}/commits", deadline)
        old = [each.name for each in listed if layout.seq_of(each.name) <= checkpoint.cleared]
        await self.port.delete(what, old, deadline)


class MissingError(CorruptDataError):
    """A merged object is not there."""


def _within(row: CommitRow, span: Span) -> bool:
    runs = span.runs
    in_runs = runs is None or (row.run > 0 and runs[0] <= row.run <= runs[1])
    return in_runs and span.first <= row.seq and (span.last is None or row.seq <= span.last)


def _ordered(nodes: Sequence[tuple[int, Node]], span: Span) -> list[tuple[int, Node]]:
    """The nodes that may have commits of a span, the one to read first at the end."""
    found = [(level, node) for level, node in nodes if _overlaps(node, span)]
    return found if span.newest_first else found[::-1]


def _overlaps(node: Node, span: Span) -> bool:
    in_seqs = span.first <= node.last and (span.last is None or node.first <= span.last)
    return in_seqs and (span.runs is None or (node.high >= span.runs[0] and node.low <= span.runs[1]))


def _take(waiting: list[tuple[int, Node]], span: Span, wanted: int) -> list[Node]:
    """The next merged objects that so many commits need, out of those that wait."""
    taken: list[Node] = []
    while waiting and waiting[-1][0] == 0 and len(taken) < MERGED_AT_ONCE and (wanted > 0 or not taken):
        node = waiting.pop()[1]
        taken.append(node)
        first, last = max(node.first, span.first), node.last if span.last is None else min(node.last, span.last)
        wanted -= last - first + 1 if span.runs is None else 0
    return taken
