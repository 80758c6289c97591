"""What earlier runs of a workflow's session have returned, for its later ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ...records import Run
from ...storage import turns
from ...storage.storage import aoperate
from ...storage.vocabulary import ERASED_VALUE, StepFinished
from ...times import datetime_of
from .runtime import WorkflowRun
from .values import load

LOOKED_AT = 100
"""How many runs before this one are looked through."""


@dataclass(slots=True)
class EarlierRun:
    """A run of the session that has completed before.

    Attributes:
        number, run_id, agent: which run, of which workflow (or agent, or team).
        input: what it was asked: the arguments of a workflow by name.
        output: what it returned.
        ended_at: when it ended.
        steps: of the steps that were asked for, by name, what they returned; of several of one name the last.
    """

    number: int
    run_id: str
    agent: str | None
    input: Any
    output: Any
    ended_at: datetime | None
    steps: dict[str, Any] = field(default_factory=dict[str, Any])


async def earlier_runs(run: WorkflowRun, last: int, agent: str | None, steps: Sequence[str]) -> list[EarlierRun]:
    """The completed runs of one agent (None: of all) before a run, on its branch; oldest first, `last` at most."""
    turn, found = run.journal.turn, list[EarlierRun]()
    numbers = _before(run)
    left = run.storage.settings.max_read_bytes
    while numbers and left > 0 and len(found) < last:
        page, numbers = numbers[-last:], numbers[:-last]
        read, left = await aoperate(run.storage, turns.history, turn, page, left)
        there = [one for one in read if one.status == "completed" and agent in (None, one.agent)]
        found = [_told(one, steps) for one in there] + found
    return found[-last:]


def _before(run: WorkflowRun) -> list[int]:
    """The numbers of the runs before this one, on the branch that ends with it, ascending."""
    head, own = run.journal.turn.head, run.journal.turn.number
    if head is None:
        return []
    numbers = [number for first, last in head.path(own) for number in range(max(first, last - LOOKED_AT), last + 1)]
    return [number for number in numbers if number < own][-LOOKED_AT:]


def _told(run: Run, steps: Sequence[str]) -> EarlierRun:
    returned = {
        step.name: load(step.output)
        for entry in run.steps
        if steps and (step := StepFinished.read(entry)) is not None and step.name in steps
    }
    ended = None if run.ended_us is None else datetime_of(run.ended_us)
    return EarlierRun(run.number, run.run_id, run.agent, _value(run.input), _value(run.output), ended, returned)


def _value(stored: Any) -> Any:
    """What was stored, as objects of its types again; None if it was erased."""
    return None if stored == ERASED_VALUE else load(stored)
