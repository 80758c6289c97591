"""Replies in the form of /v1/chat/completions."""

from __future__ import annotations

import time
from collections.abc import Iterator

from .brain import Reply
from .encode import StreamEvent, argument_pieces, dump, new_id, pieces
from .wire import Json


def _usage(input_tokens: int, reply: Reply) -> Json:
    output = reply.output_tokens
    return {
        "prompt_tokens": input_tokens,
        "completion_tokens": output,
        "total_tokens": input_tokens + output,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


def chat_body(request: Json, reply: Reply, input_tokens: int) -> Json:
    """The whole answer as one object."""
    message: Json = {"role": "assistant", "content": reply.text or None, "refusal": None, "annotations": []}
    if reply.calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in reply.calls
        ]
    finish = "tool_calls" if reply.calls else "stop"
    return {
        "id": new_id("chatcmpl-"),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": request.get("model", "test"),
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
        "usage": _usage(input_tokens, reply),
        "service_tier": "default",
        "system_fingerprint": None,
    }


def chat_events(request: Json, reply: Reply, input_tokens: int) -> Iterator[StreamEvent]:
    """The answer as a stream; the usage comes last, and only if the request asks for it."""
    with_usage = bool((request.get("stream_options") or {}).get("include_usage"))
    head: Json = {
        "id": new_id("chatcmpl-"),
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": request.get("model", "test"),
        "service_tier": "default",
        "system_fingerprint": None,
        **({"usage": None} if with_usage else {}),
    }

    def chunk(delta: Json, finish: str | None = None, piece: bool = False) -> StreamEvent:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return StreamEvent(dump({**head, "choices": [choice]}), delta=piece)

    yield chunk({"role": "assistant", "content": None if reply.calls else "", "refusal": None})
    for piece in pieces(reply.text):
        yield chunk({"content": piece}, piece=True)
    for index, call in enumerate(reply.calls):
        start = {
            "index": index,
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": ""},
        }
        yield chunk({"tool_calls": [start]})
        for piece in argument_pieces(call.arguments):
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]}, piece=True)
    yield chunk({}, "tool_calls" if reply.calls else "stop")
    if with_usage:
        yield StreamEvent(dump({**head, "choices": [], "usage": _usage(input_tokens, reply)}))
    yield StreamEvent("[DONE]")
