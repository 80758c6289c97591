"""Messages of earlier runs that this process has made of the log before: they need not be made of it again.

A run is sent along with several later ones, and what takes long is not to read it, but to make messages of it. What is
known is believed only of the very commits that it was made of, which are read each time: so what others have erased,
amended or written meanwhile counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, cast

from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    SystemPromptPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.usage import RequestUsage

MOST, LARGEST = 512, 16 * 1024
"""How many runs are known, and up to how many characters of their commits: 8 MB of text at most, mostly 1 or 2.

Messages of many small values take up to 16 times as much memory as their text.
"""

Bodies = tuple[str, ...]
"""The commits of a run, as they are stored."""

Key = tuple[str, int]
"""A session by its incarnation, and the number of a run there."""

_FIXED = frozenset((type(None), bool, int, float, str, datetime, Decimal))
_MADE = frozenset(
    (
        ModelRequest,
        ModelResponse,
        SystemPromptPart,
        TextPart,
        ThinkingPart,
        ToolCallPart,
        ToolReturnPart,
        UserPromptPart,
        RequestUsage,
    )
)
"""What is copied whole. Runs that hold anything else, such as media, are not among the known ones."""

_new = object.__new__
_kind_of: Callable[[Any], Any] = type


class Known:
    """The messages of runs by their commits. May be used by several threads.

    What is given away is a copy each time, because processors of histories, and models, may change what they get.
    """

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: dict[Key, tuple[Bodies, list[ModelMessage]]] = {}

    def get(self, key: Key, bodies: Bodies) -> list[ModelMessage] | None:
        """The messages of a run that has exactly these commits."""
        seen = self._seen.get(key)
        return _again(seen[1]) if seen is not None and seen[0] == bodies else None

    def put(self, key: Key, bodies: Bodies, messages: Sequence[ModelMessage]) -> None:
        """Know what was made of these commits, if it is not large; forget what was made longest ago."""
        if not bodies or sum(map(len, bodies)) > LARGEST:
            return
        try:
            own = _again(list(messages))
        except _OtherError:
            return
        seen = self._seen
        seen.pop(key, None)
        seen[key] = bodies, own
        if len(seen) > MOST:
            try:
                seen.pop(next(iter(seen)), None)
            except (RuntimeError, StopIteration):  # another thread has changed it at this moment, and sees to it
                return


class _OtherError(Exception):
    """There is something that cannot be copied here."""


def _again(value: Any) -> Any:
    """A copy that shares nothing with it that could be changed."""
    kind = _kind_of(value)
    if kind is list:
        return [item if type(item) in _FIXED else _again(item) for item in cast("list[Any]", value)]
    if kind is dict:
        items = cast("dict[Any, Any]", value).items()
        return {name: item if type(item) in _FIXED else _again(item) for name, item in items}
    if kind not in _MADE:
        raise _OtherError
    made = _new(kind)
    fields = made.__dict__
    for name, item in value.__dict__.items():
        fields[name] = item if type(item) in _FIXED else _again(item)
    return made


known = Known()
"""Of all storages: a run's key is its own."""
