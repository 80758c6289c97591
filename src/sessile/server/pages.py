"""Pages of one session: the runs around a number, the states around a run; and the last runs of a list's sessions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from ..errors import InvalidInputError, RunNotFoundError
from ..records import Entry, JsonObject, PartialList, Run, Session, UserId
from ..storage.bounded import NEWEST_AT_ONCE, rows_within, runs_within
from ..storage.branches import state_after, state_at
from ..storage.computing import compute
from ..storage.core import Core
from ..storage.driver import Span
from ..storage.readable import readable
from ..storage.remembered import page_for
from ..storage.runs import runs_in
from ..storage.snapshots import owned
from ..storage.vocabulary import StatePatched

NEWEST = 6
"""How many of a session's newest commits are looked at for what a list tells of its last run."""

Path = Sequence[tuple[int, int]]
"""The runs of a branch, as ranges `(first, last)`."""


class Around(NamedTuple):
    """Which runs of a branch are asked for: those before a number, after it, around it, or the newest."""

    which: Literal["newest", "before", "after", "around"] = "newest"
    number: int = 0


@dataclass(slots=True)
class RunsPage:
    """Some runs of a branch, oldest first.

    Attributes:
        runs: the runs; those that cannot be read are named beside them.
        before, after: where the next older and the next newer ones begin; None where there are none.
        first, last: the first and the last run of the branch; 0 if it has none.
        count: how many the branch has.
    """

    runs: PartialList[Run] = field(default_factory=PartialList[Run])
    before: int | None = None
    after: int | None = None
    first: int = 0
    last: int = 0
    count: int = 0


def _place(path: Path, number: int) -> int:
    """How many runs of a branch have lesser numbers."""
    return sum(max(0, min(last, number - 1) - first + 1) for first, last in path)


def _numbers(path: Path, start: int, stop: int) -> list[int]:
    """The numbers of the runs of a branch from one place to another."""
    found: list[int] = []
    passed = 0
    for first, last in path:
        size = last - first + 1
        begin, end = max(0, start - passed), min(size, stop - passed)
        found.extend(range(first + begin, first + end))
        passed += size
    return found


def chosen(path: Path, asked: Around, limit: int) -> list[int]:
    """The numbers of the runs that are asked for, ascending; of a long branch no more than these are looked at."""
    total = sum(last - first + 1 for first, last in path)
    start = max(0, total - limit)
    if asked.which == "before":
        start = max(0, _place(path, asked.number) - limit)
        return _numbers(path, start, _place(path, asked.number))
    if asked.which == "after":
        start = _place(path, asked.number + 1)
    elif asked.which == "around":
        start = min(start, max(0, _place(path, asked.number) - limit // 2))
    return _numbers(path, start, start + limit)


async def runs_page(
    core: Core, session_id: str, asked: Around, *, limit: int, tip: int | None = None, user_id: UserId = None
) -> RunsPage:
    """A page of a branch's runs (default: the current one), wherever in it: one read, or two.

    It has fewer runs where they are larger than `max_read_bytes`; but always the one that it is asked for around, and
    those that follow what it is asked for after. Raises `RunNotFoundError` where there is no run `tip`.
    """
    user_id = core.check_access(session_id, user_id)
    deadline = core.deadline()
    newest = min(page_for(limit), NEWEST_AT_ONCE) if asked.which == "newest" and tip is None else 0
    snapshot = await core.look(session_id, deadline, newest=newest)
    head = owned(snapshot.head, session_id, user_id)
    if tip is not None and not 0 < tip <= head.run_count:
        raise RunNotFoundError(f"Session {session_id!r} has no run {tip}.")
    path = head.path(tip)
    numbers = chosen(path, asked, limit)
    while True:
        runs, _ = await runs_within(core, snapshot, numbers, core.settings.max_read_bytes, deadline)
        known = [*(run.number for run in runs), *runs.unreadable]
        first = min(known, default=0)
        if asked.which == "after" and known and first > numbers[0]:
            numbers = numbers[: len(numbers) // 2]
        elif asked.which == "around" and known and first > asked.number >= numbers[0]:
            numbers = [number for number in numbers if number <= asked.number]
        else:
            break
    page = RunsPage(runs, count=sum(last - first + 1 for first, last in path))
    if path:
        page.first, page.last = path[0][0], path[-1][1]
    if known:
        page.before = first if first > page.first else None
        page.after = max(known) if max(known) < page.last else None
    return page


async def run_entries(
    core: Core, session_id: str, number: int, *, after: int, limit: int, user_id: UserId = None
) -> tuple[PartialList[Entry], int | None]:
    """The entries of a run, oldest first, of commits after a revision; and where the next ones begin, or None."""
    user_id = core.check_access(session_id, user_id)
    deadline = core.deadline()
    head = await core.head_of(session_id, user_id, deadline)
    if not 0 < number <= head.run_count:
        raise RunNotFoundError(f"Session {session_id!r} has no run {number}.")
    span = Span(first=after + 1, last=head.revision, runs=(number, number), limit=limit)
    rows, left = await rows_within(core, head, span, core.settings.max_read_bytes, deadline)
    read = await compute(core.driver, lambda: readable(rows), rows=rows)
    more = len(rows) == limit or left <= 0
    unreadable = {seq: error for seq, (_, error) in read.unreadable.items()}
    return PartialList(read.entries, unreadable), rows[-1].seq if rows and more else None


class States(NamedTuple):
    """The state of a session before and after a run, and what the run has changed, as operations on paths."""

    before: JsonObject
    after: JsonObject
    changes: list[JsonObject]


async def states_of(core: Core, session_id: str, number: int, *, user_id: UserId = None) -> States:
    """The states before and after a run. Reads back from the newest commit: the older the run, the longer it takes.

    Of a run in progress, what comes after it is the state as it is now.
    """
    user_id = core.check_access(session_id, user_id)
    deadline = core.deadline()
    head = await core.head_of(session_id, user_id, deadline)
    own = await core.all_rows(head, Span(runs=(number, number)), deadline) if 0 < number <= head.run_count else []
    if not own:
        raise RunNotFoundError(f"Session {session_id!r} has no run {number}.")
    entries = (await compute(core.driver, lambda: readable(own), rows=own)).entries
    said = [word for entry in entries if (word := StatePatched.read(entry)) is not None]
    patches: list[JsonObject] = [{"patch": one.patch, "undo": one.undo} for one in said]
    before = await state_at(core, head, own[0].seq - 1, deadline)
    after = await state_after(core, head, number, deadline)
    return States(before, after, patches)


async def last_runs(core: Core, sessions: Sequence[Session], *, user_id: UserId = None) -> list[Run | None]:
    """The newest run of each of these sessions as far as it is among its newest commits: one read for all of them."""
    core.check_user(user_id)
    names = [(one.session_id, one.incarnation) for one in sessions]
    if not names:
        return []
    rows = await core.driver.newest(names, NEWEST, core.deadline())
    found: list[Run | None] = []
    for head, own in zip(sessions, rows, strict=True):
        numbers = sorted({row.run for row in own if row.run and row.run <= head.run_count})
        runs = await compute(core.driver, lambda own=own, numbers=numbers: runs_in(own, numbers), rows=own)
        found.append(runs[max(runs)] if runs else None)
    return found


def around_of(before: int | None, after: int | None, around: int | None) -> Around:
    """Which runs a request asks for; refuses several at once."""
    given: list[tuple[Any, int | None]] = [("before", before), ("after", after), ("around", around)]
    named = [Around(which, number) for which, number in given if number is not None]
    if len(named) > 1:
        raise InvalidInputError("Ask for runs before a number, after one, or around one.")
    return named[0] if named else Around()
