"""`python -m bench`: what a turn, a whole run and an import cost, next to a floor and to other libraries.

Prints tables; a few minutes. Run it from the checkout, in the project's environment. Environments of the
peers are kept in `.bench/`; databases are made there as well and removed at the end.
"""

from __future__ import annotations

import argparse
import platform
import shutil
import sqlite3
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .turn import Medians

CACHE = Path(__file__).parent.parent / ".bench"
PARTS = (
    "turn",
    "agent",
    "workflow",
    "together",
    "insight",
    "insight-postgres",
    "insight-mariadb",
    "lists",
    "lists-postgres",
    "lists-mariadb",
    "scale",
    "dashboard",
    "dashboard-peers",
    "server",
    "encryption",
    "moving",
    "memory",
    "import",
    "peers",
    "frameworks-peers",
    "server-peers",
    "files",
    "files-peers",
    "postgres",
    "postgres-peers",
    "mariadb",
    "mongodb",
    "redis",
    "redis-peers",
    "dynamodb",
    "dynamodb-peers",
    "s3",
    "gcs",
)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=100, help="rounds of interleaved measuring (default: 100)")
    parser.add_argument(
        "--sizes",
        default="10,100,1000,10000",
        type=lambda text: sorted(int(size) for size in text.split(",")),
        help="runs in the session, with commas between (default: 10,100,1000,10000)",
    )
    parser.add_argument(
        "--sessions",
        type=int,
        default=100_000,
        help="how many sessions the lists and the scale are of, in thousands (default: 100000)",
    )
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True, help="measure other libraries")
    parser.add_argument("parts", nargs="*", metavar="part", help=f"only these parts: {', '.join(PARTS)} (default: all)")
    parser.add_argument(
        "--data",
        type=Path,
        default=CACHE,
        help="folder for the databases; on the kind of disk that matters to you (default: .bench)",
    )
    parser.add_argument(
        "--pictures",
        action="store_true",
        help="draw how a turn's cost grows, into docs/pictures, and keep the figures there (needs matplotlib)",
    )
    options = parser.parse_args()
    for part in options.parts:
        if part not in PARTS:
            parser.error(f"there is no part {part!r}; there are {', '.join(PARTS)}")
    return options


def main() -> None:
    """Measure and print."""
    options = arguments()
    parts = options.parts or [part for part in PARTS if options.peers or "peers" not in part]
    started = time.perf_counter()
    CACHE.mkdir(exist_ok=True)
    (CACHE / ".gitignore").write_text("*\n")
    options.data.mkdir(parents=True, exist_ok=True)
    print(f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {platform.system()}\n")
    data = Path(tempfile.mkdtemp(prefix="data-", dir=options.data))
    medians = written = None
    try:
        if "turn" in parts:
            from . import turn

            table, medians, written = turn.run(options.sizes, options.rounds, data)
            table.print()
            draw(options, "sqlite", "SQLite", medians)
        if "agent" in parts:
            from . import agent

            agent.run(options.sizes, options.rounds, data).print()
        for name in sorted(
            {"workflow", "insight", "server", "encryption", "moving", "memory"} & set(parts), reverse=True
        ):
            import_module(f"bench.{name}").run(data).print()
        if "server-peers" in parts:
            from . import server

            server.peers(data, CACHE / "envs").print()
        on_many(parts, options, data)
        if "import" in parts:
            from . import imports

            imports.run(max(5, options.rounds // 5)).print()
        if "peers" in parts:
            from .peers import run as peers

            turns = max(5, options.rounds * 3 // 10)
            peers.run(options.sizes, turns, CACHE / "envs", ["--folder", str(data)], medians, written).print()
        on_files(parts, options, data)
        for name in ("postgres", "mariadb", "mongodb", "redis", "dynamodb"):
            if name in parts or f"{name}-peers" in parts:
                on_server(name, parts, options)
        for name in ("s3", "gcs"):
            if name in parts:
                from . import objects

                for table in objects.run(name, sorted({options.sizes[0], options.sizes[-1]}), options.rounds):
                    table.print()
    finally:
        shutil.rmtree(data, ignore_errors=True)
    print(f"Took {time.perf_counter() - started:.0f} s.", file=sys.stderr)


def draw(options: argparse.Namespace, name: str, title: str, medians: Medians) -> None:
    """Draw what was measured of a database, if that is asked for."""
    if options.pictures:
        from . import pictures

        print(f"{pictures.keep(name, title, medians)}\n")


def on_many(parts: list[str], options: argparse.Namespace, data: Path) -> None:
    """Many sessions at once; lists among very many, and the dashboard over them."""
    from . import lists

    if "together" in parts:
        from . import together

        together.run(data, max(5, options.rounds // 5)).print()

    if "dashboard" in parts:
        from . import dashboard

        dashboard.run(data, options.sessions).print()
    if "dashboard-peers" in parts:
        from . import dashboard_peers

        dashboard_peers.run(data, CACHE / "envs").print()
    if "lists" in parts:
        for table in lists.on_sqlite(data, options.sessions):
            table.print()
    if "scale" in parts:
        from . import scale

        for table in scale.run(data, options.sessions):
            table.print()
    for name in ("postgres", "mariadb"):
        on_many_served(name, parts, options)


def on_many_served(name: str, parts: list[str], options: argparse.Namespace) -> None:
    """The index and lists on a database server."""
    from . import insight, lists, servers

    engine = servers.ENGINES[name]
    if f"insight-{name}" in parts:
        with servers.running(engine) as url:
            if url is not None:
                insight.building(url, engine.name).print()
    if f"lists-{name}" in parts:
        with servers.running(engine) as url:
            for table in () if url is None else lists.on_server(url, engine.name, options.sessions):
                table.print()


def on_files(parts: list[str], options: argparse.Namespace, data: Path) -> None:
    """Other frameworks on files of ours and theirs; JSON and YAML: our own rows, and other libraries' JSON."""
    if "frameworks-peers" in parts:
        from .frameworks import run as frameworks

        frameworks.run(CACHE / "envs", data).print()
    medians = None
    if "files" in parts:
        from . import files

        table, medians = files.run(options.sizes, options.rounds, data)
        table.print()
        draw(options, "files", "JSON and YAML files", medians)
    if "files-peers" in parts:
        from .peers import run as peers

        turns = max(5, options.rounds * 3 // 10)
        where = ["--folder", str(data), "--files"]
        peers.run(options.sizes, turns, CACHE / "envs", where, medians).print()


def on_server(name: str, parts: list[str], options: argparse.Namespace) -> None:
    """The parts that need a database server: our own rows, and other libraries on the same server."""
    from . import servers

    sizes = options.sizes if options.pictures else sorted({options.sizes[0], options.sizes[-1]})
    engine = servers.ENGINES[name]
    medians = written = None
    with servers.serving(engine) as server:
        url = None if server is None else server.url
        if url is not None and name in parts:
            tables, medians, written = servers.run(engine, server, sizes, options.rounds)
            for table in tables:
                table.print()
            draw(options, name, engine.name, medians)
        if url is not None and f"{name}-peers" in parts:
            from .peers import run as peers

            turns = max(5, options.rounds * 3 // 10)
            peers.run(sizes, turns, CACHE / "envs", [f"--{name}", url], medians, written).print()


if __name__ == "__main__":
    main()
