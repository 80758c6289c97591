"""What the index knows of a run beside its words: a row of plain values, made from the run as the log tells it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from decimal import Decimal
from operator import attrgetter, itemgetter
from typing import Any, cast

from ..records import NANO, JsonObject, Message, Rating, Run, Usage
from .texts import PYDANTIC_AI

UNKNOWN = ""
"""The model of what was used without saying by which model."""

MADE_UP = "sessile"
"""The provider of responses that no model was asked for."""


def storable(text: str) -> str:
    """A name as every database can keep it: 255 characters of UTF-8 without NUL."""
    return text[:255].replace("\0", " ").encode("utf-8", "replace").decode()


@dataclass(slots=True)
class Counts:
    """What was used, as columns; money in nano-dollars."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    tool_calls: int = 0
    cost: int = 0
    unpriced: int = 0

    @classmethod
    def of(cls, usage: Usage) -> Counts:
        """Of a usage of the log; what does not say how much of it has no price has none, unless it has a cost."""
        unpriced = usage.unpriced
        if unpriced is None:
            unpriced = 0 if usage.nano_dollars else usage.requests
        return cls(
            usage.requests,
            usage.input_tokens,
            usage.output_tokens,
            usage.cache_read_tokens,
            usage.cache_write_tokens,
            usage.tool_calls,
            usage.nano_dollars,
            unpriced,
        )

    def add(self, other: Counts, sign: int = 1) -> None:
        """Add what another one counts."""
        self.requests += sign * other.requests
        self.input_tokens += sign * other.input_tokens
        self.output_tokens += sign * other.output_tokens
        self.cache_read_tokens += sign * other.cache_read_tokens
        self.cache_write_tokens += sign * other.cache_write_tokens
        self.tool_calls += sign * other.tool_calls
        self.cost += sign * other.cost
        self.unpriced += sign * other.unpriced

    def row(self) -> tuple[int, ...]:
        """The values of the columns."""
        return _row_of(self)


COUNTED = tuple(one.name for one in fields(Counts))
"""The columns of counts."""

_TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")

_row_of: Callable[[Counts], tuple[int, ...]] = attrgetter(*COUNTED)


def _columns(*names: str) -> Callable[[Sequence[int]], tuple[int, ...]]:
    return itemgetter(*map(COUNTED.index, names))


used = _columns("requests", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "tool_calls")
"""Of counts those that a `Usage` begins with, in its order."""

paid = _columns("cost", "unpriced")
"""Of counts what was paid, and how much of it has no known price."""


@dataclass(slots=True)
class ToolFacts:
    """How often a run has called a tool, and how often that came back as an error."""

    calls: int = 0
    errors: int = 0


@dataclass(slots=True)
class Facts:
    """One run, top-level or below another, without those below it."""

    run: Run
    used: Counts
    models: dict[str, Counts]
    tools: dict[str, ToolFacts]
    ratings: dict[str, Rating]
    """By source, the newest one."""
    with_members: Counts = field(default_factory=Counts)

    @property
    def model(self) -> str | None:
        """The model of the run: the one that it used most."""
        known = {name: used.requests for name, used in self.models.items() if name != UNKNOWN}
        return max(known, key=lambda name: (known[name], name)) if known else None

    @property
    def duration(self) -> int | None:
        """Microseconds from its start to its end; None while it is not over."""
        run = self.run
        return None if run.ended_us is None else max(0, run.ended_us - run.started_us)

    @property
    def first_token(self) -> int | None:
        """Microseconds from its start to the first part of an answer; None where responses are not streamed."""
        found: Any = self.run.first_token_us
        return found if type(found) is int and 0 <= found <= MOST else None

    @property
    def error(self) -> str | None:
        """The type of its error."""
        error = self.run.error
        return None if error is None else storable(str(error.get("type") or "Error"))


def facts_of(run: Run) -> Facts:
    """The facts of one run."""
    used = Counts.of(run.own_usage)
    models: dict[str, Counts] = {}
    for name, one in _responses(run.messages):
        models.setdefault(name, Counts()).add(one)
    rest = Counts(*used.row())
    rest.tool_calls = 0  # of the run, whichever model asked for them
    for one in models.values():
        rest.add(one, -1)
    if any(rest.row()):
        target = next(iter(models)) if len(models) == 1 else UNKNOWN  # a rounded sum, or what no message tells of
        models.setdefault(target, Counts()).add(rest)
    ratings = {one.source: one for one in run.ratings}
    facts = Facts(run, used, models, dict(_tools(run.messages)), ratings, Counts.of(run.usage))
    _check_numbers(facts)
    return facts


MOST = 2**53
"""The largest number that an index takes: sums of a thousand of them fit into every database's integers."""


def _check_numbers(facts: Facts) -> None:
    """Raise `ValueError` for numbers that no column can hold: those of messages are whatever somebody has written."""
    run = facts.run
    counts = [*facts.used.row(), *facts.with_members.row(), run.started_us, run.ended_us or 0]
    for used in facts.models.values():
        counts += used.row()
    if set(map(type, counts)) != {int} or max(counts) > MOST or min(counts) < -MOST:
        raise ValueError("a number that is too large")
    for rating in facts.ratings.values():
        float(rating.score or 0)


def all_facts(runs: Iterable[Run]) -> Iterator[Facts]:
    """The facts of some runs and of all that are below them.

    One of a step or a member in a session of its own is a run of that session, where it is counted, and is not told
    again.
    """
    for run in runs:
        if not run.counted_there:
            yield facts_of(run)
            yield from all_facts(run.children)


def _responses(messages: Iterable[Message]) -> Iterator[tuple[str, Counts]]:
    for message in messages:
        data = message.data
        if not (message.format or "").startswith(PYDANTIC_AI) or data.get("kind") != "response":
            continue
        if data.get("provider_name") == MADE_UP:
            continue
        usage: JsonObject = data.get("usage") or {}
        price = usage.get("cost")
        cost = _nano(price)
        tokens = [count if isinstance(count, int) else 0 for count in map(usage.get, _TOKENS)]
        one = Counts(1, *tokens, cost=cost or 0, unpriced=int(cost is None))
        yield storable(str(data.get("model_name") or UNKNOWN)), one


def _nano(price: Any) -> int | None:
    try:
        return None if price is None else round(Decimal(str(price)) * NANO)
    except ArithmeticError:
        return None


def _tools(messages: Iterable[Message]) -> dict[str, ToolFacts]:
    tools: dict[str, ToolFacts] = {}
    for message in messages:
        if not (message.format or "").startswith(PYDANTIC_AI):
            for name, count in Counter(_openai_calls(message.data)).items():
                tools.setdefault(name, ToolFacts()).calls += count
            continue
        parts: Any = message.data.get("parts")
        for item in cast("list[Any]", parts) if isinstance(parts, list) else ():
            part: JsonObject = cast(JsonObject, item) if isinstance(item, dict) else {}
            name, kind = part.get("tool_name"), part.get("part_kind")
            if not isinstance(name, str) or not name:
                continue
            if kind in ("tool-call", "builtin-tool-call"):
                tools.setdefault(storable(name), ToolFacts()).calls += 1
            elif kind == "retry-prompt" or part.get("outcome") in ("failed", "denied"):
                tools.setdefault(storable(name), ToolFacts()).errors += 1
    return tools


def _openai_calls(data: Any) -> Iterator[str]:
    calls: Any = cast(JsonObject, data).get("tool_calls") if isinstance(data, dict) else None
    for item in cast("list[Any]", calls) if isinstance(calls, list) else ():
        function: Any = cast(JsonObject, item).get("function") if isinstance(item, dict) else None
        name: Any = cast(JsonObject, function).get("name") if isinstance(function, dict) else None
        if isinstance(name, str) and name:
            yield storable(name)
