"""Python values as JSON that comes back as the same types: what steps take and return.

Plain JSON values stay as they are. Everything else becomes an object `{"$type": …, "value": …}`. Its class is one of a
closed list of value types, one that the application has registered (`register_value_type`), or a Pydantic model,
dataclass, enum or named tuple, named `module:Class`. These are looked up in what loaded modules hold, without running
anything of theirs: stored data never makes a program import something, and chooses no other objects. What does run when
a value is read are default factories, of fields that the stored value does not have.
"""

from __future__ import annotations

import base64
import collections
import dataclasses
import fractions
import functools
import ipaddress
import math
import pathlib
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from copy import deepcopy
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag
from types import ModuleType
from typing import Any, cast
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import BaseModel, TypeAdapter, ValidationError, networks
from pydantic.errors import PydanticUserError
from pydantic_ai.messages import ModelMessagesTypeAdapter, ModelRequest, ModelResponse
from pydantic_core import PydanticSerializationError, PydanticUndefined

from ...agents.messages.stored import FORMAT
from ...errors import InvalidStateError, UnknownFormatError
from ...records import JsonObject
from ...storage.encoding import MAX_DEPTH, check_json, encode
from ...storage.withholding import damage_of, withheld

TYPE = "$type"

_HINT = "Nothing is lost: read it with the program that has kept it, or give its class back what it had."

PLAIN = (str, int, bool, type(None))
"""What is its own JSON form."""


def dump(value: Any, what: str) -> Any:
    """The value as JSON for `load`; `InvalidStateError`, which begins with `what`, if it cannot be kept."""
    if value is None or type(value) in (str, bool) or (type(value) is int and abs(value) < 2**63):
        return value
    try:
        data = _dump(value, 0)
        check_json(data, what)
    except _CannotStore as problem:
        raise InvalidStateError(
            f"{what} cannot be kept: {problem}.",
            hint="Return JSON values, Pydantic models, dataclasses, dates, UUIDs, Decimals, bytes or messages.",
        ) from (None if problem.__cause__ is None else withheld(problem.__cause__))
    return data


def load(data: Any) -> Any:
    """The inverse of `dump`; `UnknownFormatError` for classes that this program does not have, or not like that."""
    try:
        return _load(data)
    except RecursionError:
        raise UnknownFormatError("A kept value is nested too deep to be read.", hint=_HINT) from None


def _load(data: Any) -> Any:
    if isinstance(data, list):
        return [_load(item) for item in cast(list[Any], data)]
    if not isinstance(data, dict):
        return data
    node = cast(JsonObject, data)
    kind = node.get(TYPE)
    if kind is None:
        return {key: _load(item) for key, item in node.items()}
    loader = _LOADERS.get(kind) if isinstance(kind, str) else None
    if loader is None:
        raise UnknownFormatError(f"A kept value has the type {kind!r}, which this version does not know.", hint=_HINT)
    try:
        return loader(node)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        problem = str(error) if isinstance(error, _UnfitError) else damage_of(error)
        raise UnknownFormatError(
            f"A kept value of the type {node.get('class', kind)} cannot be read: {problem}.", hint=_HINT
        ) from withheld(error)


class _UnfitError(ValueError):
    """A kept value does not fit its class any more; the text names the class's parts, and no value."""


class _CannotStore(Exception):
    """A value has no JSON form that it comes back from."""


def _dump(value: Any, depth: int) -> Any:
    kind = cast(type[Any], type(value))
    if kind in PLAIN:
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
            "value": ModelMessagesTypeAdapter.dump_python([value], mode="json", warnings=False)[0],
        }
    if isinstance(value, BaseModel):
        return _dump_model(value, kind, depth)
    if dataclasses.is_dataclass(kind) and _made_by(kind) is not None:
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


def register_value_type(kind: type[Any]) -> None:
    """Let steps take and return values of a class that Pydantic can validate, and that is no model or dataclass.

    Call it when the module of the class is imported, in every program that reads what was kept. Only registered classes
    (and URLs, paths and IP addresses, which need no registering) are made by Pydantic from stored data.
    """
    _BY_PYDANTIC[f"{kind.__module__}:{kind.__qualname__}"] = kind


def _dump_by_pydantic(value: Any, kind: type[Any]) -> JsonObject:
    """Registered types, and URLs, paths and IP addresses, if they come back equal."""
    name = f"{kind.__module__}:{kind.__qualname__}"
    if _BY_PYDANTIC.get(name) is not kind:
        raise _CannotStore(f"it holds a {kind.__qualname__}, which is no model, dataclass or registered value type")
    try:
        adapter = _adapter(kind)
        data = adapter.dump_python(value, mode="json")
        back = adapter.validate_python(data)
    except (PydanticUserError, PydanticSerializationError, ValidationError) as error:
        raise _CannotStore(f"it holds a {kind.__qualname__}, which has no JSON form") from error
    if type(back) is not kind or back != value:
        raise _CannotStore(f"it holds a {kind.__qualname__}, which does not come back from JSON as it was")
    return {TYPE: "pydantic", "class": name, "value": data}


def _load_by_pydantic(node: JsonObject) -> Any:
    kind = _BY_PYDANTIC.get(node["class"])
    if kind is None:
        raise UnknownFormatError(
            f"A kept value is a {node['class']}, which is not registered.",
            hint="Call register_value_type for its class before the run is resumed.",
        )
    return _adapter(kind).validate_python(node["value"])


_PYDANTIC_URLS = (
    "AnyUrl AnyHttpUrl HttpUrl FileUrl FtpUrl WebsocketUrl AnyWebsocketUrl PostgresDsn CockroachDsn AmqpDsn RedisDsn "
    "MongoDsn KafkaDsn NatsDsn MySQLDsn MariaDBDsn ClickHouseDsn SnowflakeDsn"
)
_BY_PYDANTIC: dict[str, type[Any]] = {}
for _kind in (
    *(getattr(networks, _url) for _url in _PYDANTIC_URLS.split()),
    *(pathlib.PurePath, pathlib.PurePosixPath, pathlib.PureWindowsPath),
    *(pathlib.Path, pathlib.PosixPath, pathlib.WindowsPath),
    *(ipaddress.IPv4Address, ipaddress.IPv4Interface, ipaddress.IPv4Network),
    *(collections.OrderedDict, collections.deque, complex, fractions.Fraction),
    *(ipaddress.IPv6Address, ipaddress.IPv6Interface, ipaddress.IPv6Network),
):
    register_value_type(_kind)
"""The types that Pydantic makes from stored data, by name: those of the application are registered beside these."""


@functools.lru_cache(maxsize=256)
def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


# ---------------------------------------------------------------- classes by name


_MAIN = ("__main__", "__mp_main__")
"""What the program that was started is called in its own process, and in those that `multiprocessing` has spawned."""


def _main_module() -> str:
    """The name under which other programs import the one that was started; `__main__` where there is none."""
    main = sys.modules.get("__main__")
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    if spec is not None:
        return cast(str, spec.name)
    return pathlib.Path(file).stem if isinstance(file, str) else "__main__"


def _name(kind: type[Any]) -> str:
    module = _main_module() if kind.__module__ in _MAIN else kind.__module__
    name = f"{module}:{kind.__qualname__}"
    if kind not in _found(name):
        raise _CannotStore(
            f"it holds a {kind.__qualname__}, which is not to be found in the module {kind.__module__!r}; "
            "define the class at the top of a module"
        )
    return name


def _find(name: str) -> type[Any] | None:
    """The class of that name, if a loaded module holds it (or a class there does)."""
    return next(iter(_found(name)), None)


def _found(name: str) -> list[type[Any]]:
    """The classes of that name: the program that was started may have been imported as well, and have two."""
    module, _, qualname = name.partition(":")
    modules = ("__main__", module) if module in (*_MAIN, _main_module()) else (module,)
    return [kind for one in modules if (kind := _held(sys.modules.get(one), qualname)) is not None]


def _held(module: ModuleType | None, qualname: str) -> type[Any] | None:
    """A module's class.

    Only in the dictionaries of modules and classes: an attribute may be made when it is asked for, and import modules.
    """
    if not isinstance(module, ModuleType):
        return None
    held: Mapping[str, Any] = object.__getattribute__(module, "__dict__")
    kind: Any = None
    for part in qualname.split("."):
        kind = held.get(part)
        if not isinstance(kind, type):
            return None
        held = _DICT_OF_CLASS(kind)
    return kind


_DICT_OF_CLASS: Callable[[type[Any]], Mapping[str, Any]] = type.__dict__["__dict__"].__get__
_MRO_OF_CLASS: Callable[[type[Any]], tuple[type[Any], ...]] = type.__dict__["__mro__"].__get__
"""As the interpreter keeps them: a metaclass may answer `__dict__` and `issubclass` with code of its own."""


def _made_by(kind: type[Any]) -> type[Any] | None:
    """`object`, or the built-in exception, whose `__new__` makes instances of a class; None: its own does."""
    base = next(base for base in _MRO_OF_CLASS(kind) if "__new__" in _DICT_OF_CLASS(base))
    plain = base is object or (base.__module__ == "builtins" and BaseException in _MRO_OF_CLASS(base))
    return base if plain else None


def _class(node: JsonObject, base: type[Any] = object) -> type[Any]:
    found = _find(node["class"])
    if found is None or base not in _MRO_OF_CLASS(found):
        raise UnknownFormatError(
            f"A kept value is a {node['class']}, which this program has not imported.",
            hint="Import its module before the run is resumed.",
        )
    return found


# ---------------------------------------------------------------- back again


def _load_model(node: JsonObject) -> Any:
    """As unpickling does it: what the class has got since then has its default, and nothing of the class's own runs."""
    kind = cast(type[BaseModel], _class(node, BaseModel))
    fields = {name: _load(item) for name, item in node["value"].items() if name in kind.model_fields}
    for name, field in kind.model_fields.items():
        if name in fields:
            continue
        if not field.is_required():
            fields[name] = field.get_default(call_default_factory=True, validated_data=fields)
        elif name not in node.get("unset", ()):  # one that was made without it (`model_construct`) is kept so
            raise _UnfitError(f"it has no {name!r}")
    extra = {name: _load(item) for name, item in node.get("extra", {}).items()}
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
    values = {name: _load(item) for name, item in stored.items() if name in known}
    for name, private in known.items():
        if name not in values:
            values[name] = private.default_factory() if private.default_factory else deepcopy(private.default)
    return {name: value for name, value in values.items() if value is not PydanticUndefined} if known else None


def _load_dataclass(node: JsonObject) -> Any:
    kind = _class(node)
    base = _made_by(kind) if "__dataclass_fields__" in _DICT_OF_CLASS(kind) else None
    if base is None:
        raise _UnfitError(f"{node['class']} is not a dataclass any more")
    made: Any = cast(Any, base).__new__(kind)
    for field in dataclasses.fields(kind):
        object.__setattr__(made, field.name, _field(field, node["value"]))
    return made


def _field(field: dataclasses.Field[Any], values: JsonObject) -> Any:
    """The value of a dataclass's field; the default for one that the class did not have when it was stored."""
    if field.name in values:
        return _load(values[field.name])
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    raise _UnfitError(f"it has no {field.name!r}")


def _load_namedtuple(node: JsonObject) -> Any:
    """Without the class's own `__new__`, which may take something else than its fields."""
    kind = cast(Any, _class(node, tuple))
    items = [_load(item) for item in node["value"]]
    return kind._make(items + [kind._field_defaults[name] for name in kind._fields[len(items) :]])


def _load_enum(node: JsonObject) -> Enum:
    return cast(dict[str, Enum], _DICT_OF_CLASS(_class(node, Enum))["_member_map_"])[node["value"]]


def _load_flag(node: JsonObject) -> Any:
    """A flag, or a combination of some."""
    value = node["value"]
    if type(value) is not int:
        raise ValueError(f"{value!r} is no value of a flag")
    return _class(node, Flag)(value)


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
    return lambda node: kind(_load(item) for item in node["value"])


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
    "dict": lambda node: {_load(key): _load(item) for key, item in node["value"]},
    "enum": _load_enum,
    "flag": _load_flag,
    "namedtuple": _load_namedtuple,
    "model": _load_model,
    "dataclass": _load_dataclass,
    "message": _load_message,
    "pydantic": _load_by_pydantic,
}
