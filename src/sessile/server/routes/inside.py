"""What lies inside one run: entries of the log, states, steps; and decisions, erasing, and whose a session is."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.responses import Response

from ...errors import SessionNotFoundError
from ...jsons import record_json
from ...records import JsonObject
from ...storage.journals import journal_run
from ...storage.storage import aoperate
from ...transfer.giving import give
from ...workflows.run.result import step_records
from ..models import AnyOut, EntryPage, RunOut, SessionOut, StatesOut, StepOut, WaitingOut
from ..pages import run_entries, states_of
from ..running import check_reviewer
from ..shown import cut, entry_shown, error_of, run_shown, session_shown, waiting_shown
from .common import LARGEST, PROBLEMS, Body, Known, RunNumber, Seen, Session, administrators, answer
from .runs import DecidedIn, DecisionIn, granted

router = APIRouter(route_class=Known, responses=PROBLEMS, tags=["look"])

Many = Annotated[int, Query(description="Of at most so many commits.", ge=1, le=1000)]
Revision = Annotated[int, Query(description="Only of commits after this revision.", ge=0, le=LARGEST)]
Whole = Annotated[bool, Query(description="With nothing cut.")]


@router.get("/sessions/{session_id}/entries", response_model=EntryPage, summary="The log of a session, as it is stored")
async def list_entries(
    view: Seen, session_id: Session, after: Revision = 0, limit: Many = 100, whole: Whole = False
) -> Response:
    """Oldest first, of all branches. `next_after` of the answer is where the next page begins."""
    entries = await view.storage.aentries(session_id, after=after, limit=limit, user_id=view.reads)
    seen = [*(one.seq for one in entries), *entries.unreadable]
    session = await view.storage.aget_session(session_id, user_id=view.reads)
    if session is None:
        raise SessionNotFoundError(f"There is no session {session_id!r}.")
    last = max(seen, default=session.revision)
    return answer(
        {
            "items": [entry_shown(one, whole=whole, whole_errors=view.is_administrator) for one in entries],
            "next_after": last if last < session.revision else None,
            "unreadable": list(entries.unreadable),
        }
    )


@router.get(
    "/sessions/{session_id}/runs/{number}/entries",
    response_model=EntryPage,
    summary="The log of a run, as it is stored",
)
async def list_run_entries(
    view: Seen, session_id: Session, number: RunNumber, after: Revision = 0, limit: Many = 100, whole: Whole = False
) -> Response:
    """Oldest first, with those of the runs below it."""
    entries, following = await aoperate(
        view.storage, run_entries, session_id, number, after=after, limit=limit, user_id=view.reads
    )
    shown = [entry_shown(one, whole=whole, whole_errors=view.is_administrator) for one in entries]
    return answer({"items": shown, "next_after": following, "unreadable": list(entries.unreadable)})


@router.get(
    "/sessions/{session_id}/runs/{number}/state", response_model=StatesOut, summary="The state before and after a run"
)
async def get_states(view: Seen, session_id: Session, number: RunNumber) -> Response:
    """And what the run has changed in it. The older the run, the longer it takes to read back to it."""
    found = await aoperate(view.storage, states_of, session_id, number, user_id=view.reads)
    return answer({"before": found.before, "after": found.after, "changes": found.changes})


@router.get(
    "/sessions/{session_id}/runs/{number}/steps", response_model=list[StepOut], summary="The steps of a workflow's run"
)
async def list_steps(view: Seen, session_id: Session, number: RunNumber) -> Response:
    """Each attempt, in the order in which they ended; then those in progress."""
    records = step_records(*await aoperate(view.storage, journal_run, session_id, number, user_id=view.reads))
    shown: list[JsonObject] = []
    for record in records:
        took = None if record.ended_us is None else max(0, record.ended_us - record.started_us) / 1e6
        shown.append({**record_json(record, without=("data", "error")), "duration": took, "data": cut(record.data)})
        shown[-1]["error"] = error_of(record.error, whole=view.is_administrator)
    return answer(shown)


# ---------------------------------------------------------------- decisions


class DecideIn(DecidedIn):
    """What is decided, without continuing the run here."""

    results: dict[str, Any] = Field(default_factory=dict, description="Results of calls made elsewhere.")


@router.post(
    "/sessions/{session_id}/runs/{number}/decisions",
    status_code=201,
    response_model=WaitingOut,
    summary="Write down decisions that a paused run waits for",
)
async def decide(view: Seen, session_id: Session, number: RunNumber, body: DecideIn) -> Response:
    """For where the agent is not served: whoever resumes the run, anywhere, continues with them."""
    if body.approvals and not view.is_administrator:
        run = await view.storage.aget_run(session_id, number, user_id=view.reads)
        check_reviewer(view, run, body.approvals)
    await granted(view, session_id, number, body.approvals, body.epoch)
    together: dict[float | None, dict[str, Any]] = {}
    for call, one in body.approvals.items():
        together.setdefault(one.ttl if isinstance(one, DecisionIn) else None, {})[call] = _decision(one)
    if body.results or not together:
        together.setdefault(None, {})
    shown: JsonObject = {}
    for ttl, approvals in together.items():
        waits = await view.storage.adecide(
            session_id,
            number,
            approvals=approvals,
            results=body.results if ttl is None else None,
            by=view.caller.user_id,
            ttl=ttl,
            epoch=body.epoch,
            user_id=view.reads,
        )
        shown = waiting_shown(waits)
    return answer(shown, 201)


def _decision(given: bool | DecisionIn) -> Any:
    if isinstance(given, bool):
        return given
    if given.approved:
        return True if given.args is None else given.args
    return given.message or False


# ---------------------------------------------------------------- whose it is, and for how long


class ClaimIn(Body):
    """Whose a session is to be."""

    user_id: str | None = Field(default=None, min_length=1)
    agent: str | None = Field(default=None, min_length=1, description="Of a session that has none.")


class EraseIn(Body):
    """What is erased."""

    message: int | None = Field(
        default=None, ge=0, le=LARGEST, description="Which of the run's messages. Default: all."
    )


@router.post("/sessions/{session_id}/claim", response_model=SessionOut, summary="Give a session to a user")
async def claim(view: Seen, session_id: Session, body: ClaimIn) -> Response:
    """For administrators: one that is nobody's becomes a user's, once and for good, who has it under the same id."""
    administrators(view)
    if body.user_id is not None:
        given = await asyncio.to_thread(give, view.storage, session_id, body.user_id, agent=body.agent)
        return answer(session_shown(given))
    if await view.storage.aget_session(session_id, user_id=view.reads) is None:
        raise SessionNotFoundError(f"There is no session {session_id!r}.")
    return answer(session_shown(await view.storage.aclaim(session_id, agent=body.agent)))


@router.post(
    "/sessions/{session_id}/runs/{number}/erase", response_model=RunOut, summary="Erase what was said in a run"
)
async def erase(view: Seen, session_id: Session, number: RunNumber, body: EraseIn) -> Response:
    """For good; marks stand in its place."""
    run = await view.storage.aerase_run(session_id, number, message=body.message, user_id=view.reads)
    return answer(run_shown(session_id, run, whole_errors=view.is_administrator))


@router.get("/me", response_model=AnyOut, summary="Who asks")
async def who(view: Seen) -> Response:
    """The user, whether all sessions are shown, and what is served."""
    shown = {
        "user_id": view.caller.user_id,
        "administrator": view.is_administrator,
        "agents": list(view.server.served),
    }
    return answer(shown)
