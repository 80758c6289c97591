"""The time to import and to store a first turn, over a bare start of Python: whole processes, interleaved."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

from .measure import Stats, interleave, ms
from .tables import Table, verdict

LIMIT = 2.5
"""Times of a bare start that importing the storage may take."""

FIRST_TURN = """
import tempfile, sessile
with tempfile.TemporaryDirectory() as folder, sessile.SqliteStorage(folder + "/s.db") as storage:
    storage.get_session("s", last_runs=3)
    storage.add_run("s", input="a", output="b")
"""

STATEMENTS = {
    "bare Python": "pass",
    "import sessile": "import sessile",
    "import sessile.storage": "import sessile.storage",
    "from sessile import SqliteStorage": "from sessile import SqliteStorage",
    "… and a first turn": FIRST_TURN,
    "without Sessile: typing, dataclasses, sqlite3": "import typing, dataclasses, sqlite3",
    "… and json, logging, threading, decimal, pathlib": (
        "import typing, dataclasses, sqlite3, json, logging, threading, decimal, pathlib, datetime, signal, tempfile"
    ),
    "without Sessile: asyncio": "import asyncio",
    "from sessile import Agent": "from sessile import Agent",
}


# An installed package has its byte code; a shell that forbids writing it would have every process compile it anew.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def start(statement: str) -> float:
    """Run a Python that executes one statement and ends; the processor time that it took, in seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", statement], check=True, env=ENVIRONMENT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def run(rounds: int) -> Table:
    """Measure every statement `rounds` times."""
    contenders = {name: (lambda s=statement: start(s)) for name, statement in STATEMENTS.items()}
    interleave(contenders, 1)  # writes the byte code, fills the file cache
    stats = {name: Stats.of(times) for name, times in interleave(contenders, rounds).items()}
    bare = stats["bare Python"]
    table = Table(
        f"Import (ms of processor time, of {rounds} processes)",
        ["statement", "least", "median", "over bare Python, least", "times bare Python, least", "wanted"],
    )
    for name, one in stats.items():
        times = one.best / bare.best
        wanted = f"<= {LIMIT} {verdict(times, LIMIT)}" if name == "import sessile.storage" else ""
        table.rows.append([name, ms(one.best), ms(one.median), ms(one.best - bare.best), f"{times:.2f}", wanted])
    return table
