"""The dashboard beside Phoenix, which shows sessions in a browser, too: the same number of records, the same browser.

Phoenix runs in an environment of its own, over its SQLite file. Loads of both are taken in turn, so that whatever else
the machine does is shared. Neither reaches another host: a page that asks for one is told at once that there is none.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from sessile import SqliteStorage
from sessile.insight import Index

from .dashboard import ANSWER, LOADS, SECONDS, SPEED, chromium, long_session, memory, opened, part_of, scrolled, served
from .many import fill
from .measure import ms
from .peers.environments import environment
from .tables import Table

HERE = Path(__file__).parent / "peers"
SESSIONS, RUNS = 10_000, 1_000

PATIENCE = 2 * 3600
"""Seconds for which Phoenix may take in what it is filled with: on a busy machine that is most of the time."""

FIND_BOX = """root => {
    const boxes = [...document.querySelectorAll(`${root}, ${root} *`)].filter(one =>
        one.scrollHeight > one.clientHeight + 50 && ["auto", "scroll"].includes(getComputedStyle(one).overflowY));
    boxes.sort((one, other) => other.clientWidth - one.clientWidth)[0]?.setAttribute("data-scrolled", "");
}"""
"""Marks what is scrolled: the widest box that can be."""


@dataclass
class View:
    """A page of one of them: what must stand there, and the figures."""

    address: str
    wanted: str
    root: str
    """In what is scrolled."""
    way: int = 1
    """1: it is scrolled down; -1: up, from its end."""
    paints: list[float] = field(default_factory=list[float])
    frames: list[float] = field(default_factory=list[float])
    memory: tuple[float, float] = (0.0, 0.0)


def run(data: Path, cache: Path) -> Table:
    """Fill both, and measure both."""
    path = data / "dashboard-peers.db"
    with SqliteStorage(path, timeout=3600) as storage, Index(storage) as index:
        fill(storage, index, SESSIONS, whole=True)
        long_session(storage, RUNS)
        index.update()
    python = environment(HERE / "requirements/phoenix.txt", cache)
    with phoenix(python, data / "phoenix") as address:
        project, session = filled(python, address)
        time.sleep(95)  # what has changed within the last minute and a half is looked at by every question of ours
        with served(path) as own, chromium("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1") as browser:
            lists = (
                View(own, "[role=row] a.title", ".list-box"),
                View(f"{address}/projects/{project}/sessions", "tbody tr td:nth-child(5)", "main"),
            )
            ends = f"#run-{RUNS} .run-body .item"
            sessions = (
                View(f"{own}#/session/long", ends, ".timeline", -1),
                View(
                    f"{address}/projects/{project}/sessions/{session}",
                    "#session-turns .react-aria-ListBoxItem",
                    "#session-turns",
                ),
            )
            for pair in (lists, sessions):
                _measure(browser, pair)
    table = Table(
        f"In a browser: {SESSIONS:,} sessions, one of {RUNS:,} runs (SQLite)", ("what", "Sessile", _version(python))
    )
    table.rows += [*_rows("the list", lists), *_rows("the long session", sessions)]
    table.notes.append(
        f"median (most) of {LOADS} loads with nothing in the browser's cache; the 95th of a hundred frames"
    )
    return table


@contextmanager
def phoenix(python: Path, folder: Path) -> Iterator[str]:
    """Phoenix over a new file; yields its address."""
    folder.mkdir()
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        port, grpc = one.getsockname()[1], other.getsockname()[1]
    settings = {
        "PHOENIX_WORKING_DIR": str(folder),
        "PHOENIX_HOST": "127.0.0.1",
        "PHOENIX_PORT": str(port),
        "PHOENIX_GRPC_PORT": str(grpc),
        "PHOENIX_TELEMETRY_ENABLED": "false",
    }
    said = (folder / "said.txt").open("w")
    command = [str(python.with_name("phoenix")), "serve"]
    server = subprocess.Popen(command, env={**os.environ, **settings}, stdout=said, stderr=subprocess.STDOUT)
    address = f"http://127.0.0.1:{port}"
    try:
        _until(lambda: _asked(address, "{projects{edges{node{id}}}}") is not None)
        yield address
    finally:
        server.terminate()
        server.wait()
        said.close()


def filled(python: Path, address: str) -> tuple[str, str]:
    """Fill Phoenix, and wait until all of it is stored; returns its ids of the project and of the long session."""
    answers = [
        ANSWER.replace("{text}", " ".join(f"Word {place} of what else is to be said." for place in range(number)))
        for number in range(40)
    ]
    command = [str(python), str(HERE / "phoenix.py"), address, str(SESSIONS), str(RUNS)]
    subprocess.run(command, input=json.dumps(answers), text=True, check=True, stdout=sys.stderr)
    found: list[Any] = []

    def is_whole() -> bool:
        data = _asked(address, "{projects{edges{node{id name traceCount}}}}") or {}
        nodes = [one["node"] for one in data.get("projects", {}).get("edges", [])]
        found[:] = [node["id"] for node in nodes if node["name"] == "bench" and node["traceCount"] == SESSIONS + RUNS]
        return bool(found)

    _until(is_whole)
    with urlopen(f"{address}/v1/sessions/long") as answer:
        return found[0], json.load(answer)["data"]["id"]


def _asked(address: str, query: str) -> Any:
    request = Request(f"{address}/graphql", json.dumps({"query": query}).encode(), {"content-type": "application/json"})
    try:
        with urlopen(request, timeout=60) as answer:
            return json.load(answer)["data"]
    except OSError:
        return None


def _until(is_so: Any) -> None:
    end = time.monotonic() + PATIENCE
    while not is_so():
        if time.monotonic() > end:
            raise RuntimeError("Phoenix has not become ready.")
        time.sleep(1)


def _measure(browser: Any, pair: Sequence[View]) -> None:
    for _ in range(LOADS):
        for view in pair:
            page, took = opened(browser, view.address, view.wanted)
            view.paints.append(took)
            page.context.close()
    for view in pair:
        page, _ = opened(browser, view.address, view.wanted)
        page.wait_for_timeout(1_500)
        page.evaluate(FIND_BOX, view.root)
        view.frames = scrolled(page, "[data-scrolled]", view.way * SPEED * SECONDS)
        view.memory = memory(browser, page)
        page.context.close()


def _rows(name: str, pair: Sequence[View]) -> Iterator[Sequence[str]]:
    yield (f"{name}: first useful paint (ms)", *[_two(statistics.median(v.paints), max(v.paints)) for v in pair])
    frames = [_two(statistics.median(v.frames), part_of(v.frames, 0.95)) for v in pair]
    yield (f"{name}: frames (ms): median (95 %)", *frames)
    yield (f"{name}: frames drawn", *[str(len(v.frames)) for v in pair])
    yield (f"{name}: memory (MB): objects, process", *[f"{v.memory[0]:.0f}, {v.memory[1]:.0f}" for v in pair])


def _two(middle: float, most: float) -> str:
    return f"{ms(middle)} ({ms(most)})"


def _version(python: Path) -> str:
    asked = [str(python), "-c", "from importlib.metadata import version; print(version('arize-phoenix'))"]
    return f"Phoenix {subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()}"
