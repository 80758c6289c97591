"""From layout 1 to 2: what was an owner's list becomes an agent's, and sessions without a user get a list of their own.

Heads are left as they are: whoever reads one takes the field `owner` for `agent`, and the next commit writes it so.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ...errors import CorruptDataError
from ...storage.driver import Deadline
from .index import Entry
from .keys import Keys, place_of
from .listing import Source, Walk
from .ports import Command, Port

logger = logging.getLogger("sessile")

PAGE = 1000
"""How many entries are read and entered at once."""

LISTS = ("created", "updated")


class Moving:
    """Brings the lists of a database of layout 1 along, page by page, while others may do the same.

    Goes down the lists of all sessions, enters each in the lists that are new, and removes the owner's lists on the
    way. How far it has come is noted after each page, so that whoever comes after one that has ended goes on from
    there. What changes meanwhile goes to the top, and is entered there by its own commit. Nothing is missing at the
    end; an entry that was outdated by then is mended by the list that meets it, as always.
    """

    def __init__(self, port: Port, keys: Keys) -> None:
        self._port = port
        self._keys = keys

    async def move(self, deadline: Deadline) -> None:
        """Bring all along; ends by `DeadlineError` between two pages, and can be called again."""
        (found,) = await self._port.send("Moving lists", [(b"HMGET", self._keys.moving, *_names())], deadline)
        logger.info("Bringing the lists of %s to a new layout.", self._port.where)
        for name, begin in zip(LISTS, found, strict=True):
            walk = Walk(self._port, Source(self._keys.index(name), True), begin or b"+inf", b"-inf", PAGE)
            while not walk.over:
                deadline.check("Moving lists")
                await self._move_page(name, await walk.next(deadline), deadline)
        await self._port.send("Moving lists", [(b"UNLINK", self._keys.moving)], deadline, writes=True)

    async def _move_page(self, name: str, entries: Sequence[Entry], deadline: Deadline) -> None:
        if not entries:
            return
        command = (b"HMGET", self._keys.places, *(entry.raw for entry in entries))
        (texts,) = await self._port.send("Moving lists", [command], deadline)
        lists: dict[bytes, list[bytes]] = {}
        old: set[bytes] = set()
        for entry, text in zip(entries, texts, strict=True):
            agent, user_id = _place(text)
            if user_id is None:
                lists.setdefault(self._keys.index(name, "user"), []).extend((entry.text, entry.raw))
            if agent is not None:
                lists.setdefault(self._keys.index(name, "agent", agent), []).extend((entry.text, entry.raw))
                old.add(self._keys.index(name, "owner", agent))
        commands: list[Command] = [(b"ZADD", key, b"GT", *pairs) for key, pairs in lists.items()]
        await self._port.send("Moving lists", commands, deadline, writes=True)
        done = [(b"UNLINK", key) for key in old]
        commands = [*done, (b"HSET", self._keys.moving, name.encode(), entries[-1].text)]
        await self._port.send("Moving lists", commands, deadline, writes=True)


def _place(text: bytes | None) -> tuple[str | None, str | None]:
    """Agent and user; nobody where an entry is damaged, until a list that meets the session puts it right."""
    try:
        return place_of(text)
    except CorruptDataError:
        return None, None


def _names() -> list[bytes]:
    return [name.encode() for name in LISTS]
