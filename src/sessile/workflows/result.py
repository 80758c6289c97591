"""What a run of a workflow returns, and how its steps are shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from ..agents.result import RunResult
from ..records import MICROSECOND, Entry, JsonObject, Run
from .journal import STEP_FAILED, STEP_FINISHED, waits_of
from .values import load

if TYPE_CHECKING:
    from typing_extensions import TypeVar as TypeVarWithDefault  # type checkers bring it, Python has it from 3.13 on

    OutputT = TypeVarWithDefault("OutputT", default=Any)
else:
    OutputT = TypeVar("OutputT")
"""The type of what a workflow comes to: anything, of a declared one."""


@dataclass(slots=True)
class WorkflowResult(RunResult[OutputT]):
    """The result of a run of a workflow; see `RunResult`.

    `status` is `completed`, `paused`, or `running` where another process is at work on the run; only of a completed
    one `output` is what the function returned. `usage` is what the agents of its steps have used, `waits_for` the
    names of the events that a paused run waits for.
    """

    waits_for: tuple[str, ...] = ()


StepStatus = Literal["finished", "failed", "retrying", "running"]


@dataclass(slots=True)
class StepRecord:
    """One attempt of a step, as the journal has it, or as it is at work.

    Attributes:
        name, path, attempt: which attempt of which step.
        status: `finished`, `failed` (for good), `retrying` (failed, and another attempt follows), or `running`: at work
            when the process last renewed its lease.
        started_at, ended_at: microseconds UTC; `ended_at` is None while it is at work.
        data: what it came to, as the JSON that is stored.
        error: `{"type": …, "message": …}` of a failed attempt.
        cached: the result was taken from the cache instead of computed.
    """

    name: str
    path: str
    attempt: int
    status: StepStatus
    started_at: int
    ended_at: int | None = None
    data: Any = None
    error: JsonObject | None = None
    cached: bool = False

    @property
    def output(self) -> Any:
        """What it came to, as objects of its types again.

        Raises `UnknownFormatError` if this program does not have their classes; the rest of the journal is there.
        """
        return load(self.data)

    @property
    def seconds(self) -> float | None:
        """How long it took."""
        return None if self.ended_at is None else (self.ended_at - self.started_at) / MICROSECOND


def stored_result(session_id: str, run: Run) -> WorkflowResult[Any]:
    """A run as the log has it, as a result; the state is not a run's own, and left out."""
    output = load(run.output) if run.status == "completed" else None
    return WorkflowResult(
        output, session_id, run.run_id, run.number, run.status, run.usage, {}, waits_for=tuple(waits_of(run))
    )


def step_records(run: Run, note: Any) -> list[StepRecord]:
    """The steps of a run in the order in which they ended, and then those that are at work."""
    records = [_record(entry) for entry in run.steps if entry.kind in (STEP_FINISHED, STEP_FAILED)]
    for one in note or ():
        records.append(StepRecord(one["name"], one["path"], one["attempt"], "running", one["started_at"]))
    return records


def _record(entry: Entry) -> StepRecord:
    data: JsonObject = entry.data
    status: StepStatus = "finished" if entry.kind == STEP_FINISHED else "retrying" if "retry_in" in data else "failed"
    return StepRecord(
        data["name"],
        data["path"],
        data["attempt"],
        status,
        data["started_at"],
        data["ended_at"],
        data.get("output"),
        data.get("error"),
        data.get("cached", False),
    )
