"""Runs of workflows that tell what happens while they work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Generic, cast

from ..live.streams import AsyncRunStream, RunStream
from ..storage.turns import Turn
from .run.events import WorkflowEvent
from .run.result import OutputT, WorkflowResult


class AsyncWorkflowStream(AsyncRunStream[OutputT, WorkflowEvent], Generic[OutputT]):
    """A run in progress: an iterator of its `WorkflowEvent`s. As a context manager it interrupts a run in progress."""

    _ended_as = "interrupted"

    @property
    def result(self) -> WorkflowResult[OutputT]:
        """The run's result, when the stream has ended."""
        return cast("WorkflowResult[OutputT]", super().result)


class WorkflowStream(RunStream[OutputT, WorkflowEvent], Generic[OutputT]):
    """The synchronous version of `AsyncWorkflowStream`: the run works on a background loop."""

    @property
    def result(self) -> WorkflowResult[OutputT]:
        """The run's result, when the stream has ended."""
        return cast("WorkflowResult[OutputT]", super().result)


class StreamEmit:
    """Puts events into the stream of this event loop, also those that are told in other threads, in their order."""

    def __init__(self, put: Callable[[Any], None], begun: Callable[[str, str, int], None]) -> None:
        self._put, self._begun = put, begun
        self._loop = asyncio.get_running_loop()

    def __call__(self, event: Any) -> None:
        """Tell it; from any thread."""
        self._loop.call_soon_threadsafe(self._put, event)

    def begun(self, turn: Turn) -> None:
        """Let the stream know its run, which is stored now."""
        self._begun(turn.spec.session_id, turn.spec.run_id, turn.number)
