"""A turn in parts, for what runs agents: look, start the run, append to it, end it.

Runs that have begun are taken over by `taking`. Code that has its run complete uses `add_run` instead.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ..errors import (
    ConflictError,
    SessionBusyError,
    SessionNotFoundError,
    StorageError,
)
from ..records import ANY_USER, AnyUser, Entry, JsonObject, OpenRun, PartialList, Run, Session, UserId
from . import patch
from .bounded import runs_within
from .clock import Clock
from .computing import compute
from .core import Core
from .driver import Deadline, HeadRow, Span
from .hearing import Key
from .leases import check_epoch, forget, is_asked_to_cancel, lease_until, lost, renew
from .media import keep_apart, put_aside, read_media, write_media
from .readable import read_entries
from .repeating import Found, RunExistsError, check_same, find_run, find_started, run_key
from .runs import running, runs_in
from .scopes import NO_SCOPES, Scoped, open_scopes, settle, settled_in, told
from .snapshots import Attempt, Committed, Draft, Snapshot, owned
from .state import state_entries
from .vocabulary import (
    RunEnded,
    RunStarted,
    RunTaken,
    ScopesPatched,
    SessionRenamed,
    SessionSummarized,
    StateKept,
    Word,
)
from .writes import creation, existing_or_new, interrupted_entries

Durability = Literal["run", "step", "exit", "workflow"]
OnBusy = Literal["parallel", "queue", "reject"]

logger = logging.getLogger("sessile")

NO_CHANGE: patch.Patch = []

CHAR_BYTES, ROOM_FOR_IDS = 6, 8192
"""How many bytes of JSON a character of ASCII has at most, and the rest of a run's start."""

LOST_PAGE = 8
"""How many commits of a run a writer reads at a time who looks whether it was taken over."""


@dataclass(slots=True)
class TurnSpec:
    """What a turn needs to know: whose session it works on and what the run begins with.

    `input` is JSON; `session` has what a session that is made by this run begins with (`state`, `name`,
    `metadata`, `ttl`), `given` what is stored of the run's options. `queue_timeout` says for how many seconds
    `on_busy="queue"` waits. With `only_once`, for a `run_id` that a caller gave, it is not started a second time under
    that id, for as long as the session lives. `scopes` names those whose state stands among the session's
    (`scopes.checked_scopes`). `epoch` is that of the run which is to be taken over, as whoever decided has seen it.
    """

    session_id: str
    run_id: str
    input: Any
    user_id: UserId = None
    agent: str | None = None
    kind: str = "agent"
    durability: Durability = "run"
    on_busy: OnBusy = "parallel"
    queue_timeout: float = 600.0
    metadata: JsonObject | None = None
    session: JsonObject = field(default_factory=dict)
    only_once: bool = False
    given: JsonObject | None = None
    scopes: tuple[str, ...] = ()
    epoch: int | None = None


@dataclass(slots=True)
class Turn:
    """A run in progress: what it began with and what its last commit brought.

    Attributes:
        spec: what it was asked for.
        before: the session as it was when the run began.
        head, row: the head after this run's last commit, None before the first; and what it was written as.
        clock: the storage's clock.
        number: the run's number, 0 before it is started.
        seq: that of the run's last commit, 0 before the first.
        epoch: its lease's epoch.
        renewed: whether a lease record has been written.
        ending: the commit that ends the run, once it was tried.
        began_us: when the run began that has to be begun again, because its start was lost.
        scoped: the states that outlive the session.
        title: the name that the session gets with the run's end, if it has none by then.
        unseen: contents that were put aside before the run's first commit, by their hashes.
    """

    spec: TurnSpec
    before: Snapshot
    clock: Clock
    head: Session | None = None
    row: HeadRow | None = None
    number: int = 0
    seq: int = 0
    epoch: int = 1
    renewed: bool = False
    ending: Attempt | None = None
    began_us: int | None = None
    scoped: Scoped = field(default_factory=lambda: NO_SCOPES)
    title: str | None = None
    unseen: dict[str, bytes] = field(default_factory=dict[str, bytes])

    @property
    def own_state(self) -> JsonObject:
        """The session's state that the run begins with."""
        head = self.before.head or self.head
        return (self.spec.session.get("state") or {}) if head is None else head.state

    @property
    def state(self) -> JsonObject:
        """The state that the run begins with, those of its scopes among it."""
        return self.scoped.with_state(self.own_state)

    @property
    def user_id(self) -> str | None:
        """Whose session it is."""
        assert not isinstance(self.spec.user_id, AnyUser), "`open_turn` has replaced it"
        return self.spec.user_id

    def entry(self, said: Word, format: str | None = None) -> Entry:
        """An entry of this run."""
        return said.entry(self.spec.run_id, self.number, None, self.spec.agent, format)

    def wrote(self, committed: Committed) -> None:
        """Take note of a commit of this run."""
        self.head, self.row, self.seq = committed.head, committed.row, committed.entries[0].seq

    def begin_again(self, now: Snapshot) -> None:
        """Let the run be written whole, under a new number, in its next commit."""
        self.began_us = self.began_us or (self.before.now if self.head is None else self.head.updated_us)
        self.before, self.head, self.row, self.seq, self.ending = now, None, None, 0, None

    @property
    def place(self) -> Key:
        """By which others in this process are heard who ask to cancel the run."""
        return ("" if self.head is None else self.head.incarnation, self.number)

    @property
    def key(self) -> str | None:
        """The key of the commit that starts the run, if its id was given."""
        return run_key(self.spec.run_id) if self.spec.only_once else None


async def open_turn(core: Core, spec: TurnSpec, last_runs: int) -> Turn:
    """Look at the session, with the commits that hold its last runs; writes nothing.

    `ANY_USER` becomes the user that the session has. Raises `SessionNotFoundError` if the user does not reach the
    session.
    """
    spec.user_id = core.check_access(spec.session_id, spec.user_id)
    each = 1 if spec.durability == "exit" else 2  # the runs before it were like this one
    newest = core.remembered.page_for(spec.session_id, last_runs, each=each) if last_runs else 0
    snapshot = await core.look(spec.session_id, core.deadline(), newest=newest)
    if snapshot.head is not None or spec.user_id is ANY_USER:
        spec.user_id = owned(snapshot.head, spec.session_id, spec.user_id).user_id
    turn = Turn(spec, snapshot, core.clock)
    if spec.scopes:
        turn.scoped = await open_scopes(core, spec.session_id, turn.user_id, spec.scopes, snapshot.head)
    return turn


async def begin_turn(core: Core, spec: TurnSpec, last_runs: int) -> Turn:
    """`open_turn`, and `start_turn` unless the run is only to be written at its end; large media are put aside."""
    turn = await open_turn(core, spec, last_runs)
    kept = await keep_media(core, turn, spec.input)
    if kept is not spec.input:  # in a copy: who tries again passes it as it was, and nothing is put aside twice
        turn.spec = replace(spec, input=kept)
    if spec.durability == "exit":
        await _check_start(core, turn)
    else:
        await start_turn(core, turn)
    return turn


async def _check_start(core: Core, turn: Turn) -> None:
    """Refuse what would be refused at the end, for being too large, before the run has cost anything."""
    spec = turn.spec
    if turn.before.head is not None and _is_small(core, spec):
        return
    head, entries = existing_or_new(turn.before.head, spec.session_id, spec.user_id, _creation(core, spec))
    number = head.run_count + 1
    started = _started(core, turn)
    started.run = number
    await core.check_draft(turn.before, spec.session_id, Draft([*entries, started], number))


def _is_small(core: Core, spec: TurnSpec) -> bool:
    """Whether the start of a run is known to fit into a commit, without writing it as JSON."""
    text = spec.input
    if type(text) is not str or not text.isascii() or spec.metadata or spec.given or core.settings.redact is not None:
        return False
    return CHAR_BYTES * len(text) + ROOM_FOR_IDS <= core.settings.max_commit_bytes


async def start_turn(core: Core, turn: Turn) -> None:
    """Commit that the run has started, with its input, and make the session if it is not there.

    Runs of processes that are gone are written down as interrupted in the same commit. Raises
    `SessionBusyError` if another run is in progress and the turn must not work beside it; with `only_once`
    `RunExistsError` if the session has a run of that id (`repeated` gives it), and `InvalidInputError` if that one
    began with another input.
    """
    spec, attempt = turn.spec, Attempt()
    created = _creation(core, spec)
    deadline = core.deadline()

    async def change(snapshot: Snapshot) -> Draft:
        interrupted = await interrupted_entries(core, snapshot, deadline)
        head, entries = existing_or_new(snapshot.head, spec.session_id, spec.user_id, created)
        await _check_new(core, spec, snapshot.head, attempt, deadline)
        _check_busy(snapshot, spec, {entry.run for entry in interrupted})
        turn.before = Snapshot(head, snapshot.rows, snapshot.now)
        turn.number = head.run_count + 1
        entries.extend(interrupted)
        entries.append(_started(core, turn))
        entries += _settled(turn, snapshot.head)
        if spec.durability == "workflow" and turn.state:
            entries.append(turn.entry(StateKept(turn.state)))  # a replay begins with the same state
        return Draft(entries, turn.number, turn.key)

    committed = await core.commit(spec.session_id, spec.user_id, change, deadline, known=turn.before, attempt=attempt)
    assert committed is not None, "this change always drafts something"
    turn.wrote(committed)
    await _see_to_media(core, turn)


async def _see_to_media(core: Core, turn: Turn) -> None:
    """Put contents aside once more that have gone before the run's first commit.

    Who erased at that moment saw neither a run in progress nor anybody that names them; or the session was made again.
    """
    contents, turn.unseen = turn.unseen, {}
    assert turn.head is not None, "the run has just been committed"
    for digest, content in contents.items():
        with suppress(StorageError):  # the run has begun; mostly they are there
            await write_media(core, turn.head, digest, content, core.deadline())


def _check_busy(snapshot: Snapshot, spec: TurnSpec, interrupted: set[int | None]) -> None:
    if spec.on_busy == "parallel" or snapshot.head is None:
        return
    busy = {number: run for number, run in running(snapshot.head).items() if number not in interrupted}
    if busy:
        raise busy_with(spec.session_id, busy)


def busy_with(session_id: str, runs: Mapping[int, OpenRun]) -> SessionBusyError:
    """The error of a run that may not work beside these ones."""
    error = SessionBusyError(f"Run {max(runs)} of session {session_id!r} is running.")
    error.at_work = tuple(run.run_id for run in runs.values())
    return error


async def _check_new(
    core: Core, spec: TurnSpec, head: Session | None, attempt: Attempt | None, deadline: Deadline
) -> None:
    """Raise `RunExistsError` if the session has a run of this id, which the caller gave."""
    if not spec.only_once:
        return
    started = await find_started(core, head, spec.run_id, deadline, attempt=attempt)
    if started is not None:
        check_same(core, started, spec.session_id, spec.input, spec.agent)
        raise RunExistsError(f"Session {spec.session_id!r} has a run {spec.run_id!r} already.")


async def repeated(core: Core, spec: TurnSpec, *, same: bool = True) -> Found | None:
    """The run that has the id of this one, which its caller gave, with its messages; None if there is none.

    Raises `InvalidInputError` if it began with another input or is another agent's (unless `same` is False), and
    `SessionNotFoundError` as `open_turn` does.
    """
    turn = await open_turn(core, spec, 0)
    found = await find_run(core, turn.before.head, spec.run_id, core.deadline())
    if found is not None and same:
        input, _ = put_aside(spec.input, core.settings.inline_media_bytes)
        check_same(core, found.started, spec.session_id, input, spec.agent)
    return found


def _creation(core: Core, spec: TurnSpec) -> Any:
    """See `creation`: of the session that a turn makes if it is not there."""
    return creation(core, spec.session_id, user_id=spec.user_id, agent=spec.agent, kind=spec.kind, **spec.session)


def _settled(turn: Turn, head: Session | None) -> list[Entry]:
    """The entry which says that changes of scopes are written, where the head still names such."""
    said = settled_in(turn.scoped, head) if head is not None and head.scope_ids else None
    return [] if said is None else [turn.entry(said)]


def _started(core: Core, turn: Turn) -> Entry:
    spec = turn.spec
    until = lease_until(core)
    started = RunStarted(
        input=spec.input,
        durability=spec.durability,
        until=until,
        metadata=spec.metadata or None,
        given=spec.given,
    )
    if turn.began_us is not None:
        started = started.but(started_at=turn.began_us, again=True)
    return turn.entry(started)


class StartLostError(StorageError):
    """What a run has committed is not in its session any more: a backup was put back, or a failover lost it.

    The turn begins again: whoever calls once more writes the run whole, under a new number.
    """

    default_hint = "Look at what was done to the database; the run is stored again, under a new number."


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
    ended: RunEnded,
    state_patch: patch.Patch,
    *,
    refuse_conflicts: bool = False,
    only_at: int | None = None,
) -> None:
    """Commit the end of the run: its last entries, what it changed in the state, status, output and usage.

    A run that was not started before (durability `exit`) is written whole, in this one commit. With
    `refuse_conflicts` a state change that somebody else made to the same keys meanwhile is a `ConflictError`; with
    `only_at` it is one if the session is not at that revision any more. May be repeated after an error: the commit has
    the same id again, so that the end is written once. Raises `StartLostError` if what the run had committed is not in
    the session any more: then the call is repeated with all that the run has to say.
    """
    turn.ending = turn.ending or Attempt()
    final = [*entries, turn.entry(ended.but(epoch=turn.epoch))]
    await _commit(
        core, turn, final, state_patch, refuse_conflicts=refuse_conflicts, only_at=only_at, attempt=turn.ending
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
    attempt: Attempt | None = None,
) -> None:
    spec, deadline = turn.spec, core.deadline()
    first = turn.head is None
    state_patch, others = turn.scoped.split(state_patch)
    said = told(core, turn.scoped, others) if others else None
    beside = [] if said is None else [turn.entry(said)]
    created = _creation(core, spec) if first else None

    async def change(snapshot: Snapshot) -> Draft:
        prefix: list[Entry] = []
        _revive(turn, snapshot)
        if first:
            head, prefix = existing_or_new(snapshot.head, spec.session_id, spec.user_id, created)
            await _check_new(core, spec, snapshot.head, attempt, deadline)
            turn.number = head.run_count + 1
            prefix.append(_started(core, turn))
        else:
            head = _same_session(turn, snapshot.head)
            opened = head.open_runs.get(turn.number)
            if opened is not None and opened.run_id == spec.run_id and head.revision >= turn.seq:
                check_epoch(head, turn.number, turn.epoch)
            else:
                await _check_not_lost(core, turn, snapshot, deadline)
        if only_at is not None and head.revision != only_at:
            raise ConflictError(f"Session {spec.session_id!r} was changed meanwhile.")
        if refuse_conflicts:
            await compute(core.driver, lambda: _check_conflict(turn, head, state_patch), head.state, state_patch)
        for entry in (*entries, *beside):
            entry.run = turn.number
        if not first and not head.on_path(turn.number):
            # A rewind has left the run: what it changed would show on a branch that it does not belong to.
            return Draft([*entries[:-1], *beside, *entries[-1:]], turn.number)
        changes: list[Entry] = [*beside, *(_settled(turn, snapshot.head) if first or beside else [])]
        if turn.title is not None and head.name is None:
            changes.append(SessionRenamed(name=turn.title).entry())
        if state_patch:
            changes += await state_entries(
                core.driver, head, lambda _: state_patch, spec.run_id, turn.number, given=state_patch
            )
        return Draft([*prefix, *entries[:-1], *changes, *entries[-1:]], turn.number, turn.key if first else None)

    known = turn.before if turn.head is None else Snapshot(turn.head, [], core.clock.now(), row=turn.row)
    whose = spec.user_id if first else ANY_USER  # which session it is tells the incarnation
    committed = await core.commit(spec.session_id, whose, change, deadline, known=known, attempt=attempt)
    assert committed is not None, "this change always drafts something"
    turn.wrote(committed)
    turn.number = next(entry.run for entry in committed.entries if entry.run is not None)  # of a repeated commit, too
    await _see_to_media(core, turn)
    if turn.scoped.scopes:
        await _settle(core, turn, committed)


async def _settle(core: Core, turn: Turn, committed: Committed) -> None:
    """Write to the turn's scopes what its commit has told of them, by this call, or by the one that it repeats."""
    for entry in committed.entries:
        if (said := ScopesPatched.read(entry)) is not None:
            await settle(core, turn.scoped, said, committed.head.incarnation)


async def _check_not_lost(core: Core, turn: Turn, snapshot: Snapshot, deadline: Deadline) -> None:
    """Raise `LeaseLostError` if another process took the run over, or it has ended already.

    The head does not know that: it forgets runs that have ended, and old ones that were only noted as interrupted. Only
    what was written to the run since its own last commit is read: who takes a run over writes that first. If not even
    that commit is there, `StartLostError` is raised, and the turn begins again.
    """
    head = snapshot.head
    assert head is not None, "checked by the caller"
    own = False
    span = Span(first=turn.seq, runs=(turn.number, turn.number), limit=LOST_PAGE)
    while True:
        rows = await core.driver.entries(head.session_id, head.incarnation, span, deadline)
        for entry in await read_entries(core.driver, rows):
            if entry.run == turn.number and entry.run_id == turn.spec.run_id:
                own = own or entry.seq == turn.seq
                taken, ended = RunTaken.read(entry), RunEnded.read(entry)
                if (taken and taken.epoch > turn.epoch) or (ended and (ended.epoch or 0) >= turn.epoch):
                    raise lost(head, turn.number)
        if not own:
            number = turn.number
            turn.begin_again(snapshot)
            logger.warning(
                "What a run had stored in session %r was lost (a backup was put back, or a failover lost it). It is "
                "stored whole, under a new number.",
                turn.spec.session_id,
            )
            raise StartLostError(f"Run {number} of session {head.session_id!r} is not as it was stored.")
        if len(rows) < LOST_PAGE:
            return
        span = span._replace(first=rows[-1].seq + 1)


def _revive(turn: Turn, snapshot: Snapshot) -> None:
    """A session that has expired while its run was in progress is there again when the run goes on, as if in time."""
    found = snapshot.found
    if snapshot.head is None and found is not None and found.hidden is None and turn.head is not None:
        snapshot.head, snapshot.stale = found, None


def _same_session(turn: Turn, head: Session | None) -> Session:
    if head is None or turn.head is None or head.incarnation != turn.head.incarnation:
        raise SessionNotFoundError(
            f"Session {turn.spec.session_id!r} was deleted while run {turn.number} was in progress."
        )
    return head


def _check_conflict(turn: Turn, head: Session, state_patch: patch.Patch) -> None:
    keys = patch.conflicts(state_patch, patch.diff(turn.own_state, head.state))
    if keys:
        raise ConflictError(
            f"Somebody else changed {', '.join(keys)} in the state of session {turn.spec.session_id!r} meanwhile."
        )


def runs_at_hand(turn: Turn, numbers: Sequence[int]) -> list[Run] | None:
    """These runs, if the commits that came with the turn's first look hold them all and none is running; no I/O."""
    found = runs_in(turn.before.rows, numbers)
    runs = [found[number] for number in numbers if number in found]
    complete = len(runs) == len(numbers) and all(run.status != "running" for run in runs)
    return runs if complete else None


async def history(core: Core, turn: Turn, numbers: Sequence[int], most: int) -> tuple[PartialList[Run], int]:
    """These runs of the session as it was when the turn began, oldest first: the newest, until they have `most` bytes.

    Also how many bytes are left then; 0: there may be more.
    """
    return await runs_within(core, turn.before, numbers, most, core.deadline())


async def keep_media(core: Core, turn: Turn, value: Any) -> Any:
    """The value with its large binary parts stored apart and replaced by references.

    A session that is not there yet is made first, so that nothing is ever stored without an agent.
    """
    if not isinstance(value, (dict, list)):
        return value
    kept = turn.unseen if turn.head is None else None
    return await keep_apart(core, value, lambda: session_of(core, turn), kept)


async def session_of(core: Core, turn: Turn) -> Session:
    """The turn's session as it was last seen, which is made if it is not there."""
    return turn.head or turn.before.head or await _make_session(core, turn)


async def _make_session(core: Core, turn: Turn) -> Session:
    spec = turn.spec
    created = _creation(core, spec)

    async def change(snapshot: Snapshot) -> Draft | None:
        head, entries = existing_or_new(snapshot.head, spec.session_id, spec.user_id, created)
        turn.before = Snapshot(head, [], snapshot.now)
        return Draft(entries) if entries else None

    committed = await core.commit(spec.session_id, spec.user_id, change, core.deadline(), known=turn.before)
    if committed is not None:
        turn.before = Snapshot(committed.head, [], core.clock.now())
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


async def is_asked_to_stop(core: Core, turn: Turn) -> bool:
    """Whether somebody has asked to cancel the turn's run; one read, which renews nothing."""
    if turn.head is None:
        return False
    asked = await is_asked_to_cancel(core, turn.head, turn.number, turn.epoch, core.deadline())
    turn.renewed = turn.renewed or asked  # then there is a record to be removed at the end
    return asked


async def summarize(core: Core, turn: Turn, upto: int, text: str, unfinished: Sequence[int] = ()) -> None:
    """Keep the rolling summary of the runs up to `upto` in the session; `unfinished` are those that have not ended."""
    spec = turn.spec

    async def change(snapshot: Snapshot) -> Draft:
        owned(snapshot.head, spec.session_id, spec.user_id)
        said = SessionSummarized(upto=upto, text=text, unfinished=list(unfinished) or None)
        return Draft([said.entry()])

    committed = await core.commit(spec.session_id, spec.user_id, change, core.deadline(), known=turn.before)
    assert committed is not None, "this change always drafts something"
