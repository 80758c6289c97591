"""How fast sessions are moved: from SQLite into a file, into another SQLite database, and into PostgreSQL."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import sessile
from sessile import SqliteStorage
from sessile.storage import Storage
from sessile.transfer import copy, export_archive

from . import servers
from .tables import Table

SESSIONS, RUNS = 200, 25
"""How many sessions, and runs of about 1 KB in each."""

LIMIT = 2000.0
"""Runs a second at least, from SQLite into PostgreSQL."""

EXPORTED = 50.0
"""Megabytes of an archive a second at least, from SQLite."""


def fill(storage: Storage) -> None:
    """Sessions as a chat has them."""
    for session in range(SESSIONS):
        for number in range(RUNS):
            storage.add_run(f"s{session}", input=f"question {number} " * 10, output="answer " * 100, user_id="ada")


def run(data: Path) -> Table:
    """The table."""
    rows: list[list[str]] = []
    with ExitStack() as stack:
        source = stack.enter_context(SqliteStorage(data / "moving.db"))
        fill(source)

        def measure(name: str, work: Callable[[], object], limit: float | None = None) -> float:
            begun = time.perf_counter()
            work()
            took = time.perf_counter() - begun
            rate = SESSIONS * RUNS / took
            told = "" if limit is None else ("ok" if rate >= limit else f"under {limit:.0f}")
            rows.append([name, f"{rate:.0f}", told])
            return took

        took = measure("SQLite to an archive", lambda: export_archive(source, data / "moving.jsonl"))
        speed = (data / "moving.jsonl").stat().st_size / took / 1e6
        rows[-1][2] = f"{speed:.0f} MB/s {'ok' if speed >= EXPORTED else f'under {EXPORTED:.0f}'}"
        target = stack.enter_context(SqliteStorage(data / "moved.db"))
        measure("SQLite to SQLite, verified", lambda: copy(source, target))
        url = stack.enter_context(servers.running(servers.ENGINES["postgres"]))
        if url is not None:
            moved = stack.enter_context(sessile.open(url))
            measure("SQLite to PostgreSQL, verified", lambda: copy(source, moved), LIMIT)
            plain = stack.enter_context(sessile.open(f"{url}{'&' if '?' in url else '?'}prefix=unverified_"))
            measure("SQLite to PostgreSQL, not verified", lambda: copy(source, plain, verify=False), LIMIT)
    return Table("Moving, runs of 1 KB a second", ["", "runs/s", ""], rows)
