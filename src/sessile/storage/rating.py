"""What people and evaluators say about runs."""

from __future__ import annotations

import math
from typing import Any

from ..errors import InvalidInputError, RunNotFoundError
from ..records import Entry, Rating, Session, UserId
from .checks import check_count
from .core import Core
from .driver import Deadline, Span
from .encoding import check_json
from .ids import check_id, check_optional_id
from .readable import read_entries
from .repeating import find_started
from .snapshots import Draft, Snapshot, owned
from .vocabulary import RunNoted, RunStarted

PAGE = 100
"""How many commits are read at a time, in search of a run."""

RECENT = 8
"""How many of the newest commits come along with the head: the run that is rated is mostly among them."""


async def rate(
    core: Core,
    session_id: str,
    run: int | str,
    *,
    score: float | None = None,
    label: str | None = None,
    comment: str | None = None,
    correction: Any = None,
    by: str | None = None,
    source: str = "user",
    user_id: UserId = None,
) -> Rating:
    """See `Storage.rate`."""
    user_id = core.check_access(session_id, user_id)
    if isinstance(run, str):
        check_id(run, "run")
    else:
        check_count(run, "run", least=1)
    for value, what in ((label, "label"), (by, "by")):
        check_optional_id(value, what)
    check_id(source, "source")
    words: Any = comment
    if words is not None and not isinstance(words, str):
        raise InvalidInputError(f"comment must be text; it is {comment!r}.")
    check_json(comment, "comment")
    check_json(correction, "correction")
    points = _checked_score(score)
    if (points, label, comment, correction) == (None, None, None, None):
        raise InvalidInputError("A rating has a score, a label, a comment or a correction.")
    said = RunNoted(score=points, label=label, comment=comment, correction=correction, by=by, source=source)
    deadline = core.deadline()

    async def change(snapshot: Snapshot) -> Draft:
        head = owned(snapshot.head, session_id, user_id)
        start = await _start_of(core, snapshot, head, run, deadline)
        entry = said.entry(start.run_id, start.run, start.parent_run_id, start.agent)
        return Draft([entry], start.run or 0)

    known = await core.look(session_id, deadline, newest=RECENT)
    committed = await core.commit(session_id, user_id, change, deadline, known=known)
    assert committed is not None, "this change always drafts something"
    return RunNoted.rating(committed.entries[0])


def _checked_score(score: Any) -> float | None:
    if score is None:
        return None
    if isinstance(score, bool):
        return int(score)
    if not isinstance(score, (int, float)) or not math.isfinite(score) or abs(score) > 1e15:
        raise InvalidInputError(f"score must be a number; it is {score!r}.", hint="Thumbs are True and False.")
    return score


async def _start_of(core: Core, snapshot: Snapshot, head: Session, run: int | str, deadline: Deadline) -> Entry:
    """The entry that starts a run: a top-level one by its number, or any by its id."""
    found = _start_in(await read_entries(core.driver, snapshot.rows), run)
    if found is None and isinstance(run, int) and run <= head.run_count:
        rows = await core.driver.entries(head.session_id, head.incarnation, Span(runs=(run, run), limit=1), deadline)
        found = _start_in(await read_entries(core.driver, rows), run)
    elif found is None and isinstance(run, str):
        found = await find_started(core, head, run, deadline)
        if found is None:
            found = await _search(core, head, run, deadline)
    if found is None:
        raise RunNotFoundError(f"Session {head.session_id!r} has no run {run!r}.")
    return found


async def _search(core: Core, head: Session, run_id: str, deadline: Deadline) -> Entry | None:
    """The start of a run by an id of our own making: back from the newest commit, because people rate what is new."""
    last = head.revision
    while last > 0:
        span = Span(last=last, limit=PAGE, newest_first=True)
        rows = await core.driver.entries(head.session_id, head.incarnation, span, deadline)
        found = _start_in(await read_entries(core.driver, rows), run_id)
        if found is not None or not rows:
            return found
        last = rows[-1].seq - 1
    return None


def _start_in(entries: list[Entry], run: int | str) -> Entry | None:
    for entry in entries:
        same = entry.run_id == run if isinstance(run, str) else entry.run == run and entry.parent_run_id is None
        if same and entry.kind == RunStarted.KIND:
            return entry
    return None
