"""Streams of a run: its text or its events as they come, and its result at the end."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from pydantic_ai.messages import AgentStreamEvent, PartDeltaEvent, PartStartEvent, TextPart, TextPartDelta

from ..errors import SessileError
from ..storage.faces import WAKE_SECONDS, BackgroundTask, background, kept
from .result import OutputT, RunResult
from .sigterm import stored_on_sigterm

if TYPE_CHECKING:
    from typing_extensions import TypeVar as TypeVarWithDefault  # type checkers bring it, Python has it from 3.13 on

    ItemT = TypeVarWithDefault("ItemT", default=OutputT)
else:
    ItemT = TypeVar("ItemT")
"""The type of a stream's items: that of the answer, whole or as far as it has come, or events."""

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


class _Items:
    """Iterates over a stream. No generator: one that is left half-way would be closed by the garbage collector."""

    def __init__(self, begin: Callable[[], None], get: Callable[[], Any], finish: Callable[[], None]) -> None:
        self._begin, self._get, self._finish = begin, get, finish
        self._begun = self._ended = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        if not self._begun:
            self._begun = True
            self._begin()
        if not self._ended:
            item = self._get()
            if item is not _END:
                return item
            self._ended = True
            self._finish()
        raise StopIteration


class _AsyncItems:
    """As `_Items`, for asynchronous callers."""

    def __init__(
        self,
        begin: Callable[[], None],
        get: Callable[[], Coroutine[Any, Any, Any]],
        finish: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        self._begin, self._get, self._finish = begin, get, finish
        self._begun = self._ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        if not self._begun:
            self._begun = True
            self._begin()
        if not self._ended:
            item = await self._get()
            if item is not _END:
                return item
            self._ended = True
            await self._finish()
        raise StopAsyncIteration


class _Once:
    """What is iterated over once, and begins with that if it has not begun before."""

    _iterated = False

    def _launch(self) -> None:
        raise NotImplementedError

    def _begin(self) -> None:
        if self._iterated:
            raise SessileError("A stream can be iterated over only once.")
        self._iterated = True
        self._launch()


class AsyncRunStream(_Once, Generic[OutputT, ItemT]):
    """A run in progress, to be iterated over once.

    As an async context manager it begins the run at once, so that what keeps it from beginning (another user's session,
    a storage that is away) is raised before anything of an answer was passed on, and the stream has its `session_id`,
    `run_id` and `number`. It cancels a run that has not ended when the block is left.
    """

    _ended_as = "interrupted"

    def __init__(self, start: Start) -> None:
        self._start: Start | None = start
        self._items: asyncio.Queue[Any] = asyncio.Queue()
        self._task: asyncio.Task[RunResult[Any]] | None = None
        self._closed = False
        self._run: tuple[str, str, int] | None = None
        self._begun = asyncio.Event()

    def has_begun(self, session_id: str, run_id: str, number: int) -> None:
        """Let the stream know its run, which has begun. For what drives the run."""
        self._run = (session_id, run_id, number)
        self._begun.set()

    @property
    def begun(self) -> bool:
        """Whether the run has begun, and is stored if it is stored before its end."""
        return self._run is not None

    def _known(self) -> tuple[str, str, int]:
        if self._run is None:
            raise SessileError("The stream's run has not begun.", hint="Use the stream as a context manager.")
        return self._run

    @property
    def session_id(self) -> str:
        """The session of the run, from its beginning on."""
        return self._known()[0]

    @property
    def run_id(self) -> str:
        """The id of the run, from its beginning on."""
        return self._known()[1]

    @property
    def number(self) -> int:
        """The number of the run in its session, from its beginning on; 0 where nothing is stored before its end."""
        return self._known()[2]

    @property
    def result(self) -> RunResult[OutputT]:
        """The run's result, when the stream has ended."""
        if self._task is None or not self._task.done():
            raise SessileError("The stream has not ended yet.", hint="Iterate over it to its end first.")
        if self._task.cancelled():
            raise SessileError(f"The stream was closed before its end, and its run {self._ended_as}: it has no result.")
        return self._task.result()

    def __aiter__(self) -> AsyncIterator[ItemT]:
        return _AsyncItems(self._begin, self._items.get, self._finish)

    async def _finish(self) -> None:
        if not self._closed and self._task is not None:
            await self._task

    def _launch(self) -> None:
        if self._start is None:
            return
        # It refers to this stream, and is let go: a ring would wait for the garbage collector, with all messages.
        start, self._start = self._start, None
        self._task = kept(asyncio.get_running_loop().create_task(start(self._items.put_nowait)))
        self._task.add_done_callback(lambda _: self._items.put_nowait(_END))

    async def aclose(self) -> None:
        """Cancel the run if it has not ended, and wait until what it has is stored; an iteration then just ends."""
        if self._task is not None and not self._task.done():
            self._closed = True
            self._task.cancel()
            await asyncio.wait([self._task])

    async def __aenter__(self) -> Self:
        self._launch()
        assert self._task is not None, "made by _launch"
        begun = asyncio.ensure_future(self._begun.wait())
        try:
            await asyncio.wait([self._task, begun], return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            await self.aclose()
            raise
        finally:
            begun.cancel()
        if not self.begun and self._task.done():
            found = await self._task  # it has failed before it began, or was there before
            self.has_begun(found.session_id, found.run_id, found.number)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class RunStream(_Once, Generic[OutputT, ItemT]):
    """The synchronous version of `AsyncRunStream`: the run works on a background loop."""

    def __init__(self, stream: AsyncRunStream[OutputT, ItemT]) -> None:
        self._stream = stream
        self._items: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._task: BackgroundTask[None] | None = None
        self._closed = False
        self._guard = ExitStack()
        self._begun = threading.Event()

    @property
    def session_id(self) -> str:
        """The session of the run, from its beginning on."""
        return self._stream.session_id

    @property
    def run_id(self) -> str:
        """The id of the run, from its beginning on."""
        return self._stream.run_id

    @property
    def number(self) -> int:
        """The number of the run in its session, from its beginning on; 0 where nothing is stored before its end."""
        return self._stream.number

    @property
    def result(self) -> RunResult[OutputT]:
        """The run's result, when the stream has ended."""
        return self._stream.result

    def __iter__(self) -> Iterator[ItemT]:
        return _Items(self._begin, self._next, self._finish)

    def _launch(self) -> None:
        if self._task is None:
            self._task = background.task(self._pump())
            self._task.start()

    def _finish(self) -> None:
        if not self._closed and self._task is not None:
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
                self._begun.set()
                async for item in self._stream:
                    self._items.put(item)
        finally:
            self._begun.set()
            self._items.put(_END)

    def close(self) -> None:
        """Cancel the run if it has not ended, and wait until what it has is stored.

        In a finalizer, for which the garbage collector interrupts other code, it does not wait; nor in work that the
        run itself waits for. The run then ends, and is stored, a moment later.
        """
        if self._task is not None:
            self._closed = True
            self._task.give_up()
            self._items.put(_END)  # the pump may have been cancelled before it began

    def __enter__(self) -> Self:
        self._guard.enter_context(stored_on_sigterm())  # also while the block is busy with a piece that it has got
        try:
            self._launch()
            with stored_on_sigterm(waiting=True):
                while not self._begun.wait(WAKE_SECONDS):
                    pass
            if not self._stream.begun and self._task is not None:
                self._task.result()  # it has failed before it began
        except BaseException:
            with self._guard:
                self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._guard:
            self.close()
