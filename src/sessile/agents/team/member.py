"""A member's run: below the run of its team, in the log of the same session."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from pydantic_ai.messages import UserContent

from ...errors import StorageError
from ...live.endings import unfinished
from ...live.result import RunResult
from ...live.session import CurrentSession
from ...records import Entry, Handoff, JsonObject, Run, Usage
from ...storage import patch, turns
from ...storage.computing import computed
from ...storage.ids import uuid7
from ...storage.sameness import shared_by
from ...storage.storage import Storage
from ...storage.uninterrupted import to_the_end
from ...storage.vocabulary import Given, LeadPassed, Pending, RunDecided, RunEnded, RunStarted, RunTaken, Word
from ..messages.stored import dump_input, dump_output, dump_requests
from ..run.recorder import Recorder, StatePart, handoff_json

logger = logging.getLogger("sessile")


class MemberRecorder(Recorder):
    """A member's run and the session of its team: its entries, and its share of the state.

    The commits of all runs of a team go through one lock, so that they do not race each other. What members change in
    the state, which they share, is saved with the end of each of them. With `durability="exit"` all is written with
    the end of the team's run.
    """

    def __init__(self, above: Recorder, name: str, key: str) -> None:
        super().__init__(above.storage, above.turn, above=above)
        self.name = name
        self.key = key
        self.path: tuple[str, ...] = (*path_of(above), name)
        self.own_record: Run | None = None
        """Of a member with a storage of its own: its run there, of which this one has the result."""
        self.elsewhere: Storage | None = None
        """The storage of such a member."""
        self.record = Run(self.turn.number, self.run_id, "running", agent=name, parent_run_id=above.run_id, key=key)

    @classmethod
    async def start(
        cls,
        above: Recorder,
        name: str,
        key: str,
        prompt: str | Sequence[UserContent] | None,
        metadata: JsonObject | None = None,
        members: list[str] | None = None,
        *,
        answers: bool = False,
        passed: LeadPassed | None = None,
    ) -> MemberRecorder:
        """Commit that a member begins to work, and which `members` of its own it has, where these were chosen.

        Args:
            above, name, key, prompt, metadata: of whose run, as what, for which call, with what.
            members: the names of those.
            answers: whether it answers the user in the place of its team.
            passed: what is said before that of who leads the team.
        """
        recorder = cls(above, name, key)
        dumped = await computed(lambda: dump_input(prompt), prompt)
        recorder.record.input = dumped if isinstance(prompt, str) else await recorder.keep(dumped)
        recorder.record.metadata = metadata or {}
        given = None if members is None else Given(members=members).json
        recorder.record.given, recorder.record.answers = given or {}, answers
        started = RunStarted(
            input=recorder.record.input,
            durability=recorder.turn.spec.durability,
            key=key,
            metadata=metadata,
            given=given,
            answers=answers,
        )
        first = [] if passed is None else [recorder.entry(passed)]
        try:
            await to_the_end(recorder.append([*first, recorder.entry(started)]))
        except asyncio.CancelledError as error:
            await to_the_end(recorder.fail(unfinished(error, cancelled=False, stepwise=recorder.stepwise)))
            raise
        above.record.children.append(recorder.record)
        return recorder

    @classmethod
    async def take(cls, above: Recorder, run: Run, decided: Sequence[RunDecided]) -> MemberRecorder:
        """Commit that a member continues a run that was paused or interrupted, and what was decided about it."""
        recorder = cls(above, run.agent or "", run.key or "")
        recorder.run_id = recorder.session.run_id = run.run_id
        recorder.transcript.attempt_id = uuid7()
        recorder.record, recorder.first = run, None
        taken = RunTaken(epoch=recorder.turn.epoch, until=0, was=run.status)
        entries = [recorder.entry(taken), *(recorder.entry(one) for one in decided)]
        await to_the_end(recorder.append(entries))
        return recorder

    def hold_together(self, own: Recorder) -> None:
        """Link this run and `own`, the member's run in its own storage: the same names, team and usage in both."""
        own.prefix = (*self.root.prefix, *self.path)
        own.session.team = self.session.team
        own.budget = self.root.budget
        self.own_record = own.record

    def used(self) -> Usage:
        """What the member has used in this attempt; of one with a storage of its own, what its run there says."""
        return super().used() if self.own_record is None else self.own_record.usage - self.meter.earlier

    async def end_as(self, result: RunResult[Any]) -> None:
        """Commit the end of a run whose messages are kept in a session of the member's own."""
        if isinstance(result.output, Handoff):
            ended = RunEnded(status=result.status, handoff=handoff_json(result.output))
        elif result.pending is None:
            output = await computed(lambda: dump_output(result.output), result.output)
            ended = RunEnded(status=result.status, output=output, error=result.error)
        else:
            pending = Pending(requests=dump_requests(result.pending))
            ended = RunEnded(status=result.status, pending=pending.json)
        await to_the_end(self._end(ended, "all"))

    def dismiss(self) -> bool:
        """End the run if it was interrupted while the team's run went on to its end, which writes that down."""
        self.company.dismiss()
        if self.record.status != "interrupted":
            return False
        self.record.status = "cancelled"
        self.root.held.append(self.entry(RunEnded(status="cancelled", error=self.record.error)))
        return True

    def _current_session(self, state: JsonObject | None) -> CurrentSession:
        assert self.above is not None, "a member has a team above it"
        above = self.above.session
        return CurrentSession(
            above.session_id, above.user_id, self.run_id, self.storage, {}, above, shared=True, agent=above.agent
        )

    def entry(self, said: Word, format: str | None = None) -> Entry:
        """An entry of this run."""
        assert self.above is not None, "a member has a team above it"
        return said.entry(self.run_id, self.turn.number, self.above.run_id, self.name, format)

    async def append(self, entries: list[Entry]) -> None:
        """Commit entries of this run."""
        async with self._lock:
            await self._write(entries)

    async def _write(self, entries: Sequence[Entry], changes: patch.Patch = turns.NO_CHANGE) -> None:
        if self.turn.spec.durability == "exit":
            self.root.held.extend(entries)
        else:
            await self.root.write_below(entries, changes)

    async def _end_with(self, entries: Sequence[Entry], ended: RunEnded, changes: patch.Patch) -> None:
        if self.own_record is not None and await self._is_shared():
            ended = ended.but(counted_there=True)
        handed = [] if ended.handoff is None else [self.entry(self.passed(self.name, ended.handoff["to"]))]
        entries = [*entries, *handed, self.entry(ended)]
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

    def passed(self, was: str, to: str) -> LeadPassed:
        """That another member of the same team leads from now on."""
        return passed_in(self.path[:-1], was, to)

    async def _is_shared(self) -> bool:
        """Whether the member's own session is in the database of the team's, which has its usage from there."""
        elsewhere, session_id = self.elsewhere, self.record.metadata.get("session_id")
        return elsewhere is not None and session_id is not None and await shared_by(self.storage, elsewhere, session_id)

    async def _changes_to_save(self, part: StatePart) -> patch.Patch:
        """What the member has changed in the shared state, unless the team's end saves that, or may refuse it.

        State that is not JSON is left out here, and refused at the end of the team's run.
        """
        if self.root.refuse_conflicts or self.turn.spec.durability == "exit":
            return []
        return await self._state_patch("json")


def passed_in(path: Sequence[str], was: str, to: str) -> LeadPassed:
    """That another member leads in the team at the end of a path of names from the session's own team down."""
    return LeadPassed(team=called(path), was=was, to=to)


def called(path: Sequence[str]) -> str:
    """How heads call a team within the session's own one, which is `""`; names with a slash keep to themselves."""
    return "/".join(name.replace("~", "~0").replace("/", "~1") for name in path)


def path_of(recorder: Recorder) -> tuple[str, ...]:
    """The names from the team down to a run's own; none for the team's run itself."""
    return recorder.path if isinstance(recorder, MemberRecorder) else ()
