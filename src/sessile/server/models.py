"""What the API answers with, as its description (OpenAPI) has it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..records import Status


class Out(BaseModel):
    """What is answered."""

    model_config = ConfigDict(extra="forbid")


class UsageOut(BaseModel):
    """What was used; counts that are 0 are left out."""

    model_config = ConfigDict(title="Usage", extra="allow")

    cost: str | None = Field(description="Dollars; null where the price of a request is not known.")


class OutcomeOut(Out):
    """What has come of a run."""

    model_config = ConfigDict(title="Outcome", extra="forbid")

    session_id: str
    run_id: str
    number: int = Field(description="The run's number in its session.")
    agent: str | None
    status: Status
    output: Any
    pending: list[Any] = Field(description="What a paused run waits for.")
    error: dict[str, Any] | None
    usage: UsageOut


class BegunOut(Out):
    """A run that works in the background."""

    model_config = ConfigDict(title="Begun", extra="forbid")

    session_id: str
    run_id: str
    number: int
    agent: str | None
    status: str
    run: str = Field(description="The address of the run.")
    events: str = Field(description="The address of its stream.")


class RatingOut(Out):
    """What somebody has said about a run."""

    model_config = ConfigDict(title="Rating", extra="forbid")

    source: str
    score: float | None
    label: str | None
    comment: str | None
    by: str | None
    seq: int
    time: str
    correction: Any


class MessageOut(Out):
    """One model request or response."""

    model_config = ConfigDict(title="Message", extra="forbid")

    data: Any = Field(description="The message; values over 20 KB are `$cut`.")
    format: str | None
    run: int
    run_id: str | None
    agent: str | None
    seq: int
    time: str


class HandoffOut(Out):
    """What comes of a member's run that has handed the conversation over."""

    model_config = ConfigDict(title="Handoff", extra="forbid")

    to: str
    reason: str


class RunOut(Out):
    """A run."""

    model_config = ConfigDict(title="Run", extra="forbid")

    session_id: str
    number: int
    run_id: str
    parent_run_id: str | None
    status: Status
    input: Any
    output: Any
    error: dict[str, Any] | None
    usage: UsageOut
    agent: str | None
    durability: str
    pending: list[Any]
    started_at: str
    ended_at: str | None
    first_token: float | None = Field(
        description="Seconds from its start to the first part of an answer; null where responses are not streamed."
    )
    metadata: Any
    ratings: list[RatingOut]
    epoch: int
    answers: bool = Field(description="Of a member's run: it answers the user in the place of its team.")
    handoff: HandoffOut | None = Field(description="To whom a member has handed over, instead of an output.")
    answered_by: str | None = Field(description="The member that has answered in the place of its team.")
    messages: list[MessageOut]
    message_count: int
    own_usage: UsageOut = Field(description="Without the runs below it.")
    children: list[RunOut]


class SessionOut(Out):
    """A session."""

    model_config = ConfigDict(title="Session", extra="forbid")

    session_id: str
    kind: str
    agent: str | None
    user_id: str | None
    name: str | None
    revision: int
    run_count: int
    status: Status | None
    last_status: Status | None
    usage: UsageOut
    state: Any = Field(default=None, description="Lists do not have it.")
    metadata: Any
    created_at: str
    updated_at: str
    ttl: float | None
    expires_at: str | None
    forked_from: dict[str, Any] | None
    tip: int
    trimmed: int = Field(description="The number of the last run that was removed from the beginning; 0: none.")
    hold: str | None = Field(description="Why nothing of it may be deleted.")
    lead: str | None = Field(description="The member of its team to whom the conversation was handed over last.")
    waiting: list[int]
    last: dict[str, Any] | None = Field(default=None, description="Of lists with `details`: the newest run, in short.")


class FileOut(Out):
    """One version of a file of a session."""

    model_config = ConfigDict(title="File", extra="forbid")

    name: str = Field(description="A name, and no path.")
    version: int
    size: int = Field(description="Bytes.")
    media_type: str = Field(description="What its writer says that it is.")
    digest: str = Field(description="The SHA-256 hash of its content.")
    run_id: str | None = Field(description="The run that has written it.")
    agent: str | None
    written_at: str
    file_id: str


class MemoryOut(Out):
    """What is remembered about a user."""

    model_config = ConfigDict(title="Memory", extra="forbid")

    memory_id: str
    memory: str
    topics: list[str]
    user_id: str | None
    session_id: str | None = Field(description="Where it comes from.")
    run_id: str | None
    agent: str | None
    created_at: str
    updated_at: str
    expires_at: str | None


class SessionPage(Out):
    """A page of sessions."""

    items: list[SessionOut]
    next_cursor: str | None
    unreadable: list[str]


class RunPage(Out):
    """Some runs of a session, oldest first."""

    items: list[RunOut]
    before: int | None = Field(description="`before=` of the next older ones; null: there are none.")
    after: int | None = Field(description="`after=` of the next newer ones; null: there are none.")
    first: int = Field(description="The branch's first run; 0: it has none.")
    last: int = Field(description="The branch's last run.")
    count: int = Field(description="How many runs the branch has.")
    unreadable: list[int]


class EntryOut(BaseModel):
    """One record of the log."""

    model_config = ConfigDict(title="Entry", extra="allow")

    kind: str
    data: Any = Field(description="Its content; values over 20 KB are `$cut`.")
    run_id: str | None
    run: int | None
    parent_run_id: str | None
    agent: str | None
    format: str | None
    seq: int
    time: str


class EntryPage(Out):
    """Some entries of a log, oldest first."""

    items: list[EntryOut]
    next_after: int | None
    unreadable: list[int]


class StatesOut(Out):
    """The state before and after a run, and what the run has changed, each with what takes it back."""

    model_config = ConfigDict(title="States", extra="forbid")

    before: dict[str, Any]
    after: dict[str, Any]
    changes: list[Any]


class StepOut(Out):
    """One attempt of a workflow's step."""

    model_config = ConfigDict(title="Step", extra="forbid")

    name: str
    path: str
    attempt: int
    status: Literal["finished", "failed", "retrying", "running"]
    started_at: str
    ended_at: str | None
    duration: float | None
    data: Any
    error: dict[str, Any] | None
    cached: bool


class WaitingOut(Out):
    """A run that waits for somebody."""

    model_config = ConfigDict(title="Waiting", extra="forbid")

    session_id: str
    session_name: str | None
    user_id: str | None
    number: int
    run_id: str
    agent: str | None
    since: str
    epoch: int = Field(description="For `resume` and `decisions`: what is decided is about these questions.")
    asked: list[Any]
    decided: Any
    is_decided: bool


class GrantOut(Out):
    """What is approved for good."""

    model_config = ConfigDict(title="Approval", extra="forbid")

    grant_id: str
    tool: str
    agent: str
    session_id: str | None = Field(description="Null: in all sessions of the user.")
    user_id: str | None
    by: str | None
    granted_at: str
    expires_at: str | None = Field(description="Null: it holds until it is taken back.")


class BranchOut(Out):
    """A branch of a session."""

    model_config = ConfigDict(title="Branch", extra="forbid")

    tip: int
    runs: int
    current: bool


class AgentOut(Out):
    """What is served."""

    model_config = ConfigDict(title="Agent", extra="forbid")

    name: str
    kind: Literal["agent", "team", "workflow"]
    description: str | None
    durability: str
    input_schema: dict[str, Any] | None
    output_schema: dict[str, Any] | None
    state_schema: dict[str, Any] | None


class ExperimentOut(Out):
    """A replay of stored runs."""

    model_config = ConfigDict(title="Experiment", extra="forbid")

    experiment: str
    agent: str
    status: Literal["running", "completed", "failed"]
    done: int
    total: int
    error: str | None
    model: str | None = Field(description="What it runs with, if not with the agent's own.")
    chosen: dict[str, Any] = Field(description="Which runs it is made of: the filters that were asked for.")
    started_at: str
    report: dict[str, Any] | None


class ExaminedOut(Out):
    """What was found in a database."""

    model_config = ConfigDict(title="Examined", extra="forbid")

    warnings: list[str]
    wrong: dict[str, str]
    sound: int


class AnyOut(BaseModel):
    """An object."""

    model_config = ConfigDict(title="Object", extra="allow")


class FoundPageOut(Out):
    """A page of what the index has found."""

    items: list[Any]
    next_cursor: str | None
    unreadable: list[str]
    complete_until: str = Field(description="All that was committed before is in the answer.")
