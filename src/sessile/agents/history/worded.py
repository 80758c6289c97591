"""What a run has done so far, told to a model that refuses to be sent it as calls and results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    RetryFeedbackPart,
    RetryPromptPart,  # pyright: ignore[reportDeprecated] (messages of older versions have it)
    SystemPromptPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)

from ..messages.spoken import as_text, plain_text
from ..messages.stored import to_plain
from .accepted import NO_TEXT, asks, plain, sound_text

DONE = "What you have done about it so far:"
"""What goes before the tool calls of a run, where it is told in words."""


def in_words(messages: Sequence[ModelMessage], prompts: int) -> list[ModelMessage]:
    """The messages as a history in plain words, and one request that tells of the run that goes on.

    The run's own messages begin where `prompts` requests are left in which a user says something. System prompts stay,
    media are named.
    """
    asked = [index for index, message in enumerate(messages) if asks(message)]
    first = asked[-prompts] if 0 < prompts <= len(asked) else 0
    history, own = messages[:first], messages[first:]
    said = [plain_text(part.content) for m in own for part in m.parts if isinstance(part, UserPromptPart)]
    lines = [line for message in own for line in _done(message)]
    words = sound_text("\n\n".join([*said, *([DONE, *lines] if lines else [])]))
    system = [part for message in messages for part in message.parts if isinstance(part, SystemPromptPart)]
    last = next((m for m in reversed(messages) if isinstance(m, ModelRequest)), ModelRequest(parts=[]))
    going_on = replace(last, parts=[UserPromptPart(words if words.strip() else NO_TEXT)])
    result = [*(plain(history) if history else ()), going_on]
    beginning = result[0]
    if system and isinstance(beginning, ModelRequest):
        result[0] = replace(beginning, parts=[*system, *beginning.parts])
    return result


def _done(message: ModelMessage) -> Iterator[str]:
    """What a model has said and called in a message, and what it was answered, a text each."""
    for part in message.parts:
        if isinstance(part, TextPart) and part.content.strip():
            yield part.content
        elif isinstance(part, ToolCallPart):
            yield f"(You have called {part.tool_name} with {part.args_as_json_str()})"
        elif isinstance(part, ToolReturnPart):
            yield f"({part.tool_name} has returned: {as_text(to_plain(part.content))})"
        elif isinstance(message, ModelRequest) and _complains(part):
            content: Any = getattr(part, "content", "")
            yield f"({getattr(part, 'tool_name', None) or 'It'} has failed: {as_text(to_plain(content))})"


def _complains(part: Any) -> bool:
    return isinstance(part, (RetryPromptPart, RetryFeedbackPart))  # pyright: ignore[reportDeprecated]
