"""What workflows need of a session beside turns: events from outside, runs by their id, and what is at work."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..errors import NotResumableError, RunNotFoundError
from ..records import Entry, Head, Run
from . import fold
from .core import Core, Draft, owned, rows_to_entries
from .driver import Deadline, Span
from .leases import is_alive, lease_note
from .runs import read_runs
from .turns import Turn
from .writes import REPEATABLE

EVENT_SENT = "event.sent"

EVENT_PAGE = 8
"""How many of the newest commits a look for events reads; mostly nobody else has written since the last look."""


class Sent(NamedTuple):
    """Where an event went: the run's number, and whether a process is at work on the run, which will see it."""

    number: int
    at_work: bool


async def send_event(
    core: Core,
    session_id: str,
    workflow: str,
    name: str,
    value: Any,
    number: int | None = None,
    *,
    user_id: str | None = None,
) -> Sent:
    """Commit an event for a run of this workflow that is not over (default: the newest one of the current branch).

    Raises `NotResumableError` if there is none.
    """
    core.check_access(session_id, user_id)
    deadline = core.deadline()
    sent: list[Sent] = []

    async def change(snapshot: Any) -> Draft:
        head = owned(snapshot.head, session_id, user_id)
        chosen = await _receiver(core, head, workflow, number, deadline)
        opened = head.open_runs[chosen]
        at_work = opened.status == "running" and await is_alive(core, snapshot, chosen, opened, deadline)
        sent[:] = [Sent(chosen, at_work)]
        return Draft([Entry(EVENT_SENT, {"name": name, "value": value}, opened.run_id, chosen)], chosen)

    await core.commit(session_id, change, deadline)
    return sent[0]


async def _receiver(core: Core, head: Head, workflow: str, number: int | None, deadline: Deadline) -> int:
    if number is None:
        candidates = sorted((run for run in head.open_runs if head.on_path(run)), reverse=True)
    elif number > head.run_count:
        raise RunNotFoundError(f"Session {head.session_id!r} has no run {number}.")
    else:
        candidates = [number] if number in head.open_runs else []
    for candidate in candidates:
        if await _workflow_of(core, head, candidate, deadline) == workflow:
            return candidate
    raise NotResumableError(
        f"Session {head.session_id!r} has no run that could receive an event of workflow {workflow!r}.",
        hint="Start a run first.",
    )


async def _workflow_of(core: Core, head: Head, number: int, deadline: Deadline) -> str | None:
    """The workflow whose run this is, as its first commit says; None if it is an agent's."""
    span = Span(runs=(number, number), limit=1)
    rows = await core.driver.entries(head.session_id, head.incarnation, span, deadline)
    for entry in rows_to_entries(rows):
        if entry.kind == fold.RUN_STARTED and entry.parent_run_id is None:
            return entry.owner if entry.data.get("durability") == "workflow" else None
    return None


async def new_events(core: Core, turn: Turn, seen: int) -> tuple[int, list[Entry]]:
    """The events of the turn's run after revision `seen`, and the revision up to which that is all."""
    deadline = core.deadline()
    snapshot = await core.look(turn.spec.session_id, deadline, newest=EVENT_PAGE)
    head = owned(snapshot.head, turn.spec.session_id, turn.spec.user_id)
    rows = snapshot.rows
    if head.revision > seen and rows[0].seq > seen + 1:
        rows = await core.all_rows(head, Span(seen + 1, head.revision, (turn.number, turn.number)), deadline)
    news = [row for row in rows if row.seq > seen and row.run == turn.number]
    return head.revision, [entry for entry in rows_to_entries(news) if entry.kind == EVENT_SENT]


class Found(NamedTuple):
    """A run that was looked for by its id: its number, and the entry that ended it, None while it is open."""

    number: int
    ended: Entry | None


async def find_run(core: Core, session_id: str, run_id: str, *, user_id: str | None = None) -> Found | None:
    """The run of that id, if it is open or was among the session's last commits; else None."""
    core.check_access(session_id, user_id)
    snapshot = await core.look(session_id, core.deadline(), newest=REPEATABLE)
    if snapshot.head is None:
        return None
    head = owned(snapshot.head, session_id, user_id)
    for number, opened in head.open_runs.items():
        if opened.run_id == run_id:
            return Found(number, None)
    for entry in reversed(rows_to_entries(snapshot.rows)):
        if entry.kind == fold.RUN_ENDED and entry.run_id == run_id and entry.run is not None:
            return Found(entry.run, entry)
    return None


async def journal_run(
    core: Core, session_id: str, number: int | None = None, *, user_id: str | None = None
) -> tuple[Run, Any]:
    """A run (default: the newest of the current branch) with its journal, and what it is doing at the moment."""
    core.check_access(session_id, user_id)
    deadline = core.deadline()
    snapshot = await core.look(session_id, deadline)
    head = owned(snapshot.head, session_id, user_id)
    found = await read_runs(core, snapshot, [head.tip if number is None else number], deadline)
    if not found:
        raise RunNotFoundError(f"Session {session_id!r} has no run {number or head.tip}.")
    return found[0], await lease_note(core, head, found[0].number, deadline)
