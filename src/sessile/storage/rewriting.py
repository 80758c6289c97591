"""Taking content out of a log that is written: what somebody said, and must not be there any longer.

What may go its word says: texts, inputs, outputs, arguments and results of tools, names of media. A mark stays in its
place (`vocabulary.ERASED`, `vocabulary.ERASED_VALUE`), and so does all that the head is folded from: the log stays
dense, and `verify` content. The head itself is not changed: the state, name, metadata and summary of a session stay,
and the patches and summaries in the log that made them. So do media, which other runs of the session may name as well.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from ..errors import CorruptDataError, InvalidInputError, NewerVersionError, SessionNotFoundError, UnsupportedError
from ..records import ANY_USER, Entry, Session, UserId
from .absence import check_free
from .bounded import rows_within
from .computing import compute
from .core import Core
from .driver import CommitRow, Deadline, Span
from .encoding import changed_commit
from .media import references
from .runs import ranges
from .snapshots import Draft, Snapshot
from .vocabulary import SessionRewritten, kind_of

PAGE = 100
"""How many commits are rewritten at a time."""

Change = Callable[[int, Entry], Entry | None]
"""Makes an entry, with its place in its commit (from 0), what it is to be; None: it is to go."""

Choice = Callable[[int, Entry], bool]
"""Chooses entries, by their place in their commit (from 0) and themselves."""

Take = Callable[[Sequence[CommitRow], Deadline], Awaitable[bool]]
"""Takes commits as they are to be; False: their session is gone."""


@dataclass(slots=True)
class Erased:
    """What an erasing has done: how many entries it changed, in how many commits, and which media these had named."""

    entries: int = 0
    commits: int = 0
    media: set[str] = field(default_factory=set[str])


def all_of_it(place: int, entry: Entry) -> bool:
    """The choice of everything."""
    return True


async def erase(
    core: Core,
    session_id: str,
    span: Span,
    chosen: Choice = all_of_it,
    *,
    drop: bool = False,
    user_id: UserId = None,
) -> Erased:
    """Erase the chosen entries of a span: of one run by `Span(runs=(3, 3))`, of one commit by `Span(first=7, last=7)`.

    What may be erased of an entry is replaced by a mark. With `drop` entries of which neither a head nor an order of
    messages comes (tool calls, steps, events) are taken out whole. Each commit changes whole or not at all; after an
    error some may have changed, and the call is repeated: what is erased already is left as it is. Of two that erase
    parts of the same commit at the same time one may bring back what the other has taken out: let one at a time work on
    a session.

    Raises `SessionNotFoundError`, `HeldError`, `UnsupportedError` where the database cannot rewrite commits, and
    `InvalidInputError`
    for entries of runs that are not over: whoever continues them needs what they hold.
    """
    user_id = core.check_access(session_id, user_id)
    head = await core.head_of(session_id, user_id, core.deadline())
    check_free(head)
    done = Erased()

    def change(place: int, entry: Entry) -> Entry | None:
        return _without(entry, head, done, drop=drop) if chosen(place, entry) else entry

    done.commits = await rewrite_commits(core, head, span, change)
    return done


def _without(entry: Entry, head: Session, done: Erased, *, drop: bool) -> Entry | None:
    """The entry without what is to be erased, which is counted in `done`; None: nothing is left."""
    if entry.run in head.open_runs:
        raise InvalidInputError(
            f"Run {entry.run} of session {head.session_id!r} is not over, and nothing of it can be erased.",
            hint="Let it end, or cancel it.",
        )
    known = kind_of(entry)
    dropped = drop and known.DROPPABLE
    data = None if dropped else known.erase(entry)
    if dropped or data != entry.data:
        done.entries += 1
        done.media |= set(references(entry.data)) - set(references(data))
    entry.data = data
    return None if dropped else entry


async def runs_to_erase(core: Core, head: Session, span: Span, *, drop: bool = False) -> set[int]:
    """The runs of a span that hold what `erase` would take out. Changes nothing; raises what `erase` would."""
    check_free(head)
    found, seen = set[int](), Erased()

    async def note(rows: Sequence[CommitRow], deadline: Deadline) -> bool:
        found.update(row.run for row in rows)
        return True

    await _through(core, head, span, lambda place, entry: _without(entry, head, seen, drop=drop), note)
    return found


async def rewrite_commits(
    core: Core, head: Session, span: Span, change: Change, *, passed: list[int] | None = None
) -> int:
    """Change entries in the commits of a span that the head covers; returns how many commits were changed.

    With `passed` commits that cannot be read are passed over, and their revisions added to it. If any were changed, a
    commit follows that says of which runs, for whoever keeps a copy (an index, for example).

    Raises `UnsupportedError`, and `SessionNotFoundError` if the session was deleted meanwhile.
    """
    total, runs = 0, set[int]()

    async def write(rows: Sequence[CommitRow], deadline: Deadline) -> bool:
        nonlocal total
        if not await core.driver.rewrite(head.session_id, head.incarnation, rows, deadline):
            return False
        total += len(rows)
        runs.update(row.run for row in rows)
        return True

    await _through(core, head, span, change, write, passed)
    if runs:
        await _tell(core, head, sorted(runs))
    return total


async def _through(
    core: Core, head: Session, span: Span, change: Change, take: Take, passed: list[int] | None = None
) -> None:
    """Give the commits of a span that change, as they are then, to `take`, a page at a time."""
    if not core.driver.capabilities.rewrites:
        raise UnsupportedError(f"The driver {core.driver.name!r} cannot rewrite commits.")
    last = head.revision if span.last is None else min(span.last, head.revision)
    span = span._replace(last=last, limit=PAGE, newest_first=False)
    while True:
        deadline = core.deadline()
        rows, left = await rows_within(core, head, span, core.settings.max_read_bytes, deadline)
        news = await compute(core.driver, lambda rows=rows: _all_changed(rows, change, passed), rows=rows)
        gone = not rows and span.first <= last and span.runs is None and span.key is None
        if gone or (news and not await take(news, deadline)):
            raise SessionNotFoundError(f"Session {head.session_id!r} was deleted while it was being rewritten.")
        if len(rows) < PAGE and left > 0:
            return
        span = span._replace(first=rows[-1].seq + 1)


def _all_changed(rows: Sequence[CommitRow], change: Change, passed: list[int] | None) -> list[CommitRow]:
    """Those of the commits that change, as they are then."""
    changed = [(row, _changed(row, change, passed)) for row in rows]
    return [new for row, new in changed if new.body != row.body]


def _changed(row: CommitRow, change: Change, passed: list[int] | None) -> CommitRow:
    try:
        return changed_commit(row, change)
    except (NewerVersionError, CorruptDataError):
        if passed is None:
            raise
        passed.append(row.seq)
        return row


async def _tell(core: Core, head: Session, runs: list[int]) -> None:
    said = SessionRewritten(runs=[[first, last] for first, last in ranges(runs)])

    async def change(snapshot: Snapshot) -> Draft | None:
        now = snapshot.head
        return None if now is None or now.incarnation != head.incarnation else Draft([said.entry()])

    await core.commit(head.session_id, ANY_USER, change, core.deadline())
