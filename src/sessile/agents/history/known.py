"""Messages of earlier runs that this process has made, of the log or in a run: they need not be made of the log again.

A run is sent along with several later ones, and what takes long is not to read it, but to make messages of it. What is
known is believed only of the very commits that hold it, which are read each time: so what others have erased, amended
or written meanwhile counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from math import isfinite
from typing import Any

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
"""How many runs are known, and up to how many characters of their commits: 8 MB of these at most, mostly 1 or 2."""

Bodies = tuple[str, ...]
"""The commits of a run, as they are stored."""

Key = tuple[str, int]
"""A session by its incarnation, and the number of a run there."""

Mold = tuple[type, Any, list[tuple[Any, Any]]]
"""What an object is made of again: its type, what of it never changes, and where the molds of the rest belong."""

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
"""What is made again whole. Runs that hold anything else, such as media, are not among the known ones."""

_FIXED = frozenset((type(None), str, int, bool))
_FIXED_AS = {datetime: "timestamp", Decimal: "cost"}
"""The types of values that never change, and are the same when they are read again: of any, or of these attributes."""

_NAMES = frozenset((str,))

_new: Callable[[Any], Any] = object.__new__
_kind_of: Callable[[Any], Any] = type


class Known:
    """The messages of runs by their commits. May be used by several threads.

    What is given away is copied each time, because processors of histories, and models, may change what they get.
    """

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: dict[Key, tuple[Bodies, Mold]] = {}

    def get(self, key: Key, bodies: Bodies) -> list[ModelMessage] | None:
        """The messages of a run that has exactly these commits."""
        seen = self._seen.get(key)
        return _cast(seen[1]) if seen is not None and seen[0] == bodies else None

    def put(self, key: Key, bodies: Bodies | None, mold: Mold | None) -> None:
        """Know what these commits hold, if it is not large; forget what was known longest."""
        if mold is None or not bodies or sum(map(len, bodies)) > LARGEST:
            return
        seen = self._seen
        seen.pop(key, None)
        seen[key] = bodies, mold
        if len(seen) > MOST:
            try:
                seen.pop(next(iter(seen)), None)
            except (RuntimeError, StopIteration):  # another thread has changed it at this moment, and sees to it
                return


def mold_of(messages: Sequence[ModelMessage]) -> Mold | None:
    """What the messages of a run are made of again.

    None where these might not be the same once they are stored and read: what a tool has returned may be anything.
    """
    try:
        return _mold(list(messages))
    except _OtherError:
        return None


class _OtherError(Exception):
    """There is something that is not the same when it is read again, or cannot be made again here."""


def _mold(value: Any) -> Mold:
    kind = _kind_of(value)
    own = kind in _MADE
    if own:
        fixed = value.__dict__.copy()
    elif kind is list or (kind is dict and _NAMES.issuperset(map(type, value))):
        fixed = value.copy()
    else:
        raise _OtherError
    rest: list[tuple[Any, Mold]] = []
    for place, item in enumerate(value) if kind is list else fixed.items():
        of = _kind_of(item)
        if of in _FIXED or (own and _FIXED_AS.get(of) == place):
            continue
        if of is not float:
            fixed[place] = None
            rest.append((place, _mold(item)))
        elif not isfinite(item):
            raise _OtherError
    return kind, fixed, rest


def _cast(mold: Mold) -> Any:
    kind, fixed, rest = mold
    if kind is list or kind is dict:
        made = places = fixed.copy()
    else:
        made = _new(kind)
        places = made.__dict__
        places.update(fixed)
    for place, inner in rest:
        places[place] = _cast(inner)
    return made


known = Known()
"""Of all storages: a run's key is its own."""
