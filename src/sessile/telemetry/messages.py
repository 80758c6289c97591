"""Stored messages in the form of the conventions, made by Pydantic AI's own function, so that they follow it."""

from __future__ import annotations

import json
from typing import Any, cast

from pydantic_ai.models.instrumented import InstrumentationSettings

from ..agents.messages.stored import load_messages
from ..records import JsonObject, Message, Run
from ..storage.faces import step
from .spans import CONVERSATION, RUN


def to_otel(messages: list[Message], *, include_content: bool = True) -> list[JsonObject]:
    """Stored messages as the conventions have them: `[{"role": …, "parts": [{"type": …}]}]`.

    Args:
        messages: of a run or a session, `storage.messages(…)`; of whatever format an agent of ours can read.
        include_content: whether texts, arguments and results are in it, or only what kinds of parts there are.

    Raises:
        UnknownFormatError: a message is of a format that this version cannot read.
    """

    async def named(digest: str) -> bytes:
        return b""  # media stay in the database

    read = step(load_messages(messages, named))
    settings = InstrumentationSettings(include_content=include_content, include_binary_content=False)
    made: Any = settings.messages_to_otel_messages(list(read))
    return cast("list[JsonObject]", made)


def run_attributes(session_id: str, run: Run, *, include_content: bool = True) -> JsonObject:
    """A stored run as attributes of a span `invoke_agent`: for who exports runs that were never traced."""
    messages = to_otel(run.messages, include_content=include_content)
    last = next((place for place in range(len(messages), 0, -1) if messages[place - 1]["role"] != "assistant"), 0)
    found: JsonObject = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": run.agent,
        CONVERSATION: session_id,
        RUN: run.run_id,
        "gen_ai.usage.input_tokens": run.usage.input_tokens,
        "gen_ai.usage.output_tokens": run.usage.output_tokens,
        "gen_ai.input.messages": json.dumps(messages[:last], ensure_ascii=False),
        "gen_ai.output.messages": json.dumps(messages[last:], ensure_ascii=False),
        "error.type": (run.error or {}).get("type"),
    }
    return {name: value for name, value in found.items() if value is not None}
