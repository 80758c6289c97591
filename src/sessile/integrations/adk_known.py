"""What a session service of Google ADK's knows of the sessions that it has read or appended to last.

None of it is believed without the session's revision: it spares reading what was read, and asking what is known.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..storage.extending import Core, Entry, Message, Session, Snapshot, find_in, messages_added, newest_messages

MOST_KEYS = 8192
"""Of how many events of one session the keys are known; of longer ones the database is asked."""

MOST_SESSIONS = 256
MOST_KEPT = 32 * 1024 * 1024
"""How many characters of events are kept in memory, of all sessions; and how many sessions."""
LARGEST = 8 * 1024 * 1024
"""How many of one session, all of it or nothing."""


class Keys:
    """The keys of all commits of a session up to a revision, so that a new event need not be looked for.

    Only their hashes: what seems to be there is asked of the database.
    """

    def __init__(self) -> None:
        self._upto = 0
        self._hashes: set[int] = set()

    async def has(self, core: Core, snapshot: Snapshot, key: str) -> bool:
        """Whether a commit of the snapshot's session has this key."""
        head = snapshot.head
        assert head is not None, "the caller has looked"
        self._follow(snapshot)
        if self._upto >= head.revision and hash(key) not in self._hashes:
            return False
        return bool(await find_in(core, head, key, limit=1))

    def _follow(self, snapshot: Snapshot) -> None:
        """Take over what the snapshot's commits say, if none is missing in between."""
        new = [row for row in snapshot.rows if row.seq > self._upto]
        if new and new[0].seq == self._upto + 1 and len(self._hashes) < MOST_KEYS:
            self._hashes.update(hash(row.key) for row in new if row.key is not None)
            self._upto = new[-1].seq

    def took(self, key: str, revision: int) -> None:
        """Note the key of a commit, of which this is the revision."""
        if revision == self._upto + 1 and len(self._hashes) < MOST_KEYS:
            self._hashes.add(hash(key))
            self._upto = revision


@dataclass(frozen=True)
class _Kept:
    """The newest events of a session at a revision, as JSON; `whole`: all of them."""

    revision: int
    whole: bool
    texts: tuple[str, ...]
    size: int


class KeptEvents:
    """The newest events of sessions, by their incarnations: who asks again reads only what has followed.

    They are kept as JSON, so that whoever asks has objects of their own. May be used by several threads.

    Args:
        said: an event as JSON, for a message; None if that is none.
    """

    def __init__(self, said: Callable[[Message], Any]) -> None:
        self._said = said
        self._lock = threading.Lock()
        self._sessions: OrderedDict[str, _Kept] = OrderedDict()
        self._size = 0

    async def newest(self, core: Core, snapshot: Snapshot, count: int | None) -> Sequence[str]:
        """The newest `count` events of the snapshot's session, all if it is None, oldest first."""
        head = snapshot.head
        if head is None or count == 0:
            return ()
        kept = self._sessions.get(head.incarnation)
        added = None if kept is None else messages_added(snapshot, kept.revision)
        if kept is None or added is None or not (kept.whole or (count and len(kept.texts) + len(added) >= count)):
            messages = await newest_messages(core, snapshot, count)
            kept = self._keep(head, messages, whole=count is None or len(messages) < count)
        elif kept.revision < head.revision:
            kept = self._keep(head, added, whole=kept.whole, before=kept)
        return kept.texts if count is None else kept.texts[-count:]

    def appended(self, head: Session, entries: Sequence[Entry]) -> None:
        """Note what a commit has added after which this is the head."""
        kept = self._sessions.get(head.incarnation)
        if kept is None or kept.revision != head.revision - 1:
            return
        added = [
            Message(one.data, one.format, one.run or 0, one.run_id, one.agent, one.seq, one.time_us)
            for one in entries
            if one.kind == "message"
        ]
        self._keep(head, added, whole=kept.whole, before=kept)

    def _keep(self, head: Session, messages: Sequence[Message], *, whole: bool, before: _Kept | None = None) -> _Kept:
        """Keep the events of these messages, and those before; none while runs are open, whose messages come later."""
        said = [one for message in messages if (one := self._said(message)) is not None]
        texts = tuple(json.dumps(one) for one in said)
        size = sum(map(len, texts))
        if before is not None:
            texts, size = (*before.texts, *texts), before.size + size
        kept = _Kept(head.revision, whole, texts, size)
        with self._lock:
            replaced = self._sessions.pop(head.incarnation, None)
            self._size -= replaced.size if replaced is not None else 0
            if size <= LARGEST and not head.open_runs:
                self._sessions[head.incarnation] = kept
                self._size += size
            while self._size > MOST_KEPT or len(self._sessions) > MOST_SESSIONS:
                self._size -= self._sessions.popitem(last=False)[1].size
        return kept
