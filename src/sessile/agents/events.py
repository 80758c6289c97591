"""What a team's stream tells beside text: who of its members works, and what each of them does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic_ai.messages import AgentStreamEvent

from ..records import JsonObject, Status, Usage


@dataclass(frozen=True, slots=True)
class MemberStarted:
    """A member begins to work, or continues what it had begun; `task` is what it was asked."""

    task: Any


@dataclass(frozen=True, slots=True)
class MemberEnded:
    """A member's run has ended, or pauses. The `output` of one that has handed over is a `Handoff`."""

    status: Status
    output: Any
    error: JsonObject | None
    usage: Usage


@dataclass(frozen=True, slots=True)
class TeamEvent:
    """Something that happens in a team's run.

    Attributes:
        member: who speaks: the name of a member, or for the leader that of its team.
        path: the names from the team down to the member; empty for the leader of the team itself.
        run_id, parent_run_id: the run that it belongs to, and the run above that.
        event: `MemberStarted`, `MemberEnded`, or one of Pydantic AI's events (parts, deltas, tool calls and results).
        answering: whether the text of this speaker is the answer of the team's run.
    """

    member: str
    path: tuple[str, ...]
    run_id: str
    parent_run_id: str | None
    event: AgentStreamEvent | MemberStarted | MemberEnded
    answering: bool


Listen = Callable[[TeamEvent], None]
