"""`/v1/chat/completions` and `/v1/models`: the last message of a request is a session's next run."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request
from pydantic import Field
from starlette.responses import Response, StreamingResponse

from ...records import JsonObject
from ...storage.ids import uuid7
from ..models import AnyOut
from ..routes.common import PROBLEMS, STREAM, Known, Seen, answer
from ..running import Telling, checked, session_of
from ..serving import View
from ..streams import HEADERS, with_pings
from .common import Lenient, asked_for, calls_of, content_of, frames_of, launch, now, outcome, refused, sse, text_of

router = APIRouter(route_class=Known, responses=PROBLEMS, tags=["openai"])


class StreamOptionsIn(Lenient):
    """What a stream has beside its text."""

    include_usage: bool = False


class ChatIn(Lenient):
    """A request of a client of OpenAI's Chat Completions; what else it has is passed over."""

    model: str = Field(description="The name of an agent or a team.", min_length=1)
    messages: list[dict[str, Any]] = Field(
        description="The last one, the user's, is the new turn. What comes before is kept here, and not taken."
    )
    stream: bool = False
    stream_options: StreamOptionsIn | None = None


@router.get("/v1/models", response_model=AnyOut, summary="What can be run, as OpenAI lists models")
async def list_models(view: Seen) -> Response:
    """The names of what is served."""
    models = [{"id": name, "object": "model", "created": 0, "owned_by": "sessile"} for name in view.server.served]
    return answer({"object": "list", "data": models})


@router.post(
    "/v1/chat/completions",
    response_model=AnyOut,
    responses={200: {"content": STREAM["content"]}},
    summary="OpenAI's Chat Completions",
)
async def complete(
    request: Request,
    view: Seen,
    body: ChatIn,
    x_session_id: Annotated[str | None, Header(description="The session to continue. Default: a new one.")] = None,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=200)] = None,
) -> Response:
    """The answer names the session in `X-Session-Id`; the client sends it along with its next request."""
    session_id = x_session_id or (uuid7() if idempotency_key is None else session_of(view, body.model, idempotency_key))
    asked_for(view, body.model, session_id)
    if not body.messages or body.messages[-1].get("role") != "user":
        raise refused("The last message must be the user's.", "messages")
    prompt = content_of(body.messages[-1].get("content"), "messages")
    request.state.session_id = session_id
    telling, task = await launch(view, body.model, session_id, prompt, idempotency_key, told=body.stream)
    if body.stream:
        headers = {**HEADERS, "X-Session-Id": session_id}
        usage = body.stream_options is not None and body.stream_options.include_usage
        pieces = with_pings(view.server, _chunks(view, telling, usage=usage), begin=b"")
        return StreamingResponse(pieces, 200, headers, "text/event-stream")
    said = checked(await outcome(task))
    request.state.run_id = said["run_id"]
    return answer(_completion(said), headers={"X-Session-Id": session_id})


def _completion(said: JsonObject) -> JsonObject:
    message: JsonObject = {"role": "assistant", "content": text_of(said), "refusal": None}
    calls = _calls(said)
    if calls:
        message |= {"content": None, "tool_calls": calls}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "tool_calls" if calls else "stop"}
    return {
        "id": f"chatcmpl-{said['run_id']}",
        "object": "chat.completion",
        "created": now(),
        "model": said["agent"],
        "choices": [choice],
        "usage": _usage(said),
    }


def _calls(said: JsonObject) -> list[JsonObject]:
    return [
        {
            "id": one["tool_call_id"],
            "type": "function",
            "function": {"name": one["tool_name"], "arguments": one["args"]},
        }
        for one in calls_of(said)
    ]


def _usage(said: JsonObject) -> JsonObject:
    used = said["usage"]
    asked, answered = used.get("input_tokens", 0), used.get("output_tokens", 0)
    return {"prompt_tokens": asked, "completion_tokens": answered, "total_tokens": asked + answered}


async def _chunks(view: View, telling: Telling, *, usage: bool) -> AsyncGenerator[bytes]:
    created = now()

    def chunk(delta: JsonObject | None, finish: str | None = None, **more: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return sse(
            {
                "id": f"chatcmpl-{telling.run_id}",
                "object": "chat.completion.chunk",
                "created": created,
                "model": telling.name,
                "choices": [] if delta is None else [choice],
                **more,
            }
        )

    yield chunk({"role": "assistant", "content": ""})
    said, has_text = None, False
    async for frame in frames_of(view, telling):
        if frame.text:
            has_text = True
            yield chunk({"content": frame.text})
        if frame.event == "text.restarted" or (frame.outcome or {}).get("status") in ("failed", "cancelled"):
            yield sse({"error": {"message": "The run has failed, or goes on elsewhere.", "type": "server_error"}})
            return
        said = frame.outcome or said
    if said is None:
        yield sse({"error": {"message": "The server ends.", "type": "server_error"}})
        return
    if not has_text and (text := text_of(said)):
        yield chunk({"content": text})
    calls = [{"index": place, **one} for place, one in enumerate(_calls(said))]
    if calls:
        yield chunk({"tool_calls": calls})
    yield chunk({}, "tool_calls" if calls else "stop")
    if usage:
        yield chunk(None, usage=_usage(said))
    yield b"data: [DONE]\n\n"
