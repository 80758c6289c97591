"""The cost of a turn: load the head and the last 3 runs, append one run of about 3 KB.

Five contenders: the hand-written floor with Python's `json`, the same with the JSON library that Sessile uses,
Sessile's synchronous face, its asynchronous face (one event loop, measured inside it), and the latter with
`on_loop=True`. All sessions of a contender, short and long, lie in one database, so that sizes differ in nothing but
the length of the session; all contenders and sizes are interleaved.
"""

from __future__ import annotations

import asyncio
import math
import shutil
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from sessile import SqliteStorage
from sessile.records import Usage
from sessile.storage import Storage

from .floor import Floor
from .measure import Stats, interleave, ms, timed
from .payload import Exchange, exchange, messages
from .sizes import Calibration, SqliteInspector, Written, calibration, padding_for
from .tables import Table, verdict

BATCH = 5
WARM_UP = 30
"""Rounds that are not measured: for caches, prepared statements and the worker thread, and until every database has a
write-ahead log of full size, as in a program that has run for a while. While the log grows, a commit takes longer."""
FORMAT = "pydantic-ai/2"
USER, AGENT = "ada", "support"
"""Whose the sessions are: as in production, and lists by them are kept with each turn."""
KINDS = ("floor", "quick floor", "sync", "async", "on_loop")
LIMITS, GROWTH_LIMIT = (1.4, 1.5, 1.5), 1.05


def add(storage: Storage, session_id: str, turn: Exchange) -> None:
    """Append the run of a turn, in one commit."""
    storage.add_run(
        session_id,
        input=turn.user,
        output=turn.answer,
        messages=messages(turn),
        usage=Usage(requests=1, input_tokens=turn.input_tokens, output_tokens=turn.output_tokens),
        format=FORMAT,
        user_id=USER,
        agent=AGENT,
    )


def turn_sync(storage: SqliteStorage, session_id: str, turn: Exchange) -> None:
    """One turn on the synchronous face."""
    view = storage.get_session(session_id, last_runs=3, user_id=USER)
    assert view is not None
    assert len(view.runs) == 3
    add(storage, session_id, turn)


async def turn_async(storage: SqliteStorage, session_id: str, turn: Exchange) -> float:
    """One turn on the asynchronous face; returns the seconds that it took."""
    start = time.perf_counter()
    view = await storage.aget_session(session_id, last_runs=3, user_id=USER)
    assert view is not None
    assert len(view.runs) == 3
    await storage.aadd_run(
        session_id,
        input=turn.user,
        output=turn.answer,
        messages=messages(turn),
        usage=Usage(requests=1, input_tokens=turn.input_tokens, output_tokens=turn.output_tokens),
        format=FORMAT,
        user_id=USER,
        agent=AGENT,
    )
    return time.perf_counter() - start


def calibrate(data: Path) -> tuple[Calibration, Calibration, tuple[int, int]]:
    """Sessile's and the floor's bytes, and the padding that the floor needs to write as many."""
    storage = SqliteStorage(data / "probe.db")
    for number in range(1, 11):
        add(storage, "s", exchange(number))
    ours = calibration(SqliteInspector(data / "probe.db"), "s", lambda: turn_sync(storage, "s", exchange(11)))
    storage.close()
    bare = calibrate_floor(data / "probe-bare.db", (0, 0))
    padding = padding_for(ours, bare)
    return ours, calibrate_floor(data / "probe-padded.db", padding), padding


def calibrate_floor(path: Path, padding: tuple[int, int]) -> Calibration:
    """What a turn of the floor writes."""
    floor = Floor(path, *padding)
    floor.fill("s", 10)
    result = calibration(SqliteInspector(path), "s", lambda: floor.turn("s", exchange(11)))
    floor.close()
    return result


class Pool:
    """Enough sessions of one size that measuring does not make them longer than twice that size."""

    def __init__(self, size: int, turns: int) -> None:
        self.size = size
        self.names = [f"{size}-{number}" for number in range(math.ceil(turns / size))]
        self.count = 0

    def next(self) -> tuple[str, Exchange]:
        """The session and the turn that come next; a batch stays on one session."""
        self.count += 1
        name = self.names[self.count // BATCH % len(self.names)]
        return name, exchange(self.size + self.count)


Medians = dict[str, dict[int, tuple[float, float]]]
"""By name and size: Sessile's median and the floor's."""


def run(sizes: Sequence[int], rounds: int, data: Path) -> tuple[Table, Medians, Written]:
    """Measure, and return the table, the medians and what a turn of Sessile writes."""
    ours, theirs, padding = calibrate(data)
    floor = Floor(data / "floor.db", *padding)
    turns, in_all = rounds * BATCH, (WARM_UP + rounds) * BATCH
    started = time.perf_counter()
    with SqliteStorage(data / "sync.db") as filling:
        for size in sizes:
            for session_id in Pool(size, 2 * in_all).names:
                floor.fill(session_id, size)
            for session_id in Pool(size, in_all).names:
                for number in range(1, size + 1):
                    add(filling, session_id, exchange(number))
    filled = time.perf_counter() - started
    for name in ("async.db", "loop.db"):
        shutil.copy(data / "sync.db", data / name)
    storage, astorage = SqliteStorage(data / "sync.db"), SqliteStorage(data / "async.db")
    on_loop = SqliteStorage(data / "loop.db", on_loop=True)
    loop = asyncio.new_event_loop()

    def of_floor(pool: Pool, *, quick: bool) -> float:
        floor.quick = quick
        return timed(lambda: floor.turn(*pool.next()))

    contenders: dict[str, Callable[[], float]] = {}
    for size in sizes:
        floors, *pools = Pool(size, 2 * in_all), *(Pool(size, in_all) for _ in range(3))
        contenders[f"floor {size}"] = partial(of_floor, floors, quick=False)
        contenders[f"quick floor {size}"] = partial(of_floor, floors, quick=True)
        contenders[f"sync {size}"] = lambda p=pools[0]: timed(lambda: turn_sync(storage, *p.next()))
        contenders[f"async {size}"] = lambda p=pools[1]: loop.run_until_complete(turn_async(astorage, *p.next()))
        contenders[f"on_loop {size}"] = lambda p=pools[2]: loop.run_until_complete(turn_async(on_loop, *p.next()))
    interleave(contenders, WARM_UP, BATCH)
    times = interleave(contenders, rounds, BATCH)
    stats = {name: Stats.of(values) for name, values in times.items()}
    floor.close()
    storage.close()
    loop.run_until_complete(astorage.aclose())
    loop.run_until_complete(on_loop.aclose())
    loop.close()
    medians = {
        f"sessile: {face}": {size: (stats[f"{face} {size}"].median, stats[f"floor {size}"].median) for size in sizes}
        for face in ("sync", "async")
    }
    return table(sizes, stats, ours, theirs, turns, filled), medians, ours.written


def table(
    sizes: Sequence[int],
    stats: dict[str, Stats],
    ours: Calibration,
    theirs: Calibration,
    turns: int,
    filled: float,
) -> Table:
    """The figures as a table."""
    result = Table(
        f"A turn: load head and last 3 runs, append one run (SQLite, ms, median and p95 of {turns})",
        ["runs in session", *KINDS, "sync/floor", "async/floor", "on_loop/floor", "wanted", "sync/quick floor"],
    )
    for size in sizes:
        floor, quick, *ours_of_size = (stats[f"{kind} {size}"] for kind in KINDS)
        ratios = [one.median / floor.median for one in ours_of_size]
        result.rows.append(
            [
                f"{size:,}",
                *[f"{ms(s.median)} ({ms(s.p95)})" for s in (floor, quick, *ours_of_size)],
                *[f"{ratio:.2f}" for ratio in ratios],
                ", ".join(f"<= {limit:g} {verdict(ratio, limit)}" for ratio, limit in zip(ratios, LIMITS, strict=True)),
                f"{ours_of_size[0].median / quick.median:.2f}",
            ]
        )
    first, last = sizes[0], sizes[-1]
    growth = [stats[f"{kind} {last}"].median / stats[f"{kind} {first}"].median for kind in KINDS]
    result.rows.append(
        [
            f"{last:,} / {first:,}",
            *[f"{value:.2f}" for value in growth],
            *[""] * 3,
            f"<= {GROWTH_LIMIT:g} {verdict(max(growth[2:]), GROWTH_LIMIT)}",
            "",
        ]
    )
    result.notes += [ours.note("Sessile"), theirs.note("floor")]
    result.notes.append(f"WAL of full size, synchronous=FULL on both. Filling the sessions took {filled:.0f} s.")
    return result
