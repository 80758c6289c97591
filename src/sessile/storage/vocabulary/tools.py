"""What the steps of an agent's run leave: tool calls, with `durability="step"`, and what a run was resumed with."""

from __future__ import annotations

from typing import Any

from ...records import Entry, JsonObject
from .words import ABSENT, ERASED, Word, erased_value, field


def _erased_text(text: Any) -> Any:
    return ERASED if text else text


class ToolStarted(Word, kind="tool.started", droppable=True):
    """A tool call is about to be executed."""

    tool_call_id: str = field("the id that the model gave the call")
    tool_name: str = field("which tool")
    args: Any = field("its arguments, JSON", erased=erased_value)
    output: bool = field("whether it is a function that makes the run's output of what the model says", default=False)


class ToolEnded(Word, kind="tool.ended", droppable=True):
    """A tool call has ended."""

    tool_call_id: str = field("the id that the model gave the call")
    tool_name: str = field("which tool")
    outcome: str = field("`returned`; or `retry`, `failed` (with a message), `deferred` (it waits for a decision)")
    value: Any = field("what it returned, JSON", default=ABSENT, erased=erased_value)
    tool_return: JsonObject | None = field(
        "instead of `value`, of a tool that returned more: `return_value`, `content` (media for the model), `metadata`",
        default=None,
        erased=erased_value,
    )
    message: str = field("what it said to the model instead of returning", default="", erased=_erased_text)
    state: list[list[Any]] | None = field(
        "what the run had changed in the session's state so far, as operations (see above)",
        default=None,
        erased=lambda _: [],
    )


class RunDecided(Word, kind="run.decided", droppable=True):
    """What a run was resumed with: the user's decisions about tool calls, and results of them."""

    approvals: JsonObject = field(
        "by tool call id: true, false, or Pydantic AI's `ToolApproved` or `ToolDenied`", erased=erased_value
    )
    calls: JsonObject = field("by tool call id: what the call returned, as in `tool.ended`", erased=erased_value)
    metadata: JsonObject = field("by tool call id: what was given along", erased=erased_value)
    paused: bool = field("whether the run was paused (or else interrupted)")
    answers: bool = field("whether these are answers that the agent asked for (or else about interrupted calls)")
    delegated: list[str] = field("the calls of a team's leader that waited because members did")
    asked: JsonObject | None = field(
        "of a workflow's run: the ids of the runs of agents that asked, each with the ids of its calls",
        default=None,
    )
    by: str | None = field(
        "who has resumed it with that: a person's or a program's id", default=None, erased=_erased_text
    )
    reviewed: JsonObject | None = field(
        "of a run whose output was looked at: `output`, what is given, and whether it was `edited`; or `remark`, "
        "which the model is told",
        default=None,
        erased=erased_value,
    )


class DecisionSent(Word, kind="decision.sent", droppable=True):
    """Somebody has decided about tool calls that a paused run waits for; whoever resumes the run continues with it.

    Of several about one call the newest counts, and what is given to `resume` counts more than all of them.
    """

    approvals: JsonObject = field(
        "by tool call id: true, false, or Pydantic AI's `ToolApproved` or `ToolDenied`", erased=erased_value
    )
    calls: JsonObject = field("by tool call id: what the call returned, JSON", erased=erased_value)
    epoch: int = field("the epoch of the run that is paused: the decision holds for this pause only")
    by: str | None = field("who has decided: a person's or a program's id", default=None, erased=_erased_text)
    until: int | None = field(
        "when it holds no more, microseconds UTC: it is then as if nothing was decided about these calls", default=None
    )


class ApprovalGranted(Word, kind="approval.granted"):
    """Calls of one tool by one agent are approved from now on: in this session, or in all sessions of one user.

    The latter stand in a log of the user's own. Forks do not have them.
    """

    id: str = field("the id by which it is revoked")
    tool: str = field("the tool's name, as the model sees it")
    agent: str = field("the name of the agent, or of the member of a team, that calls it")
    by: str | None = field("who has approved: a person's or a program's id", default=None, erased=_erased_text)
    until: int | None = field("when it holds no more, microseconds UTC; null: until it is revoked", default=None)

    @classmethod
    def fork(cls, entry: Entry, number: int) -> Entry | None:
        """See `Word.fork`."""
        return None


class ApprovalRevoked(Word, kind="approval.revoked"):
    """What was granted holds no more."""

    id: str = field("the id of what was granted")
    by: str | None = field("who has revoked it", default=None, erased=_erased_text)

    @classmethod
    def fork(cls, entry: Entry, number: int) -> Entry | None:
        """See `Word.fork`."""
        return None


class CallApproved(Word, kind="call.approved", droppable=True):
    """A tool call was approved by what was granted before; nobody was asked."""

    tool_call_id: str = field("the id that the model gave the call")
    tool_name: str = field("which tool")
    grant: str = field("the id of what was granted")
    scope: str = field("`session` or `user`: where that holds")
    by: str | None = field("who had approved", default=None, erased=_erased_text)
