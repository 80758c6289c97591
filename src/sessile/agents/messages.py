"""Pydantic AI's messages as stored data, and back.

What is stored is the JSON form of one message an entry, under the format name `pydantic-ai/2`. It is data that the
messages can be made from, not the types themselves: a message of a later version stays readable, listable and
exportable, and only an agent that must send it refuses it.
"""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, cast

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_ai import DeferredToolRequests
from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    ModelResponsePart,
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

MADE_UP = "sessile"
"""The provider of responses that no model was asked for."""

NANO = 10**9

_adapters: dict[type, TypeAdapter[Any]] = {kind: TypeAdapter(kind) for kind in (ModelRequest, ModelResponse)}
"""By type, because serializing through the union of both takes twice as long."""

_content: TypeAdapter[Sequence[UserContent]] = TypeAdapter(list[UserContent])
_requests: TypeAdapter[DeferredToolRequests] = TypeAdapter(DeferredToolRequests)
_tool_result: TypeAdapter[Any] = TypeAdapter(ToolReturnContent)
_tool_result_bytes: TypeAdapter[Any] = TypeAdapter(ToolReturnContent, config=ConfigDict(ser_json_bytes="base64"))

MAX_DIGITS = 4000
"""Of how many digits a whole number may be. Python refuses to read longer ones (4,300) back, and with them the commit
that they are in (docs.python.org/3/library/stdtypes.html#int-max-str-digits); they are stored as text."""

_LONG_NUMBER = re.compile(rb"[0-9]{%d}" % (MAX_DIGITS + 1))
_reprs = reprlib.Repr()
_reprs.maxother = 10_000

ReadMedia = Callable[[str], Awaitable[bytes]]
KeepMedia = Callable[[Any], Awaitable[Any]]


async def dump_message(message: ModelMessage, keep: KeepMedia) -> Any:
    """A message as data for an entry; large binary parts are put aside with `keep`."""
    try:
        text = _adapters[type(message)].dump_json(message)
    except PydanticSerializationError:
        return await keep(readable(_dump_odd(message)))
    if b'"kind":"binary"' in text or _LONG_NUMBER.search(text):
        return await keep(_parsed(text))
    return RawJson(text.decode())


def _dump_odd(message: ModelMessage) -> Any:
    """A message that has no plain JSON form: lone surrogates stay as they are, objects of tools become their text.

    Whatever a tool has returned, the run's failure over it must not be lost as well.
    """
    adapter = _adapters[type(message)]
    try:
        return adapter.dump_python(message, mode="json", fallback=_repr)
    except PydanticSerializationError:  # a value that contains itself, or is too deep
        parts: Any = [_plain_part(part) for part in message.parts]
        return adapter.dump_python(replace(message, parts=parts), mode="json", fallback=_repr)


def _plain_part(part: Any) -> Any:
    """A part; if it is one of a tool, with the arguments of its call, or what it returned, as text."""
    if not hasattr(part, "tool_name"):
        return part
    values = {name: getattr(part, name, None) for name in ("args", "content", "metadata")}
    odd = {name: _repr(value) for name, value in values.items() if value is not None and not isinstance(value, str)}
    return replace(part, **odd)


def _repr(value: Any) -> str:
    """The text of an object that has no JSON form, also where its own `__repr__` fails."""
    return _reprs.repr_instance(value, 1)


def _parsed(text: bytes) -> Any:
    """JSON as Python data, numbers that are too long to be read back as text."""
    return json.loads(text, parse_int=lambda digits: int(digits) if len(digits) <= MAX_DIGITS else digits)


def readable(value: Any) -> Any:
    """JSON data with the numbers that are too long to be read back as text."""
    if isinstance(value, dict):
        return {key: readable(item) for key, item in cast(JsonObject, value).items()}
    if isinstance(value, list):
        return [readable(item) for item in cast(list[Any], value)]
    return to_json(value).decode() if isinstance(value, int) and _is_long(value) else value


def _is_long(value: int) -> bool:
    return value.bit_length() > 3 * MAX_DIGITS  # each digit has 3.3 bits


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
    return readable(_content.dump_python(list(prompt), mode="json"))


async def load_input(data: Any, read: ReadMedia) -> str | Sequence[UserContent] | None:
    """The inverse of `dump_input`."""
    if data is None or isinstance(data, str):
        return data
    return _content.validate_python(await put_back(data, read))


def dump_output(output: Any) -> Any:
    """A run's output as JSON; what has no JSON form becomes its text."""
    if output is None or isinstance(output, (str, bool)) or (isinstance(output, int) and not _is_long(output)):
        return output
    return to_plain(output)


def to_plain(value: Any) -> Any:
    """Any value as JSON data; NaN and infinities become text, bytes base64, unknown objects their text."""
    try:
        return _parsed(to_json(value, serialize_unknown=True, inf_nan_mode="strings", bytes_mode="base64"))
    except ValueError:  # a lone surrogate, or a value that contains itself
        try:
            plain = to_jsonable_python(value, serialize_unknown=True, inf_nan_mode="strings", bytes_mode="base64")
            return readable(plain)
        except ValueError:
            return _repr(value)


def dump_requests(requests: DeferredToolRequests) -> Any:
    """What a paused run waits for, as JSON."""
    return readable(_requests.dump_python(requests, mode="json", fallback=_repr))


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
                "return_value": _dump_returned(returned.return_value),
                "content": dump_input(returned.content),
                "metadata": to_plain(returned.metadata),
            }
            return {"tool_return": await keep(data)}
        return {"value": await keep(_dump_returned(value))}
    except ValueError as error:
        raise InvalidStateError(f"What the tool {tool!r} returned is not JSON: {error}.") from error


def _dump_returned(value: Any) -> Any:
    try:
        return readable(_tool_result.dump_python(value, mode="json"))
    except ValueError:  # of bytes that are no text, which go to the model as base64; or for good
        return readable(_tool_result_bytes.dump_python(value, mode="json"))


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


def count_responses(messages: Iterable[ModelMessage]) -> RunUsage:
    """What the models have used that were asked for these messages."""
    count = RunUsage()
    for message in messages:
        if isinstance(message, ModelResponse) and message.provider_name != MADE_UP:
            count.incr(message.usage)
            count.requests += 1
    return count


def made_up(*parts: ModelResponsePart) -> ModelResponse:
    """A response that no model was asked for: what a team does of itself, as its leader would say it."""
    return ModelResponse(parts=list(parts), provider_name=MADE_UP)


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
