"""What agents, teams and workflows take, answer and keep, as JSON schemas."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, create_model
from pydantic.errors import PydanticUndefinedAnnotation, PydanticUserError

from ..agents.agent import first_state_of
from ..records import JsonObject
from ..workflows import Workflow
from ..workflows.workflow import first_state_of as first_state_of_workflow
from ..workflows.workflow import signature_of
from .serving import Served

MEDIA: JsonObject = {
    "type": "object",
    "properties": {"media_type": {"type": "string"}, "data": {"type": "string", "contentEncoding": "base64"}},
    "required": ["media_type", "data"],
    "additionalProperties": False,
}

PROMPT: JsonObject = {
    "anyOf": [
        {"type": "string", "minLength": 1},
        {"type": "array", "minItems": 1, "items": {"anyOf": [{"type": "string"}, MEDIA]}},
    ]
}
"""What agents and teams are asked: text, or texts and files."""


def schemas_of(thing: Served) -> dict[str, JsonObject | None]:
    """`input`, `output` and `state`; None where nobody can say."""
    return {"input": input_schema(thing), "output": output_schema(thing), "state": state_schema(thing)}


def output_schema(thing: Served) -> JsonObject | None:
    """What an agent answers, or what a workflow's function says that it returns."""
    if isinstance(thing, Workflow):
        return _schema_of(signature_of(thing).return_annotation)
    agent: Any = thing.pydantic_agent
    return agent.output_json_schema()


def input_schema(thing: Served) -> JsonObject | None:
    """What is asked: of a workflow its arguments, by name."""
    if not isinstance(thing, Workflow):
        return PROMPT
    fields: dict[str, Any] = {}
    for name, parameter in signature_of(thing).parameters.items():
        if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
            continue
        annotation = Any if parameter.annotation is inspect.Parameter.empty else parameter.annotation
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        fields[name] = (annotation, default)
    try:
        return create_model("Input", **fields).model_json_schema()
    except (PydanticUserError, PydanticUndefinedAnnotation, NameError, TypeError):
        return {"type": "object", "properties": {name: {} for name in fields}}


def state_schema(thing: Served) -> JsonObject | None:
    """What the state of a new session begins with, and of which types that is; more may come into it."""
    state = first_state_of_workflow(thing) if isinstance(thing, Workflow) else first_state_of(thing)
    if not state:
        return None
    return {"type": "object", "properties": {name: _like(value) for name, value in state.items()}}


def _like(value: Any) -> JsonObject:
    kinds: Mapping[type, str] = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array"}
    kind = "object" if isinstance(value, dict) else next((kinds[one] for one in kinds if isinstance(value, one)), None)
    return {"default": value} if kind is None else {"type": kind, "default": value}


def _schema_of(annotation: Any) -> JsonObject | None:
    if annotation in (inspect.Signature.empty, Any, "Any"):
        return None
    try:
        return TypeAdapter(annotation).json_schema(mode="serialization")
    except (PydanticUserError, PydanticUndefinedAnnotation, NameError, TypeError):
        return None
