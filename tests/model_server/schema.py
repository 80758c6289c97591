"""Values made from a JSON schema: always the same ones for the same schema and text."""

from __future__ import annotations

import re
from typing import Any

from .wire import Json

ANSWER_FIELDS = frozenset({"answer", "content", "message", "output", "reply", "response", "result", "summary", "text"})
"""Names of string properties that take the answer's text; any other string property takes its own name."""

_FORMATS = {
    "date": "2024-01-02",
    "date-time": "2024-01-02T03:04:05Z",
    "time": "03:04:05Z",
    "duration": "PT1H",
    "email": "ada@example.com",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000001",
    "ipv4": "127.0.0.1",
}
_MAX_DEPTH = 4


def generate(schema: Json, text: str) -> Any:
    """A value that fits `schema`; `text` fills the strings whose name is one of `ANSWER_FIELDS`."""
    return _Generator(schema, text).value(schema, "value", 0)


class _Generator:
    """Walks one schema; `depth` counts the references on the way, so that recursive schemas end."""

    def __init__(self, root: Json, text: str) -> None:
        self._root = root
        self._text = text

    def value(self, schema: Any, name: str, depth: int) -> Any:
        if not isinstance(schema, dict):
            return name
        if "$ref" in schema:
            return self.value({**self._resolve(schema["$ref"]), **_without(schema, "$ref")}, name, depth + 1)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return schema["enum"][0]
        if "allOf" in schema:
            return self.value(self._merged(schema), name, depth)
        for key in ("anyOf", "oneOf"):
            if key in schema:
                return self.value(self._pick(schema[key], depth), name, depth)
        return self._typed(schema, name, depth)

    def _typed(self, schema: Json, name: str, depth: int) -> Any:
        kind = schema.get("type", "object" if "properties" in schema else "string")
        if isinstance(kind, list):
            kind = next((each for each in kind if each != "null"), "null")
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            return self._array(schema, name, depth)
        if kind == "string":
            return self._string(schema, name)
        if kind in ("integer", "number"):
            return _number(schema, kind)
        return True if kind == "boolean" else None

    def _object(self, schema: Json, depth: int) -> Json:
        properties: Json = schema.get("properties", {})
        if depth > _MAX_DEPTH:
            properties = {key: properties[key] for key in schema.get("required", ()) if key in properties}
        return {key: self.value(each, key, depth) for key, each in properties.items()}

    def _array(self, schema: Json, name: str, depth: int) -> list[Any]:
        if "prefixItems" in schema:
            return [self.value(each, name, depth) for each in schema["prefixItems"]]
        at_least = int(schema.get("minItems", 0))
        if depth > _MAX_DEPTH or schema.get("maxItems") == 0:
            return [self.value(schema.get("items", {}), name, depth) for _ in range(at_least)]
        return [self.value(schema.get("items", {}), name, depth) for _ in range(max(1, at_least))]

    def _string(self, schema: Json, name: str) -> str:
        if schema.get("format") in _FORMATS:
            return _FORMATS[schema["format"]]
        text = self._text if name in ANSWER_FIELDS and self._text else name
        text = text.ljust(int(schema.get("minLength", 0)), "x")
        return text[: int(schema["maxLength"])] if "maxLength" in schema else text

    def _pick(self, options: list[Json], depth: int) -> Json:
        """The first option that is not null; null itself once the nesting is deep enough."""
        nulls = [option for option in options if option.get("type") == "null"]
        others = [option for option in options if option.get("type") != "null"]
        if nulls and (depth >= _MAX_DEPTH or not others):
            return nulls[0]
        return others[0]

    def _merged(self, schema: Json) -> Json:
        merged = _without(schema, "allOf")
        for part in schema["allOf"]:
            if "$ref" in part:
                part = {**self._resolve(part["$ref"]), **_without(part, "$ref")}
            properties = {**merged.get("properties", {}), **part.get("properties", {})}
            merged = {**merged, **part, **({"properties": properties} if properties else {})}
        return merged

    def _resolve(self, reference: str) -> Json:
        target: Any = self._root
        for step in reference.removeprefix("#").strip("/").split("/"):
            if step:
                target = target[re.sub("~1", "/", step).replace("~0", "~")]
        return dict(target)


def _without(schema: Json, key: str) -> Json:
    return {name: value for name, value in schema.items() if name != key}


def _number(schema: Json, kind: str) -> int | float:
    """The smallest allowed number from 1 upwards, or the largest allowed one if that is below 1."""
    step = schema.get("multipleOf")
    number = float(step) if step else (1.0 if kind == "integer" else 1.5)
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    if low is not None and number <= low:
        number = float(low) + (0 if "minimum" in schema else (step or (1 if kind == "integer" else 0.5)))
    if high is not None and number >= high:
        number = float(high) - (0 if "maximum" in schema else (step or (1 if kind == "integer" else 0.5)))
    return int(number) if kind == "integer" else number
