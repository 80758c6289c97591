"""What callers give to be stored, as it will be read back: messages, usage, patches. Refused before any I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from ..errors import InvalidInputError
from ..records import JsonObject, Usage
from .encoding import plain_json
from .threads import check_hurry


def checked_messages(messages: Any) -> list[JsonObject]:
    """Messages as they will be read back; refuses what is not a sequence of JSON objects."""
    if not isinstance(messages, (list, tuple)):
        raise InvalidInputError(f"messages must be a list of objects, not {type(messages).__name__}.")
    checked: list[JsonObject] = []
    for index, message in enumerate(cast("Sequence[Any]", messages)):
        check_hurry()
        if not isinstance(message, dict):
            raise InvalidInputError(f"messages[{index}] must be a dict, not {type(message).__name__}.")
        checked.append(plain_json(message, f"messages[{index}]"))
    return checked


def checked_usage(usage: Any) -> JsonObject:
    """Usage as JSON; refuses what is not counts."""
    if not isinstance(usage, Usage):
        raise InvalidInputError(f"usage must be a Usage, not {type(usage).__name__}.")
    counts = usage.to_json()
    for name, count in counts.items():
        if type(count) is not int or not 0 <= count < 2**63:
            raise InvalidInputError(f"usage.{name} must be a whole number of at least 0; it is {count!r}.")
    return counts


def checked_patch(value: Any, what: str) -> JsonObject:
    """A mapping that is JSON, as it will be read back, or an error before any I/O."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidInputError(f"{what} must be a dict, not {type(value).__name__}.")
    return plain_json(value, what)
