"""Which format messages are in that somebody adds without saying so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import InvalidInputError
from ..records import JsonObject

OPENAI = "openai"
"""Messages of OpenAI's chat completions, and items of its Responses API."""

PYDANTIC_AI = "pydantic-ai/2"
"""The JSON form of Pydantic AI 2's `ModelMessage`."""

_ITEMS = {"message", "reasoning", "item_reference"}


def format_of(messages: Sequence[JsonObject], given: str | None) -> str | None:
    """The format of these messages: the one that was given, or Pydantic AI's, which is known by its fields.

    Raises `InvalidInputError` where nobody says it: what was guessed wrongly, no agent could ever continue.
    """
    if given is not None or not messages:
        return given
    found = {_format_of_one(message) for message in messages}
    if found == {PYDANTIC_AI}:
        return PYDANTIC_AI
    what = "They look like OpenAI's" if found == {OPENAI} else "It cannot be told from their fields"
    raise InvalidInputError(
        f"What format the messages are in must be said. {what}.",
        hint='Pass format="openai" for messages of chat completions or items of Responses, or a name of your own.',
    )


def _format_of_one(message: JsonObject) -> str | None:
    if message.get("kind") in ("request", "response") and isinstance(message.get("parts"), list):
        return PYDANTIC_AI
    kind: Any = message.get("type")
    is_item = isinstance(kind, str) and (kind in _ITEMS or kind.endswith(("_call", "_call_output")))
    is_message = isinstance(message.get("role"), str) and kind in (None, "message")
    return OPENAI if is_item or is_message else None
