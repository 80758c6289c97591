"""Reading a part of a log that is bounded in bytes as well as in number.

A commit may have many megabytes, and a page of them would be in memory at once. So what callers read ends early, with
at least one commit or run, and they go on behind it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ..errors import CorruptDataError, SessileError, StorageError
from ..records import PartialList, Run, Session
from .checks import LARGEST
from .computing import compute
from .core import Core
from .driver import CommitRow, Deadline, Span
from .matching import bytes_of
from .runs import mark_interrupted, name_missing, ranges, read_runs, runs_in, runs_of
from .snapshots import Snapshot

NEWEST_AT_ONCE = 20
"""How many commits come along with a head at most: they are read whatever size they have."""

PAGE = 500
"""How many commits are read at a time by drivers that end a page by its bytes."""

FIRST_PAGE, LARGEST_PAGE = 16, 64
"""How many are read at a time by others: as many as were read before, within these bounds."""


async def rows_within(
    core: Core, head: Session, span: Span, budget: int, deadline: Deadline
) -> tuple[list[CommitRow], int]:
    """The commits of a span, in its direction, until their bodies have `budget` bytes; one at least.

    Also what is left of the budget then: 0 if it ended for that, and there may be more.
    """
    ends_by_bytes = core.driver.capabilities.bounded_pages
    rows: list[CommitRow] = []
    left = budget
    while len(rows) < span.limit:
        size = PAGE if ends_by_bytes else min(max(len(rows), FIRST_PAGE), LARGEST_PAGE)
        limit = min(size, span.limit - len(rows))
        asked = span._replace(limit=limit, max_bytes=max(left, 1))
        page = await core.driver.entries(head.session_id, head.incarnation, asked, deadline)
        for row in page:
            rows.append(row)
            left -= bytes_of(row.body)
            if left <= 0:
                return rows, 0
        if len(page) < limit:
            break
        edge = page[-1].seq
        span = span._replace(last=edge - 1) if span.newest_first else span._replace(first=edge + 1)
    return rows, left


async def missing_commits(
    core: Core, head: Session, first: int, rows: Sequence[CommitRow], last: int, deadline: Deadline
) -> dict[int, SessileError]:
    """What the head counts and is not among these rows, which begin at `first`: a range of commits by its last one.

    Nothing if the session was removed meanwhile. `last`: where all of them end; 0 if there may be more.
    """
    found: dict[int, SessileError] = {}
    for seq in (*sorted(row.seq for row in rows), last + 1):
        if seq > first:
            which = f"commit {first} is" if seq == first + 1 else f"commits {first} to {seq - 1} are"
            found[seq - 1] = CorruptDataError(
                f"Session {head.session_id!r} counts what is not in its log: {which} missing."
            )
        first = seq + 1
    if found:
        now = (await core.look(head.session_id, deadline)).head
        if now is None or now.incarnation != head.incarnation:
            return {}
    return found


async def runs_within(
    core: Core, snapshot: Snapshot, numbers: Sequence[int], budget: int, deadline: Deadline
) -> tuple[PartialList[Run], int]:
    """The newest of these runs (ascending numbers) whose commits have together `budget` bytes; one at least.

    Also what is left of the budget then, as from `rows_within`; and as from `read_runs`, which ones cannot be read.
    """
    head = snapshot.head
    if head is None or not numbers:
        return PartialList(), budget
    runs = await compute(core.driver, lambda: runs_in(snapshot.rows, numbers), rows=snapshot.rows)
    unreadable: dict[int, StorageError] = {}
    numbers, left = _within(numbers, runs, snapshot.rows, budget)
    runs = {number: runs[number] for number in numbers if number in runs}
    looked = numbers
    missing = [number for number in numbers if number not in runs]
    for first, last in reversed(ranges(missing)):
        if left <= 0 and (runs or unreadable) and not any(number < first for number in runs):
            looked = [number for number in looked if number > last]
            break
        span = Span(runs=(first, last), newest_first=True, limit=LARGEST)
        rows, left = await rows_within(core, head, span, max(left, 1), deadline)
        part = await compute(core.driver, lambda rows=rows: runs_of(rows, unreadable), rows=rows)
        runs.update(part)  # what is not whole has no beginning here, and is left out
        if left <= 0:
            oldest = min((number for number in {*runs, *unreadable} if number >= first), default=last + 1)
            runs = {number: run for number, run in runs.items() if number >= oldest}
            looked = [number for number in looked if number >= oldest]
            break
    if left <= 0 and not runs and not unreadable:
        return await read_runs(core, snapshot, numbers[-1:], deadline), 0
    if missing:
        await name_missing(core, head, looked, runs, unreadable, deadline)
        for number, error in unreadable.items():
            core.skipped(head.session_id, f"Run {number}", error)
    found = PartialList([runs[number] for number in numbers if number in runs], unreadable)
    await mark_interrupted(core, snapshot, found, deadline)
    return found, max(left, 0)


def _within(
    numbers: Sequence[int], at_hand: Collection[int], rows: Sequence[CommitRow], budget: int
) -> tuple[Sequence[int], int]:
    """The newest of these numbers, until what is at hand of them has `budget` bytes; and what is left of it then."""
    sizes: dict[int, int] = {}
    for row in rows:
        sizes[row.run] = sizes.get(row.run, 0) + bytes_of(row.body)
    left = budget
    for place in range(len(numbers) - 1, -1, -1):
        if numbers[place] in at_hand:
            if left <= 0:
                return numbers[place + 1 :], left
            left -= sizes.get(numbers[place], 0)
    return numbers, left
