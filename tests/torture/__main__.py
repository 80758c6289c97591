"""The long tests: `make torture`, or `python -m tests.torture --kills 100 --examples 200 --rounds 5`.

Ends with code 1 if anything was lost, doubled or otherwise wrong. The same `--seed` makes the same choices.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import random
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tests.agents import dying
from tests.agents.resume_helpers import Nursery
from tests.alarms import run_alarms, run_interrupts
from tests.power.campaign import URLS, run_power
from tests.servers import (
    DynoxideServer,
    FerretServer,
    MariaDbServer,
    MySqlServer,
    PostgresServer,
    RedisServer,
    Server,
    ServerMissingError,
)
from tests.servers.dynamodb import url_of
from tests.servers.networks import dynamodb_network, mongodb_network, mysql_network, postgres_network, redis_network
from tests.spoiled_rows import run_spoiled_rows
from tests.sql import crashing_batches
from tests.workflows.crashing import MODULE, kill_at_random

import sessile
from sessile import SqliteStorage
from sessile.storage import Storage
from sessile.testing import (
    Figures,
    Network,
    Scale,
    Subject,
    run_cuts,
    run_kills,
    run_read_cuts,
    run_restarts,
    run_writers,
)
from sessile.testing.machine import run_model

DATABASES: dict[str, tuple[Callable[[], Server], Callable[[str], Network]]] = {
    "PostgreSQL": (PostgresServer, postgres_network),
    "MariaDB": (MariaDbServer, mysql_network),
    "MySQL": (MySqlServer, mysql_network),
    "Redis": (partial(RedisServer, settings={"appendfsync": "always"}), redis_network),
    "Dynoxide": (DynoxideServer, lambda url: dynamodb_network(url_of(url, "sessile"))),
    "FerretDB": (FerretServer, mongodb_network),
}

BATCHING = ("PostgreSQL", "MariaDB", "MySQL")
"""Those where commits of several sessions go together."""

BATCH_CAMPAIGNS: dict[str, Callable[[Server, int, int], Figures]] = {
    "`kill -9` of those who write": lambda server, *how: crashing_batches.run_killed_writers(server.url, *how),
    "the server killed": crashing_batches.run_killed_server,
    "connections cut": lambda server, *how: crashing_batches.run_cut_connections(server.url, *how),
    "deadlocks": lambda server, *how: crashing_batches.run_deadlocks(server.url, *how),
}

ON_LOOP = "on_loop=true"

EMBEDDED = {
    "SQLite": "sqlite:///{}/sessions.db",
    "SQLite on the event loop": f"sqlite:///{{}}/sessions.db?{ON_LOOP}",
    "JSON": "json:///{}/sessions",
    "YAML": "yaml:///{}/sessions",
}
"""The databases that are files of this machine."""

Interrupting = Callable[[Storage, int, int], Figures]
"""A campaign of signals: over a storage, with a seed, so many times."""

ROW = "{:<44}{:>8}{:>14}{:>6}{:>9}{:>9}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=2000, help="writing processes to kill (0: none)")
    parser.add_argument("--examples", type=int, default=500, help="sequences of operations for the model test")
    parser.add_argument("--rounds", type=int, default=50, help="rounds of 4 processes with 4 threads each")
    parser.add_argument("--restarts", type=int, default=200, help="how often to kill a database server (0: none)")
    parser.add_argument(
        "--cuts", type=int, default=100_000, help="at how many bytes of each direction to cut a commit (0: none)"
    )
    parser.add_argument("--alarms", type=int, default=2000, help="signals that interrupt the main thread (0: none)")
    parser.add_argument("--workflow-kills", type=int, default=200, help="how often to kill a workflow's process")
    parser.add_argument("--agent-kills", type=int, default=300, help="how many processes of agents to kill or stop")
    parser.add_argument("--batches", type=int, default=100, help="how often to kill, cut and cross batches of commits")
    parser.add_argument("--power", type=float, default=1.0, help="share of the images of power cuts (0: none)")
    parser.add_argument("--spoiled", type=int, default=1000, help="files whose rows are spoilt (0: none)")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    arguments = parser.parse_args()
    logging.getLogger("sessile").setLevel(logging.ERROR)  # repairs are what the campaigns are about
    scale = Scale(seed=arguments.seed, examples=arguments.examples, steps=50, appends=25)
    print(f"seed {scale.seed}, Python {sys.version.split()[0]}, SQLite, synchronous=FULL\n")
    print(ROW.format("campaign", "rounds", "acknowledged", "lost", "doubled", "seconds"), flush=True)
    campaigns: list[tuple[str, float, Callable[[Path, Any], Figures]]] = [
        (f"{name}: {what}", count, partial(campaign, scale, url))
        for name, url in EMBEDDED.items()
        for what, count, campaign in (
            ("kill -9 of 1 or 2 writing processes", arguments.kills, kills),
            ("4 processes, 16 writers on one session", arguments.rounds, writers),
            ("interrupted by signals", arguments.alarms, partial(file_alarms, run_alarms)),
            ("interrupted by Ctrl-C", arguments.alarms, partial(file_alarms, run_interrupts)),
        )
    ]
    campaigns += [
        (f"{name}: images of power cuts", arguments.power, partial(power, scale, URLS[name.lower()]))
        for name in EMBEDDED
        if name.lower() in URLS
    ]
    campaigns += [("JSON, encrypted: images of power cuts", arguments.power, partial(power, scale, URLS["sealed"]))]
    campaigns += [
        ("kill -9 of a workflow of 20 steps", arguments.workflow_kills, partial(workflow_kills, scale)),
        ("SQLite: agents, teams, workflows killed", arguments.agent_kills, partial(agent_kills, scale)),
        ("PostgreSQL: agents, teams, workflows killed", arguments.agent_kills, partial(agent_kills_elsewhere, scale)),
        ("SQLite: commands over spoilt rows", arguments.spoiled, partial(spoiled, scale)),
        ("model, synchronous", arguments.examples, partial(model, scale, "sync")),
        ("model, asynchronous", arguments.examples, partial(model, scale, "async")),
    ]
    campaigns += [
        (
            f"{name}, batches: `kill -9` of those who write",
            arguments.batches,
            partial(file_batches, scale, EMBEDDED[name]),
        )
        for name in ("SQLite", "SQLite on the event loop")
    ]
    for database in BATCHING:
        campaigns += [
            (f"{database}, batches: {what}", arguments.batches, partial(batches, database, campaign, scale))
            for what, campaign in BATCH_CAMPAIGNS.items()
        ]
    for database in DATABASES:
        campaigns += [
            (f"{database} killed while 4 write", arguments.restarts, partial(restarts, database, scale)),
            (f"{database}, commits cut at every byte", arguments.cuts, partial(cuts, database, scale)),
            (f"{database}, reads cut at every byte", arguments.cuts, partial(read_cuts, database, scale)),
        ]
        campaigns += [
            (f"{database}, interrupted by {what}", arguments.alarms, partial(alarms, run, database, scale))
            for what, run in (("signals", run_alarms), ("Ctrl-C", run_interrupts))
        ]
    failed = False
    for name, count, campaign in campaigns:
        if not count:
            continue
        try:
            with tempfile.TemporaryDirectory() as folder:
                figures = campaign(Path(folder), count)
        except ServerMissingError as missing:
            print(f"{name}: left out. {missing}", flush=True)
            continue
        show(name, figures)
        failed = failed or bool(figures.lost or figures.doubled or figures.problems)
    return int(failed)


def show(name: str, figures: Figures) -> None:
    appended, lost = (figures.acknowledged, figures.lost) if figures.acknowledged else ("-", "-")
    print(ROW.format(name, figures.rounds, appended, lost, figures.doubled, f"{figures.seconds:.0f}"), flush=True)
    for problem in figures.problems[:10]:
        print(f"    {problem}", flush=True)


def kills(scale: Scale, url: str, folder: Path, count: int) -> Figures:
    return run_kills(url.format(folder), scale, kills=count, tasks=ON_LOOP in url)


def power(scale: Scale, url: str, folder: Path, share: float) -> Figures:
    return run_power(url, folder, scale.seed, share)


def file_alarms(run: Interrupting, scale: Scale, url: str, folder: Path, count: int) -> Figures:
    with sessile.open(url.format(folder)) as storage:
        if ON_LOOP in url and run is run_alarms:
            return run_alarms(storage, scale.seed, count, on_a_loop=True)
        return run(storage, scale.seed, count)


def alarms(run: Interrupting, database: str, scale: Scale, folder: Path, count: int) -> Figures:
    make, network = DATABASES[database]
    with make() as server:
        way = network(server.url)
        with way.direct() as storage:
            return run(storage, scale.seed, count)


def writers(scale: Scale, url: str, folder: Path, rounds: int) -> Figures:
    total = Figures()
    for number in range(rounds):
        figures = run_writers(url.format(folder), scale, f"session-{number}", tasks=ON_LOOP in url)
        for field in dataclasses.fields(Figures):
            setattr(total, field.name, getattr(total, field.name) + getattr(figures, field.name))
    return total


def workflow_kills(scale: Scale, folder: Path, count: int) -> Figures:
    """Rounds are kills; a step that had finished and ran again counts as doubled, a wrong result as a problem."""
    began, nursery = time.monotonic(), Nursery(MODULE)
    try:
        done = kill_at_random(folder, nursery, count, scale.seed)
    finally:
        nursery.close()
    figures = Figures(rounds=done.kills, seconds=time.monotonic() - began, problems=done.problems)
    figures.doubled = sum("ran again" in problem for problem in done.problems)
    return figures


def agent_kills(scale: Scale, folder: Path, count: int, url: str = "sqlite:///{}/sessions.db") -> Figures:
    """Rounds are processes that were killed or stopped; a tool that ran twice counts as doubled."""
    began, nursery = time.monotonic(), Nursery(dying.MODULE)
    try:
        done = dying.die_at_random(nursery, folder, url.format(folder), count, scale.seed)
    finally:
        nursery.close()
    figures = Figures(rounds=done.kills, seconds=time.monotonic() - began, problems=done.problems)
    figures.doubled = sum("ran again" in problem for problem in done.problems)
    return figures


def agent_kills_elsewhere(scale: Scale, folder: Path, count: int) -> Figures:
    """On PostgreSQL."""
    with PostgresServer() as server:
        return agent_kills(scale, folder, count, server.url)


def spoiled(scale: Scale, folder: Path, count: int) -> Figures:
    return run_spoiled_rows(folder, scale.seed, count)


def model(scale: Scale, face: str, folder: Path, count: int) -> Figures:
    """The figure of rounds is that of the sequences of up to 50 operations."""
    paths: dict[Storage, Path] = {}

    def make_storage() -> Storage:
        path = folder / f"{len(paths)}.db"
        storage = SqliteStorage(path)
        paths[storage] = path
        return storage

    def discard(storage: Storage) -> None:
        for file in folder.glob(f"{paths[storage].name}*"):
            file.unlink()

    subject = Subject(make_storage, lambda storage: f"sqlite:///{paths[storage]}", discard, scale=scale)
    began = time.monotonic()
    figures = Figures(rounds=count)
    try:
        run_model(subject, face)
    except (AssertionError, ExceptionGroup) as error:
        figures.problems.append("\n".join([str(error), *getattr(error, "__notes__", [])]))
    figures.seconds = time.monotonic() - began
    return figures


def restarts(database: str, scale: Scale, folder: Path, count: int) -> Figures:
    make, network = DATABASES[database]
    with make() as server:
        return run_restarts(network(server.url), server, scale, restarts=count)


def file_batches(scale: Scale, url: str, folder: Path, count: int) -> Figures:
    return crashing_batches.run_killed_writers(url.format(folder), scale.seed, count)


def batches(
    database: str, campaign: Callable[[Server, int, int], Figures], scale: Scale, folder: Path, count: int
) -> Figures:
    make, _ = DATABASES[database]
    with make() as server:
        return campaign(server, scale.seed, count)


def cuts(database: str, scale: Scale, folder: Path, samples: int) -> Figures:
    make, network = DATABASES[database]
    with make() as server:
        return run_cuts(network(server.url), scale, samples=samples)


def read_cuts(database: str, scale: Scale, folder: Path, samples: int) -> Figures:
    make, network = DATABASES[database]
    with make() as server:
        return run_read_cuts(network(server.url), scale, samples=samples)


if __name__ == "__main__":
    sys.exit(main())
