"""Runs of workflows that tell what happens while they work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Generic, cast

from ..agents.streaming import AsyncRunStream, RunStream
from .events import Emit
from .result import OutputT, WorkflowResult


class AsyncWorkflowStream(AsyncRunStream[OutputT], Generic[OutputT]):
    """A run at work: an iterator of its `WorkflowEvent`s. As a context manager it interrupts a run at work."""

    _ended_as = "interrupted"

    @property
    def result(self) -> WorkflowResult[OutputT]:
        """The run's result, when the stream has ended."""
        return cast("WorkflowResult[OutputT]", super().result)


class WorkflowStream(RunStream[OutputT], Generic[OutputT]):
    """The synchronous twin of `AsyncWorkflowStream`: the run works on a background loop."""

    @property
    def result(self) -> WorkflowResult[OutputT]:
        """The run's result, when the stream has ended."""
        return cast("WorkflowResult[OutputT]", super().result)


def from_any_thread(put: Callable[[Any], None]) -> Emit:
    """Puts events into the stream of this event loop, also those that are told in other threads, in their order."""
    loop = asyncio.get_running_loop()

    def emit(event: Any) -> None:
        loop.call_soon_threadsafe(put, event)

    return emit
