"""Looking into many sessions: runs, search, usage, examples, what waits for people, live changes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from starlette.responses import Response, StreamingResponse

from ...insight import FoundPage
from ...insight.choices import Field
from ...insight.usage import Group
from ...jsons import usage_row_json
from ...records import JsonObject
from ..changing import Followed
from ..changing import changes as told_changes
from ..models import AnyOut, FoundPageOut
from ..shown import cut, found_shown, hit_shown, waiting_shown
from ..streams import END, HEADERS, with_pings
from .common import PROBLEMS, STREAM, Cursor, Known, LastEventId, Limit, OfUser, Seen, answer
from .direct import Listed
from .filtering import Filtered, Text

router = APIRouter(route_class=Known, responses=PROBLEMS, tags=["look"])
lists = APIRouter(route_class=Listed, responses=PROBLEMS, tags=["look"])
"""The routes that have nothing in their addresses but what is asked."""


@lists.get("/runs", response_model=FoundPageOut, summary="Runs of all sessions")
async def list_runs(
    view: Seen,
    filters: Filtered,
    limit: Limit = 20,
    cursor: Cursor = None,
    user_id: OfUser = None,
    ascending: bool = False,
) -> Response:
    """Newest first, out of the index, which is brought up to date first. `rated=false` is a queue for review."""
    page = await view.index().aruns(
        user_id=view.whose(user_id), limit=limit, cursor=cursor, ascending=ascending, **filters
    )
    return answer(_page(page, [found_shown(run) for run in page]))


def _page(page: FoundPage[Any], items: list[JsonObject]) -> JsonObject:
    return {
        "items": items,
        "next_cursor": page.next_cursor,
        "unreadable": list(page.unreadable),
        "complete_until": page.complete_until.isoformat(timespec="microseconds"),
    }


@lists.get("/search", response_model=FoundPageOut, summary="Search")
async def search(
    view: Seen,
    filters: Filtered,
    text: Annotated[str, Query(min_length=1, max_length=1000)],
    limit: Limit = 20,
    cursor: Cursor = None,
    user_id: OfUser = None,
    order: Literal["newest", "best"] = "newest",
) -> Response:
    """Runs, and sessions by their names and metadata, that have all of these words.

    `marks` of a snippet are ranges of its `text`, in code points.
    """
    page = await view.index().asearch(
        text,
        user_id=view.whose(user_id),
        limit=limit,
        cursor=cursor,
        order=order,
        **filters,
    )
    return answer(_page(page, [hit_shown(hit, whole_errors=view.is_administrator) for hit in page]))


@router.get("/choices/{field}", response_model=list[str], summary="What a filter can be set to")
async def choices(
    view: Seen,
    field: Field,
    prefix: Annotated[str, Query(max_length=255)] = "",
    limit: Limit = 20,
    user_id: OfUser = None,
) -> Response:
    """Values that begin with a prefix, in order, as one types."""
    return answer(await view.index().achoices(field, prefix, limit=limit, user_id=view.whose(user_id)))


@lists.get("/usage", response_model=AnyOut, summary="What was used")
async def usage(
    view: Seen,
    filters: Filtered,
    by: Annotated[list[Group] | None, Query(max_length=4)] = None,
    zone: Annotated[str, Query(max_length=100)] = "UTC",
    user_id: OfUser = None,
) -> Response:
    """Runs, errors, tokens, cost and times, by days, agents, models and others."""
    groups = list(dict.fromkeys(by or []))
    table = await view.index().ausage(
        user_id=view.whose(user_id),
        by=groups,
        zone=zone,
        **filters,
    )
    return answer(
        {
            "rows": [usage_row_json(groups, row) for row in table.rows],
            "total": usage_row_json([], table.total),
            "complete_until": table.complete_until.isoformat(timespec="microseconds"),
        }
    )


@lists.get("/examples", response_model=list[AnyOut], summary="Good runs as examples")
async def examples(
    view: Seen,
    filters: Filtered,
    like: Annotated[str | None, Query(min_length=1, max_length=10_000)] = None,
    limit: Limit = 5,
    tokens: Annotated[int | None, Query(ge=1, le=10**6)] = None,
    user_id: OfUser = None,
) -> Response:
    """Of those that match, such as fit a question, none like another."""
    found = await view.index().aexamples(
        user_id=view.whose(user_id),
        like=like,
        limit=limit,
        tokens=tokens,
        **filters,
    )
    return answer(
        [
            {
                "session_id": one.session_id,
                "number": one.number,
                "run_id": one.run_id,
                "question": cut(one.question),
                "answer": cut(one.answer),
                "corrected": one.corrected,
            }
            for one in found
        ]
    )


@lists.get("/waiting", response_model=AnyOut, summary="What waits for people")
async def waiting(
    view: Seen,
    limit: Limit = 20,
    cursor: Cursor = None,
    user_id: OfUser = None,
    agent: Text = None,
    kind: Text = None,
) -> Response:
    """Runs that are paused until somebody decides, answers, or sends an event."""
    page = await view.storage.awaiting(user_id=view.whose(user_id), agent=agent, kind=kind, limit=limit, cursor=cursor)
    return answer(
        {
            "items": [waiting_shown(one) for one in page],
            "next_cursor": page.next_cursor,
            "unreadable": list(page.unreadable),
        }
    )


@router.get("/changes", response_class=Response, responses={200: STREAM}, summary="What changes, as it changes")
async def changes(
    view: Seen,
    user_id: OfUser = None,
    session_id: Annotated[
        str | None, Query(min_length=1, description="What the runs of this session tell comes along, as `run`.")
    ] = None,
    last_event_id: LastEventId = None,
    after: Annotated[str | None, Query(description="As Last-Event-ID, which wins.")] = None,
    once: Annotated[bool, Query(description="End after the first event, instead of going on.")] = False,
) -> Response:
    """Server-sent events; one stream serves a whole page.

    `sessions`: `items` have changed since the event before, oldest change first; `gone` were deleted; where `first` is
    true, `items` are the newest of the list, which is to be looked at anew. `run`: an event of a run of the session
    that the page shows, with its `number`, its `event` and its `data`, as `GET …/runs/N/events` has them.
    """
    server = view.server
    if server.streams >= server.limits.streams or server.stopping:
        return Response(END, 200, HEADERS, "text/event-stream")
    pieces = told_changes(view, user_id, session_id, Followed.of(last_event_id or after), once=once)
    return StreamingResponse(with_pings(server, pieces), 200, HEADERS, "text/event-stream")
