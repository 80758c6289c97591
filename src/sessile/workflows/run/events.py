"""What a workflow tells while it works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

EventKind = Literal[
    "run.started",
    "run.ended",
    "run.paused",
    "step.started",
    "step.text",
    "step.retrying",
    "step.finished",
    "step.failed",
]


@dataclass(slots=True, frozen=True)
class WorkflowEvent:
    """Something that has happened in a run; what is kept in the journal was committed before it is told.

    Attributes:
        kind: what: `step.started`, `step.text` (a piece of an agent's answer), `step.retrying`, `step.finished`,
            `step.failed`, `run.started`, `run.paused`, `run.ended`.
        step: the step's name; None for those of the run.
        path: its position in the run, `"3"`, or `"3.1.2"` inside other steps and parallel branches.
        attempt: which attempt it was.
        seconds: how long the attempt took, or after how long the next one comes (`step.retrying`).
        text: the piece of text; of a run that is paused, what it waits for.
        error: what went wrong, as text.
        cached: the result was taken from the cache.
        replayed: the step had finished before, and its result was taken from the journal.
    """

    kind: EventKind
    step: str | None = None
    path: str = ""
    attempt: int = 1
    seconds: float = 0.0
    text: str = ""
    error: str | None = None
    cached: bool = False
    replayed: bool = False


Emit = Callable[[WorkflowEvent], Any]


def unheard(event: WorkflowEvent) -> None:
    """For runs that nobody listens to."""
