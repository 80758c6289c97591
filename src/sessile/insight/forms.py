"""What was used, as a table, and in the forms of others: JSON, CSV, Prometheus text, and charts of one line."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from ..jsons import PERCENTILES
from ..records import NANO, JsonObject, Usage, datetime_of
from .adding import Group

COUNTS = (
    "requests",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "tool_calls",
)
TIMES = (
    ("run_seconds", "How long runs took that are over.", ""),
    (
        "first_token_seconds",
        "How long it took until the first part of an answer came, where it was streamed.",
        "first_token_",
    ),
)
"""Percentiles that are told: the name of each measure, what it is, and how its fields begin."""

BARS = "▁▂▃▄▅▆▇█"

_HELP = {
    "runs": "Runs.",
    "errors": "Runs that failed; by tool: calls that failed.",
    "requests": "Requests to models.",
    "input_tokens": "Tokens sent to models.",
    "output_tokens": "Tokens that models made.",
    "cache_read_tokens": "Tokens read from caches of models.",
    "cache_write_tokens": "Tokens written to caches of models.",
    "tool_calls": "Calls of tools.",
    "cost_dollars": "What is known of the cost, in dollars.",
    "unpriced_requests": "Requests whose price is not known.",
}


@dataclass(slots=True)
class UsageRow:
    """What was used in one group.

    Attributes:
        group: what the row is about, in the order of `by`: datetimes (the beginning of an hour, day, week or month, in
            the zone that was asked for) and names, None where there is none.
        runs: how many runs, those of members not among them; by tool: how many runs called it.
        errors: how many of them failed; by tool: how many calls failed.
        usage: what they used; by tool only `tool_calls`.
        p50, p95, p99: how long the runs took that are over, as percentiles, within one percent; None where there are
            none, and by model and tool, which take a part of a run.
        first_token_p50, first_token_p95, first_token_p99: how long it took until the first part of an answer came, of
            the runs whose responses were streamed; None where those are.
    """

    group: tuple[datetime | str | None, ...]
    runs: int = 0
    errors: int = 0
    usage: Usage = field(default_factory=Usage)
    p50: timedelta | None = None
    p95: timedelta | None = None
    p99: timedelta | None = None
    first_token_p50: timedelta | None = None
    first_token_p95: timedelta | None = None
    first_token_p99: timedelta | None = None

    @property
    def cost(self) -> Decimal | None:
        """Dollars; None where the price of a request is not known."""
        return None if self.usage.unpriced else self.known_cost

    @property
    def known_cost(self) -> Decimal:
        """Dollars, of what is known."""
        return Decimal(self.usage.nano_dollars) / NANO


@dataclass(slots=True)
class UsageTable:
    """What was used, a row for each group, ordered by group; `total` is about all of it.

    Attributes:
        by: what it is told by.
        rows: the groups in which there is anything.
        total: all of it together.
        complete_until_us: all that was committed before is in it; `complete_until` as a datetime.
    """

    by: tuple[Group, ...]
    rows: list[UsageRow]
    total: UsageRow
    complete_until_us: int = 0

    @property
    def complete_until(self) -> datetime:
        """All that was committed before this moment is in it."""
        return datetime_of(self.complete_until_us)

    def to_json(self) -> JsonObject:
        """As JSON: `rows` and `total`, times as ISO 8601, costs in dollars as text, durations in seconds."""
        return table_json(self)

    def csv(self) -> str:
        """As CSV: a line for each row, under a line of names; what is unknown is empty."""
        return table_csv(self)

    def prometheus(self) -> str:
        """As the text that Prometheus reads, the groups as labels; gauges, because runs may be deleted."""
        return _prometheus(self)

    def charts(self) -> dict[str, str]:
        """Lines of bars over the rows: `runs`, `errors`, `tokens`, `cost` (what is known), `p50`."""
        return dict(charts(self))


def row_json(groups: Sequence[str], row: UsageRow) -> JsonObject:
    """A row as an object: its groups, counts, cost in dollars as text (null if unknown), and percentiles in seconds."""
    named: JsonObject = {group: _plain(value) for group, value in zip(groups, row.group, strict=True)}
    counts = {name: getattr(row.usage, name) for name in COUNTS}
    took = {name: _seconds(getattr(row, name)) for name in PERCENTILES}
    cost = {
        "cost": None if row.cost is None else f"{row.cost:f}",
        "known_cost": f"{row.known_cost:f}",
        "unpriced": row.usage.unpriced or 0,
    }
    return {**named, "runs": row.runs, "errors": row.errors, **counts, **cost, **took}


def table_json(table: UsageTable) -> JsonObject:
    """All rows, and their total."""
    return {
        "complete_until": table.complete_until.isoformat(),
        "rows": [row_json(table.by, row) for row in table.rows],
        "total": row_json((), table.total),
    }


def table_csv(table: UsageTable) -> str:
    """A line for each row, under a line of names; what is unknown is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*table.by, *row_json((), table.total)])
    for row in table.rows:
        writer.writerow([_cell(value) for value in row_json(table.by, row).values()])
    return text.getvalue()


class Measure(NamedTuple):
    """One number of each group: its name, what it is, and the labels and the number of each."""

    name: str
    about: str
    points: Sequence[tuple[Mapping[str, str], int | float | Decimal]]


def measures(table: UsageTable) -> Iterator[Measure]:
    """What systems of metrics are told: gauges, because runs may be deleted, and a counter must never fall."""
    rows = table.rows if table.by else [table.total]
    labelled = [
        (dict[str, str](zip(table.by, (_cell(_plain(one)) for one in row.group), strict=True)), row) for row in rows
    ]
    for name, about in _HELP.items():
        yield Measure(name, about, [(labels, _metric(name, row)) for labels, row in labelled])
    shares = (("p50", "0.5"), ("p95", "0.95"), ("p99", "0.99"))
    for measure, about, prefix in TIMES:
        took = [
            ({**labels, "quantile": share}, seconds)
            for labels, row in labelled
            for name, share in shares
            if (seconds := _seconds(getattr(row, prefix + name))) is not None
        ]
        yield Measure(measure, about, took)


def _prometheus(table: UsageTable) -> str:
    """The text format of Prometheus, which ends with a line feed."""
    lines: list[str] = []
    for name, about, points in measures(table):
        metric = f"sessile_{name}"
        lines += [f"# HELP {metric} {about}", f"# TYPE {metric} gauge"]
        lines += [f"{metric}{_labels(labels)} {_number(value)}" for labels, value in points]
    return "\n".join([*lines, ""])


def _metric(name: str, row: UsageRow) -> int | Decimal:
    if name == "cost_dollars":
        return row.known_cost
    if name == "unpriced_requests":
        return row.usage.unpriced or 0
    return getattr(row, name) if name in ("runs", "errors") else getattr(row.usage, name)


def _number(value: float | Decimal) -> str:
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


def _labels(labels: Mapping[str, str]) -> str:
    said = ",".join(f'{group}="{_escaped(value)}"' for group, value in labels.items())
    return f"{{{said}}}" if said else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def chart(values: Sequence[float]) -> str:
    """A line of bars, one for each value, as high as it is beside the largest; nothing is a blank."""
    most = max(values, default=0)
    return "".join(_bar(value / most) if most > 0 and value > 0 else " " for value in values)


def _bar(share: float) -> str:
    return BARS[min(len(BARS) - 1, int(share * len(BARS)))]


def charts(table: UsageTable) -> Iterator[tuple[str, str]]:
    """A chart of each of runs, errors, tokens, known cost and the median time, over the rows of a table."""
    yield "runs", chart([row.runs for row in table.rows])
    yield "errors", chart([row.errors for row in table.rows])
    yield "tokens", chart([row.usage.input_tokens + row.usage.output_tokens for row in table.rows])
    yield "cost", chart([float(row.known_cost) for row in table.rows])
    yield "p50", chart([_seconds(row.p50) or 0.0 for row in table.rows])


def _seconds(value: timedelta | None) -> float | None:
    return None if value is None else value.total_seconds()


def _plain(value: datetime | str | None) -> str | None:
    return value.isoformat() if isinstance(value, datetime) else value


def _cell(value: Any) -> str:
    return "" if value is None else str(value)
