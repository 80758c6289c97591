"""Memory does not grow with the log: every command, and the index, over a database and over one of four times its size.

What one call reads is bounded in bytes. The bounds are made small here, so that a log of some megabytes is far above
them; then the memory that a command takes at most has to be about the same, whichever log it looks at.
"""

from __future__ import annotations

import functools
import gc
import io
import os
import random
import shutil
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.campaigns import TORTURE

from sessile import SqliteStorage
from sessile.cli import main, opening
from sessile.insight import Index, catching_up
from sessile.transfer import reading

from .test_terminal_commands import commands

pytest.importorskip("typer")

BOUND = 100_000
"""Bytes that one call may read."""

SMALL, LARGE = 30, 120
"""Runs of the one long session, and how many sessions there are."""

COMMANDS: dict[str, list[str]] = {
    "sessions": ["URL"], "show": ["URL", "long"], "export": ["URL", "long"], "tail": ["URL", "long"],
    "verify": ["URL", "long"], "doctor": ["URL"], "search": ["URL", "hello"], "runs": ["URL"], "usage": ["URL"],
    "stats": ["URL"], "scopes": ["URL"], "waiting": ["URL"], "dataset": ["URL"], "examples": ["URL"], "index": ["URL"],
    "copy": ["URL", "COPY"], "backup": ["URL", "COPY"], "sweep": ["URL"], "fork": ["URL", "long"],
    "rewind": ["URL", "long", "1"], "rename": ["URL", "long", "other"], "hold": ["URL", "long", "why"],
    "release": ["URL", "long"], "rate": ["URL", "long", "1", "--score", "1"], "erase": ["URL", "long", "1"],
    "delete": ["URL", "long"], "erase-user": ["URL", "ada"], "memories": ["URL"], "files": ["URL", "long"],
    "approvals": ["URL", "--user", "ada"],
}  # fmt: skip

EACH = 4
"""Of how many commands one is tried, each time another one."""

OTHERS = {
    "approve", "deny", "send", "replay", "demo", "dashboard", "serve", "drivers", "migrate", "import", "restore",
}  # fmt: skip
"""What looks at one run, at no session, or at files."""


def fill(path: Path, count: int) -> Path:
    with SqliteStorage(path, synchronous="NORMAL") as storage:
        for number in range(count):
            storage.add_run("long", input=f"hello {number}", output="word " * 4000, user_id="ada", agent="a")
            storage.add_run(f"short {number}", input="hello", output="word " * 1000, user_id="ada", agent="a")
    return path


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("logs")
    return fill(folder / "small.db", SMALL), fill(folder / "large.db", LARGE)


@pytest.fixture
def bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "open_storage", functools.partial(opening.open_storage, max_read_bytes=BOUND))
    monkeypatch.setattr(reading, "AT_ONCE", BOUND)
    monkeypatch.setattr(catching_up, "BYTES", BOUND)


class Nowhere(io.TextIOBase):
    """What is written is counted, and forgotten."""

    def __init__(self) -> None:
        self.size = 0

    def write(self, text: str) -> int:
        self.size += len(text)
        return len(text)


def peak(work: Callable[[], object]) -> int:
    gc.collect()
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def check(work: Callable[[Path], object], small: Path, large: Path) -> None:
    work(small)  # what is imported or made once is there then
    least, most = peak(lambda: work(small)), peak(lambda: work(large))
    assert most <= 1.5 * least + 1_000_000, f"{least} bytes for the smaller log, {most} for one of four times its size"


def test_every_command_is_known() -> None:
    assert set(commands()) == set(COMMANDS) | OTHERS


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("place", range(-(-len(COMMANDS) // EACH)))
def test_commands(place: int, logs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One command of each few, as the seed of the run chooses; `SESSILE_TORTURE=1` tries all."""
    some = list(COMMANDS)[place * EACH : (place + 1) * EACH]
    for name in some if TORTURE else [random.Random(f"{os.environ['SESSILE_SEED']} {place}").choice(some)]:
        check_command(name, logs, tmp_path, monkeypatch)


def check_command(name: str, logs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = Nowhere()

    def work(path: Path) -> None:
        for left in tmp_path.iterdir():
            left.unlink()
        shutil.copyfile(path, tmp_path / "sessions.db")
        places = {"URL": f"sqlite:///{tmp_path}/sessions.db", "COPY": f"{tmp_path}/copy.db"}
        if name == "copy":
            places["COPY"] = f"sqlite:///{tmp_path}/copy.db"
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", out)
            try:
                code: Any = main([name, *(places.get(word, word) for word in COMMANDS[name])])
            except SystemExit as end:
                code = end.code
        assert code != 2, name

    check(work, *logs)
    assert out.size > 0 or name in ("delete", "export")


@pytest.mark.usefixtures("bounded")
def test_the_index(logs: tuple[Path, Path], tmp_path: Path) -> None:
    def work(path: Path) -> None:
        for left in tmp_path.iterdir():
            left.unlink()
        with (
            SqliteStorage(path, synchronous="NORMAL", max_read_bytes=BOUND) as storage,
            Index(storage, f"sqlite:///{tmp_path}/index.db") as index,
        ):
            assert len(index.runs(user_id="ada")) > 1
            assert len(index.search("hello", user_id="ada")) > 1
            assert index.usage(user_id="ada", by=("day", "agent")).total.runs > 1
            assert len(index.sessions(user_id="ada")) > 1
            index.examples(user_id="ada")
            index.rebuild()

    check(work, *logs)
