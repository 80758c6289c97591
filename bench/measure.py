"""Timing and statistics. Standard library only."""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Stats:
    """Seconds: the middle, the 95th percentile, the best, and how many measurements they stand on."""

    median: float
    p95: float
    best: float
    count: int

    @classmethod
    def of(cls, seconds: list[float]) -> Stats:
        ordered = sorted(seconds)
        rank = min(len(ordered) - 1, math.ceil(0.95 * len(ordered)) - 1)
        return cls(statistics.median(ordered), ordered[rank], ordered[0], len(ordered))

    def as_dict(self) -> dict[str, Any]:
        """For one line of JSON."""
        return asdict(self)


def timed(call: Callable[[], object]) -> float:
    """Seconds that one call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def interleave(
    contenders: Mapping[str, Callable[[], float]], rounds: int, batch: int = 1, seed: int = 1
) -> dict[str, list[float]]:
    """Call every contender `batch` times in a row per round, in an order that is drawn anew for each round.

    A contender returns the seconds that it measured itself. What disturbs the machine for a while disturbs
    all of them.
    """
    rng = random.Random(seed)
    times: dict[str, list[float]] = {name: [] for name in contenders}
    order = list(contenders)
    for _ in range(rounds):
        rng.shuffle(order)
        for name in order:
            times[name].extend(contenders[name]() for _ in range(batch))
    return times


def ms(seconds: float) -> str:
    """Milliseconds with three significant digits or so."""
    value = seconds * 1000
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.3f}"
