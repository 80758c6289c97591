"""What was said: the words of messages, of runs and of other values, for models and for people."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

from pydantic_ai.messages import ModelMessage

from ...records import JsonObject, Message, Run
from .stored import to_plain


def text_of(messages: Iterable[ModelMessage]) -> str:
    """The words of messages, for summarising: prompts, answers, tool calls and results."""
    return "\n".join(line for message in messages for line in _lines(message))


def _lines(message: ModelMessage) -> Iterable[str]:
    for part in message.parts:
        content: Any = getattr(part, "content", None)
        kind = part.part_kind
        if kind == "tool-call":
            yield f"(calls {getattr(part, 'tool_name', '')} with {getattr(part, 'args', '')})"
        elif kind == "tool-return":
            yield f"({getattr(part, 'tool_name', '')} returned {as_text(to_plain(content))})"
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


def run_lines(run: Run) -> Iterator[str]:
    """What was said in a run, a line each: the user's input, the texts of the messages, or the output."""
    said = [line for message in run.messages for line in _texts(message)]
    if not said:
        said = [f"User: {as_text(run.input)}"]
        said += [] if run.output is None else [f"Assistant: {as_text(run.output)}"]
    yield from said


def _texts(message: Message) -> Iterator[str]:
    parts: Any = message.data.get("parts")
    for item in cast("list[Any]", parts) if isinstance(parts, list) else ():
        part: JsonObject = cast(JsonObject, item) if isinstance(item, dict) else {}  # other formats have other parts
        kind, content = part.get("part_kind"), part.get("content")
        if kind == "user-prompt":
            yield f"User: {as_text(content)}"
        elif kind == "text":
            yield f"Assistant: {content}"


def as_text(value: Any) -> str:
    """A text as it is, other values as JSON, without the data of images and other media."""
    return value if isinstance(value, str) else json.dumps(_without_media(value), ensure_ascii=False)


def _without_media(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_media(item) for item in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    node = cast(JsonObject, value)
    if node.get("kind") == "binary":
        return f"[{node.get('media_type', 'binary')}]"
    return {key: _without_media(item) for key, item in node.items()}
