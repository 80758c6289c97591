"""A turn in parts, for what runs agents: look, start the run, append to it, end it; and taking a run over.

Code that has its run complete uses `add_run` instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ..errors import (
    AlreadyExistsError,
    ConflictError,
    CorruptDataError,
    InvalidInputError,
    NotResumableError,
    RunNotFoundError,
    SessileError,
    SessionBusyError,
    SessionNotFoundError,
    StorageError,
)
from ..records import Entry, Head, JsonObject, OpenRun, Run
from . import fold, patch
from .core import Core, Draft, Snapshot, now_micros, owned, rows_to_entries
from .driver import Span
from .ids import uuid7
from .leases import check_epoch, forget, is_alive, lease_until, lost, renew, request_cancel, write_lease
from .media import check_media, put_aside, read_media, write_media
from .reads import check_count, page_for
from .runs import read_runs, running, runs_in
from .writes import creation, existing_or_new, interrupted_entries, state_entries

Durability = Literal["run", "step", "exit", "workflow"]
OnBusy = Literal["parallel", "queue", "reject"]

NO_CHANGE: patch.Patch = []


@dataclass(slots=True)
class TurnSpec:
    """What a turn needs to know: whose session it works on and what the run begins with.

    `input` is JSON; `session` has what a session that is made by this run begins with (`state`, `name`,
    `metadata`, `ttl`). With `only_once` it is not started a second time under the same `run_id`.
    """

    session_id: str
    run_id: str
    input: Any
    user_id: str | None = None
    owner: str | None = None
    kind: str = "agent"
    durability: Durability = "run"
    on_busy: OnBusy = "parallel"
    metadata: JsonObject | None = None
    session: JsonObject = field(default_factory=dict[str, Any])
    only_once: bool = False


@dataclass(slots=True)
class Turn:
    """A run at work: what it began with and what its last commit brought.

    Attributes:
        spec: what it was asked for.
        before: the session as it was when the run began.
        head: the head after this run's last commit, None before the first.
        number: the run's number, 0 before it is started.
        epoch: its lease's epoch.
        renewed: whether a lease record has been written.
        ending: the id of the commit that ends the run, once it was tried.
    """

    spec: TurnSpec
    before: Snapshot
    head: Head | None = None
    number: int = 0
    epoch: int = 1
    renewed: bool = False
    ending: str | None = None

    @property
    def state(self) -> JsonObject:
        """The state that the run begins with."""
        head = self.before.head or self.head
        return (self.spec.session.get("state") or {}) if head is None else head.state

    def entry(self, kind: str, data: Any, format: str | None = None) -> Entry:
        """An entry of this run."""
        return Entry(kind, data, self.spec.run_id, self.number, None, self.spec.owner, format)


async def open_turn(core: Core, spec: TurnSpec, last_runs: int) -> Turn:
    """Look at the session, with the commits that hold its last runs; writes nothing.

    Raises `SessionNotFoundError` if the session is another user's.
    """
    core.check_access(spec.session_id, spec.user_id)
    newest = page_for(last_runs, each=1 if spec.durability == "exit" else 2)  # the runs before it were like this one
    snapshot = await core.look(spec.session_id, core.deadline(), newest=newest)
    if snapshot.head is not None:
        owned(snapshot.head, spec.session_id, spec.user_id)
    return Turn(spec, snapshot)


async def begin_turn(core: Core, spec: TurnSpec, last_runs: int) -> Turn:
    """`open_turn`, and `start_turn` unless the run is only to be written at its end; large media are put aside."""
    turn = await open_turn(core, spec, last_runs)
    # In a copy, so that whoever has to try again passes the input as it was: nothing is put aside twice.
    turn.spec = replace(spec, input=await keep_media(core, turn, spec.input))
    if spec.durability != "exit":
        await start_turn(core, turn)
    return turn


async def start_turn(core: Core, turn: Turn) -> None:
    """Commit that the run has started, with its input, and make the session if it is not there.

    Runs of processes that are gone are written down as interrupted in the same commit. Raises
    `SessionBusyError` if another run is at work and the turn must not work beside it.
    """
    spec = turn.spec
    created = _creation(core, spec)

    deadline = core.deadline()

    async def change(snapshot: Snapshot) -> Draft:
        interrupted = await interrupted_entries(core, snapshot, deadline)
        _check_busy(snapshot, spec, {entry.run for entry in interrupted})
        if spec.only_once:
            _check_new(snapshot, spec)
        head, entries = existing_or_new(snapshot.head, spec.session_id, spec.user_id, created)
        turn.before = Snapshot(head, snapshot.rows, snapshot.now)
        turn.number = head.run_count + 1
        entries.extend(interrupted)
        entries.append(_started(core, turn, snapshot.now))
        if spec.durability == "workflow" and turn.state:
            entries.append(turn.entry(fold.STATE_KEPT, turn.state))  # a replay begins with the same state
        return Draft(entries, turn.number)

    committed = await core.commit(spec.session_id, change, deadline, known=turn.before)
    assert committed is not None, "this change always drafts something"
    turn.head = committed.head


def _check_busy(snapshot: Snapshot, spec: TurnSpec, interrupted: set[int | None]) -> None:
    if spec.on_busy == "parallel" or snapshot.head is None:
        return
    busy = [number for number in running(snapshot.head) if number not in interrupted]
    if busy:
        raise SessionBusyError(f"Run {busy[-1]} of session {spec.session_id!r} is at work.")


def _check_new(snapshot: Snapshot, spec: TurnSpec) -> None:
    """Raise `AlreadyExistsError` if the session has a run of this id that is open, or among its last commits."""
    opened = () if snapshot.head is None else snapshot.head.open_runs.values()
    recent = (entry.run_id for entry in rows_to_entries(snapshot.rows) if entry.kind == fold.RUN_STARTED)
    if spec.run_id in (*(run.run_id for run in opened), *recent):
        raise AlreadyExistsError(f"Session {spec.session_id!r} has a run {spec.run_id!r} already.")


def _creation(core: Core, spec: TurnSpec) -> Any:
    """See `creation`: of the session that a turn makes if it is not there."""
    return creation(core, spec.session_id, user_id=spec.user_id, owner=spec.owner, kind=spec.kind, **spec.session)


def _started(core: Core, turn: Turn, now: int) -> Entry:
    spec = turn.spec
    data: JsonObject = {"input": spec.input, "durability": spec.durability, "until": lease_until(core, now)}
    if spec.metadata:
        data["metadata"] = spec.metadata
    return turn.entry(fold.RUN_STARTED, data)


async def append_to_turn(
    core: Core, turn: Turn, entries: Sequence[Entry], state_patch: patch.Patch = NO_CHANGE
) -> None:
    """Commit entries of the run, or of runs below it, as they happen, and what they have changed in the state.

    Raises `LeaseLostError` if the run was taken over.
    """
    await _commit(core, turn, list(entries), state_patch)


async def end_turn(
    core: Core,
    turn: Turn,
    entries: Sequence[Entry],
    ended: JsonObject,
    state_patch: patch.Patch,
    *,
    refuse_conflicts: bool = False,
    only_at: int | None = None,
) -> None:
    """Commit the end of the run: its last entries, what it changed in the state, status, output and usage.

    A run that was not started before (durability `exit`) is written whole, in this one commit. With
    `refuse_conflicts` a state change that somebody else made to the same keys meanwhile is a `ConflictError`; with
    `only_at` it is one if the session is not at that revision any more. May be repeated after an error: the commit has
    the same id again, so that the end is written once.
    """
    turn.ending = turn.ending or uuid7()
    final = [*entries, turn.entry(fold.RUN_ENDED, {**ended, "epoch": turn.epoch})]
    await _commit(
        core, turn, final, state_patch, refuse_conflicts=refuse_conflicts, only_at=only_at, commit_id=turn.ending
    )
    if turn.renewed and turn.head is not None:
        with suppress(StorageError):  # the end is stored; what is left behind does no harm
            await forget(core, turn.head, turn.number, core.deadline())


async def _commit(
    core: Core,
    turn: Turn,
    entries: list[Entry],
    state_patch: patch.Patch,
    *,
    refuse_conflicts: bool = False,
    only_at: int | None = None,
    commit_id: str | None = None,
) -> None:
    spec = turn.spec
    first = turn.head is None
    created = _creation(core, spec) if first else None

    async def change(snapshot: Snapshot) -> Draft:
        prefix: list[Entry] = []
        _revive(turn, snapshot)
        if first:
            head, prefix = existing_or_new(snapshot.head, spec.session_id, spec.user_id, created)
            turn.number = head.run_count + 1
            prefix.append(_started(core, turn, snapshot.now))
        else:
            head = _same_session(turn, snapshot.head)
            check_epoch(head, turn.number, turn.epoch)
            if turn.number not in head.open_runs:
                await _check_not_lost(core, turn, head)
        if only_at is not None and head.revision != only_at:
            raise ConflictError(f"Session {spec.session_id!r} was changed meanwhile.")
        if refuse_conflicts:
            _check_conflict(turn, head, state_patch)
        for entry in entries:
            entry.run = turn.number
        if not first and not head.on_path(turn.number):
            # A rewind has left the run: what it changed would show on a branch that it does not belong to.
            return Draft(entries, turn.number)
        changes = state_entries(head, state_patch, spec.run_id, turn.number)
        return Draft([*prefix, *entries[:-1], *changes, *entries[-1:]], turn.number)

    known = turn.before if turn.head is None else Snapshot(turn.head, [], now_micros())
    committed = await core.commit(spec.session_id, change, core.deadline(), known=known, commit_id=commit_id)
    assert committed is not None, "this change always drafts something"
    turn.head = committed.head
    turn.number = next(entry.run for entry in committed.entries if entry.run is not None)  # of a repeated commit, too


async def _check_not_lost(core: Core, turn: Turn, head: Head) -> None:
    """Raise `LeaseLostError` if another process took the run over, or it has ended already.

    The head does not know that: it forgets runs that have ended, and old ones that were only noted as interrupted.
    """
    rows = await core.all_rows(head, Span(runs=(turn.number, turn.number)), core.deadline())
    for entry in rows_to_entries(rows):
        if entry.run == turn.number and entry.run_id == turn.spec.run_id:
            taken = entry.kind == fold.RUN_TAKEN and entry.data["epoch"] > turn.epoch
            if taken or (entry.kind == fold.RUN_ENDED and entry.data.get("epoch", 0) >= turn.epoch):
                raise lost(head, turn.number)


def _revive(turn: Turn, snapshot: Snapshot) -> None:
    """A session that has expired while its run was at work is there again when the run goes on, as if in time."""
    found = snapshot.found
    if snapshot.head is None and found is not None and found.hidden is None and turn.head is not None:
        snapshot.head, snapshot.stale = found, None


def _same_session(turn: Turn, head: Head | None) -> Head:
    if head is None or turn.head is None or head.incarnation != turn.head.incarnation:
        raise SessionNotFoundError(
            f"Session {turn.spec.session_id!r} was deleted while run {turn.number} was at work on it."
        )
    return head


def _check_conflict(turn: Turn, head: Head, state_patch: patch.Patch) -> None:
    keys = patch.conflicts(state_patch, patch.diff(turn.state, head.state))
    if keys:
        raise ConflictError(
            f"Somebody else changed {', '.join(keys)} in the state of session {turn.spec.session_id!r} meanwhile."
        )


def runs_at_hand(turn: Turn, numbers: Sequence[int]) -> list[Run] | None:
    """These runs, if the commits that came with the turn's first look hold them all and none is at work; no I/O."""
    found = runs_in(turn.before.rows, numbers)
    runs = [found[number] for number in numbers if number in found]
    complete = len(runs) == len(numbers) and all(run.status != "running" for run in runs)
    return runs if complete else None


async def history(core: Core, turn: Turn, numbers: Sequence[int]) -> list[Run]:
    """These runs of the session as it was when the turn began, oldest first."""
    return await read_runs(core, turn.before, numbers, core.deadline())


async def keep_media(core: Core, turn: Turn, value: Any) -> Any:
    """The value with its large binary parts stored apart and replaced by references.

    A session that is not there yet is made first, so that nothing is ever stored without an owner.
    """
    if not isinstance(value, (dict, list)):
        return value
    reduced, found = put_aside(value, core.settings.inline_media_bytes)
    if not found:
        return reduced
    for content in found.values():
        check_media(core, content)
    deadline = core.deadline()
    head = turn.head or turn.before.head
    if head is None:
        head = await _make_session(core, turn)
    for digest, content in found.items():
        await write_media(core, head, digest, content, deadline)
    return reduced


async def _make_session(core: Core, turn: Turn) -> Head:
    spec = turn.spec
    created = _creation(core, spec)

    async def change(snapshot: Snapshot) -> Draft | None:
        head, entries = existing_or_new(snapshot.head, spec.session_id, spec.user_id, created)
        turn.before = Snapshot(head, [], snapshot.now)
        return Draft(entries) if entries else None

    committed = await core.commit(spec.session_id, change, core.deadline(), known=turn.before)
    if committed is not None:
        turn.before = Snapshot(committed.head, [], now_micros())
    assert turn.before.head is not None, "the session was there, or has just been made"
    return turn.before.head


async def turn_media(core: Core, turn: Turn, digest: str) -> bytes:
    """The content that a message of the turn's session refers to."""
    head = turn.before.head or turn.head
    if head is None:
        raise SessionNotFoundError(f"There is no session {turn.spec.session_id!r}.")
    return await read_media(core, head, digest, core.deadline())


async def renew_turn(core: Core, turn: Turn, note: Any = None) -> bool:
    """Hold the run's lease for another term; returns whether it was asked to cancel.

    `note` (JSON) stands in the lease record: what the run is doing.
    """
    if turn.head is None:
        return False
    turn.renewed = True
    return await renew(core, turn.head, turn.number, turn.epoch, core.deadline(), note)


async def take_turn(
    core: Core, spec: TurnSpec, number: int | None, last_runs: int, check: Callable[[Turn, Run], list[Entry]]
) -> tuple[Turn, Run]:
    """Take over a run that is paused, interrupted, or failed and resumable: a commit that raises its epoch.

    `number` defaults to the newest run that can be taken; `check` may refuse a run, by raising, before anything is
    written; what it returns is committed with the taking. Of several processes that try, one succeeds; the others
    get `NotResumableError`. Returns the turn and the run as it stood in the log.
    """
    turn = await open_turn(core, spec, last_runs)
    owned(turn.before.head, spec.session_id, spec.user_id)
    deadline = core.deadline()
    taken: list[Run] = []

    async def change(snapshot: Snapshot) -> Draft:
        owned(snapshot.head, spec.session_id, spec.user_id)
        refused: SessileError | None = None
        for turn.number, opened in await _takeable(core, snapshot, number):
            taken[:] = await read_runs(core, snapshot, [turn.number], deadline)
            if not taken:
                raise CorruptDataError(f"The log of session {spec.session_id!r} has no run {turn.number}.")
            turn.before = snapshot
            turn.epoch = opened.epoch + 1
            spec.run_id, spec.durability = opened.run_id, _durability(taken[0])
            try:
                noted = check(turn, taken[0])
            except (InvalidInputError, NotResumableError) as error:
                refused = refused or error
                continue
            data = {"epoch": turn.epoch, "until": lease_until(core, snapshot.now), "from": taken[0].status}
            return Draft([turn.entry(fold.RUN_TAKEN, data), *noted], turn.number)
        assert refused is not None, "there is a run to try, or an error was raised"
        raise refused

    committed = await core.commit(spec.session_id, change, deadline, known=turn.before)
    assert committed is not None, "this change always drafts something"
    turn.head = committed.head
    with suppress(StorageError):  # the commit holds the first term already
        await write_lease(core, committed.head, turn.number, turn.epoch, deadline)
    turn.renewed = True
    return turn, taken[0]


def _durability(run: Run) -> Durability:
    return run.durability if run.durability in ("step", "workflow") else "run"


async def _takeable(core: Core, snapshot: Snapshot, number: int | None) -> list[tuple[int, OpenRun]]:
    """The runs that nobody is at work on, newest first; raises if there are none."""
    head = snapshot.head
    assert head is not None, "checked by the caller"
    candidates = [run for run in sorted(head.open_runs) if head.on_path(run)] if number is None else [number]
    free: list[tuple[int, OpenRun]] = []
    for candidate in reversed(candidates):
        opened = head.open_runs.get(candidate)
        if opened is not None and (
            opened.status != "running" or not await is_alive(core, snapshot, candidate, opened, core.deadline())
        ):
            free.append((candidate, opened))
    if free:
        return free
    if number is None:
        raise NotResumableError(
            f"Session {head.session_id!r} has no run that is paused or interrupted.",
            hint="Start a new run instead.",
        )
    if number > head.run_count:
        raise RunNotFoundError(f"Session {head.session_id!r} has no run {number}.")
    state = "still at work" if number in head.open_runs else "finished"
    raise NotResumableError(f"Run {number} of session {head.session_id!r} is {state}.", hint="Start a new run instead.")


async def cancel_run(core: Core, session_id: str, number: int | None = None, *, user_id: str | None = None) -> bool:
    """Ask the process that works on a run (default: the newest that is running) to cancel it.

    It sees the request when it next renews its lease, within a third of the lease's time. False if no such run is
    at work.
    """
    core.check_access(session_id, user_id)
    if number is not None:
        check_count(number, "number", least=1)
    deadline = core.deadline()
    snapshot = await core.look(session_id, deadline)
    head = owned(snapshot.head, session_id, user_id)
    at_work = running(head)
    number = max(at_work, default=0) if number is None else number
    opened = at_work.get(number)
    if opened is None or not await is_alive(core, snapshot, number, opened, deadline):
        return False
    await request_cancel(core, head, number, opened, deadline)
    return True


async def summarize(core: Core, turn: Turn, upto: int, text: str) -> None:
    """Keep the rolling summary of the runs up to `upto` in the session."""

    async def change(snapshot: Snapshot) -> Draft:
        owned(snapshot.head, turn.spec.session_id, turn.spec.user_id)
        return Draft([Entry(fold.SUMMARIZED, {"upto": upto, "text": text})])

    committed = await core.commit(turn.spec.session_id, change, core.deadline(), known=turn.before)
    assert committed is not None, "this change always drafts something"
