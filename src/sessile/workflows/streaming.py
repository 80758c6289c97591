"""Runs of workflows that tell what happens while they work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Generic, TypeVar, cast

from ..agents.recorder import to_the_end
from ..agents.streaming import AsyncRunStream, RunStream
from .events import Emit, WorkflowEvent
from .result import WorkflowResult

OutputT = TypeVar("OutputT")

_END: Any = object()


class AsyncWorkflowStream(AsyncRunStream[OutputT], Generic[OutputT]):
    """A run at work: an iterator of its `WorkflowEvent`s. As a context manager it cancels a run that has not ended."""

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


async def watched(
    handler: Any,
    start: Callable[[Emit], Coroutine[Any, Any, WorkflowResult[Any]]],
) -> WorkflowResult[Any]:
    """Run what `start` begins, and hand its events over as they come, also those that are told in other threads.

    `handler` is what the stream of an agent would hand over its own events with.
    """
    loop = asyncio.get_running_loop()
    events: asyncio.Queue[Any] = asyncio.Queue()

    def emit(event: Any) -> None:
        loop.call_soon_threadsafe(events.put_nowait, event)

    async def told() -> AsyncIterator[WorkflowEvent]:
        while (event := await events.get()) is not _END:
            yield event

    work = asyncio.ensure_future(start(emit))
    work.add_done_callback(lambda _: emit(_END))
    try:
        await handler(None, told())
    except asyncio.CancelledError:
        work.cancel()
        await to_the_end(asyncio.wait([work]))
        raise
    return await work
