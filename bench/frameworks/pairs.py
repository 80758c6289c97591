"""What every framework's script shares: it fills both sides, runs turns of the one and the other in turn, prints JSON.

Scripts run as `python -m bench.frameworks.<name>` in the framework's environment, with Sessile's source on the path.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

SECONDS = 6.0
"""A pair stops after this much measuring, but never before `LEAST` turns."""
LEAST = 7


class Took(NamedTuple):
    """Seconds: by the clock, and of processor time in all threads of the process."""

    wall: float
    cpu: float


class Side(ABC):
    """One backend of a framework: the framework's own, or ours."""

    @abstractmethod
    def fill(self, turns: int) -> None:
        """Make a session of that many turns; not measured."""

    @abstractmethod
    def turn(self) -> Took:
        """What the framework asks of its storage in one turn; returns how long it took."""


def timed(work: Callable[[], object]) -> Took:
    """How long it takes."""
    start, begun = time.perf_counter(), time.process_time()
    work()
    return Took(time.perf_counter() - start, time.process_time() - begun)


def measure(theirs: Side, ours: Side, turns: int, folders: Sequence[Path]) -> dict[str, float]:
    """Medians in ms, and the bytes that both have on disk after the same turns."""
    times: list[tuple[Took, Took]] = []
    for side in (theirs, ours):
        side.fill(turns)
        side.turn()
    stop = time.perf_counter() + SECONDS
    while len(times) < LEAST or (time.perf_counter() < stop and len(times) < 60):
        times.append((theirs.turn(), ours.turn()))
    sizes = [sum(path.stat().st_size for path in folder.iterdir()) for folder in folders]
    found: dict[str, float] = {}
    for name, column, size in zip(("theirs", "ours"), zip(*times, strict=True), sizes, strict=True):
        found[name] = statistics.median(one.wall for one in column) * 1000
        found[f"{name}_cpu"] = statistics.median(one.cpu for one in column) * 1000
        found[f"{name}_bytes"] = size
    return found


def main(rows: dict[str, tuple[Callable[[Path], Side], Callable[[Path], Side]]]) -> None:
    """The command line of a framework's script."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--turns", default="10,1000")
    options = parser.parse_args()
    results: dict[str, dict[str, dict[str, float]]] = {}
    for name, (make_theirs, make_ours) in rows.items():
        for turns in map(int, options.turns.split(",")):
            with tempfile.TemporaryDirectory(dir=".") as place:
                folders = [Path(place, "theirs"), Path(place, "ours")]
                for folder in folders:
                    folder.mkdir()
                sides = (make_theirs(folders[0] / "theirs.db"), make_ours(folders[1] / "ours.db"))
                results.setdefault(name, {})[str(turns)] = measure(*sides, turns, folders)
    print(json.dumps(results), flush=True)
