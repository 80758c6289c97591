"""The lists of sessions: sorted sets, kept right by whoever writes, and mended by whoever reads.

On one server a commit's script changes them together with the session, so they are exact. On a cluster they lie on
other slots: a session is entered in all of its lists before it is made, entered again after each commit, and nothing
but a look at its head takes it out. A score there is never lowered by a writer, so entries may be old. After a crash
one may be missing among those of what is running or hidden, until any other list meets the session.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from ...errors import CorruptDataError, StorageError
from ...records import MICROSECOND
from ...storage.driver import Deadline, HeadRow
from .keys import FIELDS, Keys, head_row, place_of, place_text
from .ports import Call, Command, Port
from .scripts import DELETE, MEND

FRESH = 600 * MICROSECOND
"""For so long an entry without a session is taken for one whose session is being made, on a cluster; microseconds."""


class Entry(NamedTuple):
    """An entry of a sorted set; `text` is its score as the server writes it."""

    member: str
    score: int
    text: bytes


class Index:
    """The lists of one storage."""

    def __init__(self, port: Port, keys: Keys) -> None:
        self._port = port
        self._keys = keys

    def together(self, head: HeadRow) -> Call:
        """The keys and arguments with which a commit's script changes the lists; none on a cluster."""
        if not self._port.one_server:
            return [], []
        scores = self._keys.scores(head)
        texts = [b"" if score is None else str(score).encode() for score in scores.values()]
        return [self._keys.places, *scores], [place_text(head.owner, head.user_id), *texts]

    async def enter(self, heads: Sequence[HeadRow], deadline: Deadline) -> None:
        """Enter sessions in their lists, on a cluster."""
        commands: list[Command] = []
        for head in heads:
            member = head.session_id.encode()
            for key, score in self._keys.scores(head).items():
                if score is not None:
                    commands.append((b"ZADD", key, b"GT", str(score).encode(), member))
            place = place_text(head.owner, head.user_id)
            if place:
                commands.append((b"HSET", self._keys.places, member, place))
        await self._port.send("Entering a session in lists", commands, deadline, writes=True)

    async def heads(
        self, session_ids: Sequence[str], deadline: Deadline, names: Sequence[bytes] = FIELDS
    ) -> list[HeadRow | None]:
        """The heads of sessions, None for those that are not there."""
        commands = [(b"HMGET", self._keys.session(session_id).head, *names) for session_id in session_ids]
        answers = await self._port.send("Reading heads of sessions", commands, deadline)
        return [head_row(answer) for answer in answers]

    async def mend(
        self, key: bytes, wrong: Sequence[tuple[Entry, HeadRow]], gone: Sequence[Entry], deadline: Deadline
    ) -> None:
        """Correct the entries of one list that a look at the heads has shown to be wrong.

        Of no consequence if it fails: whoever meets them next tries again.
        """
        calls: list[Call] = []
        for entry, head in wrong:
            score = self._keys.scores(head).get(key)
            keys = [key, self._keys.session(entry.member).head] if self._port.one_server else [key]
            texts = [entry.member, "" if score is None else str(score), head.incarnation, str(head.revision)]
            member, *others = (text.encode() for text in texts)
            calls.append((keys, [member, entry.text, *others]))
        if not self._port.one_server:
            before = time.time_ns() // 1000 - FRESH
            gone = [entry for entry in gone if entry.score < before]
        try:
            await self._port.run("Mending a list", MEND, calls, deadline, writes=True)
            if not self._port.one_server:  # what kept this list from being refreshed kept all others, too
                await self.enter([head for _, head in wrong], deadline)
            await self.forget([entry.member for entry in gone], deadline)
        except StorageError:
            return

    async def forget(self, session_ids: Sequence[str], deadline: Deadline) -> None:
        """Take sessions that are gone out of all lists, unless they are made again meanwhile."""
        if not session_ids:
            return
        members = [session_id.encode() for session_id in session_ids]
        command = (b"HMGET", self._keys.places, *members)
        (texts,) = await self._port.send("Mending lists", [command], deadline)
        lists = [self._keys.listing(*_place(text)) for text in texts]
        if self._port.one_server:
            calls: list[Call] = [
                ([*self._keys.session(session_id), self._keys.places, *keys], [member, b""])
                for session_id, member, keys in zip(session_ids, members, lists, strict=True)
            ]
            await self._port.run("Mending lists", DELETE, calls, deadline, writes=True)
            return
        removals: list[Command] = [
            (b"ZREM", key, member) for member, keys in zip(members, lists, strict=True) for key in keys
        ]
        removals += [(b"HDEL", self._keys.places, member) for member in members]
        await self._port.send("Mending lists", removals, deadline, writes=True)
        # Whoever made one of them again before this look finds it entered; whoever does after it enters it himself.
        again = [head for head in await self.heads(session_ids, deadline) if head is not None]
        await self.enter(again, deadline)


def _place(text: bytes | None) -> tuple[str | None, str | None]:
    try:
        return place_of(text)
    except ValueError as error:
        raise CorruptDataError("The hash of places has an entry that is none.") from error
