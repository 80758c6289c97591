"""Decisions about tool calls that paused runs wait for, by whoever may decide: they wait in the log for `resume`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InvalidInputError, NotResumableError, RunNotFoundError
from ..records import JsonObject, Session, UserId, Waiting
from .checks import check_count
from .core import Core
from .encoding import check_json
from .ids import check_optional_id
from .lists import what_waits
from .snapshots import Draft, Snapshot, owned
from .vocabulary import DecisionSent

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
    user_id: UserId = None,
) -> Waiting:
    """See `Storage.decide`."""
    user_id = core.check_access(session_id, user_id)
    if run_number is not None:
        check_count(run_number, "run_number", least=1)
    check_optional_id(by, "by")
    said = {call: _decision(call, one) for call, one in (approvals or {}).items()}
    calls = dict(results or {})
    check_json(said, "approvals")
    check_json(calls, "results")
    if not said and not calls:
        raise InvalidInputError("Nothing is decided: approvals and results are empty.")
    deadline = core.deadline()
    waits: list[Waiting] = []

    async def change(snapshot: Snapshot) -> Draft:
        head = owned(snapshot.head, session_id, user_id)
        number = _paused(head, run_number)
        found = await what_waits(core, head, number, deadline)
        if found is None:
            raise _nothing_waits(head, number)
        _check_asked(found, said, calls)
        waits[:] = [found]
        sent = DecisionSent(approvals=said, calls=calls, epoch=head.open_runs[number].epoch, by=by)
        return Draft([sent.entry(found.run_id, number, agent=found.agent)], number)

    await core.commit(session_id, user_id, change, deadline)
    waits[0].decided = {**waits[0].decided, **calls, **said}
    return waits[0]


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
    kinds = {one["tool_call_id"]: one["kind"] for one in waits.asked if one["kind"] != "event"}
    approvable = {call for call, kind in kinds.items() if kind != "call"}
    unknown = (approvals.keys() - approvable) | (results.keys() - (kinds.keys() - approvable))
    if unknown:
        asked = ", ".join(f"{call} ({'results' if kind == 'call' else 'approvals'})" for call, kind in kinds.items())
        raise InvalidInputError(
            f"Run {waits.run} of session {waits.session.session_id!r} does not wait for {', '.join(sorted(unknown))}.",
            hint=f"It waits for {asked or 'no decision'}.",
        )
    changed = {call for call, one in approvals.items() if isinstance(one, dict) and "override_args" in one}
    if changed & {call for call, kind in kinds.items() if kind == "unsure"}:
        raise InvalidInputError("The arguments of a call that was interrupted cannot be changed.")
