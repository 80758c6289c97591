"""Sessions of Agno's in a storage: a row in the state, runs in the log."""

# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# (What is taken apart here is JSON of another library's, of which no type is known.)

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ..errors import SessileError, SessionNotFoundError
from ..storage.extending import (
    ANY_USER,
    Core,
    Draft,
    Entry,
    Session,
    Snapshot,
    Tail,
    Usage,
    commit,
    find,
    find_in,
    look,
    reached,
    renamed,
    run_added,
    run_amended,
    started_session,
    state_changed,
    tail,
)
from .agno_runs import DELETED, FORMAT, RUN, Stored, all_runs, input_of, outcome_of, parts_of, plain, runs_in, usage_of
from .ids import digest, is_usable, short
from .stored import reading, reads_stored

KIND = "agno"
OWNERS = {"agent": "agent_id", "team": "team_id", "workflow": "workflow_id"}
Choose = Callable[[list[dict[str, Any]]], list[dict[str, Any]]]
"""Which runs count for a context."""


FILLING = "filling"
"""In the state of a session whose runs are still being written: whoever writes it again writes them, too."""


class UnclaimedError(Exception):
    """A session that has no owner is written by somebody who will be it."""


class UnchangedError(SessileError):
    """A row is to be written that is there already: Agno writes one after each run, which has done so, too.

    An error of Sessile's, because such a one is believed only after a look at the database.
    """


async def put_row(
    core: Core, stored: str, row: dict[str, Any], user: str | None, *, with_runs: bool
) -> tuple[dict[str, Any], bool]:
    """Write a session's row, for its owner; the row as it is then, and whether its runs have to be written.

    They have to if the session is new, or if who made it was cut off before they were all there (`filled`). Raises
    `UnclaimedError` where a session would get its owner.
    """
    now, written = int(time.time()), dict[str, Any]()
    whose = None if user is None else short(user)
    new = True

    async def change(snapshot: Snapshot) -> Draft:
        nonlocal new
        if snapshot.head is not None and snapshot.head.user_id is None and whose is not None:
            raise UnclaimedError
        owner = OWNERS[row["session_type"]]
        agent = short(str(row[owner])) if row.get(owner) else None
        head, first = started_session(core, snapshot, stored, user_id=whose, kind=KIND, agent=agent)
        before = row_of(head) if "row" in head.state else None
        new = before is None or FILLING in head.state
        made = row.get("created_at") or now if before is None else before["created_at"]
        written.clear()
        written.update({**row, "created_at": made, "updated_at": now if before else made})
        filling = {FILLING: True} if new and with_runs else {}
        changed = state_changed(head, {"row": written, **filling})
        name = name_of(row) or None
        named = renamed(head, name) if name is None or is_usable(name) else []
        if not (first or changed or named):
            raise UnchangedError("There is nothing to write.")
        return Draft([*first, *changed, *named])

    with suppress(UnchangedError):
        # `ANY_USER`, because an unowned session is somebody's to claim; whose it is, the change asks.
        await commit(core, stored, change, user_id=ANY_USER)
    return written, new


async def filled(core: Core, stored: str) -> None:
    """Note that all runs are there with which a session was made."""

    async def change(snapshot: Snapshot) -> Draft:
        return Draft(state_changed(reached(snapshot, stored, ANY_USER), {}, [FILLING]))

    await commit(core, stored, change, user_id=ANY_USER)


async def rename(core: Core, stored: str, session_type: Any, name: str, user_id: str | None) -> bool:
    """Change the name in a session's row; whether that could be done."""

    async def change(snapshot: Snapshot) -> Draft:
        head = _reached(snapshot.head, user_id)
        row = {} if head is None else row_of(head)
        if head is None or session_type not in (None, row["session_type"]):
            raise SessionNotFoundError(f"There is no session {stored!r}.")
        with reading():
            row["session_data"] = {**(row.get("session_data") or {}), "session_name": name}
        return Draft([*state_changed(head, {"row": row}), *(renamed(head, name) if is_usable(name) else [])])

    try:
        await commit(core, stored, change, user_id=ANY_USER)
    except SessionNotFoundError:
        return False
    return True


async def write_run(core: Core, stored: str, run: dict[str, Any], user_id: str | None) -> None:
    """Write a run, new or again; see `SessileDb.upsert_run`."""

    async def change(snapshot: Snapshot) -> Draft:
        head = _reached(snapshot.head, user_id, unowned=True)
        if head is None:
            raise SessionNotFoundError(f"There is no session {stored!r} of this user.")
        before = await run_in(core, head, run["run_id"])
        return _drafted(head, run, before)

    await commit(core, stored, change, user_id=ANY_USER)


async def cancel(core: Core, stored: str, run_id: str, reason: str, user_id: str | None, expected: str) -> bool:
    """Cancel a run that has the expected status; whether it had."""

    async def change(snapshot: Snapshot) -> Draft:
        head = _reached(snapshot.head, user_id)
        before = None if head is None else await run_at(core, stored, run_id)
        if head is None or before is None or str(before.said.get("status")).upper() != expected:
            raise SessionNotFoundError("There is no such run.")
        return _drafted(head, {**before.whole(), "status": "CANCELLED", "content": reason}, before)

    try:
        await commit(core, stored, change, user_id=ANY_USER)
    except SessionNotFoundError:
        return False
    return True


async def run_in(core: Core, head: Session, run_id: str) -> Stored | None:
    """A run of a session that is at hand, by its id: one indexed read of the newest commit, which has all of it."""
    return runs_in(await find_in(core, head, _key(run_id), limit=1, newest_first=True)).get(run_id)


async def run_at(core: Core, stored: str, run_id: str) -> Stored | None:
    """A run of a session by its id: one indexed read."""
    return runs_in(await find(core, stored, _key(run_id), limit=1, newest_first=True, user_id=ANY_USER)).get(run_id)


async def hide_run(core: Core, stored: str, run_id: str) -> int:
    """Note that a run is deleted; returns its number here."""
    numbers: list[int] = []

    async def change(snapshot: Snapshot) -> Draft:
        before = await run_at(core, stored, run_id)
        if before is None or snapshot.head is None:
            raise SessionNotFoundError("There is no such run.")
        numbers[:] = [before.number]
        gone = Entry(DELETED, {"run_id": run_id}, run_id, before.number)
        return Draft([gone], before.number, key=_key(run_id))

    await commit(core, stored, change, user_id=ANY_USER)
    return numbers[0]


async def read(
    core: Core, stored: str, user_id: str | None, limit: int | None, choose: Choose
) -> dict[str, Any] | None:
    """The row of a session with its runs, or the newest `limit` that count for a context."""
    page: Tail | None = None
    if limit:
        page = await tail(core, stored, _entries_of(limit), user_id=ANY_USER)
        head = None if page is None else page.head
    else:
        head = (await look(core, stored, user_id=ANY_USER)).head
    head = _reached(head, user_id)
    if head is None or "row" not in head.state:
        return None
    row = plain(row_of(head))
    runs = await all_runs(core, head) if limit is None else await _newest_runs(core, page, limit, choose)
    return {**row, "runs": runs or None}


# ---------------------------------------------------------------- helpers


def _drafted(head: Session, run: dict[str, Any], before: Stored | None) -> Draft:
    """The commit of a run: all of it, at its place."""
    run_id, outcome, usage = run["run_id"], outcome_of(run), usage_of(run)
    used = Usage()
    with reading():
        if before is not None:
            used = usage_of(before.whole())
            run |= {"run_index": before.said["run_index"]} if "run_index" in before.said else {}
    rest, own = parts_of(run)
    names = [run.get(name) for name in ("agent_name", "team_name", "workflow_name", *OWNERS.values())]
    agent = next((short(name) for name in names if isinstance(name, str) and name), None)
    given: dict[str, Any] = {"messages": own, "format": FORMAT, "agent": agent, **outcome}
    inside = short(str(run_id))
    if before is None:
        number, entries = run_added(head, inside, input=input_of(run), usage=usage, **given)
    else:
        number = before.number
        more = usage - used
        entries = run_amended(number, inside, drop=len(before.messages), usage=more or None, **given)
    row = {**row_of(head), "updated_at": int(time.time())}
    whole = Entry(RUN, {"run_id": run_id, "run": rest}, inside, number)
    return Draft([whole, *entries, *state_changed(head, {"row": row})], number, key=_key(run_id))


def _entries_of(runs: int) -> int:
    """About how many entries so many runs have, written twice, and their session's row."""
    return 12 * runs + 12


async def _newest_runs(core: Core, page: Tail | None, limit: int, choose: Choose) -> list[dict[str, Any]]:
    """The newest runs that count for a context, oldest first; `page` has the newest entries."""
    entries: list[Entry] = []
    while page is not None:
        entries[:0] = reversed(page.entries)
        before = page.before
        runs = sorted(runs_in(entries).values(), key=lambda one: one.number)
        oldest = entries[0].run or 0 if entries else 0
        whole = [one.whole() for one in runs if before is None or one.number > oldest]
        with reading():
            chosen = choose(whole)
        if before is None or len(chosen) >= limit:
            return chosen[-limit:]
        page = await tail(core, page.head.session_id, _entries_of(limit), before=before, user_id=ANY_USER)
    return []


def _reached(head: Session | None, user_id: str | None, *, unowned: bool = False) -> Session | None:
    if head is None or user_id is None or head.user_id == short(user_id) or (unowned and head.user_id is None):
        return head
    return None


@reads_stored
def row_of(head: Session) -> dict[str, Any]:
    """A copy of the row of a session, which has what every row has."""
    row = {"created_at": 0, **head.state["row"]}
    moments = (row["created_at"], row.get("updated_at") or 0)
    whole = isinstance(row["session_id"], str) and row["session_type"] in OWNERS
    if not whole or not all(isinstance(one, int) for one in moments) or not _is_object(row.get("session_data")):
        raise ValueError("it is no row")
    return row


def _is_object(value: Any) -> bool:
    return value is None or isinstance(value, dict)


def _key(run_id: str) -> str:
    return f"agno:{run_id}" if is_usable(f"agno:{run_id}") else f"agno:~{digest(run_id)}"


def name_of(row: dict[str, Any]) -> str:
    """The name that a session has in its row."""
    return str((row.get("session_data") or {}).get("session_name") or "")
