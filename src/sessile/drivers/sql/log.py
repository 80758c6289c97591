"""How log and records are read: which of the statements of `queries.sql` serves a span, and with what parameters."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from ...storage.driver import Span

FEW_RUNS = 500
"""Up to how many runs are read by their index; more of them are read in the order of the log."""

MAX_ID_BYTES = 255
"""The longest id, name or key, in bytes of UTF-8."""

LAST = 2**62
"""Where an open span ends."""


def span_statement(span: Span) -> tuple[str, dict[str, Any]]:
    """The name of the statement that reads a span, and its parameters but for the session's."""
    parameters: dict[str, Any] = {
        "first": span.first,
        "last": LAST if span.last is None else span.last,
        "limit": span.limit,
    }
    first, last = span.runs or (0, LAST)
    if span.runs is not None or span.key is not None:
        parameters |= {"first_run": first if span.runs is None else max(first, 1), "last_run": last}
    if span.key is not None:
        return "entries_of_key", {**parameters, "key": span.key}
    if span.runs is None:
        return "entries", parameters
    if 1 <= first == last:  # no commit is of run 0
        del parameters["last_run"]
        return "entries_of_run", parameters
    return "entries_of_few_runs" if last - first < FEW_RUNS else "entries_of_runs", parameters


LOOK = 16
"""Of how many commits it is looked at first how many bytes they have, where that must be read to be known."""


async def count_within(
    sizes: Callable[[dict[str, Any]], Awaitable[Sequence[tuple[int, int]]]], parameters: Mapping[str, Any], span: Span
) -> int:
    """How many commits of a span a page of it has that ends by its bytes.

    Looked at in steps that grow, because a server may read whole bodies for that: so it reads a few times what the page
    has at most, and sends nothing of it.

    Args:
        sizes: brings `seq` and the number of bytes of commits, in the span's direction, by parameters as of
            `span_statement`.
        parameters: those of the whole span.
        span: with a `max_bytes`.
    """
    assert span.max_bytes is not None, "asked for by the caller"
    if span.limit <= LOOK // 4:
        return span.limit
    count, left, step = 0, span.max_bytes, LOOK
    here = dict(parameters)
    while True:
        here["limit"] = min(step, span.limit - count)
        found = await sizes(here)
        for _, size in found:
            count += 1
            left -= size
            if left <= 0:
                return count
        if len(found) < here["limit"] or count == span.limit:
            return count
        here |= {"last": found[-1][0] - 1} if span.newest_first else {"first": found[-1][0] + 1}
        step *= 4


def last_with(prefix: str) -> str:
    """What follows, in the order of code points, after every id that begins with `prefix`; none is longer."""
    return prefix + "\U0010ffff" * (MAX_ID_BYTES // 4 + 1)


def direction(span: Span) -> str:
    """`ASC` or `DESC`."""
    return "DESC" if span.newest_first else "ASC"
