"""What a run is driven with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic_ai import DeferredToolRequests, DeferredToolResults
from pydantic_ai.agent import AbstractAgent
from pydantic_ai.messages import ModelMessage, UserContent

from ...records import Handoff, Usage
from ..history.past import SessionPast
from ..history.windows import Window
from ..memory import Memory
from ..messages.counted import NOTHING
from ..shown import Choose, ShownMessages
from ..titles import Titles
from .company import Alone, Company


@dataclass(slots=True)
class Job:
    """What a run is driven with, beside its recorder.

    Attributes:
        agent: Pydantic AI's agent, which does the work.
        window: chooses the earlier runs that are sent along.
        options: further arguments of `pydantic_ai.Agent.run`.
        newest: how many runs are read together with the head, in one look.
        past: makes, of the model, what the window chooses from. Default: the earlier runs of the session. (A member is
            given its own earlier work, or its team's.)
        prompt: what the user says; None for a run that goes on.
        results: of a run that goes on: the decisions about its tool calls.
        pending: the tool calls that these decisions are about.
        own: of a run that goes on: the messages that it has made before.
        session_usage: whether limits span the whole session.
        refuse_conflicts: whether the run's changes of the state are refused where somebody else has changed the same.
        placeholders: whether instructions may have placeholders to fill.
        usage_before: what counts for the run's limits beside its own usage.
        company: who works beside the run, for it.
        begun: is told the session, the id and the number of the run when it has begun, or goes on.
        went_on: is told, before that, which turn it is (1, and one more for each process that has taken it over),
            and the messages that the run has made before, unless these are reviewed first.
        partial: of a team's stream: takes the leader's output as far as it has come.
        given: the options as the caller has given them.
        remake: makes the job anew, of other options that it is given.
        choose: chooses the examples for a question, which stand before the history.
        shown: those that were chosen, if that was done already.
        titles: how a session without a name gets one.
        memory: how the agent remembers its users.
        review: whether somebody looks at the output before it is given.
        handed: of a member that may hand over: whether it has, as the messages of its run say.
    """

    agent: AbstractAgent[Any, Any]
    window: Window
    options: dict[str, Any]
    newest: int
    past: Callable[[Any], SessionPast] | None = None
    prompt: str | Sequence[UserContent] | None = None
    results: DeferredToolResults | None = None
    pending: DeferredToolRequests | None = None
    own: Sequence[ModelMessage] = field(default_factory=list[ModelMessage])
    session_usage: bool = False
    refuse_conflicts: bool = False
    placeholders: bool = True
    usage_before: Usage = field(default_factory=lambda: NOTHING)
    company: Company = field(default_factory=Alone)
    begun: Callable[[str, str, int], None] | None = None
    went_on: Callable[[int, Sequence[ModelMessage]], None] | None = None
    partial: Callable[[Any], None] | None = None
    given: Mapping[str, Any] = field(default_factory=dict[str, Any])
    remake: Callable[[Any], Job] | None = None
    choose: Choose | None = None
    shown: ShownMessages | None = None
    titles: Titles = None
    memory: Memory | None = None
    review: bool = False
    handed: Callable[[Sequence[ModelMessage]], Handoff | None] | None = None

    async def show(self, question: str) -> ShownMessages:
        """The examples for a question, chosen once."""
        if self.shown is None:
            self.shown = ShownMessages([], []) if self.choose is None else await self.choose(question)
        return self.shown

    @property
    def limited(self) -> bool:
        """Whether the run has limits of its own, which hold for the runs below it as well."""
        return self.options.get("usage_limits") is not None
