"""What a workflow's run leaves: its journal."""

from __future__ import annotations

from typing import Any

from ...records import JsonObject
from .runs import erased_error
from .words import ERASED, Word, erased_value, field


class Step(Word):
    """What entries about a step have in common."""

    path: str = field("the step's position: `3` is the third of the workflow, `3.1` the first inside it")
    name: str = field("the step's name")
    attempt: int = field("which attempt this was, from 1")
    started_at: int = field("when the attempt began, microseconds UTC")
    ended_at: int = field("when it ended")
    within: list[Any] | None = field(
        "of a step inside another: the name of the one around it, and how deep that lies", default=None
    )

    inputs: str | None = field(
        "a digest of what the step was called with (SHA-256, 128 bits of it), where that has a JSON form", default=None
    )

    @property
    def changes(self) -> list[list[Any]]:
        """What the step changed in the workflow's state."""
        return self.json.get("state", [])


class StepFinished(Step, kind="step.finished", droppable=True):
    """A step has finished; a replay takes its output from here."""

    output: Any = field('what it returned; what is no JSON is `{"$type": …, "value": …}`', erased=erased_value)
    state: list[list[Any]] | None = field(
        "what it changed in the workflow's state, as operations (see above)", default=None, erased=lambda _: []
    )
    cached: bool = field("whether it was taken from the cache", default=False)
    event: int | None = field("of a wait: the commit with the event that it received", default=None)


class StepFailed(Step, kind="step.failed", droppable=True):
    """An attempt of a step has failed."""

    error: JsonObject = field('`{"type": …, "message": …}`', erased=erased_error)
    retry_in: float | None = field("seconds until the next attempt; absent: there is none", default=None)


class StepsAgain(Word, kind="step.again", droppable=True):
    """Steps that have failed are done again when the run is resumed."""

    paths: list[str] = field("their positions")


class PatchPassed(Word, kind="workflow.patched", once="workflow.version", droppable=True):
    """The run has reached a change of the workflow's code (`ctx.patched`), and takes the new way.

    Before the first release: `workflow.version`.
    """

    name: str = field("the name of the change")


class EventSent(Word, kind="event.sent", droppable=True):
    """An event from outside, for the workflow's run; the entry's `seq` is its identity."""

    name: str = field("the event's name")
    value: Any = field("what was sent, JSON", erased=erased_value)
    by: str | None = field("who has sent it: a person's or a program's id", default=None, erased=lambda _: ERASED)
