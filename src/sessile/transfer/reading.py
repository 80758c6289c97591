"""How sessions are read that are to stand elsewhere as they stand here: operations on the storage they come from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from ..errors import CorruptDataError, SessileError, SessionNotFoundError
from ..records import Session
from ..storage import Storage
from ..storage.bounded import rows_within
from ..storage.core import Core
from ..storage.driver import CommitRow, HeadRow, Listing, ListQuery, RecordName, Span
from ..storage.media import read_media
from ..storage.storage import operate

AT_ONCE = 4 * 1024 * 1024
"""About how many characters of a log are in memory at once, for each session that is on its way."""

COMMITS = 500
"""How many commits are read at a time at most."""

MEDIA = "media/"

PASSING = ("lease/", "cancel/")
"""What the keys of records begin with that belong to a running process, and mean nothing elsewhere."""


class Found(NamedTuple):
    """A session as it stands in a storage: its head, and whether it is one that is being deleted."""

    head: Session
    deleted: bool


@dataclass(frozen=True, slots=True)
class Record:
    """A value beside a log: of media the whole content, whatever parts it is stored in."""

    key: str
    value: bytes

    @property
    def digest(self) -> str | None:
        """The hash of a content; None if it is no media."""
        return self.key.removeprefix(MEDIA) if self.key.startswith(MEDIA) else None


async def list_sessions(core: Core, query: ListQuery) -> tuple[Listing, int]:
    """A page of sessions, and what time it was in the database before that (microseconds UTC)."""
    deadline = core.deadline()
    await core.prepare(deadline)
    await core.set_clock(deadline)
    now = core.clock.now()
    user_id = core.check_user(query.user_id)
    shown_at = None if query.hidden is None else now  # who asks for hidden ones moves those that have expired, too
    return await core.driver.list(replace(query, user_id=user_id, now=shown_at), deadline), now


def all_rows(storage: Storage, query: ListQuery, skipped: dict[str, SessileError]) -> Iterator[HeadRow]:
    """The heads of all sessions of a query, page by page; what cannot be read is put into `skipped`."""
    while True:
        page, _ = operate(storage, list_sessions, query)
        skipped.update(page.unreadable)
        yield from page.rows
        if page.after is None:
            return
        query = replace(query, after=page.after)


async def find(core: Core, session_id: str) -> Found | None:
    """The session of an id, also one that is in no list or has expired; None if there is none.

    Raises `NewerVersionError` and `CorruptDataError` for one that cannot be read.
    """
    snapshot = await core.look(session_id, core.deadline())
    if snapshot.found is not None:
        return Found(snapshot.found, snapshot.found.hidden == "deleted")
    return None


async def read_commits(core: Core, head: Session, first: int) -> list[CommitRow]:
    """The commits of a session from `first` to the head's revision: as many as may be in memory at once, one at least.

    Raises `SessionNotFoundError` if the session was deleted meanwhile, and `CorruptDataError` if its log ends before.
    """
    budget = min(AT_ONCE, core.settings.max_read_bytes)
    span = Span(first=first, last=head.revision, limit=COMMITS)
    rows, _ = await rows_within(core, head, span, budget, core.deadline())
    if not rows:
        now = await find(core, head.session_id)
        if now is None or now.deleted or now.head.incarnation != head.incarnation:
            raise SessionNotFoundError(f"Session {head.session_id!r} was deleted while it was being read.")
        raise CorruptDataError(
            f"The log of session {head.session_id!r} ends before commit {first}; its head counts {head.revision}."
        )
    return rows


async def record_names(core: Core, head: Session) -> list[str]:
    """The keys of the records that belong to a session wherever it stands; of media one each."""
    names: list[str] = []
    after = ""
    while True:
        keys = await core.driver.record_keys(head.session_id, head.incarnation, "", core.deadline(), after=after)
        if not keys:
            return names
        after = keys[-1]
        names += [key for key in keys if not key.startswith(PASSING) and not _is_part(key)]


def _is_part(key: str) -> bool:
    """Whether it is one of the parts in which a content is stored, as large as the database takes them."""
    return key.startswith(MEDIA) and "/" in key.removeprefix(MEDIA)


async def read_record(core: Core, head: Session, key: str) -> Record | None:
    """A record; None if it has gone meanwhile. Raises `CorruptDataError` for media that are damaged."""
    if key.startswith(MEDIA):
        return Record(key, await read_media(core, head, key.removeprefix(MEDIA), core.deadline()))
    name = RecordName(head.session_id, head.incarnation, key)
    value = await core.driver.get_record(*name, core.deadline())
    return None if value is None else Record(key, value)
