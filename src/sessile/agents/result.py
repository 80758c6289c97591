"""What a run of an agent returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic_ai import DeferredToolRequests
from pydantic_ai.messages import ModelMessage
from pydantic_ai.run import AgentRunResult

from ..records import JsonObject, Status, Usage

OutputT = TypeVar("OutputT")


@dataclass(slots=True)
class RunResult(Generic[OutputT]):
    """The result of a run that is stored.

    Attributes:
        output: what the agent answered, of its output type; of a paused run its `pending`.
        session_id: the session, made by the run if no id was given.
        run_id: the run's id.
        number: the run's number in its session; 0 without a storage.
        status: `completed`, or `paused` when it waits for a decision.
        usage: what this run has used.
        state: the session's state as the run left it.
        pending: the tool calls that wait for a decision, of a paused run.
        agent_result: Pydantic AI's own result; None for a run that paused before it went on.
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

    def new_messages(self) -> list[ModelMessage]:
        """The messages of this run, in order, without the history that was sent along."""
        return [] if self.agent_result is None else self.agent_result.new_messages()

    def all_messages(self) -> list[ModelMessage]:
        """The history that was sent along, and the messages of this run."""
        return [] if self.agent_result is None else self.agent_result.all_messages()
