"""A stand-in for models that refuses what some provider refuses; docs/histories.md has the rules and their sources."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, cast

from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import (
    BinaryContent,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    NativeToolCallPart,
    NativeToolReturnPart,
    SystemPromptPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
ID = re.compile(r"\S{1,40}")
IDS = {"mistral": re.compile(r"[A-Za-z0-9]{9}"), "claude": re.compile(r"[A-Za-z0-9_-]{1,40}")}
"""Whose models take what ids of calls."""


def violations(
    messages: Sequence[ModelMessage], *, thinks: bool = False, sees: bool = True, whose: str = ""
) -> Iterator[str]:
    """What a strict provider would refuse a request for. With `thinks` its extended thinking is on."""
    yield from _order(messages)
    yield from _calls(messages)
    form = IDS.get(whose, ID)
    ids = [part.tool_call_id for m in messages for part in m.parts if isinstance(part, (ToolCallPart, ToolReturnPart))]
    yield from (f"not an id: {one!r}" for one in ids if not form.fullmatch(one))
    for index, message in enumerate(messages):
        if isinstance(message, ModelResponse):
            yield from (f"{index}: {fault}" for fault in _response(message))
        else:
            yield from (f"{index}: {fault}" for fault in _request(message, sees=sees))
    if thinks:
        last_prompt = max(i for i, m in enumerate(messages) if any(isinstance(p, UserPromptPart) for p in m.parts))
        for index, message in enumerate(messages[last_prompt:], last_prompt):
            calls = isinstance(message, ModelResponse) and message.tool_calls
            if calls and not isinstance(message.parts[0], ThinkingPart):
                yield f"{index}: expected thinking before tool use, found {message.parts[0].part_kind}"


def _order(messages: Sequence[ModelMessage]) -> Iterator[str]:
    roles = [role for message in messages for role in _roles(message)]
    if roles[:1] != ["user"]:
        yield f"the first message is not the user's: {roles[:1]}"
    for one, other in pairwise(roles):
        if one == other != "tool":
            yield f"roles must alternate: {roles}"


def _roles(message: ModelMessage) -> list[str]:
    if isinstance(message, ModelResponse):
        return ["assistant"]
    roles = ["tool" if isinstance(part, ToolReturnPart) else "user" for part in message.parts if _is_sent(part)]
    return roles or ["nothing"]


def _is_sent(part: Any) -> bool:
    return not isinstance(part, SystemPromptPart)


def _calls(messages: Sequence[ModelMessage]) -> Iterator[str]:
    ids = [part.tool_call_id for m in messages for part in m.parts if isinstance(part, ToolCallPart)]
    if len(ids) != len(set(ids)):
        yield f"ids of tool calls must be unique: {ids}"
    waiting: list[str] = []
    for index, message in enumerate(messages):
        returned = [part.tool_call_id for part in message.parts if isinstance(part, ToolReturnPart)]
        if sorted(returned) != sorted(waiting):
            yield f"{index}: results {returned} do not answer the calls before them, {waiting}"
        waiting = [part.tool_call_id for part in message.parts if isinstance(part, ToolCallPart)]
    native = [
        part for m in messages for part in m.parts if isinstance(part, (NativeToolCallPart, NativeToolReturnPart))
    ]
    if len(native) != 2 * len({part.tool_call_id for part in native}):
        yield "calls of built-in tools and their results must come in pairs"


def _response(response: ModelResponse) -> Iterator[str]:
    parts = response.parts
    if not any(isinstance(part, (TextPart, ToolCallPart)) for part in parts):
        yield "assistant messages must have non-empty content"
    if parts and isinstance(parts[-1], ThinkingPart):
        yield "the final block of an assistant message cannot be thinking"
    for part in parts:
        if isinstance(part, TextPart) and not part.content.strip():
            yield "text content blocks must contain non-whitespace text"
        if isinstance(part, ThinkingPart) and part.signature is None:
            yield "thinking blocks need their signature"
        if isinstance(part, ToolCallPart):
            yield from _call(part)


def _call(call: ToolCallPart) -> Iterator[str]:
    if not NAME.fullmatch(call.tool_name):
        yield f"not a function's name: {call.tool_name!r}"
    try:
        arguments: Any = json.loads(call.args_as_json_str())
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict):
        yield f"arguments must be a JSON object: {call.args!r}"


def _request(request: ModelRequest, *, sees: bool) -> Iterator[str]:
    for part in request.parts:
        if isinstance(part, UserPromptPart):
            items = [part.content] if isinstance(part.content, str) else part.content
            if not items or any(isinstance(item, str) and not item.strip() for item in items):
                yield "user messages must have non-empty content"
        content: Any = getattr(part, "content", None)
        media = (
            [item for item in cast("list[Any]", content) if isinstance(item, BinaryContent)]
            if isinstance(content, list)
            else []
        )
        if media and not sees:
            yield "this model does not support image input"


class Strict:
    """A model that answers only what every provider would accept; `refused` has what it has refused."""

    def __init__(self, *, thinks: bool = False, sees: bool = True, answer: Any = None, whose: str = "") -> None:
        self.thinks, self.sees, self._answer, self.whose = thinks, sees, answer, whose
        self.sent: list[list[ModelMessage]] = []
        self.refused: list[str] = []

    @property
    def model(self) -> FunctionModel:
        return FunctionModel(self._reply, model_name=f"{self.whose or 'strict'}-1")

    def _reply(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        self.sent.append(list(messages))
        faults = list(violations(messages, thinks=self.thinks, sees=self.sees, whose=self.whose))
        if faults:
            self.refused += faults
            raise ModelHTTPError(400, "strict", {"error": {"message": faults[0]}})
        if self._answer is not None:
            return self._answer(messages, info)
        return ModelResponse(parts=[ThinkingPart("hm", signature="s"), TextPart("fine")])
