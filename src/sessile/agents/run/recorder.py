"""One run and its session: what is loaded before it, what is committed while it works, and how it ends.

The recorder knows nothing of how the run is driven. `Agent` drives it around a run of its own; for a bare
`pydantic_ai.Agent` the capability does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar

from pydantic_ai import CancellationToken, DeferredToolRequests, ModelRetry, ToolApproved, ToolDenied
from pydantic_ai.exceptions import ToolFailed
from pydantic_ai.messages import ModelMessage, ModelResponse, ToolCallPart, UserContent
from pydantic_ai.usage import RunUsage

from ...errors import TooLargeError
from ...live.endings import unfinished
from ...live.queue import in_turn
from ...live.session import CurrentSession
from ...records import Entry, Handoff, JsonObject, Run, Usage
from ...storage import patch, turns
from ...storage.computing import computed
from ...storage.core import Core
from ...storage.encoding import copied, frozen
from ...storage.ids import uuid7
from ...storage.media import without_too_large
from ...storage.packing import Packed, packed
from ...storage.storage import Storage, aoperate
from ...storage.turns import Turn, TurnSpec
from ...storage.undivided import kept_whole
from ...storage.uninterrupted import to_the_end
from ...storage.vocabulary import MessageAdded, Pending, RunEnded, ToolEnded, ToolStarted, Word, handoff_of
from ..messages.stored import (
    FORMAT,
    KeepMedia,
    ReadMedia,
    dump_input,
    dump_message,
    dump_output,
    dump_requests,
    dump_tool_result,
    load_tool_result,
)
from .budget import Budget
from .company import Alone, Company, with_all
from .first import FirstPart
from .meter import Meter
from .oversize import end_in_parts, failed_without
from .transcript import Transcript
from .written import Written, entries_of

P = ParamSpec("P")
R = TypeVar("R")

StatePart = Literal["all", "json", "none"]
"""What is kept of what a run has changed in the state: all, or only what is JSON, or nothing."""


@dataclass(slots=True)
class Replay:
    """What a resumed run gives again instead of doing it again.

    Attributes:
        response: the run's last model response, given again instead of asking the model. None: the model is asked.
        results: what tools had returned to the calls of that response, by tool call id.
        unsure: the calls of that response whose tools had started, and of which nobody knows whether they finished.
        decided: the user's decisions about unsure calls, by tool call id: run them again, or not.
        redacted: the calls of that response whose arguments are not stored as the model gave them.
    """

    response: ModelResponse | None
    results: dict[str, ToolEnded]
    unsure: list[ToolCallPart]
    decided: Mapping[str, bool | ToolApproved | ToolDenied] = field(
        default_factory=dict[str, "bool | ToolApproved | ToolDenied"]
    )
    redacted: set[str] = field(default_factory=set[str])


TEXT_OUTPUT = "sessile_output"
"""The id that stands for the call of a function that makes the run's output of the model's text."""


def text_output_call(function: str | None, text: Any) -> ToolCallPart:
    """The call of a function that makes the run's output of the model's text, as if the model had made it."""
    return ToolCallPart(function or "output", {"text": str(text)}, tool_call_id=TEXT_OUTPUT)


class Recorder:
    """The one run's link to its session. Not shared between runs; used in one event loop."""

    def __init__(
        self,
        storage: Storage,
        turn: Turn,
        state: JsonObject | None = None,
        *,
        refuse_conflicts: bool = False,
        above: Recorder | None = None,
    ) -> None:
        """`state` is a copy of the turn's, which the run's tools may change; made here if it is not given."""
        self.storage = storage
        self.turn = turn
        self.above = above
        self.run_id = turn.spec.run_id if above is None else uuid7()
        self.meter = Meter()
        self.first: FirstPart | None = FirstPart()
        """When the first part of an answer comes; None: the run had begun before, in another process or turn."""
        self.transcript = Transcript(self.run_id)
        self.prefix: tuple[str, ...] = ()
        """Of a run in a member's own session: the names from the team down to the member."""
        self.session = self._current_session(state)
        self.token = CancellationToken()
        """Cancels the run, and with it all runs below it."""
        self.record = Run(turn.number, self.run_id, "running", turn.spec.input, agent=turn.spec.agent)
        """The run as it stands, with the runs below it."""
        self.replay: Replay | None = None
        self.budget: Budget | None = None
        """The limits of the run and of all runs below it, where it has members."""
        self.refuse_conflicts = refuse_conflicts
        self.company: Company = Alone()
        """Who works beside the run, for it."""
        self.handed: Callable[[Sequence[ModelMessage]], Handoff | None] | None = None
        """Of a member that may hand over: whether it has, as its messages say."""
        self._state_before: JsonObject = turn.state if above is None else {}
        self.held: list[Entry] = []
        """Entries of runs below this one that are written with its end."""
        self._below: list[Written] = []
        """What runs below this one have committed, and this one before it was taken over: a backup may take it away."""
        self._again: list[Written] = []
        """What of that was taken away, and is to be committed once more."""
        self._calls: list[Entry] = []
        """What became of the newest response's calls, which is taken away together with that."""
        self._was_lost = False
        self.said: dict[str, list[ModelMessage]] = {}
        """The messages of runs below this one that have ended while it was running, by their ids."""
        self._ended = False
        self._lock: asyncio.Lock = asyncio.Lock() if above is None else above._lock

    def _current_session(self, state: JsonObject | None) -> CurrentSession:
        spec = self.turn.spec
        own: JsonObject = copied(self.turn.state) if state is None else state
        return CurrentSession(
            spec.session_id,
            self.turn.user_id,
            self.run_id,
            self.storage,
            own,
            agent=spec.agent,
            scopes=frozenset(self.turn.scoped.scopes),
            incarnation=None if self.turn.head is None else self.turn.head.incarnation,
        )

    @property
    def root(self) -> Recorder:
        """The recorder of the run above all. Looked up: what refers to itself waits for the garbage collector."""
        return self if self.above is None else self.above.root

    def entry(self, said: Word, format: str | None = None) -> Entry:
        """An entry of this run."""
        return self.turn.entry(said, format)

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

        With `on_busy="queue"` it waits here until no other run is in progress.
        """
        spec.input = prompt if type(prompt) is str else await computed(lambda: dump_input(prompt), prompt)

        async def attempt() -> Recorder:
            first = FirstPart()
            begun: list[Turn] = []
            refused: list[Exception] = []

            async def begin() -> None:
                try:
                    begun.append(await aoperate(storage, turns.begin_turn, spec, newest))
                except Exception as error:  # noqa: BLE001 (raised below, where nobody has cancelled it meanwhile)
                    refused.append(error)

            try:
                await kept_whole(storage, begin())
            except asyncio.CancelledError as cancelled:
                for turn in begun:
                    await _end_begun(storage, turn, cancelled)
                raise
            if refused:
                raise refused.pop()
            recorder = await cls.of(storage, begun[0], refuse_conflicts=refuse_conflicts)
            recorder.first = first
            return recorder

        return await in_turn(attempt, storage, spec.session_id, queue=spec.on_busy == "queue", limit=spec.queue_timeout)

    @classmethod
    async def of(cls, storage: Storage, turn: Turn, *, refuse_conflicts: bool = False) -> Recorder:
        """The recorder of a run that has started."""
        state = turn.state
        own: JsonObject = await computed(lambda: copied(state), state) if state else {}
        return cls(storage, turn, own, refuse_conflicts=refuse_conflicts)

    # ------------------------------------------------------------ while the run works

    def observe(self, messages: list[ModelMessage], usage: RunUsage) -> None:
        """Remember where the run's messages and usage stand."""
        self.transcript.observe(messages)
        self.meter.observe(usage)

    @property
    def stepwise(self) -> bool:
        """Whether every model response and tool call is committed as it happens."""
        return self.turn.spec.durability == "step"

    @property
    def watched(self) -> bool:
        """Whether something is to be done at each of the run's requests or tool calls."""
        return self.stepwise or self.replay is not None or self.above is not None or self.budget is not None

    async def store_messages(self, messages: Sequence[ModelMessage]) -> None:
        """Commit those of this attempt's messages that are not yet stored."""
        await kept_whole(self.storage, self._store_messages(messages))

    async def _store_messages(self, messages: Sequence[ModelMessage]) -> None:
        async with self._lock:
            entries = await self._unstored(messages)
            if entries:
                try:
                    await self._write(entries)
                except turns.StartLostError:
                    self.lost()
                    entries = await self._unstored(messages)
                    await self._write(entries)
                self.transcript.stored(len(entries))
                self._calls.clear()

    async def _unstored(self, messages: Sequence[ModelMessage], keep: KeepMedia | None = None) -> list[Entry]:
        unstored = self.transcript.unstored(messages)
        keep = keep or self.keep
        return [self.entry(MessageAdded(await dump_message(message, keep)), FORMAT) for message in unstored]

    async def tool_started(self, call_id: str, tool: str, args: Any, *, output: bool = False) -> None:
        """Commit that a tool call is about to be executed, or the function that makes the run's output."""
        dumped = await computed(lambda: dump_output(args), args)
        started = ToolStarted(tool_call_id=call_id, tool_name=tool, args=dumped, output=output)
        await self._append(started)

    async def tool_returned(self, call_id: str, tool: str, value: Any) -> None:
        """Commit what a tool call has returned."""
        result = await dump_tool_result(value, tool, self.keep)
        changes = await self._changed_state()
        ended = ToolEnded(tool_call_id=call_id, tool_name=tool, outcome="returned", state=changes, **result)
        await self._append(ended)

    async def tool_ended(self, call_id: str, tool: str, outcome: str, message: str = "") -> None:
        """Commit that a tool call has ended without a result: `retry`, `failed`, `deferred`."""
        changes = await self._changed_state()
        ended = ToolEnded(tool_call_id=call_id, tool_name=tool, outcome=outcome, message=message, state=changes)
        await self._append(ended)

    async def note(self, said: Word) -> None:
        """Write down something about the run: at once where steps are stored, else with its end."""
        if self.stepwise:
            await self._append(said)
        else:
            self.root.held.append(self.entry(said))

    async def _changed_state(self) -> patch.Patch:
        """What the run has changed in the state so far, for `resume`, because finished tools do not run again.

        State that is not JSON is left out here, and refused at the end of the run.
        """
        return await self._state_patch("json")

    def saved(self, changes: patch.Patch) -> None:
        """Take these changes of the state for saved."""
        self._state_before = patch.apply(self._state_before, changes)

    async def _state_patch(self, part: StatePart = "all") -> patch.Patch:
        # A copy, because tools in threads may be changing the state at this moment, also after a cancellation.
        before = self.root._state_before
        if not before and self.session.state == {}:  # most have none
            return []
        copy, size = frozen(self.session.state, "The session's state", before if part == "json" else None)
        return await computed(lambda: patch.diff(before, copy()), before, size=size)

    async def _append(self, said: Word) -> None:
        await kept_whole(self.storage, self._append_entry(said))

    async def _append_entry(self, said: Word) -> None:
        entry = self.entry(said)
        async with self._lock:
            try:
                await self._write([entry])
            except turns.StartLostError:
                self.lost()
                entries = await self._unstored(self.transcript.messages)
                await self._write([*entries, *self._calls, entry])
                self.transcript.stored(len(entries))
            self._calls.append(entry)

    async def _write(self, entries: Sequence[Entry]) -> None:
        await self._write_again()
        await self._do(turns.append_to_turn, self.turn, entries)

    def take_over(self, run: Run) -> None:
        """Continue a run that is stored, and keep what it says in case that is lost."""
        self.record, self.first = run, None
        entries = list(entries_of(run))
        self._below = [Written(Packed(entries), turns.NO_CHANGE)] if entries else []

    def lost(self) -> None:
        """Nothing is there any more of what the run had stored, or runs below it: all of it is to be stored again."""
        self._was_lost = True
        self.transcript.lost()
        self._again[:0] = self._below
        self._below.clear()

    async def write_below(self, entries: Sequence[Entry], changes: patch.Patch) -> None:
        """Commit entries of a run below this one, and what it has changed in the state."""
        kept = Written(await packed(entries), changes)
        await self._write_again()
        try:
            await self._do(turns.append_to_turn, self.turn, entries, changes)
        except turns.StartLostError:
            self.lost()
            await self._write_again()
            await self._do(turns.append_to_turn, self.turn, entries, changes)
        self._below.append(kept)

    async def _write_again(self) -> None:
        """Commit once more what was stored like that, and was lost; the first commit begins with the run's start."""
        while self._again:
            written = self._again[0]
            await self._do(turns.append_to_turn, self.turn, written.packed.entries(), written.changes)
            self._below.append(self._again.pop(0))

    async def renew(self) -> bool:
        """Hold the run's lease; returns whether the run was asked to cancel."""
        return await self._do(turns.renew_turn, self.turn)

    async def is_asked(self) -> bool:
        """Whether the run was asked to cancel."""
        return await self._do(turns.is_asked_to_stop, self.turn)

    # ------------------------------------------------------------ the end

    async def finish(self, output: Any, *, state: StatePart = "all") -> None:
        """Commit the end of a run that has a result: completed, or paused for a decision.

        Its messages and usage are those that were observed last. `state` says what is kept of what the run changed in
        the state.
        """
        if isinstance(output, DeferredToolRequests):
            pending = Pending(requests=dump_requests(output), delegated=list(self.company.delegated) or None)
            await self._end(RunEnded(status="paused", pending=pending.json), state)
        elif self.handed is not None and isinstance(output, Handoff):
            await self._end(RunEnded(status="completed", handoff=handoff_json(output)), state)
        else:
            inline = self.storage.settings.inline_media_bytes
            dumped = output if type(output) is str else await computed(lambda: dump_output(output, inline), output)
            await self._end(RunEnded(status="completed", output=dumped), state)

    async def pause(self, requests: DeferredToolRequests) -> None:
        """Commit that a resumed run waits for decisions about tool calls that may have happened."""
        pending = Pending(requests=dump_requests(requests), unsure=True)
        await self._end(RunEnded(status="paused", pending=pending.json), "all")

    async def give(self, output: Any) -> None:
        """Commit that a resumed run has this output, JSON, which its model had made before."""
        await self._end(RunEnded(status="completed", output=output), "all")

    async def fail(self, ended: RunEnded, *, state: StatePart = "all") -> None:
        """Commit the end of a run that has no result, with the messages that it has made."""
        await self._end(ended, state)

    async def _end(self, ended: RunEnded, state: StatePart) -> None:
        try:
            await self._end_once(ended, state)
        except turns.StartLostError:
            self.lost()
            await self._end_once(ended, state)

    async def _end_once(self, ended: RunEnded, state: StatePart) -> None:
        async with self._lock:
            if self._ended:  # asked again for what has been stored
                return
            used = self.used()
            stored = used + self.meter.earlier if self._was_lost else used  # with the attempts whose ends are gone
            took = None if self.first is None else self.first.took
            ended = ended.but(usage=stored.to_json(), first_token=took)
            too_large: list[str] = []
            keep = partial(self._keep_what_fits, too_large)
            entries = [*self.held, *await self._unstored(self.transcript.messages, keep)]
            if (kept := await keep(ended.output)) is not ended.output:
                ended = ended.but(output=kept)
            changes = [] if state == "none" else await self._changes_to_save(state)
            refused: TooLargeError | None = None
            if too_large:
                ended, refused = failed_without(ended, too_large, "larger than media may be")
            try:
                await self._end_with(entries, ended, changes)
            except TooLargeError:
                if self.turn.head is None:
                    await self._do(turns.append_to_turn, self.turn, [])  # its start, with the input, by itself
                ended, left_out = await end_in_parts(
                    entries,
                    ended,
                    changes,
                    self._write_part,
                    lambda entry: self._is_stored([entry]),
                    lambda end, patched: self._end_with([], end, patched),
                )
                refused = left_out or refused
            self._ended = self.session.ended = True
            record = self.record
            record.status, record.output, record.error = ended.status, ended.output, ended.error
            record.pending, record.handoff = ended.pending, handoff_of(ended.handoff)
            record.first_token_us = took if took is not None else record.first_token_us
            record.usage = with_all(self.meter.earlier + used, self.company)
            if refused is not None:
                raise refused

    async def _changes_to_save(self, part: StatePart) -> patch.Patch:
        return await self._state_patch(part)

    async def _end_with(self, entries: Sequence[Entry], ended: RunEnded, changes: patch.Patch) -> None:
        await self._write_again()
        await self._do(turns.end_turn, self.turn, entries, ended, changes, refuse_conflicts=self.refuse_conflicts)

    async def _write_part(self, entries: Sequence[Entry]) -> None:
        await self._write(entries)
        self._is_stored(entries)

    def _is_stored(self, entries: Sequence[Entry]) -> None:
        """Take note that these are stored, or left out for good."""
        held = min(len(entries), len(self.held))  # they come first
        del self.held[:held]
        self.transcript.stored(len(entries) - held)

    def used(self) -> Usage:
        """What this attempt of the run has used itself."""
        return self.meter.used(self.transcript.own(self.transcript.messages))

    # ------------------------------------------------------------ resuming

    def restore_state(self, changes: patch.Patch) -> None:
        """Put back what finished tools had changed in the state before the interruption."""
        self.session.state = patch.apply(self.session.state, changes)

    async def put_back(self, run: Run) -> None:
        """Leave a run that was taken over, and cannot go on, as it was."""
        await self._end(RunEnded(status=run.status, pending=run.pending), "none")

    # ------------------------------------------------------------ the storage

    async def keep(self, value: Any) -> Any:
        """Put large binary parts of JSON data aside."""
        if not isinstance(value, (dict, list)):  # there are none: no way to the storage and back for that
            return value
        return await self._do(turns.keep_media, self.turn, value)

    async def _keep_what_fits(self, too_large: list[str], value: Any) -> Any:
        """As `keep`; what is larger than media may be becomes a note, and is told in `too_large`."""
        try:
            return await self.keep(value)
        except TooLargeError as error:
            if (said := error.message.rstrip(".")) not in too_large:
                too_large.append(said)
            return await self.keep(without_too_large(value, self.storage.settings.max_media_bytes))

    async def media(self, digest: str) -> bytes:
        """Media that were put aside."""
        return await self._do(turns.turn_media, self.turn, digest)

    async def _do(
        self, operation: Callable[Concatenate[Core, P], Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        return await aoperate(self.storage, operation, *args, **kwargs)


def handoff_json(handoff: Handoff) -> JsonObject:
    """A handoff as it is stored."""
    return {"to": handoff.to, "reason": handoff.reason}


async def kept_result(ended: ToolEnded, media: ReadMedia) -> Any:
    """The end of a tool call that had finished before the interruption: what it returned, or what it raised."""
    if ended.outcome == "retry":
        return ModelRetry(ended.message)
    if ended.outcome == "failed":
        return ToolFailed(ended.message)
    return await load_tool_result(ended.json, media)


async def _end_begun(storage: Storage, turn: Turn, error: BaseException) -> None:
    """A run whose task was cancelled while its start was written has started, and is interrupted."""
    if turn.head is not None:
        recorder = await Recorder.of(storage, turn)
        await to_the_end(recorder.fail(unfinished(error, cancelled=False, stepwise=recorder.stepwise)))
