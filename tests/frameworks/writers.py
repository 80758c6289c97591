"""Several processes at once on one session of a framework, and processes that are killed."""

from __future__ import annotations

import subprocess

from tests.campaigns import TORTURE
from tests.frameworks.helpers import TIMEOUT, command, settings

PROCESSES, WRITERS, RUNS = (4, 16, 3) if TORTURE else (2, 4, 2)


def written_together(framework: str, name: str, url: str, what: str = "together") -> list[str]:
    """What several processes with several writers each have told to be written, sorted; none may fail."""
    running = [_start(framework, name, url, what, WRITERS, RUNS, f"p{number}") for number in range(PROCESSES)]
    said: list[str] = []
    for process in running:
        out, err = process.communicate(timeout=TIMEOUT)
        assert process.returncode == 0, err[-4000:]
        said += out.split()
    assert len(said) == PROCESSES * WRITERS * RUNS
    return sorted(said)


def killed_in_the_middle(framework: str, name: str, url: str, after: int, what: str = "together") -> list[str]:
    """What a process had told to be written when it was killed, `after` that many."""
    process = _start(framework, name, url, what, 4, 1000, "k")
    assert process.stdout is not None
    told: list[str] = []
    try:
        while len(told) < after:
            line = process.stdout.readline()
            assert line, process.stderr and process.stderr.read()[-4000:]
            told.append(line.strip())
    finally:
        process.kill()
        process.communicate()
    return told


def _start(framework: str, name: str, url: str, what: str, writers: int, runs: int, said: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(framework, name, what, writers, runs, said),
        env=settings(url),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
