"""What workflows need of a session beside turns: events from outside, runs by their id, and what is running."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..errors import InvalidInputError, NotResumableError, RunNotFoundError
from ..records import Entry, Run, Session, UserId
from .core import Core
from .driver import Deadline, Span
from .forms import check_answer, untyped
from .leases import is_alive, lease_note
from .lists import what_waits
from .readable import read_entries
from .repeating import key_of, same_json
from .runs import read_run
from .snapshots import Draft, owned
from .turns import Turn
from .vocabulary import ERASED_VALUE, EventSent, RunStarted

EVENT_PAGE = 8
"""How many of the newest commits a look for events reads; mostly nobody else has written since the last look."""


class Sent(NamedTuple):
    """Where an event went: the run's number, and whether a process works on the run, which will see it."""

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
    event_id: str | None = None,
    by: str | None = None,
    user_id: UserId = None,
) -> Sent:
    """Commit an event for a run of this workflow that is not over (default: the newest one of the current branch).

    One that was sent before under the same `event_id` is not written again. Raises `NotResumableError` if there is no
    such run, and `InvalidInputError` if the event of that id had another name or value, or the value does not fill the
    form that the run waits for.
    """
    user_id = core.check_access(session_id, user_id)
    deadline = core.deadline()
    sent: list[Sent] = []

    async def change(snapshot: Any) -> Draft | None:
        head = owned(snapshot.head, session_id, user_id)
        before = await _sent_before(core, head, event_id, name, value, deadline)
        chosen = await _receiver(core, head, workflow, number, deadline) if before is None else before
        opened = head.open_runs.get(chosen)
        if opened is None or opened.status != "running":
            busy = False
        else:
            busy = await is_alive(core, snapshot, chosen, opened, deadline)
        sent[:] = [Sent(chosen, busy)]
        if before is not None or opened is None:
            return None
        if opened.status == "paused":
            await _check_form(core, head, chosen, name, value, deadline)
        entry = EventSent(name=name, value=value, by=by).entry(opened.run_id, chosen)
        return Draft([entry], chosen, None if event_id is None else key_of("event", event_id))

    await core.commit(session_id, user_id, change, deadline)
    return sent[0]


async def _check_form(core: Core, head: Session, run: int, name: str, value: Any, deadline: Deadline) -> None:
    waits = await what_waits(core, head, run, deadline)
    form = None if waits is None else next((one for one in waits.asked if one.get("name") == name), None)
    if form is not None and "schema" in form:
        check_answer(name, form, untyped(value))


async def _sent_before(
    core: Core, head: Session, event_id: str | None, name: str, value: Any, deadline: Deadline
) -> int | None:
    """The number of the run that the event of this id was sent to; None if it was not."""
    if event_id is None:
        return None
    rows = await core.find(head, key_of("event", event_id), deadline, limit=1, newest_first=True)
    for entry in await read_entries(core.driver, rows):
        sent = EventSent.read(entry)
        if sent is not None:
            if sent.name != name or (sent.value != ERASED_VALUE and not same_json(sent.value, value)):
                raise InvalidInputError(
                    f"The event {event_id!r} was sent to session {head.session_id!r} with another name or value.",
                    hint="Give each event an id of its own; nothing was written.",
                )
            return entry.run
    return None


async def _receiver(core: Core, head: Session, workflow: str, number: int | None, deadline: Deadline) -> int:
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


async def _workflow_of(core: Core, head: Session, number: int, deadline: Deadline) -> str | None:
    """The workflow whose run this is, as its first commit says; None if it is an agent's."""
    span = Span(runs=(number, number), limit=1)
    rows = await core.driver.entries(head.session_id, head.incarnation, span, deadline)
    for entry in await read_entries(core.driver, rows):
        started = RunStarted.read(entry)
        if started is not None and entry.parent_run_id is None:
            return entry.agent if started.durability == "workflow" else None
    return None


class Event(NamedTuple):
    """An event from outside: the revision that it came with, by which it is known, its name and its value."""

    seq: int
    name: str
    value: Any


def event_of(entry: Entry) -> Event | None:
    """The entry as an event, if it is one."""
    sent = EventSent.read(entry)
    return None if sent is None else Event(entry.seq, sent.name, sent.value)


async def new_events(core: Core, turn: Turn, seen: int) -> tuple[int, list[Event]]:
    """The events of the turn's run after revision `seen`, and the revision up to which that is all."""
    deadline = core.deadline()
    snapshot = await core.look(turn.spec.session_id, deadline, newest=EVENT_PAGE)
    head = owned(snapshot.head, turn.spec.session_id, turn.spec.user_id)
    rows = snapshot.rows
    if head.revision > seen and rows[0].seq > seen + 1:
        rows = await core.all_rows(head, Span(seen + 1, head.revision, (turn.number, turn.number)), deadline)
    news = [row for row in rows if row.seq > seen and row.run == turn.number]
    entries = await read_entries(core.driver, news)
    return head.revision, [event for entry in entries if (event := event_of(entry)) is not None]


async def journal_run(
    core: Core, session_id: str, number: int | None = None, *, user_id: UserId = None
) -> tuple[Run, Any]:
    """A run (default: the newest of the current branch) with its journal, and what it is doing at the moment."""
    user_id = core.check_access(session_id, user_id)
    deadline = core.deadline()
    snapshot = await core.look(session_id, deadline)
    head = owned(snapshot.head, session_id, user_id)
    run = await read_run(core, snapshot, head.tip if number is None else number, deadline)
    return run, await lease_note(core, head, run.number, deadline)
