"""Python values as JSON that comes back as the same types: what steps take and return.

Plain JSON values stay as they are. Everything else becomes an object `{"$type": …, "value": …}`; classes are named
`module:Class` and must be importable by that name, and imported already when they are read back: stored data never
makes a program import something.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import math
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from copy import deepcopy
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag
from typing import Any, cast
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from pydantic_ai.messages import ModelMessagesTypeAdapter, ModelRequest, ModelResponse
from pydantic_core import PydanticSerializationError, PydanticUndefined

from ..agents.messages import FORMAT
from ..errors import InvalidStateError, UnknownFormatError
from ..records import JsonObject
from ..storage.encoding import MAX_DEPTH, check_json, encode

TYPE = "$type"

_HINT = "Nothing is lost: read it with the program that has kept it, or give its class back what it had."

_PLAIN = (str, int, bool, type(None))


def dump(value: Any, what: str) -> Any:
    """The value as JSON for `load`; `InvalidStateError`, which begins with `what`, if it cannot be kept."""
    try:
        data = _dump(value, 0)
        check_json(data, what)
    except _CannotStore as problem:
        raise InvalidStateError(
            f"{what} cannot be kept: {problem}.",
            hint="Return JSON values, Pydantic models, dataclasses, dates, UUIDs, Decimals, bytes or messages.",
        ) from problem.__cause__
    return data


def load(data: Any) -> Any:
    """The inverse of `dump`; `UnknownFormatError` for classes that this program does not have, or not like that."""
    if isinstance(data, list):
        return [load(item) for item in cast(list[Any], data)]
    if not isinstance(data, dict):
        return data
    node = cast(JsonObject, data)
    kind = node.get(TYPE)
    if kind is None:
        return {key: load(item) for key, item in node.items()}
    loader = _LOADERS.get(kind)
    if loader is None:
        raise UnknownFormatError(f"A kept value has the type {kind!r}, which this version does not know.", hint=_HINT)
    try:
        return loader(node)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnknownFormatError(
            f"A kept value of the type {node.get('class', kind)} cannot be read: {error}.", hint=_HINT
        ) from error


class _CannotStore(Exception):
    """A value has no JSON form that it comes back from."""


def _dump(value: Any, depth: int) -> Any:
    kind = cast(type[Any], type(value))
    if kind in _PLAIN:
        return value
    if depth > MAX_DEPTH:
        raise _CannotStore(f"it is nested deeper than {MAX_DEPTH} levels, or contains itself")
    if kind is list:
        return [_dump(item, depth + 1) for item in value]
    if kind is dict:
        return _dump_dict(cast(dict[Any, Any], value), depth)
    if kind is float:
        return value if math.isfinite(value) else {TYPE: "float", "value": repr(value)}
    dumper = _DUMPERS.get(kind)
    return dumper(value, depth + 1) if dumper is not None else _dump_object(value, kind, depth + 1)


def _dump_dict(value: dict[Any, Any], depth: int) -> Any:
    if TYPE not in value and all(type(key) is str for key in value):
        return {key: _dump(item, depth + 1) for key, item in value.items()}
    return {TYPE: "dict", "value": [[_dump(key, depth + 3), _dump(item, depth + 3)] for key, item in value.items()]}


def _dump_object(value: Any, kind: type[Any], depth: int) -> JsonObject:
    if isinstance(value, Flag):  # combinations have no name of their own
        return {TYPE: "flag", "class": _name(kind), "value": value.value}
    if isinstance(value, Enum):
        return {TYPE: "enum", "class": _name(kind), "value": value.name}
    if kind in (ModelRequest, ModelResponse):
        return {
            TYPE: "message",
            "format": FORMAT,
            "value": ModelMessagesTypeAdapter.dump_python([value], mode="json")[0],
        }
    if isinstance(value, BaseModel):
        return _dump_model(value, kind, depth)
    if dataclasses.is_dataclass(kind) and kind.__new__ is object.__new__:
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(kind)}
        return {TYPE: "dataclass", "class": _name(kind), "value": _dump_fields(fields, depth)}
    if isinstance(value, tuple) and hasattr(kind, "_fields"):
        items = [_dump(item, depth + 1) for item in cast(tuple[Any, ...], value)]
        return {TYPE: "namedtuple", "class": _name(kind), "value": items}
    return _dump_by_pydantic(value, kind)


def _dump_model(value: BaseModel, kind: type[BaseModel], depth: int) -> JsonObject:
    """Field by field, as Python holds them: what subclasses add is kept, and no validator runs a second time."""
    fields = {name: item for name, item in value.__dict__.items() if name in kind.model_fields}
    data: JsonObject = {TYPE: "model", "class": _name(kind), "value": _dump_fields(fields, depth)}
    if value.model_extra:
        data["extra"] = _dump_fields(value.model_extra, depth)
    private: JsonObject = {}
    for name, item in (value.__pydantic_private__ or {}).items():
        with suppress(_CannotStore):  # a lock, a client: it has its default when it is read
            private[name] = _dump(item, depth + 1)
    if private:
        data["private"] = private
    unset = [name for name in kind.model_fields if name not in value.model_fields_set]
    return {**data, "unset": unset} if unset else data


def _dump_fields(fields: Mapping[str, Any], depth: int) -> JsonObject:
    return {name: _dump(item, depth + 1) for name, item in fields.items()}


def _dump_by_pydantic(value: Any, kind: type[Any]) -> JsonObject:
    """Other types that Pydantic knows (URLs, paths, IP addresses), if they come back equal."""
    try:
        adapter = _adapter(kind)
        data = adapter.dump_python(value, mode="json")
        back = adapter.validate_python(data)
    except (PydanticUserError, PydanticSerializationError, ValidationError) as error:
        raise _CannotStore(f"it holds a {kind.__qualname__}, which has no JSON form") from error
    if type(back) is not kind or back != value:
        raise _CannotStore(f"it holds a {kind.__qualname__}, which does not come back from JSON as it was")
    return {TYPE: "pydantic", "class": _name(kind), "value": data}


@functools.lru_cache(maxsize=256)
def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


# ---------------------------------------------------------------- classes by name


def _name(kind: type[Any]) -> str:
    name = f"{kind.__module__}:{kind.__qualname__}"
    if _find(name) is not kind:
        raise _CannotStore(
            f"it holds a {kind.__qualname__}, which is not to be found in the module {kind.__module__!r}; "
            "define the class at the top of a module"
        )
    return name


def _find(name: str) -> Any:
    module, _, qualname = name.partition(":")
    node: Any = sys.modules.get(module)
    for part in qualname.split("."):
        node = getattr(node, part, None)
    return node


def _class(node: JsonObject, base: type[Any] = object) -> type[Any]:
    found = _find(node["class"])
    if not isinstance(found, type) or not issubclass(found, base):
        raise UnknownFormatError(
            f"A kept value is a {node['class']}, which this program has not imported.",
            hint="Import its module before the run is resumed.",
        )
    return found


# ---------------------------------------------------------------- back again


def _load_model(node: JsonObject) -> Any:
    """As unpickling does it: what the class has got since then has its default, and nothing of the class's own runs."""
    kind = cast(type[BaseModel], _class(node, BaseModel))
    fields = {name: load(item) for name, item in node["value"].items() if name in kind.model_fields}
    for name, field in kind.model_fields.items():
        if name in fields:
            continue
        if not field.is_required():
            fields[name] = field.get_default(call_default_factory=True, validated_data=fields)
        elif name not in node.get("unset", ()):  # one that was made without it (`model_construct`) is kept so
            raise ValueError(f"it has no {name!r}")
    extra = {name: load(item) for name, item in node.get("extra", {}).items()}
    allowed = kind.model_config.get("extra") == "allow"
    made = kind.__new__(kind)
    made.__setstate__(
        {
            "__dict__": fields,
            "__pydantic_extra__": extra if allowed else None,
            "__pydantic_fields_set__": (set(node["value"]) & set(fields)) - set(node.get("unset", ())) | set(extra),
            "__pydantic_private__": _private(kind, node.get("private", {})),
        }
    )
    return made


def _private(kind: type[BaseModel], stored: JsonObject) -> dict[str, Any] | None:
    """The private attributes of a model; None if its class has none."""
    known = cast(dict[str, Any], kind.__private_attributes__)
    values = {name: load(item) for name, item in stored.items() if name in known}
    for name, private in known.items():
        if name not in values:
            values[name] = private.default_factory() if private.default_factory else deepcopy(private.default)
    return {name: value for name, value in values.items() if value is not PydanticUndefined} if known else None


def _load_dataclass(node: JsonObject) -> Any:
    kind = _class(node)
    if not dataclasses.is_dataclass(kind):
        raise TypeError(f"{node['class']} is not a dataclass any more")
    made = object.__new__(kind)
    for field in dataclasses.fields(kind):
        object.__setattr__(made, field.name, _field(field, node["value"]))
    return made


def _field(field: dataclasses.Field[Any], values: JsonObject) -> Any:
    """The value of a dataclass's field; the default for one that the class did not have when it was stored."""
    if field.name in values:
        return load(values[field.name])
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    raise ValueError(f"it has no {field.name!r}")


def _load_namedtuple(node: JsonObject) -> Any:
    """Without the class's own `__new__`, which may take something else than its fields."""
    kind = cast(Any, _class(node, tuple))
    items = [load(item) for item in node["value"]]
    return kind._make(items + [kind._field_defaults[name] for name in kind._fields[len(items) :]])


def _load_message(node: JsonObject) -> Any:
    if node["format"] != FORMAT:
        raise UnknownFormatError(f"A kept message has the format {node['format']!r}; this version reads {FORMAT!r}.")
    return ModelMessagesTypeAdapter.validate_python([node["value"]])[0]


def _dump_time(value: datetime | time, depth: int) -> JsonObject:
    """A moment, or a time of day, which alone has no offset in a zone with summer time."""
    data: JsonObject = {TYPE: type(value).__name__, "value": value.isoformat()}
    if isinstance(value.tzinfo, ZoneInfo) and value.tzinfo.key:
        data["zone"] = value.tzinfo.key
    return {**data, "fold": 1} if value.fold else data


def _load_time(kind: type[datetime] | type[time]) -> Callable[[JsonObject], datetime | time]:
    def loader(node: JsonObject) -> datetime | time:
        value = kind.fromisoformat(node["value"]).replace(fold=node.get("fold", 0))
        return value.replace(tzinfo=ZoneInfo(node["zone"])) if "zone" in node else value

    return loader


def _as_text(tag: str) -> Callable[[Any, int], JsonObject]:
    return lambda value, depth: {TYPE: tag, "value": str(value)}


def _as_items(tag: str) -> Callable[[Any, int], JsonObject]:
    return lambda value, depth: {TYPE: tag, "value": [_dump(item, depth + 1) for item in value]}


def _as_sorted(tag: str) -> Callable[[Any, int], JsonObject]:
    """A set, always in the same order, so that equal inputs have one cache key."""
    return lambda value, depth: {TYPE: tag, "value": sorted((_dump(item, depth + 1) for item in value), key=encode)}


def _items(kind: Callable[[Any], Any]) -> Callable[[JsonObject], Any]:
    return lambda node: kind(load(item) for item in node["value"])


def _text(kind: Callable[[str], Any]) -> Callable[[JsonObject], Any]:
    return lambda node: kind(node["value"])


_DUMPERS: dict[type[Any], Callable[[Any, int], JsonObject]] = {
    bytes: lambda value, depth: {TYPE: "bytes", "value": base64.b64encode(value).decode()},
    datetime: _dump_time,
    date: _as_text("date"),
    time: _dump_time,
    timedelta: lambda value, depth: {TYPE: "timedelta", "value": [value.days, value.seconds, value.microseconds]},
    UUID: _as_text("uuid"),
    Decimal: _as_text("decimal"),
    tuple: _as_items("tuple"),
    set: _as_sorted("set"),
    frozenset: _as_sorted("frozenset"),
}

_LOADERS: dict[str, Callable[[JsonObject], Any]] = {
    "float": _text(float),
    "bytes": _text(base64.b64decode),
    "datetime": _load_time(datetime),
    "date": _text(date.fromisoformat),
    "time": _load_time(time),
    "timedelta": lambda node: timedelta(*node["value"]),
    "uuid": _text(UUID),
    "decimal": _text(Decimal),
    "tuple": _items(tuple),
    "set": _items(set),
    "frozenset": _items(frozenset),
    "dict": lambda node: {load(key): load(item) for key, item in node["value"]},
    "enum": lambda node: cast(type[Enum], _class(node, Enum))[node["value"]],
    "flag": lambda node: _class(node, Flag)(node["value"]),
    "namedtuple": _load_namedtuple,
    "model": _load_model,
    "dataclass": _load_dataclass,
    "message": _load_message,
    "pydantic": lambda node: _adapter(_class(node)).validate_python(node["value"]),
}
