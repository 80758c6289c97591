"""Values come back from the journal as the same types, or are refused."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import functools
import ipaddress
import json
import math
import sys
import threading
from collections import OrderedDict, deque
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePosixPath
from types import ModuleType
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AnyUrl, BaseModel, ConfigDict, Field, PrivateAttr, RootModel, SecretStr, field_validator
from pydantic_ai import BinaryContent, BinaryImage
from pydantic_ai.messages import ModelRequest, ModelResponse, TextPart, ToolCallPart, ToolReturnPart, UserPromptPart

from sessile.errors import InvalidStateError, UnknownFormatError
from sessile.storage.encoding import encode
from sessile.workflows import register_value_type
from sessile.workflows.run.values import dump, load

T = TypeVar("T")


class Colour(enum.Enum):
    RED = "r"


class Level(enum.IntEnum):
    LOW = 1


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: int
    y: Any


class Square(Point):
    def __new__(cls, side: int) -> Square:
        return Point.__new__(cls, side, side)


class Shape(BaseModel):
    name: str = "?"


class Circle(Shape):
    radius: Decimal = Decimal(1)


class Page(BaseModel):
    model_config = ConfigDict(extra="allow")
    shape: Shape
    made: datetime
    count: int = Field(alias="Count", default=3)
    anything: Any = None

    @field_validator("count", mode="before")
    @classmethod
    def doubled(cls, value: int) -> int:
        return value * 2


class Swapped(BaseModel):
    first: int = Field(alias="second")
    second: int = Field(alias="first")
    _seen: list[int] = PrivateAttr(default_factory=list)
    _unset: int = PrivateAttr()

    def model_post_init(self, context: Any) -> None:
        self._seen.append(self.first)

    @functools.cached_property
    def total(self) -> int:
        return self.first + self.second


class Numbers(RootModel[list[int]]):
    pass


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    at: datetime
    tags: set[str] = dataclasses.field(default_factory=set)
    twice: int = dataclasses.field(init=False, default=0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "twice", self.twice + 1)


@dataclasses.dataclass
class Refusal(Exception):
    reason: str


class Box(BaseModel, Generic[T]):
    content: T


NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
ROME = datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Rome"), fold=1)
VALUES = [
    None,
    True,
    3,
    -(10**30),
    1.5,
    math.inf,
    "text \0 \ud800 ü",
    b"\0\xff",
    [1, [2, ()]],
    (1, (2, [3])),
    {1, 2, 3},
    frozenset({"a", ("b", 1)}),
    {"a": {"b": (1,)}},
    {1: "one", (2, 3): b"two", None: 0},
    {"$type": "bytes", "value": "not ours"},
    NOW,
    datetime(2026, 1, 2),  # noqa: DTZ001 (naive ones come back naive)
    datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=5, minutes=30))),
    ROME,
    date(2026, 1, 2),
    time(1, 2, 3, tzinfo=UTC),
    timedelta(days=-1, microseconds=5),
    uuid4(),
    Decimal("1.10"),
    Colour.RED,
    Level.LOW,
    Point(1, (NOW, Colour.RED)),
    Circle(name="c", radius=Decimal("2.5")),
    Page(shape=Circle(name="c"), made=NOW, Count=5, anything=(b"x", {1}), other=ROME),
    Numbers([1, 2]),
    Box[int](content=1),
    Frozen(NOW, {"a"}),
    ipaddress.ip_address("10.0.0.1"),
    AnyUrl("https://example.com/a"),
    PurePosixPath("/a/b"),
    ModelRequest(parts=[UserPromptPart(["Look", BinaryImage(b"123", media_type="image/png")])]),
    ModelResponse(parts=[TextPart("x"), ToolCallPart("call", {"a": 1}, "1")]),
    [ModelRequest(parts=[ToolReturnPart("call", {"a": 1}, "1")])],
    BinaryContent(b"123", media_type="image/png"),
    time(2, 30, tzinfo=ZoneInfo("Europe/Rome"), fold=1),
    Rights.READ | Rights.WRITE,
    Rights(0),
    Square(2),
    Swapped(first=1, second=2),
    Refusal("no"),
    OrderedDict(a=1),
    deque([1, 2]),
    Fraction(1, 3),
    1j,
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values_come_back_as_they_were(value: Any) -> None:
    back = load(json.loads(encode(dump(value, "It"))))
    assert back == value
    assert type(back) is type(value)


def test_deep_inside() -> None:
    page = load(dump(VALUES[28], "It"))
    assert type(page.shape) is Circle
    assert page.model_extra == {"other": ROME}
    assert page.count == 10
    assert page.model_fields_set == {"shape", "made", "count", "anything", "other"}
    assert load(dump(Frozen(NOW), "It")).twice == 1
    back = load(dump(ROME, "It"))
    assert (back.tzinfo.key, back.fold, back.utcoffset()) == ("Europe/Rome", 1, timedelta(hours=1))
    assert load(dump(Shape(), "It")).model_fields_set == set()
    assert math.isnan(load(dump(math.nan, "It")))
    assert dump({3, 1, 2}, "It") == dump({2, 3, 1}, "It")


def test_what_does_not_show_when_compared() -> None:
    back = load(dump(time(2, 30, tzinfo=ZoneInfo("Europe/Rome"), fold=1), "It"))
    assert (back.tzinfo.key, back.fold) == ("Europe/Rome", 1)
    swapped = Swapped(first=1, second=2)
    assert (swapped.total, swapped._seen) == (3, [2])
    back = load(dump(swapped, "It"))
    assert (back.first, back.second, back._seen, "total" in vars(back)) == (2, 1, [2], False)
    with pytest.raises(AttributeError):
        back._unset  # noqa: B018 (it never had a value)


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.text(),
    st.binary(max_size=20),
    st.floats(allow_nan=False),
    st.datetimes(),
    st.decimals(allow_nan=False),
    st.uuids(),
    st.dates(),
    st.timedeltas(),
)


@given(
    st.recursive(
        LEAVES,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.tuples(inner, inner),
            st.dictionaries(st.one_of(st.text(), st.integers(), st.just("$type")), inner, max_size=3),
        ),
        max_leaves=8,
    )
)
def test_any_value(value: Any) -> None:
    back = load(json.loads(encode(dump(value, "It"))))
    assert repr(back) == repr(value)


class Text(str):
    __slots__ = ()


def _cycle() -> Any:
    made: list[Any] = []
    made.append(made)
    return made


class Local:
    pass


def _local_model() -> Any:
    class Inner(BaseModel):
        pass

    return Inner()


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (object(), "holds a object, which is no model, dataclass or registered value type"),
        (Text("x"), "holds a Text"),
        (SecretStr("x"), "which is no model, dataclass or registered value type"),
        (OrderedDict(a=NOW), "does not come back from JSON as it was"),
        (_cycle(), "contains itself"),
        (Local(), "holds a Local"),
        (_local_model(), "define the class at the top of a module"),
        (10**5000, "over 4,000 digits"),
        ([1, {"a": lambda: 1}], "holds a function"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_kept_is_refused(value: Any, why: str) -> None:
    with pytest.raises(InvalidStateError, match=why) as caught:
        dump(value, "What step 'x' returned")
    assert str(caught.value).startswith("What step 'x' returned")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ({"$type": "unheard of"}, "does not know"),
        ({"$type": "model", "class": "os:system", "value": {}}, "has not imported"),
        ({"$type": "model", "class": "nowhere.module:Thing", "value": {}}, "has not imported"),
        ({"$type": "dataclass", "class": f"{__name__}:Local", "value": {}}, "not a dataclass"),
        ({"$type": "dataclass", "class": f"{__name__}:Frozen", "value": {}}, "it has no 'at'"),
        ({"$type": "enum", "class": f"{__name__}:Colour", "value": "BLUE"}, "BLUE"),
        ({"$type": "uuid", "value": "x"}, "cannot be read"),
        ({"$type": "message", "format": "other/1", "value": {}}, "other/1"),
    ],
)
def test_what_cannot_be_read(data: Any, why: str) -> None:
    with pytest.raises(UnknownFormatError, match=why):
        load(data)


class Guarded(BaseModel):
    name: str
    _lock: Any = PrivateAttr(default_factory=threading.Lock)
    _count: int = PrivateAttr(default=0)


def test_private_attributes_that_cannot_be_kept_have_their_default_again() -> None:
    one = Guarded(name="g")
    one._count = 3
    again = load(dump(one, "It"))
    assert (again.name, again._count) == ("g", 3)
    assert again._lock is not one._lock
    assert again._lock.acquire(blocking=False)


def test_a_model_that_has_got_a_required_field() -> None:
    data = dump(Swapped(first=1, second=2), "It")
    del data["value"]["second"]
    with pytest.raises(UnknownFormatError, match="it has no 'second'"):
        load(data)
    assert load(dump(Swapped.model_construct(first=1), "It")).first == 1


def test_a_class_that_has_got_more_fields() -> None:
    data = dump(Frozen(NOW, {"a"}), "It")
    del data["value"]["tags"], data["value"]["twice"]
    assert (load(data).tags, load(data).twice) == (set(), 0)
    data = dump(Circle(name="c"), "It")
    del data["value"]["radius"]
    assert load(data) == Circle(name="c")
    data = dump(Swapped(first=1, second=2), "It")
    del data["private"]
    data["value"]["third"] = 3  # and of one that has lost one
    assert load(data)._seen == []
    assert isinstance(load(dump(UUID(int=1), "It")), UUID)


# ---------------------------------------------------------------- what stored data may choose


ran: list[str] = []


class Watching(type):
    """A metaclass whose properties run code."""

    @property
    def Inner(cls) -> type:
        ran.append("property")
        return Colour

    def __instancecheck__(cls, instance: object) -> bool:
        ran.append("isinstance")
        return True

    def __subclasscheck__(cls, subclass: type) -> bool:
        ran.append("issubclass")
        return True


class Watched(metaclass=Watching):
    pass


class LazyModule(ModuleType):
    def __getattr__(self, name: str) -> Any:
        ran.append(name)
        return Colour


@pytest.fixture
def lazy(monkeypatch: pytest.MonkeyPatch) -> None:
    ran.clear()
    module = LazyModule("lazy_module")
    vars(module)["__getattr__"] = lambda name: ran.append(name)
    monkeypatch.setitem(sys.modules, "lazy_module", module)


@pytest.mark.parametrize("kind", ["enum", "flag", "model", "dataclass", "namedtuple", "pydantic"])
@pytest.mark.parametrize(
    "name",
    [
        "lazy_module:Thing",
        f"{__name__}:Watched.Inner",
        f"{__name__}:Watched",
        "os:path.join",
        "pydantic.types:ImportString",
        "pydantic:ImportString",
        "builtins:type",
        "subprocess:Popen",
        ":",
        "sys:modules.os",
        f"{__name__}:VALUES",
    ],
)
def test_stored_data_runs_nothing_and_imports_nothing(kind: str, name: str, lazy: None) -> None:
    before = set(sys.modules)
    for value in ({}, [], "antigravity", 0, {"x": 1}):
        with pytest.raises(UnknownFormatError):
            load({"$type": kind, "class": name, "value": value})
    assert not ran
    assert set(sys.modules) == before


class Money:
    """A class that Pydantic can validate, and that is no model."""

    def __init__(self, cents: int) -> None:
        self.cents = cents

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and self.cents == other.cents

    def __hash__(self) -> int:
        return self.cents

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(
            lambda value: value if isinstance(value, Money) else Money(value),
            serialization=core_schema.plain_serializer_function_ser_schema(lambda money: money.cents),
        )


def test_types_that_the_application_registers() -> None:
    with pytest.raises(InvalidStateError, match="registered value type"):
        dump(Money(5), "It")
    with pytest.raises(UnknownFormatError, match="not registered"):
        load({"$type": "pydantic", "class": f"{__name__}:Money", "value": 5})
    register_value_type(Money)
    assert load(dump(Money(5), "It")) == Money(5)


TAGS = (
    "float bytes datetime date time timedelta uuid decimal tuple set frozenset dict enum flag namedtuple model "
    "dataclass message pydantic unheard"
)
NAMES = [
    *(f"{__name__}:{name}" for name in ("Colour", "Rights", "Frozen", "Swapped", "Guarded", "Circle", "Point", "Box")),
    "pathlib:PurePosixPath",
    "pydantic.networks:AnyUrl",
    "pydantic.types:ImportString",
    "os:system",
]
FIELDS = st.text(max_size=5) | st.sampled_from(["value", "class", "zone", "fold", "extra"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(NAMES),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(FIELDS, inner, max_size=4)
        | st.fixed_dictionaries(
            {"$type": st.sampled_from(TAGS.split()) | inner},
            optional={
                "class": st.sampled_from(NAMES) | inner,
                **dict.fromkeys(("value", "zone", "format", "unset"), inner),
            },
        )
    ),
    max_leaves=20,
)


@given(JSON)
def test_malformed_values_are_one_kind_of_error(data: Any) -> None:
    with contextlib.suppress(UnknownFormatError):
        load(data)


def test_values_that_are_nested_too_deep() -> None:
    data: Any = 1
    for _ in range(50_000):
        data = {"$type": "tuple", "value": [data]}
    with pytest.raises(UnknownFormatError, match="too deep"):
        load(data)
