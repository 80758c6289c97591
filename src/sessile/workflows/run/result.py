"""What a run of a workflow returns, and how its steps are shown."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from ...agents.messages.stored import requests_of
from ...live.result import RunResult
from ...records import JsonObject, Run
from ...storage.vocabulary import Pending, StepFailed, StepFinished
from ...times import MICROSECOND, Timed, datetime_of
from .journal import waits_of, waits_until
from .values import load

if TYPE_CHECKING:
    from typing_extensions import TypeVar as TypeVarWithDefault  # type checkers bring it, Python has it from 3.13 on

    OutputT = TypeVarWithDefault("OutputT", default=Any)
else:
    OutputT = TypeVar("OutputT")
"""The type of what a workflow returns: anything, of a declared one."""


@dataclass(slots=True)
class WorkflowResult(RunResult[OutputT]):
    """The result of a run of a workflow; see `RunResult`.

    `status` is `completed`, `paused`, or `running` where another process works on the run; only of a completed
    one `output` is what the function returned. `usage` is what the agents of its steps have used. Of a paused run
    `waiting_for` has the names of the events that it waits for, `waiting_until` when the first of them is waited for no
    longer, and `pending` the tool calls of agents that wait for a decision.
    """

    waiting_for: tuple[str, ...] = ()
    waiting_until: datetime | None = None


StepStatus = Literal["finished", "failed", "retrying", "running"]


@dataclass(slots=True)
class StepRecord(Timed):
    """One attempt of a step, as the journal has it, or as it is running.

    Attributes:
        name, path, attempt: which attempt of which step.
        status: `finished`, `failed` (for good), `retrying` (failed, and another attempt follows), or `running`: now
            when the process last renewed its lease.
        started_us, ended_us: microseconds UTC; `ended_us` is None while it is running; `started_at`, `ended_at` as
            datetimes.
        data: what it returned, as the JSON that is stored.
        error: `{"type": …, "message": …}` of a failed attempt.
        cached: the result was taken from the cache instead of computed.
    """

    name: str
    path: str
    attempt: int
    status: StepStatus
    started_us: int
    ended_us: int | None = None
    data: Any = None
    error: JsonObject | None = None
    cached: bool = False

    @property
    def output(self) -> Any:
        """What it returned, as objects of its types again.

        Raises `UnknownFormatError` if this program does not have their classes; the rest of the journal is there.
        """
        return load(self.data)

    @property
    def seconds(self) -> float | None:
        """How long it took."""
        return None if self.ended_us is None else (self.ended_us - self.started_us) / MICROSECOND


def stored_result(session_id: str, run: Run) -> WorkflowResult[Any]:
    """A run as the log has it, as a result; the state is not a run's own, and left out."""
    output = load(run.output) if run.status == "completed" else None
    until = waits_until(run)
    return WorkflowResult(
        output,
        session_id,
        run.run_id,
        run.number,
        run.status,
        run.usage,
        {},
        pending=requests_of(run) if run.status == "paused" and Pending.of(run.pending).requests else None,
        waiting_for=tuple(waits_of(run)),
        waiting_until=None if until is None else datetime_of(until),
    )


def step_records(run: Run, note: Any) -> list[StepRecord]:
    """The steps of a run in the order in which they ended, and then those that are running."""
    ended = [StepFinished.read(entry) or StepFailed.read(entry) for entry in run.steps]
    records = [_record(step) for step in ended if step is not None]
    for one in note or ():
        records.append(StepRecord(one["name"], one["path"], one["attempt"], "running", one["started_at"]))
    return records


def _record(step: StepFinished | StepFailed) -> StepRecord:
    record = StepRecord(step.name, step.path, step.attempt, "finished", step.started_at, step.ended_at)
    if isinstance(step, StepFailed):
        record.status, record.error = "failed" if step.retry_in is None else "retrying", step.error
    else:
        record.data, record.cached = step.output, step.cached
    return record
