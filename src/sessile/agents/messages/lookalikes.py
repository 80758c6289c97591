"""Results of tools that look like media and are none: a mapping with `kind`, `data` and `media_type`, for example.

Pydantic AI would read them back as media. So in what is stored their key `kind` is called `$kind`, `$kind` is called
`$$kind`, and so on; what tools return as media keeps its `kind`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass, replace
from typing import Any, cast

from pydantic import BaseModel
from pydantic_ai.messages import MULTI_MODAL_CONTENT_TYPES, ModelMessage, ModelRequest, ToolReturnPart
from pydantic_core import to_jsonable_python

_KEY = re.compile(r"\$*kind")
_MARKED = re.compile(r"\$+kind")


def marked(value: Any) -> Any:
    """What a tool has returned, so that it is read back as it is; the same object where nothing has to be marked."""
    try:
        return _marked(value)
    except (RecursionError, ValueError):  # it has no JSON form, and is stored as text
        return value


def _marked(value: Any) -> Any:
    if isinstance(value, MULTI_MODAL_CONTENT_TYPES):
        return value
    if isinstance(value, BaseModel) or (is_dataclass(value) and not isinstance(value, type)):
        plain = to_jsonable_python(value, serialize_unknown=True, inf_nan_mode="strings", bytes_mode="base64")
        return _marked(plain) if isinstance(plain, dict) else cast(Any, value)
    if type(value) is dict:
        items = cast("dict[Any, Any]", value)
        made = {f"${key}" if _is(key, _KEY) else key: _marked(item) for key, item in items.items()}
        same = all(made.get(key) is item for key, item in items.items())
        return items if same and made.keys() == items.keys() else made
    if type(value) in (list, tuple):
        before = cast(Sequence[Any], value)
        parts = [_marked(item) for item in before]
        return before if all(new is old for new, old in zip(parts, before, strict=True)) else parts
    return cast(Any, value)


def unmarked(value: Any) -> Any:
    """The inverse of `marked`."""
    if isinstance(value, MULTI_MODAL_CONTENT_TYPES):
        return value
    if isinstance(value, Mapping):
        items = cast("Mapping[Any, Any]", value)
        return {key[1:] if _is(key, _MARKED) else key: unmarked(item) for key, item in items.items()}
    if isinstance(value, list):
        return [unmarked(item) for item in cast(list[Any], value)]
    return value


def _is(key: Any, what: re.Pattern[str]) -> bool:
    return isinstance(key, str) and what.fullmatch(key) is not None


def with_marks(message: ModelMessage) -> ModelMessage:
    """The message with the results of tools marked; the same object where nothing has to be."""
    if not isinstance(message, ModelRequest):
        return message
    parts = [_marked_part(part) for part in message.parts]
    same = all(new is old for new, old in zip(parts, message.parts, strict=True))
    return message if same else replace(message, parts=parts)


def _marked_part(part: Any) -> Any:
    if not isinstance(part, ToolReturnPart):
        return part
    returned = cast("ToolReturnPart[Any]", part)
    content: Any = marked(returned.content)
    return returned if content is returned.content else replace(returned, content=content)


def without_marks(messages: Sequence[ModelMessage]) -> None:
    """Take the marks out of messages that were just read."""
    for message in messages:
        for part in message.parts if isinstance(message, ModelRequest) else ():
            if isinstance(part, ToolReturnPart) and not isinstance(part.content, str):
                part.content = unmarked(part.content)
