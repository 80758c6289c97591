"""Runs that are stored as results."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast, get_type_hints

from pydantic import PydanticUserError, TypeAdapter, ValidationError
from pydantic_ai import (
    BinaryContent,
    BinaryImage,
    DeferredToolRequests,
    NativeOutput,
    PromptedOutput,
    TextOutput,
    ToolOutput,
)
from pydantic_ai.messages import ModelMessage

from ...live.result import RunResult
from ...live.session import CurrentSession
from ...records import JsonObject, Run
from ...storage.encoding import encode
from ...storage.media import binary_content, has_binary, put_back
from .stored import BYTES, ReadMedia, requests_of


def as_result(session: CurrentSession, run: Run) -> RunResult[Any]:
    """A run of this session that has ended, or is open, as a result; its output in the form in which it is stored."""
    return stored_result(session.session_id, session.state, run)


def stored_result(
    session_id: str, state: JsonObject, run: Run, *, output: Any = None, messages: Sequence[ModelMessage] = ()
) -> RunResult[Any]:
    """A run that has ended, or is open, as a result.

    `output` is its output, if it is not the one that is stored, which is JSON; `messages` are its own.
    """
    pending = requests_of(run) if run.status == "paused" else None
    return RunResult(
        output=pending or run.handoff or (run.output if output is None else output),
        session_id=session_id,
        run_id=run.run_id,
        number=run.number,
        status=run.status,
        usage=run.usage,
        state=state,
        pending=pending,
        agent=run.agent,
        error=run.error,
        members=[stored_result(session_id, state, child) for child in run.children],
        stored_messages=list(messages),
    )


async def load_output(data: Any, output_type: Any, read: ReadMedia) -> Any:
    """A stored output as the first of the agent's output types that it fits; as JSON, if it fits none.

    Of an output that a function made, the JSON is all that there is, unless the function is said to return bytes or
    media. Media are looked up with `read`.
    """
    data = _in_base64(await put_back(data, read)) if has_binary(data) else data
    text = encode(data)
    for kind in _types(output_type):
        if kind is bytes and (content := _bytes_of(data)) is not None:
            return content
        try:
            return TypeAdapter(kind).validate_json(text)
        except (ValidationError, PydanticUserError):
            continue
    return data


def fits_output(data: Any, output_type: Any) -> bool:
    """Whether JSON is an output of one of these types; of functions that make it nothing is known."""
    kinds = _types(output_type)
    return not kinds or any(_fits(kind, data) for kind in kinds)


def _fits(kind: Any, data: Any) -> bool:
    with suppress(ValidationError, PydanticUserError):
        TypeAdapter(kind).validate_json(encode(data))
        return True
    return False


def schema_of_output(output: Any, output_type: Any) -> JsonObject | None:
    """The JSON Schema of the type that an output is of, among these; None where nobody can say."""
    kinds = _types(output_type)
    fitting = [kind for kind in kinds if isinstance(kind, type) and isinstance(output, kind)]
    chosen = fitting[:1] or (kinds if len(kinds) == 1 else [])
    with suppress(PydanticUserError):
        return TypeAdapter(chosen[0]).json_schema() if chosen else None
    return None


def _in_base64(value: Any) -> Any:
    """JSON data with bytes as base64."""
    if isinstance(value, dict):
        return {key: _in_base64(item) for key, item in cast(JsonObject, value).items()}
    if isinstance(value, list):
        return [_in_base64(item) for item in cast(list[Any], value)]
    return base64.urlsafe_b64encode(value).decode() if isinstance(value, bytes) else value


def _bytes_of(data: Any) -> bytes | None:
    """The bytes that were an output; see `dump_output`."""
    if isinstance(data, str):
        data = {"kind": "binary", "media_type": BYTES, "data": data}
    return binary_content(cast(JsonObject, data)) if isinstance(data, dict) else None


def _types(output_type: Any) -> list[Any]:
    """The types of an output specification, those of its parts in their order."""
    if isinstance(output_type, (list, tuple)):
        return [kind for part in cast(Sequence[Any], output_type) for kind in _types(part)]
    if isinstance(output_type, ToolOutput):
        return _types(cast(Any, output_type.output))
    if isinstance(output_type, (NativeOutput, PromptedOutput)):
        return _types(cast(Any, output_type.outputs))
    if isinstance(output_type, TextOutput):
        return _types(cast(Any, output_type.output_function))
    if isinstance(output_type, type) or not callable(output_type) or hasattr(output_type, "__origin__"):
        return [] if output_type is DeferredToolRequests else [output_type]
    with suppress(NameError, TypeError, AttributeError):  # what it says cannot be found out
        returned = get_type_hints(output_type).get("return")
        return [returned] if returned in (bytes, BinaryContent, BinaryImage) else []
    return []
