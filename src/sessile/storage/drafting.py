"""What integrations draft within a change: runs, states and rewinds as entries; and the newest messages of a branch.

Nothing here writes. A change puts what it is given here into its `Draft`, so that all of it happens in one commit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..records import FINISHED, Duration, Entry, JsonObject, Message, Run, Session, Status, Usage
from . import patch
from .bounded import NEWEST_AT_ONCE, rows_within
from .checks import ttl_micros
from .computing import compute
from .core import Core
from .driver import CommitRow, Span
from .encoding import plain_json
from .given import checked_messages, checked_usage
from .ids import check_id
from .readable import readable
from .runs import read_run
from .snapshots import Snapshot
from .state import patched
from .vocabulary import (
    ABSENT,
    MessageAdded,
    MetadataPatched,
    RunAmended,
    RunEnded,
    RunStarted,
    SessionErased,
    SessionRenamed,
    SessionRewound,
    SessionRewritten,
    TtlSet,
)

PAGE = 500
"""How many commits are read at a time."""


def run_added(
    head: Session,
    run_id: str,
    *,
    input: Any = None,
    output: Any = None,
    messages: Sequence[JsonObject] = (),
    format: str | None = None,
    status: Status = "completed",
    error: JsonObject | None = None,
    usage: Usage | None = None,
    metadata: JsonObject | None = None,
    agent: str | None = None,
) -> tuple[int, list[Entry]]:
    """The number of a further run of the session, and the entries of the whole run: start, messages, end.

    `status` is one of a finished run; `usage` is the run's own. Raises `InvalidInputError` for what is no JSON.
    """
    number = head.run_count + 1
    common: dict[str, Any] = {"run_id": check_id(run_id, "run_id"), "run": number, "agent": agent}
    started = RunStarted(input=plain_json(input, "input"), metadata=metadata)
    counts = None if usage is None else checked_usage(usage)
    ended = RunEnded(status=status, output=plain_json(output, "output"), error=error, usage=counts)
    said = [MessageAdded(message).entry(**common, format=format) for message in checked_messages(list(messages))]
    return number, [started.entry(**common), *said, ended.entry(**common)]


def run_amended(
    number: int,
    run_id: str,
    *,
    drop: int = 0,
    messages: Sequence[JsonObject] = (),
    format: str | None = None,
    status: Status | None = None,
    output: Any = ABSENT,
    error: JsonObject | None = ABSENT,
    usage: Usage | None = None,
    agent: str | None = None,
) -> list[Entry]:
    """The entries by which a finished run goes on or changes: its newest messages are dropped, others are added.

    What is not given stays as it is. `usage` is added to what the run has used. The whole commit belongs to this run
    (`Draft.run`), and to no other.
    """
    common: dict[str, Any] = {"run_id": check_id(run_id, "run_id"), "run": number, "agent": agent}
    more = (usage.to_json() or None) if usage is not None else None
    output = output if output is ABSENT else plain_json(output, "output")
    said = RunAmended(dropped=drop, status=status, output=output, error=error, usage=more)
    added = [MessageAdded(message).entry(**common, format=format) for message in checked_messages(list(messages))]
    return [said.entry(**common), *added]


def rewound(head: Session, run: int) -> list[Entry]:
    """The entry after which the current branch ends at this run (0: before the first), none if it does already.

    The state stays as it is.
    """
    return [] if head.tip == run else [SessionRewound(run=run).entry()]


def renamed(head: Session, name: str | None) -> list[Entry]:
    """The entry that gives the session this name; none if it has it."""
    return [] if head.name == name else [SessionRenamed(name=name).entry()]


def state_changed(
    head: Session,
    values: Mapping[str, Any],
    remove: Sequence[str] = (),
    *,
    run_id: str | None = None,
    run: int | None = None,
) -> list[Entry]:
    """The entries that put these values into the state, whole (None is one), and remove those keys; perhaps none."""
    plain: JsonObject = plain_json(dict(values), "state")
    operations: patch.Patch = [["set", [key], value] for key, value in plain.items()]
    return patched(head, [*operations, *(["del", [key]] for key in remove)], run_id, run)


def metadata_changed(head: Session, values: Mapping[str, Any], remove: Sequence[str] = ()) -> list[Entry]:
    """As `state_changed`, for the metadata."""
    plain: JsonObject = plain_json(dict(values), "metadata")
    operations: patch.Patch = [["set", [key], value] for key, value in plain.items()]
    operations += [["del", [key]] for key in remove]
    effective = patch.diff(head.metadata, patch.apply(head.metadata, operations))
    return [MetadataPatched(patch=effective).entry()] if effective else []


def ttl_changed(head: Session, ttl: Duration | None) -> list[Entry]:
    """The entry after which the session lives for this time from its last change; none if it does already."""
    micros = ttl_micros(ttl)
    return [] if head.ttl_us == micros else [TtlSet(ttl=micros).entry()]


async def run_of(core: Core, snapshot: Snapshot, number: int) -> Run:
    """One run of a session; `RunNotFoundError` if it has none of this number, and why if it cannot be read."""
    return await read_run(core, snapshot, number, core.deadline())


# ---------------------------------------------------------------- the newest messages


async def newest_messages(core: Core, snapshot: Snapshot, count: int | None = None) -> list[Message]:
    """The newest messages of the current branch, oldest first, in the order in which they were written.

    Of runs that have finished (not of running ones), without messages that were dropped, and without those of runs
    below others. All if `count` is None. Reads from the end of the log, what the snapshot has not brought along; what
    cannot be read is left out and logged.
    """
    head = snapshot.head
    if head is None or count == 0 or not head.tip:
        return []
    reader = _Backwards(core, head, count)
    rows = snapshot.rows
    await compute(core.driver, lambda: reader.take(rows), rows=rows)
    last = rows[0].seq - 1 if rows else head.revision
    page = NEWEST_AT_ONCE if count is not None else PAGE
    while last > 0 and not reader.full:
        span = Span(last=last, limit=page, newest_first=True)
        found, _ = await rows_within(core, head, span, core.settings.max_read_bytes, core.deadline())
        if not found:
            break
        await compute(core.driver, lambda found=found: reader.take(found), rows=found)
        last, page = found[-1].seq - 1, PAGE
    reader.messages.reverse()
    return reader.messages


def messages_added(snapshot: Snapshot, revision: int) -> list[Message] | None:
    """What `newest_messages` has now that it had not at this revision, if all else is as it was then; else None.

    Found in the snapshot's own commits: None also where it has too few, and while runs of the session are running.
    """
    head = snapshot.head
    if head is None or head.open_runs or not 0 < revision <= head.revision:
        return None
    rows = [row for row in snapshot.rows if row.seq > revision]
    read = readable(rows)
    if len(rows) != head.revision - revision or read.unreadable:
        return None
    added: list[Message] = []
    for entry in read.entries:
        amended = RunAmended.read(entry)
        if entry.kind in _OTHERWISE or (amended is not None and amended.dropped):
            return None
        if entry.kind == MessageAdded.KIND and entry.parent_run_id is None:
            if not head.on_path(entry.run or 0):
                return None
            added.append(_message(entry))
    return added


_OTHERWISE = {SessionRewound.KIND, SessionRewritten.KIND, SessionErased.KIND}


def _message(entry: Entry) -> Message:
    return Message(entry.data, entry.format, entry.run or 0, entry.run_id, entry.agent, entry.seq, entry.time_us)


class _Backwards:
    """Gathers messages, newest first."""

    def __init__(self, core: Core, head: Session, count: int | None) -> None:
        self._core, self._head, self._count = core, head, count
        self._dropped: dict[tuple[int, str], int] = {}
        self._chosen: dict[int, bool] = {}
        self.messages: list[Message] = []

    @property
    def full(self) -> bool:
        return self._count is not None and len(self.messages) >= self._count

    def take(self, rows: Sequence[CommitRow]) -> None:
        read = readable(rows)
        for seq, (_, error) in read.unreadable.items():
            self._core.skipped(self._head.session_id, f"Commit {seq}", error)
        for entry in reversed(read.entries):
            if self.full:
                return
            if entry.kind == MessageAdded.KIND:
                self._message(entry)
            elif (amended := RunAmended.read(entry)) is not None and amended.dropped:
                key = (entry.run or 0, entry.run_id or "")
                self._dropped[key] = self._dropped.get(key, 0) + amended.dropped

    def _message(self, entry: Entry) -> None:
        number, run_id = entry.run or 0, entry.run_id or ""
        chosen = self._chosen.get(number)
        if chosen is None:
            opened = self._head.open_runs.get(number)
            finished = opened is None or opened.status in FINISHED
            chosen = self._chosen[number] = finished and self._head.on_path(number)
        if not chosen or entry.parent_run_id is not None:
            return
        dropped = self._dropped.get((number, run_id), 0)
        if dropped:
            self._dropped[number, run_id] = dropped - 1
            return
        self.messages.append(_message(entry))
