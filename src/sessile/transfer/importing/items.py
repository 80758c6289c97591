"""Messages of OpenAI's chat completions, and items of Responses, cut into turns: each begins with what a user says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from ...records import JsonObject, Status
from ...storage.formats import OPENAI
from .conversations import Turn

Timed = tuple[JsonObject, int, str]
"""A message, when it was said (microseconds UTC, 0: unknown), and what it is known by in the source."""


def turns_of(messages: Sequence[Timed], agent: str | None = None) -> list[Turn]:
    """The turns of a conversation. What stands before the first user's word belongs to the first turn."""
    return [turn_of(part, agent) for part in cut(messages)]


def cut(messages: Sequence[Timed]) -> list[list[Timed]]:
    """The messages, cut where a user speaks after somebody else."""
    parts: list[list[Timed]] = []
    answered = True
    for message in messages:
        role = message[0].get("role")
        if (role == "user" and answered) or not parts:
            parts.append([])
            answered = False
        answered = answered or role not in ("user", "system", "developer")
        parts[-1].append(message)
    return parts


def turn_of(messages: Sequence[Timed], agent: str | None = None) -> Turn:
    """One turn. It was completed if it ends in an answer, and not in a call that nothing came of."""
    times = [moment for _, moment, _ in messages if moment]
    said = [message for message, _, _ in messages]
    answered = bool(said) and said[-1].get("role") == "assistant" and not said[-1].get("tool_calls")
    status: Status = "cancelled" if _open_calls(said) else "completed"
    return Turn(
        run_id=messages[0][2],
        input=next((spoken(one.get("content")) for one in said if one.get("role") == "user"), None),
        output=spoken(said[-1].get("content")) if answered else None,
        messages=said,
        format=OPENAI,
        status=status,
        agent=agent,
        started_us=min(times, default=0),
        ended_us=max(times, default=0),
    )


def _open_calls(messages: Sequence[JsonObject]) -> bool:
    """Whether a tool was called and has not answered."""
    asked: set[Any] = set()
    for one in messages:
        calls: list[JsonObject] = one.get("tool_calls") or []
        asked |= {call.get("id") for call in calls if isinstance(call, dict)}  # pyright: ignore[reportUnnecessaryIsInstance]
        if one.get("type") in ("function_call", "custom_tool_call"):
            asked.add(one.get("call_id"))
        asked.discard(one.get("tool_call_id") or one.get("call_id") if _is_result(one) else None)
    return bool(asked)


def _is_result(message: JsonObject) -> bool:
    return message.get("role") == "tool" or str(message.get("type", "")).endswith("_call_output")


def spoken(content: Any) -> str | None:
    """The text of a content: as it is, or of its parts."""
    if isinstance(content, str):
        return content
    texts: list[str] = []
    for part in cast("list[Any]", content) if isinstance(content, list) else []:
        text: Any = cast(JsonObject, part).get("text") if isinstance(part, dict) else part
        if isinstance(text, str):
            texts.append(text)
    return "\n".join(texts) if texts else None


def branched(paths: Sequence[Sequence[Timed]], make: Callable[[Sequence[Timed]], Turn] = turn_of) -> list[Turn]:
    """The turns of several ways through one conversation, each once: where ways part, branches begin.

    The last way is the one that the conversation stands at.
    """
    made: list[Turn] = []
    places: dict[tuple[tuple[str, ...], ...], int] = {}
    used: set[str] = set()
    at = -1
    for path in paths:
        walked: list[tuple[str, ...]] = []
        before = -1
        for part in cut(path):
            walked.append(tuple(known for _, _, known in part))
            place = places.get(tuple(walked))
            if place is None:
                turn = make(part)
                if turn.run_id in used:  # the same question, answered again
                    turn.run_id = part[-1][2]
                used.add(turn.run_id)
                turn.after = None if before == at else before
                place = places[tuple(walked)] = at = len(made)
                made.append(turn)
            before = place
    return made
