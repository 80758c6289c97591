"""Events of Google's Agent Development Kit as Pydantic AI's messages."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from pydantic_ai.messages import (
    BinaryContent,
    ModelMessage,
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    ModelResponsePart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)

from ...errors import UnknownFormatError
from ...records import JsonObject

ADK = "google-adk"
"""The format of events as `sessile.integrations.google_adk` stores them."""


def from_adk(events: Sequence[JsonObject]) -> list[ModelMessage]:
    """Events as messages, in their order; what follows each other on one side becomes one message.

    What was thought is left out, and events without content (changes of state, transfers) say nothing.

    Raises:
        UnknownFormatError: an event has something that has no form here: a file at Google's, for example.
    """
    messages: list[ModelMessage] = []
    for event in events:
        try:
            content: JsonObject = event.get("content") or {}
            parts: list[JsonObject] = content.get("parts") or []
            for part in parts:
                _read(messages, part, asked=content.get("role", "user") == "user")
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise UnknownFormatError(f"An event is none of ADK's: {type(error).__name__}.") from None
    return messages


def _read(messages: list[ModelMessage], part: JsonObject, *, asked: bool) -> None:
    call, response, data = part.get("function_call"), part.get("function_response"), part.get("inline_data")
    if part.get("thought"):
        return
    if call:
        _say(messages, ToolCallPart(call["name"], call.get("args") or {}, _id(call)))
    elif response:
        _ask(messages, ToolReturnPart(response["name"], response.get("response") or {}, _id(response)))
    elif data and asked:
        content = BinaryContent(base64.urlsafe_b64decode(data["data"]), media_type=data["mime_type"])
        _ask(messages, UserPromptPart([content]))
    elif isinstance(part.get("text"), str):
        if part["text"]:
            _ask(messages, UserPromptPart(part["text"])) if asked else _say(messages, TextPart(part["text"]))
    elif {"file_data", "inline_data"} & part.keys():
        raise UnknownFormatError("An event has a file that cannot be sent to a model.")


def _id(said: Any) -> str:
    return said.get("id") or f"call_{said['name']}"


def _ask(messages: list[ModelMessage], part: ModelRequestPart) -> None:
    last = messages[-1] if messages else None
    if isinstance(last, ModelRequest):
        last.parts = [*last.parts, part]
    else:
        messages.append(ModelRequest(parts=[part]))


def _say(messages: list[ModelMessage], part: ModelResponsePart) -> None:
    last = messages[-1] if messages else None
    if isinstance(last, ModelResponse):
        last.parts = [*last.parts, part]
    else:
        messages.append(ModelResponse(parts=[part]))
