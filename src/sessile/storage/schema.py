"""JSON values held against a JSON Schema: the part of it in which Pydantic's models say what they are."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, time
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, cast

from ..errors import InvalidInputError
from ..later import Later
from ..records import JsonObject

if TYPE_CHECKING:
    import uuid
else:
    uuid = Later("uuid")  # which asks for the platform

DEEPEST = 64
"""Levels of a value, or of references to schemas, that are looked into; what is deeper is refused."""

MOST = 10
"""How many problems of one value are told."""

_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "null": (type(None),),
    "integer": (int,),
    "number": (int, float),
}

_SAID = frozenset(
    {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$defs", "$schema", "$id"}
    | {"$comment", "discriminator", "contentMediaType", "contentEncoding"}
)
"""Words of a schema that say something about values, and refuse none."""


def check_schema(schema: Any) -> JsonObject:
    """A schema that values can be held against; `InvalidInputError` for one that says what is not understood here."""
    _walk(schema, "", cast(JsonObject, schema) if isinstance(schema, dict) else {})
    return cast(JsonObject, schema)


def problems(schema: JsonObject, value: Any) -> list[str]:
    """What is wrong with a value, at most ten things, each with its place: `address.city: …`; empty if nothing is."""
    try:
        return list(islice(_problems(schema, value, schema, "", 0), MOST))
    except (TypeError, ValueError, AttributeError, ArithmeticError, re.error) as error:
        raise InvalidInputError(f"The schema cannot be understood: {type(error).__name__}.") from None


def _walk(schema: Any, place: str, root: JsonObject) -> None:
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        raise InvalidInputError(f"A schema is an object; at {place or 'its beginning'} it is {schema!r}.")
    said = cast(JsonObject, schema)
    if unknown := said.keys() - _SAID - _RULES.keys() - _TOGETHER:
        raise InvalidInputError(
            f"A form cannot be held against {', '.join(sorted(unknown))}, at {place or 'the beginning of its schema'}.",
            hint="Leave it out of the schema, and check it in the tool.",
        )
    if "$ref" in said:
        _referred(said["$ref"], root)
    if "pattern" in said:
        _check_pattern(said["pattern"], place)
    for where, one in _inside(said):
        _walk(one, f"{place}/{where}", root)


def _check_pattern(pattern: Any, place: str) -> None:
    try:
        re.compile(pattern)
    except (re.error, TypeError) as error:
        raise InvalidInputError(f"The pattern at {place} is none that Python reads: {error}.") from None


def _inside(said: JsonObject) -> Iterator[tuple[str, Any]]:
    """The schemas in a schema, each with where it stands."""
    for name in ("properties", "$defs"):
        for key, one in cast(JsonObject, said.get(name) or {}).items():
            yield f"{name}/{key}", one
    for name in ("items", "additionalProperties"):
        if name in said:
            yield name, said[name]
    for name in ("anyOf", "oneOf", "allOf", "prefixItems"):
        for one in cast("list[Any]", said.get(name) or []):
            yield name, one


def _referred(reference: Any, root: JsonObject) -> Any:
    """The schema that `#/$defs/NAME` means."""
    found: Any = root
    for part in str(reference).removeprefix("#").strip("/").split("/"):
        key = part.replace("~1", "/").replace("~0", "~")
        if key:
            found = cast(Any, found).get(key) if isinstance(found, dict) else None
    if not str(reference).startswith("#") or not isinstance(found, (dict, bool)):
        raise InvalidInputError(f"The schema refers to {reference!r}, which is not in it.")
    return cast(Any, found)


def _problems(schema: Any, value: Any, root: JsonObject, place: str, depth: int) -> Iterator[str]:
    if depth > DEEPEST:
        yield _at(place, "it is nested too deeply")
        return
    if isinstance(schema, bool):
        if not schema:
            yield _at(place, "nothing may stand here")
        return
    said = cast(JsonObject, schema)
    if "$ref" in said:
        yield from _problems(_referred(said["$ref"], root), value, root, place, depth + 1)
    if "type" in said and not _is_of(value, said["type"]):
        yield _at(place, f"it must be {_named(said['type'])}, not {_name_of(value)}")
        return  # whatever else is said is about values of that type
    for name, rule in _RULES.items():
        if name in said and (wrong := rule(said[name], value)):
            yield _at(place, wrong)
    if isinstance(value, str) and "format" in said and not _has_format(value, said["format"]):
        yield _at(place, f"it is no {said['format']}")
    if isinstance(value, dict):
        yield from _of_members(said, cast(JsonObject, value), root, place, depth)
    if isinstance(value, list):
        yield from _of_items(said, cast("list[Any]", value), root, place, depth)
    yield from _of_choices(said, value, root, place, depth)


def _of_members(said: JsonObject, value: JsonObject, root: JsonObject, place: str, depth: int) -> Iterator[str]:
    known = cast(JsonObject, said.get("properties") or {})
    for name in cast("list[str]", said.get("required") or []):
        if name not in value:
            yield _at(_below(place, name), "it is missing")
    others = said.get("additionalProperties", True)
    for name, item in value.items():
        if name in known:
            yield from _problems(known[name], item, root, _below(place, name), depth + 1)
        elif others is False:
            yield _at(_below(place, name), "nothing of that name is asked for")
        else:
            yield from _problems(others, item, root, _below(place, name), depth + 1)


def _of_items(said: JsonObject, value: list[Any], root: JsonObject, place: str, depth: int) -> Iterator[str]:
    first = cast("list[Any]", said.get("prefixItems") or [])
    rest = said.get("items", True)
    for number, item in enumerate(value):
        one = first[number] if number < len(first) else rest
        yield from _problems(one, item, root, f"{place}[{number}]", depth + 1)


def _of_choices(said: JsonObject, value: Any, root: JsonObject, place: str, depth: int) -> Iterator[str]:
    for one in cast("list[Any]", said.get("allOf") or []):
        yield from _problems(one, value, root, place, depth + 1)
    for name in ("anyOf", "oneOf"):
        choices = cast("list[Any]", said.get(name) or [])
        if not choices:
            continue
        wrong = [list(_problems(one, value, root, place, depth + 1)) for one in choices]
        fitting = sum(not one for one in wrong)
        if fitting == 0:  # the choice that was meant is the one that fits best
            yield from min(wrong, key=lambda one: (any("must be" in said for said in one), len(one)))
        elif name == "oneOf" and fitting > 1:
            yield _at(place, "it fits several choices, and only one may be meant")


# ---------------------------------------------------------------- rules about one value


def _is_of(value: Any, types: Any) -> bool:
    names = cast("list[str]", types) if isinstance(types, list) else [str(types)]
    return any(_is(value, name) for name in names)


def _is(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    if name == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES.get(name, ()))


def _same(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal: 1 and 1.0 are, 1 and true are not."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _number(check: Callable[[Any, Any], bool], words: str) -> Callable[[Any, Any], str | None]:
    def rule(limit: Any, value: Any) -> str | None:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return f"it must be {words} {limit}" if is_number and not check(value, limit) else None

    return rule


def _size(
    kinds: type | tuple[type, ...], check: Callable[[int, int], bool], words: str
) -> Callable[[Any, Any], str | None]:
    def rule(limit: Any, value: Any) -> str | None:
        return words.format(limit) if isinstance(value, kinds) and not check(len(value), limit) else None

    return rule


def _one_of(choices: Any, value: Any) -> str | None:
    if any(_same(value, one) for one in choices):
        return None
    return f"it must be one of {', '.join(map(repr, choices))}"


def _matches(pattern: Any, value: Any) -> str | None:
    return f"it does not match {pattern}" if isinstance(value, str) and re.search(pattern, value) is None else None


def _unique(wanted: Any, value: Any) -> str | None:
    if not wanted or not isinstance(value, list):
        return None
    items = [json.dumps(one, sort_keys=True) for one in cast("list[Any]", value)]
    return "something stands in it twice" if len({*items}) < len(items) else None


def _multiple(value: Any, step: Any) -> bool:
    if isinstance(value, int) and isinstance(step, int):  # however large: no float has it
        return value % step == 0
    return abs(value / step - round(value / step)) < 1e-9


_RULES: Final[Mapping[str, Callable[[Any, Any], str | None]]] = {
    "enum": _one_of,
    "const": lambda wanted, value: None if _same(value, wanted) else f"it must be {wanted!r}",
    "minimum": _number(lambda value, limit: value >= limit, "at least"),
    "maximum": _number(lambda value, limit: value <= limit, "at most"),
    "exclusiveMinimum": _number(lambda value, limit: value > limit, "more than"),
    "exclusiveMaximum": _number(lambda value, limit: value < limit, "less than"),
    "multipleOf": _number(_multiple, "a multiple of"),
    "minLength": _size(str, lambda size, limit: size >= limit, "it must have at least {} characters"),
    "maxLength": _size(str, lambda size, limit: size <= limit, "it must have at most {} characters"),
    "pattern": _matches,
    "minItems": _size(list, lambda size, limit: size >= limit, "it must have at least {} items"),
    "maxItems": _size(list, lambda size, limit: size <= limit, "it must have at most {} items"),
    "uniqueItems": _unique,
    "minProperties": _size(dict, lambda size, limit: size >= limit, "it must have at least {} entries"),
    "maxProperties": _size(dict, lambda size, limit: size <= limit, "it must have at most {} entries"),
}

_TOGETHER = frozenset({"type", "required", "additionalProperties", "items", "prefixItems", "$ref"}) | frozenset(
    {"anyOf", "oneOf", "allOf", "properties", "format"}
)


def _has_format(value: str, name: Any) -> bool:
    """Whether a text has one of the formats that are known here; of others nothing is known."""
    try:
        if name == "date":
            date.fromisoformat(value)
        elif name == "date-time":
            datetime.fromisoformat(value)
        elif name == "time":
            time.fromisoformat(value)
        elif name in ("uuid", "uuid4"):
            uuid.UUID(value)
        elif name == "email":
            return re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", value) is not None
        elif name == "uri":
            return re.match(r"[A-Za-z][A-Za-z0-9+.-]*:\S+$", value) is not None
    except ValueError:
        return False
    return True


def _named(types: Any) -> str:
    names = cast("list[str]", types) if isinstance(types, list) else [str(types)]
    return " or ".join(_WORDS.get(one, one) for one in names)


_WORDS = {
    "object": "an object",
    "array": "a list",
    "string": "text",
    "boolean": "true or false",
    "null": "null",
    "integer": "a whole number",
    "number": "a number",
}


def _name_of(value: Any) -> str:
    names = ("null", "boolean", "integer", "number", "string", "array", "object")
    return _WORDS[next(name for name in names if _is(value, name))]


def _below(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _at(place: str, wrong: str) -> str:
    return f"{place}: {wrong}" if place else wrong
