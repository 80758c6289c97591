"""Looking into one session, and changing it."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, cast

from fastapi import APIRouter, Path, Query
from pydantic import Field
from starlette.responses import Response

from ...agents.inside import fork_inside
from ...errors import CorruptDataError, InvalidInputError, SessionNotFoundError
from ...jsons import record_json
from ...records import JsonObject, Status
from ...records import Run as RunRecord
from ...records import Session as SessionRecord
from ...storage.encoding import encode
from ...storage.storage import aoperate
from ..models import BranchOut, MessageOut, RatingOut, RunOut, RunPage, SessionOut
from ..pages import Around, RunsPage, around_of, last_runs, runs_page
from ..problems import Problem
from ..serving import View
from ..shown import message_shown, preview_of, run_shown, session_shown
from .common import PROBLEMS, Body, Known, RunNumber, Seen, Session, answer
from .contents import content_answer

router = APIRouter(route_class=Known, responses=PROBLEMS, tags=["look"])

Digest = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$", description="The content's SHA-256 hash.")]


class ChangeIn(Body):
    """What is changed of a session."""

    name: str | None = Field(default=None, description="A title; null takes it away.")
    metadata: dict[str, Any] | None = Field(default=None, description="Takes the place of the metadata.")
    ttl: float | None = Field(
        default=None, gt=0, le=10**9, strict=False, description="Seconds after the last change; null: for ever."
    )


class StateIn(Body):
    """How the state is changed."""

    patch: dict[str, Any] | None = Field(default=None, description="Merged (RFC 7396); null removes a key.")
    set: dict[str, Any] | None = Field(default=None, description="Top-level keys and their new values.")
    remove: list[str] = Field(default_factory=list, description="Top-level keys that are taken away.")
    if_revision: int | None = Field(default=None, ge=0, le=2**53, description="Only if nothing was committed since.")


class ForkIn(Body):
    """What a fork is to be."""

    at: int | None = Field(default=None, ge=1, le=2**53, description="The last run that is copied. Default: all.")
    session_id: str | None = Field(default=None, min_length=1)
    name: str | None = None
    message: int | None = Field(
        default=None, ge=1, le=2**53, description="So many messages of that run are kept, from where it is resumed."
    )
    results: dict[str, Any] | None = Field(
        default=None, description="By `tool_call_id`: what these calls of that run are to have returned instead."
    )


class RewindIn(Body):
    """Where the session goes back to."""

    at: int = Field(ge=0, le=2**53, description="The run that becomes the last one; 0: begin anew.")
    restore_state: bool = True


class RateIn(Body):
    """What is said about a run."""

    score: float | None = Field(default=None, strict=False)
    label: str | None = None
    comment: str | None = None
    correction: Any = None
    source: str = Field(default="user", min_length=1)


@router.get("/sessions/{session_id}", response_model=SessionOut, summary="Show a session")
async def get_session(
    view: Seen,
    session_id: Session,
    details: Annotated[bool, Query(description="Whether it comes with its last run, in short.")] = False,
) -> Response:
    """The session as it is now, without its runs."""
    session = await head_of(view, session_id)
    shown = session_shown(session)
    if details:
        (last,) = await aoperate(view.storage, last_runs, [session], user_id=view.reads)
        shown["last"] = None if last is None else preview_of(last)
    return answer(shown)


async def head_of(view: View, session_id: str) -> SessionRecord:
    """The session; raises `SessionNotFoundError`."""
    session = await view.storage.aget_session(session_id, user_id=view.reads)
    if session is None:
        raise SessionNotFoundError(f"There is no session {session_id!r}.")
    return session


@router.patch(
    "/sessions/{session_id}", response_model=SessionOut, summary="Rename a session, set its metadata, let it expire"
)
async def change_session(view: Seen, session_id: Session, body: ChangeIn) -> Response:
    """Only what the body names is changed, each in one commit."""
    if "name" in body.model_fields_set:
        await view.storage.arename(session_id, body.name, user_id=view.reads)
    if "ttl" in body.model_fields_set:
        await view.storage.aset_ttl(session_id, body.ttl, user_id=view.reads)
    if body.metadata is not None:
        await view.storage.aset_metadata(session_id, body.metadata, user_id=view.reads)
    return answer(session_shown(await head_of(view, session_id)))


@router.delete("/sessions/{session_id}", status_code=204, summary="Delete a session")
async def delete_session(view: Seen, session_id: Session) -> Response:
    """With its runs, its state and its media."""
    if not await view.storage.adelete(session_id, user_id=view.reads):
        raise SessionNotFoundError(f"There is no session {session_id!r}.")
    return Response(status_code=204)


@router.get("/sessions/{session_id}/state", response_model=dict[str, Any], summary="The whole state of a session")
async def get_state(view: Seen, session_id: Session) -> Response:
    """As it is now, uncut."""
    return answer((await head_of(view, session_id)).state)


@router.patch("/sessions/{session_id}/state", response_model=SessionOut, summary="Change the state of a session")
async def change_state(view: Seen, session_id: Session, body: StateIn) -> Response:
    """In one commit."""
    changed = await view.storage.aupdate_state(
        session_id,
        body.patch,
        set=body.set,
        remove=body.remove,
        user_id=view.reads,
        if_revision=body.if_revision,
    )
    return answer(session_shown(changed))


Place = Annotated[int | None, Query(ge=1, le=2**53)]


@router.get("/sessions/{session_id}/runs", response_model=RunPage, summary="The runs of a session")
async def list_runs(
    view: Seen,
    session_id: Session,
    last: Annotated[int, Query(ge=1, le=100, description="At most so many.")] = 20,
    before: Annotated[Place, Query(description="Only runs before this number.")] = None,
    after: Annotated[Place, Query(description="Only runs after this number.")] = None,
    around: Annotated[Place, Query(description="Runs on both sides of this one.")] = None,
    tip: Annotated[Place, Query(description="Of the branch that ends with this run. Default: the current one.")] = None,
    status: Annotated[Status | None, Query(description="Only such; from the end, or before a number.")] = None,
    messages: Annotated[bool, Query(description="Whether their messages come along.")] = False,
) -> Response:
    """Oldest first: the newest, or those before, after or around a number, however many the session has.

    `before` and `after` of the answer are where the next older and the next newer ones begin; `first`, `last` and
    `count` tell how long the branch is.
    """
    asked = around_of(before, after, around)
    page = await aoperate(
        view.storage, runs_page, session_id, asked, limit=last if status is None else 1, tip=tip, user_id=view.reads
    )
    if status is not None:
        page = await _of_status(view, session_id, page, asked, last, tip, status)
    return answer(
        {
            "items": [shown(view, session_id, run, messages=messages) for run in page.runs],
            "before": page.before,
            "after": page.after,
            "first": page.first,
            "last": page.last,
            "count": page.count,
            "unreadable": list(page.runs.unreadable),
        }
    )


async def _of_status(
    view: View, session_id: str, page: RunsPage, asked: Around, last: int, tip: int | None, status: Status
) -> RunsPage:
    """The newest runs of a status, or those before a number: others are passed over, as many as there are."""
    if tip is not None or asked.which not in ("newest", "before"):
        raise InvalidInputError("Runs of one status are listed from the end of the current branch, or before a number.")
    to_run = asked.number - 1 if asked.which == "before" else page.last
    if to_run < 1:
        return RunsPage(first=page.first, last=page.last, count=page.count)
    runs = await view.storage.aruns(session_id, last=last, to_run=to_run, status=status, user_id=view.reads)
    first = min([*(run.number for run in runs), *runs.unreadable], default=0)
    return RunsPage(runs, first if first > page.first else None, None, page.first, page.last, page.count)


def shown(view: View, session_id: str, run: RunRecord, *, messages: bool = True, whole: bool = False) -> JsonObject:
    """A run as this caller sees it; `whole`: with nothing cut."""
    return run_shown(session_id, run, whole_errors=view.is_administrator, messages=messages, whole=whole)


@router.get("/sessions/{session_id}/runs/{number}", response_model=RunOut, summary="Show a run")
async def get_run(view: Seen, session_id: Session, number: RunNumber) -> Response:
    """With its messages and the runs below it, on whatever branch it lies."""
    return answer(shown(view, session_id, await view.storage.aget_run(session_id, number, user_id=view.reads)))


@router.get(
    "/sessions/{session_id}/runs/{number}/value",
    response_class=Response,
    responses={200: {"content": {"application/json": {"schema": {}}}}},
    summary="A value that was cut, whole",
)
async def get_value(
    view: Seen,
    session_id: Session,
    number: RunNumber,
    pointer: Annotated[str, Query(description="Where in the run: a JSON pointer, /messages/3/data/parts/0/content.")],
) -> Response:
    """One value of a run, by its place in what `GET …/runs/{number}` answers."""
    run = await view.storage.aget_run(session_id, number, user_id=view.reads)
    whole = _at(shown(view, session_id, run, whole=True), pointer)
    text = encode(whole)
    tag = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return Response(text, 200, {"ETag": f'"{tag}"'}, "application/json")


def _at(value: Any, pointer: str) -> Any:
    """The value at a JSON pointer; raises a problem (404) where there is none."""
    for step in pointer.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict):
            inside = cast(JsonObject, value)
        else:
            inside = (
                {str(place): item for place, item in enumerate(cast("list[Any]", value))}
                if isinstance(value, list)
                else {}
            )
        if name not in inside:
            raise Problem(404, "no-such-value", "The run has no value there.")
        value = inside[name]
    return value


@router.get("/sessions/{session_id}/messages", response_model=list[MessageOut], summary="The messages of a session")
async def list_messages(
    view: Seen,
    session_id: Session,
    last_runs: Annotated[int, Query(ge=1, le=100, description="Of at most so many runs, the newest.")] = 20,
) -> Response:
    """Flat, oldest first."""
    await head_of(view, session_id)
    found = await view.storage.amessages(session_id, last_runs=last_runs, user_id=view.reads)
    return answer([message_shown(message) for message in found])


@router.get(
    "/sessions/{session_id}/media/{digest}",
    response_class=Response,
    responses={200: {"content": {"application/octet-stream": {}}, "description": "The content."}},
    summary="An image or a file of a session",
)
async def get_media(view: Seen, session_id: Session, digest: Digest) -> Response:
    """To be saved, unless it is an image that a browser can show without harm."""
    try:
        content = await view.storage.amedia(session_id, digest, user_id=view.reads)
    except CorruptDataError:
        raise Problem(404, "no-such-media", "The session has no such content.") from None
    return content_answer(content, digest, digest[:16])


@router.get("/sessions/{session_id}/branches", response_model=list[BranchOut], summary="The branches of a session")
async def list_branches(view: Seen, session_id: Session) -> Response:
    """By their last run: the current one, and what rewinding has left."""
    found = await view.storage.abranches(session_id, user_id=view.reads)
    return answer([{"tip": one.tip, "runs": one.runs, "current": one.current} for one in found])


@router.post(
    "/sessions/{session_id}/fork", status_code=201, response_model=SessionOut, summary="Copy a session into a new one"
)
async def fork(view: Seen, session_id: Session, body: ForkIn) -> Response:
    """Up to and including one of its runs. With `message` or `results` up to a step of it; resume it there."""
    if body.message is not None or body.results is not None:
        at = (await head_of(view, session_id)).tip if body.at is None else body.at
        inside = await fork_inside(
            view.storage,
            session_id,
            at,
            message=body.message,
            results=body.results,
            session_id=body.session_id,
            user_id=view.reads,
            name=body.name,
        )
        return answer(session_shown(inside), 201)
    made = await view.storage.afork(
        session_id, at=body.at, session_id=body.session_id, name=body.name, user_id=view.reads
    )
    return answer(session_shown(made), 201)


@router.post("/sessions/{session_id}/rewind", response_model=SessionOut, summary="Go back to a run")
async def rewind(view: Seen, session_id: Session, body: RewindIn) -> Response:
    """The next run follows it; what is left stays as a branch."""
    head = await view.storage.arewind(session_id, at=body.at, restore_state=body.restore_state, user_id=view.reads)
    return answer(session_shown(head))


@router.post(
    "/sessions/{session_id}/runs/{number}/ratings", status_code=201, response_model=RatingOut, summary="Rate a run"
)
async def rate(view: Seen, session_id: Session, number: RunNumber, body: RateIn) -> Response:
    """Of several ratings by one source the newest counts."""
    said = await view.storage.arate(
        session_id,
        number,
        score=body.score,
        label=body.label,
        comment=body.comment,
        correction=body.correction,
        source=body.source,
        by=view.caller.user_id,
        user_id=view.reads,
    )
    return answer(record_json(said), 201)
