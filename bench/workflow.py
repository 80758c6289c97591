"""What a step of a workflow costs: an empty step beside a hand-written durable commit of the same bytes, and a replay.

The steps and the commits of the floor alternate in one process. A step is one commit: its result in the log, and the
head after it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from sessile import Context, SqliteStorage, Step, Workflow
from sessile.errors import StepFailedError

from .floor import Floor
from .measure import Stats, ms, timed
from .sizes import SqliteInspector
from .tables import Table, verdict

STEPS = 10_000
ENDS = 200
LIMIT, GROWTH_LIMIT, REPLAY_LIMIT = 1.8, 1.2, 0.08


class Commit:
    """The floor: one insert and one update of a head, in one durable commit."""

    def __init__(self, path: Path, log: int, head: int) -> None:
        self.floor = Floor(path)
        self.body, self.head, self.seq = "." * log, "." * head, 0
        self.floor.db.execute("INSERT INTO head VALUES ('s', 0, '')")

    def __call__(self) -> None:
        self.seq += 1
        execute = self.floor.db.execute
        execute("BEGIN IMMEDIATE")
        execute("INSERT INTO log (session_id, seq, body) VALUES ('s', ?, ?)", (self.seq, self.body))
        execute("UPDATE head SET revision = ?, body = ? WHERE session_id = 's'", (self.seq, self.head))
        execute("COMMIT")


async def nothing(number: int) -> int:
    return number


def plain(number: int) -> int:
    return number


def sizes(data: Path) -> tuple[int, int]:
    """Bytes that a step writes to the log, and of the head."""
    storage = SqliteStorage(data / "workflow-probe.db")

    async def flow(ctx: Context) -> None:
        for number in range(100):
            await ctx.step(nothing, number)

    Workflow(flow, storage=storage).run(session_id="s")
    storage.close()
    rows = SqliteInspector(data / "workflow-probe.db").session("s")
    commits = rows['"sessile_commits"']
    return commits[1] // commits[0], rows['"sessile_sessions"'][1]


def measured(
    storage: SqliteStorage, step: Callable[[int], Any], commit: Commit, steps: int
) -> tuple[list[float], list[float]]:
    """Seconds of each step, and of the floor's commit beside it."""
    ours: list[float] = []
    floor: list[float] = []

    async def flow(ctx: Context) -> None:
        for number in range(steps):
            start = time.perf_counter()
            await ctx.step(step, number)
            ours.append(time.perf_counter() - start)
            floor.append(timed(commit))

    asyncio.run(Workflow(flow, storage=storage).arun())
    return ours, floor


def replay(storage: SqliteStorage, steps: int) -> float:
    """Seconds until a workflow of so many finished steps has been replayed."""
    fail = [True]

    def last() -> None:
        if fail:
            fail.clear()
            raise OSError("down")

    async def flow(ctx: Context) -> None:
        for number in range(steps):
            await ctx.step(nothing, number)
        await ctx.step(Step(last))

    workflow: Workflow[None] = Workflow(flow, name="replayed", storage=storage)
    with suppress(StepFailedError):
        workflow.run(session_id="replayed")
    return timed(lambda: asyncio.run(workflow.aresume("replayed")))


def run(data: Path, steps: int = STEPS) -> Table:
    """Measure, and return the table."""
    log, head = sizes(data)
    commit = Commit(data / "workflow-floor.db", log, head)
    storage, on_loop = SqliteStorage(data / "workflow.db"), SqliteStorage(data / "workflow-loop.db", on_loop=True)
    table = Table(
        f"A step of a workflow (SQLite, ms, median and p95), and one hand-written commit of {log} + {head} bytes",
        ["step", "floor", "Sessile", "Sessile/floor", "wanted"],
    )
    for where in (storage, on_loop):
        measured(where, nothing, commit, 100)
    for name, where, step in (
        ("async function", storage, nothing),
        ("async function, on_loop=True", on_loop, nothing),
        ("plain function, in a thread", storage, plain),
    ):
        ours, floor = measured(where, step, commit, 1000)
        ratio = Stats.of(ours).median / Stats.of(floor).median
        _row(table, f"{name}, of 1,000", floor, ours, f"<= {LIMIT:g} {verdict(ratio, LIMIT)}")
    ours, floor = measured(storage, nothing, commit, steps)
    for name, part in ((f"steps 1 to {ENDS}", slice(ENDS)), (f"the last {ENDS} of {steps:,}", slice(-ENDS, None))):
        _row(table, name, floor[part], ours[part], "")
    growth = Stats.of(ours[-ENDS:]).median / Stats.of(ours[:ENDS]).median
    table.rows.append(["last / first", "", f"{growth:.2f}", "", f"<= {GROWTH_LIMIT:g} {verdict(growth, GROWTH_LIMIT)}"])
    seconds = replay(storage, steps)
    table.rows.append(
        [
            f"replay of {steps:,} steps",
            "",
            f"{seconds:.2f} s",
            "",
            f"<= {REPLAY_LIMIT:g} s {verdict(seconds, REPLAY_LIMIT)}",
        ]
    )
    storage.close()
    on_loop.close()
    return table


def _row(table: Table, name: str, floor: list[float], ours: list[float], wanted: str) -> None:
    below, above = Stats.of(floor), Stats.of(ours)
    cells = [f"{ms(stats.median)} ({ms(stats.p95)})" for stats in (below, above)]
    table.rows.append([name, *cells, f"{above.median / below.median:.2f}", wanted])
