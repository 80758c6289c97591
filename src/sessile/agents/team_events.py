"""What a team's stream tells beside text: who of its members is at work, and what each of them does."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable
from dataclasses import dataclass
from typing import Any

from pydantic_ai.messages import AgentStreamEvent

from ..records import JsonObject, Status, Usage
from .member import path_of
from .recorder import Recorder
from .streaming import Put, text_delta


@dataclass(frozen=True, slots=True)
class MemberStarted:
    """A member begins to work, or goes on with what it had begun; `task` is what it was asked."""

    task: Any


@dataclass(frozen=True, slots=True)
class MemberEnded:
    """A member's run has come to an end, or to a pause."""

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


def listener(put: Put, *, events: bool) -> Listen:
    """What puts a team's events into a stream, or only the pieces of its answer."""

    def text_only(event: TeamEvent) -> None:
        inner = event.event
        if event.answering and not isinstance(inner, (MemberStarted, MemberEnded)) and (text := text_delta(inner)):
            put(text)

    return put if events else text_only


class Voice:
    """One speaker of a team, and whoever listens to it."""

    def __init__(self, listen: Listen, name: str, recorder: Recorder, answering: Callable[[], bool]) -> None:
        self._listen, self._answering = listen, answering
        team = recorder.session.team
        above = None if team is None else team.run_id
        self._who = (name, (*recorder.root.prefix, *path_of(recorder)), recorder.run_id, above)

    def say(self, event: AgentStreamEvent | MemberStarted | MemberEnded) -> None:
        """Tell an event."""
        self._listen(TeamEvent(*self._who, event, self._answering()))

    async def pass_on(self, context: Any, events: AsyncIterable[AgentStreamEvent]) -> None:
        """Tell a run's events; a handler for Pydantic AI."""
        async for event in events:
            self.say(event)
