"""Who speaks in a team, and who listens."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable
from typing import Any

from pydantic_ai.messages import AgentStreamEvent

from ...live.streams import Put, text_delta
from ..events import Listen, MemberEnded, MemberStarted, TeamEvent
from ..partial import with_partial
from ..run.recorder import Recorder
from .member import path_of


def listener(put: Put, *, events: bool, text: bool) -> Listen:
    """What puts a team's events into a stream, or only the pieces of its answer, if that is text."""

    def text_only(event: TeamEvent) -> None:
        inner = event.event
        if event.answering and not isinstance(inner, (MemberStarted, MemberEnded)) and (piece := text_delta(inner)):
            put(piece)

    if events:
        return put
    return text_only if text else _unheard


def _unheard(event: TeamEvent) -> None:
    """Of a team that answers with objects, nobody hears how they come about."""


class Voice:
    """One speaker of a team, and whoever listens to it."""

    def __init__(
        self, listen: Listen, name: str, recorder: Recorder, answering: Callable[[], bool], partial: Put | None = None
    ) -> None:
        self._listen, self._answering, self._partial = listen, answering, partial
        team = recorder.session.team
        above = None if team is None else team.run_id
        self._who = (name, (*recorder.root.prefix, *path_of(recorder)), recorder.run_id, above)

    def say(self, event: AgentStreamEvent | MemberStarted | MemberEnded) -> None:
        """Tell an event."""
        self._listen(TeamEvent(*self._who, event, self._answering()))

    async def pass_on(self, context: Any, events: AsyncIterable[AgentStreamEvent]) -> None:
        """Tell a run's events, and its output as far as it has come; a handler for Pydantic AI."""
        async for event in events if self._partial is None else with_partial(events, self._partial):
            self.say(event)
