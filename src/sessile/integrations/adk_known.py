"""What a session service of Google ADK's knows of the sessions that it has read or appended to last.

None of it is believed without the session's revision: it spares reading what was read, and asking what is known.
"""

from __future__ import annotations

import pickle
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import SessileError
from ..storage.extending import Core, Entry, Message, Session, Snapshot, find_in, messages_added, newest_messages

MOST_KEYS = 8192
"""Of how many events of one session the keys are known; of longer ones the database is asked."""

MOST_SESSIONS = 256
MOST_BYTES = 32 * 1024 * 1024
"""How much of events is kept in memory, of all sessions; and how many sessions."""
LARGEST = 8 * 1024 * 1024
"""How much of one session, all of it or nothing."""


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
    """The newest events of a session at a revision, as this process has pickled them; `whole`: all of them."""

    revision: int
    whole: bool
    packed: tuple[bytes, ...]
    size: int


class KeptEvents:
    """The newest events of sessions, by their incarnations: who asks again reads only what has followed.

    Whoever asks has objects of their own. May be used by several threads.

    Args:
        made: makes events of a message.
    """

    def __init__(self, made: Callable[[Message], list[Any]]) -> None:
        self._made = made
        self._lock = threading.Lock()
        self._sessions: OrderedDict[str, _Kept] = OrderedDict()
        self._size = 0

    async def newest(self, core: Core, snapshot: Snapshot, count: int | None) -> list[Any]:
        """The newest `count` events of the snapshot's session, all if it is None, oldest first."""
        head = snapshot.head
        if head is None or count == 0:
            return []
        kept = self._sessions.get(head.incarnation)
        added = None if kept is None else messages_added(snapshot, kept.revision)
        if kept is not None and added is not None:
            if added:
                kept = self._followed(kept, head, added)
            if kept.whole or (count is not None and len(kept.packed) >= count):
                chosen = kept.packed if count is None else kept.packed[-count:]
                return [pickle.loads(one) for one in chosen]  # noqa: S301 (nothing that was stored anywhere)
        messages = await newest_messages(core, snapshot, count)
        events = self._events(messages)
        whole = count is None or len(messages) < count
        self._keep(head, _kept(head, events, whole=whole))
        return events if count is None else events[-count:]

    def appended(self, head: Session, entries: Sequence[Entry]) -> None:
        """Note what a commit has added after which this is the head; what cannot be read costs a look later."""
        kept = self._sessions.get(head.incarnation)
        if kept is None or kept.revision != head.revision - 1:
            return
        said = [
            Message(one.data, one.format, one.run or 0, one.run_id, one.agent, one.seq, one.time_us)
            for one in entries
            if one.kind == "message"
        ]
        try:
            self._followed(kept, head, said)
        except SessileError:
            self._keep(head, None)

    def _events(self, messages: Sequence[Message]) -> list[Any]:
        return [event for one in messages for event in self._made(one)]

    def _followed(self, kept: _Kept, head: Session, added: Sequence[Message]) -> _Kept:
        now = _kept(head, self._events(added), whole=kept.whole, before=kept)
        self._keep(head, now)
        return now

    def _keep(self, head: Session, kept: _Kept | None) -> None:
        """Keep this of a session; while runs of it are open nothing, because their messages come when they end."""
        with self._lock:
            before = self._sessions.pop(head.incarnation, None)
            self._size -= before.size if before is not None else 0
            if kept is not None and kept.size <= LARGEST and not head.open_runs:
                self._sessions[head.incarnation] = kept
                self._size += kept.size
            while self._size > MOST_BYTES or len(self._sessions) > MOST_SESSIONS:
                self._size -= self._sessions.popitem(last=False)[1].size


def _kept(head: Session, events: Sequence[Any], *, whole: bool, before: _Kept | None = None) -> _Kept:
    packed = tuple(pickle.dumps(one, 5) for one in events)
    size = sum(map(len, packed))
    if before is None:
        return _Kept(head.revision, whole, packed, size)
    return _Kept(head.revision, whole, (*before.packed, *packed), before.size + size)
