"""Runs each framework's script in its environment, and shows the pairs in one table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from ..peers.environments import environment
from ..tables import Table

ROOT = Path(__file__).parent.parent.parent
REQUIREMENTS = ROOT / "tests" / "frameworks" / "requirements"
FRAMEWORKS = ("openai_agents", "langgraph", "google_adk", "agno")
TIMEOUT = 900


def run(cache: Path, data: Path, turns: str = "10,1000") -> Table:
    """Measure all of them, one after the other."""
    table = Table(
        "Frameworks on Sessile, next to their own SQLite backend: median ms, in turn in one process",
        ["what the framework asks", "turns before", "theirs", "ours", "ours / theirs", "processor time", "bytes"],
    )
    for name in FRAMEWORKS:
        print(f"Measuring {name} …", file=sys.stderr, flush=True)
        try:
            python = environment(REQUIREMENTS / f"{name}.txt", cache)
            done = subprocess.run(
                [str(python), "-m", f"bench.frameworks.{name}", "--turns", turns],
                cwd=data,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT / "src", ROOT)))},
                capture_output=True,
                text=True,
                timeout=TIMEOUT,
                check=True,
            )
        except (RuntimeError, subprocess.SubprocessError) as error:
            table.notes.append(f"{name}: not measured: {error}")
            continue
        for what, cells in json.loads(done.stdout.strip().splitlines()[-1]).items():
            for count, cell in cells.items():
                times = [f"{cell[side]:.2f}" for side in ("theirs", "ours")]
                ratios = [f"{cell['ours'] / cell['theirs']:.2f}"]
                ratios += [f"{cell[f'ours_{of}'] / cell[f'theirs_{of}']:.2f}" for of in ("cpu", "bytes")]
                table.rows.append([what, f"{int(count):,}", *times, *ratios])
    return table
