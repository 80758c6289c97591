"""Forms: what a tool asks a person, with a schema of the answer."""

from __future__ import annotations

from typing import Any, TypeVar, cast, overload

from pydantic import TypeAdapter, ValidationError
from pydantic_ai import RunContext
from pydantic_ai.exceptions import ApprovalRequired

from ..errors import InvalidInputError
from ..records import JsonObject
from ..storage.forms import FORM
from ..storage.schema import check_schema

T = TypeVar("T")


@overload
def ask_person(ctx: RunContext[Any], schema: type[T], question: str = "") -> T: ...


@overload
def ask_person(ctx: RunContext[Any], schema: JsonObject, question: str = "") -> Any: ...


def ask_person(ctx: RunContext[Any], schema: type[T] | JsonObject, question: str = "") -> Any:
    """In a tool: what a person has filled in. Until somebody has, the run waits, and its process may end.

    ```python
    class Traveller(BaseModel):
        name: str
        seats: int = Field(ge=1, le=9)

    @agent.tool
    def book(ctx: RunContext, city: str) -> str:
        traveller = ask_person(ctx, Traveller, f"Who travels to {city}?")
        return f"{traveller.seats} seats to {city} for {traveller.name}"
    ```

    The tool ends here the first time, and is called again when the form is filled: what stands before is done twice.
    One tool call asks for one form. Who is to fill it finds it in `storage.waiting`, `sessile waiting`, and the
    dashboard; it is answered with `storage.decide(…, results={call: {…}})`, `sessile fill`, or over HTTP. An answer
    that the schema refuses is an error for whoever gives it. One that only validators of the type's own refuse lets
    the run ask again, with what was wrong.

    Args:
        ctx: what the tool was given.
        schema: a Pydantic model or any other type, or a JSON Schema.
        question: what the person is asked.

    Returns:
        An object of the type; of a JSON Schema the JSON value.

    Raises:
        InvalidInputError: the schema says what forms cannot be held against.
    """
    form: JsonObject = {"question": question, "schema": _schema_of(schema)}
    given: Any = ctx.tool_call_metadata if ctx.tool_call_approved else None
    if not isinstance(given, dict) or FORM not in given:
        raise ApprovalRequired({FORM: form})
    answer: Any = cast(JsonObject, given)[FORM]
    if isinstance(schema, dict):
        return answer
    try:
        return TypeAdapter(schema).validate_python(answer)
    except ValidationError as error:
        said = "; ".join(_problem(one) for one in error.errors(include_url=False, include_input=False))
        raise ApprovalRequired({FORM: {**form, "problem": said}}) from None


def _schema_of(schema: Any) -> JsonObject:
    if isinstance(schema, dict):
        return check_schema(schema)
    try:
        return check_schema(TypeAdapter(schema).json_schema())
    except InvalidInputError:
        raise
    except Exception as error:
        raise InvalidInputError(f"No form can be made of {schema!r}: it has no JSON Schema. {error}") from error


def _problem(error: Any) -> str:
    place = ".".join(map(str, error["loc"]))
    return f"{place}: {error['msg']}" if place else str(error["msg"])
