"""The body of the head: what of it is in no column of its own."""

from __future__ import annotations

from typing import Any, cast

from ..._version import __version__
from ...records import JsonObject, OpenRun, Session, Status, Usage
from ..driver import HeadRow
from .words import Fields, field


class HeadBody(Fields):
    """The body of a head row, one JSON object. Fields that a program does not know it keeps and writes back."""

    version: int = field("the lowest format version of a reader that may read it")
    writer: str = field("the version of Sessile that has written it")
    run_count: int = field("how many runs were ever started, on all branches; members' runs not counted")
    usage: JsonObject = field("what all runs have used: counts, see below")
    tip: int = field("the number of the last run of the current branch; 0: it is empty")
    segments: list[list[int]] = field(
        "the tree of branches: `[parent, first]` says that the runs from `first` up to the next segment's follow run "
        "`parent`"
    )
    open_runs: JsonObject = field(
        "by run number, the runs that have not finished: `[run_id, status, epoch, lease_until]`"
    )
    ttl: int | None = field("microseconds after the last commit at which the session expires")
    forked_from: JsonObject | None = field('of a fork: `{"session_id": …, "run": …}`')
    summary: JsonObject | None = field("the rolling summary, as in `session.summarized`")
    hidden: str | None = field("`building`, `cache`, `scope` or `deleted`: why the session is in no list")
    last_status: Status | None = field(
        "the status of the newest run, where the session waits for a run before it (`status` is `paused`)",
        default=None,
        since=3,
    )
    trimmed: int = field("the number of the last run that was removed from the beginning", default=0, since=4)
    hold: str | None = field("why nothing of the session may be deleted", default=None, since=4)
    scope_ids: list[str] | None = field(
        "changes that runs have made in the state of their user or application, and that may not be written there yet; "
        "of a scope: the last ones that were",
        default=None,
        since=4,
    )
    handoffs: list[list[Any]] | None = field(
        "the newest handoffs between members of teams, as in `lead.passed`: `[run, team, from, to]`",
        default=None,
        since=6,
    )
    state: JsonObject = field("the session's state")


SCOPE = "scope"
"""Why the state of a user or an application is in no list: it is no conversation."""

_KNOWN = frozenset(HeadBody.FIELDS)
_LATER = {one.name: one.since for one in HeadBody.FIELDS.values() if one.since > 1}
_LATER_LISTED = ("trimmed", "hold", "scope_ids", "handoffs")
"""Fields that are written where there is something in them, in the order of their versions."""


def body_of(head: Session) -> JsonObject:
    """The body of a head but for the state, which is encoded by itself."""
    body: JsonObject = {
        "version": 1,
        "writer": __version__,
        "run_count": head.run_count,
        "usage": head.usage.to_json(),
        "tip": head.tip,
        "segments": head.segments,
        "open_runs": {
            str(number): [run.run_id, run.status, run.epoch, run.until_us, *run.more]
            for number, run in head.open_runs.items()
        },
        "ttl": head.ttl_us,
        "forked_from": head.forked_from,
        "summary": head.summary,
        "hidden": head.hidden,
    }
    if head.last_status != head.status:
        body["last_status"] = head.last_status
        body["version"] = _LATER["last_status"]
    for name in _LATER_LISTED:
        if value := getattr(head, name):
            body[name] = value
            body["version"] = _LATER[name]
    if head.hidden == SCOPE:
        body["version"] = _LATER["scope_ids"]  # who does not know what it is would remove it
    return {**head.more, **body} if head.more else body


def session_of(row: HeadRow, body: Any, metadata: JsonObject, *, sound: bool = False) -> Session:
    """The head of a row whose body and metadata are these. Raises `TypeError` where they are of other types.

    `sound` ones were read before, or written here, and are not looked at.
    """
    if not sound:
        _check_types(body, metadata)
        # Each run has a commit of its own; whoever goes through them would else go on for as long as a number can say.
        if not body["tip"] <= body["run_count"] <= row.revision:
            raise _misplaced(body["run_count"])
    return Session(
        session_id=row.session_id,
        incarnation=row.incarnation,
        kind=row.kind,
        agent=row.agent,
        user_id=row.user_id,
        name=row.name,
        revision=row.revision,
        run_count=body["run_count"],
        status=cast(Any, row.status),
        usage=Usage.from_json(body["usage"]),
        state=body["state"],
        metadata=metadata,
        created_us=row.created_at,
        updated_us=row.updated_at,
        ttl_us=body["ttl"],
        expires_us=row.expires_at,
        forked_from=body["forked_from"],
        tip=body["tip"],
        segments=[(parent, first) for parent, first in body["segments"]],
        open_runs={int(number): _open_run(*fields) for number, fields in body["open_runs"].items()},
        summary=body["summary"],
        hidden=body["hidden"],
        last_status=body.get("last_status", row.status),
        trimmed=body.get("trimmed", 0),
        hold=body.get("hold"),
        scope_ids=body.get("scope_ids") or [],
        handoffs=[(run, team, was, to) for run, team, was, to in body.get("handoffs") or ()],
        more=None if _KNOWN.issuperset(body) else {name: body[name] for name in body if name not in _KNOWN},
    )


def _check_types(body: Any, metadata: Any) -> None:
    """Refuse what would be an error only later, where nobody would know that it is the head which is damaged."""
    for value in (body["run_count"], body["tip"]):
        if type(value) is not int or value < 0:
            raise _misplaced(value)
    for value in (metadata, body["state"], body["usage"], body["open_runs"]):
        if type(value) is not dict:
            raise _misplaced(value)
    for parent, first in body["segments"]:
        if type(parent) is not int or type(first) is not int or parent < 0 or first < 0:
            raise _misplaced(parent)
    _check_maybe(body)
    for run_id, status, epoch, until, *_ in body["open_runs"].values():
        if not (type(run_id) is type(status) is str and type(epoch) is type(until) is int):
            raise _misplaced(run_id)


_MAYBE = (("ttl", int), ("hidden", str), ("forked_from", dict), ("summary", dict))
"""What may be null."""


def _check_maybe(body: Any) -> None:
    for name, kind in _MAYBE:
        if body[name] is not None and type(body[name]) is not kind:
            raise _misplaced(body[name])
    if type(body.get("trimmed", 0)) is not int or type(body.get("hold") or "") is not str:
        raise _misplaced(body.get("hold"))
    if any(type(one) is not str for one in body.get("scope_ids") or ()):
        raise _misplaced(body["scope_ids"])
    for run, *names in body.get("handoffs") or ():
        if type(run) is not int or len(names) != 3 or any(type(name) is not str for name in names):
            raise _misplaced(run)
    summary = body["summary"]
    if summary is not None and (type(summary["upto"]) is not int or type(summary["text"]) is not str):
        raise _misplaced(summary)


def _misplaced(value: Any) -> TypeError:
    return TypeError(f"a {type(value).__name__} stands where it should not")


def _open_run(run_id: str, status: Status, epoch: int, until: int, *more: Any) -> OpenRun:
    return OpenRun(run_id, status, epoch, until, more)
