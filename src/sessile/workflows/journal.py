"""The journal of one run: what its steps came to, by their position, in the log of its session.

A position is a path: `3` is the third step of the workflow, `3.1` the first step inside it, `3.2.1` the first step
of the second branch of what runs in parallel there. Replaying takes from here what finished; one step that finishes
is one commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from ..agents.recorder import to_the_end
from ..errors import ConflictError, InvalidInputError, SessileError, WorkflowChangedError
from ..records import Entry, JsonObject, Run, Usage
from ..storage import fold, journals, patch, turns
from ..storage.storage import Storage
from ..storage.turns import Turn

STEP_FINISHED = "step.finished"
STEP_FAILED = "step.failed"
VERSION = "workflow.version"
AGAIN = "step.again"
"""The kind of the entry that names failed steps which are to be done again when the run is resumed."""

Path = tuple[int, ...]


def path_text(path: Path) -> str:
    """A path as it is stored."""
    return ".".join(map(str, path))


def path_of(text: str) -> Path:
    """The inverse of `path_text`."""
    return tuple(int(part) for part in text.split("."))


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
        self.versions: set[str] = set()
        self._kept: dict[Path, Entry] = {}
        self._attempts: dict[Path, int] = {}
        self._reach: dict[Path, int] = {}
        self._around: dict[Path, str] = {}
        self._events: list[Entry] = []
        self._received: set[int] = set()
        self._pending: list[Entry] = []
        self._lock = asyncio.Lock()
        self._seen = 0 if turn.head is None else turn.head.revision
        if run is not None:
            for child in run.children:
                self.usage = self.usage + child.usage
            for entry in run.steps:
                self._read(entry)

    # ------------------------------------------------------------ reading

    def _read(self, entry: Entry) -> None:
        data = entry.data
        if entry.kind in (STEP_FINISHED, STEP_FAILED):
            self._add(path_of(data["path"]), entry)
        elif entry.kind == fold.STATE_KEPT:
            self.state = data
        elif entry.kind == fold.STATE:
            self.patched.extend(data["patch"])
        elif entry.kind == AGAIN:
            for path in data["paths"]:
                self.forget_failure(path_of(path))
        elif entry.kind == VERSION:
            self.versions.add(data["name"])
        elif entry.kind == journals.EVENT_SENT:
            self._events.append(entry)

    def _add(self, path: Path, entry: Entry) -> None:
        data: JsonObject = entry.data
        if entry.kind == STEP_FAILED and "retry_in" in data:
            self._attempts[path] = data["attempt"]
            self.forget_failures(path)  # the next attempt does again what has failed inside this one
            return
        self._kept[path] = entry
        self._attempts[path] = data["attempt"]
        self._received.update((data["event"],) if "event" in data else ())
        for depth in range(len(path)):
            scope = path[:depth]
            self._reach[scope] = max(self._reach.get(scope, 0), path[depth])
        if "within" in data:
            label, depth = data["within"]
            self._around[path[:depth]] = label

    def kept(self, path: Path) -> Entry | None:
        """What a step came to that is not done again: finished, or failed for good."""
        return self._kept.get(path)

    def attempts(self, path: Path) -> int:
        """How often a step has been tried before."""
        return self._attempts.get(path, 0)

    def reach(self, scope: Path) -> int:
        """The last position in a scope of which anything is kept."""
        return self._reach.get(scope, 0)

    def check_fits(self, path: Path, name: str) -> None:
        """Raise `WorkflowChangedError` if something else stood at this position when the run came here before."""
        entry = self._kept.get(path)
        before = self._around.get(path) if entry is None else entry.data["name"]
        if before is not None and before != name:
            raise self.changed(f"{path_text(path)} was {before!r}; the code now calls {name!r} there")

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

    def forget_failure(self, path: Path) -> None:
        """Let one step that has failed be done again."""
        entry = self._kept.get(path)
        if entry is not None and entry.kind == STEP_FAILED:
            del self._kept[path]

    # ------------------------------------------------------------ writing

    def entry(self, kind: str, data: JsonObject) -> Entry:
        """An entry of the run."""
        return self.turn.entry(kind, data)

    def note(self, kind: str, data: JsonObject) -> None:
        """Have an entry written with the next commit: nothing that is kept depends on it before."""
        self._pending.append(self.entry(kind, data))

    async def commit(self, path: Path, step: Entry, others: Sequence[Entry] = ()) -> None:
        """Keep what a step came to, and what belongs to it, in one commit; a cancellation waits for it."""
        await to_the_end(self._commit(path, [*others, step]))

    async def _commit(self, path: Path, entries: list[Entry]) -> None:
        async with self._lock:
            self.check_whole()
            entries = [*self._pending, *entries]
            before = self._revision()
            noted = len(self._pending)  # more may be noted while this is written
            try:
                await self.storage.arun_operation(turns.append_to_turn, self.turn, entries)
            except InvalidInputError:  # refused, and nothing else is wrong
                raise
            except SessileError as error:
                self.broken = error
                raise
            del self._pending[:noted]
            if self._seen == before and self._revision() == before + 1:
                self._seen = before + 1  # nobody else has written meanwhile
            self._add(path, entries[-1])

    def _revision(self) -> int:
        return 0 if self.turn.head is None else self.turn.head.revision

    def check_whole(self) -> None:
        """Raise what keeps the run from being gone on with, if there is anything."""
        if self.broken is not None:
            raise self.broken

    async def end(self, ended: JsonObject, changes: patch.Patch, *, only_at: int | None = None) -> None:
        """Commit the end of the run, or of this part of it."""
        await to_the_end(self._end(ended, changes, only_at))

    async def _end(self, ended: JsonObject, changes: patch.Patch, only_at: int | None) -> None:
        async with self._lock:
            await self.storage.arun_operation(turns.end_turn, self.turn, self._pending, ended, changes, only_at=only_at)
            self.paused = ended["status"] == "paused"

    # ------------------------------------------------------------ events from outside

    def take_event(self, name: str) -> Entry | None:
        """The oldest event of that name that no step has received."""
        for entry in self._events:
            if entry.data["name"] == name and entry.seq not in self._received:
                self._received.add(entry.seq)
                return entry
        return None

    def has_event(self, names: Sequence[str]) -> bool:
        """Whether an event of one of these names is there that no step has received."""
        return any(entry.data["name"] in names and entry.seq not in self._received for entry in self._events)

    async def look_for_events(self) -> int:
        """Read the events that have arrived since the last look; returns the revision up to which that is all."""
        async with self._lock:
            self._seen, news = await self.storage.arun_operation(journals.new_events, self.turn, self._seen)
            self._events.extend(news)
            return self._seen

    async def pause(self, names: Sequence[str], changes: patch.Patch) -> bool:
        """Store the run as paused until one of these events arrives; False if one is there already."""
        while True:
            revision = await self.look_for_events()
            if self.has_event(names):
                return False
            pending = {"waits": list(names)}
            try:
                await self.end({"status": "paused", "pending": pending}, changes, only_at=revision)
            except ConflictError:
                self.turn.ending = None
                continue
            return True


def waits_of(run: Run) -> list[str]:
    """The names of the events that a paused run waits for."""
    pending: Any = run.pending
    return list(pending.get("waits", ())) if isinstance(pending, dict) else []  # pyright: ignore[reportUnknownArgumentType,reportUnknownMemberType]
