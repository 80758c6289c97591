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
from ...storage.matching import bytes_of, page_of
from ...storage.rows import LOADED_BYTES
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
        names: list[str] = []
        while True:
            page = await self.port.list(what, prefix, deadline, after=first)
            names.extend(each.name for each in page if layout.is_commit(each.name))
            if len(page) < LIST_PAGE:
                return names
            first = page[-1].name

    async def newest(self, what: str, view: View, count: int, deadline: Deadline) -> list[CommitRow]:
        """The newest commits of a session, as a `load` brings them."""
        span = Span(limit=count, newest_first=True, max_bytes=LOADED_BYTES)
        return (await self.span(what, view, span, deadline))[::-1]

    async def span(
        self, what: str, view: View, span: Span, deadline: Deadline, *, only: frozenset[int] | None = None
    ) -> list[CommitRow]:
        """The commits of a span, in its direction; `only` of these numbers."""
        if span.limit <= 0:
            return []
        recent = view.rows
        before = recent[0].seq - 1
        recent = [row for row in recent if _within(row, span, only)]
        merged_last = before if span.last is None else min(span.last, before)
        if span.newest_first:
            recent.reverse()
            left = None if span.max_bytes is None else span.max_bytes - sum(bytes_of(row.body) for row in recent)
            rest = span._replace(last=merged_last, limit=span.limit - len(recent), max_bytes=left)
            return page_of(recent + await self._merged(what, view.checkpoint, rest, deadline, only), span)
        merged = await self._merged(what, view.checkpoint, span._replace(last=merged_last), deadline, only)
        return page_of(merged + recent, span)

    async def of_key(
        self, what: str, session_id: str, incarnation: str, span: Span, deadline: Deadline
    ) -> list[CommitRow]:
        """The commits of a span that asks for a key: those of the objects that name it which do have it in the log."""
        assert span.key is not None, "asked for by the caller"
        where = layout.folder(session_id, incarnation)
        start = layout.key_folder(where, span.key)
        first = layout.key_name(where, span.key, max(span.first, 1) - 1)
        seqs = sorted(map(layout.seq_of, await self._names_after(what, start, first, deadline)))
        last = seqs[-1] if span.last is None and seqs else span.last
        seqs = [seq for seq in seqs if last is not None and seq <= last]
        if not seqs:
            return []
        view = await self.look(what, layout.digest(session_id), deadline)
        if view is None or not view.is_of(incarnation):
            return []
        return await self.span(what, view, span, deadline, only=frozenset(seqs))

    async def at(self, what: str, view: View, seqs: Iterable[int], deadline: Deadline) -> dict[int, CommitRow]:
        """The commits of these numbers that there are."""
        only = frozenset(seqs)
        rows = await self.span(what, view, Span(limit=len(only)), deadline, only=only)
        return {row.seq: row for row in rows}

    async def leaves(self, what: str, view: View, seqs: frozenset[int], deadline: Deadline) -> list[str]:
        """The names of the merged objects that have commits of these numbers."""
        where = layout.folder(view.head.session_id, view.head.incarnation)
        waiting = [(level, node) for level, nodes in enumerate(view.checkpoint.nodes) for node in nodes]
        names: list[str] = []
        while waiting:
            level, node = waiting.pop()
            if not _has(node, seqs):
                continue
            name = layout.merged_name(where, level, node)
            if level == 0:
                names.append(name)
            else:
                inner = layout.decode_nodes(await self._read(what, name, deadline), name)
                waiting.extend((level - 1, each) for each in inner)
        return names

    async def _merged(
        self, what: str, checkpoint: Checkpoint, span: Span, deadline: Deadline, only: frozenset[int] | None
    ) -> list[CommitRow]:
        """The commits of a span that are merged: down the tree of nodes, in the span's direction.

        Where the bytes of the page are bounded there may be a few more than it has: those of objects read at once, of
        which there are few at first.
        """
        where = layout.folder(checkpoint.head.session_id, checkpoint.head.incarnation)
        highest = len(checkpoint.nodes) - 1
        tops = [(level, node) for level in range(highest, -1, -1) for node in checkpoint.nodes[level]]
        waiting = _ordered(tops, span, only)
        found: list[CommitRow] = []
        left, at_once = span.max_bytes, MERGED_AT_ONCE if span.max_bytes is None else 1
        while waiting and len(found) < span.limit and (left is None or left > 0):
            if waiting[-1][0] > 0:
                level, node = waiting.pop()
                name = layout.merged_name(where, level, node)
                inner = layout.decode_nodes(await self._read(what, name, deadline), name)
                waiting.extend(_ordered([(level - 1, each) for each in inner], span, only))
                continue
            nodes = _take(waiting, span, only, span.limit - len(found), at_once)
            at_once = min(at_once * 2, MERGED_AT_ONCE)
            names = [layout.merged_name(where, 0, node) for node in nodes]
            read = await self.port.gather(partial(self._read, what, name, deadline) for name in names)
            for name, data in zip(names, read, strict=True):
                rows = [row for row in layout.decode_rows(data, name) if _within(row, span, only)]
                found.extend(reversed(rows) if span.newest_first else rows)
                left = None if left is None else left - sum(bytes_of(row.body) for row in rows)
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
        keys = await self.write_keys(what, where, write.commits, deadline)
        if not await self.port.create(what, claim, layout.encode_append(write), deadline):
            return False  # another's commit of this number may have the same key: what names it stays
        try:
            view = await self._confirmed(what, write, deadline)
            if view is None:
                await self.port.delete(what, [claim, *keys], deadline)
        except StorageError as error:
            error.written = "unknown"
            raise
        if view is not None:
            await self.renew(view, deadline)
        return view is not None

    async def write_keys(self, what: str, where: str, rows: Iterable[CommitRow], deadline: Deadline) -> list[str]:
        """Write the objects by which commits with keys are found, before they are in the log; their names."""
        names = [layout.key_name(where, row.key, row.seq) for row in rows if row.key is not None]
        await self.port.gather(partial(self.port.put, what, name, b"", deadline) for name in names)
        return names

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
        now = self.port.clock.now()
        before = view.checkpoint
        places = lists.places(view.head, before.places, now)
        due = abs(now - before.written) >= INTERVAL or len(view.tail) >= MOST_TAIL
        moved = lists.names(places) != lists.names(before.places)
        if not (always or (view.tail and (due or moved))):
            return
        try:
            await self._renew(view, view.rows, now, places, deadline)
        except StorageError as error:
            if not error.retryable:
                logger.warning("The checkpoint of session %r cannot be written: %s", view.head.session_id, error)

    async def rewrite_recent(self, view: View, rows: list[CommitRow], deadline: Deadline) -> bool:
        """Write a checkpoint with others in place of the newest commits; False if there is a newer one."""
        now = self.port.clock.now()
        return await self._renew(view, rows, now, lists.places(view.head, view.checkpoint.places, now), deadline)

    async def _renew(
        self, view: View, rows: list[CommitRow], now: int, places: frozenset[str], deadline: Deadline
    ) -> bool:
        what, before = "Writing a checkpoint", view.checkpoint
        after = before._replace(head=view.head, rows=rows, written=now, places=places)
        if abs(now - before.covered_at) >= SETTLED:
            after = after._replace(safe=before.covered, covered=view.head.revision, covered_at=now)
        clear = after.safe - after.cleared >= CLEARED_AT_ONCE
        if clear:
            after = after._replace(cleared=after.safe)
        written = await self.write_before(what, after, places - before.places, deadline, view.version)
        if written is None:
            return False
        name = layout.head_name(layout.digest(after.head.session_id))
        if not await self.port.replace(what, name, layout.encode_checkpoint(written), view.version, deadline):
            return False
        await self.port.delete(what, sorted(before.places - places), deadline)
        if clear:
            await self._clear(what, written, deadline)
        return True

    async def write_before(
        self,
        what: str,
        checkpoint: Checkpoint,
        places: Iterable[str],
        deadline: Deadline,
        seen: Version | None,
    ) -> Checkpoint | None:
        """The checkpoint as it can be written after this: what it refers to is there, and its new places are.

        Merged objects are written one by one, so that none refers to another that is not there. None if the checkpoint
        that was `seen` before it is out of date.
        """
        session = layout.digest(checkpoint.head.session_id)
        checkpoint, merged = compact(checkpoint)
        for name, data in merged:
            if not await self._merge(what, name, data, session, seen, deadline):
                return None
        await self.port.gather(partial(self.port.put, what, name, b"", deadline) for name in places)
        return checkpoint

    async def _merge(
        self, what: str, name: str, data: bytes, session: str, seen: Version | None, deadline: Deadline
    ) -> bool:
        """Write a merged object. One that is there already may be from before its commits were rewritten, or after.

        Only whoever has seen the newest checkpoint since it saw the object knows that: False for others.
        """
        while not await self.port.create(what, name, data, deadline, repeatable=True):
            there = await self.port.get(what, name, deadline)
            if there is None:
                continue
            if there.data == data:
                return True
            now = await self.checkpoint(what, session, deadline)
            if now is None or now.version != seen:
                return False
            if await self.port.replace(what, name, data, there.version, deadline):
                return True
        return True

    async def _clear(self, what: str, checkpoint: Checkpoint, deadline: Deadline) -> None:
        """Remove the objects of appends that are in checkpoints for long; also what others have failed to remove."""
        where = layout.folder(checkpoint.head.session_id, checkpoint.head.incarnation)
        listed = await self.port.list(what, f"{where}/commits", deadline)
        names = [each.name for each in listed if layout.is_commit(each.name)]
        old = [name for name in names if layout.seq_of(name) <= checkpoint.cleared]
        await self.port.delete(what, old, deadline)


class MissingError(CorruptDataError):
    """A merged object is not there."""


def _within(row: CommitRow, span: Span, only: frozenset[int] | None) -> bool:
    runs = span.runs
    in_runs = runs is None or (row.run > 0 and runs[0] <= row.run <= runs[1])
    wanted = (only is None or row.seq in only) and (span.key is None or row.key == span.key)
    return wanted and in_runs and span.first <= row.seq and (span.last is None or row.seq <= span.last)


def _ordered(nodes: Sequence[tuple[int, Node]], span: Span, only: frozenset[int] | None) -> list[tuple[int, Node]]:
    """The nodes that may have commits of a span, the one to read first at the end."""
    found = [(level, node) for level, node in nodes if _overlaps(node, span) and (only is None or _has(node, only))]
    return found if span.newest_first else found[::-1]


def _overlaps(node: Node, span: Span) -> bool:
    in_seqs = span.first <= node.last and (span.last is None or node.first <= span.last)
    return in_seqs and (span.runs is None or (node.high >= span.runs[0] and node.low <= span.runs[1]))


def _has(node: Node, seqs: frozenset[int]) -> bool:
    return any(node.first <= seq <= node.last for seq in seqs)


def _take(
    waiting: list[tuple[int, Node]], span: Span, only: frozenset[int] | None, wanted: int, at_once: int
) -> list[Node]:
    """The next merged objects that so many commits need, out of those that wait; at most so many at once."""
    taken: list[Node] = []
    while waiting and waiting[-1][0] == 0 and len(taken) < at_once and (wanted > 0 or not taken):
        node = waiting.pop()[1]
        taken.append(node)
        first, last = max(node.first, span.first), node.last if span.last is None else min(node.last, span.last)
        if span.runs is None:
            wanted -= last - first + 1 if only is None else sum(first <= seq <= last for seq in only)
    return taken
