"""The words of a run and of a session: what a search looks through, piece by piece, each with where it stands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, cast

from ..records import JsonObject, Message, Run, Session
from ..storage.vocabulary import ERASED, ERASED_VALUE

PYDANTIC_AI = "pydantic-ai/"

_SAID = {"user-prompt": "input", "text": "output", "thinking": "thinking"}
_CALLS = ("tool-call", "builtin-tool-call")
_RETURNS = ("tool-return", "builtin-tool-return", "retry-prompt")
_LABELS = frozenset({"role", "type", "id", "tool_call_id", "kind", "part_kind", "media_type", "identifier"})
"""Keys of messages and of media whose values nobody has said."""

_MOST_DATA = 4096
"""How long a word without any blank may be, in characters: what is longer is data, not text."""


class Piece(NamedTuple):
    """One text, and where it stands: `input`, `output`, `tool`, `error`, `comment`, `name`, `metadata`, …."""

    where: str
    text: str


def pieces_of(run: Run) -> Iterator[Piece]:
    """The words of one run, without those of the runs below it."""
    for where, value in (("input", run.input), ("output", run.output), ("metadata", run.metadata)):
        yield from (Piece(where, text) for text in words_in(value))
    for message in run.messages:
        yield from _pieces_of_message(message)
    if run.error is not None:
        yield from (Piece("error", text) for text in words_in(run.error))
    for rating in run.ratings:
        for text in (rating.label, rating.comment):
            if text is not None and text != ERASED:
                yield Piece("comment", text)
        yield from (Piece("comment", text) for text in words_in(rating.correction))


def pieces_of_session(session: Session) -> Iterator[Piece]:
    """The words that belong to a session as a whole: its name and metadata."""
    if session.name is not None:
        yield Piece("name", session.name)
    yield from (Piece("metadata", text) for text in words_in(session.metadata))


def _pieces_of_message(message: Message) -> Iterator[Piece]:
    data: Any = message.data
    parts = cast(JsonObject, data).get("parts") if isinstance(data, dict) else None
    if message.format is None or not message.format.startswith(PYDANTIC_AI) or not isinstance(parts, list):
        role = str(cast(JsonObject, data).get("role", "message")) if isinstance(data, dict) else "message"
        where = {"user": "input", "assistant": "output"}.get(role, role)
        if where not in ("system", "developer"):  # instructions stand in every run alike
            yield from (Piece(where, text) for text in words_in(data))
        return
    for item in cast("list[Any]", parts):
        part: JsonObject = cast(JsonObject, item) if isinstance(item, dict) else {}
        kind = part.get("part_kind")
        if kind in _SAID:
            yield from (Piece(_SAID[kind], text) for text in words_in(part.get("content")))
        elif kind in _CALLS:
            yield Piece("tool", str(part.get("tool_name", "")))
            yield from (Piece("tool", text) for text in words_in(part.get("args")))
        elif kind in _RETURNS:
            yield from (Piece("tool", text) for text in words_in(part.get("content")))


def words_in(value: Any) -> Iterator[str]:
    """The texts in a JSON value, its keys and numbers among them; what was erased, and the data of media, are none."""
    if isinstance(value, str):
        if value != ERASED and not (len(value) > _MOST_DATA and _is_data(value)):
            yield value
    elif isinstance(value, bool) or value is None:
        return
    elif isinstance(value, (int, float)):
        yield str(value)
    elif isinstance(value, list):
        for item in cast("list[Any]", value):
            yield from words_in(item)
    elif isinstance(value, dict) and value != ERASED_VALUE:
        node = cast(JsonObject, value)
        media = node.get("kind") == "binary" or "$blob" in node
        for key, item in node.items():
            if key in _LABELS and isinstance(item, str):
                continue
            if media and key in ("data", "$blob", "size"):
                continue
            yield key
            yield from words_in(item)


def _is_data(text: str) -> bool:
    """Whether a long text has no blanks at its beginning: base64, for example."""
    head = text[:_MOST_DATA]
    return head.isascii() and not any(char.isspace() for char in head)
