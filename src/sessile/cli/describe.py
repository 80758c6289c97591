"""Stored runs and messages in words, whatever the format that they are stored in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, cast

from ..records import Head, JsonObject, Message, Run, Usage

_WHO = {
    "system-prompt": "system",
    "user-prompt": "user",
    "text": "agent",
    "thinking": "agent thinks",
    "retry-prompt": "retry",
    "retry-feedback": "retry",
}


def head_lines(head: Head) -> Iterator[tuple[str, str]]:
    """What a session's head says, as names and values, without what is empty."""
    yield "kind", head.kind
    for name, value in (("owner", head.owner), ("user", head.user_id), ("name", head.name)):
        if value is not None:
            yield name, value
    yield "status", head.status or "no runs yet"
    yield "runs", str(head.run_count)
    yield "revision", str(head.revision)
    if head.usage.requests:
        yield "usage", usage_text(head.usage)
    for name, data in (("state", head.state), ("metadata", head.metadata), ("forked from", head.forked_from)):
        if data:
            yield name, json.dumps(data, ensure_ascii=False)


def usage_text(usage: Usage) -> str:
    """Tokens, requests and cost in a few words."""
    tokens = usage.input_tokens + usage.output_tokens
    cost = f", ${usage.cost / 1e9:.6f}" if usage.cost else ""
    return f"{tokens} tokens in {usage.requests} request{'' if usage.requests == 1 else 's'}{cost}"


def run_lines(run: Run) -> Iterator[tuple[str, str]]:
    """Who said what in a run, in order; for runs stored without messages their input and output."""
    if run.messages:
        for message in run.messages:
            yield from message_lines(message)
    else:
        if run.input is not None:
            yield "input", _value(run.input)
        if run.output is not None:
            yield "output", _value(run.output)
    if run.error is not None:
        yield "error", f"{run.error.get('type', 'Error')}: {run.error.get('message', '')}"
    if run.pending is not None:
        yield "waits for", as_text(run.pending)


def message_lines(message: Message) -> Iterator[tuple[str, str]]:
    """Who says what in a message: a line for each part of it that has something to say."""
    data: Any = message.data
    if not isinstance(data, dict):
        yield "message", as_text(data)
        return
    fields = cast(JsonObject, data)
    if isinstance(fields.get("parts"), list):
        for part in fields["parts"]:
            yield _part(part)
    elif "role" in fields:
        role = {"assistant": "agent"}.get(fields["role"], str(fields["role"]))
        rest = {key: value for key, value in fields.items() if key not in ("role", "content") and value}
        content = as_text(fields.get("content"))
        yield role, " ".join(text for text in (content, as_text(rest) if rest else "") if text)
    else:
        yield "message", as_text(fields)


def _part(part: Any) -> tuple[str, str]:
    if not isinstance(part, dict):
        return "part", as_text(part)
    fields = cast(JsonObject, part)
    kind = str(fields.get("part_kind"))
    if kind.endswith("tool-call"):
        return "agent calls", f"{fields.get('tool_name')} {as_text(fields.get('args'))}"
    if kind.endswith("tool-return"):
        return "tool", f"{fields.get('tool_name')} returned {as_text(fields.get('content'))}"
    if kind in _WHO:
        return _WHO[kind], as_text(fields.get("content"))
    return kind, as_text({key: value for key, value in fields.items() if key != "part_kind"})


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def as_text(value: Any) -> str:
    """Text as it is, a list of contents as their texts, anything else as JSON."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return " ".join(_content(item) for item in cast("list[Any]", value))
    return json.dumps(value, ensure_ascii=False)


def _content(item: Any) -> str:
    if isinstance(item, dict):
        text = cast(JsonObject, item).get("text")
        if isinstance(text, str):
            return text
    return item if isinstance(item, str) else json.dumps(item, ensure_ascii=False)
