"""The driver behind `S3Storage` and `GcsStorage`, written once over a port that blocks or suspends.

`log.py` says how a session is kept, `layout.py` in which objects.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import ClassVar

from ...errors import ReadOnlyError, StorageError
from ...storage.driver import Append, Capabilities, CommitRow, Deadline, Driver, HeadRow, ListQuery, Loaded, Span
from ...storage.matching import matches, place_of
from . import layout, lists
from .layout import Checkpoint
from .log import Log, MissingError, View
from .ports import Listed, Port, Version

HEADS_AT_ONCE = 32
"""How many heads a list looks at before it asks whether it has enough."""

UNKNOWN_FOR = 3600 * 1_000_000
"""For how long a place is left alone that no session has, in microseconds: the session may be about to be made."""

NEVER = Version('"00000000000000000000000000000000"', "1")
"""A version that no object of ours has."""


class ObjectDriver(Driver):
    """The driver of object stores that have conditional writes."""

    name: ClassVar[str] = "objects"
    capabilities = Capabilities(exact_order=False, forks=False, commits_per_append=50, max_record_bytes=8 * 2**20)

    def __init__(self, port: Port) -> None:
        self.suspends = port.suspends
        self.port = port
        self.log = Log(port)

    # ------------------------------------------------------------ setting up

    async def setup(self, deadline: Deadline) -> None:
        """Find out whether the store keeps conditions: one that ignores them would lose writes."""
        what, content = "Setting up", b'{"format":1}\n'
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
            return Loaded(view.head, rows, time.time_ns() // 1000)

    async def entries(self, session_id: str, incarnation: str, span: Span, deadline: Deadline) -> list[CommitRow]:
        what = "Reading a session's log"
        view = await self.log.look(what, layout.digest(session_id), deadline)
        if view is None or not view.is_of(incarnation):
            return []
        try:
            return await self.log.span(what, view, span, deadline)
        except MissingError:
            if await self._is_there(what, session_id, incarnation, deadline):
                raise
            return []

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
        now = time.time_ns() // 1000
        places = lists.places(write.head, (), now)
        revision = write.head.revision
        checkpoint = Checkpoint(write.head, list(write.commits), [], now, places, covered=revision, covered_at=now)
        checkpoint = await self.log.write_before(what, checkpoint, places, deadline)
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
            # Whoever was removing it has not come to the end.
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

    async def _clear_folder(self, what: str, folder: str, deadline: Deadline) -> None:
        while listed := await self.port.list(what, folder, deadline):
            await self.port.delete(what, [each.name for each in listed], deadline)

    # ------------------------------------------------------------ records

    async def get_record(self, session_id: str, incarnation: str, key: str, deadline: Deadline) -> bytes | None:
        name = layout.record_name(layout.folder(session_id, incarnation), key)
        found = await self.port.get("Reading a record", name, deadline)
        return None if found is None else found.data

    async def put_record(
        self, session_id: str, incarnation: str, key: str, value: bytes | None, deadline: Deadline
    ) -> bool:
        what = "Writing a record"
        name = layout.record_name(layout.folder(session_id, incarnation), key)
        if value is None:
            await self.port.delete(what, [name], deadline)
            return True
        await self.port.put(what, name, value, deadline)
        try:
            if await self._is_there(what, session_id, incarnation, deadline):
                return True
            await self.port.delete(what, [name], deadline)
        except StorageError as error:
            error.written = "unknown"
            raise
        return False

    # ------------------------------------------------------------ lists

    async def list(self, query: ListQuery, deadline: Deadline) -> list[HeadRow]:
        """Places in lists may lag behind the heads; what they bring is looked up, so that only true rows are listed."""
        found = await self._find("Listing sessions", query, query.limit, deadline)
        return sorted(found, key=lambda head: place_of(head, query), reverse=True)[: query.limit]

    async def count(self, query: ListQuery, deadline: Deadline) -> int:
        return len(await self._find("Counting sessions", replace(query, after=None), None, deadline))

    async def _find(self, what: str, query: ListQuery, limit: int | None, deadline: Deadline) -> Collection[HeadRow]:
        """Heads that match: all that can be among the first `limit`, or all there are."""
        found: dict[str, HeadRow] = {}
        walk = lists.Walk(partial(self.port.list, what), query)
        while places := await walk.take(HEADS_AT_ONCE, deadline):
            looks = (partial(self._head_at, what, place, query, deadline) for place in places)
            for head in await self.port.gather(looks):
                if head is not None and matches(head, query) and _is_after(head, query):
                    found[head.session_id] = head
            if limit is not None and walk.has_passed(found.values(), limit):
                break
        return found.values()

    async def _head_at(self, what: str, place: Listed, query: ListQuery, deadline: Deadline) -> HeadRow | None:
        """The head of the session that a place stands for; a place that is wrong is put right."""
        _, session = layout.place_of_name(place.name)
        view = await self.log.look(what, session, deadline)
        with suppress(StorageError):  # whoever may only read can list, and somebody else puts it right
            await self._put_right(what, place, view, query, deadline)
        return None if view is None or view.checkpoint.removing else view.head

    async def _put_right(
        self, what: str, place: Listed, view: View | None, query: ListQuery, deadline: Deadline
    ) -> None:
        now = time.time_ns() // 1000
        if view is None or place.name not in view.checkpoint.places:
            if now - place.time > UNKNOWN_FOR:
                await self.port.delete(what, [place.name], deadline)
        elif view.checkpoint.removing:
            if query.hidden is not False:  # somebody is sweeping
                await self.delete(view.head.session_id, view.head.incarnation, deadline)
        elif lists.places(view.head, view.checkpoint.places, now) != view.checkpoint.places:
            await self.log.renew(view, deadline, always=True)

    # ------------------------------------------------------------ life

    async def pause(self, seconds: float) -> None:
        await self.port.pause(seconds)

    async def close(self) -> None:
        await self.port.close()

    def after_fork(self) -> None:
        self.port.after_fork()


def _is_after(head: HeadRow, query: ListQuery) -> bool:
    return query.after is None or place_of(head, query) < query.after
