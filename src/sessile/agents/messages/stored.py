"""Pydantic AI's messages as stored data, and back.

What is stored is the JSON form of one message an entry, under the format name `pydantic-ai/2`. It is data that the
messages can be made from, not the types themselves: a message of a later version stays readable, listable and
exportable, and only an agent that must send it refuses it.
"""

from __future__ import annotations

import base64
import json
import logging
import re
import reprlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, cast

from pydantic import ConfigDict, TypeAdapter, ValidationError
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
from pydantic_core import PydanticSerializationError, to_json, to_jsonable_python

from ...errors import InvalidInputError, InvalidStateError, SessileError, UnknownFormatError
from ...records import JsonObject, Message, Run
from ...storage.computing import IN_TEXT, LARGE, computed, weight
from ...storage.encoding import RawJson
from ...storage.formats import PYDANTIC_AI
from ...storage.media import has_binary, put_back
from ...storage.vocabulary import Pending
from ...storage.withholding import reason_of, withheld
from .adk import ADK, from_adk
from .lookalikes import marked, unmarked, with_marks, without_marks
from .openai import from_openai, is_openai

logger = logging.getLogger("sessile")

FORMAT = PYDANTIC_AI
"""The format of message entries written here: the JSON form of Pydantic AI 2's `ModelMessage`."""


# Serialized without warnings: of bytes that are no text, for example, which become base64, Pydantic warns each time.
_adapters: dict[type, TypeAdapter[Any]] = {kind: TypeAdapter(kind) for kind in (ModelRequest, ModelResponse)}
"""By type, because serializing through the union of both takes twice as long."""

_content: TypeAdapter[Sequence[UserContent]] = TypeAdapter(list[UserContent])
_requests: TypeAdapter[DeferredToolRequests] = TypeAdapter(DeferredToolRequests)
_tool_result: TypeAdapter[Any] = TypeAdapter(ToolReturnContent)
_tool_result_bytes: TypeAdapter[Any] = TypeAdapter(ToolReturnContent, config=ConfigDict(ser_json_bytes="base64"))

BYTES = "application/octet-stream"
"""The media type of bytes that nobody has said anything about."""

MAX_DIGITS = 4000
"""Of how many digits a whole number may be. Python refuses to read longer ones (4,300) back, and with them the commit
that they are in (docs.python.org/3/library/stdtypes.html#int-max-str-digits); they are stored as text."""

_DIGITS = re.compile(rb"[0-9]*")

_reprs = reprlib.Repr()
_reprs.maxother = 10_000

ReadMedia = Callable[[str], Awaitable[bytes]]
KeepMedia = Callable[[Any], Awaitable[Any]]


async def dump_message(message: ModelMessage, keep: KeepMedia) -> Any:
    """A message as data for an entry; large binary parts are put aside with `keep`."""
    dumped = await computed(lambda: _dumped(message), *contents(message))
    return dumped if isinstance(dumped, RawJson) else await keep(dumped)


def contents(message: ModelMessage) -> list[Any]:
    """What of a message may be large."""
    return [getattr(part, name, None) for part in message.parts for name in ("content", "args")]


def _dumped(message: ModelMessage) -> Any:
    """A message as text that is stored as it is, or as data in which something may have to be put aside."""
    try:
        text = _adapters[type(message)].dump_json(message, warnings=False)
        if text.count(b'kind":') > len(message.parts) + 1:  # the message's own, and those of its parts
            own = with_marks(message)
            text = text if own is message else _adapters[type(message)].dump_json(own, warnings=False)
    except PydanticSerializationError:
        return readable(_dump_odd(with_marks(message)))
    if b'"kind":"binary"' in text or _has_long_number(text):
        return _parsed(text)
    return RawJson(text.decode())


def _has_long_number(text: bytes) -> bool:
    """Whether there are more than `MAX_DIGITS` digits in a row. Every so many bytes there is one of them then."""
    for place in range(MAX_DIGITS, len(text), MAX_DIGITS):
        if 0x30 <= text[place] <= 0x39:
            before = text[place - MAX_DIGITS : place]
            behind = _DIGITS.match(text, place)
            digits = len(before) - len(before.rstrip(b"0123456789")) + (len(behind[0]) if behind else 0)
            if digits > MAX_DIGITS:
                return True
    return False


def _dump_odd(message: ModelMessage) -> Any:
    """A message that has no plain JSON form: lone surrogates stay as they are, objects of tools become their text.

    Whatever a tool has returned, the run's failure over it must not be lost as well.
    """
    adapter = _adapters[type(message)]
    try:
        return adapter.dump_python(message, mode="json", fallback=_repr, warnings=False)
    except PydanticSerializationError:  # a value that contains itself, or is too deep
        parts: Any = [_plain_part(part) for part in message.parts]
        return adapter.dump_python(replace(message, parts=parts), mode="json", fallback=_repr, warnings=False)


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
    messages = list(messages)
    if all(message.format == FORMAT for message in messages):
        return await _load_own(messages, read)
    loaded: list[ModelMessage] = []
    for convert, group in groupby(messages, key=lambda message: _from_elsewhere(message.format)):
        same = list(group)
        loaded += await _load_own(same, read) if convert is None else convert([message.data for message in same])
    return loaded


def _from_elsewhere(format: str | None) -> Callable[[Sequence[JsonObject]], list[ModelMessage]] | None:
    """What makes messages of this format Pydantic AI's, where it is another library's."""
    if format == FORMAT:
        return None
    return from_openai if is_openai(format) else from_adk if format == ADK else None


async def _load_own(messages: Sequence[Message], read: ReadMedia) -> list[ModelMessage]:
    """Messages that are stored in the form in which they are written here."""
    data: list[Any] = []
    size = 0
    for message in messages:
        if message.format is not None and message.format != FORMAT:
            raise UnknownFormatError(
                f"Run {message.run} has messages of the format {message.format!r}; this agent sends {FORMAT!r}."
            )
        weighs, media = _looked_at(message.data)
        size += weighs
        data.append(await put_back(message.data, read) if media else message.data)
    try:
        # What is light is not awaited at all: histories have many runs of few messages each.
        return _validated(data) if size < LARGE else await computed(lambda: _validated(data), size=size)
    except ValidationError as error:
        runs = sorted({message.run for message in messages})
        raise _unknown(f"The messages of runs {runs}", error) from withheld(error)


EACH = 10
"""What a message weighs beside its contents."""

AT_ONCE = 50
"""How many messages are validated at a time: the call holds up all threads until it returns."""


def _looked_at(message: Any) -> tuple[int, bool]:
    """What a stored message weighs, as far as it tells whether it is large, and whether it holds a binary part."""
    size, media = EACH, False
    parts: Any = cast(JsonObject, message).get("parts") if type(message) is dict else None
    for part in cast("list[Any]", parts) if type(parts) is list else ():
        if type(part) is not dict:
            continue
        get = cast(JsonObject, part).get
        content, args = get("content"), get("args")
        if type(content) is str:
            size += len(content) // IN_TEXT
        else:
            size += weight(content)
            media = media or has_binary(cast(JsonObject, part))
        if args is not None:
            size += weight(args)
    return size, media


def _validated(data: Sequence[Any]) -> list[ModelMessage]:
    loaded: list[ModelMessage] = []
    for start in range(0, len(data), AT_ONCE):
        loaded += ModelMessagesTypeAdapter.validate_python(data[start : start + AT_ONCE])
    without_marks(loaded)
    return loaded


async def run_messages(run: Run, read: ReadMedia) -> list[ModelMessage]:
    """A run's messages for a history.

    A run that was added without messages, or with some that cannot be sent, is one request and one response: its input
    and its output, where they are text.
    """
    if not run.messages:
        return _said(run)
    try:
        return await load_messages(run.messages, read)
    except UnknownFormatError as error:
        said = _said(run)
        foreign = all(message.format not in (None, FORMAT) for message in run.messages)
        if not said or not foreign:
            raise
        logger.info("Of run %d input and output are sent, not its messages: %s", run.number, error.message)
        return said


def _said(run: Run) -> list[ModelMessage]:
    """A run's input and output as messages; none where they are no text."""
    if not isinstance(run.input, str) or not isinstance(run.output, str):
        return []
    return [ModelRequest(parts=[UserPromptPart(run.input)]), ModelResponse(parts=[TextPart(run.output)])]


def dump_input(prompt: str | Sequence[UserContent] | None) -> Any:
    """A run's input as JSON, binary parts included; refuses what is no prompt at all."""
    _check_prompt(prompt)
    if prompt is None or isinstance(prompt, str):
        return prompt
    return readable(_content.dump_python(list(prompt), mode="json", warnings=False))


def _check_prompt(prompt: Any) -> None:
    if prompt is not None and (not isinstance(prompt, Sequence) or isinstance(prompt, (bytes, bytearray))):
        raise InvalidInputError(f"A prompt is text, or a list of text and media; this is a {type(prompt).__name__}.")


async def load_input(data: Any, read: ReadMedia) -> str | Sequence[UserContent] | None:
    """The inverse of `dump_input`."""
    if data is None or isinstance(data, str):
        return data
    return _content.validate_python(await put_back(data, read))


async def prompt_of(given: Any, read: ReadMedia) -> Any:
    """What a run is given as a prompt; the input of a stored run (`run.input`) as what it was made of.

    Its media are looked up with `read`. Raises `InvalidInputError` for what is no prompt, or has objects that are no
    content.
    """
    _check_prompt(given)
    if not isinstance(given, list) or not any(isinstance(item, dict) for item in cast(list[Any], given)):
        return cast(Any, given)
    try:
        return await load_input(given, read)
    except ValidationError as error:
        raise InvalidInputError("The prompt has objects that are no text, and no media as runs store them.") from (
            withheld(error)
        )


def dump_output(output: Any, inline: int | None = None) -> Any:
    """A run's output as JSON; what has no JSON form becomes its text.

    Bytes become base64, those of more than `inline` a binary part, so that they are kept as media.
    """
    if inline is not None and isinstance(output, (bytes, bytearray)) and len(output) > inline:
        return {"kind": "binary", "media_type": BYTES, "data": base64.urlsafe_b64encode(output).decode()}
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
    return readable(_requests.dump_python(requests, mode="json", fallback=_repr, warnings=False))


def load_requests(data: Any) -> DeferredToolRequests:
    """The inverse of `dump_requests`; `UnknownFormatError` for what this version does not know."""
    try:
        return _requests.validate_python(data)
    except ValidationError as error:
        raise _unknown("What the run waits for", error) from withheld(error)


def _unknown(what: str, error: ValidationError) -> UnknownFormatError:
    reason = reason_of(error.errors()[0]["msg"])
    return UnknownFormatError(f"{what} cannot be read by this version of Pydantic AI: {reason}.")


def requests_of(run: Run) -> DeferredToolRequests:
    """What a paused run waits for."""
    return load_requests(Pending.of(run.pending).requests)


async def dump_tool_result(value: Any, tool: str, keep: KeepMedia) -> Any:
    """What a tool returned, as JSON that `load_tool_result` makes the same result of for the model."""
    try:
        if isinstance(value, ToolReturn):
            returned = cast(ToolReturn[Any], value)
            data = {
                "return_value": await _returned(returned.return_value),
                "content": await computed(lambda: dump_input(returned.content), returned.content),
                "metadata": await computed(lambda: to_plain(returned.metadata), returned.metadata),
            }
            return {"tool_return": await keep(data)}
        return {"value": await keep(await _returned(value))}
    except SessileError:
        raise
    except ValueError as error:
        raise InvalidStateError(f"What the tool {tool!r} returned is not JSON: {reason_of(error)}.") from withheld(
            error
        )


async def _returned(value: Any) -> Any:
    return await computed(lambda: _dump_returned(value), value)


def _dump_returned(returned: Any) -> Any:
    value = marked(returned)
    try:
        return readable(_tool_result.dump_python(value, mode="json", warnings=False))
    except ValueError:  # of bytes that are no text, which go to the model as base64; or for good
        return readable(_tool_result_bytes.dump_python(value, mode="json", warnings=False))


async def load_tool_result(data: Any, read: ReadMedia) -> Any:
    """The inverse of `dump_tool_result`: values in their JSON form, media as they were."""
    if "value" in data:
        return unmarked(_tool_result.validate_python(await put_back(data["value"], read)))
    kept = data["tool_return"]
    return ToolReturn(
        return_value=unmarked(_tool_result.validate_python(await put_back(kept["return_value"], read))),
        content=await load_input(kept["content"], read),
        metadata=kept["metadata"],
    )
