"""A member's run: below the run of its team, in the log of the same session."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Literal

from pydantic_ai.messages import UserContent

from ..errors import InvalidStateError, StorageError
from ..records import Entry, JsonObject, Run, Usage
from ..storage import fold, patch, turns
from ..storage.ids import uuid7
from .history import Past
from .messages import dump_input, dump_output, dump_requests
from .past import MemberPast
from .recorder import Recorder, to_the_end
from .result import RunResult
from .state import CurrentSession

logger = logging.getLogger("sessile")

MemberHistory = Literal["own", "team"]
"""What members are sent along: their own earlier work in the session, or the team's conversation."""


class MemberRecorder(Recorder):
    """A member's run and the session of its team: its entries, and its share of the state.

    The commits of all runs of a team go through one lock, so that they do not race each other. What members change in
    the state, which they share, is saved with the end of each of them. With `durability="exit"` all is written with
    the end of the team's run.
    """

    def __init__(self, above: Recorder, name: str, key: str, history: MemberHistory) -> None:
        super().__init__(above.storage, above.turn, above=above)
        self.name = name
        self.key = key
        self.path: tuple[str, ...] = (*path_of(above), name)
        self.own_record: Run | None = None
        """The run in a session of the member's own that goes with this one."""
        self._history = history
        self.record = Run(self.turn.number, self.run_id, "running", owner=name, parent_run_id=above.run_id, key=key)

    @classmethod
    async def start(
        cls,
        above: Recorder,
        name: str,
        key: str,
        history: MemberHistory,
        prompt: str | Sequence[UserContent] | None,
        metadata: JsonObject | None = None,
    ) -> MemberRecorder:
        """Commit that a member begins to work."""
        recorder = cls(above, name, key, history)
        recorder.record.input = prompt if isinstance(prompt, str) else await recorder.keep(dump_input(prompt))
        data = {"input": recorder.record.input, "durability": recorder.turn.spec.durability, "key": key}
        if metadata is not None:
            data["metadata"] = recorder.record.metadata = metadata
        try:
            await to_the_end(recorder.append([recorder.entry(fold.RUN_STARTED, data)]))
        except asyncio.CancelledError as error:
            await to_the_end(recorder.fail(error, "cancelled"))
            raise
        above.record.children.append(recorder.record)
        return recorder

    @classmethod
    async def take(cls, above: Recorder, run: Run, history: MemberHistory, decided: Sequence[Entry]) -> MemberRecorder:
        """Commit that a member goes on with a run that was paused or interrupted, and what was decided about it."""
        recorder = cls(above, run.owner or "", run.key or "", history)
        recorder.run_id = recorder.session.run_id = run.run_id
        recorder.attempt_id = uuid7()
        recorder.record = run
        taken = {"epoch": recorder.turn.epoch, "until": 0, "from": run.status}
        entries = [recorder.entry(fold.RUN_TAKEN, taken), *(recorder.entry(one.kind, one.data) for one in decided)]
        await to_the_end(recorder.append(entries))
        return recorder

    def hold_together(self, own: Recorder) -> None:
        """Let this run and the one in the member's own session that goes with it know each other."""
        own.prefix = (*self.root.prefix, *self.path)
        own.session.team = self.session.team
        self.own_record = own.record

    def _used(self) -> Usage:
        """What has been used since the team's log was written: in a session of the member's own, or here."""
        return super()._used() if self.own_record is None else self.own_record.usage - self.usage_earlier

    async def end_as(self, result: RunResult[Any]) -> None:
        """Commit the end of a run whose messages are kept in a session of the member's own."""
        ended: JsonObject = {"output": dump_output(result.output), "error": result.error}
        if result.pending is not None:
            ended = {"pending": {"requests": dump_requests(result.pending)}}
        await to_the_end(self._end(result.status, ended, True))

    def _current_session(self) -> CurrentSession:
        assert self.above is not None, "a member has a team above it"
        above = self.above.session
        return CurrentSession(above.session_id, above.user_id, self.run_id, self.storage, {}, above, shared=True)

    def entry(self, kind: str, data: Any, format: str | None = None) -> Entry:
        """An entry of this run."""
        assert self.above is not None, "a member has a team above it"
        return Entry(kind, data, self.run_id, self.turn.number, self.above.run_id, self.name, format)

    def past(self, model: Any) -> Past:
        """The member's own earlier runs, or those of the team."""
        brief = self._history == "team"
        return MemberPast(self, model, path=self.path[:-1] if brief else self.path, brief=brief)

    async def append(self, entries: list[Entry]) -> None:
        """Commit entries of this run."""
        async with self._lock:
            await self._write(entries)

    async def _write(self, entries: Sequence[Entry], changes: patch.Patch = turns.NO_CHANGE) -> None:
        if self.turn.spec.durability == "exit":
            self.root.held.extend(entries)
        else:
            await self._do(turns.append_to_turn, self.turn, entries, changes)

    async def _end_with(self, entries: Sequence[Entry], ended: JsonObject, changes: patch.Patch) -> None:
        entries = [*entries, self.entry(fold.RUN_ENDED, ended)]
        try:
            await self._write(entries, changes)
        except StorageError as error:
            if error.written != "no":
                raise
            # The member has answered: that is not thrown away, the team's end has it.
            logger.warning("The run of member %s could not be stored yet: %s", self.name, error)
            self.root.held.extend(entries)
        else:
            self.root.saved(changes)

    def _changes_to_save(self) -> patch.Patch:
        """What is new in the shared state, unless that is to be saved, or refused, at the end of the team's run."""
        if self.root.refuse_conflicts or self.turn.spec.durability == "exit":
            return []
        try:
            return self._state_patch()
        except InvalidStateError:
            return []


def path_of(recorder: Recorder) -> tuple[str, ...]:
    """The names from the team down to a run's own; none for the team's run itself."""
    return recorder.path if isinstance(recorder, MemberRecorder) else ()
