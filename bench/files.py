"""Turns on JSON and YAML files, next to a floor by hand that appends one line and waits for the disk.

The floor keeps a log in JSON Lines and nothing else: it reads the last lines from the end of the file, appends one of
as many bytes as Sessile's, and calls `fdatasync`. No head, no lock, no index for lists, no second writer in mind.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from sessile import JsonStorage, YamlStorage
from sessile.storage import Storage

from .file_floor import FileFloor
from .measure import Stats, interleave, ms, timed
from .payload import Exchange, exchange
from .tables import Table, verdict
from .turn import BATCH, GROWTH_LIMIT, USER, Medians, Pool, add

LIMITS = (2.1, 2.8)
"""Of JSON and of YAML."""
SHOWN = ("floor", "head", "JSON", "YAML")
KINDS: dict[str, type[Storage]] = {"JSON": JsonStorage, "YAML": YamlStorage}


def turn(storage: Storage, session_id: str, exchange: Exchange) -> None:
    """One turn on the synchronous face."""
    view = storage.get_session(session_id, last_runs=3, user_id=USER)
    assert view is not None
    assert len(view.runs) == 3
    add(storage, session_id, exchange)


def line_size(data: Path) -> int:
    """The bytes of a run in the log of a `JsonStorage`."""
    with JsonStorage(data / "probe") as storage:
        add(storage, "s", exchange(1))
        add(storage, "s", exchange(2))
    (log,) = (data / "probe" / "sessions").glob("*/log.jsonl")
    return len(log.read_bytes().splitlines()[-1])


def run(sizes: Sequence[int], rounds: int, data: Path) -> tuple[Table, Medians]:
    """Measure, and return the table and the medians."""
    turns = rounds * BATCH
    floor = FileFloor(data / "floor", line_size(data))
    heads = FileFloor(data / "heads", floor.line, heads=True)
    storages = {name: kind(data / name) for name, kind in KINDS.items()}
    started = time.perf_counter()
    for size in sizes:
        for session_id in Pool(size, turns).names:
            floor.fill(session_id, size)
            heads.fill(session_id, size)
            for storage in storages.values():
                fill(storage, session_id, size)
    filled = time.perf_counter() - started
    contenders: dict[str, Callable[[], float]] = {}
    for size in sizes:
        contenders[f"floor {size}"] = contender(floor.turn, Pool(size, turns))
        contenders[f"head {size}"] = contender(heads.turn, Pool(size, turns))
        for name, storage in storages.items():
            contenders[f"{name} {size}"] = contender(partial(turn, storage), Pool(size, turns))
    interleave(contenders, 2, BATCH)
    times = interleave(contenders, rounds, BATCH)
    stats = {name: Stats.of(values) for name, values in times.items()}
    for storage in storages.values():
        storage.close()
    medians = {
        f"sessile: {name}": {size: (stats[f"{name} {size}"].median, stats[f"floor {size}"].median) for size in sizes}
        for name in KINDS
    }
    return table(sizes, stats, turns, filled), medians


def contender(turn: Callable[[str, Exchange], None], pool: Pool) -> Callable[[], float]:
    """Measures one turn on the next session of a pool."""
    return lambda: timed(lambda: turn(*pool.next()))


def fill(storage: Storage, session_id: str, runs: int) -> None:
    """Make a session of that many runs. Waiting for the disk is left out meanwhile."""
    sync, os.fdatasync = os.fdatasync, lambda _: None
    try:
        for number in range(1, runs + 1):
            add(storage, session_id, exchange(number))
    finally:
        os.fdatasync = sync


def table(sizes: Sequence[int], stats: dict[str, Stats], turns: int, filled: float) -> Table:
    """The figures as a table."""
    result = Table(
        f"A turn: load head and last 3 runs, append one run (files, ms, median and p95 of {turns})",
        ["runs in session", "floor", "with a head", "JSON", "YAML", "JSON/floor", "YAML/floor", "wanted"],
    )
    for size in sizes:
        cells = [stats[f"{kind} {size}"] for kind in SHOWN]
        ratios = [cell.median / cells[0].median for cell in cells[2:]]
        result.rows.append(
            [
                f"{size:,}",
                *[f"{ms(cell.median)} ({ms(cell.p95)})" for cell in cells],
                *[f"{ratio:.2f}" for ratio in ratios],
                ", ".join(f"<= {limit:g} {verdict(ratio, limit)}" for ratio, limit in zip(ratios, LIMITS, strict=True)),
            ]
        )
    growth = [stats[f"{kind} {sizes[-1]}"].median / stats[f"{kind} {sizes[0]}"].median for kind in SHOWN]
    label = f"{sizes[-1]:,} / {sizes[0]:,}"
    limit = f"<= {GROWTH_LIMIT:g} {verdict(max(growth[2:]), GROWTH_LIMIT)}"
    result.rows.append([label, *[f"{value:.2f}" for value in growth], "", "", limit])
    result.notes.append("The floor appends a line and calls fdatasync; the next column also replaces a head.")
    result.notes.append(f"Filling the sessions took {filled:.0f} s.")
    return result
