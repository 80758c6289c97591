"""What tools a run has called, and what they returned, out of its stored messages, whatever their format."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from ..records import JsonObject, Message, Run

OUTPUT_TAKEN = "Final result processed."
"""What Pydantic AI returns to a call by which a structured answer is made: that is no tool."""


@dataclass(slots=True, frozen=True)
class ToolUse:
    """A call of a tool, and what came of it."""

    tool: str
    args: Any
    result: Any


def tool_rounds(run: Run) -> Iterator[tuple[ToolUse, ...]]:
    """The calls of a run that have returned, in rounds of those that were made at once."""
    results: dict[str, list[Any]] = {}
    for message in run.messages:
        for call, result in _returned(message):
            results.setdefault(call, []).append(result)
    for message in run.messages:
        uses: list[ToolUse] = []
        for call, tool, args in _called(message):
            found = results.get(call)
            if found and (result := found.pop(0)) != OUTPUT_TAKEN:
                uses.append(ToolUse(tool, args, result))
        if uses:
            yield tuple(uses)


def tool_uses(run: Run) -> list[ToolUse]:
    """The calls of a run that have returned, in order."""
    return [use for uses in tool_rounds(run) for use in uses]


def _parts(message: Message) -> list[JsonObject]:
    data: Any = message.data
    parts: Any = cast(JsonObject, data).get("parts") if isinstance(data, dict) else None
    return (
        [cast(JsonObject, part) for part in cast("list[Any]", parts) if isinstance(part, dict)]
        if isinstance(parts, list)
        else []
    )


def _called(message: Message) -> Iterator[tuple[str, str, Any]]:
    for part in _parts(message):
        if part.get("part_kind") == "tool-call":
            yield str(part.get("tool_call_id")), str(part.get("tool_name")), _parsed(part.get("args"))
    data: Any = message.data
    calls: Any = cast(JsonObject, data).get("tool_calls") if isinstance(data, dict) else None
    for call in cast("list[Any]", calls) if isinstance(calls, list) else ():
        fields = cast(JsonObject, call) if isinstance(call, dict) else {}
        function: Any = fields.get("function")
        if isinstance(function, dict):
            made = cast(JsonObject, function)
            yield str(fields.get("id")), str(made.get("name")), _parsed(made.get("arguments"))


def _returned(message: Message) -> Iterator[tuple[str, Any]]:
    for part in _parts(message):
        if part.get("part_kind") == "tool-return":
            yield str(part.get("tool_call_id")), part.get("content")
    data: Any = message.data
    fields = cast(JsonObject, data) if isinstance(data, dict) else {}
    if fields.get("role") == "tool":
        yield str(fields.get("tool_call_id")), fields.get("content")


def _parsed(args: Any) -> Any:
    """Arguments are JSON, or text of JSON."""
    if not isinstance(args, str):
        return args
    try:
        return json.loads(args)
    except ValueError:
        return args
