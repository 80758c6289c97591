"""The journal of one run: the results of its steps, by their position, in the log of its session.

A position is a path: `3` is the third step of the workflow, `3.1` the first step inside it, `3.2.1` the first step
of the second branch of what runs in parallel there. Replaying takes from here what finished; one step that finishes
is one commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, cast

from ...agents.messages.stored import dump_requests
from ...errors import ConflictError, InvalidInputError, SessileError, WorkflowChangedError
from ...records import Entry, JsonObject, Run, Usage
from ...storage import journals, patch, turns
from ...storage.packing import Packed, packed
from ...storage.storage import Storage, aoperate
from ...storage.turns import Turn
from ...storage.undivided import kept_whole
from ...storage.vocabulary import (
    PatchPassed,
    Pending,
    RunDecided,
    RunEnded,
    ScopesPatched,
    StateKept,
    StatePatched,
    Step,
    StepFailed,
    StepFinished,
    StepsAgain,
    Word,
    copies,
)
from .pausing import Pause

Path = tuple[int, ...]


def path_text(path: Path) -> str:
    """A path as it is stored."""
    return ".".join(map(str, path))


def path_of(text: str) -> Path:
    """The inverse of `path_text`."""
    return tuple(map(int, text.split("."))) if "." in text else (int(text),)


class Journal:
    """The journal of the run that a turn works on; used in one event loop, and read from the workflow's thread."""

    def __init__(self, storage: Storage, turn: Turn, run: Run | None) -> None:
        self.storage = storage
        self.turn = turn
        self.state: JsonObject = turn.state if run is None else {}
        """The state that the run began with."""
        self.patched: patch.Patch = []
        """What this run has changed in the session's state, as far as that is committed."""
        self.usage = Usage()
        """What the agents of its steps have used; the log has it with their runs, and nothing of the workflow's own."""
        self.broken: SessileError | None = None
        """Why nothing can be kept any more; nothing is begun then either."""
        self.paused = False
        """Whether the run is stored as paused."""
        self.patches: set[str] = set()
        self.decided: list[RunDecided] = []
        """What was decided about tool calls of agents in its steps, in the order in which that was said."""
        self.parts: dict[str, Run] = {}
        """The runs of agents in its steps, by their ids, as far as they wait for a decision."""
        self.told: dict[str, Usage] = {}
        """Of runs of agents in sessions of their own, by their ids there: what this run has counted of them."""
        self._kept: dict[Path, Entry] = {}
        """The steps, without what they returned, unless that is small; a word is made of one when it is asked for."""
        self._packed: dict[Path, Packed] = {}
        """The commits that have what the others returned."""
        self._attempts: dict[Path, int] = {}
        self._lives: dict[Path, int] = {}
        self._begun: dict[Path, int] = {}
        self._reach: dict[Path, int] = {}
        self._around: dict[Path, str] = {}
        self._events: list[journals.Event] = []
        self._received: set[int] = set()
        self._pending: list[Entry] = []
        self._written: list[Packed | Entry] = []
        """What the run has committed, which a backup that is put back may take away; one for each commit."""
        self._lock = asyncio.Lock()
        self._seen = 0 if turn.head is None else turn.head.revision
        if run is not None:
            for child in run.children:
                self.count(child.usage, child.metadata.get("run_id"))
                if child.status == "paused":
                    self.parts[child.run_id] = child
            again = _last_again(run.steps)  # what is left of the steps before it is placed once, when it is read
            for place, entry in enumerate(run.steps):
                step = _step_of(entry)
                kept = entry if step is not None and _is_small(step) else Packed([entry])
                if step is None:
                    self._read(entry, last_again=place == again)
                else:  # nearly all are
                    self._add(path_of(step.json["path"]), step, kept, placed=place > again)
                self._written.append(kept)

    def count(self, usage: Usage, elsewhere: str | None) -> None:
        """Count what an agent has used, in a run of this id `elsewhere`, if that is in a session of its own."""
        self.usage = self.usage + usage
        if elsewhere is not None:
            self.told[elsewhere] = self.told.get(elsewhere, Usage()) + usage

    # ------------------------------------------------------------ reading

    def _read(self, entry: Entry, *, last_again: bool) -> None:
        """Take note of an entry that is no end of a step."""
        if (began := StateKept.read(entry)) is not None:
            self.state = began.state
        if (patched := StatePatched.read(entry)) is not None:
            self.patched.extend(patched.patch)
        if (scoped := ScopesPatched.read(entry)) is not None:
            self.patched.extend(scoped.in_state)
        if (again := StepsAgain.read(entry)) is not None:
            for path in again.paths:
                self._forget_way_out(path_of(path))
            if last_again:
                for path, kept in self._kept.items():
                    self._place(path, _word(kept))
        if (passed := PatchPassed.read(entry)) is not None:
            self.patches.add(passed.name)
        if (event := journals.event_of(entry)) is not None:
            self._events.append(event)
        if (decided := RunDecided.read(entry)) is not None:
            self.decided.append(decided)

    def _add(self, path: Path, step: Step, commit: Packed | Entry, *, placed: bool = True) -> None:
        if isinstance(step, StepFailed):
            self._attempts[path] = step.attempt
            self._begun.setdefault(path, step.started_at)
            if step.retry_in is not None:
                self.forget_failures(path)  # the next attempt does again what has failed inside this one
                return
        self._packed.pop(path, None)
        if isinstance(commit, Packed):
            if isinstance(step, StepFinished) and not _is_small(step):
                self._packed[path] = commit
                step = step.but(output=None, state=None)
            commit = step.entry()
        self._kept[path] = commit
        if (event := step.json.get("event")) is not None:
            self._received.add(event)
        if placed:
            self._place(path, step)

    def _place(self, path: Path, step: Step) -> None:
        """Take note of what is around a step."""
        reach, inside, position = self._reach, path[:-1], path[-1]
        before = reach.get(inside)
        if before is None:  # the first one there: nobody knows yet how far those around it reach either
            for depth, outer in enumerate(path):
                if outer > reach.get(path[:depth], 0):
                    reach[path[:depth]] = outer
        elif position > before:
            reach[inside] = position
        if (within := step.json.get("within")) is not None:
            label, depth = within
            self._around[path[:depth]] = label

    def kept(self, path: Path) -> Step | None:
        """The end of a step that is not done again: it has finished, or failed for good."""
        kept, commit = self._kept.get(path), self._packed.get(path)
        if kept is None or commit is None:
            return None if kept is None else _word(kept)
        found = (_step_of(entry) for entry in commit.entries())
        return next(one for one in found if one is not None and path_of(one.path) == path)

    def attempts(self, path: Path) -> int:
        """How often a step that is not kept has been tried before."""
        return self._attempts.get(path, 0)

    def reach(self, scope: Path) -> int:
        """The last position in a scope of which anything is kept."""
        return self._reach.get(scope, 0)

    def fitting(self, path: Path, name: str, inputs: str | None) -> Step | None:
        """What is kept of the step that the code calls there; raises as `check_fits` if that was another one."""
        kept = self._kept.get(path)
        if kept is None:
            self.check_fits(path, name, inputs)
            return None
        step = _word(kept)
        if step.json["name"] != name or step.json.get("inputs") != inputs:
            self.check_fits(path, name, inputs)
        return self.kept(path) if path in self._packed else step

    def check_fits(self, path: Path, name: str, inputs: str | None = None) -> None:
        """Raise `WorkflowChangedError` if something else stood at this position when the run came here before.

        Something else is also a step of the same name that was called with other inputs.
        """
        kept = self._kept.get(path)
        step = None if kept is None else _word(kept)
        before = self._around.get(path) if step is None else step.name
        if before is not None and before != name:
            raise self.changed(f"{path_text(path)} was {before!r}; the code now calls {name!r} there")
        if step is not None and inputs is not None and step.inputs not in (None, inputs):
            raise self.changed(f"{path_text(path)}, {name!r}, was called with other inputs than now")

    def changed(self, what: str) -> WorkflowChangedError:
        """The error of a journal that does not fit the code; nothing more is kept of the run."""
        error = WorkflowChangedError(
            f"The workflow has changed since run {self.turn.number} of session {self.turn.spec.session_id!r} began: "
            f"step {what}."
        )
        self.broken = self.broken or error
        return error

    def forget_failures(self, scope: Path) -> None:
        """Let what has failed inside a step be done again."""
        depth = len(scope)
        for path in [path for path in self._kept if len(path) > depth and path[:depth] == scope]:
            self.forget_failure(path)

    def _forget_way_out(self, failed: Path) -> None:
        """Let a step that has ended the run be done again, and with it what the code did because it had failed.

        Those are the steps that began after it had failed, behind it: they stand where other steps stand when it
        succeeds. Steps that were running at the same time stay what they are.
        """
        kept = self._kept.pop(failed, None)
        if kept is None:
            return
        step = _word(kept)
        self._attempts[failed] = step.attempt
        self._begun.setdefault(failed, step.started_at)
        ended, inside = step.ended_at, len(failed)
        for path in [path for path in self._kept if path > failed and path[:inside] != failed]:
            other = _word(self._kept[path])
            if self._begun.get(path, other.started_at) >= ended:
                del self._kept[path]
                self._begun.pop(path, None)
                self._attempts[path] = other.attempt
                self._lives[path] = self._lives.get(path, 0) + 1
                if isinstance(other, StepFinished) and other.event is not None:
                    self._received.discard(other.event)

    def lives(self, path: Path) -> int:
        """How often what stood at a position was forgotten: what stands there now is another step."""
        return self._lives.get(path, 0)

    def forget_failure(self, path: Path) -> None:
        """Let one step that has failed be done again."""
        kept = self._kept.get(path)
        if kept is not None and StepFailed.read(kept):
            del self._kept[path]

    # ------------------------------------------------------------ writing

    def note(self, said: Word) -> None:
        """Have an entry written with the next commit: nothing that is kept depends on it before."""
        self._pending.append(self.turn.entry(said))

    def leave(self, entries: Sequence[Entry]) -> None:
        """Have what a step leaves behind that was stopped written with the next commit: what its agents have used."""
        self._pending.extend(entries)

    def commit(self, path: Path, step: Step, others: Sequence[Entry] = ()) -> Awaitable[None]:
        """Keep the end of a step, and what belongs to it, in one commit; a cancellation waits for it."""
        return kept_whole(self.storage, self._commit_step(path, step, others))

    async def _commit_step(self, path: Path, step: Step, others: Sequence[Entry]) -> None:
        commit = await self._commit([*others, self.turn.entry(step)])
        # As it was returned: what is written may have been redacted, and this process keeps what it has.
        self._add(path, step, commit if isinstance(commit, Packed) else step.entry())

    async def keep(self, entries: Sequence[Entry]) -> None:
        """Keep what a step has done so far, which waits now."""
        await kept_whole(self.storage, self._commit(entries))

    async def _commit(self, said: Sequence[Entry]) -> Packed | Entry:
        async with self._lock:
            self.check_whole()
            entries = [*self._pending, *said]
            before = self._revision()
            noted = len(self._pending)  # more may be noted while this is written
            try:
                commit = await self._append(entries)
            except InvalidInputError:  # refused, and nothing else is wrong
                raise
            except SessileError as error:
                self.broken = error
                raise
            del self._pending[:noted]
            if self._seen == before and self._revision() == before + 1:
                self._seen = before + 1  # nobody else has written meanwhile
            return commit

    async def _append(self, entries: Sequence[Entry]) -> Packed | Entry:
        commit = entries[0] if len(entries) == 1 and _is_little(entries[0]) else await packed(entries)
        try:
            await aoperate(self.storage, turns.append_to_turn, self.turn, entries)
        except turns.StartLostError:
            await self._write_again()
            await aoperate(self.storage, turns.append_to_turn, self.turn, entries)
        self._written.append(commit)
        return commit

    async def _write_again(self) -> None:
        """Commit all that the run had committed, and was lost, under the number that it gets now."""
        now = self.turn.before.head
        self._seen = min(self._seen, 0 if now is None else now.revision)
        for written in self._written:
            again = written.entries() if isinstance(written, Packed) else copies([written])
            await aoperate(self.storage, turns.append_to_turn, self.turn, again)

    def _revision(self) -> int:
        return 0 if self.turn.head is None else self.turn.head.revision

    def check_whole(self) -> None:
        """Raise what keeps the run from going on, if there is anything."""
        if self.broken is not None:
            raise self.broken

    async def end(self, ended: RunEnded, changes: patch.Patch, *, only_at: int | None = None) -> None:
        """Commit the end of the run, or of this part of it."""
        await kept_whole(self.storage, self._end(ended, changes, only_at))

    async def _end(self, ended: RunEnded, changes: patch.Patch, only_at: int | None) -> None:
        async with self._lock:
            args = (self.turn, self._pending, ended, changes)
            try:
                await aoperate(self.storage, turns.end_turn, *args, only_at=only_at)
            except turns.StartLostError:
                await self._write_again()
                await aoperate(self.storage, turns.end_turn, *args)
            self.paused = ended.status == "paused"

    # ------------------------------------------------------------ events from outside

    def take_event(self, name: str) -> journals.Event | None:
        """The oldest event of that name that no step has received."""
        for event in self._events:
            if event.name == name and event.seq not in self._received:
                self._received.add(event.seq)
                return event
        return None

    def has_event(self, names: Sequence[str]) -> bool:
        """Whether an event of one of these names is there that no step has received."""
        return any(event.name in names and event.seq not in self._received for event in self._events)

    async def look_for_events(self) -> int:
        """Read the events that have arrived since the last look; returns the revision up to which that is all."""
        async with self._lock:
            self._seen, news = await aoperate(self.storage, journals.new_events, self.turn, self._seen)
            self._events.extend(news)
            return self._seen

    async def pause(self, pause: Pause, changes: patch.Patch) -> bool:
        """Store the run as paused until one of its events arrives; False if one is there already."""
        while True:
            revision = await self.look_for_events()
            if self.has_event(pause.names):
                return False
            requests = None if pause.requests is None else dump_requests(pause.requests)
            waits, asked = pause.names or None, pause.asked or None
            forms = pause.forms or None
            pending = Pending(waits=waits, until=pause.until, requests=requests, asked=asked, forms=forms)
            paused = RunEnded(status="paused", pending=pending.json)
            try:
                await self.end(paused, changes, only_at=revision)
            except ConflictError:
                self.turn.ending = None
                continue
            return True


_STEPS: dict[str, type[Step]] = {word.KIND: word for word in (StepFinished, StepFailed)}


def _step_of(entry: Entry) -> Step | None:
    word = _STEPS.get(entry.kind)
    return None if word is None else word.of(entry.data)


def _word(entry: Entry) -> Step:
    return _STEPS[entry.kind].of(entry.data)


def _last_again(entries: Sequence[Entry]) -> int:
    """The place of the last entry by which steps are done again; -1: there is none."""
    return next((place for place in reversed(range(len(entries))) if StepsAgain.read(entries[place])), -1)


def _is_little(entry: Entry) -> bool:
    """Whether an entry is the end of a step that is kept as it is."""
    step = _step_of(entry)
    return step is not None and _is_small(step)


SHORT = 64
"""Up to how many characters a text is kept as it is, which takes less than to pack it."""


def _is_small(step: Step) -> bool:
    """Whether what a step returned takes no room, and it has changed no state."""
    if not isinstance(step, StepFinished):
        return False
    output = step.json["output"]
    kind = cast(type[Any], type(output))
    return (kind in _SCALARS or (kind is str and len(output) <= SHORT)) and not step.json.get("state")


_SCALARS = frozenset((type(None), bool, int, float))


def waits_until(run: Run) -> int | None:
    """When a paused run has waited too long for an event, microseconds UTC; None if it has no time limit."""
    return None if run.pending is None else Pending.of(run.pending).until


def waits_of(run: Run) -> list[str]:
    """The names of the events that a paused run waits for."""
    return [] if run.pending is None else Pending.of(run.pending).waits or []
