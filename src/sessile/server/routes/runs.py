"""Running: new runs, their streams, and what is decided about them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request
from pydantic import Field, ValidationError
from pydantic_ai import DeferredToolResults, ToolApproved, ToolDenied
from pydantic_ai.messages import BinaryContent, UserContent
from starlette.responses import Response

from ...errors import NotResumableError, SessileError, SessionBusyError
from ...storage.deciding import grant_for
from ...storage.ids import check_optional_id, uuid7
from ...storage.storage import aoperate
from ...workflows import Workflow
from ..models import AgentOut, BegunOut, OutcomeOut
from ..problems import Problem
from ..running import (
    Asked,
    Telling,
    asked_by,
    awaited,
    begun,
    check_reviewer,
    checked,
    finished,
    joined,
    launched,
    resumed,
    session_of,
)
from ..schemas import schemas_of
from ..serving import View, kind_of
from ..streams import is_final, run_frames, streamed
from ..work import Place
from .common import LARGEST, PROBLEMS, STREAM, Body, Known, LastEventId, RunNumber, Seen, Session, address_of, answer
from .direct import Direct

router = APIRouter(route_class=Known, responses=PROBLEMS, tags=["run"])

LONGEST_KEY = 200
"""Characters of an `Idempotency-Key`."""


class MediaIn(Body):
    """An image or another file, inline."""

    media_type: str = Field(description="Its type, such as image/png.", pattern=r"^[\w.+-]+/[\w.+-]+$")
    data: str = Field(description="Its content, base64.")


class RunIn(Body):
    """What is to run."""

    input: Any = Field(
        default=None,
        description="Of agents and teams: text, or a list of texts and of files `{media_type, data}`. Of workflows: "
        "an object with its arguments, or its only one.",
    )
    session_id: str | None = Field(default=None, description="The session to continue. Default: a new one.")
    user_id: str | None = Field(default=None, description="For administrators: whose session a new one is.")
    metadata: dict[str, Any] | None = Field(default=None, description="What is kept beside the run.")
    after: int | None = Field(
        default=None,
        ge=0,
        le=LARGEST,
        description="The run that this one is to follow: the session goes back there first. 0: it begins anew.",
    )
    stream: bool = Field(default=False, description="Whether the answer comes as server-sent events.")
    background: bool = Field(default=False, description="Whether the answer is the run's address, at once.")


class DecisionIn(Body):
    """A decision about a call."""

    approved: bool
    message: str | None = Field(default=None, description="What the model is told of a call that is denied.")
    args: dict[str, Any] | None = Field(default=None, description="Other arguments for a call that is approved.")
    always: Literal["session", "user"] | None = Field(
        default=None,
        description="Of an approval: for all later calls of this tool by this agent, in the session or for its user.",
    )
    ttl: float | None = Field(
        default=None,
        ge=0,
        lt=1e10,
        description="For how many seconds the decision holds, and what is approved for good.",
    )


class DecidedIn(Body):
    """What is decided about the calls of a run."""

    approvals: dict[str, bool | DecisionIn] = Field(default_factory=dict, description="Decisions, by `tool_call_id`.")
    epoch: int | None = Field(
        default=None,
        ge=0,
        le=2**53,
        description="The run's `epoch` as whoever decides has seen it; 409 if the run has gone on since.",
    )


class ResumeIn(DecidedIn):
    """What a run continues with."""

    results: dict[str, Any] = Field(
        default_factory=dict,
        description="Results of calls that were made elsewhere, and what forms are filled with, by `tool_call_id`.",
    )
    stream: bool = False
    background: bool = False


class EventIn(Body):
    """An event for a workflow."""

    name: str = Field(min_length=1)
    value: Any = None
    id: str | None = Field(default=None, description="Makes the request repeatable: the event is kept once.")
    run_number: int | None = Field(default=None, ge=1, le=2**53)


@router.get("/agents", response_model=list[AgentOut], summary="What can be run")
async def list_agents(view: Seen) -> Response:
    """Agents, teams and workflows, by name, with the schemas of what they take, answer and keep."""
    return answer(
        [
            {
                "name": name,
                "kind": kind_of(thing),
                "description": None if isinstance(thing, Workflow) else thing.description,
                "durability": "step" if isinstance(thing, Workflow) else thing.durability,
                **{f"{what}_schema": schema for what, schema in schemas_of(thing).items()},
            }
            for name, thing in view.server.served.items()
        ]
    )


async def run(
    request: Request,
    view: Seen,
    agent: str,
    body: RunIn,
    idempotency_key: Annotated[
        str | None,
        Header(
            description="The same key is the same run, whichever process is asked, for as long as the session lives.",
            min_length=1,
            max_length=LONGEST_KEY,
        ),
    ] = None,
) -> Response:
    """In a session, new or not. The run does not end with the connection; a stream only reads it.

    A run that has failed is answered 502. `paused` ones are resumed by `/resume`.
    """
    asked = asked_of(view, agent, body, idempotency_key)
    request.state.session_id = asked.session_id
    telling = Telling(view, agent, quiet=not (body.stream or body.background))
    task = launched(telling, asked)
    try:
        return await _answered(request, telling, task, stream=body.stream, background=body.background)
    except SessileError as error:
        await joined(telling, asked, error)
        return await _read(request, telling, stream=body.stream, background=body.background)


async def _run_directly(request: Request, view: View, body: RunIn) -> Response | None:
    key = request.headers.get("idempotency-key")
    if key is not None and not 1 <= len(key) <= LONGEST_KEY:
        return None
    return await run(request, view, request.path_params["agent"], body, key)


router.add_api_route(
    "/agents/{agent}/runs",
    run,
    methods=["POST"],
    response_model=OutcomeOut,
    responses={200: {"content": STREAM["content"]}, 202: {"model": BegunOut, "description": "In the background."}},
    summary="Run an agent, a team or a workflow",
    route_class_override=Direct.of(RunIn, _run_directly),
)


def asked_of(view: View, agent: str, body: RunIn, key: str | None) -> Asked:
    """What a request asks to be run."""
    runner = view.runner(agent)
    if body.user_id is not None and not view.is_administrator:
        raise Problem(422, "invalid-request", "Only administrators may name a user.")
    session_id = check_optional_id(body.session_id, "session_id")
    if key is not None and session_id is None:
        session_id = session_of(view, agent, key)
    given = body.input if isinstance(runner, Workflow) else prompt_of(body.input)
    return asked_by(
        view,
        given,
        session_id or uuid7(),
        user_id=check_optional_id(body.user_id, "user_id"),
        key=key,
        metadata=body.metadata,
        after=None if session_id is None else body.after,
    )


def prompt_of(given: Any) -> str | list[UserContent]:
    """An agent's input: text, or texts and files. No addresses: the server fetches nothing for a client."""
    if isinstance(given, str) and given:
        return given
    if not isinstance(given, list) or not given:
        raise Problem(422, "invalid-request", "input must be text, or a list of texts and files {media_type, data}.")
    content: list[UserContent] = []
    for one in given:  # pyright: ignore[reportUnknownVariableType] (JSON)
        if isinstance(one, str):
            content.append(one)
            continue
        try:
            file = MediaIn.model_validate(one)
        except ValidationError:
            raise Problem(422, "invalid-request", "input may hold texts and files {media_type, data}.") from None
        try:
            data = base64.b64decode(file.data, validate=True)
        except (binascii.Error, ValueError):
            raise Problem(422, "invalid-request", "data is not base64.") from None
        content.append(BinaryContent(data, media_type=file.media_type))
    return content


async def _answered(request: Request, telling: Telling, task: Any, *, stream: bool, background: bool) -> Response:
    if not stream and not background:
        outcome = checked(await finished(task))
        request.state.run_id = outcome["run_id"]
        return answer(
            outcome, headers={"Content-Location": address_of(request, outcome["session_id"], outcome["number"])}
        )
    await begun(telling, task)
    request.state.session_id, request.state.run_id = telling.session_id, telling.run_id
    address = address_of(request, telling.session_id, telling.number)
    if background:
        return _in_background(telling, address)
    frames = run_frames(telling.view, telling.session_id, telling.number, Place())
    return streamed(telling.view.server, frames, {"Content-Location": address})


def _in_background(telling: Telling, address: str) -> Response:
    shown = {
        "session_id": telling.session_id,
        "run_id": telling.run_id,
        "number": telling.number,
        "agent": telling.name,
        "status": "running",
        "run": address,
        "events": f"{address}/events",
    }
    return answer(shown, 202, {"Location": address})


async def _read(request: Request, telling: Telling, *, stream: bool, background: bool) -> Response:
    """Answer with a run that is there already, wherever it is running."""
    address = address_of(request, telling.session_id, telling.number)
    if background:
        return _in_background(telling, address)
    if stream:
        frames = run_frames(telling.view, telling.session_id, telling.number, Place())
        return streamed(telling.view.server, frames, {"Content-Location": address})
    return answer(checked(await awaited(telling)), headers={"Content-Location": address})


@router.get(
    "/sessions/{session_id}/runs/{number}/events",
    response_class=Response,
    responses={200: STREAM, 204: {"description": "All of it has arrived; do not come again."}},
    summary="Read a run as it works, or on from where a connection was lost",
)
async def events(
    view: Seen,
    session_id: Session,
    number: RunNumber,
    last_event_id: LastEventId = None,
    after: Annotated[str | None, Query(description="As Last-Event-ID, which wins.")] = None,
) -> Response:
    """The events: `run.started`, `text`, `tool.called`, `tool.returned`, `step.…`, `member.…`, and at last `run.ended`.

    The texts put together are the run's text. After `text.restarted` only the first `keep` characters of what came
    before hold: another process has taken the run over. From a process that is not working on the run, what is
    committed of it comes, when it is.
    """
    place = Place.of(last_event_id or after)
    run = await view.storage.aget_run(session_id, number, user_id=view.reads)
    if place.ended and place.epoch == run.epoch and is_final(view.server, run):
        return Response(status_code=204)
    return streamed(view.server, run_frames(view, session_id, number, place))


@router.post("/sessions/{session_id}/runs/{number}/cancel", response_model=dict[str, bool], summary="Cancel a run")
async def cancel(view: Seen, session_id: Session, number: RunNumber) -> Response:
    """Within a second, whichever process works on it. `cancelled` is false where it had ended before."""
    done = await view.storage.acancel_run(session_id, number, user_id=view.reads)
    return answer({"cancelled": done})


@router.post(
    "/sessions/{session_id}/runs/{number}/resume",
    response_model=OutcomeOut,
    responses={200: {"content": STREAM["content"]}, 202: {"model": BegunOut, "description": "In the background."}},
    summary="Continue a run: approve, deny, answer",
)
async def resume(request: Request, view: Seen, session_id: Session, number: RunNumber, body: ResumeIn) -> Response:
    """A run that waits for decisions or was interrupted goes on here, with what is decided about its calls."""
    found = await view.storage.aget_run(session_id, number, user_id=view.reads)
    results = DeferredToolResults(
        approvals={call: _decision(one) for call, one in body.approvals.items()}, calls=dict(body.results)
    )
    check_reviewer(view, found, body.approvals)
    await granted(view, session_id, number, body.approvals, body.epoch)
    telling, task = await resumed(view, found.agent or "", session_id, found, results, epoch=body.epoch)
    return await _answered(request, telling, task, stream=body.stream, background=body.background)


async def granted(
    view: View, session_id: str, number: int, approvals: Mapping[str, bool | DecisionIn], epoch: int | None
) -> None:
    """Write down for which of these calls all later ones like them are approved, too; by who asks, of this epoch."""
    lasting = {call: one for call, one in approvals.items() if isinstance(one, DecisionIn) and one.always}
    if any(not one.approved or one.args is not None for one in lasting.values()):
        raise Problem(422, "invalid-request", "always goes with an approval, without other arguments.")
    for call, one in lasting.items():
        assert one.always is not None, "those that are not have been left out"
        await aoperate(
            view.storage,
            grant_for,
            session_id,
            number,
            [call],
            one.always,
            by=view.caller.user_id,
            ttl=one.ttl,
            epoch=epoch,
            user_id=view.reads,
        )


def _decision(given: bool | DecisionIn) -> bool | ToolApproved | ToolDenied:
    if isinstance(given, bool):
        return given
    if given.approved:
        return ToolApproved(override_args=given.args)
    return ToolDenied(given.message) if given.message else ToolDenied()


@router.post(
    "/sessions/{session_id}/events",
    status_code=202,
    response_model=dict[str, Any],
    summary="Send an event to a workflow",
)
async def send_event(view: Seen, session_id: Session, body: EventIn) -> Response:
    """What `ctx.wait_for_event(name)` waits for, now or later. A paused run continues with it, here and by itself."""
    session = await view.storage.aget_session(session_id, user_id=view.reads)
    workflow = view.server.served.get((session.agent if session else None) or "")
    if session is None or not isinstance(workflow, Workflow):
        raise Problem(404, "no-such-workflow", "There is no such session of a workflow that is served here.")
    runner = view.runner(workflow.name)
    assert isinstance(runner, Workflow)
    sent = await runner.asend_event(
        session_id,
        body.name,
        body.value,
        id=body.id,
        run_number=body.run_number,
        by=view.caller.user_id,
        user_id=view.reads,
        resume=False,
    )
    status: Literal["paused", "running"] | str = sent.status
    if status == "paused" and body.name in sent.waiting_for:
        run = await view.storage.aget_run(session_id, sent.number, user_id=view.reads)
        telling, task = await resumed(view, workflow.name, session_id, run, DeferredToolResults())
        try:
            await begun(telling, task)
        except Problem as problem:  # no place for it now; the event is stored all the same
            hint = f"The event is stored; POST /sessions/ID/runs/{sent.number}/resume when there is room."
            problem.content |= {"written": "yes", "hint": hint, "retryable": False}
            raise
        except (NotResumableError, SessionBusyError):
            pass  # somebody else continues it
        status = "running"
    return answer({"session_id": session_id, "number": sent.number, "status": status}, 202)
