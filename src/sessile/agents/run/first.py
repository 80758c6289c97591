"""How long it takes until the first part of an answer comes, where responses are streamed."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import AsyncIterable, AsyncIterator

from pydantic_ai import RunContext
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.messages import AgentStreamEvent, PartStartEvent
from pydantic_ai.tools import AgentDepsT

from ..messages.counted import asked_for


class FirstPart:
    """When the first part of a run's first model response came, by a clock that nobody sets."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        """When the run began."""
        self.took: int | None = None
        """Microseconds from there to the first part; None: none has come, or responses are not streamed."""
        self.is_of_model = True
        """Whether what comes is said by a model now, and not given again or said in its place."""

    def came(self) -> None:
        """Take note that it has come."""
        self.took = round((time.monotonic() - self.began) * 1_000_000)


class HearsFirst(AbstractCapability[AgentDepsT]):
    """Notes when the first part of a run's first model response comes.

    It hears events where they are told anyway: that it listens makes no request a streamed one.
    """

    @property
    @abstractmethod
    def first_part(self) -> FirstPart | None:
        """What takes note; None: nothing is to be noted, of a run that has gone on or has none."""

    @property
    def has_wrap_run_event_stream(self) -> bool:
        """Whether events are needed, so that requests have to be streamed: not for this."""
        return type(self).wrap_run_event_stream is not HearsFirst.wrap_run_event_stream

    def wrap_run_event_stream(
        self, ctx: RunContext[AgentDepsT], *, stream: AsyncIterable[AgentStreamEvent]
    ) -> AsyncIterable[AgentStreamEvent]:
        """Listen for the first part, unless it has come."""
        first = self.first_part
        if first is None or first.took is not None or not first.is_of_model or _has_answered(ctx):
            return stream
        return _heard(first, stream)


async def _heard(first: FirstPart, stream: AsyncIterable[AgentStreamEvent]) -> AsyncIterator[AgentStreamEvent]:
    try:
        async for event in stream:
            if first.took is None and isinstance(event, PartStartEvent):
                first.came()
            yield event
    finally:
        close = getattr(stream, "aclose", None)
        if close is not None:
            await close()


def _has_answered(ctx: RunContext[AgentDepsT]) -> bool:
    """Whether a model has answered in this run, at once or streamed: what comes now is no first part."""
    return any(asked_for(message) and message.run_id == ctx.run_id for message in ctx.messages)
