"""Data sets, and replays: stored runs that run again, with another model or other code, and what has come of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import APIRouter, Path, Query, Request
from pydantic import Field
from starlette.responses import Response, StreamingResponse

from ...evaluation import Dataset
from ...insight import RunFilters
from ...records import ANY_USER
from ...storage.encoding import encode
from ...storage.ids import check_id, uuid7
from ..experiments import KIND, MOST_CASES, Experiment, begin, cases_by, evaluators_of, found
from ..models import AnyOut, ExperimentOut
from ..shown import session_shown
from ..streams import HEADERS, with_pings
from .common import PROBLEMS, STREAM, Body, Cursor, Known, Limit, OfUser, Seen, administrators, answer
from .filtering import Filtered

router = APIRouter(route_class=Known, responses=PROBLEMS, tags=["evaluate"])

ExperimentName = Annotated[str, Path(min_length=1, max_length=200)]


@router.get(
    "/dataset",
    response_class=Response,
    responses={200: {"content": {"application/json": {"schema": {}}, "application/yaml": {"schema": {}}}}},
    summary="Runs as a data set",
)
async def dataset(
    view: Seen,
    filters: Filtered,
    limit: Annotated[int, Query(ge=1, le=MOST_CASES, description="At most so many of the newest.")] = 100,
    user_id: OfUser = None,
    name: Annotated[str, Query(min_length=1, max_length=200)] = "sessile",
    format: Literal["json", "yaml"] = "json",
) -> Response:
    """A file as pydantic_evals reads it, the newest correction of a run as what was expected."""
    made = Dataset(name, await cases_by(view, filters, view.whose(user_id), limit))
    text = await asyncio.to_thread(made.to_text, format)
    headers = {"Content-Disposition": f'attachment; filename="dataset.{format}"'}
    return Response(text.encode("utf-8", "backslashreplace"), 200, headers, f"application/{format}")


class EvaluatorIn(Body):
    """What judges the answers."""

    kind: Literal["exact", "contains", "matches", "json", "judge"]
    text: str | None = Field(default=None, description="Of `contains`: default is the expected answer.")
    pattern: str | None = Field(default=None, max_length=1000, description="Of `matches`: a regular expression.")
    fields: list[str] | None = Field(default=None, description="Of `json`: default are all.")
    model: str | None = Field(default=None, description="Of `judge`.")
    rubric: str | None = Field(default=None, description="Of `judge`: what a good answer is.")


class CasesIn(Body):
    """Which runs: the newest that match, or those that are named."""

    agent: str | None = None
    user_id: str | None = None
    label: str | None = None
    status: str | None = None
    min_score: float | None = Field(default=None, strict=False)
    session_id: str | None = None
    limit: int = Field(default=50, ge=1, le=MOST_CASES)


class ExperimentIn(Body):
    """What runs again, and how it is judged."""

    agent: str = Field(min_length=1, description="What is served here.")
    cases: CasesIn = Field(default_factory=CasesIn)
    model: str | None = Field(default=None, min_length=1, description="Another model than the agent's own.")
    tools: Literal["live", "log"] = "live"
    evaluators: list[EvaluatorIn] = Field(default_factory=list[EvaluatorIn], max_length=20)
    experiment: str | None = Field(
        default=None, min_length=1, max_length=200, description="A name; the same one again continues it."
    )
    jobs: int = Field(default=4, ge=1, le=32)
    ttl: float | None = Field(default=None, gt=0, le=10**9, strict=False, description="Seconds that its sessions stay.")


@router.post(
    "/experiments", status_code=202, response_model=ExperimentOut, summary="Run stored runs again, and compare"
)
async def start(request: Request, view: Seen, body: ExperimentIn) -> Response:
    """For administrators; in the background. The same name again, at any process, goes on where it was broken off."""
    administrators(view)
    view.runner(body.agent)
    asked = body.cases
    given = {"agent": asked.agent or body.agent, "label": asked.label, "status": asked.status}
    given |= {"min_score": asked.min_score, "session_id": asked.session_id}
    given = {name: value for name, value in given.items() if value is not None}
    whose = {} if asked.user_id is None else {"user_id": asked.user_id}
    filters: RunFilters = {**given}  # pyright: ignore[reportAssignmentType] (the names are those of filters)
    made = begin(
        view,
        uuid7() if body.experiment is None else check_id(body.experiment, "experiment"),
        body.agent,
        await cases_by(view, filters, view.whose(asked.user_id), asked.limit),
        model=body.model,
        chosen={**given, **whose, "limit": asked.limit},
        evaluators=evaluators_of([one.model_dump() for one in body.evaluators]),
        tools=body.tools,
        jobs=body.jobs,
        ttl=body.ttl,
    )
    address = f"{request.scope.get('root_path', '')}/experiments/{quote(made.name, safe='')}"
    return answer(made.to_json(), 202, {"Location": address})


@router.get("/experiments", response_model=AnyOut, summary="Experiments that have reports")
async def list_experiments(view: Seen, limit: Limit = 20, cursor: Cursor = None) -> Response:
    """For administrators; newest first. `here` are those in progress in this process."""
    administrators(view)
    page = await view.storage.asessions(user_id=ANY_USER, kind=KIND, limit=limit, cursor=cursor)
    here = [one for one in view.server.experiments.values() if isinstance(one, Experiment) and one.status == "running"]
    return answer(
        {
            "items": [session_shown(session) for session in page],
            "next_cursor": page.next_cursor,
            "here": [one.to_json(report=False) for one in here],
        }
    )


@router.get("/experiments/{experiment}", response_model=ExperimentOut, summary="An experiment, and its report")
async def get_experiment(view: Seen, experiment: ExperimentName) -> Response:
    """For administrators: how far it is; when it is done, each case then and now, side by side."""
    administrators(view)
    return answer((await found(view, experiment)).to_json())


@router.get(
    "/experiments/{experiment}/events", response_class=Response, responses={200: STREAM}, summary="Watch an experiment"
)
async def watch(view: Seen, experiment: ExperimentName) -> Response:
    """Server-sent events: `progress`, and at last `ended`."""
    administrators(view)
    pieces = _progress(await found(view, experiment))
    return StreamingResponse(with_pings(view.server, pieces), 200, HEADERS, "text/event-stream")


async def _progress(made: Experiment) -> AsyncGenerator[bytes]:
    while True:
        moved = made.moved
        event = "progress" if made.status == "running" else "ended"
        yield f"id: {made.done}\nevent: {event}\ndata: {encode(made.to_json(report=False))}\n\n".encode()
        if event == "ended":
            return
        await moved.wait()
