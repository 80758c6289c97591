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

SECONDS = 6.0
"""A pair stops after this much measuring, but never before `LEAST` turns."""
LEAST = 7


class Side(ABC):
    """One backend of a framework: the framework's own, or ours."""

    @abstractmethod
    def fill(self, turns: int) -> None:
        """Make a session of that many turns; not measured."""

    @abstractmethod
    def turn(self) -> float:
        """What the framework asks of its storage in one turn; returns the seconds that it took."""


def timed(work: Callable[[], object]) -> float:
    """How long it takes, in seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(theirs: Side, ours: Side, turns: int, folders: Sequence[Path]) -> dict[str, float]:
    """Medians in ms, and the bytes that both have on disk after the same turns."""
    times: list[tuple[float, float]] = []
    for side in (theirs, ours):
        side.fill(turns)
        side.turn()
    stop = time.perf_counter() + SECONDS
    while len(times) < LEAST or (time.perf_counter() < stop and len(times) < 60):
        times.append((theirs.turn(), ours.turn()))
    sizes = [sum(path.stat().st_size for path in folder.iterdir()) for folder in folders]
    medians = [statistics.median(column) * 1000 for column in zip(*times, strict=True)]
    return {"theirs": medians[0], "ours": medians[1], "theirs_bytes": sizes[0], "ours_bytes": sizes[1]}


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
