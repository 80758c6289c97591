"""An agent whose answers are told as they come: streams, and what stands in the terminal."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Generic, Literal, NamedTuple, Unpack, overload

from pydantic_ai import DeferredToolResults
from pydantic_ai.messages import AgentStreamEvent

from ..errors import InvalidInputError
from ..live.result import OutputT, RunResult
from ..live.streams import AsyncRunStream, Put, RunStream
from ..records import JsonObject, UserId
from ..storage.turns import TurnSpec
from .options import Approval, Prompt, RunOptions, StreamOptions
from .partial import put_last
from .printing import AnswerView, aprint_stream, print_stream
from .run.job import Job


class Answers(NamedTuple):
    """Which run is resumed, and with what; see `Agent.resume`."""

    number: int | None
    approvals: Mapping[str, Approval]
    results: DeferredToolResults | None
    by: str | None
    adopt: bool
    epoch: int | None


class Streamed(Generic[OutputT]):
    """The methods of an agent that tell a run while it is running."""

    @abstractmethod
    def _spec(
        self, session_id: str | None, user_id: UserId, metadata: JsonObject | None, run_id: str | None = None
    ) -> TurnSpec: ...

    @abstractmethod
    def _is_text(self, options: RunOptions) -> bool:
        """Whether a run's answer is text, so that its stream has pieces of it."""

    @abstractmethod
    def _told(self, options: RunOptions, put: Put, *, events: bool) -> Job:
        """What a run is driven with that puts what comes of it into a stream."""

    @abstractmethod
    async def _begin(self, prompt: Prompt | None, spec: TurnSpec, job: Job) -> RunResult[Any]: ...

    @abstractmethod
    async def _go_on(self, session_id: str | None, user_id: UserId, answers: Answers, job: Job) -> RunResult[Any]:
        """Resume a run, driven like that."""

    @overload
    def stream(
        self, prompt: Prompt | None, *, events: Literal[False] = False, **options: Unpack[StreamOptions]
    ) -> RunStream[OutputT]: ...

    @overload
    def stream(
        self, prompt: Prompt | None, *, events: Literal[True], **options: Unpack[StreamOptions]
    ) -> RunStream[OutputT, AgentStreamEvent]: ...

    @overload
    def stream(
        self, prompt: Prompt | None, *, events: bool, **options: Unpack[StreamOptions]
    ) -> RunStream[OutputT, Any]: ...

    def stream(
        self,
        prompt: Prompt | None,
        *,
        events: bool = False,
        session_id: str | None = None,
        user_id: UserId = None,
        run_id: str | None = None,
        run_metadata: JsonObject | None = None,
        **options: Unpack[RunOptions],
    ) -> RunStream[OutputT, Any]:
        """Run the agent and iterate over its answer as it comes, or over Pydantic AI's events.

        If the agent answers with text, the items are the pieces of that text. Else each item is the output as far
        as it has come: an object validated as one that is not whole yet (Pydantic AI's
        [partial output](https://pydantic.dev/docs/ai/output/#streaming-structured-output)), and the last item is
        the output itself, validated as a whole. If a function makes the output, it is called once, and the only
        item is what it returns.

        Used as a context manager, it begins at once: an error that keeps the run from beginning is raised there,
        and inside the stream has its `session_id`, `run_id` and `number`. Its `result` is there when it has ended. A
        stream that is closed early (as a context manager, or by `close`) stops the run; one that is merely left alone
        runs on to its end, and is stored.

        Args:
            prompt: what the user says; text, or a sequence of text, images and other content.
            events: whether the stream has Pydantic AI's events instead of the answer.
            session_id: as in `run`.
            user_id: as in `run`.
            run_id: as in `run`; of a run that has completed, the stored answer comes at once.
            run_metadata: as in `run`.
            **options: further arguments of `pydantic_ai.Agent.run`.

        Raises:
            InvalidInputError: an `event_stream_handler` was passed; the events come by the stream.
            SessileError: what `run` raises, while the stream is read.
        """
        return RunStream(
            self.astream(
                prompt,
                events=events,
                session_id=session_id,
                user_id=user_id,
                run_id=run_id,
                run_metadata=run_metadata,
                **options,
            )
        )

    @overload
    def astream(
        self, prompt: Prompt | None, *, events: Literal[False] = False, **options: Unpack[StreamOptions]
    ) -> AsyncRunStream[OutputT]: ...

    @overload
    def astream(
        self, prompt: Prompt | None, *, events: Literal[True], **options: Unpack[StreamOptions]
    ) -> AsyncRunStream[OutputT, AgentStreamEvent]: ...

    @overload
    def astream(
        self, prompt: Prompt | None, *, events: bool, **options: Unpack[StreamOptions]
    ) -> AsyncRunStream[OutputT, Any]: ...

    def astream(
        self,
        prompt: Prompt | None,
        *,
        events: bool = False,
        session_id: str | None = None,
        user_id: UserId = None,
        run_id: str | None = None,
        run_metadata: JsonObject | None = None,
        **options: Unpack[RunOptions],
    ) -> AsyncRunStream[OutputT, Any]:
        """As `stream`, for asynchronous callers: `async for piece in agent.astream(…)`; not awaited itself."""
        if options.get("event_stream_handler") is not None:
            raise InvalidInputError("A stream takes the run's events; do not pass event_stream_handler.")

        spec = self._spec(session_id, user_id, run_metadata, run_id)
        text = self._is_text(options)

        async def start(put: Put) -> RunResult[Any]:
            job = self._told(options, put, events=events)
            job.begun = stream.has_begun
            return put_last(put, await self._begin(prompt, spec, job), events=events, text=text)

        stream: AsyncRunStream[OutputT, Any] = AsyncRunStream(start)
        return stream

    def stream_resume(
        self,
        session_id: str | None = None,
        *,
        events: bool = False,
        run_number: int | None = None,
        user_id: UserId = None,
        approvals: Mapping[str, Approval] | None = None,
        results: DeferredToolResults | None = None,
        by: str | None = None,
        epoch: int | None = None,
        adopt: bool = False,
        **options: Unpack[RunOptions],
    ) -> RunStream[OutputT, Any]:
        """Continue a run, as `resume`, and iterate over the answer as it comes from here on, as `stream`.

        What the run has said before it was paused or interrupted is not told again; its messages have it.

        Args:
            session_id, run_number, user_id, approvals, results, by, epoch, adopt: as in `resume`.
            events: whether the stream has Pydantic AI's events instead of the answer.
            **options: further arguments of `pydantic_ai.Agent.run`.

        Raises:
            InvalidInputError: an `event_stream_handler` was passed; the events come by the stream.
            SessileError: what `resume` raises, while the stream is read.
        """
        return RunStream(
            self.astream_resume(
                session_id,
                events=events,
                run_number=run_number,
                user_id=user_id,
                approvals=approvals,
                results=results,
                by=by,
                epoch=epoch,
                adopt=adopt,
                **options,
            )
        )

    def astream_resume(
        self,
        session_id: str | None = None,
        *,
        events: bool = False,
        run_number: int | None = None,
        user_id: UserId = None,
        approvals: Mapping[str, Approval] | None = None,
        results: DeferredToolResults | None = None,
        by: str | None = None,
        epoch: int | None = None,
        adopt: bool = False,
        **options: Unpack[RunOptions],
    ) -> AsyncRunStream[OutputT, Any]:
        """As `stream_resume`, for asynchronous callers: `async for piece in …`; not awaited itself."""
        if options.get("event_stream_handler") is not None:
            raise InvalidInputError("A stream takes the run's events; do not pass event_stream_handler.")
        answers = Answers(run_number, dict(approvals or {}), results, by, adopt, epoch)
        text = self._is_text(options)

        async def start(put: Put) -> RunResult[Any]:
            job = self._told(options, put, events=events)
            job.begun = stream.has_begun
            return put_last(put, await self._go_on(session_id, user_id, answers, job), events=events, text=text)

        stream: AsyncRunStream[OutputT, Any] = AsyncRunStream(start)
        return stream

    def print_response(
        self,
        prompt: Prompt,
        *,
        session_id: str | None = None,
        user_id: UserId = None,
        run_id: str | None = None,
        run_metadata: JsonObject | None = None,
        **options: Unpack[RunOptions],
    ) -> RunResult[OutputT]:
        """Run the agent and show question and answer in the terminal as they come; returns the result.

        Args:
            prompt: what the user says; text, or a sequence of text, images and other content.
            session_id: as in `run`.
            user_id: as in `run`.
            run_id: as in `run`.
            run_metadata: as in `run`.
            **options: further arguments of `pydantic_ai.Agent.run`.

        Raises:
            MissingDependencyError: the package `rich` is not installed (`pip install "sessile[cli]"`).
            SessileError: what `run` raises.
        """
        view = self._view(options)
        stream = self.stream(
            prompt,
            events=view.events,
            session_id=session_id,
            user_id=user_id,
            run_id=run_id,
            run_metadata=run_metadata,
            **options,
        )
        return print_stream(prompt, stream, view)

    async def aprint_response(
        self,
        prompt: Prompt,
        *,
        session_id: str | None = None,
        user_id: UserId = None,
        run_id: str | None = None,
        run_metadata: JsonObject | None = None,
        **options: Unpack[RunOptions],
    ) -> RunResult[OutputT]:
        """As `print_response`, for asynchronous callers."""
        view = self._view(options)
        stream = self.astream(
            prompt,
            events=view.events,
            session_id=session_id,
            user_id=user_id,
            run_id=run_id,
            run_metadata=run_metadata,
            **options,
        )
        return await aprint_stream(prompt, stream, view)

    def _view(self, options: RunOptions) -> AnswerView:
        """What is shown in the terminal."""
        return AnswerView(in_pieces=self._is_text(options))
