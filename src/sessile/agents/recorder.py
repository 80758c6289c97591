"""One run and its session: what is loaded before it, what is committed while it works, and how it ends.

The recorder knows nothing of how the run is driven. `Agent` drives it around a run of its own; for a bare
`pydantic_ai.Agent` the capability does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from pydantic_ai import CancellationToken, DeferredToolRequests, ModelRetry, ToolApproved, ToolDenied
from pydantic_ai.exceptions import ToolFailed
from pydantic_ai.messages import ModelMessage, ModelResponse, ToolCallPart, UserContent
from pydantic_ai.usage import RunUsage

from ..errors import InvalidStateError, SessionBusyError, TooLargeError, problem_of
from ..records import Entry, JsonObject, Run, Status, Usage
from ..storage import fold, patch, turns
from ..storage.core import Core
from ..storage.encoding import checked_copy
from ..storage.ids import uuid7
from ..storage.storage import Storage
from ..storage.turns import Turn, TurnSpec
from ..storage.uninterrupted import UninterruptedFuture, UninterruptedTask
from .history import Past, Window
from .messages import (
    FORMAT,
    count_responses,
    dump_input,
    dump_message,
    dump_output,
    dump_requests,
    dump_tool_result,
    load_tool_result,
    usage_of,
)
from .past import SessionPast
from .result import RunResult
from .state import CurrentSession, is_inside

if TYPE_CHECKING:
    from .teamwork import Teamwork

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

    def __init__(
        self, storage: Storage, turn: Turn, *, refuse_conflicts: bool = False, above: Recorder | None = None
    ) -> None:
        self.storage = storage
        self.turn = turn
        self.above = above
        self.root: Recorder = self if above is None else above.root
        self.run_id = turn.spec.run_id if above is None else uuid7()
        self.attempt_id = self.run_id
        """The id that Pydantic AI stamps on the messages of this attempt; a resumed run has a fresh one."""
        self.prefix: tuple[str, ...] = ()
        """Of a run in a member's own session: the names from the team down to the member."""
        self.session = self._current_session()
        self.token = CancellationToken()
        """Cancels the run, and with it all runs below it."""
        self.record = Run(turn.number, self.run_id, "running", turn.spec.input, owner=turn.spec.owner)
        """The run as it stands, with the runs below it."""
        self.messages: list[ModelMessage] = []
        """Pydantic AI's live list of messages, as the last hook saw it."""
        self.usage: RunUsage | None = None
        """Pydantic AI's count, as far as it is known; it begins at `usage_before` and `usage_unstored`."""
        self.usage_before = Usage()
        self.earlier: list[ModelMessage] = []
        """Of a resumed run: the messages that are stored already."""
        self.usage_earlier = Usage()
        """Of a resumed run: what the log says that it had used before it was paused."""
        self.usage_below = Usage()
        """What runs below this one have used, as far as it was counted with this one."""
        self.usage_unstored = Usage()
        """Of a resumed run: what it had used beyond that before it was interrupted."""
        self.made_up = 0
        """How many of the responses that Pydantic AI has counted no model was asked for."""
        self.replay: Replay | None = None
        self.refuse_conflicts = refuse_conflicts
        self._state_before: JsonObject = deepcopy(turn.state) if above is None else {}
        self.held: list[Entry] = []
        """Entries of runs below this one that are written with its end."""
        self.said: dict[str, list[ModelMessage]] = {}
        """The messages of runs below this one that have ended while it was at work, by their ids."""
        self._made: list[ModelMessage] = []
        self._stored = 0
        self._ended = False
        self._lock: asyncio.Lock = asyncio.Lock() if above is None else above._lock

    def _current_session(self) -> CurrentSession:
        spec = self.turn.spec
        return CurrentSession(spec.session_id, spec.user_id, self.run_id, self.storage, deepcopy(self.turn.state))

    def entry(self, kind: str, data: Any, format: str | None = None) -> Entry:
        """An entry of this run."""
        return self.turn.entry(kind, data, format)

    # What a team's run adds to this; see `Teamwork`.

    team: Teamwork | None = None
    """The members' side of it, if this is the run of a team."""

    def come_to(self, output: Any) -> Any:
        """What the run has come to, out of what its agent has."""
        return output if self.team is None else self.team.come_to(output)

    @property
    def members(self) -> list[RunResult[Any]]:
        """The results of members."""
        return [] if self.team is None else list(self.team.results.values())

    @property
    def usage_of_members(self) -> Usage:
        """What they have used."""
        return sum((result.usage for result in self.members), Usage())

    @property
    def ended(self) -> bool:
        """Whether the run's end is stored."""
        return self._ended

    # ------------------------------------------------------------ beginning

    @classmethod
    async def begin(
        cls,
        storage: Storage,
        spec: TurnSpec,
        prompt: str | Sequence[UserContent] | None,
        newest: int,
        *,
        refuse_conflicts: bool = False,
    ) -> Recorder:
        """Look at the session and commit that the run has started (unless it is only to be written at its end).

        With `on_busy="queue"` it waits here until no other run is at work.
        """
        spec.input = dump_input(prompt)
        pause = 0.02
        while True:
            beginning = asyncio.ensure_future(storage.arun_operation(turns.begin_turn, spec, newest))
            cancelled = await wait_out(beginning)
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
        return await window.select(self.past(model))

    def past(self, model: Any) -> Past:
        """The earlier runs that windows choose from."""
        return SessionPast(self, model)

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
                await self._write(entries)
                self._stored += len(entries)

    async def _unstored(self, own: Sequence[ModelMessage]) -> list[Entry]:
        return [self._message(await dump_message(message, self.keep)) for message in own[self._stored :]]

    def _message(self, data: Any) -> Entry:
        return self.entry(fold.MESSAGE, data, FORMAT)

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
            return {"state": self._state_patch()}
        except InvalidStateError:
            return {}

    def saved(self, changes: patch.Patch) -> None:
        """Take these changes of the state for saved."""
        self._state_before = patch.apply(self._state_before, changes)

    def _state_patch(self) -> patch.Patch:
        # A copy, because tools in threads may be changing the state at this moment, also after a cancellation.
        return patch.diff(self.root._state_before, checked_copy(self.session.state, "The session's state"))

    async def _append(self, kind: str, data: JsonObject) -> None:
        await to_the_end(self._append_entry(kind, data))

    async def _append_entry(self, kind: str, data: JsonObject) -> None:
        async with self._lock:
            await self._write([self.entry(kind, data)])

    async def _write(self, entries: Sequence[Entry]) -> None:
        await self._do(turns.append_to_turn, self.turn, entries)

    async def renew(self) -> bool:
        """Hold the run's lease; returns whether the run was asked to cancel."""
        return await self._do(turns.renew_turn, self.turn)

    # ------------------------------------------------------------ the end

    async def finish(
        self,
        messages: Sequence[ModelMessage],
        usage: RunUsage,
        output: Any,
        *,
        delegated: Sequence[str] = (),
        with_state: bool = True,
    ) -> None:
        """Commit the end of a run that has come to a result: completed, or paused for a decision.

        `delegated` are its own tool calls that wait because of what members wait for. Without `with_state` what the
        run changed in the state is left out.
        """
        self.observe(list(messages), usage)
        if isinstance(output, DeferredToolRequests):
            pending = {"requests": dump_requests(output), **({"delegated": [*delegated]} if delegated else {})}
            await self._end("paused", {"pending": pending}, with_state)
        else:
            await self._end("completed", {"output": dump_output(output)}, with_state)

    async def pause(self, requests: DeferredToolRequests) -> None:
        """Commit that a resumed run waits for decisions about tool calls that may have happened."""
        await self._end("paused", {"pending": {"requests": dump_requests(requests), "unsure": True}}, True)

    async def fail(self, error: BaseException, status: Status, *, with_state: bool = True) -> None:
        """Commit the end of a run that has failed or was cancelled, with the messages that it has made."""
        await self._end(status, {"error": problem_of(error)}, with_state)

    async def _end(self, status: Status, ended: JsonObject, with_state: bool) -> None:
        async with self._lock:
            if self._ended:  # asked again for what has been stored
                return
            used = self._used()
            ended = {"status": status, **ended, "usage": used.to_json()}
            entries = [*self.held, *await self._unstored(self.own(self.messages))]
            changes = self._changes_to_save() if with_state else []
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
            record = self.record
            record.status, record.output, record.error = status, ended.get("output"), ended.get("error")
            record.pending = ended.get("pending")
            record.usage = self.usage_earlier + used + self.usage_of_members

    def _changes_to_save(self) -> patch.Patch:
        return self._state_patch()

    async def _end_with(self, entries: Sequence[Entry], ended: JsonObject, changes: patch.Patch) -> None:
        await self._do(turns.end_turn, self.turn, entries, ended, changes, refuse_conflicts=self.refuse_conflicts)

    async def _append_in_parts(self, entries: Sequence[Entry]) -> None:
        """Commit what is too large for one commit in as many as it takes, before the run's end."""
        try:
            await self._write(entries)
        except TooLargeError:
            if len(entries) < 2:
                raise
            half = len(entries) // 2
            await self._append_in_parts(entries[:half])
            await self._append_in_parts(entries[half:])
        else:
            held = min(len(entries), len(self.held))  # they come first
            del self.held[:held]
            self._stored += len(entries) - held

    def _used(self) -> Usage:
        """What this run has used; of one that failed without a count, what its responses say."""
        if self.usage is not None:
            return self.used(self.usage)
        return usage_of(count_responses(self.own(self.messages))) + self.usage_unstored

    def used(self, usage: RunUsage) -> Usage:
        """Of what Pydantic AI has counted what this attempt of the run has used itself."""
        return usage_of(usage) - self.usage_before - self.usage_below - Usage(requests=self.made_up)

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


async def to_the_end(work: Awaitable[R]) -> R:
    """Await what must not be left half-way: cancellations that arrive meanwhile are raised when it is done."""
    task = UninterruptedTask(_awaited(work))
    done: UninterruptedFuture[None] = UninterruptedFuture(loop=asyncio.get_running_loop())
    task.add_done_callback(lambda _: done.set_result(None))
    try:
        await done
    except asyncio.CancelledError:
        task.result()  # a failure counts for more than the cancellation: the caller must hear of it
        raise
    return task.result()


async def _awaited(work: Awaitable[R]) -> R:
    return await work


async def wait_out(task: asyncio.Future[Any]) -> asyncio.CancelledError | None:
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
