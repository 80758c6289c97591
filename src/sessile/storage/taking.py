"""Runs that have begun: taken over by another process, and cancelled from outside."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from ..errors import (
    InvalidInputError,
    NotResumableError,
    RunNotFoundError,
    RunWentOnError,
    SessileError,
    StorageError,
)
from ..records import Entry, OpenRun, Run, Session, UserId
from .checks import check_count
from .core import Core
from .driver import Deadline
from .hearing import tell
from .leases import AtWork, forget, lease_until, request_cancel, which_alive, write_lease
from .runs import read_run, running
from .snapshots import Draft, Snapshot, owned
from .turns import Durability, Turn, TurnSpec, busy_with, open_turn
from .vocabulary import RunEnded, RunTaken


async def take_turn(
    core: Core, spec: TurnSpec, number: int | None, last_runs: int, check: Callable[[Turn, Run], list[Entry]]
) -> tuple[Turn, Run]:
    """Take over a run that is paused, interrupted, or failed and resumable: a commit that raises its epoch.

    `number` defaults to the newest run that can be taken; `check` may refuse a run, by raising, before anything is
    written; what it returns is committed with the taking. Of several processes that try, one succeeds; the others
    get `NotResumableError`. Raises `RunWentOnError` if the run has another epoch than `spec` asks for, and
    `SessionBusyError` if another run is running and the turn must not work beside it.
    Returns the turn and the run as it stood in the log.
    """
    turn = await open_turn(core, spec, last_runs)
    owned(turn.before.head, spec.session_id, spec.user_id)
    deadline = core.deadline()
    taken: list[Run] = []

    async def change(snapshot: Snapshot) -> Draft:
        owned(snapshot.head, spec.session_id, spec.user_id)
        refused: SessileError | None = None
        for turn.number, opened in await _takeable(core, snapshot, number):
            check_epoch(spec.session_id, turn.number, opened, spec.epoch)
            taken[:] = [await read_run(core, snapshot, turn.number, deadline)]
            turn.before = snapshot
            turn.epoch = opened.epoch + 1
            spec.run_id, spec.durability = opened.run_id, _durability(taken[0])
            spec.input, spec.metadata, spec.given = taken[0].input, taken[0].metadata, taken[0].given
            try:
                noted = check(turn, taken[0])
            except (InvalidInputError, NotResumableError) as error:
                refused = refused or error
                continue
            if spec.on_busy != "parallel" and (busy := await _at_work(core, snapshot, deadline)):
                raise busy_with(spec.session_id, busy)
            taking = RunTaken(epoch=turn.epoch, until=lease_until(core), was=taken[0].status)
            return Draft([turn.entry(taking), *noted], turn.number)
        assert refused is not None, "there is a run to try, or an error was raised"
        raise refused

    committed = await core.commit(spec.session_id, spec.user_id, change, deadline, known=turn.before)
    assert committed is not None, "this change always drafts something"
    turn.wrote(committed)
    with suppress(StorageError):  # the commit holds the first term already
        await write_lease(core, committed.head, turn.number, turn.epoch, deadline)
    turn.renewed = True
    return turn, taken[0]


def check_epoch(session_id: str, number: int, run: OpenRun, seen: int | None) -> None:
    """Refuse what was decided about another question of a run's: a later call of its may have the id of an earlier."""
    if seen not in (None, run.epoch):
        raise RunWentOnError(
            f"Run {number} of session {session_id!r} has gone on since epoch {seen}, of which this was decided; "
            f"it is at {run.epoch}."
        )


def checked_epoch(epoch: int | None, run_number: int | None) -> int | None:
    """The epoch of the run that a decision is about, as a caller gives it."""
    if epoch is None:
        return None
    if run_number is None:
        raise InvalidInputError("An epoch is one run's: pass run_number, too.")
    check_count(epoch, "epoch", least=1)
    return epoch


def _durability(run: Run) -> Durability:
    return run.durability if run.durability in ("step", "workflow") else "run"


async def _at_work(core: Core, snapshot: Snapshot, deadline: Deadline) -> dict[int, OpenRun]:
    """The runs that a process works on."""
    assert snapshot.head is not None, "checked by the caller"
    runs = [AtWork(snapshot.head, number, run) for number, run in running(snapshot.head).items()]
    alive = await which_alive(core, runs, deadline)
    return {number: run for (_, number, run), holds in zip(runs, alive, strict=True) if holds}


async def _takeable(core: Core, snapshot: Snapshot, number: int | None) -> list[tuple[int, OpenRun]]:
    """The runs that nobody works on, newest first; raises if there are none."""
    head = snapshot.head
    assert head is not None, "checked by the caller"
    candidates = [run for run in sorted(head.open_runs) if head.on_path(run)] if number is None else [number]
    at_work = await _at_work(core, snapshot, core.deadline())
    free = [(run, head.open_runs[run]) for run in reversed(candidates) if run in head.open_runs and run not in at_work]
    if free:
        return free
    raise _not_takeable(head, number, at_work)


def _not_takeable(head: Session, number: int | None, at_work: dict[int, OpenRun]) -> SessileError:
    if number is not None and number > head.run_count:
        return RunNotFoundError(f"Session {head.session_id!r} has no run {number}.")
    busy = max((run for run in at_work if number in (None, run)), default=None)
    if busy is not None:
        return NotResumableError(
            f"Run {busy} of session {head.session_id!r} is being worked on.",
            hint="Wait until it has ended, and look at what has come of it.",
            retryable=True,
        )
    what = "has no run that waits, or was interrupted" if number is None else f"has run {number}, which has ended"
    return NotResumableError(
        f"Session {head.session_id!r} {what}.",
        hint="Look at its runs: what was waited for may have been decided already.",
    )


async def cancel_run(core: Core, session_id: str, run_number: int | None = None, *, user_id: UserId = None) -> bool:
    """See `Storage.cancel_run`."""
    user_id = core.check_access(session_id, user_id)
    if run_number is not None:
        check_count(run_number, "run_number", least=1)
    deadline = core.deadline()
    found: list[tuple[Session, int, OpenRun, bool]] = []

    async def change(snapshot: Snapshot) -> Draft | None:
        head = owned(snapshot.head, session_id, user_id)
        at_work = await _at_work(core, snapshot, deadline)
        number = _to_cancel(head, at_work) if run_number is None else run_number
        opened = head.open_runs.get(number)
        found[:] = [] if opened is None else [(head, number, opened, number in at_work)]
        if opened is None or number in at_work:
            return None
        said = {"type": "RunCancelledError", "message": "The run was cancelled while nobody worked on it."}
        # With an epoch of its own, so that a process that was only taken for gone cannot go on.
        ended = RunEnded(status="cancelled", error=said, epoch=opened.epoch + 1)
        return Draft([ended.entry(opened.run_id, number)], number, free=True)

    await core.commit(session_id, user_id, change, deadline)
    for head, number, opened, busy in found:
        if busy:
            await request_cancel(core, head, number, opened, deadline)
            tell((head.incarnation, number))
            now = (await core.look(session_id, deadline)).head
            if now is None or number not in now.open_runs:  # it has ended just now, and nobody else removes the request
                await forget(core, head, number, deadline)
        else:
            with suppress(StorageError):  # the end is stored; what is left behind does no harm
                await forget(core, head, number, deadline)
    return bool(found)


def _to_cancel(head: Session, at_work: dict[int, OpenRun]) -> int:
    """The newest run that is running; else the newest of all, which waits or was interrupted; 0 if there is neither."""
    tip = head.open_runs.get(head.tip)
    waits = tip is not None and tip.status != "failed"
    return max(at_work, default=head.tip if waits else 0)
