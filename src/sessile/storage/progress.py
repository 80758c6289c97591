"""How far one run has come, for those who follow it or wait for it: its own commits, and whether it is running.

Neither costs more the longer the session, or the run itself, is.
"""

from __future__ import annotations

from typing import NamedTuple

from ..errors import RunNotFoundError
from ..records import Entry, UserId
from .bounded import rows_within
from .core import Core
from .driver import Deadline, Span
from .leases import is_alive
from .readable import read_entries
from .snapshots import Snapshot, owned

PAGE = 1000
"""How many commits come at once, at most."""


class RunNews(NamedTuple):
    """What a run has committed after a revision, up to which one, and whether more may come."""

    entries: list[Entry]
    after: int
    more: bool


async def is_at_work(core: Core, session_id: str, run_number: int, user_id: UserId = None) -> bool:
    """Whether a process works on a run: one look, and one at its lease. Raises as `Storage.get_run` where none is."""
    snapshot, deadline = await _look(core, session_id, run_number, user_id)
    return await _at_work(core, snapshot, run_number, deadline)


async def run_news(core: Core, session_id: str, run_number: int, after: int, user_id: UserId = None) -> RunNews:
    """One page of what a run has committed after a revision. Where nobody works on it any more, nothing is missed.

    Raises as `Storage.get_run`, and `CorruptDataError` for a commit that cannot be read.
    """
    snapshot, deadline = await _look(core, session_id, run_number, user_id)
    assert snapshot.head is not None, "it was looked at"
    head = snapshot.head
    at_work = await _at_work(core, snapshot, run_number, deadline)
    span = Span(first=after + 1, last=head.revision, runs=(run_number, run_number), limit=PAGE)
    rows, left = await rows_within(core, head, span, core.settings.max_read_bytes, deadline)
    entries = [entry for entry in await read_entries(core.driver, rows) if entry.run == run_number]
    is_cut = left <= 0 or len(rows) == PAGE
    return RunNews(entries, rows[-1].seq if rows else after, at_work or is_cut)


async def _look(core: Core, session_id: str, run_number: int, user_id: UserId) -> tuple[Snapshot, Deadline]:
    user_id = core.check_access(session_id, user_id)
    deadline = core.deadline()
    snapshot = await core.look(session_id, deadline)
    if run_number > owned(snapshot.head, session_id, user_id).run_count:
        raise RunNotFoundError(f"Session {session_id!r} has no run {run_number}.")
    return snapshot, deadline


async def _at_work(core: Core, snapshot: Snapshot, run_number: int, deadline: Deadline) -> bool:
    opened = None if snapshot.head is None else snapshot.head.open_runs.get(run_number)
    if opened is None or opened.status != "running":
        return False
    return await is_alive(core, snapshot, run_number, opened, deadline)
