"""What a run of an agent returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import reduce
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic_ai import DeferredToolRequests
from pydantic_ai.messages import ModelMessage
from pydantic_ai.run import AgentRunResult

from ..records import JsonObject, Status, Usage

if TYPE_CHECKING:
    from typing_extensions import TypeVar as TypeVarWithDefault  # type checkers bring it, Python has it from 3.13 on

    OutputT = TypeVarWithDefault("OutputT", default=str)
else:
    OutputT = TypeVar("OutputT")
"""The type of an agent's answers: text, where no `output_type` says otherwise."""


@dataclass(slots=True)
class RunResult(Generic[OutputT]):
    """The result of a run that is stored.

    Attributes:
        output: what the agent answered, of its output type; of a paused run its `pending`.
        session_id: the session, made by the run if no id was given.
        run_id: the run's id.
        number: the run's number in its session; 0 without a storage.
        status: `completed`, or `paused` when it waits for a decision. A member's run may also be `failed`,
            `cancelled` or `running` (it continues with the team's, after a pause).
        usage: what this run has used, with all runs of members; `own_usage` is without them.
        state: the session's state as the run left it.
        pending: the tool calls that wait for a decision, of a paused run.
        agent_result: Pydantic AI's own result; None for a run that paused before it went on, for one that has failed,
            and for a member's run that had ended before the team's was resumed.
        agent: the name of the agent or team.
        error: `{"type": …, "message": …}` of a member's run that has failed.
        members: the results of a team's members, in the order in which their runs began.
        stored_messages: the run's own messages, of one that was resumed, or was not driven here, because its request
            came again under its `run_id`. Empty if this version cannot read them.
    """

    output: OutputT
    session_id: str
    run_id: str
    number: int
    status: Status
    usage: Usage
    state: JsonObject
    pending: DeferredToolRequests | None = None
    agent_result: AgentRunResult[Any] | None = None
    agent: str | None = None
    error: JsonObject | None = None
    members: list[RunResult[Any]] = field(default_factory=list["RunResult[Any]"])
    stored_messages: list[ModelMessage] = field(default_factory=list[ModelMessage])

    @property
    def own_usage(self) -> Usage:
        """What this run has used itself: of a team's run, what its leader has."""
        return reduce(lambda usage, member: usage - member.usage, self.members, self.usage)

    def new_messages(self) -> list[ModelMessage]:
        """The messages of this run, in order: all of them, also those from before a pause; not what was sent along."""
        if self.agent_result is None or self.stored_messages:
            return list(self.stored_messages)
        return self.agent_result.new_messages()

    def all_messages(self) -> list[ModelMessage]:
        """The history that was sent along (where the run was driven here), and the messages of this run."""
        return list(self.stored_messages) if self.agent_result is None else self.agent_result.all_messages()
