"""Makes an environment for each peer, runs its script there, and shows all of them in one table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..measure import ms
from ..sizes import Written
from ..tables import Table
from .environments import environment

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "requirements"
PEERS = ("agno", "openai_agents", "google_adk", "langgraph")
FILE_PEERS = ("agno_json", "agno_1_json")
DATABASES = {
    "--folder": ("SQLite", PEERS),
    "--files": ("JSON files", FILE_PEERS),
    "--postgres": ("PostgreSQL", PEERS),
    "--redis": ("Redis", ("agno",)),
    "--dynamodb": ("Dynoxide", ("agno",)),
}
"""By the argument that names it: a database, and who is measured on it."""
TIMEOUT = 600


def measure(name: str, sizes: Sequence[int], turns: int, cache: Path, where: Sequence[str]) -> dict[str, Any]:
    """The results that the peer's script prints as its last line; `error` if it could not be run.

    `where`: the argument that names the database.
    """
    try:
        python = environment(REQUIREMENTS / f"{name}.txt", cache)
        arguments = ["--sizes", ",".join(map(str, sizes)), "--turns", str(turns), *where]
        done = subprocess.run(
            [str(python), "-m", f"bench.peers.{name}", *arguments],
            cwd=HERE.parent.parent,
            env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(done.stderr.strip()[-2000:])
        return dict(json.loads(done.stdout.strip().splitlines()[-1]))
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        return {"error": str(error), "variants": [], "versions": {}}


def run(
    sizes: Sequence[int],
    turns: int,
    cache: Path,
    where: Sequence[str],
    ours: Mapping[str, Mapping[int, tuple[float, float]]] | None = None,
    written: Written | None = None,
) -> Table:
    """Measure peers, one after the other. Sessile's own medians (and the floor's) go on top."""
    database, peers = DATABASES[where[-1] if where[-1] in DATABASES else where[0]]
    table = Table(
        f"Turn of other libraries on {database}: median ms over {turns} turns (times the floor of the same process)",
        [
            "configuration",
            *[f"{size:,} runs" for size in sizes],
            f"first turn, {max(sizes):,}",
            "commits",
            "bytes stored",
        ],
    )
    for name, medians in (ours or {}).items():
        cells = [times(*medians[size]) if size in medians else "-" for size in sizes]
        table.rows.append([name, *cells, "", *amounts(written)])
    for name in peers:
        print(f"Measuring {name} …", file=sys.stderr, flush=True)
        result = measure(name, sizes, turns, cache, where)
        if "error" in result:
            table.notes.append(f"{name}: not measured: {result['error']}")
            continue
        versions = ", ".join(f"{package} {number}" for package, number in result["versions"].items())
        table.notes.append(f"{name}: {versions}")
        for variant in result["variants"]:
            table.rows.append(row(name, variant, sizes))
            table.notes.append(f"  {variant['name']} ({durability(variant)}): {variant['note']}")
    table.notes.append("† stores less than Sessile. ‡ less durable: a power cut may take acknowledged turns.")
    table.notes.append(
        "first turn: the process has just opened the database and cached nothing. commits and bytes stored "
        "(new rows): per turn, read from the database, at the longest session of up to 100 runs."
    )
    return table


def row(name: str, variant: Mapping[str, Any], sizes: Sequence[int]) -> list[str]:
    """One configuration of one peer."""
    cells: Mapping[str, Any] = variant["cells"]
    texts: list[str] = []
    for size in sizes:
        cell = cells.get(str(size))
        if cell is None:
            texts.append("-")
        else:
            texts.append(times(cell["turn"]["median"], cell["floor"]["median"]))
    longest = cells.get(str(max(sizes)))
    written = [Written(**cell["written"]) for cell in cells.values() if "written" in cell]
    marks = "†" * variant["stores_less"] + "‡" * durability(variant).endswith(("OFF", "NORMAL", "=off"))
    return [
        f"{name}: {variant['name']} {marks}".rstrip(),
        *texts,
        ms(longest["first"]) if longest else "-",
        *amounts(written[-1] if written else None),
    ]


def durability(variant: Mapping[str, Any]) -> str:
    """Journal mode and synchronous level, as the peer's own connection reports them."""
    return next((str(cell["durability"]) for cell in variant["cells"].values()), "-")


def times(median: float, floor: float) -> str:
    """Milliseconds, and how many times the floor that is."""
    return f"{ms(median)} ({median / floor:,.1f}x)"


def amounts(written: Written | None) -> tuple[str, str]:
    """Commits and bytes of a turn."""
    if written is None:
        return "-", "-"
    return "-" if written.commits is None else f"{written.commits:.0f}", f"{written.rows:,.0f}"
