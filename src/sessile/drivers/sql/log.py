"""How the log is read: which of the three statements of `queries.sql` serves a span, and with what parameters."""

from __future__ import annotations

from typing import Any

from ...storage.driver import Span

FEW_RUNS = 500
"""Up to how many runs are read by their index; more of them are read in the order of the log."""

LAST = 2**62
"""Where an open span ends."""


def span_statement(span: Span) -> tuple[str, dict[str, Any]]:
    """The name of the statement that reads a span, and its parameters but for the session's."""
    parameters: dict[str, Any] = {
        "first": span.first,
        "last": LAST if span.last is None else span.last,
        "limit": span.limit,
    }
    if span.runs is None:
        return "entries", parameters
    first, last = span.runs
    parameters |= {"first_run": max(first, 1), "last_run": last}
    return "entries_of_few_runs" if last - first < FEW_RUNS else "entries_of_runs", parameters


def direction(span: Span) -> str:
    """`ASC` or `DESC`."""
    return "DESC" if span.newest_first else "ASC"
