"""Stored runs and messages in words, whatever the format that they are stored in. Media are named, never shown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

from ..records import JsonObject, Message, Session, Usage

MOST_DATA = 1000
"""How long a text without any blank may be, in characters: what is longer is data, not text."""

_WHO = {
    "system-prompt": "system",
    "user-prompt": "user",
    "text": "agent",
    "thinking": "agent thinks",
    "retry-prompt": "retry",
    "retry-feedback": "retry",
}


class Said(NamedTuple):
    """One part of a message.

    `call` is the id of a tool call (or the tool's name, if it has none), `tool` the tool of a call, `returned` whether
    the part is what a call has returned.
    """

    who: str
    text: str
    call: str | None = None
    tool: str | None = None
    returned: bool = False


def head_lines(head: Session) -> Iterator[tuple[str, str]]:
    """What a session's head says, as names and values, without what is empty."""
    yield "kind", head.kind
    named = (("agent", head.agent), ("answers", head.lead), ("user", head.user_id), ("name", head.name))
    for name, value in named:
        if value is not None:
            yield name, value
    yield "status", head.status or "no runs yet"
    yield "runs", str(head.run_count)
    yield "revision", str(head.revision)
    if head.usage.requests:
        yield "usage", usage_text(head.usage)
    for name, data in (("state", head.state), ("metadata", head.metadata), ("forked from", head.forked_from)):
        if data:
            yield name, as_text(data)


def usage_text(usage: Usage) -> str:
    """Tokens, requests and cost in a few words."""
    tokens = usage.input_tokens + usage.output_tokens
    cost = f", ${usage.known_cost:.6f}" if usage.known_cost else ""
    more = " and what has no known price" if cost and usage.cost is None else ""
    return f"{tokens} tokens in {usage.requests} request{'' if usage.requests == 1 else 's'}{cost}{more}"


def message_lines(message: Message) -> Iterator[tuple[str, str]]:
    """Who says what in a message: a line for each part of it that has something to say."""
    for one in said_in(message):
        if one.tool is not None:
            yield "agent calls", f"{one.tool} {one.text}"
        else:
            yield one.who, one.text


def said_in(message: Message) -> Iterator[Said]:
    """The parts of a message, in order."""
    data: Any = message.data
    if not isinstance(data, dict):
        yield Said("message", as_text(data))
        return
    fields = cast(JsonObject, data)
    if isinstance(fields.get("parts"), list):
        for part in fields["parts"]:
            yield _part(part)
    elif "role" in fields:
        yield from _of_role(fields)
    elif isinstance(fields.get("content"), dict) and isinstance(fields["content"].get("parts"), list):
        yield from _of_event(fields)
    elif fields.get("type") == "function_call":
        yield _called(fields, fields.get("arguments"), fields.get("call_id"))
    elif fields.get("type") == "function_call_output":
        yield Said("tool", f"returned {as_text(fields.get('output'))}", str(fields.get("call_id")), returned=True)
    else:
        yield Said("message", as_text(fields))


def _part(part: Any) -> Said:
    if not isinstance(part, dict):
        return Said("part", as_text(part))
    fields = cast(JsonObject, part)
    kind, name = str(fields.get("part_kind")), str(fields.get("tool_name"))
    call = str(fields.get("tool_call_id") or name)
    if kind.endswith("tool-call"):
        return Said("agent calls", as_text(fields.get("args")), call, name)
    if kind.endswith("tool-return"):
        return Said("tool", f"{name} returned {as_text(fields.get('content'))}", call, returned=True)
    if kind == "retry-prompt" and fields.get("tool_name"):
        return Said("tool", f"{name} wants another try: {as_text(fields.get('content'))}", call, returned=True)
    if kind in _WHO:
        return Said(_WHO[kind], as_text(fields.get("content")))
    return Said(kind, as_text({key: value for key, value in fields.items() if key != "part_kind"}))


def _of_role(fields: JsonObject) -> Iterator[Said]:
    """A message as OpenAI and others have it."""
    role = {"assistant": "agent"}.get(fields["role"], str(fields["role"]))
    content = as_text(fields.get("content"))
    calls = [call for call in map(_call, _items(fields.get("tool_calls"))) if call is not None]
    known = ("role", "content", "tool_call_id") + (("tool_calls",) if calls else ())
    if role == "tool" and fields.get("tool_call_id"):
        yield Said("tool", f"returned {content}", str(fields["tool_call_id"]), returned=True)
        return
    rest = {key: value for key, value in fields.items() if key not in known and value}
    text = " ".join(text for text in (content, as_text(rest) if rest else "") if text)
    if text or not calls:
        yield Said(role, text)
    yield from calls


def _of_event(fields: JsonObject) -> Iterator[Said]:
    """An event of Google ADK's, without what is not said in it (`actions`, ids, counts)."""
    who = "user" if fields.get("author") == "user" else "agent"
    for item in _items(fields["content"]["parts"]):
        part = cast(JsonObject, item) if isinstance(item, dict) else {"text": item}
        call, back = part.get("function_call"), part.get("function_response")
        if isinstance(call, dict):
            yield _called(cast(JsonObject, call), cast(JsonObject, call).get("args"), cast(JsonObject, call).get("id"))
        elif isinstance(back, dict):
            made = cast(JsonObject, back)
            name = str(made.get("name"))
            text = f"{name} returned {as_text(made.get('response'))}"
            yield Said("tool", text, str(made.get("id") or name), returned=True)
        elif isinstance(part.get("text"), str):
            yield Said("agent thinks" if part.get("thought") else who, as_text(part["text"]))
        else:
            yield Said(who, as_text(part))


def _called(fields: JsonObject, arguments: Any, call: Any) -> Said:
    name = str(fields.get("name"))
    return Said("agent calls", as_text(arguments), str(call or name), name)


def _items(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


def _call(call: Any) -> Said | None:
    fields = cast(JsonObject, call) if isinstance(call, dict) else {}
    function: Any = fields.get("function")
    if not isinstance(function, dict):
        return None
    made = cast(JsonObject, function)
    return _called(made, made.get("arguments"), fields.get("id"))


# ---------------------------------------------------------------- values


def as_text(value: Any) -> str:
    """Text as it is, a list of contents as their texts, anything else as JSON; of media only what they are."""
    return _text(named(value))


def _text(value: Any) -> str:
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


def value_text(value: Any) -> str:
    """Text as it is, anything else as JSON; of media only what they are."""
    shown = named(value)
    return shown if isinstance(shown, str) else json.dumps(shown, ensure_ascii=False)


def named(value: Any) -> Any:
    """The same value with the names of media in the places of their data."""
    if isinstance(value, str):
        return _named_text(value)
    if isinstance(value, list):
        return [named(item) for item in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    fields = cast(JsonObject, value)
    return _media(fields) or {key: named(item) for key, item in fields.items()}


def _media(fields: JsonObject) -> str | None:
    """The name of a picture, a sound, a file; None if it is something else."""
    kind = fields.get("kind", fields.get("type"))
    if "$blob" in fields:
        return f"[data, {_size(fields)}]"
    if kind == "binary" and "data" in fields:
        return f"[{fields.get('media_type') or 'data'}, {_size(fields['data'])}]"
    if isinstance(kind, str) and kind.endswith("-url") and isinstance(fields.get("url"), str):
        return f"[{kind.removesuffix('-url')} {_named_text(fields['url'])}]"
    inner: Any = fields.get(kind) if kind in ("image_url", "input_audio", "file") else None
    if isinstance(inner, dict):
        one = cast(JsonObject, inner)
        where = one.get("url") or one.get("filename") or one.get("file_id")
        return f"[{str(kind).removesuffix('_url').removeprefix('input_')} {_named_text(str(where or 'data'))}]"
    return None


def _size(data: Any) -> str:
    if isinstance(data, dict):
        size: Any = cast(JsonObject, data).get("size")
        return f"{size:,} bytes" if isinstance(size, int) else "data"
    return f"{len(data) * 3 // 4:,} bytes" if isinstance(data, str) else "data"


def _named_text(text: str) -> str:
    if text.startswith("data:") and "," in text[:MOST_DATA] and len(text) > len("data:text/plain,") + 100:
        return f"[{text[5:].split(',')[0].split(';')[0] or 'data'}, {len(text):,} characters]"
    head = text[:MOST_DATA]
    if len(text) > MOST_DATA and head.isascii() and not any(char.isspace() for char in head) and head[0] not in "{[":
        return f"[data, {len(text):,} characters]"
    return text
