"""The driver behind `S3Storage` and `GcsStorage`, written once over a port that blocks or suspends.

`log.py` says how a session is kept, `layout.py` in which objects.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, TypeVar

from ...errors import CorruptDataError, NewerVersionError, ReadOnlyError, StorageError
from ...storage.dates import SECOND, monotonic_micros
from ...storage.driver import Capabilities, Deadline, Driver
from ...storage.matching import follows, listing, matches, place_of
from ...storage.rows import Append, CommitRow, HeadRow, Listing, ListQuery, Loaded, Span
from . import layout, lists
from .layout import Checkpoint
from .log import Log, MissingError, View
from .ports import Listed, Port, Version
from .records import Records
from .rewriting import rewrite

T = TypeVar("T")

logger = logging.getLogger("sessile")

HEADS_AT_ONCE = 32
"""How many heads a list looks at before it asks whether it has enough."""

UNKNOWN_FOR = 3600 * 1_000_000
"""For how long a place is left alone that no session has, in microseconds: the session may be about to be made."""

SETUP_CONTENT = b'{"format":1}\n'

NEVER = Version('"00000000000000000000000000000000"', "1")
"""A version that no object of ours has."""


class ObjectDriver(Driver):
    """The driver of object stores that have conditional writes."""

    name: ClassVar[str] = "objects"
    capabilities = Capabilities(
        exact_order=False,
        forks=False,
        commits_per_append=layout.MOST_COMMITS,
        max_record_bytes=8 * 2**20,
        rewrites=True,
        bounded_pages=True,
    )

    def __init__(self, port: Port) -> None:
        self.suspends = port.suspends
        self.port = port
        self.stats = port.stats
        self.log = Log(port)
        self.records = Records(port)

    # ------------------------------------------------------------ setting up

    async def setup(self, deadline: Deadline) -> None:
        """Find out whether the store keeps conditions: one that ignores them would lose writes."""
        what, content = "Setting up", SETUP_CONTENT
        create = partial(self.port.create, what, layout.SETUP, content, deadline, repeatable=True)
        replace_unseen = partial(self.port.replace, what, layout.SETUP, content, NEVER, deadline, repeatable=True)
        try:
            ignored = (await create() and await create()) or await replace_unseen()
        except ReadOnlyError:
            return  # whoever may only read loses nothing
        except StorageError as error:
            error.written = "no"  # of what the caller is about to write
            raise
        if ignored:
            raise StorageError(
                f"{self.port.where} ignores the conditions of writes: writers would overwrite each other's commits.",
                hint="Use a service with conditional writes (If-None-Match, If-Match), and no proxy that drops them.",
            )

    async def now(self, deadline: Deadline) -> int:
        """The store's clock: by when it says that an object was written. This machine's, for whoever may only read."""
        what, clock = "Asking for the time", self.port.clock
        if not clock.is_known:
            sent = monotonic_micros()
            try:
                await self.port.put(what, layout.SETUP, SETUP_CONTENT, deadline)
                found = await self.port.get(what, layout.SETUP, deadline)
            except StorageError as error:
                logger.info("The store does not tell the time, and this machine does: %s", error)
                found = None
            if found is not None:
                clock.saw(found.time // SECOND * SECOND, sent, monotonic_micros())
        return clock.now()

    # ------------------------------------------------------------ the log

    async def load(self, session_id: str, newest: int, deadline: Deadline) -> Loaded | None:
        what = "Loading a session"
        while True:
            view = await self.log.look(what, layout.digest(session_id), deadline)
            if view is None or view.checkpoint.removing:
                return None
            try:
                rows = await self.log.newest(what, view, newest, deadline)
            except MissingError:
                if await self._is_there(what, session_id, view.head.incarnation, deadline):
                    raise
                continue
            return Loaded(view.head, rows, self.port.clock.now())

    async def entries(self, session_id: str, incarnation: str, span: Span, deadline: Deadline) -> list[CommitRow]:
        what = "Reading a session's log"
        if span.key is not None:
            return await self._of_key(what, session_id, incarnation, span, deadline)
        view = await self.log.look(what, layout.digest(session_id), deadline)
        if view is None or not view.is_of(incarnation):
            return []
        try:
            return await self.log.span(what, view, span, deadline)
        except MissingError:
            if await self._is_there(what, session_id, incarnation, deadline):
                raise
            return []

    async def _of_key(
        self, what: str, session_id: str, incarnation: str, span: Span, deadline: Deadline
    ) -> list[CommitRow]:
        try:
            return await self.log.of_key(what, session_id, incarnation, span, deadline)
        except MissingError:
            if await self._is_there(what, session_id, incarnation, deadline):
                raise
            return []

    async def _gather(self, work: Iterable[Callable[[], Coroutine[Any, Any, T]]]) -> list[T]:
        """At the same time."""
        return await self.port.gather(work)

    async def rewrite(
        self, session_id: str, incarnation: str, commits: Sequence[CommitRow], deadline: Deadline
    ) -> bool:
        return await rewrite(self.log, session_id, incarnation, commits, deadline)

    async def _is_there(self, what: str, session_id: str, incarnation: str, deadline: Deadline) -> bool:
        view = await self.log.checkpoint(what, layout.digest(session_id), deadline)
        return view is not None and view.is_of(incarnation)

    async def append(self, write: Append, deadline: Deadline) -> bool:
        what = "Appending to a session"
        if write.expected > 0:
            return await self.log.append(what, write, deadline)
        return await self._create(what, write, deadline)

    async def _create(self, what: str, write: Append, deadline: Deadline) -> bool:
        """The first checkpoint is the claim of the first commits."""
        now = self.port.clock.now()
        places = lists.places(write.head, (), now)
        revision = write.head.revision
        first = Checkpoint(write.head, list(write.commits), [], now, places, covered=revision, covered_at=now)
        where = layout.folder(write.session_id, write.incarnation)
        await self.log.write_keys(what, where, write.commits, deadline)
        checkpoint = await self.log.write_before(what, first, places, deadline, None)
        if checkpoint is None:
            return False
        name, data = layout.head_name(layout.digest(write.session_id)), layout.encode_checkpoint(checkpoint)
        if await self.port.create(what, name, data, deadline):
            return True
        found = await self.port.get(what, name, deadline)
        if found is None:
            return False
        if found.data:
            there = layout.decode_checkpoint(found.data, name)
            if not there.removing:
                return False
            # Whoever was removing it has not reached the end.
            await self._clear_folder(what, layout.folder(there.head.session_id, there.head.incarnation), deadline)
            await self.port.delete(what, sorted(there.places - places), deadline)
        return await self.port.replace(what, name, data, found.version, deadline)

    # ------------------------------------------------------------ removing

    async def delete(self, session_id: str, incarnation: str, deadline: Deadline) -> None:
        """First the head says that the session is being removed, which no later append overlooks; then all goes.

        Not the head itself: a store that cannot delete on a condition might delete that of a session made since. It is
        left empty.
        """
        what = "Deleting a session"
        name = layout.head_name(layout.digest(session_id))
        folder = layout.folder(session_id, incarnation)
        places: frozenset[str] = frozenset()
        while True:
            view = await self.log.checkpoint(what, layout.digest(session_id), deadline)
            if view is None or view.checkpoint.head.incarnation != incarnation:
                break
            checkpoint, data = view.checkpoint, b""
            if checkpoint.removing:
                await self._clear_folder(what, folder, deadline)
                places = checkpoint.places
            else:
                data = layout.encode_checkpoint(checkpoint._replace(rows=[], removing=True))
            await self.port.replace(what, name, data, view.version, deadline)
            deadline.check(what, written="unknown")
        await self.port.delete(what, sorted(places), deadline)  # last: by them sweeping finds what is half removed
        await self._clear_folder(what, folder, deadline)  # what others wrote meanwhile, before they saw that

    async def discard(self, session_id: str, deadline: Deadline) -> bool:
        """All objects of that id, whatever they hold; the head is left empty, last, unless it has become another."""
        what, session = "Deleting a session", layout.digest(session_id)
        name = layout.head_name(session)
        found = await self.port.get(what, name, deadline)
        if found is None or not found.data:
            return False
        await self._clear_folder(what, layout.folder_of_all(session), deadline)
        return await self.port.replace(what, name, b"", found.version, deadline)

    async def _clear_folder(self, what: str, folder: str, deadline: Deadline) -> None:
        while listed := await self.port.list(what, folder, deadline):
            await self.port.delete(what, [each.name for each in listed], deadline)

    # ------------------------------------------------------------ records

    async def get_record(self, session_id: str, incarnation: str, key: str, deadline: Deadline) -> bytes | None:
        return await self.records.get(session_id, incarnation, key, deadline)

    async def put_record(
        self, session_id: str, incarnation: str, key: str, value: bytes | None, deadline: Deadline
    ) -> bool:
        if value is None:
            await self.records.remove(session_id, incarnation, key, deadline)
            return True
        name = await self.records.put(session_id, incarnation, key, value, deadline)
        what = "Writing a record"
        try:
            if await self._is_there(what, session_id, incarnation, deadline):
                return True
            await self.port.delete(what, [name], deadline)
        except StorageError as error:
            error.written = "unknown"
            raise
        return False

    async def record_keys(
        self, session_id: str, incarnation: str, prefix: str, deadline: Deadline, *, after: str = "", limit: int = 500
    ) -> list[str]:
        keys = await self.records.keys(session_id, incarnation, prefix, after, limit, deadline)
        if not await self.records.old_names(session_id, incarnation, deadline):
            return keys
        what = "Reading the keys of records"
        view = await self.log.look(what, layout.digest(session_id), deadline)
        if view is None or not view.is_of(incarnation):
            return []
        rows = await self.log.span(what, view, Span(limit=view.head.revision), deadline)
        old = await self.records.old_keys(session_id, incarnation, rows, deadline)
        return sorted({key for key in old if key.startswith(prefix) and key > after}.union(keys))[:limit]

    # ------------------------------------------------------------ lists

    async def list(self, query: ListQuery, deadline: Deadline) -> Listing:
        """Places in lists may lag behind the heads; what they bring is looked up, so that only true rows are listed."""
        unreadable: dict[str, StorageError] = {}
        found = await self._find("Listing sessions", query, query.limit, unreadable, deadline)
        rows = sorted(found, key=lambda head: place_of(head, query), reverse=not query.ascending)
        return listing(rows[: query.limit], query, unreadable)

    async def count(self, query: ListQuery, deadline: Deadline) -> int:
        query = replace(query, after=None, ascending=False)
        return len(await self._find("Counting sessions", query, None, {}, deadline))

    async def _find(
        self, what: str, query: ListQuery, limit: int | None, unreadable: dict[str, StorageError], deadline: Deadline
    ) -> Collection[HeadRow]:
        """Heads that match: all that can be among the first `limit`, or all there are."""
        found: dict[str, HeadRow] = {}
        walk = lists.Walk(partial(self.port.list, what), query)
        while places := await walk.take(HEADS_AT_ONCE, deadline):
            looks = (partial(self._head_at, what, place, query, unreadable, deadline) for place in places)
            for head in await self.port.gather(looks):
                if head is not None and matches(head, query) and follows(head, query):
                    found[head.session_id] = head
            if limit is not None and walk.has_passed(found.values(), limit):
                break
        for name in walk.strays:
            unreadable[name] = CorruptDataError(f"The object {name} is no place of a session.", hint="Remove it.")
        for error in unreadable.values():
            logger.warning("%s", error)
        return found.values()

    async def _head_at(
        self, what: str, place: Listed, query: ListQuery, unreadable: dict[str, StorageError], deadline: Deadline
    ) -> HeadRow | None:
        """The head of the session that a place stands for; a place that is wrong is put right.

        A session that cannot be read is noted under the name of its checkpoint, which is all that is known of it.
        """
        _, session = layout.place_of_name(place.name)
        try:
            view = await self.log.look(what, session, deadline)
        except (CorruptDataError, NewerVersionError) as error:
            unreadable[layout.head_name(session)] = error
            return None
        with suppress(StorageError):  # whoever may only read can list, and somebody else puts it right
            await self._put_right(what, place, view, query, deadline)
        return None if view is None or view.checkpoint.removing else view.head

    async def _put_right(
        self, what: str, place: Listed, view: View | None, query: ListQuery, deadline: Deadline
    ) -> None:
        now = self.port.clock.now()
        if view is None or place.name not in view.checkpoint.places:
            if now - place.time > UNKNOWN_FOR:
                await self.port.delete(what, [place.name], deadline)
        elif view.checkpoint.removing:
            if query.hidden is not False:  # somebody is sweeping
                await self.delete(view.head.session_id, view.head.incarnation, deadline)
        elif lists.places(view.head, view.checkpoint.places, now) != view.checkpoint.places:
            if view.tail:
                self.stats.count("catch_ups")
                logger.info("The checkpoint of session %r is rolled forward.", view.head.session_id)
            await self.log.renew(view, deadline, always=True)

    # ------------------------------------------------------------ life

    async def pause(self, seconds: float) -> None:
        await self.port.pause(seconds)

    async def close(self) -> None:
        await self.port.close()

    def after_fork(self) -> None:
        self.port.after_fork()
