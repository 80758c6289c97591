"""What people are asked beyond yes and no: forms that they fill, and outputs that they look at before they are given.

Both are calls that wait, as those that need an approval: what is asked stands in their metadata.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from ..errors import InvalidInputError
from ..records import JsonObject
from .schema import problems

FORM = "sessile_form"
"""In the metadata of a call that waits: the form that a person fills. In that of its answer: what was filled in."""

REVIEW = "sessile_review"
"""In the metadata of a call that waits: that it stands for a run's output. It is the id of that call, too."""


def about(requests: Any, call: str, key: str) -> JsonObject | None:
    """What the metadata of a call that waits has under a key, which is an object; None if there is none."""
    metadata = cast(JsonObject, requests).get("metadata") if isinstance(requests, dict) else None
    said = cast(JsonObject, metadata).get(call) if isinstance(metadata, dict) else None
    found = cast(JsonObject, said).get(key) if isinstance(said, dict) else None
    return cast(JsonObject, found) if isinstance(found, dict) else None


def forms_of(requests: Any) -> dict[str, JsonObject]:
    """The forms that wait to be filled, by the ids of their calls."""
    return _all(requests, FORM)


def reviews_of(requests: Any) -> dict[str, JsonObject]:
    """The outputs that somebody is to look at, by the ids of the calls that stand for them."""
    return _all(requests, REVIEW)


def _all(requests: Any, key: str) -> dict[str, JsonObject]:
    metadata = cast(JsonObject, requests).get("metadata") if isinstance(requests, dict) else None
    calls = cast(JsonObject, metadata) if isinstance(metadata, dict) else {}
    return {call: said for call in calls if (said := about(requests, call, key)) is not None}


def check_answer(call: str, form: Mapping[str, Any], answer: Any) -> None:
    """Refuse what a form was not filled with as it asks; the run goes on waiting."""
    wrong = problems(_schema_of(form), answer)
    if wrong:
        raise InvalidInputError(
            f"The form {call} is not filled as it asks: {'; '.join(wrong)}.",
            hint="Nothing was written; the run goes on waiting.",
        )


def _schema_of(asked: Mapping[str, Any]) -> JsonObject:
    """The schema of what is asked; one that lets everything through, where there is none."""
    schema = asked.get("schema")
    return cast(JsonObject, schema) if isinstance(schema, dict) else {}


def untyped(value: Any) -> Any:
    """The JSON of a value that is stored with the names of its classes."""
    if isinstance(value, list):
        return [untyped(one) for one in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    said = cast(JsonObject, value)
    return untyped(said["value"]) if {"$type", "value"} <= said.keys() else {k: untyped(v) for k, v in said.items()}


def unfilled(call: str) -> InvalidInputError:
    """A form was approved, and not filled."""
    return InvalidInputError(
        f"The call {call} waits for a form that is filled.",
        hint="Give what is filled in as its result (results=), or deny the call.",
    )


def check_edit(given: Any, asked: Mapping[str, Any]) -> None:
    """Refuse an output that was changed into one that the agent may not give."""
    edited = cast(JsonObject, given) if isinstance(given, dict) else {}
    if edited.keys() != {"output"}:
        raise InvalidInputError('An output that is changed is given as an object: {"output": …}, and nothing else.')
    if wrong := problems(_schema_of(asked), edited["output"]):
        raise InvalidInputError(
            f"The agent gives no such output: {'; '.join(wrong)}.",
            hint="Nothing was written; the run goes on waiting.",
        )
