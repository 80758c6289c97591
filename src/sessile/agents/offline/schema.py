"""Values that a JSON schema accepts, for the structured outputs of the offline model."""

from __future__ import annotations

from typing import Any, cast

Schema = dict[str, Any]

_DEEPEST = 16
"""Where recursive schemas are cut off."""


def example(schema: Schema, text: str) -> Any:
    """A small value of the schema: required fields only, `text` where a string is asked for."""
    return _value(schema, schema, text, 0)


def _value(schema: Schema, root: Schema, text: str, depth: int) -> Any:
    schema = _resolved(schema, root)
    for word in ("const", "default"):
        if word in schema:
            return schema[word]
    if "enum" in schema:
        return schema["enum"][0]
    options = schema.get("anyOf") or schema.get("oneOf")
    if options:
        return _value(options[-1 if depth > _DEEPEST else 0], root, text, depth + 1)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = cast("list[str]", kind)[0]
    if kind == "object":
        return _object(schema, root, text, depth)
    if kind == "array":
        fixed: list[Schema] = schema.get("prefixItems", [])
        missing = max(0, schema.get("minItems", 0) - len(fixed))
        items = fixed + [schema.get("items", {})] * missing
        return [_value(item, root, text, depth + 1) for item in items]
    return _scalar(str(kind), schema, text)


def _resolved(schema: Schema, root: Schema) -> Schema:
    """The schema with its references followed and what must hold beside it merged in."""
    while "$ref" in schema:
        found: Any = root
        for key in str(schema["$ref"]).removeprefix("#/").split("/"):
            found = found[key]
        schema = cast(Schema, found)
    for part in cast("list[Schema]", schema.get("allOf", [])):
        schema = {**_resolved(part, root), **schema}
    return schema


def _object(schema: Schema, root: Schema, text: str, depth: int) -> Schema:
    properties: dict[str, Schema] = schema.get("properties", {})
    names = [name for name in schema.get("required", []) if name in properties]
    return {name: _value(properties[name], root, text, depth + 1) for name in names}


def _scalar(kind: str, schema: Schema, text: str) -> Any:
    if kind == "null":
        return None
    if kind == "boolean":
        return False
    if kind in ("integer", "number"):
        return _number(schema, kind)
    longest = schema.get("maxLength", len(text))
    return text[:longest].ljust(schema.get("minLength", 0), ".")


def _number(schema: Schema, kind: str) -> Any:
    low, high = schema.get("minimum"), schema.get("maximum")
    if "exclusiveMinimum" in schema:
        low = schema["exclusiveMinimum"] + 1
    if "exclusiveMaximum" in schema:
        high = schema["exclusiveMaximum"] - 1
    value = 0 if low is None else max(0, low)
    value = value if high is None else min(value, high)
    return int(value) if kind == "integer" else float(value)
