"""Processor time of processes: what a machine that is busy with other things disturbs least. Linux only."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from time import process_time
from typing import NamedTuple

from tests.servers.process import children


class Spent(NamedTuple):
    """Seconds: of the clock on the wall, of this process's processor, and of the server's."""

    wall: float
    client: float
    server: float


def seconds_of(pid: int) -> float:
    """What a process and its children have used of processors so far; those of their threads that have ended aside."""
    total = 0
    for each in (pid, *children(pid)):
        for task in Path(f"/proc/{each}/task").glob("*/schedstat"):
            try:
                total += int(task.read_text().split()[0])
            except (FileNotFoundError, ProcessLookupError):  # it has just ended
                continue
    return total / 1e9


def spent(call: Callable[[], float], server: int | None) -> Spent:
    """What a call costs, which returns the seconds that it took; `server`: the process id of the server it asks."""
    at, client = 0.0 if server is None else seconds_of(server), process_time()
    wall = call()
    client = process_time() - client
    return Spent(wall, client, 0.0 if server is None else max(0.0, seconds_of(server) - at))


def lowest_fifth(seconds: Sequence[float]) -> float:
    """The mean of the lowest fifth: of processor time, what others do in the caches aside."""
    ordered = sorted(seconds)
    return statistics.mean(ordered[: max(1, len(ordered) // 5)])
