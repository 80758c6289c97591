"""Streams of a run: its text or its events as they come, and its result at the end."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterator
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Any, Generic, Self

from pydantic_ai.agent import EventStreamHandler
from pydantic_ai.messages import AgentStreamEvent, PartDeltaEvent, PartStartEvent, TextPart, TextPartDelta

from ..errors import SessileError
from ..storage.faces import WAKE_SECONDS, BackgroundTask, background
from .result import OutputT, RunResult
from .shutdown import stored_on_sigterm

Put = Callable[[Any], None]
Start = Callable[[Put], Coroutine[Any, Any, RunResult[Any]]]
"""Begins a run that puts what comes of it into a stream."""

_END: Any = object()


def text_delta(event: AgentStreamEvent) -> str:
    """The piece of the answer's text that an event brings, or nothing."""
    if isinstance(event, PartStartEvent) and isinstance(event.part, TextPart):
        return event.part.content
    if isinstance(event, PartDeltaEvent) and isinstance(event.delta, TextPartDelta):
        return event.delta.content_delta
    return ""


def events_to(put: Put, *, events: bool) -> EventStreamHandler[Any]:
    """A handler that puts a run's events into a stream, or only the pieces of its text."""

    async def take(context: Any, stream: AsyncIterable[AgentStreamEvent]) -> None:
        async for event in stream:
            item = event if events else text_delta(event)
            if item:
                put(item)

    return take


class AsyncRunStream(Generic[OutputT]):
    """A run at work, to be iterated over once. As an async context manager it cancels a run that has not ended."""

    _ended_as = "cancelled"

    def __init__(self, start: Start) -> None:
        self._start = start
        self._items: asyncio.Queue[Any] = asyncio.Queue()
        self._task: asyncio.Task[RunResult[Any]] | None = None
        self._closed = False

    @property
    def result(self) -> RunResult[OutputT]:
        """The run's result, when the stream has ended."""
        if self._task is None or not self._task.done():
            raise SessileError("The stream has not ended yet.", hint="Iterate over it to its end first.")
        if self._task.cancelled():
            raise SessileError(f"The stream was closed before its end, and its run {self._ended_as}: it has no result.")
        return self._task.result()

    async def __aiter__(self) -> AsyncIterator[Any]:
        self._begin()
        while (item := await self._items.get()) is not _END:
            yield item
        assert self._task is not None, "made by _begin"
        if not self._closed:
            await self._task

    def _begin(self) -> None:
        if self._task is not None:
            raise SessileError("A stream can be iterated over only once.")
        self._task = asyncio.get_running_loop().create_task(self._start(self._items.put_nowait))
        self._task.add_done_callback(lambda _: self._items.put_nowait(_END))

    async def aclose(self) -> None:
        """Cancel the run if it has not ended, and wait until what it has is stored; an iteration then just ends."""
        if self._task is not None and not self._task.done():
            self._closed = True
            self._task.cancel()
            await asyncio.wait([self._task])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class RunStream(Generic[OutputT]):
    """The synchronous twin of `AsyncRunStream`: the run works on a background loop."""

    def __init__(self, stream: AsyncRunStream[OutputT]) -> None:
        self._stream = stream
        self._items: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._task: BackgroundTask[None] | None = None
        self._closed = False
        self._guard = ExitStack()

    @property
    def result(self) -> RunResult[OutputT]:
        """The run's result, when the stream has ended."""
        return self._stream.result

    def __iter__(self) -> Iterator[Any]:
        if self._task is not None:
            raise SessileError("A stream can be iterated over only once.")
        self._task = background.task(self._pump())
        self._task.start()
        while (item := self._next()) is not _END:
            yield item
        if not self._closed:
            self._task.result()

    def _next(self) -> Any:
        try:
            with stored_on_sigterm(waiting=True):
                while True:
                    with suppress(queue.Empty):
                        return self._items.get(timeout=WAKE_SECONDS)
        except BaseException:  # KeyboardInterrupt, SystemExit: stop the run, let it store what it has, go on
            self.close()
            raise

    async def _pump(self) -> None:
        try:
            async with self._stream:
                async for item in self._stream:
                    self._items.put(item)
        finally:
            self._items.put(_END)

    def close(self) -> None:
        """Cancel the run if it has not ended, and wait until what it has is stored."""
        if self._task is not None:
            self._closed = True
            self._task.cancel()
            self._task.wait()
            self._items.put(_END)  # the pump may have been cancelled before it began

    def __enter__(self) -> Self:
        self._guard.enter_context(stored_on_sigterm())  # also while the block is busy with a piece that it has got
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._guard:
            self.close()
