"""What is remembered about a user: facts that outlive sessions, each with the run that it comes from.

The memories of a user are the state of a session of their own, which is hidden as scopes are (`scopes.py`): one
read brings all of them, writers merge, and what is done with sessions (encryption, archives, holding, deletion of a
user) is done with them. What is forgotten is taken out of the state first, and then out of the log.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from ..errors import InvalidInputError, MemoryNotFoundError, SessionNotFoundError
from ..records import ANY_USER, Duration, Entry, Session, UserId
from ..times import datetime_of
from ..tokens import ranked
from .absence import check_free
from .checks import check_count, ttl_micros
from .computing import compute
from .core import Core, Draft, Snapshot
from .driver import Span
from .encoding import plain_json
from .filters import page_query
from .ids import check_id, check_optional_id
from .lists import sessions
from .nearness import Near
from .redacting import redacted_value
from .rewriting import rewrite_commits
from .scopes import MEMORIES, MEMORY, ScopeName, look_at, made, shared
from .vocabulary import MemoryForgotten, MemoryWritten
from .writes import delete as delete_session

LONGEST = 2_000
"""How many characters a memory has at most."""

MOST_TOPICS, LONGEST_TOPIC = 10, 100
"""How many topics a memory has at most, and how many characters each."""

_ID_BYTES = 4


@dataclass(slots=True, frozen=True)
class UserMemory:
    """One fact about a user.

    Attributes:
        memory_id: its id, which is unique among the user's.
        memory: the fact, in words.
        topics: what it is about.
        user_id: whose it is.
        session_id, run_id, agent: the run that it comes from; None where code has written it.
        created_us, updated_us: when it was written first, and last (or heard again); microseconds UTC.
        expires_us: when it is forgotten by itself; None: never.
    """

    memory_id: str
    memory: str
    topics: tuple[str, ...] = ()
    user_id: str | None = None
    session_id: str | None = None
    run_id: str | None = None
    agent: str | None = None
    created_us: int = 0
    updated_us: int = 0
    expires_us: int | None = None

    @property
    def created_at(self) -> datetime:
        """When it was written first."""
        return datetime_of(self.created_us)

    @property
    def updated_at(self) -> datetime:
        """When it was written last, or heard again."""
        return datetime_of(self.updated_us)

    @property
    def expires_at(self) -> datetime | None:
        """When it is forgotten by itself."""
        return None if self.expires_us is None else datetime_of(self.expires_us)


@dataclass(slots=True, frozen=True)
class Source:
    """The run that memories come from; and of a run in progress the incarnation of its session, which must be there."""

    session_id: str | None = None
    run_id: str | None = None
    agent: str | None = None
    incarnation: str | None = None


@dataclass(slots=True, frozen=True)
class MemoryChange:
    """What is to be done with one memory.

    Attributes:
        memory_id: which one; None: a new one. One that says the same as a memory that is there renews that.
        memory, topics: what it says from now on; None: as before.
        ttl: for how many microseconds from now on; None: for ever; `"as before"`.
        forget: whether it is to be forgotten.
    """

    memory_id: str | None = None
    memory: str | None = None
    topics: tuple[str, ...] | None = None
    ttl: int | Literal["as before"] | None = "as before"
    forget: bool = False


def change_of(
    memory_id: Any = None, memory: Any = None, topics: Any = None, ttl: Duration | Literal["as before"] | None = None
) -> MemoryChange:
    """What a caller has given, checked: a text that is none, or too long, is an `InvalidInputError`."""
    check_optional_id(memory_id, "memory_id")
    if memory is not None or memory_id is None:
        memory = _checked_text(memory, "memory", LONGEST)
    if topics is not None:
        if isinstance(topics, str) or not isinstance(topics, Sequence) or len(topics) > MOST_TOPICS:  # pyright: ignore[reportUnknownArgumentType]
            raise InvalidInputError(f"topics must be a list of at most {MOST_TOPICS} texts.")
        topics = tuple(dict.fromkeys(_checked_text(one, "a topic", LONGEST_TOPIC) for one in topics))  # pyright: ignore[reportUnknownVariableType]
    lives: int | Literal["as before"] | None = "as before" if isinstance(ttl, str) else ttl_micros(ttl)
    return MemoryChange(memory_id, memory, topics, lives)


def _checked_text(text: Any, what: str, longest: int) -> str:
    if not isinstance(text, str) or not text.strip():
        raise InvalidInputError(f"{what} must be a text that says something.")
    if len(text) > longest:
        raise InvalidInputError(f"{what} has {len(text):,} characters; the limit is {longest:,}.")
    return plain_json(text.strip(), what)


def whose(core: Core, user_id: UserId) -> ScopeName:
    """The place of a user's memories; nobody's, and everybody's, there are none."""
    if user_id is ANY_USER:
        raise InvalidInputError("Memories are one user's: name the user.")
    named = core.check_user(user_id)
    if not isinstance(named, str):
        raise InvalidInputError("Memories are a user's.", hint="Pass user_id=.")
    return ScopeName(MEMORY, named)


def _of(memory_id: str, value: Any, user_id: str | None) -> UserMemory:
    said = MemoryWritten.of({"id": memory_id, **value})
    return UserMemory(
        memory_id,
        said.memory,
        tuple(said.topics or ()),
        user_id,
        said.session_id,
        said.run_id,
        said.agent,
        said.created_at,
        said.updated_at,
        said.expires_at,
    )


def _in(head: Session | None, now: int) -> list[UserMemory]:
    """The memories of a head that are not forgotten by now, the one that was written last first."""
    if head is None:
        return []
    found = [_of(memory_id, value, head.user_id) for memory_id, value in head.state.items()]
    alive = [one for one in found if one.expires_us is None or one.expires_us > now]
    return sorted(alive, key=lambda one: (-one.updated_us, one.memory_id))


# ---------------------------------------------------------------- reading


async def all_of(core: Core, user_id: UserId, topic: str | None = None) -> list[UserMemory]:
    """See `Memories.all`."""
    snapshot = await look_at(shared(core), whose(core, user_id), core.deadline())
    return [one for one in _in(snapshot.head, snapshot.now) if topic is None or topic in one.topics]


async def of_everybody(core: Core, limit: int) -> list[UserMemory]:
    """The memories of all users, or of the one whom the storage serves; those of who was written about last first."""
    check_count(limit, "limit", least=1)
    found: list[UserMemory] = []
    cursor: str | None = None
    while len(found) < limit:
        query = page_query(core.user or ANY_USER, 100, cursor, {"kind": MEMORIES}, with_state=True)
        page = await sessions(shared(core), replace(query, hidden=True))
        now = core.clock.now()
        found += [memory for head in page for memory in _in(head, now)]
        cursor = page.next_cursor
        if cursor is None:
            break
    return found[:limit]


async def get(core: Core, user_id: UserId, memory_id: str) -> UserMemory | None:
    """See `Memories.get`."""
    check_id(memory_id, "memory_id")
    return next((one for one in await all_of(core, user_id) if one.memory_id == memory_id), None)


async def search(core: Core, user_id: UserId, query: str, limit: int, topic: str | None = None) -> list[UserMemory]:
    """See `Memories.search`."""
    check_count(limit, "limit", least=1)
    found = await all_of(core, user_id, topic)
    return await compute(core.driver, lambda: by_words(found, query)[:limit], [one.memory for one in found])


def by_words(memories: Sequence[UserMemory], query: str) -> list[UserMemory]:
    """Those that have words of a text: more, and rarer ones, first; of equals the one that was written last."""
    return [memories[place] for place in ranked([" ".join([one.memory, *one.topics]) for one in memories], query)]


def by_meaning(near: Near, memories: Sequence[UserMemory], query: str) -> list[UserMemory]:
    """All of them, the nearest to a text first. Blocks for as long as the caller's function takes."""
    return [memories[place] for place in near.ranked([one.memory for one in memories], query)]


# ---------------------------------------------------------------- writing


@dataclass(slots=True)
class _Work:
    """What changes of memories give, on the head as it is."""

    user_id: str | None
    now: int
    source: Source
    left: dict[str, UserMemory]
    written: dict[str, UserMemory] = field(default_factory=dict[str, UserMemory])
    results: list[UserMemory | None] = field(default_factory=list["UserMemory | None"])

    def do(self, change: MemoryChange) -> None:
        """Do one change; of a memory that is not there comes None."""
        known = self.left.get(change.memory_id or "")
        if change.memory_id is None:
            known = self._same(change.memory or "")
        elif known is None:
            self.results.append(None)
            return
        if change.forget:
            self.results.append(self.left.pop(change.memory_id or ""))
            return
        self.results.append(self._put(known or UserMemory(self._new_id(), "", (), self.user_id), change))

    def _put(self, was: UserMemory, change: MemoryChange) -> UserMemory:
        new = not was.memory
        until = was.expires_us
        if change.ttl != "as before":
            until = None if change.ttl is None else self.now + change.ttl
        made = replace(
            was,
            memory=was.memory if change.memory is None else change.memory,
            topics=was.topics if change.topics is None else change.topics,
            session_id=self.source.session_id if self.source.run_id or new else was.session_id,
            run_id=self.source.run_id if self.source.run_id or new else was.run_id,
            agent=self.source.agent if self.source.run_id or new else was.agent,
            created_us=self.now if new else was.created_us,
            updated_us=self.now,
            expires_us=until,
        )
        self.left[made.memory_id] = self.written[made.memory_id] = made
        return made

    def _same(self, memory: str) -> UserMemory | None:
        wanted = _plain(memory)
        return next((one for one in self.left.values() if _plain(one.memory) == wanted), None)

    def _new_id(self) -> str:
        while (made := secrets.token_hex(_ID_BYTES)) in self.left:
            continue
        return made


def _plain(text: str) -> str:
    """A text as it is compared with others: case, blanks and the signs around it make no difference."""
    return re.sub(r"\s+", " ", text).strip(" .!;,").casefold()


async def change(
    core: Core,
    user_id: UserId,
    changes: Sequence[MemoryChange],
    source: Source | None = None,
    *,
    once: str | None = None,
) -> list[UserMemory | None]:
    """Do all changes in one commit; what each has given, and None for one whose memory is not there.

    With `once`, a name, they are done once, however often this is called: then there are no results.
    """
    scope, reach = whose(core, user_id), shared(core)
    deadline = core.deadline()
    key = None if once is None else f"memory:{hashlib.sha256(once.encode()).hexdigest()[:32]}"
    redacted = [replace(one, memory=redacted_value(core.settings.redact, one.memory)) for one in changes]
    done: list[_Work] = []
    gone: list[str] = []
    first: list[bool] = []

    async def draft(snapshot: Snapshot) -> Draft | None:
        done.clear()
        gone.clear()
        if key is not None and snapshot.head is not None and await reach.find(snapshot.head, key, deadline, limit=1):
            return None
        now = reach.clock.now()
        left = {one.memory_id: one for one in _in(snapshot.head, now)}
        work = _Work(scope.user_id, now, source or Source(), left)
        done.append(work)
        for one, said in zip(redacted, changes, strict=True):
            work.do(one)
            if said.forget and snapshot.head is not None:
                check_free(snapshot.head)
        before = {} if snapshot.head is None else snapshot.head.state
        gone.extend(sorted(before.keys() - left.keys()) if snapshot.head and snapshot.head.hold is None else ())
        if not work.written and not gone:
            return None
        if work.written:
            await _check_there(core, work.source)
        first[:] = [snapshot.head is None]
        _, entries = made(reach, scope, snapshot.head)
        written = [_word(one).entry() for one in work.written.values() if one.memory_id in left]
        forgotten = [MemoryForgotten(ids=gone).entry()] if gone else []
        return Draft([*entries, *written, *forgotten], key=key, free=not written)

    committed = await reach.commit(scope.stored_id, scope.user_id, draft, deadline)
    if committed is not None and gone:
        await _erase_forgotten(reach, committed.head)
    if committed is not None and first == [True]:
        try:
            await _check_there(core, done[-1].source)
        except SessionNotFoundError:  # all of the user's was deleted at this moment
            await delete_session(reach, scope.stored_id, user_id=ANY_USER)
            raise
    return done[-1].results if done else []


async def _check_there(core: Core, source: Source) -> None:
    """Raise `SessionNotFoundError` if the session of a run in progress was deleted: its user may want all forgotten."""
    if source.incarnation is None or source.session_id is None:
        return
    found = (await core.look(source.session_id, core.deadline())).found  # one that has expired meanwhile goes on
    if found is None or found.hidden is not None or found.incarnation != source.incarnation:
        raise SessionNotFoundError(f"Session {source.session_id!r} was deleted while a run of it was in progress.")


def _word(memory: UserMemory) -> MemoryWritten:
    return MemoryWritten(
        id=memory.memory_id,
        memory=memory.memory,
        topics=list(memory.topics) or None,
        created_at=memory.created_us,
        updated_at=memory.updated_us,
        expires_at=memory.expires_us,
        session_id=memory.session_id,
        run_id=memory.run_id,
        agent=memory.agent,
    )


async def _erase_forgotten(core: Core, head: Session) -> None:
    """Take the texts of what is forgotten out of the log, also those that a crash has left there before."""
    if not core.driver.capabilities.rewrites:
        return

    def without(place: int, entry: Entry) -> Entry:
        said = MemoryWritten.read(entry)
        if said is not None and said.id not in head.state:
            entry.data = said.forgotten
        return entry

    while True:
        await rewrite_commits(core, head, Span(), without)
        now = (await core.look(head.session_id, core.deadline())).head
        if now is None or now.incarnation != head.incarnation or not head.state.keys() - now.state.keys():
            return
        head = now  # who has forgotten more meanwhile may have been overwritten here


async def add(core: Core, user_id: UserId, given: MemoryChange, source: Source | None = None) -> UserMemory:
    """See `Memories.add`."""
    return _there((await change(core, user_id, [given], source))[0], given)


def _there(made: UserMemory | None, given: MemoryChange) -> UserMemory:
    if made is None:
        raise MemoryNotFoundError(f"There is no memory {given.memory_id!r} of this user.")
    return made


async def delete(core: Core, user_id: UserId, memory_id: str) -> bool:
    """See `Memories.delete`."""
    check_id(memory_id, "memory_id")
    return (await change(core, user_id, [MemoryChange(memory_id, forget=True)]))[0] is not None


async def clear(core: Core, user_id: UserId, session_id: str | None, run_id: str | None) -> int:
    """See `Memories.clear`."""
    for value, what in ((session_id, "session_id"), (run_id, "run_id")):
        check_optional_id(value, what)
    wanted = [
        one.memory_id
        for one in await all_of(core, user_id)
        if (session_id is None or one.session_id == session_id) and (run_id is None or one.run_id == run_id)
    ]
    done = await change(core, user_id, [MemoryChange(one, forget=True) for one in wanted]) if wanted else []
    return sum(one is not None for one in done)
