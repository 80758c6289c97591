"""What is approved for good: listed, and taken back."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from starlette.responses import Response

from ...jsons import record_json
from ...records import UserId
from ..models import GrantOut
from ..problems import Problem
from ..serving import View
from .common import PROBLEMS, Known, OfUser, Seen, Session, answer

router = APIRouter(route_class=Known, responses=PROBLEMS, tags=["run"])

GrantId = Annotated[str, Path(description="The id of what was approved.", min_length=1, max_length=255)]


@router.get("/approvals", response_model=list[GrantOut], summary="What is approved for good, in all sessions")
async def list_approvals(view: Seen, user_id: OfUser = None) -> Response:
    """For the caller; administrators may name a user. Oldest first."""
    return answer([record_json(one) for one in await view.storage.agrants(user_id=_whose(view, user_id))])


@router.delete("/approvals/{grant_id}", response_model=dict[str, bool], summary="Take back what holds in all sessions")
async def revoke(view: Seen, grant_id: GrantId, user_id: OfUser = None) -> Response:
    """`revoked` is false where it did not hold any more."""
    whose = _whose(view, user_id)
    return answer({"revoked": await view.storage.arevoke(grant_id, by=view.caller.user_id, user_id=whose)})


@router.get(
    "/sessions/{session_id}/approvals", response_model=list[GrantOut], summary="What is approved for good in a session"
)
async def list_of_session(view: Seen, session_id: Session) -> Response:
    """Its own, and those that hold in all sessions of its user."""
    return answer([record_json(one) for one in await view.storage.agrants(session_id, user_id=view.reads)])


@router.delete(
    "/sessions/{session_id}/approvals/{grant_id}",
    response_model=dict[str, bool],
    summary="Take back what holds in a session",
)
async def revoke_in_session(view: Seen, session_id: Session, grant_id: GrantId) -> Response:
    """`revoked` is false where it did not hold any more, or is not the session's own."""
    done = await view.storage.arevoke(grant_id, session_id, by=view.caller.user_id, user_id=view.reads)
    return answer({"revoked": done})


def _whose(view: View, user_id: str | None) -> UserId:
    """Whose approvals are meant: the caller's own; an administrator names somebody, or means the own ones."""
    if not view.is_administrator:
        return None
    named = view.caller.user_id if user_id is None else user_id
    if named is None:
        raise Problem(422, "invalid-request", "Name a user: user_id=.")
    return named
