"""Conversations for fine-tuning, one on each line, in OpenAI's chat format. Needs Pydantic AI, which the agents need.

Each line is `{"messages": […], "tools": […]}` as developers.openai.com/api/docs/guides/supervised-fine-tuning has it:
arguments of calls are JSON text, and an assistant's message that is not to be learned from has `weight` 0.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from typing import Any, BinaryIO, Unpack, cast

from ..agents.messages.openai import to_openai
from ..agents.messages.stored import run_messages
from ..errors import CorruptDataError, UnknownFormatError
from ..records import JsonObject, Run, Session
from ..storage import Storage
from ..storage.encoding import encode
from ..storage.faces import step
from ..storage.storage import operate
from . import reading
from .filters import SessionChoice
from .told import Exported, Redaction, redacted, runs_told, sessions_told, text_of
from .writing import written


def export_chat(
    storage: Storage,
    to: str | os.PathLike[str] | BinaryIO,
    *,
    min_score: float | None = None,
    tools: Sequence[JsonObject] | None = None,
    redact: Redaction | None = None,
    session_ids: Sequence[str] | None = None,
    **choice: Unpack[SessionChoice],
) -> Exported:
    """Write conversations for fine-tuning: of each session its current branch, of runs that have completed.

    Where somebody has said what should have come out (`storage.rate(…, correction=…)`), that is the answer.

    Args:
        storage: where the sessions are.
        to: a path, which has the file when it is whole; or a stream of bytes.
        min_score: learn only from answers that were rated so high, or corrected: others have `weight` 0, and
            conversations that have no such answer are left out. Default: from all.
        tools: the definitions of the tools, as the API takes them. Default: what is known from their calls, the names
            of tools and of their arguments.
        redact: is given each text, and returns what is written.
        session_ids: only these sessions.
        **choice: which sessions; see `SessionChoice`.

    Raises:
        InvalidInputError: an argument is wrong.
        SessionNotFoundError: one of `session_ids` is not there.
        StorageError: the database failed; a file that was to be written is not there.
    """
    done = Exported()
    with written(to) as stream:
        for session in sessions_told(storage, session_ids, choice, done):
            messages: list[JsonObject] = []
            for run in runs_told(storage, session, done):
                messages += _of_run(storage, session, run, min_score, done)
            if any(one["role"] == "assistant" and one.get("weight", 1) for one in messages):
                line: JsonObject = {"messages": redacted(messages, redact)}
                known = _tools_called(messages) if tools is None else list(tools)
                if known:
                    line["tools"] = known
                stream.write(f"{encode(line)}\n".encode())
                done.rows += 1
    return done


def _of_run(storage: Storage, session: Session, run: Run, min_score: float | None, done: Exported) -> list[JsonObject]:
    if run.status != "completed":
        return []

    async def read(digest: str) -> bytes:
        record = operate(storage, reading.read_record, session, f"{reading.MEDIA}{digest}")
        return b"" if record is None else record.value

    try:
        messages = to_openai(step(run_messages(run, read)))
    except (UnknownFormatError, CorruptDataError) as error:
        done.skipped[f"{session.session_id} {run.number}"] = error
        return []
    correction = next((one.correction for one in reversed(run.ratings) if one.correction is not None), None)
    said = [one for one in messages if one["role"] == "assistant"]
    if correction is not None and said:
        said[-1]["content"] = text_of(correction)
    rating = run.rating()
    good = min_score is None or correction is not None or (rating is not None and (rating.score or 0) >= min_score)
    for one in said:
        if not good or (correction is not None and one is not said[-1]):
            one["weight"] = 0
    return messages


def _tools_called(messages: Iterable[JsonObject]) -> list[JsonObject]:
    """Definitions of the tools that are called, as far as the calls tell."""
    found: dict[str, dict[str, JsonObject]] = {}
    for message in messages:
        for call in message.get("tool_calls", []):
            try:
                arguments: Any = json.loads(call["function"]["arguments"])
            except ValueError:
                arguments = {}
            names: Any = cast(JsonObject, arguments) if isinstance(arguments, dict) else {}
            found.setdefault(call["function"]["name"], {}).update({name: {} for name in names})
    return [
        {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": properties}}}
        for name, properties in sorted(found.items())
    ]
