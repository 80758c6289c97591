"""The time to import, over a bare start of Python: whole processes, interleaved, medians."""

from __future__ import annotations

import os
import subprocess
import sys

from .measure import Stats, interleave, ms, timed
from .tables import Table, verdict

LIMIT = 0.060
STATEMENTS = {
    "bare Python": ("pass", None),
    "import sessile": ("import sessile", None),
    "import sessile.storage": ("import sessile.storage", LIMIT),
    "from sessile import SqliteStorage": ("from sessile import SqliteStorage", None),
    "from sessile import Agent": ("from sessile import Agent", None),
}


# An installed package has its byte code; a shell that forbids writing it would have every process compile it anew.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def start(statement: str) -> None:
    """Run a Python that executes one statement and ends."""
    subprocess.run([sys.executable, "-c", statement], check=True, env=ENVIRONMENT)


def run(rounds: int) -> Table:
    """Measure every statement `rounds` times."""
    contenders = {name: (lambda s=statement: timed(lambda: start(s))) for name, (statement, _) in STATEMENTS.items()}
    interleave(contenders, 1)  # writes the byte code, fills the file cache
    stats = {name: Stats.of(times) for name, times in interleave(contenders, rounds).items()}
    bare = stats["bare Python"].median
    table = Table(f"Import (ms, median of {rounds} processes)", ["statement", "process", "over bare Python", "wanted"])
    for name, (_, limit) in STATEMENTS.items():
        over = stats[name].median - bare
        wanted = f"<= {limit * 1000:g} {verdict(over, limit)}" if limit else ""
        table.rows.append([name, ms(stats[name].median), ms(over), wanted])
    return table
