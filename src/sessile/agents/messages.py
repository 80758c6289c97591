"""Pydantic AI's messages as stored data, and back.

What is stored is the JSON form of one message an entry, under the format name `pydantic-ai/2`. It is data that the
messages can be made from, not the types themselves: a message of a later version stays readable, listable and
exportable, and only an agent that must send it refuses it.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError
from pydantic_ai import DeferredToolRequests
from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolReturn,
    ToolReturnContent,
    UserContent,
    UserPromptPart,
)
from pydantic_ai.usage import RunUsage
from pydantic_core import PydanticSerializationError, to_json, to_jsonable_python

from ..errors import InvalidInputError, InvalidStateError, UnknownFormatError
from ..records import JsonObject, Message, Run, Usage
from ..storage.encoding import RawJson
from ..storage.media import has_binary, put_back

FORMAT = "pydantic-ai/2"
"""The format of message entries written here: the JSON form of Pydantic AI 2's `ModelMessage`."""

NANO = 10**9

_adapters: dict[type, TypeAdapter[Any]] = {kind: TypeAdapter(kind) for kind in (ModelRequest, ModelResponse)}
"""By type, because serializing through the union of both takes twice as long."""

_content: TypeAdapter[Sequence[UserContent]] = TypeAdapter(list[UserContent])
_requests: TypeAdapter[DeferredToolRequests] = TypeAdapter(DeferredToolRequests)
_tool_result: TypeAdapter[Any] = TypeAdapter(ToolReturnContent)

ReadMedia = Callable[[str], Awaitable[bytes]]
KeepMedia = Callable[[Any], Awaitable[Any]]


async def dump_message(message: ModelMessage, keep: KeepMedia) -> Any:
    """A message as data for an entry; large binary parts are put aside with `keep`."""
    try:
        text = _adapters[type(message)].dump_json(message)
    except PydanticSerializationError:  # slower: a lone surrogate stays as it is, an object of a tool becomes its text
        return await keep(_adapters[type(message)].dump_python(message, mode="json", fallback=repr))
    if b'"kind":"binary"' in text:
        return await keep(json.loads(text))
    return RawJson(text.decode())


async def load_messages(messages: Iterable[Message], read: ReadMedia) -> list[ModelMessage]:
    """Stored messages as Pydantic AI's; `UnknownFormatError` for what this version cannot send."""
    data: list[Any] = []
    for message in messages:
        if message.format is not None and message.format != FORMAT:
            raise UnknownFormatError(
                f"Run {message.run} has messages of the format {message.format!r}; this agent sends {FORMAT!r}."
            )
        data.append(await put_back(message.data, read) if _has_media(message.data) else message.data)
    try:
        return ModelMessagesTypeAdapter.validate_python(data)
    except ValidationError as error:
        runs = sorted({message.run for message in messages})
        raise UnknownFormatError(
            f"The messages of runs {runs} cannot be read by this version of Pydantic AI: {error.errors()[0]['msg']}."
        ) from error


def _has_media(message: JsonObject) -> bool:
    """Whether a stored message holds a binary part; looks only into parts whose content is more than text."""
    parts: list[JsonObject] = message.get("parts", [])
    return any(type(part.get("content")) is not str and has_binary(part) for part in parts)


async def run_messages(run: Run, read: ReadMedia) -> list[ModelMessage]:
    """A run's messages for a history; a run that was added as text only is one request and one response."""
    if run.messages:
        return await load_messages(run.messages, read)
    if isinstance(run.input, str) and isinstance(run.output, str):
        request = ModelRequest(parts=[UserPromptPart(run.input)])
        return [request, ModelResponse(parts=[TextPart(run.output)])]
    return []


def answered(messages: Sequence[ModelMessage]) -> bool:
    """Whether a model has answered anything: what was refused or cut off before that is not worth sending again."""
    return any(isinstance(message, ModelResponse) for message in messages)


def dump_input(prompt: str | Sequence[UserContent] | None) -> Any:
    """A run's input as JSON, binary parts included; refuses what is no prompt at all."""
    if prompt is None or isinstance(prompt, str):
        return prompt
    if not isinstance(prompt, Sequence) or isinstance(prompt, (bytes, bytearray)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInputError(f"A prompt is text, or a list of text and media; this is a {type(prompt).__name__}.")
    return _content.dump_python(list(prompt), mode="json")


async def load_input(data: Any, read: ReadMedia) -> str | Sequence[UserContent] | None:
    """The inverse of `dump_input`."""
    if data is None or isinstance(data, str):
        return data
    return _content.validate_python(await put_back(data, read))


def dump_output(output: Any) -> Any:
    """A run's output as JSON; what has no JSON form becomes its text."""
    if output is None or isinstance(output, (str, bool, int)):
        return output
    return to_plain(output)


def to_plain(value: Any) -> Any:
    """Any value as JSON data; NaN and infinities become text, bytes base64, unknown objects their text."""
    try:
        return json.loads(to_json(value, serialize_unknown=True, inf_nan_mode="strings", bytes_mode="base64"))
    except ValueError:  # a lone surrogate, or a value that contains itself
        try:
            return to_jsonable_python(value, serialize_unknown=True, inf_nan_mode="strings", bytes_mode="base64")
        except ValueError:
            return repr(value)


def dump_requests(requests: DeferredToolRequests) -> Any:
    """What a paused run waits for, as JSON."""
    return _requests.dump_python(requests, mode="json", fallback=repr)


def load_requests(data: Any) -> DeferredToolRequests:
    """The inverse of `dump_requests`; `UnknownFormatError` for what this version does not know."""
    try:
        return _requests.validate_python(data)
    except ValidationError as error:
        raise UnknownFormatError(
            f"What the run waits for cannot be read by this version of Pydantic AI: {error.errors()[0]['msg']}."
        ) from error


async def dump_tool_result(value: Any, tool: str, keep: KeepMedia) -> Any:
    """What a tool returned, as JSON that `load_tool_result` makes the same result of for the model."""
    try:
        if isinstance(value, ToolReturn):
            returned = cast(ToolReturn[Any], value)
            data = {
                "return_value": _tool_result.dump_python(returned.return_value, mode="json"),
                "content": dump_input(returned.content),
                "metadata": to_plain(returned.metadata),
            }
            return {"tool_return": await keep(data)}
        return {"value": await keep(_tool_result.dump_python(value, mode="json"))}
    except PydanticSerializationError as error:
        raise InvalidStateError(f"What the tool {tool!r} returned is not JSON: {error}.") from error


async def load_tool_result(data: Any, read: ReadMedia) -> Any:
    """The inverse of `dump_tool_result`: values in their JSON form, media as they were."""
    if "value" in data:
        return _tool_result.validate_python(await put_back(data["value"], read))
    kept = data["tool_return"]
    return ToolReturn(
        return_value=_tool_result.validate_python(await put_back(kept["return_value"], read)),
        content=await load_input(kept["content"], read),
        metadata=kept["metadata"],
    )


def usage_of(usage: RunUsage) -> Usage:
    """Pydantic AI's usage as ours; cost in nano-dollars."""
    cost: Any = getattr(usage, "cost", None)
    return Usage(
        requests=usage.requests,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        tool_calls=usage.tool_calls,
        cost=0 if cost is None else round(cost * NANO),
    )


def run_usage(usage: Usage) -> RunUsage:
    """Our usage as Pydantic AI's, for limits that span the session."""
    return RunUsage(
        requests=usage.requests,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        tool_calls=usage.tool_calls,
        cost=Decimal(usage.cost) / NANO if usage.cost else None,
    )


def less(usage: Usage, before: Usage) -> Usage:
    """What was used since `before`."""
    return Usage(
        usage.requests - before.requests,
        usage.input_tokens - before.input_tokens,
        usage.output_tokens - before.output_tokens,
        usage.cache_read_tokens - before.cache_read_tokens,
        usage.cache_write_tokens - before.cache_write_tokens,
        usage.tool_calls - before.tool_calls,
        usage.cost - before.cost,
    )


def text_of(messages: Iterable[ModelMessage]) -> str:
    """The words of messages, for counting and summarising: prompts, answers, tool calls and results."""
    return "\n".join(line for message in messages for line in _lines(message))


def _lines(message: ModelMessage) -> Iterable[str]:
    for part in message.parts:
        content: Any = getattr(part, "content", None)
        kind = part.part_kind
        if kind == "tool-call":
            yield f"(calls {getattr(part, 'tool_name', '')} with {getattr(part, 'args', '')})"
        elif kind == "tool-return":
            yield f"({getattr(part, 'tool_name', '')} returned {content})"
        elif kind == "user-prompt":
            yield f"User: {plain_text(content)}"
        elif kind == "text":
            yield f"Assistant: {content}"


def plain_text(content: Any) -> str:
    """The text of a user prompt; other kinds of content are named in brackets."""
    if isinstance(content, str):
        return content
    items = cast("Sequence[Any]", content or [])
    return " ".join(item if isinstance(item, str) else f"[{getattr(item, 'kind', 'content')}]" for item in items)
