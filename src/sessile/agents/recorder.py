"""One run and its session: what is loaded before it, what is committed while it works, and how it ends.

The recorder knows nothing of how the run is driven. `Agent` drives it around a run of its own; for a bare
`pydantic_ai.Agent` the capability does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Concatenate, ParamSpec, TypeVar

from pydantic_ai import DeferredToolRequests, ModelRetry, ToolApproved, ToolDenied
from pydantic_ai.exceptions import ToolFailed
from pydantic_ai.messages import ModelMessage, ModelResponse, ToolCallPart, UserContent
from pydantic_ai.usage import RunUsage

from ..errors import InvalidStateError, SessionBusyError, TooLargeError
from ..records import Entry, Head, JsonObject, Run, Status, Usage
from ..storage import fold, patch, turns
from ..storage.core import Core
from ..storage.encoding import checked_copy
from ..storage.storage import Storage
from ..storage.turns import Turn, TurnSpec
from .history import Window
from .messages import (
    FORMAT,
    dump_input,
    dump_message,
    dump_output,
    dump_requests,
    dump_tool_result,
    less,
    load_tool_result,
    run_messages,
    usage_of,
)
from .state import CurrentSession, is_inside

P = ParamSpec("P")
R = TypeVar("R")

TOOL_STARTED = "tool.started"
TOOL_ENDED = "tool.ended"

QUEUE_PAUSE = 0.5
"""The longest pause, in seconds, between two looks of a run that waits for another one to end."""


@dataclass(slots=True)
class Replay:
    """What is left of a run that is being resumed: what finished and is not done again.

    Attributes:
        response: its last model response, given again instead of asking the model; None if the run does not go on
            from there.
        results: what the finished ones of the tool calls that it goes on with came to, by tool call id.
        unsure: those of them that had started and not finished.
        decided: the user's decisions about these: run again, or not.
    """

    response: ModelResponse | None
    results: dict[str, JsonObject]
    unsure: list[ToolCallPart]
    decided: Mapping[str, bool | ToolApproved | ToolDenied] = field(
        default_factory=dict[str, "bool | ToolApproved | ToolDenied"]
    )


class Recorder:
    """The one run's link to its session. Not shared between runs; used in one event loop."""

    def __init__(self, storage: Storage, turn: Turn, *, refuse_conflicts: bool = False) -> None:
        self.storage = storage
        self.turn = turn
        self.attempt_id = turn.spec.run_id
        """The id that Pydantic AI stamps on the messages of this attempt; a resumed run has a fresh one."""
        self.session = self._current_session()
        self.messages: list[ModelMessage] = []
        """Pydantic AI's live list of messages, as the last hook saw it."""
        self.usage: RunUsage | None = None
        """Pydantic AI's count, as far as it is known; it begins at `usage_before` and `usage_unstored`."""
        self.usage_before = Usage()
        self.usage_earlier = Usage()
        """Of a resumed run: what the log says that it had used before it was paused."""
        self.usage_unstored = Usage()
        """Of a resumed run: what it had used beyond that before it was interrupted."""
        self.replay: Replay | None = None
        self.refuse_conflicts = refuse_conflicts
        self._state_before = deepcopy(turn.state)
        self._made: list[ModelMessage] = []
        self._stored = 0
        self._ended = False
        self._lock = asyncio.Lock()

    def _current_session(self) -> CurrentSession:
        spec = self.turn.spec
        return CurrentSession(spec.session_id, spec.user_id, spec.run_id, self.storage, deepcopy(self.turn.state))

    # ------------------------------------------------------------ beginning

    @classmethod
    async def begin(
        cls,
        storage: Storage,
        spec: TurnSpec,
        prompt: str | Sequence[UserContent] | None,
        window: Window,
        *,
        refuse_conflicts: bool = False,
    ) -> Recorder:
        """Look at the session and commit that the run has started (unless it is only to be written at its end).

        With `on_busy="queue"` it waits here until no other run is at work.
        """
        spec.input = dump_input(prompt)
        pause = 0.02
        while True:
            beginning = asyncio.ensure_future(storage.arun_operation(turns.begin_turn, spec, window.newest))
            cancelled = await _wait_out(beginning)
            if cancelled is not None:
                await _end_begun(storage, beginning, cancelled)
                raise cancelled
            try:
                return cls(storage, beginning.result(), refuse_conflicts=refuse_conflicts)
            except SessionBusyError as error:
                if spec.on_busy != "queue":
                    raise
                if is_inside(storage, spec.session_id):
                    error.hint = "A run cannot wait for the run that it is inside of: use another session."
                    error.retry = False
                    raise
            await asyncio.sleep(pause)
            pause = min(QUEUE_PAUSE, pause * 1.5)

    async def history(self, window: Window, model: Any) -> list[ModelMessage]:
        """The earlier runs that the window chooses, as messages."""
        return await window.select(SessionPast(self, model))

    # ------------------------------------------------------------ while the run works

    def observe(self, messages: list[ModelMessage], usage: RunUsage) -> None:
        """Remember where the run's messages and usage stand."""
        self.messages, self.usage = messages, usage
        self.own(messages)

    def own(self, messages: Sequence[ModelMessage]) -> list[ModelMessage]:
        """Of a run's messages those that this attempt has made, not the history that was sent along.

        Those that a history processor has taken out of the list since they were seen are among them.
        """
        own = [message for message in messages if message.run_id == self.attempt_id]
        made = self._made
        if made and (len(own) < len(made) or _key(own[0]) != _key(made[0])):
            known = [_key(message) for message in made]
            own = [*made, *(message for message in own if _key(message) not in known)]
        self._made = own
        return own

    @property
    def stepwise(self) -> bool:
        """Whether every model response and tool call is committed as it happens."""
        return self.turn.spec.durability == "step"

    async def store_messages(self, messages: Sequence[ModelMessage]) -> None:
        """Commit those of this attempt's messages that are not yet stored."""
        await to_the_end(self._store_messages(messages))

    async def _store_messages(self, messages: Sequence[ModelMessage]) -> None:
        async with self._lock:
            entries = await self._unstored(self.own(messages))
            if entries:
                await self._do(turns.append_to_turn, self.turn, entries)
                self._stored += len(entries)

    async def _unstored(self, own: Sequence[ModelMessage]) -> list[Entry]:
        return [self._message(await dump_message(message, self.keep)) for message in own[self._stored :]]

    def _message(self, data: Any) -> Entry:
        return self.turn.entry(fold.MESSAGE, data, FORMAT)

    async def tool_started(self, call_id: str, tool: str, args: Any) -> None:
        """Commit that a tool call is about to be executed."""
        await self._append(TOOL_STARTED, {"tool_call_id": call_id, "tool_name": tool, "args": dump_output(args)})

    async def tool_returned(self, call_id: str, tool: str, value: Any) -> None:
        """Commit what a tool call has returned."""
        data = {"outcome": "returned", **await dump_tool_result(value, tool, self.keep)}
        await self._append(TOOL_ENDED, {"tool_call_id": call_id, "tool_name": tool, **data, **self._changed_state()})

    async def tool_ended(self, call_id: str, tool: str, outcome: str, message: str = "") -> None:
        """Commit that a tool call has ended without a result: `retry`, `failed`, `deferred`."""
        data = {"tool_call_id": call_id, "tool_name": tool, "outcome": outcome, "message": message}
        await self._append(TOOL_ENDED, {**data, **self._changed_state()})

    def _changed_state(self) -> JsonObject:
        """What the run has changed in the state so far, for `resume`, because finished tools do not run again.

        State that is not JSON is left out here, and refused at the end of the run.
        """
        try:
            changes = self._state_patch()
        except InvalidStateError:
            return {}
        return {"state": changes} if changes else {}

    def _state_patch(self) -> patch.Patch:
        # A copy, because tools in threads may be changing the state at this moment, also after a cancellation.
        return patch.diff(self._state_before, checked_copy(self.session.state, "The session's state"))

    async def _append(self, kind: str, data: JsonObject) -> None:
        await to_the_end(self._append_entry(kind, data))

    async def _append_entry(self, kind: str, data: JsonObject) -> None:
        async with self._lock:
            await self._do(turns.append_to_turn, self.turn, [self.turn.entry(kind, data)])

    async def renew(self) -> bool:
        """Hold the run's lease; returns whether the run was asked to cancel."""
        return await self._do(turns.renew_turn, self.turn)

    # ------------------------------------------------------------ the end

    async def finish(
        self, messages: Sequence[ModelMessage], usage: RunUsage, output: Any, *, with_state: bool = True
    ) -> None:
        """Commit the end of a run that has come to a result: completed, or paused for a decision.

        Without `with_state` what the run changed in the state is left out.
        """
        self.observe(list(messages), usage)
        if isinstance(output, DeferredToolRequests):
            await self._end("paused", {"pending": {"requests": dump_requests(output)}}, with_state)
        else:
            await self._end("completed", {"output": dump_output(output)}, with_state)

    async def pause(self, requests: DeferredToolRequests) -> None:
        """Commit that a resumed run waits for decisions about tool calls that may have happened."""
        await self._end("paused", {"pending": {"requests": dump_requests(requests), "unsure": True}}, True)

    async def fail(self, error: BaseException, status: Status, *, with_state: bool = True) -> None:
        """Commit the end of a run that has failed or was cancelled, with the messages that it has made."""
        problem = {"type": type(error).__name__, "message": _sound(str(error))}
        await self._end(status, {"error": problem}, with_state)

    async def _end(self, status: Status, ended: JsonObject, with_state: bool) -> None:
        async with self._lock:
            if self._ended:  # asked again for what has been stored
                return
            ended = {"status": status, **ended, "usage": self._used().to_json()}
            entries = await self._unstored(self.own(self.messages))
            changes = self._state_patch() if with_state else []
            try:
                await self._end_with(entries, ended, changes)
            except TooLargeError:
                if len(entries) < 2:
                    raise
                if self.turn.head is None:
                    await self._do(turns.append_to_turn, self.turn, [])  # its start, with the input, by itself
                await self._append_in_parts(entries)
                await self._end_with([], ended, changes)
            self._ended = True

    async def _end_with(self, entries: Sequence[Entry], ended: JsonObject, changes: patch.Patch) -> None:
        await self._do(turns.end_turn, self.turn, entries, ended, changes, refuse_conflicts=self.refuse_conflicts)

    async def _append_in_parts(self, entries: Sequence[Entry]) -> None:
        """Commit the messages of a run that is too large for one commit in as many as it takes, before its end."""
        try:
            await self._do(turns.append_to_turn, self.turn, entries)
            self._stored += len(entries)
        except TooLargeError:
            if len(entries) < 2:
                raise
            half = len(entries) // 2
            await self._append_in_parts(entries[:half])
            await self._append_in_parts(entries[half:])

    def _used(self) -> Usage:
        """What this run has used; of one that failed without a count, what its responses say."""
        if self.usage is not None:
            return less(usage_of(self.usage), self.usage_before)
        count = RunUsage()
        for message in self.own(self.messages):
            if isinstance(message, ModelResponse):
                count.incr(message.usage)
                count.requests += 1
        return usage_of(count) + self.usage_unstored

    # ------------------------------------------------------------ resuming

    def restore_state(self, changes: patch.Patch) -> None:
        """Put back what finished tools had changed in the state before the interruption."""
        self.session.state = patch.apply(self.session.state, changes)

    async def kept_result(self, data: JsonObject) -> Any:
        """What a finished tool call came to before the interruption: what it returned, or what it raised."""
        if data["outcome"] == "retry":
            return ModelRetry(data["message"])
        if data["outcome"] == "failed":
            return ToolFailed(data["message"])
        return await load_tool_result(data, self.media)

    async def put_back(self, run: Run) -> None:
        """Leave a run that was taken over, and cannot be gone on with, as it was."""
        await self._end(run.status, {} if run.pending is None else {"pending": run.pending}, False)

    # ------------------------------------------------------------ the storage

    async def keep(self, value: Any) -> Any:
        """Put large binary parts of JSON data aside."""
        return await self._do(turns.keep_media, self.turn, value)

    async def media(self, digest: str) -> bytes:
        """Media that were put aside."""
        return await self._do(turns.turn_media, self.turn, digest)

    async def _do(
        self, operation: Callable[Concatenate[Core, P], Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        return await self.storage.arun_operation(operation, *args, **kwargs)


class SessionPast:
    """The earlier runs of the recorder's session, for windows."""

    def __init__(self, recorder: Recorder, model: Any) -> None:
        self._recorder = recorder
        self.model = model

    @property
    def _head(self) -> Head | None:
        return self._recorder.turn.before.head

    def numbers(self, count: int, *, below: int | None = None) -> list[int]:
        """See `Past`."""
        own = self._recorder.turn.number or None
        bounds = [bound for bound in (below, own) if bound is not None]
        return [] if self._head is None else self._head.last_on_path(count, below=min(bounds, default=None))

    async def runs(self, numbers: Sequence[int]) -> list[Run]:
        """See `Past`."""
        recorder = self._recorder
        at_hand = turns.runs_at_hand(recorder.turn, numbers)
        if at_hand is not None or not numbers:
            return at_hand or []
        return await recorder.storage.arun_operation(turns.history, recorder.turn, numbers)

    async def messages(self, run: Run) -> list[ModelMessage]:
        """See `Past`."""
        return await run_messages(run, self._recorder.media)

    @property
    def summary(self) -> JsonObject | None:
        """See `Past`. A summary of runs that a rewind has left, or that came after this one, is not its past."""
        head, own = self._head, self._recorder.turn.number
        if head is None or head.summary is None or not head.on_path(head.summary["upto"]):
            return None
        return None if own and head.summary["upto"] >= own else head.summary

    async def keep_summary(self, upto: int, text: str) -> None:
        """See `Past`."""
        recorder, head = self._recorder, self._head
        newer = head is not None and head.summary is not None and head.summary["upto"] > upto
        if not newer:
            await recorder.storage.arun_operation(turns.summarize, recorder.turn, upto, text)


async def to_the_end(work: Awaitable[R]) -> R:
    """Await what must not be left half-way: cancellations that arrive meanwhile are raised when it is done."""
    task = asyncio.ensure_future(work)
    cancelled = await _wait_out(task)
    result = task.result()  # a failure counts for more than the cancellation: the caller must hear of it
    if cancelled is not None:
        raise cancelled
    return result


async def _wait_out(task: asyncio.Future[Any]) -> asyncio.CancelledError | None:
    """Wait until the task has ended, however often that is cancelled (AnyIO does so again and again)."""
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    return cancelled


async def _end_begun(storage: Storage, beginning: asyncio.Future[Turn], error: BaseException) -> None:
    """A run that was cancelled while its start was written has started, and ends as cancelled."""
    if not beginning.cancelled() and beginning.exception() is None and beginning.result().head is not None:
        await to_the_end(Recorder(storage, beginning.result()).fail(error, "cancelled"))


def _key(message: ModelMessage) -> Any:
    """What a message keeps when Pydantic AI makes a stamped copy of it."""
    parts = [
        (part.part_kind, getattr(part, "tool_call_id", None) or getattr(part, "timestamp", None))
        for part in message.parts
    ]
    return (message.kind, message.timestamp if isinstance(message, ModelResponse) else None, *parts)


def _sound(text: str) -> str:
    return text[:10_000]
