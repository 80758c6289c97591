"""Decisions about tool calls that paused runs wait for, by whoever may decide: they wait in the log for `resume`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..errors import InvalidInputError, NotResumableError, RunNotFoundError
from ..records import Duration, JsonObject, Run, Session, UserId, Waiting
from .checks import check_choice, check_count
from .core import Core
from .encoding import check_json
from .forms import check_answer, check_edit, unfilled
from .granting import KEY, Reach, grant, grant_user, granted, until_of
from .ids import check_optional_id
from .lists import asked_of, what_waits
from .runs import read_run
from .snapshots import Draft, Snapshot, owned
from .taking import check_epoch, checked_epoch
from .vocabulary import ApprovalGranted, DecisionSent, Pending

Decision = bool | str | Mapping[str, Any]
"""Yes, no, no for this reason, or yes with these arguments instead of the model's."""


async def decide(
    core: Core,
    session_id: str,
    run_number: int | None = None,
    *,
    approvals: Mapping[str, Decision] | None = None,
    results: Mapping[str, Any] | None = None,
    by: str | None = None,
    always: Reach | None = None,
    ttl: Duration | None = None,
    epoch: int | None = None,
    user_id: UserId = None,
) -> Waiting:
    """See `Storage.decide`."""
    user_id = core.check_access(session_id, user_id)
    if run_number is not None:
        check_count(run_number, "run_number", least=1)
    checked_epoch(epoch, run_number)
    check_optional_id(by, "by")
    if always is not None:
        check_choice(always, "always", ("session", "user"))
    until = until_of(core, ttl)
    said = {call: _decision(call, one) for call, one in (approvals or {}).items()}
    calls = dict(results or {})
    check_json(said, "approvals")
    check_json(calls, "results")
    if not said and not calls:
        raise InvalidInputError("Nothing is decided: approvals and results are empty.")
    if always is not None and (not said or calls or any(one is not True for one in said.values())):
        raise InvalidInputError("always= goes with approvals that are True: nothing else can hold for other calls.")
    deadline = core.deadline()
    waits: list[Waiting] = []
    grants: list[ApprovalGranted] = []

    async def change(snapshot: Snapshot) -> Draft:
        head = owned(snapshot.head, session_id, user_id)
        number = _paused(head, run_number)
        check_epoch(session_id, number, head.open_runs[number], epoch)
        found = await what_waits(core, head, number, deadline)
        if found is None:
            raise _nothing_waits(head, number)
        _check_asked(found, said, calls)
        waits[:] = [found]
        sent = DecisionSent(approvals=said, calls=calls, epoch=head.open_runs[number].epoch, by=by, until=until)
        entries = [sent.entry(found.run_id, number, agent=found.agent)]
        if always is None:
            return Draft(entries, number)
        if always == "user" and head.user_id is None:
            raise _nobodys(session_id)
        pairs = _asked_by(found, await read_run(core, snapshot, number, deadline), said)
        grants[:] = [granted(tool, agent, by, until) for agent, tool in pairs]
        here = [one.entry() for one in grants] if always == "session" else []
        return Draft([*entries, *here], number, key=KEY if here else None)

    committed = await core.commit(session_id, user_id, change, deadline)
    if always == "user" and committed is not None and committed.head.user_id is not None:
        await grant_user(core, committed.head.user_id, grants)
    waits[0].decided = {**waits[0].decided, **calls, **said}
    return waits[0]


async def grant_for(
    core: Core,
    session_id: str,
    run_number: int,
    calls: Sequence[str],
    always: Reach,
    *,
    by: str | None = None,
    ttl: Duration | None = None,
    epoch: int | None = None,
    user_id: UserId = None,
) -> None:
    """Approve for good what these calls of a paused run ask, without deciding about them: whoever resumes it does."""
    user_id = core.check_access(session_id, user_id)
    deadline = core.deadline()
    snapshot = await core.look(session_id, deadline)
    head = owned(snapshot.head, session_id, user_id)
    number = _paused(head, run_number)
    check_epoch(session_id, number, head.open_runs[number], epoch)
    found = await what_waits(core, head, number, deadline)
    if found is None:
        raise _nothing_waits(head, run_number)
    _check_asked(found, dict.fromkeys(calls, True), {})
    for agent, tool in _asked_by(found, await read_run(core, snapshot, run_number, deadline), calls):
        if always == "session":
            await grant(core, tool, agent, session_id, by=by, ttl=ttl, user_id=user_id)
        elif head.user_id is None:
            raise _nobodys(session_id)
        else:
            await grant_user(core, head.user_id, [granted(tool, agent, by, until_of(core, ttl))])


def _nobodys(session_id: str) -> InvalidInputError:
    return InvalidInputError(f"Session {session_id!r} has no user, for whom to approve.")


def _decision(call: str, given: Any) -> Any:
    """A decision as it is stored: Pydantic AI's own JSON, where it says more than yes or no."""
    if isinstance(given, bool):
        return given
    if isinstance(given, str):
        return {"kind": "tool-denied", "message": given}
    if isinstance(given, Mapping):
        arguments: JsonObject = dict(given)  # pyright: ignore[reportUnknownArgumentType] (checked to be JSON below)
        return {"kind": "tool-approved", "override_args": arguments}
    raise InvalidInputError(
        f"The decision about {call} must be True, False, a reason, or other arguments; it is {given!r}."
    )


def _asked_by(waits: Waiting, run: Run, approvals: Iterable[str]) -> list[tuple[str, str]]:
    """The agents that have made these calls, each with its tool: what is approved for good. Nothing else may be."""
    approvals = list(approvals)
    kinds = {one["tool_call_id"]: one["kind"] for one in waits.asked if one["kind"] != "event"}
    if any(kinds[call] != "approval" for call in approvals):
        raise InvalidInputError("Only approvals hold for later calls: all else is decided by itself.")
    pairs: list[tuple[str, str]] = []
    for call in approvals:
        found = _makers(run, call)
        if len(found) != 1 or found[0][0] is None:
            raise InvalidInputError(
                f"It is not known which agent has made the call {call}: it can be approved by itself only.",
                hint="Agents need a name; else storage.grant names agent and tool.",
            )
        pairs.append((found[0][0], found[0][1]))
    return list(dict.fromkeys(pairs))


def _makers(run: Run, call: str) -> list[tuple[str | None, str]]:
    """Who has made a call that waits, and of which tool: runs below others are asked first, which tell it upwards."""
    below = [one for child in run.children if child.status == "paused" for one in _makers(child, call)]
    if below or run.pending is None:
        return below
    asked = asked_of(Pending.of(run.pending))
    return [(run.agent, str(one["tool_name"])) for one in asked if one.get("tool_call_id") == call]


def _paused(head: Session, number: int | None) -> int:
    if number is None:
        waiting = head.waiting
        if not waiting:
            raise _nothing_waits(head, None)
        return waiting[-1]
    if number > head.run_count:
        raise RunNotFoundError(f"Session {head.session_id!r} has no run {number}.")
    opened = head.open_runs.get(number)
    if opened is None or opened.status != "paused":
        raise _nothing_waits(head, number)
    return number


def _nothing_waits(head: Session, number: int | None) -> NotResumableError:
    what = "has no run that waits" if number is None else f"has run {number}, which does not wait"
    return NotResumableError(
        f"Session {head.session_id!r} {what} for a decision.",
        hint="Look at its runs: what was waited for may have been decided already.",
    )


def _check_asked(waits: Waiting, approvals: JsonObject, results: JsonObject) -> None:
    """Refuse decisions that the run does not wait for, before anything is written."""
    calls = {one["tool_call_id"]: one for one in waits.asked if one["kind"] != "event"}
    kinds = {call: one["kind"] for call, one in calls.items()}
    answerable = {call for call, kind in kinds.items() if kind in ("call", "form")}
    approvable = {call for call, kind in kinds.items() if kind != "call"}
    unknown = (approvals.keys() - approvable) | (results.keys() - answerable)
    if unknown:
        asked = ", ".join(f"{call} ({'results' if call in answerable else 'approvals'})" for call in kinds)
        raise InvalidInputError(
            f"Run {waits.run} of session {waits.session.session_id!r} does not wait for {', '.join(sorted(unknown))}.",
            hint=f"It waits for {asked or 'no decision'}.",
        )
    changed = {call for call, one in approvals.items() if isinstance(one, dict) and "override_args" in one}
    if changed & {call for call, kind in kinds.items() if kind == "unsure"}:
        raise InvalidInputError("The arguments of a call that was interrupted cannot be changed.")
    for call, answer in results.items():
        if kinds[call] == "form":
            check_answer(call, calls[call], answer)
    for call, said in approvals.items():
        if kinds[call] == "form" and (said is True or (isinstance(said, dict) and "override_args" in said)):
            raise unfilled(call)
        if kinds[call] == "review" and isinstance(said, dict) and "override_args" in said:
            check_edit(said["override_args"], calls[call])
