"""What can be read of sessions: the operations behind the methods of `Storage`, whose texts say what they do.

All of them are bounded by default, and raise what the database raises: a read that fails is never taken for
"no such session".
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence
from typing import NamedTuple

from ..errors import CorruptDataError, SessileError
from ..records import Branch, Entry, Message, PartialList, Run, Session, Status, UserId
from . import fold
from .bounded import NEWEST_AT_ONCE, missing_commits, rows_within, runs_within
from .checks import LARGEST, STATUSES, check_choice, check_count
from .computing import compute
from .core import Core
from .driver import CommitRow, Deadline, Span
from .readable import read_readable, rows_to_entries
from .runs import build_runs, only_missing, read_run, shown_head, with_status
from .snapshots import Snapshot, owned, visible
from .users import said_id
from .vocabulary import RunEnded, RunStarted

DEFAULT_RUNS = 100
"""How many runs `runs` and `messages` read when the caller does not say."""

PUSH_SECONDS = 30.0
"""How long a follower waits for a push before it looks again, for sessions that expire meanwhile."""

VERIFIED_AT_ONCE = 8 * 1024 * 1024
"""How many bytes of a log are verified together: nobody has to have more of it at once."""


_Name = tuple[int | None, str | None]
"""Number and id of a run, which an entry is of."""


async def get_session(core: Core, session_id: str, *, last_runs: int = 0, user_id: UserId = None) -> Session | None:
    """See `Storage.get_session`."""
    user_id = core.check_access(session_id, user_id)
    check_count(last_runs, "last_runs", least=0)
    deadline = core.deadline()
    snapshot = await core.look(session_id, deadline, newest=_page_for(core, session_id, last_runs))
    head = visible(await shown_head(core, snapshot, deadline), user_id)
    if head is not None and last_runs:
        numbers = head.last_on_path(last_runs)
        head.runs, _ = await runs_within(core, snapshot, numbers, core.settings.max_read_bytes, deadline)
    return head


async def runs(
    core: Core,
    session_id: str,
    *,
    last: int | None = None,
    from_run: int | None = None,
    to_run: int | None = None,
    status: Status | Collection[Status] | None = None,
    user_id: UserId = None,
) -> PartialList[Run]:
    """See `Storage.runs`."""
    user_id = core.check_access(session_id, user_id)
    for value, what in ((last, "last"), (from_run, "from_run"), (to_run, "to_run")):
        if value is not None:
            check_count(value, what, least=0)
    for one in () if status is None else [status] if isinstance(status, str) else status:
        check_choice(one, "status", STATUSES)
    deadline = core.deadline()
    count = DEFAULT_RUNS if last is None and from_run is None else last
    narrow = from_run is None and to_run is None and status is None and count is not None
    snapshot = await core.look(session_id, deadline, newest=_page_for(core, session_id, count or 0) if narrow else 0)
    if visible(snapshot.head, user_id) is None:
        return PartialList()
    return await _select(core, snapshot, count, from_run or 1, to_run, status, deadline)


async def newest_runs(
    core: Core, session_id: str, count: int, most: int, *, user_id: UserId = None
) -> tuple[PartialList[Run], int]:
    """The last `count` runs, until what was read has `most` bytes, one at least; also how many bytes are left then."""
    user_id = core.check_access(session_id, user_id)
    deadline = core.deadline()
    snapshot = await core.look(session_id, deadline, newest=_page_for(core, session_id, count))
    head = visible(snapshot.head, user_id)
    numbers = [] if head is None else head.last_on_path(count)
    return await runs_within(core, snapshot, numbers, most, deadline)


async def _select(
    core: Core,
    snapshot: Snapshot,
    count: int | None,
    from_run: int,
    to_run: int | None,
    status: Status | Collection[Status] | None,
    deadline: Deadline,
) -> PartialList[Run]:
    """The newest `count` runs of that status between two numbers, read backwards a page at a time.

    As many as may be read at once: pages that have none of that status do not count for that.
    """
    head = snapshot.head
    found: list[Run] = []
    unreadable: dict[int, SessileError] = {}
    left, missing = core.settings.max_read_bytes, 0
    below = None if to_run is None else to_run + 1
    while head is not None and (count is None or len(found) < count):
        size = DEFAULT_RUNS if count is None or status is not None else min(count - len(found), DEFAULT_RUNS)
        numbers = [number for number in head.last_on_path(size, below=below) if number >= from_run]
        if not numbers:
            break
        page, rest = await runs_within(core, snapshot, numbers, left, deadline)
        unreadable |= page.unreadable
        missing = missing + len(numbers) if only_missing(page) else 0
        if missing >= DEFAULT_RUNS:
            break
        wanted = with_status(page, status)
        found = wanted + found
        left = rest if wanted else left
        if left <= 0:
            break
        below = numbers[0] if rest > 0 else min([*(run.number for run in page), *page.unreadable])
    return PartialList(found if count is None else found[len(found) - min(count, len(found)) :], unreadable)


async def get_run(core: Core, session_id: str, run_number: int, *, user_id: UserId = None) -> Run:
    """See `Storage.get_run`."""
    user_id = core.check_access(session_id, user_id)
    check_count(run_number, "run_number", least=1)
    deadline = core.deadline()
    snapshot = await core.look(session_id, deadline)
    owned(snapshot.head, session_id, user_id)
    return await read_run(core, snapshot, run_number, deadline)


async def messages(
    core: Core,
    session_id: str,
    *,
    last_runs: int | None = None,
    from_run: int | None = None,
    to_run: int | None = None,
    user_id: UserId = None,
) -> PartialList[Message]:
    """See `Storage.messages`."""
    found = await runs(core, session_id, last=last_runs, from_run=from_run, to_run=to_run, user_id=user_id)
    return PartialList([message for item in found for message in item.messages], found.unreadable)


async def branches(core: Core, session_id: str, *, user_id: UserId = None) -> list[Branch]:
    """See `Storage.branches`."""
    user_id = core.check_access(session_id, user_id)
    return (await core.head_of(session_id, user_id, core.deadline())).branches()


async def entries(
    core: Core, session_id: str, *, after: int = 0, limit: int = 1000, user_id: UserId = None
) -> PartialList[Entry]:
    """See `Storage.entries`."""
    user_id = core.check_access(session_id, user_id)
    check_count(after, "after", least=0)
    check_count(limit, "limit", least=1)
    deadline = core.deadline()
    head = await core.head_of(session_id, user_id, deadline)
    return (await _entries_after(core, session_id, head, after, limit, deadline))[0]


async def _entries_after(
    core: Core, session_id: str, head: Session, after: int, limit: int, deadline: Deadline
) -> tuple[PartialList[Entry], int]:
    """Entries after a revision, and up to which one that is all: `after` if the session is gone."""
    span = Span(first=after + 1, last=head.revision, limit=limit)
    rows, left = await rows_within(core, head, span, core.settings.max_read_bytes, deadline)
    read = await read_readable(core.driver, rows)
    unreadable: dict[int, SessileError] = {seq: error for seq, (_, error) in read.unreadable.items()}
    whole = left > 0 and len(rows) < limit
    unreadable |= await missing_commits(core, head, after + 1, rows, head.revision if whole else 0, deadline)
    for seq, error in unreadable.items():
        core.skipped(session_id, f"Commit {seq}", error)
    return PartialList(read.entries, unreadable), max([after, *(row.seq for row in rows), *unreadable])


class News(NamedTuple):
    """What one look of a follower brought: which session it is, new entries, whether the driver has waited.

    `after` is the revision up to which that is all: of commits that cannot be read there are no entries.
    """

    incarnation: str
    entries: list[Entry]
    waited: bool
    after: int


async def wait_entries(
    core: Core,
    session_id: str,
    after: int,
    user_id: UserId = None,
    incarnation: str | None = None,
) -> News | None:
    """New entries after a revision, if need be after one wait for a push.

    None if the session is not there, or is another one than `incarnation`.
    """
    user_id = core.check_access(session_id, user_id)
    deadline = core.deadline()
    snapshot = await core.look(session_id, deadline)
    head = visible(snapshot.head, user_id)
    if head is None or incarnation not in (None, head.incarnation):
        return None
    if head.revision > after:
        entries, upto = await _entries_after(core, session_id, head, after, 1000, deadline)
        return News(head.incarnation, entries, False, upto) if upto > after else None
    push = core.driver.capabilities.push
    if push:
        await core.driver.wait(session_id, head.incarnation, after, Deadline(PUSH_SECONDS))
    return News(head.incarnation, [], push, after)


async def verify(core: Core, session_id: str, *, user_id: UserId = None) -> int:
    """See `Storage.verify`."""
    user_id = core.check_access(session_id, user_id)
    deadline = core.deadline()
    head = await core.head_of(session_id, user_id, deadline)
    folded, begun, parts = None, set[_Name](), dict[int, int]()
    count, left = 0, 0
    while left <= 0:
        span = Span(first=count + 1, last=head.revision, limit=LARGEST)
        most = min(core.settings.max_read_bytes, VERIFIED_AT_ONCE)
        rows, left = await rows_within(core, head, span, most, deadline)
        work = functools.partial(_folded, folded, rows, begun)
        folded, count = await compute(core.driver, work, rows=rows), rows[-1].seq if rows else count
        for number in {row.run for row in rows}:
            parts[number] = parts.get(number, 0) + 1
    if folded is not None and folded.last_status == head.status:
        folded.status = head.status  # what a program has written that did not look at runs that wait
    if folded is not None and folded.session_id == said_id(head.session_id, head.user_id):
        folded.session_id = head.session_id
    if not await compute(core.driver, lambda: folded == head, head.state):
        await core.head_of(session_id, user_id, deadline)  # it may have been deleted meanwhile
        raise CorruptDataError(f"The head of session {session_id!r} is not what its log folds to.")
    for number in sorted(number for number, times in parts.items() if number > 0 and times > 1):
        rows = await core.all_rows(head, Span(runs=(number, number)), deadline)
        await compute(core.driver, functools.partial(_check_runs, rows), rows=rows)
    return count


def _folded(head: Session | None, rows: Sequence[CommitRow], begun: set[_Name]) -> Session | None:
    """What a log folds to up to these commits, which follow the head; raises for what is wrong with them."""
    folded = fold.roll_forward(head, rows)
    entries = rows_to_entries(rows)
    build_runs(entries)
    _check_begun(entries, begun)
    return folded


def _check_runs(rows: Sequence[CommitRow]) -> None:
    """Raise `CorruptDataError` if the runs of these commits cannot be made out."""
    build_runs(rows_to_entries(rows))


def _check_begun(entries: Sequence[Entry], begun: set[_Name]) -> None:
    """Raise `CorruptDataError` where a run ends that has never begun; those that begin here are added to `begun`."""
    for entry in entries:
        if RunStarted.read(entry) is not None:
            begun.add((entry.run, entry.run_id))
        elif RunEnded.read(entry) is not None and (entry.run, entry.run_id) not in begun:
            raise CorruptDataError(f"Commit {entry.seq} ends run {entry.run}, whose start is not in the log.")


# ---------------------------------------------------------------- helpers


def _page_for(core: Core, session_id: str, runs: int) -> int:
    """The same for a session that may have been seen before, as far as they come along with the head."""
    return min(core.remembered.page_for(session_id, runs), NEWEST_AT_ONCE) if runs else 0
