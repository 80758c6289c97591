"""Events of Google ADK as JSON: what they say and have used, and those made of messages of Sessile's agents."""

# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# (What is taken apart here is JSON of another library's, of which no type is known.)

from __future__ import annotations

import json
from typing import Any

from ..storage.extending import Entry, Message, Session, Usage
from .ids import is_usable, short
from .stored import reads_stored

FORMAT = "google-adk"

MOST_RUNS = 1000
"""Of how many invocations of a session the runs are remembered."""


class Invocations:
    """The newest invocations of a session, up to a revision, with the numbers of their runs."""

    def __init__(self, upto: int) -> None:
        self.upto = upto
        self.numbers: dict[str, int] = {}

    def take(self, entries: list[Entry]) -> None:
        """Note what is in entries, in the order of the log."""
        for entry in entries:
            if entry.kind == "message" and entry.run_id and entry.run:
                self.numbers[entry.run_id] = entry.run
        while len(self.numbers) > MOST_RUNS:
            del self.numbers[next(iter(self.numbers))]


def owner(user_id: str) -> str | None:
    """The user to whom that belongs here which is a user's in ADK."""
    return short(user_id) if user_id else None


def scoped(state: dict[str, Any]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The session's own values, and those of `user` and `app`, by scope; `temp:` is nowhere."""
    own: dict[str, Any] = {}
    scopes: dict[str, dict[str, Any]] = {}
    for name, value in state.items():
        scope, colon, rest = name.partition(":")
        if colon and scope in ("app", "user"):
            scopes.setdefault(scope, {})[rest] = value
        elif not (colon and scope == "temp"):
            own[name] = value
    return own, scopes


def named(scopes: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The values of `user` and `app` by the names that they have in a session's state."""
    return {f"{scope}:{name}": value for scope, values in scopes.items() for name, value in values.items()}


@reads_stored
def pending(head: Session) -> list[str]:
    """The keys of commits whose changes of other states may not be written yet."""
    keys = head.metadata.get("pending") or []
    if not isinstance(keys, list) or not all(isinstance(key, str) and is_usable(key) for key in keys):
        raise ValueError("these are no keys")
    return keys


def text_of(event: dict[str, Any]) -> str | None:
    """What an event says in words, without what was thought; None if nothing."""
    parts = (event.get("content") or {}).get("parts") or []
    texts = [part["text"] for part in parts if isinstance(part.get("text"), str) and not part.get("thought")]
    return "".join(texts) or None


def usage_of(event: dict[str, Any]) -> Usage:
    """What the model has used for an event."""
    said = event.get("usage_metadata")
    if not said:
        return Usage()
    return Usage(
        requests=1,
        input_tokens=int(said.get("prompt_token_count") or 0),
        output_tokens=int(said.get("candidates_token_count") or 0) + int(said.get("thoughts_token_count") or 0),
        cache_read_tokens=int(said.get("cached_content_token_count") or 0),
    )


def event_of(message: Message) -> dict[str, Any] | None:
    """A message of an agent of Sessile's as an event, as far as ADK has a form for it; None if there is nothing."""
    if message.format is None or not message.format.startswith("pydantic-ai/"):
        return None
    parts = [made for part in message.data.get("parts") or () if (made := _part(part)) is not None]
    if not parts:
        return None
    asked = message.data.get("kind") == "request"
    return {
        "id": f"{message.run_id}/{message.seq}",
        "invocation_id": message.run_id or "",
        "author": "user" if asked else message.agent or "sessile",
        "timestamp": message.time_us / 1e6,
        "content": {"role": "user" if asked else "model", "parts": parts},
    }


def _part(part: dict[str, Any]) -> dict[str, Any] | None:
    kind, content = part.get("part_kind"), part.get("content")
    if kind in ("user-prompt", "text") and content:
        return {"text": content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)}
    name, call_id = part.get("tool_name"), part.get("tool_call_id")
    if kind == "tool-call":
        args = part.get("args")
        given = json.loads(args or "{}") if isinstance(args, str) else args or {}
        return {"function_call": {"id": call_id, "name": name, "args": given}}
    if kind == "tool-return":
        response = content if isinstance(content, dict) else {"result": content}
        return {"function_response": {"id": call_id, "name": name, "response": response}}
    return None
