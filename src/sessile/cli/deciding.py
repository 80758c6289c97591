"""What waits for people, and what they say to it: `waiting`, `approve`, `deny`, `send`.

A decision is a commit in the log. It takes effect when the run is resumed: by the program that has the agent, or here,
where `--resume module:agent` names it.
"""

from __future__ import annotations

import json as json_of
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, cast

import typer

from ..errors import InvalidInputError, NotResumableError
from ..jsons import record_json
from ..records import JsonObject, Session, UserId, Waiting
from ..storage import Storage
from ..storage.core import Core
from ..storage.granting import Grant, Reach
from ..storage.journals import send_event
from ..storage.lists import what_waits
from ..storage.storage import operate
from ..storage.taking import checked_epoch
from ..terminal import clean_json, say, say_block, say_text
from ..transcripts import as_text, moment, one_asked
from .naming import named_object
from .opening import AsJson, Url, User, not_found, opened, url_and_more, whose
from .output import Table, paged, print_table

deciding = typer.Typer()

Calls = Annotated[
    list[str],
    typer.Argument(metavar="[URL] SESSION_ID [CALL]...", help="The session, and the ids of calls; without: all calls."),
]
RunNumber = Annotated[int | None, typer.Option(min=1, help="The run's number, if several runs wait.")]
By = Annotated[str | None, typer.Option(help="Who decides; the log has it.")]
For = Annotated[
    float | None,
    typer.Option("--for", metavar="SECONDS", min=0, help="For how long it holds. Default: without a limit."),
]


class Always(StrEnum):
    """Where an approval holds for later calls."""

    SESSION = "session"
    USER = "user"


Epoch = Annotated[
    int | None,
    typer.Option(min=1, help="The question's epoch (waiting --json) that is decided about; goes with --run."),
]
Resume = Annotated[
    str | None,
    typer.Option(metavar="MODULE:NAME", help="The agent, team or workflow that resumes the run, now and here."),
]


@deciding.command()
def waiting(
    url: Url = None,
    user: Annotated[str | None, typer.Option(help="Only in sessions of this user.")] = None,
    agent: Annotated[str | None, typer.Option(help="Only in sessions of this agent, team or workflow.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most of so many sessions.")] = 100,
    json: AsJson = False,
) -> None:
    """List what waits for people, or for events."""
    with opened(url) as storage:
        page = storage.waiting(user_id=whose(user), agent=agent, limit=limit)
    for session_id, error in page.unreadable.items():
        say("Session '{}' is not shown: {}", session_id, error, err=True)
    if json:
        say_text(clean_json([_json(waits) for waits in page], indent=2))
        return
    columns = ("since (UTC)", "session", "run", "agent", "user", "waits for", "decided")
    rows = [row for waits in page for row in _rows(waits)]
    with paged():
        print_table(Table(columns, rows, spare=("user", "agent", "decided")))
    if page.next_cursor is not None:
        say("There are more; --limit shows up to 1000.", err=True)


def _rows(waits: Waiting) -> list[list[str]]:
    session = waits.session
    place = [moment(waits.since), session.session_id, str(waits.run), waits.agent or "", session.user_id or ""]
    asked = [(one_asked(one), _decided(waits, one)) for one in waits.asked] or [("", "")]
    return [[*place, what, decided] for what, decided in asked]


def _decided(waits: Waiting, one: JsonObject) -> str:
    decision: Any = waits.decided.get(one.get("tool_call_id") or "")
    if decision is None:
        return ""
    if isinstance(decision, bool):
        return "yes" if decision else "no"
    said = cast(JsonObject, decision) if isinstance(decision, dict) else {}
    return {"tool-denied": "no", "tool-approved": "yes, changed"}.get(str(said.get("kind")), as_text(decision))


def _json(waits: Waiting) -> JsonObject:
    return {
        "session_id": waits.session.session_id,
        "user_id": waits.session.user_id,
        "run": waits.run,
        "run_id": waits.run_id,
        "agent": waits.agent,
        "since": _time(waits.since),
        "epoch": waits.epoch,
        "asked": waits.asked,
        "decided": waits.decided,
        "is_decided": waits.is_decided,
    }


def _time(time: datetime) -> str:
    return time.isoformat(timespec="microseconds")


@deciding.command()
def approve(
    names: Calls,
    run: RunNumber = None,
    args: Annotated[str | None, typer.Option(metavar="JSON", help="Other arguments for the call.")] = None,
    output: Annotated[
        str | None, typer.Option(metavar="VALUE", help="What is given in place of an output that is reviewed.")
    ] = None,
    always: Annotated[
        Always | None,
        typer.Option(help="Approve also all later calls of the same tool by the same agent: there, or for the user."),
    ] = None,
    ttl: For = None,
    by: By = None,
    epoch: Epoch = None,
    resume: Resume = None,
    user: User = None,
    json: AsJson = False,
) -> None:
    """Approve calls of tools that a run waits with, or the output that is reviewed before it is given."""
    if args is not None and output is not None:
        raise InvalidInputError("A call has arguments, or is an output that is reviewed: give --args or --output.")
    changed = None if args is None else _object(args)
    changed = changed if output is None else {"output": _value(output)}
    scope: Reach | None = None if always is None else always.value
    _decide(names, True if changed is None else changed, run, by, epoch, resume, user, always=scope, ttl=ttl, json=json)


@deciding.command()
def deny(
    names: Calls,
    run: RunNumber = None,
    reason: Annotated[str | None, typer.Option(help="What the model is told.")] = None,
    ttl: For = None,
    by: By = None,
    epoch: Epoch = None,
    resume: Resume = None,
    user: User = None,
    json: AsJson = False,
) -> None:
    """Deny calls of tools that a run waits with; send an output that is reviewed back, with the reason as a remark."""
    _decide(names, False if reason is None else reason, run, by, epoch, resume, user, ttl=ttl, json=json)


def _decide(
    names: Sequence[str],
    decision: Any,
    run: int | None,
    by: str | None,
    epoch: int | None,
    resume: str | None,
    user: str | None,
    *,
    always: Reach | None = None,
    ttl: float | None = None,
    json: bool,
) -> None:
    url, session_id, calls = url_and_more(names, "the id of a session")
    agent = None if resume is None else named_object(resume)
    with opened(url) as storage:
        waits = _waits(storage, session_id, run, user)
        _check_same(agent, waits, user)
        calls = calls or _all_calls(waits, forms=isinstance(decision, str) or decision is False)
        if not isinstance(decision, (bool, str)) and len(calls) > 1:
            raise InvalidInputError(
                "Several calls would get the same arguments.", hint="Name one call, and give its arguments."
            )
        approvals: dict[str, Any] = dict.fromkeys(calls, decision)
        waits = storage.decide(
            session_id,
            waits.run,
            approvals=approvals,
            by=by,
            always=always,
            ttl=ttl,
            epoch=checked_epoch(epoch, run) or waits.epoch,
            user_id=whose(user),
        )
    _go_on(waits, calls, agent, user, json=json)


@deciding.command()
def approvals(
    url: Url = None,
    session: Annotated[str | None, typer.Option(metavar="SESSION_ID", help="All that hold in this session.")] = None,
    user: Annotated[str | None, typer.Option(help="Those of this user; or whose the session is.")] = None,
    revoke: Annotated[str | None, typer.Option(metavar="ID", help="Take this one back.")] = None,
    by: By = None,
    json: AsJson = False,
) -> None:
    """List what is approved for good (`approve --always`), for a user or in a session; take it back."""
    if session is None and user is None:
        raise InvalidInputError("Say whose approvals: --user, or --session.")
    owner = whose(user) if session is not None else user
    with opened(url) as storage:
        if revoke is not None:
            _revoke(storage, revoke, session, owner, by)
        found = storage.grants(session, user_id=owner)
    if json:
        say_text(clean_json([record_json(one) for one in found], indent=2))
        return
    columns = ("approval", "agent", "tool", "where", "by", "since (UTC)", "until (UTC)")
    rows = [_grant_row(one) for one in found]
    with paged():
        print_table(Table(columns, rows, spare=("by", "where", "since (UTC)")))


def _revoke(storage: Storage, grant_id: str, session: str | None, owner: UserId, by: str | None) -> None:
    """Take it back where it stands: a session shows those of its user, too."""
    places = [session] if session is None else [session, None]
    head = None if session is None else storage.get_session(session, user_id=owner)
    for place in places:
        whose_it_is = owner if place is not None or head is None else head.user_id
        if place is None and whose_it_is is None:
            continue
        if storage.revoke(grant_id, place, by=by, user_id=whose_it_is):
            return
    say("There is no approval {} that holds.", grant_id, err=True)
    raise typer.Exit(1)


def _grant_row(grant: Grant) -> list[str]:
    where = "all sessions of the user" if grant.session_id is None else "this session"
    until = "" if grant.expires_at is None else moment(grant.expires_at)
    return [grant.grant_id, grant.agent, grant.tool, where, grant.by or "", moment(grant.granted_at), until]


@deciding.command()
def send(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="[URL] SESSION_ID NAME [VALUE]",
            help="The session; the event that its workflow waits for, or the id of a call that is executed elsewhere "
            "or asks with a form; and the value, JSON or text.",
        ),
    ],
    run: RunNumber = None,
    by: By = None,
    resume: Resume = None,
    user: User = None,
    json: AsJson = False,
) -> None:
    """Send a workflow its event, an agent the result of a call that was executed elsewhere; fill a form."""
    url, session_id, rest = url_and_more(names, "the id of a session, and a name")
    if len(rest) not in (1, 2):
        raise typer.BadParameter("Give the id of a session, the name of an event, and perhaps a value.")
    name, value = rest[0], _value(rest[1]) if len(rest) == 2 else None
    agent = None if resume is None else named_object(resume)
    with opened(url) as storage:
        waits = _waits(storage, session_id, run, user)
        _check_same(agent, waits, user)
        if any(one.get("tool_call_id") == name for one in waits.asked):
            waits = storage.decide(
                session_id, waits.run, results={name: value}, by=by, epoch=waits.epoch, user_id=whose(user)
            )
        else:
            workflow = waits.agent or ""
            owner = whose(user)
            operate(storage, send_event, session_id, workflow, name, value, waits.run, by=by, user_id=owner)
    _go_on(waits, [name], agent, user, json=json)


def _waits(storage: Storage, session_id: str, run: int | None, user: str | None) -> Waiting:
    """What the run waits for: the one that is named, or the only one that waits."""
    head = storage.get_session(session_id, user_id=whose(user))
    if head is None:
        raise not_found(session_id)
    waiting = head.waiting if run is None else [run]
    if len(waiting) > 1:
        runs = ", ".join(map(str, waiting))
        raise InvalidInputError(f"Several runs of session {session_id!r} wait: {runs}.", hint="Name one with --run.")
    paused = [number for number in waiting if number in head.open_runs]
    found = operate(storage, _look, head, paused[0]) if paused else None
    if found is None:
        what = "no run that waits" if run is None else f"no run {run} that waits"
        raise NotResumableError(f"Session {session_id!r} has {what}.", hint="List what does with: sessile waiting.")
    return found


async def _look(core: Core, head: Session, number: int) -> Waiting | None:
    return await what_waits(core, head, number, core.deadline())


def _check_same(agent: Any, waits: Waiting, user: str | None) -> None:
    """Refuse to resume by an agent whose own storage has another run there than the one that is decided."""
    own: Storage | None = getattr(agent, "storage", None)
    session_id = waits.session.session_id
    if own is not None and _waits(own, session_id, waits.run, user).run_id != waits.run_id:
        raise InvalidInputError(
            f"Run {waits.run} of session {session_id!r} is another one in the agent's own storage.",
            hint="Give the URL of the database that the agent uses.",
        )


def _all_calls(waits: Waiting, *, forms: bool) -> list[str]:
    """All calls that are decided about by yes or no; `forms` by no only."""
    kinds = ("approval", "unsure", "review", *(("form",) if forms else ()))
    calls = [str(one["tool_call_id"]) for one in waits.asked if one["kind"] in kinds]
    if not calls:
        raise NotResumableError(
            f"Run {waits.run} of session {waits.session.session_id!r} does not wait for a decision.",
            hint="Send what it waits for with: sessile send.",
        )
    return calls


def _go_on(waits: Waiting, names: Sequence[str], agent: Any, user: str | None, *, json: bool) -> None:
    session_id, run = waits.session.session_id, waits.run
    result: Any = None
    if agent is not None:
        result = agent.resume(session_id, run_number=run, epoch=waits.epoch, user_id=whose(user))
    if json:
        status, output = ("paused", None) if result is None else (result.status, as_text(_plain(result.output)))
        shown = {"session_id": session_id, "run": run, "told": list(names), "status": status, "output": output}
        say_text(clean_json({**shown, "decided": waits.decided}, indent=2))
        return
    say("Told run {} of session {}: {}.", run, session_id, ", ".join(names))
    if result is not None and result.status == "paused":
        say("Run {} waits again: sessile waiting.", run)
        return
    if result is not None:
        say_block(f"Run {run} is {result.status}", as_text(_plain(result.output)))
        return
    say("It goes on when {} resumes it: resume({}), or --resume MODULE:NAME here.", waits.agent or "its agent",
        repr(session_id))  # fmt: skip


def _plain(output: Any) -> Any:
    try:
        return json_of.loads(json_of.dumps(output))
    except (TypeError, ValueError):
        return str(output)


def _value(text: str) -> Any:
    try:
        return json_of.loads(text)
    except ValueError:
        return text


def _object(text: str) -> JsonObject:
    value = _value(text)
    if not isinstance(value, dict):
        raise InvalidInputError("The arguments of a call are a JSON object.")
    return cast(JsonObject, value)
