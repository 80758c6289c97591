"""`/v1/responses`: a response is a run, and a conversation is a session."""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncGenerator
from typing import Annotated, Any, cast

from fastapi import APIRouter, Header, Path, Request
from pydantic import Field
from pydantic_ai import DeferredToolResults
from starlette.responses import Response, StreamingResponse

from ...records import JsonObject
from ...storage.ids import uuid7
from ..models import AnyOut
from ..problems import Problem
from ..routes.common import PROBLEMS, STREAM, Known, Seen, answer
from ..running import Telling, begun, checked, resumed, session_of
from ..serving import View
from ..streams import HEADERS, with_pings
from .common import (
    Lenient,
    asked_for,
    calls_of,
    content_of,
    frames_of,
    launch,
    now,
    outcome,
    refused,
    sse,
    stored,
    text_of,
)

router = APIRouter(route_class=Known, responses=PROBLEMS, tags=["openai"])

STATUSES = {
    "completed": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
    "running": "in_progress",
    "interrupted": "in_progress",
    "paused": "incomplete",
}

ResponseId = Annotated[str, Path(min_length=1)]


class ConversationIn(Lenient):
    """A conversation, by its id."""

    id: str = Field(min_length=1)


class ResponseIn(Lenient):
    """A request of a client of OpenAI's Responses; what else it has is passed over."""

    model: str = Field(description="The name of an agent or a team.", min_length=1)
    input: str | list[dict[str, Any]] = Field(
        description="Text, or items, of which the last message of the user and results of calls are taken."
    )
    previous_response_id: str | None = Field(default=None, description="The run that this one follows.")
    conversation: str | ConversationIn | None = Field(default=None, description="The session.")
    stream: bool = False
    background: bool = False


def response_id(session_id: str, number: int) -> str:
    """The id of a run as a response's."""
    packed = base64.urlsafe_b64encode(session_id.encode()).decode().rstrip("=")
    return f"resp_{number}_{packed}"


def place_of(given: str) -> tuple[str, int]:
    """The inverse of `response_id`; raises a problem (404)."""
    kind, _, rest = given.partition("_")
    number, _, packed = rest.partition("_")
    try:
        session_id = base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)).decode()
        if kind != "resp" or not session_id or not (number.isascii() and number.isdigit() and int(number[:18]) > 0):
            raise ValueError
    except (ValueError, binascii.Error):
        raise Problem(404, "no-such-response", "There is no such response.") from None
    return session_id, int(number[:18])


@router.post(
    "/v1/responses",
    response_model=AnyOut,
    responses={200: {"content": STREAM["content"]}},
    summary="OpenAI's Responses",
)
async def respond(
    request: Request,
    view: Seen,
    body: ResponseIn,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=200)] = None,
) -> Response:
    """Continues the conversation, which is a session, or after the previous response, which is a run."""
    session_id, before = await _where(view, body, idempotency_key)
    request.state.session_id = session_id
    asked_for(view, body.model, session_id)
    results = _results(body.input)
    told = body.stream or body.background
    if results and before is not None:
        run = await view.storage.aget_run(session_id, before, user_id=view.reads)
        telling, task = await resumed(view, body.model, session_id, run, DeferredToolResults(calls=results))
        if told:
            await begun(telling, task)
    else:
        prompt = _prompt(body.input)
        telling, task = await launch(view, body.model, session_id, prompt, idempotency_key, told=told, after=before)
    if body.stream:
        pieces = with_pings(view.server, _events(view, telling, body.previous_response_id), begin=b"")
        return StreamingResponse(pieces, 200, HEADERS, "text/event-stream")
    if body.background:
        said, began = await stored(view, telling.session_id, telling.number)
    else:
        said, began = checked(await outcome(task)), now()
    request.state.run_id = said["run_id"]
    return answer(_response(said, began, body.previous_response_id))


async def _where(view: View, body: ResponseIn, key: str | None) -> tuple[str, int | None]:
    if body.previous_response_id is not None:
        session_id, number = place_of(body.previous_response_id)
        return session_id, number
    if body.conversation is None:
        return uuid7() if key is None else session_of(view, body.model, key), None
    given = body.conversation if isinstance(body.conversation, str) else body.conversation.id
    return given.removeprefix("conv_") or given, None


def _prompt(given: str | list[JsonObject]) -> Any:
    if isinstance(given, str):
        return content_of(given, "input")
    said = [item for item in given if item.get("role") == "user" and item.get("type", "message") == "message"]
    if not said:
        raise refused("The input has no message of the user's.", "input")
    return content_of(said[-1].get("content"), "input")


def _results(given: str | list[JsonObject]) -> dict[str, Any]:
    items = given if isinstance(given, list) else []
    return {
        cast(str, item["call_id"]): item.get("output")
        for item in items
        if item.get("type") == "function_call_output" and isinstance(item.get("call_id"), str)
    }


@router.get("/v1/responses/{response_id}", response_model=AnyOut, summary="A response, as it is now")
async def get_response(view: Seen, response_id: ResponseId) -> Response:
    """Of a run in the background: whether it has ended."""
    said, began = await stored(view, *place_of(response_id))
    return answer(_response(said, began))


@router.post("/v1/responses/{response_id}/cancel", response_model=AnyOut, summary="Cancel a response")
async def cancel_response(view: Seen, response_id: ResponseId) -> Response:
    """Wherever it is running."""
    session_id, number = place_of(response_id)
    await view.storage.acancel_run(session_id, number, user_id=view.reads)
    said, began = await stored(view, session_id, number)
    return answer(_response(said, began))


# ---------------------------------------------------------------- what is answered


def _response(said: JsonObject, created: int, previous: str | None = None) -> JsonObject:
    used = said["usage"]
    asked, answered = used.get("input_tokens", 0), used.get("output_tokens", 0)
    status = STATUSES[said["status"]]
    return {
        "id": response_id(said["session_id"], said["number"]),
        "object": "response",
        "created_at": created,
        "status": status,
        "background": False,
        "error": {"code": "server_error", "message": "The run has failed."} if status == "failed" else None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": said["agent"],
        "output": _items(said),
        "parallel_tool_calls": True,
        "previous_response_id": previous,
        "conversation": {"id": said["session_id"]},
        "temperature": None,
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "usage": {
            "input_tokens": asked,
            "input_tokens_details": {"cached_tokens": used.get("cache_read_tokens", 0)},
            "output_tokens": answered,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": asked + answered,
        },
    }


def _items(said: JsonObject) -> list[JsonObject]:
    calls: list[JsonObject] = [
        {
            "type": "function_call",
            "id": f"fc_{one['tool_call_id']}",
            "call_id": one["tool_call_id"],
            "name": one["tool_name"],
            "arguments": one["args"],
            "status": "completed",
        }
        for one in calls_of(said)
    ]
    return [_message(said["run_id"], text_of(said)), *calls] if said["status"] == "completed" else calls


def _message(run_id: str, text: str, status: str = "completed") -> JsonObject:
    content = [_part(text)] if status == "completed" else []
    return {"type": "message", "id": f"msg_{run_id}", "role": "assistant", "status": status, "content": content}


def _part(text: str) -> JsonObject:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


async def _events(view: View, telling: Telling, previous: str | None) -> AsyncGenerator[bytes]:
    number, texts = 0, list[str]()

    def event(kind: str, **data: Any) -> bytes:
        nonlocal number
        number += 1
        return sse({"type": kind, "sequence_number": number - 1, **data}, kind)

    begun_as: JsonObject = {
        "session_id": telling.session_id,
        "run_id": telling.run_id,
        "number": telling.number,
        "agent": telling.name,
        "status": "running",
        "output": None,
        "pending": [],
        "usage": {},
    }
    response = _response(begun_as, now(), previous)
    yield event("response.created", response=response)
    yield event("response.in_progress", response=response)
    place: JsonObject = {"item_id": f"msg_{telling.run_id}", "output_index": 0, "content_index": 0}
    said: JsonObject | None = None
    async for frame in frames_of(view, telling):
        said = frame.outcome or said
        if frame.event == "text.restarted":
            said = {**begun_as, "status": "failed"}
            break
        if frame.text:
            if not texts:
                item = _message(telling.run_id, "", "in_progress")
                yield event("response.output_item.added", output_index=0, item=item)
                yield event("response.content_part.added", **place, part=_part(""))
            texts.append(frame.text)
            yield event("response.output_text.delta", **place, delta=frame.text, logprobs=[])
    if said is None:
        said = {**begun_as, "status": "failed"}
    if texts:
        text = "".join(texts)
        yield event("response.output_text.done", **place, text=text, logprobs=[])
        yield event("response.content_part.done", **place, part=_part(text))
        yield event("response.output_item.done", output_index=0, item=_message(telling.run_id, text))
    for index, item in enumerate(_items(said)):
        if item["type"] == "function_call":
            yield event("response.output_item.added", output_index=index, item=item)
            yield event("response.output_item.done", output_index=index, item=item)
    status = STATUSES[said["status"]]
    kind = status if status in ("completed", "incomplete") else "failed"
    yield event(f"response.{kind}", response=_response(said, response["created_at"], previous))
