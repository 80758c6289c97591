"""Pages that show what a reader types and sees: their programs are written to files, their commands run, and compared.

A block ```python app.py is the file `app.py` in the reader's folder. In a block ```console each line that begins with
`$ ` is typed there, and what follows is what is seen; `…` stands for anything, within a line or in lines of its own. A
line `^C` is what a reader does to the command before: it is killed.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tests.servers.process import private_port

FENCE = re.compile(r"^```(?P<language>[a-z]+)(?: +(?P<title>\S.*))?$")
KILLED = "^C"
PORT = "8000"
"""Of the servers that pages start; in tests it is another one, that is free."""


class Shown(NamedTuple):
    """A block of a page: of a file with its name, or of commands."""

    language: str
    title: str
    text: str
    line: int


class Typed(NamedTuple):
    """A command, what is seen, and whether it is killed."""

    command: str
    seen: str
    killed: bool


def shown(page: Path) -> Iterator[Shown]:
    """The blocks of a page."""
    lines = page.read_text("utf-8").splitlines()
    at = 0
    while at < len(lines):
        fence = FENCE.match(lines[at])
        at += 1
        if fence is None:
            continue
        begun = at
        while lines[at] != "```":
            at += 1
        yield Shown(fence["language"], fence["title"] or "", "\n".join(lines[begun:at]), begun + 1)
        at += 1


def typed(text: str) -> Iterator[Typed]:
    """The commands of a block."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, seen = part.partition("\n")
        while command.endswith("\\"):
            more, _, seen = seen.partition("\n")
            command = f"{command[:-1]}{more.strip()}"
        lines = seen.rstrip().splitlines()
        killed = KILLED in lines
        yield Typed(command, "\n".join(line for line in lines if line != KILLED).strip(), killed)


def matches(seen: str, wanted: str) -> bool:
    """Whether an output is what the page shows."""
    pattern = r".*?".join(re.escape(part) for part in re.sub(r"\s+", " ", wanted).split("…"))
    return re.fullmatch(pattern, re.sub(r"\s+", " ", seen).strip(), re.DOTALL) is not None


def follow(page: Path, folder: Path) -> int:
    """Do what a page says, in an empty folder; returns how many commands there were. Fails if other things are seen."""
    commands, port = 0, str(private_port())
    for block in shown(page):
        if block.language in ("python", "toml", "yaml", "ini") and block.title:
            path = folder / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{block.text}\n", "utf-8")
        elif block.language == "console":
            for one in typed(block.text.replace(PORT, port)):
                seen = run(one, folder)
                said = f"{page.name}:{block.line}: $ {one.command}\n{seen}\n--- not ---\n{one.seen}"
                assert matches(seen, one.seen), said
                commands += 1
    return commands


def run(one: Typed, folder: Path) -> str:
    """Type one command; what it has printed."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    kept = {name: value for name, value in os.environ.items() if not name.endswith(("_API_KEY", "_ADDOPTS"))}
    environment = {**kept, "PATH": path, "COLUMNS": "100", "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}
    running = subprocess.Popen(
        one.command, shell=True, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    if one.killed:
        return _killed(running, one.seen)
    try:
        return running.communicate(timeout=120)[0]
    finally:
        with suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)  # whatever it has left behind


def _killed(running: subprocess.Popen[str], seen: str) -> str:
    """Kill it when it has printed what the page shows."""
    assert running.stdout is not None
    lines: list[str] = []
    while not matches("".join(lines), seen):
        line = running.stdout.readline()
        assert line, f"It ended by itself, after {lines}."
        lines.append(line)
    time.sleep(0.1)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    return "".join(lines)
