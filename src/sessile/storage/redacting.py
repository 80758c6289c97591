"""Redaction of what is to be written: of the words of people, models and tools in an entry, and of nothing else.

Ids, names of tools and agents, statuses, times and whatever else the log needs stay as they are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, cast

from ..errors import InvalidStateError, SessileError
from ..records import Entry, JsonObject
from ..redaction import Redaction
from .binary import is_binary
from .driver import Driver
from .leaving import leave
from .threads import elsewhere
from .vocabulary import (
    DecisionSent,
    MemoryWritten,
    MessageAdded,
    MetadataPatched,
    RunDecided,
    ScopesPatched,
    SessionCreated,
    SessionRenamed,
    SessionSummarized,
    StateKept,
    StatePatched,
    Step,
    kind_of,
)

MARK = "redacted"
"""What stands beside an entry's data: how many texts in it were changed; and in a call or a text that was."""

_PYDANTIC_AI = "pydantic-ai/"
_SAID = frozenset({"content", "args", "instructions", "metadata", "return_value", "summary"})
"""What in a message of Pydantic AI's, or in a part of one, somebody has said."""

_FORM = frozenset(
    {
        "role", "type", "id", "name", "call_id", "tool_call_id", "tool_use_id", "status", "model", "object",
        "finish_reason", "stop_reason", "timestamp", "created_at", "media_type", "mime_type", "encrypted_content",
        "signature",
    }
)  # fmt: skip
"""What in messages of other formats is no text of anybody's."""

_OPTIONS = frozenset({"model", "conversation_id"})
"""What a run was given that is no text of anybody's."""

_MORE: dict[str, tuple[str, ...]] = {
    SessionCreated.KIND: ("name", "state", "metadata"),
    SessionRenamed.KIND: ("name",),
    SessionSummarized.KIND: ("text",),
    MemoryWritten.KIND: ("memory", "topics"),
}
"""Fields of words that hold text and cannot be erased, because a head is folded from them."""

_PATCHES = {
    StatePatched.KIND: ("patch", "undo"),
    ScopesPatched.KIND: ("user", "app"),
    MetadataPatched.KIND: ("patch",),
}

_AS_THEY_ARE = frozenset({DecisionSent.KIND, RunDecided.KIND})
"""What people decide is executed as they said it; their reasons are messages of the run."""


class _Count:
    """Redacts texts, and counts those that were changed."""

    def __init__(self, redact: Redaction) -> None:
        self._redact, self.changed = redact, 0

    def text(self, text: str) -> str:
        try:
            made: Any = self._redact(text)
        except SessileError:
            raise
        except Exception as error:
            raise InvalidStateError(
                f"The redaction failed with {type(error).__name__}, and nothing was written.",
                hint="Repair the function that the storage was given as redact=.",
            ) from error
        if not isinstance(made, str):
            raise InvalidStateError("The redaction returned no text, and nothing was written.")
        self.changed += made != text
        return made

    def value(self, value: Any, skip: frozenset[str] = frozenset()) -> Any:
        """The value with each text in it redacted; keys stay, and so do media."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, (list, tuple)):
            return [self.value(item, skip) for item in cast("Sequence[Any]", value)]
        if isinstance(value, dict):
            node = cast(JsonObject, value)
            if is_binary(node):
                return node
            return _marked(node, {key: item if key in skip else self.value(item, skip) for key, item in node.items()})
        return value


def redacted_value(redact: Redaction | None, value: Any) -> Any:
    """A value as it would be written."""
    return value if redact is None else _Count(redact).value(value)


async def redact_draft(driver: Driver, redact: Redaction, entries: Sequence[Entry]) -> None:
    """As `redact_entries`; beside the event loop where there is one: nobody knows how long a redaction takes."""
    if driver.suspends:
        await elsewhere(lambda: redact_entries(redact, entries))
    else:
        await leave()
        redact_entries(redact, entries)


def redact_entries(redact: Redaction, entries: Sequence[Entry]) -> None:
    """Put in the place of what the entries hold what may be written of it. What they were made of is left alone.

    Raises `InvalidStateError` if the redaction raises.
    """
    for entry in entries:
        count = _Count(redact)
        entry.data = _data_of(entry, count)
        if count.changed:
            entry.more = {**(entry.more or {}), MARK: count.changed}


def _data_of(entry: Entry, count: _Count) -> Any:
    data: Any = entry.data
    if type(data) is not str and isinstance(data, str):  # JSON text that was made ahead (`encoding.RawJson`)
        data = json.loads(data)
    if entry.kind == MessageAdded.KIND:
        return _message(data, entry.format, count)
    if entry.kind == StateKept.KIND:
        return count.value(data)
    if not isinstance(data, dict) or entry.kind in _AS_THEY_ARE:
        return cast(Any, data)
    known = kind_of(entry)
    names = {one.name for one in known.FIELDS.values() if one.erased is not None}
    made = {**cast(JsonObject, data)}
    if issubclass(known, Step):
        made.pop("inputs", None)  # when the run is resumed, steps are given what was stored of the steps before
    for name in (*names, *_MORE.get(entry.kind, ())):
        if made.get(name) is not None:
            made[name] = _field(name, made[name], count)
    for name in _PATCHES.get(entry.kind, ("state",)):
        if isinstance(made.get(name), list):
            made[name] = [_operation(one, count.value) for one in made[name]]
    return made


def _field(name: str, value: Any, count: _Count) -> Any:
    if name == "state" and isinstance(value, list):
        return cast(Any, value)  # operations, whose paths are keys
    if name == "given":
        given = cast(JsonObject, value)
        return {**given, "kept": count.value(given.get("kept"), _OPTIONS)} if given.get("kept") else given
    if name == "pending":
        return count.value(value, _FORM | {"tool_name", "kind", "unsure", "waits"})
    if name == "error":
        return count.value(value, frozenset({"type"}))
    return count.value(value)


def _operation(operation: Any, redact: Callable[[Any], Any]) -> Any:
    """An operation on a path: `["set", path, value]`."""
    said = cast("list[Any]", operation)
    return [*said[:2], *(redact(value) for value in said[2:])]


def _message(message: Any, format: str | None, count: _Count) -> Any:
    if not isinstance(message, dict):
        return count.value(message)
    said = cast(JsonObject, message)
    if format is None or not format.startswith(_PYDANTIC_AI):
        return count.value(said, _FORM)
    made = {name: count.value(value) if name in _SAID else value for name, value in said.items()}
    parts = said.get("parts")
    if isinstance(parts, list):
        made["parts"] = [_part(part, count) for part in cast("list[Any]", parts)]
    return made


def _part(part: Any, count: _Count) -> Any:
    if not isinstance(part, dict):
        return count.value(part)
    said = cast(JsonObject, part)
    made = _marked(said, {name: _content(name, value, count) for name, value in said.items()})
    if said.get("part_kind") == "text" and made.get("content") != said.get("content"):
        made[MARK] = True  # nobody is to give it to a function that makes the output of what a model has said
    return made


def _marked(said: JsonObject, made: JsonObject) -> JsonObject:
    """A call of a tool, in a message or among those that wait, with a mark: nobody is to execute it with these."""
    if said.get("part_kind") == "tool-call" and made.get("args") != said.get("args"):
        made[MARK] = True
    return made


def _content(name: str, value: Any, count: _Count) -> Any:
    if name not in _SAID:
        return value
    if name == "args" and isinstance(value, str):
        return _arguments(value, count)
    return count.value(value, frozenset({"kind", "media_type", "identifier"}))


def _arguments(text: str, count: _Count) -> str:
    """Arguments of a call, which models give as JSON text: redacted value by value, so that it stays JSON."""
    try:
        value: Any = json.loads(text)
    except ValueError:
        return count.text(text)
    before = count.changed
    made = count.value(value)
    return text if count.changed == before else json.dumps(made, ensure_ascii=False)
