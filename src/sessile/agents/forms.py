"""Forms: what a tool asks a person, with a schema of the answer."""

from __future__ import annotations

from typing import Any, TypeVar, cast, overload

from pydantic import PydanticUserError, TypeAdapter, ValidationError
from pydantic_ai import RunContext
from pydantic_ai.exceptions import ApprovalRequired

from ..errors import InvalidInputError
from ..records import JsonObject
from ..storage.encoding import encode
from ..storage.forms import FORM
from ..storage.schema import check_schema, problems

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
    dashboard; it is answered with `storage.decide(…, results={call: {…}})`, `sessile send`, or over HTTP. An answer
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
    form = Form(schema, question)
    given: Any = ctx.tool_call_metadata if ctx.tool_call_approved else None
    if not isinstance(given, dict) or FORM not in given:
        raise ApprovalRequired({FORM: form.asked()})
    try:
        return form.filled(cast(JsonObject, given)[FORM])
    except FormError as error:
        raise ApprovalRequired({FORM: form.asked(str(error))}) from None


class FormError(ValueError):
    """A form was not filled as it asks, says its type; the text has what is wrong, and not what was said."""


class Form:
    """What a person is asked: a type, or a JSON Schema, and a question."""

    def __init__(self, schema: Any, question: str = "") -> None:
        """`InvalidInputError` for a schema that forms cannot be held against."""
        self._adapter: TypeAdapter[Any] | None = None
        self.question = question
        if isinstance(schema, dict):
            self.schema = check_schema(schema)
            return
        try:
            self._adapter = TypeAdapter(schema)
            said = self._adapter.json_schema()
        except PydanticUserError as error:
            raise InvalidInputError(f"No form can be made of {schema!r}: {error.message}") from None
        self.schema = check_schema(said)

    def asked(self, problem: str | None = None) -> JsonObject:
        """The form as it is stored; `problem` is what was wrong with the last answer."""
        form: JsonObject = {"question": self.question, "schema": self.schema}
        return form if problem is None else {**form, "problem": problem}

    def filled(self, answer: Any) -> Any:
        """An answer as an object of the type; `FormError` if it is none."""
        if wrong := problems(self.schema, answer):
            raise FormError("; ".join(wrong))
        if self._adapter is None:
            return answer
        try:
            return self._adapter.validate_json(encode(answer))
        except ValidationError as error:
            raise FormError("; ".join(map(_problem, error.errors(include_url=False, include_input=False)))) from None


def form_of(schema: Any, question: str) -> Form | None:
    """The form of a type or a schema; None if there is none."""
    return None if schema is None else Form(schema, question)


def _problem(error: Any) -> str:
    place = ".".join(map(str, error["loc"]))
    return f"{place}: {error['msg']}" if place else str(error["msg"])
