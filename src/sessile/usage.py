"""What runs have used: counts of requests, tokens and tool calls, and money."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from operator import add, attrgetter
from operator import sub as subtract
from typing import Any

from .money import NANO, nano_dollars

COUNTS = ("requests", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "tool_calls")
"""The counts of a `Usage` beside money."""


@dataclass(slots=True, init=False)
class Usage:
    """What runs have used: counts of requests, tokens and tool calls, and what that cost.

    `Usage(requests=1, input_tokens=14, output_tokens=2, cost=Decimal("0.000021"))`; without `cost` it is unknown.
    Usages are added with `+`: the sum's cost is unknown where one of theirs is.

    Attributes:
        requests: how many requests were made to models.
        input_tokens, output_tokens: tokens, of all requests.
        cache_read_tokens, cache_write_tokens: how many of the input tokens came from, or went to, a provider's cache.
        tool_calls: how many tools have returned.
        nano_dollars: what is known of the cost, in 1e-9 US dollars.
        unpriced: how many requests have no known price; None where what has stored it did not say.
        more: counts of later versions, by their names, which are kept and added up as well.
    """

    requests: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    tool_calls: int
    nano_dollars: int
    unpriced: int | None
    more: dict[str, int] | None

    def __init__(
        self,
        requests: int = 0,
        input_tokens: int = 0,
        output_tokens: int = 0,
        cache_read_tokens: int = 0,
        cache_write_tokens: int = 0,
        tool_calls: int = 0,
        *,
        cost: Decimal | float | None = None,
    ) -> None:
        self.requests, self.tool_calls = requests, tool_calls
        self.input_tokens, self.output_tokens = input_tokens, output_tokens
        self.cache_read_tokens, self.cache_write_tokens = cache_read_tokens, cache_write_tokens
        self.nano_dollars = 0 if cost is None else nano_dollars(cost)
        used = requests or input_tokens or output_tokens
        self.unpriced = 0 if cost is not None else max(requests, 1) if used else None
        self.more = None

    @property
    def cost(self) -> Decimal | None:
        """The cost in US dollars; None where the price of any request is unknown."""
        used = self.requests or self.input_tokens or self.output_tokens
        unknown = self.unpriced or (self.unpriced is None and used and not self.nano_dollars)
        return None if unknown else self.known_cost

    @property
    def known_cost(self) -> Decimal:
        """The cost in US dollars of what has a known price."""
        return Decimal(self.nano_dollars) / NANO

    def __add__(self, other: Usage) -> Usage:
        return self._combined(other, add)

    def __sub__(self, other: Usage) -> Usage:
        return self._combined(other, subtract)

    def _combined(self, other: Usage, how: Callable[[int, int], int]) -> Usage:
        made = Usage.__new__(Usage)
        (
            made.requests,
            made.input_tokens,
            made.output_tokens,
            made.cache_read_tokens,
            made.cache_write_tokens,
            made.tool_calls,
            made.nano_dollars,
        ) = map(how, _counts_of(self), _counts_of(other))
        if self.unpriced is None and other.unpriced is None:
            made.unpriced = None
        else:
            made.unpriced = how(self.unpriced or 0, other.unpriced or 0)
        made.more = _combined(self.more, other.more, how) if self.more or other.more else None
        return made

    def to_json(self) -> dict[str, int]:
        """The counts that are not zero, and counts of later versions; `cost` is nano-dollars.

        `unpriced` is there, also where it is 0, unless it is not known.
        """
        counts = (
            ("requests", self.requests),
            ("input_tokens", self.input_tokens),
            ("output_tokens", self.output_tokens),
            ("cache_read_tokens", self.cache_read_tokens),
            ("cache_write_tokens", self.cache_write_tokens),
            ("tool_calls", self.tool_calls),
            ("cost", self.nano_dollars),
        )
        known = {name: count for name, count in counts if count}
        if self.unpriced is not None:
            known["unpriced"] = self.unpriced
        return {**self.more, **known} if self.more else known

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Usage:
        """The inverse of `to_json`. Raises `TypeError` where a count is no whole number."""
        made = cls()
        made.count(data)
        return made

    def count(self, data: dict[str, Any]) -> None:
        """Add to this one what `to_json` has made of another. Raises `TypeError` where a count is no whole number."""
        if not _WHOLE.issuperset(map(type, data.values())):
            raise TypeError("a count that is no whole number")
        get = data.get
        self.requests += get("requests", 0)
        self.input_tokens += get("input_tokens", 0)
        self.output_tokens += get("output_tokens", 0)
        self.cache_read_tokens += get("cache_read_tokens", 0)
        self.cache_write_tokens += get("cache_write_tokens", 0)
        self.tool_calls += get("tool_calls", 0)
        self.nano_dollars += get("cost", 0)
        if "unpriced" in data:
            self.unpriced = (self.unpriced or 0) + data["unpriced"]
        if not _STORED.issuperset(data):
            more = {name: data[name] for name in data if name not in _STORED}
            self.more = more if self.more is None else _combined(self.more, more, add)


def copy_of(usage: Usage) -> Usage:
    """As `copy.copy`, in a tenth of its time; also counts of later versions are its own."""
    made = Usage.__new__(Usage)
    (
        made.requests,
        made.input_tokens,
        made.output_tokens,
        made.cache_read_tokens,
        made.cache_write_tokens,
        made.tool_calls,
        made.nano_dollars,
    ) = _counts_of(usage)
    made.unpriced = usage.unpriced
    made.more = usage.more.copy() if usage.more else None
    return made


def with_counts(usage: Usage, data: dict[str, Any]) -> Usage:
    """As `usage + Usage.from_json(data)`, in half of its time."""
    total = copy_of(usage)
    total.count(data)
    if total.more:
        total.more = _combined(total.more, None, add)
    return total


_STORED = frozenset((*COUNTS, "cost", "unpriced"))
_WHOLE = frozenset((int,))
_counts_of: Callable[[Usage], tuple[int, ...]] = attrgetter(*COUNTS, "nano_dollars")


def _combined(
    ours: dict[str, int] | None, theirs: dict[str, int] | None, how: Callable[[int, int], int]
) -> dict[str, int] | None:
    """Counts of later versions, combined; those that add up to nothing are left out, as the others are."""
    ours, theirs = ours or {}, theirs or {}
    sums = {name: how(ours.get(name, 0), theirs.get(name, 0)) for name in (*ours, *theirs)}
    return {name: count for name, count in sums.items() if count} or None
