"""`GET /sessions`: from the heads; by what only runs have (models, scores, cost, …) from the index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, cast

from fastapi import APIRouter, Query
from pydantic import AwareDatetime
from starlette.responses import Response

from ...errors import InvalidInputError
from ...insight import FoundRun, RunFilters
from ...records import ANY_USER, JsonObject, Status
from ...records import Session as SessionRecord
from ...storage.filters import SessionFilters
from ...storage.storage import aoperate
from ..models import SessionPage
from ..pages import last_runs
from ..serving import View
from ..shown import preview_of, session_shown
from .common import PROBLEMS, Cursor, Limit, OfUser, Seen, answer
from .direct import Listed
from .filtering import ByRuns, Metadata, Text, given_of, metadata_of

router = APIRouter(route_class=Listed, responses=PROBLEMS, tags=["look"])

MANY = 100
"""How many runs are asked of the index at a time."""


@router.get("/sessions", response_model=SessionPage, summary="List sessions")
async def list_sessions(
    view: Seen,
    by_runs: ByRuns,
    limit: Limit = 20,
    cursor: Cursor = None,
    user_id: OfUser = None,
    agent: Text = None,
    kind: Text = None,
    status: Status | None = None,
    name_prefix: Text = None,
    metadata: Metadata = None,
    since: AwareDatetime | None = None,
    until: AwareDatetime | None = None,
    order: Literal["updated", "created"] = "updated",
    details: Annotated[bool, Query(description="Whether each comes with its last run, in short.")] = False,
) -> Response:
    """Newest first, a page at a time, never counted.

    By models, tools, errors, ratings, durations and costs those come that have such a run, by the newest of these runs,
    and `since`, `until`, `agent` and `status` are about it.
    """
    if by_runs:
        if name_prefix is not None or order != "updated":
            raise InvalidInputError("Names and the order cannot be combined with filters of runs.")
        runs: RunFilters = {
            **by_runs,
            **cast(RunFilters, given_of(agent=agent, kind=kind, status=status, since=since, until=until)),
            **cast(RunFilters, metadata_of(metadata)),
        }
        sessions, after = await _by_runs(view, runs, view.whose(user_id), limit, cursor)
        return answer(await _page(view, sessions, after, [], details=details))
    given = given_of(agent=agent, kind=kind, status=status, name_prefix=name_prefix, since=since, until=until)
    filters = cast(SessionFilters, {**given, **metadata_of(metadata), "order": order})
    whose = view.whose(user_id)
    if view.server.keeps_index and (kind or status or name_prefix or metadata):  # which it looks up
        page = await view.index().asessions(user_id=whose, limit=limit, cursor=cursor, **filters)
    else:
        page = await view.storage.asessions(user_id=whose, limit=limit, cursor=cursor, **filters)
    return answer(await _page(view, page.items, page.next_cursor, list(page.unreadable), details=details))


async def _page(
    view: View, sessions: Sequence[SessionRecord], after: str | None, unreadable: list[str], *, details: bool
) -> JsonObject:
    items = [session_shown(session) for session in sessions]
    if details:
        runs = await aoperate(view.storage, last_runs, sessions, user_id=view.reads)
        for item, run in zip(items, runs, strict=True):
            item["last"] = None if run is None else preview_of(run)
    return {"items": items, "next_cursor": after, "unreadable": unreadable}


async def _by_runs(
    view: View, filters: RunFilters, whose: Any, limit: int, cursor: str | None
) -> tuple[list[SessionRecord], str | None]:
    """The sessions that have such runs, each at the place of its newest one, and where the next page begins."""
    index, first = view.index(), cursor is None
    found: dict[str, SessionRecord] = {}
    passed: set[str] = set()
    while len(found) < limit:
        page = await index.aruns(user_id=whose, limit=min(MANY, limit - len(found)), cursor=cursor, **filters)
        for run in page:
            if run.session_id in passed:
                continue
            passed.add(run.session_id)
            if not first and not await _is_newest(view, run, filters, whose):
                continue  # it stood on a page before
            session = await view.storage.aget_session(run.session_id, user_id=ANY_USER)
            if session is not None:
                found[run.session_id] = session
        cursor = page.next_cursor
        if cursor is None:
            break
    return list(found.values()), cursor


async def _is_newest(view: View, run: FoundRun, filters: RunFilters, whose: Any) -> bool:
    own: RunFilters = {**filters, "session_id": run.session_id}
    page = await view.index().aruns(user_id=whose, limit=1, **own)
    return not page.items or page.items[0].row == run.row
