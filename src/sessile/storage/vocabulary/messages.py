"""What is left of a message that is erased: what a history needs to be sent all the same, and none of its words."""

from __future__ import annotations

from typing import Any, cast

from ...records import JsonObject
from .words import ERASED, ERASED_VALUE, erased_value

PYDANTIC_AI = "pydantic-ai/"

_MESSAGE = ("kind", "timestamp", "run_id", "conversation_id", "usage", "model_name", "finish_reason", "provider_name")
_PART = ("part_kind", "timestamp", "tool_name", "tool_call_id", "outcome")
_TEXTS = ("text", "thinking", "user-prompt", "system-prompt", "tool-return", "builtin-tool-return", "retry-prompt")
_CALLS = ("tool-call", "builtin-tool-call")


def erased_message(message: Any, format: str | None) -> Any:
    """The message without what anybody has said in it.

    Of one in Pydantic AI's format the parts stay, tool calls and their results with their names and ids, because a
    model refuses a history in which a call has no result. Of others nothing stays: nobody here knows their form.
    """
    if format is None or not format.startswith(PYDANTIC_AI) or not isinstance(message, dict):
        return erased_value(message)
    said = cast(JsonObject, message)
    parts = said.get("parts")
    if not isinstance(parts, list):
        return ERASED_VALUE
    answer = said.get("kind") == "response"
    kept = {name: said[name] for name in _MESSAGE if name in said}
    return {**kept, "parts": [_erased_part(part, answer=answer) for part in cast(list[Any], parts)]}


def _erased_part(part: Any, *, answer: bool) -> Any:
    if not isinstance(part, dict):
        return {"part_kind": "text" if answer else "user-prompt", "content": ERASED}
    said = cast(JsonObject, part)
    kind = said.get("part_kind")
    if kind in _CALLS:
        return {**{name: said[name] for name in _PART if name in said}, "args": ERASED_VALUE}
    if kind in _TEXTS:
        return {**{name: said[name] for name in _PART if name in said}, "content": ERASED}
    return {"part_kind": "text" if answer else "user-prompt", "content": ERASED}
