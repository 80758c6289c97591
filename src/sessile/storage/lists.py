"""Lists of sessions, and of what waits for people.

A status that a list is asked by is the one that its sessions show. What the database has of it is out of date where a
process is gone and nobody has written that down: the sessions that it takes for running are looked at, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

from ..errors import CorruptDataError, NewerVersionError, SessileError
from ..records import JsonObject, Page, Session, Waiting
from .computing import compute
from .core import Core
from .driver import Deadline, HeadRow, ListQuery, Span
from .encoding import decode_head
from .filters import cursor_of
from .forms import FORM, REVIEW, about
from .leases import shown_heads
from .matching import place_of
from .readable import read_entries
from .vocabulary import DecisionSent, Pending, RunEnded
from .withholding import withhold_all

STORED = {"running": ("running",), "interrupted": ("interrupted", "running"), "paused": ("paused", "running")}
"""By the status that a session shows, those that the database may have of it; all others it has as they are."""

PAGE = 500
"""How many sessions with a run in progress are counted at a time."""

PAUSE_PAGE = 4
"""How many of a run's newest commits are read to find its pause, which mostly is the last one."""


async def sessions(core: Core, query: ListQuery) -> Page[Session]:
    """See `Storage.sessions`; the query asks for one session more than the page is to have.

    One round trip (two by a status that the database may not know yet), and one more for the leases of all runs on the
    page that are running.
    """
    return await _page(core, query, lambda head: query.status in (None, head.status))


async def _page(core: Core, query: ListQuery, chosen: Callable[[Session], bool]) -> Page[Session]:
    query = replace(query, user_id=core.check_user(query.user_id))
    deadline = core.deadline()
    await core.prepare(deadline)
    query = replace(query, now=core.clock.now())
    rows: dict[str, HeadRow] = {}
    unreadable: dict[str, SessileError] = {}
    edges: list[tuple[int, str]] = []
    for status in STORED.get(query.status or "", (query.status,)):
        found = await core.driver.list(replace(query, status=status), deadline)
        unreadable |= found.unreadable
        for row in found.rows:
            rows[row.session_id] = max(row, rows.get(row.session_id, row), key=lambda one: one.revision)
        if found.after is not None:
            edges.append(found.after)
    nearest = min if query.ascending else max
    after = nearest(edges, default=None)  # behind it one of the lists may have more
    ordered = sorted(rows.values(), key=lambda row: place_of(row, query), reverse=not query.ascending)
    shown = [row for row in ordered if after is None or nearest(place_of(row, query), after) == place_of(row, query)]
    if len(shown) >= query.limit:
        shown = shown[: query.limit - 1]
        after = place_of(shown[-1], query) if shown else after
    heads = await _shown(core, shown, unreadable, deadline, with_state=query.with_state)
    return Page([head for head in heads if chosen(head)], cursor_of(after, query.order), unreadable)


async def _shown(
    core: Core,
    rows: Sequence[HeadRow],
    unreadable: dict[str, SessileError],
    deadline: Deadline,
    *,
    with_state: bool = False,
) -> list[Session]:
    """The heads of these rows as readers see them; those that cannot be read are put into `unreadable`."""
    heads = await decoded(core, rows, unreadable, with_state=with_state)
    await shown_heads(core, heads, deadline)
    return heads


async def decoded(
    core: Core, rows: Sequence[HeadRow], unreadable: dict[str, SessileError], *, with_state: bool
) -> list[Session]:
    """The heads of these rows, with their states or without; those that cannot be read are put into `unreadable`.

    One that cannot be read without its state is read whole: it may be that the state was not found.
    """
    heads: list[Session] = []
    for row in rows:
        try:
            length = len(row.body)
            head = await compute(core.driver, lambda row=row: decode_head(row, with_state=with_state), text=length)
            heads.append(head)
        except (NewerVersionError, CorruptDataError) as error:
            again = None if with_state else await read_whole(core, row)
            if again is None:
                unreadable[row.session_id] = error
            else:
                heads.append(again)
    withhold_all(unreadable)
    return heads


async def read_whole(core: Core, row: HeadRow) -> Session | None:
    """A head that was listed, as it is now, without its state; None if it is gone, or cannot be read either."""
    try:
        loaded = await core.driver.load(row.session_id, 0, core.deadline())
        if loaded is None or loaded.head.incarnation != row.incarnation:
            return None
        found = loaded.head
        return await compute(core.driver, lambda: decode_head(found, with_state=False), text=len(found.body))
    except (NewerVersionError, CorruptDataError):
        return None


async def count_sessions(core: Core, query: ListQuery) -> int:
    """See `Storage.count_sessions`: those that the database takes for running are looked at, page by page."""
    query = replace(query, user_id=core.check_user(query.user_id))
    deadline = core.deadline()
    await core.prepare(deadline)
    query = replace(query, now=core.clock.now())
    total = 0
    for status in STORED.get(query.status or "", (query.status,)):
        if status != "running":
            total += await core.driver.count(replace(query, status=status), deadline)
        else:
            total += await _count_running(core, query, deadline)
    return total


async def _count_running(core: Core, query: ListQuery, deadline: Deadline) -> int:
    """How many of the sessions that the database takes for running show the status of the query."""
    total, after = 0, None
    while True:
        page = await core.driver.list(
            replace(query, status="running", after=after, limit=PAGE, with_state=False), deadline
        )
        shown = await _shown(core, page.rows, {}, deadline)
        total += sum(head.status == query.status for head in shown)
        if page.after is None:
            return total
        after = page.after


async def waiting(core: Core, query: ListQuery) -> Page[Waiting]:
    """See `Storage.waiting`; the query asks for one session more than the page is to have."""
    found = await _page(core, replace(query, status="paused"), lambda head: bool(head.waiting))
    page: Page[Waiting] = Page([], found.next_cursor, found.unreadable)
    for session in found:
        for number in session.waiting:
            deadline = core.deadline()
            try:
                item = await what_waits(core, session, number, deadline)
            except (NewerVersionError, CorruptDataError) as error:
                core.skipped(session.session_id, f"Run {number}", error)
                page.unreadable[session.session_id] = error
            else:
                page.items.extend([] if item is None else [item])
    return page


async def what_waits(core: Core, session: Session, number: int, deadline: Deadline) -> Waiting | None:
    """What a run waits for, and what was decided about that since; None if it does not wait any more."""
    run_id, epoch = session.open_runs[number].run_id, session.open_runs[number].epoch
    decided: JsonObject = {}
    late: set[str] = set()
    now = core.clock.now()
    span = Span(runs=(number, number), limit=PAUSE_PAGE, newest_first=True)
    while True:
        rows = await core.driver.entries(session.session_id, session.incarnation, span, deadline)
        for entry in reversed(await read_entries(core.driver, rows)):
            ended, sent = RunEnded.read(entry), DecisionSent.read(entry)
            if sent is not None and sent.epoch == epoch:
                said = {**sent.calls, **sent.approvals}
                if sent.until is not None and sent.until <= now:
                    late |= said.keys() - decided.keys()  # an older decision does not hold again
                decided = {**said, **decided}  # the newest come first here
            elif ended is not None and entry.run_id == run_id:
                pending = Pending.of(ended.pending or {})
                asked = asked_of(pending)
                holds = {call: said for call, said in decided.items() if call not in late}
                waits = Waiting(session, number, run_id, entry.agent, entry.time_us, asked, pending.json, holds, epoch)
                return waits if ended.status == "paused" else None
        if len(rows) < span.limit:
            return None
        span = span._replace(last=rows[-1].seq - 1, limit=PAGE)


def asked_of(pending: Pending) -> list[JsonObject]:
    """What is asked, one by one: calls of tools, and names of events. What is none of these is left out."""
    given: Any = pending.requests
    requests = cast(JsonObject, given) if isinstance(given, dict) else {}
    asked: list[JsonObject] = []
    for kind in ("approvals", "calls"):
        what = "unsure" if pending.unsure else kind.removesuffix("s")
        for call in cast("list[Any]", requests.get(kind) or []):
            if isinstance(call, dict):
                said = cast(JsonObject, call)
                one = {name: said.get(name) for name in ("tool_name", "tool_call_id", "args")}
                asked.append({"kind": what, **one, **_of_people(requests, str(said.get("tool_call_id")))})
    return asked + [{**_form_of(pending, name), "kind": "event", "name": name} for name in pending.waits or []]


def _form_of(pending: Pending, event: str) -> JsonObject:
    forms: Any = pending.forms
    form = cast(JsonObject, forms).get(event) if isinstance(forms, dict) else None
    return cast(JsonObject, form) if isinstance(form, dict) else {}


def _of_people(requests: JsonObject, call: str) -> JsonObject:
    """What is asked beyond yes or no: a form that is to be filled, or an output that is to be looked at."""
    for kind, key in (("form", FORM), ("review", REVIEW)):
        if (said := about(requests, call, key)) is not None:
            return {**said, "kind": kind}
    return {}
