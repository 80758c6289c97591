"""Values held against schemas: what Pydantic accepts is accepted, what it refuses is refused, with its place."""

from __future__ import annotations

import json
import random
from datetime import date, datetime
from enum import Enum
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from sessile.errors import InvalidInputError
from sessile.storage.schema import check_schema, problems


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Address(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    street: str = Field(min_length=1, max_length=20)
    zip: str = Field(pattern=r"^\d{5}$")


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = Field(ge=0, le=9)


class Dog(BaseModel):
    kind: Literal["dog"]
    name: str


class Order(BaseModel):
    model_config = ConfigDict(strict=True)

    item: str
    count: int = Field(gt=0, multiple_of=2)
    price: float | None = None
    colour: Colour = Colour.RED
    to: Address
    tags: Annotated[list[str], Field(max_length=2)] = []
    pet: Annotated[Cat | Dog, Field(discriminator="kind")] | None = None
    pair: tuple[int, str] | None = None
    more: dict[str, int] = {}
    under: list[Order] = []


GOOD: dict[str, Any] = {"item": "tea", "count": 2, "to": {"street": "High", "zip": "12345"}}

VALUES: list[Any] = [
    None, True, False, 0, 1, 2, 3, 2.5, -2, "", "x", "red", "blue", "12345", "High", [], ["a"], ["a", "b", "c"],
    [1, "x"], [1, "x", 3], {}, {"a": 1}, {"a": "x"}, {"street": "High", "zip": "1"}, {"street": "", "zip": "12345"},
    {"street": "High", "zip": "12345", "more": 1}, {"kind": "cat", "lives": 3}, {"kind": "cat", "lives": 12},
    {"kind": "dog"}, {"kind": "dog", "name": "Rex"}, [GOOD], [{**GOOD, "count": 3}],
]  # fmt: skip


def test_it_agrees_with_pydantic() -> None:
    """Orders with a field or two changed at random: one says yes where the other does."""
    schema, adapter = check_schema(Order.model_json_schema()), TypeAdapter(Order)
    dice = random.Random(21)
    said = {True: 0, False: 0}
    for _ in range(4000):
        value = dict(GOOD)
        for name in dice.sample(sorted(Order.model_fields), dice.choice((1, 1, 2))):
            value[name] = dice.choice(VALUES)
        if dice.random() < 0.05:
            value.pop(dice.choice(["item", "count", "to"]))
        try:
            adapter.validate_json(json.dumps(value))
            is_good = True
        except ValidationError:
            is_good = False
        found = problems(schema, value)
        assert (not found) == is_good, (value, found)
        said[is_good] += 1
    assert min(said.values()) > 200


@pytest.mark.parametrize(
    ("kind", "good", "wrong"),
    [
        (date, "2026-11-29", "29.11.2026"),
        (datetime, "2026-11-29T21:00:00Z", "soon"),
        (UUID, "12345678-1234-5678-1234-567812345678", "x"),
        (Annotated[list[int], Field(min_length=1)], [1], []),
        (Literal[1, "a"], 1, True),
    ],
)
def test_formats_and_choices(kind: Any, good: Any, wrong: Any) -> None:
    schema = check_schema(TypeAdapter(kind).json_schema())
    assert problems(schema, good) == []
    assert problems(schema, wrong)


def test_places_are_named() -> None:
    schema = check_schema(Order.model_json_schema())
    value = {**GOOD, "to": {"street": "High"}, "under": [{**GOOD, "count": 0}]}
    assert problems(schema, value) == ["to.zip: it is missing", "under[0].count: it must be more than 0"]


def test_what_is_large_is_held_against_it_all_the_same() -> None:
    schema = check_schema({"type": "array", "items": {"type": "integer", "multipleOf": 2}, "uniqueItems": True})
    assert problems(schema, [10**400, *range(0, 200_000, 2)]) == []
    assert len(problems(schema, [1] * 5000)) == 10


def test_what_is_nested_too_deeply_ends() -> None:
    schema = check_schema({"type": "array", "items": {"$ref": "#"}})
    value: Any = []
    for _ in range(500):
        value = [value]
    assert "nested too deeply" in problems(schema, value)[0]
    assert problems(check_schema({"$ref": "#"}), 1)


@pytest.mark.parametrize(
    "schema",
    [
        {"not": {}},
        {"properties": {"x": {"if": {}}}},
        {"$ref": "#/$defs/Other"},
        {"$ref": "https://example.com/x"},
        {"pattern": "("},
        [],
    ],
)
def test_what_cannot_be_held_against_is_refused(schema: Any) -> None:
    with pytest.raises(InvalidInputError):
        check_schema(schema)
