"""Replies in the form of /v1/responses."""

from __future__ import annotations

import time
from collections.abc import Iterator

from .brain import Reply
from .encode import StreamEvent, argument_pieces, dump, new_id, pieces
from .wire import Call, Json

_ECHOED = (
    "background",
    "instructions",
    "max_output_tokens",
    "metadata",
    "parallel_tool_calls",
    "reasoning",
    "store",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_p",
    "truncation",
    "user",
)
"""Fields of the request that the response repeats."""


def _usage(input_tokens: int, reply: Reply) -> Json:
    output = reply.output_tokens
    return {
        "input_tokens": input_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": input_tokens + output,
    }


def _text_part(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _message(item_id: str, text: str, *, done: bool) -> Json:
    return {
        "id": item_id,
        "type": "message",
        "role": "assistant",
        "status": "completed" if done else "in_progress",
        "content": [_text_part(text)] if done else [],
    }


def _call(item_id: str, call: Call, *, done: bool) -> Json:
    return {
        "id": item_id,
        "type": "function_call",
        "call_id": call.id,
        "name": call.name,
        "arguments": call.arguments if done else "",
        "status": "completed" if done else "in_progress",
    }


def _shell(request: Json) -> Json:
    """The response object before it has any output."""
    defaults: Json = {"metadata": {}, "parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
    echoed = {key: request[key] for key in _ECHOED if request.get(key) is not None}
    return {
        "id": new_id("resp_"),
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "model": request.get("model", "test"),
        "output": [],
        "previous_response_id": None,
        "usage": None,
        **defaults,
        **echoed,
    }


def _completed(shell: Json, output: list[Json], reply: Reply, input_tokens: int) -> Json:
    return {**shell, "status": "completed", "output": output, "usage": _usage(input_tokens, reply)}


def responses_body(request: Json, reply: Reply, input_tokens: int) -> Json:
    """The whole answer as one object."""
    output = [_message(new_id("msg_"), reply.text, done=True)] if reply.text or not reply.calls else []
    output += [_call(new_id("fc_"), call, done=True) for call in reply.calls]
    return _completed(_shell(request), output, reply, input_tokens)


def responses_events(request: Json, reply: Reply, input_tokens: int) -> Iterator[StreamEvent]:
    """The answer as a stream of typed events, numbered from 0; the last one holds the whole response."""
    shell = _shell(request)
    output: list[Json] = []
    for number, event in enumerate(_numberless(shell, output, reply, input_tokens)):
        kind = str(event["type"])
        yield StreamEvent(dump({**event, "sequence_number": number}), kind, delta=kind.endswith(".delta"))


def _numberless(shell: Json, output: list[Json], reply: Reply, input_tokens: int) -> Iterator[Json]:
    yield {"type": "response.created", "response": shell}
    yield {"type": "response.in_progress", "response": shell}
    if reply.text or not reply.calls:
        yield from _message_events(output, reply.text)
    for call in reply.calls:
        yield from _call_events(output, call)
    yield {"type": "response.completed", "response": _completed(shell, output, reply, input_tokens)}


def _message_events(output: list[Json], text: str) -> Iterator[Json]:
    """The events of one text item, which is added to `output` when it is done."""
    item_id, index = new_id("msg_"), len(output)
    item = {"output_index": index}
    place = {"item_id": item_id, "output_index": index, "content_index": 0}
    yield {"type": "response.output_item.added", **item, "item": _message(item_id, text, done=False)}
    yield {"type": "response.content_part.added", **place, "part": _text_part("")}
    for piece in pieces(text):
        yield {"type": "response.output_text.delta", **place, "delta": piece, "logprobs": []}
    yield {"type": "response.output_text.done", **place, "text": text, "logprobs": []}
    yield {"type": "response.content_part.done", **place, "part": _text_part(text)}
    output.append(_message(item_id, text, done=True))
    yield {"type": "response.output_item.done", **item, "item": output[-1]}


def _call_events(output: list[Json], call: Call) -> Iterator[Json]:
    """The events of one tool call, which is added to `output` when it is done."""
    item_id, index = new_id("fc_"), len(output)
    item = {"output_index": index}
    place = {"item_id": item_id, "output_index": index}
    yield {"type": "response.output_item.added", **item, "item": _call(item_id, call, done=False)}
    for piece in argument_pieces(call.arguments):
        yield {"type": "response.function_call_arguments.delta", **place, "delta": piece}
    whole = {"name": call.name, "arguments": call.arguments}
    yield {"type": "response.function_call_arguments.done", **place, **whole}
    output.append(_call(item_id, call, done=True))
    yield {"type": "response.output_item.done", **item, "item": output[-1]}
