"""The lists of sessions: sorted sets, kept right by whoever writes, and mended by whoever reads.

On one server a commit's script changes them together with the session, so they are exact. On a cluster they lie on
other slots: a session is entered in all of its lists before it is made, entered again after each commit, and nothing
but a look at its head takes it out. A score there is never lowered by a writer, so entries may be old. After a crash
one may be missing among those of what is running or hidden, until any other list meets the session.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from ...errors import CorruptDataError, StorageError
from ...records import MICROSECOND
from ...storage.driver import Deadline, HeadRow
from .keys import STORED, Keys, head_row, place_of, place_text
from .ports import Call, Command, Port
from .scripts import DELETE, MEND

Place = tuple[float, bytes]
"""Score and member of an entry."""

FRESH = 600 * MICROSECOND
"""For so long an entry without a session is taken for one whose session is being made, on a cluster; microseconds."""


class Entry(NamedTuple):
    """An entry of a sorted set; `text` is its score as the server writes it."""

    raw: bytes
    score: int
    text: bytes

    @property
    def member(self) -> str:
        """The session's id; bytes that are no text, as no id has them, are written so that they can be shown."""
        return self.raw.decode(errors="backslashreplace")

    @property
    def is_id(self) -> bool:
        """Whether the member may be the id of a session."""
        return self.member.encode() == self.raw

    @property
    def place(self) -> Place:
        """Where it stands. The server compares members byte by byte, which is the order of their code points."""
        return float(self.score), self.raw


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
        return [self._keys.places, *scores], [place_text(head.agent, head.user_id), *texts]

    async def enter(self, heads: Sequence[HeadRow], deadline: Deadline) -> None:
        """Enter sessions in their lists, on a cluster."""
        commands: list[Command] = []
        for head in heads:
            member = head.session_id.encode()
            for key, score in self._keys.scores(head).items():
                if score is not None:
                    commands.append((b"ZADD", key, b"GT", str(score).encode(), member))
            place = place_text(head.agent, head.user_id)
            if place:
                commands.append((b"HSET", self._keys.places, member, place))
        await self._port.send("Entering a session in lists", commands, deadline, writes=True)

    async def heads(
        self, session_ids: Sequence[str], deadline: Deadline, names: Sequence[bytes] = STORED
    ) -> list[HeadRow | CorruptDataError | None]:
        """The heads of sessions, None for those that are not there, and errors in place of those that are none."""
        commands = [(b"HMGET", self._keys.session(session_id).head, *names) for session_id in session_ids]
        answers = await self._port.send("Reading heads of sessions", commands, deadline, tolerant=True)
        return [_head(answer) for answer in answers]

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
            texts = ["" if score is None else str(score), head.incarnation, str(head.revision)]
            calls.append((keys, [entry.raw, entry.text, *(text.encode() for text in texts)]))
        if not self._port.one_server:
            before = time.time_ns() // 1000 - FRESH
            gone = [entry for entry in gone if entry.score < before]
        try:
            await self._port.run("Mending a list", MEND, calls, deadline, writes=True)
            if not self._port.one_server:  # what kept this list from being refreshed kept all others, too
                await self.enter([head for _, head in wrong], deadline)
            await self.forget([entry.member for entry in gone], deadline, key)
        except StorageError:
            return

    async def forget(self, session_ids: Sequence[str], deadline: Deadline, *met: bytes) -> None:
        """Take sessions that are gone out of all lists, and the one where they were met, unless they are made again."""
        if not session_ids:
            return
        members = [session_id.encode() for session_id in session_ids]
        command = (b"HMGET", self._keys.places, *members)
        (texts,) = await self._port.send("Mending lists", [command], deadline)
        lists = [list({*self._keys.listing(*place_of(text)), *met}) for text in texts]
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
        again = [head for head in await self.heads(session_ids, deadline) if isinstance(head, HeadRow)]
        await self.enter(again, deadline)


def _head(answer: Any) -> HeadRow | CorruptDataError | None:
    try:
        return answer if isinstance(answer, CorruptDataError) else head_row(answer)
    except CorruptDataError as error:
        return error
