"""What was used, as metrics: the numbers of `Index.usage`, read when a reader collects."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Unpack

from opentelemetry import metrics

from .._version import __version__
from ..insight.filters import RunFilters
from ..insight.forms import Measure, UsageTable, measures
from ..insight.index import Index
from ..insight.usage import Group
from ..records import ANY_USER, UserId
from ..storage.forking import Lock

SCOPE = "sessile"

TOGETHER = 1.0
"""Seconds for which the instruments of one collection share an answer."""

UNITS = {
    "cost_dollars": "{USD}",
    "run_seconds": "s",
    "first_token_seconds": "s",
    "input_tokens": "{token}",
    "output_tokens": "{token}",
}


def observe_usage(
    index: Index,
    *,
    by: Group | Sequence[Group] = "agent",
    user_id: UserId = ANY_USER,
    meter_provider: Any = None,
    **filters: Unpack[RunFilters],
) -> None:
    """Let OpenTelemetry tell what was used: `sessile.usage.runs`, `.errors`, `.input_tokens`, `.cost_dollars`, ….

    They are the numbers of `Index.usage` and of its Prometheus text, with the groups as attributes; gauges, because
    runs may be deleted. The index is asked, and brought up to date, whenever a reader collects, in its thread. Call it
    once; it lasts as long as the meter provider.

    Args:
        index: which one; it must stay open.
        by: the groups, as in `Index.usage`. Users and sessions are many: each is a series of its own.
        user_id: whose; default: all.
        meter_provider: where to; default: the program's own.
        **filters: which runs, as in `Index.runs`.

    Raises:
        InvalidInputError: an argument is wrong, or there is no such filter or group.
        StorageError: one of the databases failed.
    """
    meter = metrics.get_meter(SCOPE, __version__, meter_provider)
    answers = _Answers(lambda: index.usage(user_id=user_id, by=by, **filters))
    for name, about, _ in answers.now():  # what is wrong is said here, and not in a reader's thread

        def observed(options: Any, name: str = name) -> Iterator[Any]:
            for measure in answers.now():
                if measure.name == name:
                    for labels, value in measure.points:
                        yield metrics.Observation(value if isinstance(value, int) else float(value), labels)

        unit = UNITS.get(name, "1")
        meter.create_observable_gauge(f"sessile.usage.{name}", callbacks=[observed], unit=unit, description=about)


class _Answers:
    """One answer for all instruments that are read together."""

    def __init__(self, ask: Callable[[], UsageTable]) -> None:
        self._ask = ask
        self._lock = Lock()
        self._asked = 0.0
        self._told: list[Measure] = []

    def now(self) -> list[Measure]:
        with self._lock:
            if not self._told or time.monotonic() - self._asked > TOGETHER:
                self._told = list(measures(self._ask()))
                self._asked = time.monotonic()
            return self._told
