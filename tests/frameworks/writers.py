"""Several processes at once on one session of a framework, and processes that are killed."""

from __future__ import annotations

from tests.campaigns import TORTURE
from tests.frameworks.helpers import started

PROCESSES, WRITERS, RUNS = (4, 16, 3) if TORTURE else (2, 4, 2)


def written_together(framework: str, name: str, url: str, what: str = "together") -> list[str]:
    """What several processes with several writers each have told to be written, sorted; none may fail."""
    names = [f"p{number}" for number in range(PROCESSES)]
    running = [started(framework, name, url, what, WRITERS, RUNS, said) for said in names]
    said: list[str] = []
    for process in running:
        code, output, errors = process.ended()
        assert code == 0, errors[-4000:]
        said += output.split()
    assert len(said) == PROCESSES * WRITERS * RUNS
    return sorted(said)


def killed_in_the_middle(framework: str, name: str, url: str, after: int, what: str = "together") -> list[str]:
    """What a process had told to be written when it was killed, `after` that many."""
    process = started(framework, name, url, what, 4, 1000, "k")
    told: list[str] = []
    for line in process.output:
        told.append(line.strip())
        if len(told) == after:
            process.kill()
            break
    code, _, errors = process.ended()
    assert code == -9, errors[-4000:]
    return told
