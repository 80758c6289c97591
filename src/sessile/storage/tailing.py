"""Reading from the end: the newest entries of one session, and what has changed in all of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import NamedTuple

from ..errors import SessileError
from ..records import ANY_USER, MICROSECOND, Entry, Session, UserId
from .bounded import NEWEST_AT_ONCE, missing_commits, rows_within
from .checks import LARGEST, check_count
from .clock import AHEAD
from .core import Core
from .driver import CommitRow, Listing, ListQuery, Span
from .ids import check_id
from .lists import decoded
from .matching import bytes_of
from .readable import read_readable
from .snapshots import visible

PAGE = 100
"""How many commits are read at a time."""

MOST = 1000
"""How many commits one call looks at, at most."""

MOST_CHANGES = 1000
"""The largest page of changes."""


class Tail(NamedTuple):
    """The newest entries of a session, newest first, and its head, both of one look.

    `before` is where the next older ones begin (`before=` of the next call), None at the beginning of the log.
    """

    head: Session
    entries: list[Entry]
    before: int | None


async def tail(
    core: Core,
    session_id: str,
    count: int = 20,
    *,
    kinds: Collection[str] = (),
    before: int | None = None,
    user_id: UserId = None,
) -> Tail | None:
    """The newest entries of a session, of all its branches, newest first; None if there is no such session.

    One round trip, if they are among the newest commits; it looks at no more than 1,000 commits. So there may be fewer
    than `count`, and even none, although `before` says that there are older ones. Commits that cannot be read are left
    out, and logged once.

    Args:
        count: how many; a commit is never split, so there may be a few more.
        kinds: only entries of these kinds; all if it is empty.
        before: only commits before this revision.
    """
    user_id = core.check_access(session_id, user_id)
    check_count(count, "count", least=1)
    for kind in kinds:
        check_id(kind, "a kind of kinds")
    if before is not None:
        check_count(before, "before", least=1)
    deadline = core.deadline()
    snapshot = await core.look(session_id, deadline, newest=min(count, NEWEST_AT_ONCE) if before is None else 0)
    head = visible(snapshot.head, user_id)
    if head is None:
        return None
    wanted = frozenset(kinds)
    rows = [row for row in snapshot.rows if before is None or row.seq < before]
    last = min(before or LARGEST, head.revision + 1) - 1 if not rows else rows[-1].seq
    found: list[Entry] = []
    looked, left = 0, core.settings.max_read_bytes - sum(bytes_of(row.body) for row in rows)
    while last > 0 and len(found) < count and looked < MOST and (rows or left > 0):
        if not rows:
            span = Span(last=last, limit=min(PAGE, MOST - looked), newest_first=True)
            newest, left = await rows_within(core, head, span, left, deadline)
            rows = newest[::-1]
        if not rows:  # it was deleted meanwhile
            for error in (await missing_commits(core, head, 1, [], last, deadline)).values():
                raise error
            return None
        while rows and len(found) < count:
            row = rows.pop()
            found += await _newest_first(core, session_id, row, wanted)
            last, looked = row.seq - 1, looked + 1
        rows = []
    return Tail(head, found, last + 1 if last > 0 else None)


async def _newest_first(core: Core, session_id: str, row: CommitRow, kinds: frozenset[str]) -> list[Entry]:
    read = await read_readable(core.driver, [row])
    for seq, (_, error) in read.unreadable.items():
        core.skipped(session_id, f"Commit {seq}", error)
    return [entry for entry in reversed(read.entries) if not kinds or entry.kind in kinds]


class Changes(NamedTuple):
    """Sessions that have changed, oldest change first, each as it is now.

    Sessions that are in no list are among them, and marked: `head.hidden` says whether one is being deleted
    (`deleted`), is a fork in the making (`building`) or a kept result (`cache`). Sessions that are gone are not:
    whoever keeps something about a session asks now and then whether it is still there.

    Attributes:
        sessions: the heads. A head's `revision` tells whether one has been seen before.
        unreadable: sessions that this version cannot read, and why, as in lists.
        after: where the next page begins, None if this was the last one.
        complete_until: microseconds UTC. When the last page has been read, all that has changed before that has been in
            these pages: the next round begins with `since=complete_until`, and meets a few changes again. It lies
            behind the newest change, because a commit gets its time a moment before others can see it: by the storage's
            `timeout`, which no other process's may exceed. Take that of the first page.
    """

    sessions: list[Session]
    unreadable: Mapping[str, SessileError]
    after: tuple[int, str] | None
    complete_until: int


async def changed(
    core: Core,
    since: int = 0,
    *,
    after: tuple[int, str] | None = None,
    limit: int = 100,
    user_id: UserId = ANY_USER,
    with_state: bool = False,
) -> Changes:
    """Which sessions have changed since a moment (microseconds UTC, inclusive), over all sessions, a page at a time.

    One round trip. A session that changes while pages are read comes once more, in a later one. Expired sessions come,
    too, until they are swept.
    """
    user_id = core.check_user(user_id)
    check_count(since, "since", least=-LARGEST)
    check_count(limit, "limit", least=1, most=MOST_CHANGES)
    query = ListQuery(user_id=user_id, since=since, after=after, limit=limit, with_state=with_state)
    page, _, complete_until = await changed_rows(core, query)
    unreadable: dict[str, SessileError] = {**page.unreadable}
    sessions = await decoded(core, page.rows, unreadable, with_state=with_state)
    return Changes(sessions, unreadable, page.after, complete_until)


async def changed_rows(
    core: Core, query: ListQuery, first: int | None = None, seen: int | None = None
) -> tuple[Listing, int, int]:
    """A page of what has changed since `query.since`, undecoded; the time of the look; `Changes.complete_until`.

    With `first` the page begins there, because of what had changed before that all was known at the time `seen`: what
    was on its way then, and is there by now, comes with the next round.
    """
    deadline = core.deadline()
    await core.prepare(deadline)
    now = core.clock.now()
    since = query.since if first is None else first
    page = await core.driver.list(replace(query, since=since, hidden=None, ascending=True), deadline)
    on_the_way = int(core.settings.timeout * MICROSECOND) + AHEAD
    return page, now, max(query.since or 0, (now if seen is None else seen) - on_the_way)
