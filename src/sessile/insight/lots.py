"""Many values in one statement: so many at a time, and as what parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, TypeVar

T = TypeVar("T")

ROWS = 100
"""How many rows one INSERT has, and how many ids one list in a condition."""


def batches(items: Sequence[T], size: int = ROWS) -> Iterable[Sequence[T]]:
    """The items, so many at a time."""
    return (items[start : start + size] for start in range(0, len(items), size))


def weighed(items: Iterable[T], weight: Callable[[T], int], most: int) -> Iterator[list[T]]:
    """The items, at a time as many as weigh no more than that together, or a single one that does."""
    some: list[T] = []
    total = 0
    for item in items:
        heavy = weight(item)
        if some and total + heavy > most:
            yield some
            some, total = [], 0
        some.append(item)
        total += heavy
    if some:
        yield some


def one_of(column: str, items: Sequence[Any], name: str = "i") -> tuple[str, dict[str, Any]]:
    """A condition that a column has one of these values, and its parameters."""
    values = {f"{name}{number}": item for number, item in enumerate(items)}
    return f"{column} IN ({', '.join(f':{key}' for key in values)})", values


@lru_cache(maxsize=500)
def places_of(rows: int, width: int) -> tuple[list[str], str]:
    """The names of the parameters of an INSERT, and how they stand in it."""
    keys = [f"v{number}" for number in range(rows * width)]
    return keys, ", ".join(f"({', '.join(f':{key}' for key in row)})" for row in batches(keys, width))
