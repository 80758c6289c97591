"""Memory of a process: many sessions that stream at once, a turn in a long session, very many turns.

Each is measured in a process of its own, on SQLite. What the table has is what the system has given to the process
(resident), after garbage is collected and the C library has given back what it holds free.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from sessile import SqliteStorage

from .payload import exchange
from .servers import fill
from .tables import Table
from .turn import turn_sync

STREAMS, WAVES = 1_000, 5
LONG = 10_000
MILESTONES = (1_000, 10_000, 30_000, 100_000)
SESSIONS = 1_000
"""Among how many sessions the turns are."""

Row = list[str]


def resident() -> float:
    """MB that the process has."""
    gc.collect()
    with suppress(OSError, AttributeError):  # of a C library that is not GNU's
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    return _status("VmRSS")


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:"))


# ---------------------------------------------------------------- what is measured, each in its own process


def streams(folder: Path) -> Iterator[Row]:
    """Sessions that are all in the middle of an answer at one moment, several times one after the other.

    They have as many runs as are sent along from the beginning: else each wave would have more to hold than the last.
    """
    from pydantic_ai.models.function import AgentInfo, FunctionModel

    from sessile import Agent

    there, at_once = 0, asyncio.Event()

    async def answer(history: list[Any], info: AgentInfo) -> AsyncIterator[str]:
        nonlocal there
        yield "The beginning of an answer, "
        there += 1
        await at_once.wait()
        yield exchange(1).answer

    async def one(agent: Any, session_id: str) -> None:
        async with agent.astream(exchange(1).user, session_id=session_id) as stream:
            async for _ in stream:
                pass

    async def wave(agent: Any, count: int) -> float:
        nonlocal there
        there = 0
        at_once.clear()
        tasks = [asyncio.create_task(one(agent, f"s{number}")) for number in range(count)]
        while there < count:
            await asyncio.sleep(0.05)
            for task in tasks:
                if task.done():
                    task.result()  # which says why
        streaming = resident()
        at_once.set()
        await asyncio.gather(*tasks)
        return streaming

    async def waves() -> AsyncIterator[Row]:
        async with SqliteStorage(folder / "streams.db") as storage:
            agent: Any = Agent(FunctionModel(stream_function=answer), storage=storage, history=3)
            await wave(agent, 10)
            before = resident()
            yield ["10 sessions have streamed", f"{before:.1f}", ""]
            for number in range(1, WAVES + 1):
                streaming = await wave(agent, STREAMS)
                each = f"{(streaming - before) * 1024 / STREAMS:.0f} KB for each"
                yield [f"{STREAMS:,} sessions streaming, wave {number} of {WAVES}", f"{streaming:.1f}", each]
                yield ["all of them have ended", f"{resident():.1f}", ""]

    async def all_rows() -> list[Row]:
        return [row async for row in waves()]

    yield from asyncio.run(all_rows())


def long(folder: Path) -> Iterator[Row]:
    """A turn in a session of few runs, then in one of very many."""
    with SqliteStorage(folder / "long.db") as storage:
        for runs in (10, LONG):
            for number in range(20):
                turn_sync(storage, f"{runs}", exchange(number))
            yield [f"turns in a session of {runs:,} runs", f"{resident():.1f}", f"{_status('VmHWM'):.1f} at most"]


def turns(folder: Path) -> Iterator[Row]:
    """Very many turns, in turn in many sessions."""
    with SqliteStorage(folder / "turns.db") as storage:
        for number in range(1, MILESTONES[-1] + 1):
            turn_sync(storage, f"s{number % SESSIONS}", exchange(number))
            if number in MILESTONES:
                yield [f"{number:,} turns in {SESSIONS:,} sessions", f"{resident():.1f}", ""]


MEASURED: dict[str, Callable[[Path], Iterator[Row]]] = {"streams": streams, "long": long, "turns": turns}


def run(data: Path) -> Table:
    """Measure all of it."""
    table = Table("Memory of a process on SQLite (MB)", ["", "resident", ""])
    with SqliteStorage(data / "long.db") as storage:
        fill(storage, {"10": 10, f"{LONG}": LONG})
    with SqliteStorage(data / "streams.db") as storage:
        fill(storage, {f"s{number}": 3 for number in range(STREAMS)})
    with SqliteStorage(data / "turns.db") as storage:
        fill(storage, {f"s{number}": 3 for number in range(SESSIONS)})
    for name in MEASURED:
        command = [sys.executable, "-m", "bench.memory", name, str(data)]
        root = Path(__file__).parent.parent
        done = subprocess.run(command, check=True, cwd=root, stdout=subprocess.PIPE, text=True)
        table.rows += [json.loads(line) for line in done.stdout.splitlines()]
    return table


if __name__ == "__main__":
    for row in MEASURED[sys.argv[1]](Path(sys.argv[2])):
        print(json.dumps(row), flush=True)
