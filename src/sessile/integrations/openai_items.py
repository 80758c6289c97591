"""Items of the OpenAI Agents SDK: what they say in words, and those that are made of messages of Sessile's agents."""

# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# (What is taken apart here is JSON of another library's, of which no type is known.)

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from ..storage.extending import Message
from .stored import reads_stored

FORMAT = "openai"


def is_item(message: Message) -> bool:
    """Whether a message is an item of the SDK's."""
    return message.format == FORMAT


@reads_stored
def items(message: Message) -> list[Any]:
    """The message as items; one of an agent of Sessile's is translated."""
    if message.format is None or not message.format.startswith("pydantic-ai/"):
        if not isinstance(message.data, dict):  # pyright: ignore[reportUnnecessaryIsInstance] (another program wrote it)
            raise TypeError("an item is an object")
        return [message.data]
    return list(_translated(message.data))


def _translated(data: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for part in data.get("parts") or ():
        kind, content = part.get("part_kind"), part.get("content")
        if kind in ("user-prompt", "system-prompt"):
            text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
            yield {"role": "user" if kind == "user-prompt" else "system", "content": text}
        elif kind == "text" and content:
            said = {"type": "output_text", "text": content, "annotations": [], "logprobs": []}
            yield {
                "id": "__fake_id__",
                "type": "message",
                "role": "assistant",
                "status": "completed",
                "content": [said],
            }
        elif kind == "tool-call":
            args = part.get("args")
            text = args if isinstance(args, str) else json.dumps(args or {}, ensure_ascii=False)
            called = {"call_id": part.get("tool_call_id"), "name": part.get("tool_name")}
            yield {"type": "function_call", **called, "arguments": text}
        elif kind == "tool-return":
            text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
            yield {"type": "function_call_output", "call_id": part.get("tool_call_id"), "output": text}


def is_asked(item: dict[str, Any]) -> bool:
    """Whether a run begins with an item: the words of the user's side."""
    return item.get("type") in (None, "message") and item.get("role") in ("user", "system", "developer")


def text_of(item: dict[str, Any]) -> str:
    """What an item says in words."""
    content = item.get("content")
    if isinstance(content, str):
        return content
    parts: list[Any] = content if isinstance(content, list) else []
    return "\n".join(part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str))


def input_of(items: Sequence[Any]) -> str | None:
    """What the user has said in these items; None if nothing."""
    asked = [text for item in items if item.get("role") == "user" and (text := text_of(item))]
    return "\n\n".join(asked) or None


def output_of(items: Sequence[Any]) -> str | None:
    """The last that was answered in these items; None if nothing."""
    said = [text for item in items if item.get("role") == "assistant" and (text := text_of(item))]
    return said[-1] if said else None
