"""For authors of integrations, wrappers and indexes: all that they may use, in one place.

**The promise.** What is named in `__all__` here keeps its meaning, its arguments and its errors through all versions
with the same first number; arguments may be added, with defaults. What else is in `sessile.storage` may change with any
version. Nothing else is needed: a test of ours writes an integration with this module alone.

**An operation** is an `async def` whose first argument is a `Core`, and which awaits nothing but what is offered here
and what it is given by a driver. `operate(storage, operation, …)` runs it for synchronous callers, and
`await aoperate(storage, operation, …)` for asynchronous ones, over every database:

    async def star(core: Core, session_id: str, *, user_id: UserId = None) -> int:
        async def change(snapshot: Snapshot) -> Draft:
            head = reached(snapshot, session_id, user_id)
            return Draft([Entry("mylib.starred", {"by": head.user_id})], key="mylib:star")

        committed = await commit(core, session_id, change, user_id=user_id)
        return committed.head.revision

    operate(storage, star, "s1", user_id="ada")

**Rules.** Kinds of entries, keys and names of records begin with the name of the integration and a dot, colon or slash
(`mylib.starred`, `mylib:42`, `mylib/cursor`), so that nobody meets those of others; `run:` and `run#` are Sessile's.
Entries of kinds that Sessile does not know are kept, listed, copied and exported; they change neither head nor run, but
for being in `Run.steps` if they belong to one. A change is called again after each lost race: it looks at the snapshot
that it is given and writes nothing itself.

**Wrappers** subclass `WrappedDriver`. **Indexes** ask `changed` what to read, and `entries_between` for what is in it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from ..errors import InvalidInputError, SessionNotFoundError
from ..records import ANY_USER, Entry, Message, Run, Session, Usage, UserId
from .absence import check_free
from .amending import amend
from .bounded import rows_within
from .checks import check_count
from .core import Core
from .drafting import (
    messages_added,
    metadata_changed,
    newest_messages,
    renamed,
    rewound,
    run_added,
    run_amended,
    run_of,
    state_changed,
    ttl_changed,
)
from .driver import Capabilities, Deadline, Driver
from .ids import check_id
from .media import has_binary, keep_apart, put_back, read_media
from .readable import read_entries, rows_to_entries
from .rewriting import Erased, erase, rewrite_commits
from .rows import Append, CommitRow, HeadRow, Listing, ListQuery, Loaded, RecordName, Span
from .runs import build_runs
from .snapshots import Attempt, Change, Committed, Draft, Snapshot, owned, visible
from .storage import Storage, aoperate, operate, wrap
from .tailing import Changes, Tail, changed, tail
from .wrapping import READS, WRITES, WrappedDriver
from .writes import creation, existing_or_new

__all__ = [
    "ANY_USER",
    "READS",
    "WRITES",
    "Append",
    "Attempt",
    "Capabilities",
    "Change",
    "Changes",
    "CommitRow",
    "Committed",
    "Core",
    "Deadline",
    "Draft",
    "Driver",
    "Entry",
    "Erased",
    "HeadRow",
    "ListQuery",
    "Listing",
    "Loaded",
    "Message",
    "RecordName",
    "Run",
    "Session",
    "Snapshot",
    "Span",
    "Storage",
    "Tail",
    "Usage",
    "UserId",
    "WrappedDriver",
    "all_entries",
    "amend",
    "aoperate",
    "build_runs",
    "changed",
    "commit",
    "entries_between",
    "entries_of",
    "erase",
    "find",
    "find_in",
    "keep_media",
    "look",
    "messages_added",
    "metadata_changed",
    "newest_messages",
    "operate",
    "reached",
    "read_record",
    "read_records",
    "record_names",
    "renamed",
    "rewound",
    "rewrite",
    "run_added",
    "run_amended",
    "run_of",
    "started_session",
    "state_changed",
    "tail",
    "ttl_changed",
    "with_media",
    "wrap",
    "write_record",
]

RECORDS = "x/"
"""What the keys of records begin with that are not Sessile's own."""

Rewriting = Callable[[Entry], Entry | None]
"""Makes one entry anew: what it returns stands in its place, and None takes it out."""


async def look(core: Core, session_id: str, *, newest: int = 0, user_id: UserId = None) -> Snapshot:
    """The session as it is now, with its newest commits (`Snapshot.rows`, ascending), and the database's time.

    One round trip. `head` is None if there is no such session, or the user does not reach it.
    """
    user_id = core.check_access(session_id, user_id)
    check_count(newest, "newest", least=0)
    snapshot = await core.look(session_id, core.deadline(), newest=newest)
    if visible(snapshot.head, user_id) is None:
        return Snapshot(None, [], snapshot.now)
    return snapshot


def reached(snapshot: Snapshot, session_id: str, user_id: UserId = None) -> Session:
    """The snapshot's head; `SessionNotFoundError` if there is none, or the user does not reach it."""
    return owned(snapshot.head, session_id, user_id)


def started_session(
    core: Core, snapshot: Snapshot, session_id: str, *, user_id: UserId = None, **given: Any
) -> tuple[Session, list[Entry]]:
    """Within a change: the head to write on, and the entries that must come first, for sessions that may be new.

    There are none if the session is there, and one that makes it if it is not; `given` (`agent`, `kind`, `name`,
    `state`, `metadata`, `ttl`) is what it then begins with. Raises `SessionNotFoundError` if it is there and the user
    does not reach it.
    """
    user_id = core.check_access(session_id, user_id)
    created = creation(core, session_id, user_id=user_id, agent=given.pop("agent", None), **given)
    return existing_or_new(snapshot.head, session_id, user_id, created)


async def commit(
    core: Core,
    session_id: str,
    change: Callable[[Snapshot], Awaitable[Draft]],
    *,
    known: Snapshot | None = None,
    attempt: Attempt | None = None,
    user_id: UserId = None,
) -> Committed:
    """Append what `change` drafts, whole or not at all, exactly once, however many writers there are.

    `change` sees the session as it is, and is called again after each lost race; what it raises is raised. `known`,
    what was seen of the session before, spares a look. Whoever repeats a commit that failed with `written="unknown"`
    passes the same `attempt`, and it is not made twice. Raises `SessionNotFoundError` if the session is there and the
    user does not reach it.
    """
    user_id = core.check_access(session_id, user_id)
    committed = await core.commit(session_id, user_id, change, core.deadline(), known=known, attempt=attempt)
    assert committed is not None, "this change always drafts something"
    return committed


async def find(
    core: Core,
    session_id: str,
    key: str,
    *,
    after: int = 0,
    limit: int = 500,
    newest_first: bool = False,
    user_id: UserId = None,
) -> list[Entry]:
    """The entries of the commits with this key (`Draft.key`) after a revision, of at most `limit` commits.

    Two round trips, however long the session is. Entries stand in the order of the log, also with `newest_first`, which
    says which commits are chosen. Empty if there is no such session, or the user does not reach it.
    """
    user_id = core.check_access(session_id, user_id)
    check_id(key, "key")
    check_count(after, "after", least=0)
    check_count(limit, "limit", least=1)
    deadline = core.deadline()
    head = visible((await core.look(session_id, deadline)).head, user_id)
    if head is None:
        return []
    rows = await core.find(head, key, deadline, after=after, limit=limit, newest_first=newest_first)
    return await read_entries(core.driver, rows)


async def find_in(
    core: Core, session: Session, key: str, *, after: int = 0, limit: int = 500, newest_first: bool = False
) -> list[Entry]:
    """As `find`, for a session that is at hand, within a change for example: one round trip; empty if it is gone."""
    check_id(key, "key")
    check_count(after, "after", least=0)
    check_count(limit, "limit", least=1)
    rows = await core.find(session, key, core.deadline(), after=after, limit=limit, newest_first=newest_first)
    return await read_entries(core.driver, rows)


async def entries_between(
    core: Core, session: Session, first: int, last: int | None = None, *, limit: int = 500
) -> list[Entry]:
    """The entries of the commits `first <= seq <= last` of a session that a list or `changed` has given.

    At most `limit` commits, fewer where they are larger than the storage's `max_read_bytes`, one at least: go on behind
    the last entry's `seq`. Empty if the session is gone.
    """
    check_count(first, "first", least=1)
    check_count(limit, "limit", least=1)
    span = Span(first=first, last=last, limit=limit)
    await core.prepare(core.deadline())
    rows, _ = await rows_within(core, session, span, core.settings.max_read_bytes, core.deadline())
    return await read_entries(core.driver, rows)


async def all_entries(core: Core, session: Session, first: int = 1) -> list[Entry]:
    """The entries of all commits of a session from `first` up to its revision, in the order of the log.

    One round trip for 500 commits, or fewer that are large; all of them are in memory at once. Fewer if the session is
    gone meanwhile.
    """
    found: list[Entry] = []
    while first <= session.revision and (page := await entries_between(core, session, first, session.revision)):
        found += page
        first = page[-1].seq + 1
    return found


def entries_of(rows: Sequence[CommitRow]) -> list[Entry]:
    """The entries of commits, such as those of a snapshot, in the order of the log.

    Raises `CorruptDataError` and `NewerVersionError` for what cannot be read.
    """
    return rows_to_entries(rows)


# ---------------------------------------------------------------- records


async def read_record(core: Core, session: Session, name: str) -> bytes | None:
    """A small value that lies beside the session's log, under a name; None if there is none."""
    return await core.driver.get_record(session.session_id, session.incarnation, _record(name), core.deadline())


async def read_records(core: Core, session: Session, names: Sequence[str]) -> list[bytes | None]:
    """Several such values at once, in the order of their names: one round trip, or as few as the database needs."""
    wanted = [RecordName(session.session_id, session.incarnation, _record(name)) for name in names]
    return list(await core.driver.get_records(wanted, core.deadline())) if wanted else []


async def write_record(core: Core, session: Session, name: str, value: bytes | None) -> None:
    """Write such a value, or (None) remove it; the last write wins. It goes with its session, and changes no revision.

    Raises `InvalidInputError` if it is over the database's limit, `core.driver.capabilities.max_record_bytes`, and
    `SessionNotFoundError` if the session is gone.
    """
    most = core.driver.capabilities.max_record_bytes
    if value is not None and len(value) > most:
        raise InvalidInputError(f"The record {name!r} has {len(value):,} bytes; the limit is {most:,}.")
    where = (session.session_id, session.incarnation, _record(name))
    if not await core.driver.put_record(*where, value, core.deadline()):
        raise SessionNotFoundError(f"There is no session {session.session_id!r}.")


async def record_names(
    core: Core, session: Session, prefix: str = "", *, after: str = "", limit: int = 500
) -> list[str]:
    """The names of such values that begin with `prefix` and follow `after`, ascending; at most `limit`."""
    check_count(limit, "limit", least=1)
    where = (session.session_id, session.incarnation, f"{RECORDS}{prefix}")
    follow = f"{RECORDS}{after}" if after else ""
    keys = await core.driver.record_keys(*where, core.deadline(), after=follow, limit=limit)
    return [key.removeprefix(RECORDS) for key in keys]


def _record(name: str) -> str:
    return check_id(f"{RECORDS}{check_id(name, 'name')}", "name")


# ---------------------------------------------------------------- media


async def with_media(core: Core, session: Session, value: Any) -> Any:
    """The value, a stored message for example, with the contents of its binary parts as bytes in their place.

    Raises `CorruptDataError` if one is missing.
    """

    async def read(digest: str) -> bytes:
        return await read_media(core, session, digest, core.deadline())

    return await put_back(value, read) if has_binary(value) else value


async def keep_media(core: Core, session: Session | Callable[[], Awaitable[Session]], value: Any) -> Any:
    """Before a commit: the value with its large binary parts stored with the session, and references in their place.

    A part is `{"kind": "binary", "media_type": …, "data": <base64>}`, large is over `inline_media_bytes`; a content is
    stored once in a session, and goes with it. A session that may have to be made first is given as a function, which
    is called only where there is something to store. Called again after the commit, with the head that this gave, it
    writes what somebody has removed who erased something at that moment, and saw nobody name it. Raises `TooLargeError`
    if one is over `max_media_bytes`, and `SessionNotFoundError` if the session is gone.
    """

    async def there() -> Session:
        return session if isinstance(session, Session) else await session()

    return await keep_apart(core, value, there)


# ---------------------------------------------------------------- rewriting


async def rewrite(
    core: Core,
    session_id: str,
    rewriting: Rewriting,
    *,
    first: int = 1,
    last: int | None = None,
    user_id: UserId = None,
) -> int:
    """Replace entries that are in the log, in commits from `first` to `last`; returns how many commits were changed.

    For redaction and the like: what was there is gone. `rewriting` is given each entry, and may change and return it.
    What changes the head (patches, statuses, usage) has to stay as it is: afterwards `storage.verify` folds the log
    again and compares. Each commit changes whole or not at all; after an error some may have changed, and the call is
    repeated. Takes time in proportion to the range. `erase` does it for what may be erased of Sessile's own entries.

    Raises `HeldError`, `UnsupportedError` where the database cannot do it, and `SessionNotFoundError`, also if the
    session was deleted meanwhile.
    """
    user_id = core.check_access(session_id, user_id)
    check_count(first, "first", least=1)
    head = await core.head_of(session_id, user_id, core.deadline())
    check_free(head)
    return await rewrite_commits(core, head, Span(first, last), lambda _, entry: rewriting(entry))
