"""Tables of other libraries, and what stands in their columns. Nothing is ever written."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, cast

Row = dict[str, Any]


class Tables(Protocol):
    """What is read of a database."""

    def columns(self) -> dict[str, dict[str, str]]:
        """The columns of each table, with the types that they were declared with, in capitals."""
        ...

    def rows(self, table: str, order: Sequence[str], where: Mapping[str, Any] | None = None) -> Iterator[Row]:
        """The rows of a table, ascending by these columns, whose columns equal these values."""
        ...

    def zone(self) -> str:
        """The time zone of times that the database itself has put into columns without one."""
        ...

    def close(self) -> None:
        """End the connection."""
        ...


def decoded(value: Any) -> Any:
    """A column with JSON, however often it was encoded; None where it is none."""
    for _ in range(3):
        if not isinstance(value, (str, bytes)):
            break
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value


def mapping(value: Any) -> dict[str, Any]:
    """The value where it is an object, else an empty one."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def objects(value: Any) -> list[dict[str, Any]]:
    """The objects in a list, or none."""
    items = cast("list[Any]", value) if isinstance(value, list) else []
    return [cast("dict[str, Any]", item) for item in items if isinstance(item, dict)]


def seconds(value: Any) -> int:
    """Seconds since 1970 as microseconds; 0 for what is no such time."""
    if (
        isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 32_503_680_000
    ):  # the year 3000
        return 0
    return round(value * 1_000_000)
