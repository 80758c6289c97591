"""Records: an object for each, whose name has its key.

Before the first release the name had a hash of the key. Whether a session has such objects is found out, with one
request, when it is first asked for a record that is not there.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ...storage.driver import CommitRow, Deadline
from ...storage.forking import Lock
from ...storage.old_records import old_keys
from . import layout
from .ports import LIST_PAGE, Port

logger = logging.getLogger("sessile")

REMEMBERED = 1024
"""Of how many sessions it is remembered which old records they have."""


class Records:
    """The records of the sessions of a bucket. What belongs to no session any more is for the driver to see."""

    def __init__(self, port: Port) -> None:
        self.port = port
        self._lock = Lock()
        self._old: dict[str, frozenset[str]] = {}

    async def get(self, session_id: str, incarnation: str, key: str, deadline: Deadline) -> bytes | None:
        """`Driver.get_record`."""
        what, where = "Reading a record", layout.folder(session_id, incarnation)
        found = await self.port.get(what, layout.record_name(where, key), deadline)
        if found is None:
            old = layout.old_record_name(where, key)
            if old in await self.old_names(session_id, incarnation, deadline):
                found = await self.port.get(what, old, deadline)
        return None if found is None else found.data

    async def put(self, session_id: str, incarnation: str, key: str, value: bytes, deadline: Deadline) -> str:
        """Write a record; returns the name of its object."""
        name = layout.record_name(layout.folder(session_id, incarnation), key)
        await self.port.put("Writing a record", name, value, deadline)
        return name

    async def remove(self, session_id: str, incarnation: str, key: str, deadline: Deadline) -> None:
        """Remove a record, if it is there."""
        where = layout.folder(session_id, incarnation)
        names = [layout.record_name(where, key), layout.old_record_name(where, key)]
        await self.port.delete("Removing a record", names, deadline)

    async def keys(
        self, session_id: str, incarnation: str, prefix: str, after: str, limit: int, deadline: Deadline
    ) -> list[str]:
        """`Driver.record_keys`, of those records whose names tell their keys."""
        where = layout.folder(session_id, incarnation)
        keys: list[str] = []
        last = layout.record_start(where, prefix)
        if after >= prefix:
            last = layout.record_name(where, after)
        while len(keys) < limit:
            page = await self.port.list("Reading the keys of records", f"{where}/records", deadline, last)
            found = [key for each in page if (key := layout.key_of_record(each.name)) is not None]
            keys += [key for key in found if key.startswith(prefix) and key > after]
            if len(page) < LIST_PAGE or (found and not found[-1].startswith(prefix)):
                break
            last = page[-1].name
        return keys[:limit]

    async def old_names(self, session_id: str, incarnation: str, deadline: Deadline) -> frozenset[str]:
        """The names of a session's objects that do not tell their keys; no more of them are made."""
        where = layout.folder(session_id, incarnation)
        with self._lock:
            known = self._old.get(where)
        return await self._find_old(where, deadline) if known is None else known

    async def _find_old(self, where: str, deadline: Deadline) -> frozenset[str]:
        names: set[str] = set()
        last: str | None = None
        while True:
            page = await self.port.list("Looking for records", f"{where}/records", deadline, last)
            names.update(each.name for each in page if layout.key_of_record(each.name) is None)
            if len(page) < LIST_PAGE:
                break
            last = page[-1].name
        with self._lock:
            if len(self._old) >= REMEMBERED:
                self._old.clear()
            self._old[where] = frozenset(names)
        return frozenset(names)

    async def old_keys(
        self, session_id: str, incarnation: str, rows: Sequence[CommitRow], deadline: Deadline
    ) -> set[str]:
        """The keys of objects that do not tell them, by the log of their session."""
        where = layout.folder(session_id, incarnation)
        names = await self._find_old(where, deadline)
        last_run = max((row.run for row in rows), default=0)

        def is_there(key: str) -> bool:
            return layout.old_record_name(where, key) in names

        keys = set(old_keys(is_there, [row.body for row in rows], last_run))
        unknown = names - {layout.old_record_name(where, key) for key in keys}
        if unknown:
            logger.warning("The keys of %d records of session %r are not known.", len(unknown), session_id)
        return keys
