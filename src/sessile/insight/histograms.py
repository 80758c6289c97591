"""How long runs took, as histograms: they can be added up, and tell percentiles within one percent."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping

BITS = 6
"""A power of two is divided into 2 ** BITS buckets."""

Histogram = dict[int, int]
"""How many values lie in each bucket."""


def bucket(value: int) -> int:
    """The bucket of a value, which is not negative. Small values have buckets of their own."""
    shift = max(0, value.bit_length() - 1 - BITS)
    return (shift << BITS) + (value >> shift)


def middle(place: int) -> int:
    """The value in the middle of a bucket: no value there differs by more than 1/128 of it."""
    shift = max(0, (place >> BITS) - 1)
    return ((place - (shift << BITS)) << shift) + ((1 << shift) >> 1)


def histogram(values: Iterable[int]) -> Histogram:
    """Of some values."""
    found: Histogram = {}
    for value in values:
        count(found, value)
    return found


def count(into: Histogram, value: int | None) -> None:
    """Count one more value, where there is one."""
    if value is not None:
        place = bucket(max(0, value))
        into[place] = into.get(place, 0) + 1


def add(into: Histogram, other: Mapping[int, int]) -> None:
    """Add one to another."""
    for place, count in other.items():
        into[place] = into.get(place, 0) + count


def dump(one: Histogram) -> str:
    """As it is kept."""
    return json.dumps([number for place in sorted(one) for number in (place, one[place])], separators=(",", ":"))


def add_kept(into: Histogram, kept: Iterable[str]) -> None:
    """Add some that are kept; they are read together, because each by itself takes longer to read than to add."""
    numbers = iter(json.loads(f"[{','.join(text for one in kept if (text := one[1:-1]))}]"))
    for place, count in zip(numbers, numbers, strict=True):
        into[place] = into.get(place, 0) + count


def percentiles(one: Mapping[int, int], shares: Iterable[float]) -> list[int]:
    """The smallest values that these ascending shares of all values do not exceed; none of nothing."""
    found: list[int] = []
    if len(one) == 1:  # as of most sessions
        return [middle(next(iter(one)))] * len(list(shares))
    ordered = iter(sorted(one.items()))
    total, seen, place = sum(one.values()), 0, 0
    if total == 0:
        return found
    for share in shares:
        wanted = max(1, math.ceil(share * total))
        while seen < wanted:
            place, count = next(ordered)
            seen += count
        found.append(middle(place))
    return found
