"""What every peer's script shares: it fills sessions, runs turns next to the floor, and prints JSON.

A peer is measured as its own agent uses it: the calls on its storage that one turn of its runner makes,
with the same texts and token counts as ours, and nothing of its model loop. Scripts run as `python -m
bench.peers.<name>` in the peer's environment; only the standard library and the peer are imported.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..floor import Floor
from ..measure import Stats, timed
from ..payload import Exchange, exchange
from ..sizes import probe

SECONDS_PER_CELL = 4.0
"""A cell of the table stops after this much measuring (but never before `LEAST` turns)."""
LEAST = 5
PROBED = 100


class Variant(ABC):
    """One way to configure a peer.

    Attributes:
        name: what is shown; the default configuration is called `default`.
        note: in which way it stores or reads less than Sessile's turn, or another remark; may be empty.
        stores_less: its turn keeps less of what happened than Sessile's.
        largest: the longest session that is measured, where more would take minutes.
    """

    name: str = "default"
    note: str = ""
    stores_less: bool = False
    largest: int | None = None

    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    def fill(self, session_id: str, runs: int) -> None:
        """Create a session of that many runs; not measured, may use bulk calls that leave the same rows."""

    @abstractmethod
    def turn(self, session_id: str, turn: Exchange) -> float:
        """The storage calls of one turn; returns the seconds that they took."""

    @abstractmethod
    def durability(self) -> str:
        """Journal mode and synchronous level of the connection that the peer itself uses."""

    def close(self) -> None:
        """Close what was opened."""


def measure(make: Callable[[Path], Variant], size: int, turns: int, folder: Path) -> dict[str, Any]:
    """Fill sessions of `size` runs, warm up, then turns of the peer and of the floor in alternation."""
    path = folder / f"{size}.db"
    variant, floor = make(path), Floor(folder / f"floor-{size}.db")
    pool = [f"s{i}" for i in range(math.ceil(turns / max(1, size // 5)))]
    started = time.perf_counter()
    for session_id in pool:
        variant.fill(session_id, size)
        floor.fill(session_id, size)
    variant.close()
    filled, variant = time.perf_counter() - started, make(path)
    first = variant.turn(pool[0], exchange(size + 1))
    for session_id in pool[1:]:
        variant.turn(session_id, exchange(size + 1))
    peer_times: list[float] = []
    floor_times: list[float] = []
    stop = time.perf_counter() + SECONDS_PER_CELL
    for number in range(turns):
        session_id, turn = pool[number % len(pool)], exchange(size + 2 + number)
        floor_times.append(timed(lambda s=session_id, t=turn: floor.turn(s, t)))
        peer_times.append(variant.turn(session_id, turn))
        if time.perf_counter() > stop and number + 1 >= LEAST:
            break
    result = {
        "turn": Stats.of(peer_times).as_dict(),
        "floor": Stats.of(floor_times).as_dict(),
        "first": first,
        "filled": filled,
        "durability": variant.durability(),
    }
    if size <= PROBED:
        result["written"] = asdict(probe(path, lambda: variant.turn(pool[0], exchange(size + turns + 3))))
    variant.close()
    floor.close()
    return result


def main(packages: Sequence[str], variants: Sequence[type[Variant]]) -> None:
    """The command line of a peer's script."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", required=True)
    parser.add_argument("--turns", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    results: list[dict[str, Any]] = []
    for kind in variants:
        cells: dict[str, Any] = {}
        for size in sizes:
            if kind.largest is not None and size > kind.largest:
                continue
            folder = options.folder / f"{kind.__name__}-{size}"
            folder.mkdir(parents=True)
            cells[str(size)] = measure(kind, size, options.turns, folder)
            shutil.rmtree(folder)
        results.append({"name": kind.name, "note": kind.note, "stores_less": kind.stores_less, "cells": cells})
    versions = {package: version(package) for package in packages}
    print(json.dumps({"versions": versions, "variants": results}), flush=True)
