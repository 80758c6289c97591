"""Tools that an agent can be given to look into its own past."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, cast

from pydantic_ai.toolsets import FunctionToolset

from ..errors import SessionNotFoundError
from ..records import Head, JsonObject, Message, Run
from ..storage.reads import LARGEST
from .state import current_session

SEARCHED_SESSIONS = 50
"""How many of the user's newest sessions a search looks into."""

SEARCHED_RUNS = 50
"""How many of the last runs of each."""

MAX_HITS = 20


def history_tools(read_chat_history: bool, search_sessions: bool) -> list[FunctionToolset[Any]]:
    """The toolset with the chosen tools, or none."""
    tools: list[Any] = []
    if read_chat_history:
        tools.append(read_history)
    if search_sessions:
        tools.append(search_past_sessions)
    return [FunctionToolset(tools, id="sessile_history")] if tools else []


async def read_history(last_runs: int = 10, from_run: int | None = None, to_run: int | None = None) -> str:
    """Read earlier messages of this conversation that you may not see any more.

    Args:
        last_runs: how many of the last exchanges to read, at most 100.
        from_run: the number of the first exchange to read.
        to_run: the number of the last exchange to read.
    """
    session = current_session()
    runs = await session.storage.aruns(
        session.session_id,
        last=_within(last_runs, 100),
        from_run=None if from_run is None else _within(from_run, LARGEST),
        to_run=None if to_run is None else _within(to_run, LARGEST),
        user_id=session.user_id,
    )
    lines = [f"[{run.number}] {line}" for run in runs if run.run_id != session.top.run_id for line in run_lines(run)]
    return "\n".join(lines) or "There are no earlier messages."


def _within(number: int, most: int) -> int:
    """A number that a model has made up, as one that can be asked for."""
    return max(0, min(number, most))


async def search_past_sessions(query: str) -> str:
    """Search the user's earlier conversations for words; the newest conversations come first.

    Args:
        query: words that must all occur in a message.
    """
    session = current_session()
    words = [word.casefold() for word in re.findall(r"\w+", query)]
    if session.user_id is None or not words:
        return "Nothing was found: there is no user, or the query is empty."
    hits: list[str] = []
    page = await session.storage.asessions(user_id=session.user_id, limit=SEARCHED_SESSIONS)
    for head in page:
        if head.session_id != session.session_id and len(hits) < MAX_HITS:
            with suppress(SessionNotFoundError):  # deleted since it was listed
                runs = await session.storage.aruns(head.session_id, last=SEARCHED_RUNS, user_id=session.user_id)
                hits.extend(_hits(head, runs, words))
    return "\n".join(hits[:MAX_HITS]) or "Nothing was found."


def _hits(head: Head, runs: Sequence[Run], words: Sequence[str]) -> Iterator[str]:
    for run in reversed(runs):
        for line in run_lines(run):
            folded = line.casefold()
            if all(word in folded for word in words):
                yield f"[{head.name or head.session_id}, {run.number}] {line}"


def run_lines(run: Run) -> Iterator[str]:
    """What was said in a run, a line each: the user's input, the texts of the messages, or the output."""
    said = [line for message in run.messages for line in _texts(message)]
    if not said:
        said = [f"User: {as_text(run.input)}"]
        said += [] if run.output is None else [f"Assistant: {as_text(run.output)}"]
    yield from said


def _texts(message: Message) -> Iterator[str]:
    parts: Any = message.data.get("parts")
    for item in cast("list[Any]", parts) if isinstance(parts, list) else ():
        part: JsonObject = cast(JsonObject, item) if isinstance(item, dict) else {}  # other formats have other parts
        kind, content = part.get("part_kind"), part.get("content")
        if kind == "user-prompt":
            yield f"User: {as_text(content)}"
        elif kind == "text":
            yield f"Assistant: {content}"


def as_text(value: Any) -> str:
    """A text as it is, other values as JSON, without the data of images and other media."""
    return value if isinstance(value, str) else json.dumps(_without_media(value), ensure_ascii=False)


def _without_media(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_media(item) for item in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    node = cast(JsonObject, value)
    if node.get("kind") == "binary":
        return f"[{node.get('media_type', 'binary')}]"
    return {key: _without_media(item) for key, item in node.items()}
