"""Many sessions at once on SQLite: an agent's turns per second, with and without commits of several sessions together.

The floor has a connection of its own in each thread, and one lock for who writes (SQLite's own wait is a sleep, and ten
times as slow); each of its commits goes alone.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sessile import SqliteStorage
from sessile.drivers.sqlite import SqliteDriver

from .floor import Floor
from .measure import Stats, interleave, timed
from .payload import Exchange, exchange
from .servers import SESSIONS, TURNS_AT_ONCE, agent_async, agent_sync
from .servers import fill as fill_all
from .tables import Table
from .turn import calibrate

WANTED = 1.1


class Alone(SqliteStorage):
    """Each commit waits for the disk by itself."""

    def __init__(self, path: Path, *, on_loop: bool = False) -> None:
        super().__init__(path, on_loop=on_loop)
        core = self._core
        assert core is not None
        assert isinstance(core.driver, SqliteDriver)
        core.driver._batches = None


class Floors:
    """The floor, one connection for each thread."""

    def __init__(self, path: Path, padding: tuple[int, int]) -> None:
        self._make = lambda: Floor(path, *padding)
        self._here = threading.local()
        self._writing = threading.Lock()

    @property
    def here(self) -> Floor:
        """That of this thread."""
        if not hasattr(self._here, "floor"):
            self._here.floor = self._make()
        return self._here.floor

    def turn(self, session_id: str, turn: Exchange) -> None:
        """Load head and last 3 runs, append one run."""
        head, runs = self.here.load(session_id, 3)
        assert len(runs) == 3
        with self._writing:
            self.here.append(session_id, head, turn)


def run(data: Path, rounds: int = 20) -> Table:
    """Measure, and return the table."""
    names = [f"busy-{number}" for number in range(SESSIONS)]
    floors = Floors(data / "together-floor.db", calibrate(data)[2])
    together, alone = SqliteStorage(data / "together.db"), Alone(data / "alone.db")
    on_loop, alone_on_loop = SqliteStorage(data / "loop.db", on_loop=True), Alone(data / "alone-loop.db", on_loop=True)
    for name in names:
        floors.here.fill(name, 10)
    for storage in (together, alone, on_loop, alone_on_loop):
        fill_all(storage, dict.fromkeys(names, 10))
    turn = exchange(11)

    def work(one: Callable[[str], object], name: str) -> None:
        for _ in range(TURNS_AT_ONCE):
            one(name)

    async def gathered(one: Callable[[str], Awaitable[object]]) -> None:
        async def awork(name: str) -> None:
            for _ in range(TURNS_AT_ONCE):
                await one(name)

        await asyncio.gather(*map(awork, names))

    with ThreadPoolExecutor(SESSIONS) as executor, asyncio.Runner() as runner:

        def threads(one: Callable[[str], object]) -> Callable[[], float]:
            return lambda: timed(lambda: list(executor.map(lambda name: work(one, name), names)))

        def tasks(storage: SqliteStorage) -> Callable[[], float]:
            return lambda: timed(lambda: runner.run(gathered(lambda name: agent_async(storage, name, turn))))

        contenders = {
            "floor": threads(lambda name: floors.turn(name, turn)),
            "alone": threads(lambda name: agent_sync(alone, name, turn)),
            "together": threads(lambda name: agent_sync(together, name, turn)),
            "alone async": tasks(alone),
            "together async": tasks(together),
            "alone on_loop": tasks(alone_on_loop),
            "together on_loop": tasks(on_loop),
        }
        interleave(contenders, 2)
        stats = {name: Stats.of(times) for name, times in interleave(contenders, rounds).items()}
    for storage in (together, alone, on_loop, alone_on_loop):
        storage.close()
    rates = {name: SESSIONS * TURNS_AT_ONCE / found.median for name, found in stats.items()}
    table = Table(
        f"{SESSIONS} sessions at once on SQLite (an agent's turns per second, median of {rounds})",
        ["face", "floor", "each commit alone", "together", "alone/floor", "together/floor", "wanted"],
    )
    for face, end in (("sync", ""), ("async", " async"), ("async, on_loop=True", " on_loop")):
        both = [rates[f"alone{end}"], rates[f"together{end}"]]
        cells = [f"{rate:,.0f}" for rate in (rates["floor"], *both)]
        ratios = [f"{rate / rates['floor']:.2f}" for rate in both]
        what = f"{face}, {SESSIONS} {'tasks' if end else 'threads'}"
        word = "ok" if both[1] >= WANTED * rates["floor"] else "UNDER"
        table.rows.append([what, *cells, *ratios, f">= {WANTED:g} {word}"])
    table.notes.append("The floor of the tasks is the threads' one.")
    return table
