"""What is remembered about users: listed, searched, written, changed, forgotten; each user the own, and no others."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import Field
from starlette.responses import Response

from ...errors import InvalidInputError, MemoryNotFoundError
from ...jsons import record_json
from ...storage.methods.remembering import Memories
from ..models import MemoryOut
from ..serving import View
from .common import PROBLEMS, Body, Known, OfUser, Seen, answer

router = APIRouter(route_class=Known, responses=PROBLEMS, tags=["look"])

MemoryId = Annotated[str, Path(description="The id of the memory.", min_length=1)]
Ttl = Annotated[float | None, Field(gt=0, le=10**9, strict=False)]


class MemoryIn(Body):
    """What is to be remembered."""

    memory: str = Field(min_length=1, description="A fact, in up to 2,000 characters.")
    topics: list[str] = Field(default_factory=list, description="What it is about.")
    ttl: Ttl = Field(default=None, description="After how many seconds it is forgotten by itself; null: never.")


class MemoryChangeIn(Body):
    """What a memory is to be from now on; only what is named is changed."""

    memory: str | None = Field(default=None, min_length=1)
    topics: list[str] | None = None
    ttl: Ttl = Field(default=None, description="From now on; null: it is kept.")


def _of(view: View, user_id: str | None) -> Memories:
    """The memories that a request is about: the caller's own, or those of the user whom an administrator names."""
    if not view.is_administrator:
        return view.storage.memories(view.caller.user_id)
    if user_id is None:
        raise InvalidInputError("Memories are a user's.", hint="Name the user: ?user_id=…")
    return view.storage.memories(user_id)


@router.get("/memories", response_model=list[MemoryOut], summary="What is remembered about a user")
async def list_memories(
    view: Seen,
    user_id: OfUser = None,
    topic: Annotated[str | None, Query(description="Only those with this topic.", min_length=1)] = None,
    find: Annotated[str | None, Query(description="Only those with words of this text, the best first.")] = None,
    limit: Annotated[int, Query(description="At most so many.", ge=1, le=1000)] = 1000,
) -> Response:
    """The one that was written last first. To administrators who name nobody: those of all users, without a search."""
    if view.is_administrator and user_id is None:
        if find is not None or topic is not None:
            raise InvalidInputError("Memories are searched user by user.", hint="Name the user: ?user_id=…")
        return answer([record_json(one) for one in await view.storage.aall_memories(limit=limit)])
    mine = _of(view, user_id)
    found = await mine.aall(topic=topic) if find is None else await mine.asearch(find, limit=limit, topic=topic)
    return answer([record_json(one) for one in found[:limit]])


@router.post("/memories", status_code=201, response_model=MemoryOut, summary="Remember something about a user")
async def add_memory(view: Seen, body: MemoryIn, user_id: OfUser = None) -> Response:
    """One that says the same as another renews that."""
    made = await _of(view, user_id).aadd(body.memory, topics=body.topics, ttl=body.ttl)
    return answer(record_json(made), 201)


@router.patch("/memories/{memory_id}", response_model=MemoryOut, summary="Change what is remembered")
async def change_memory(view: Seen, memory_id: MemoryId, body: MemoryChangeIn, user_id: OfUser = None) -> Response:
    """In one commit."""
    ttl = body.ttl if "ttl" in body.model_fields_set else "as before"
    made = await _of(view, user_id).aupdate(memory_id, body.memory, topics=body.topics, ttl=ttl)
    return answer(record_json(made))


@router.delete("/memories/{memory_id}", status_code=204, summary="Forget something about a user")
async def forget_memory(view: Seen, memory_id: MemoryId, user_id: OfUser = None) -> Response:
    """For good: its text is taken out of the log, too."""
    if not await _of(view, user_id).adelete(memory_id):
        raise MemoryNotFoundError(f"There is no memory {memory_id!r} of this user.")
    return Response(status_code=204)
