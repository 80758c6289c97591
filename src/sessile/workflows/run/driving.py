"""Driving a run of a workflow: its function in the middle, its lease around it, and an end that is always stored."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from pydantic_ai import DeferredToolResults

from ...agents.messages.stored import requests_of
from ...agents.resume.decisions import UNSURE, check_unredacted, dump_decisions, with_answers, with_sent
from ...errors import InvalidInputError, LeaseLostError, NotResumableError, RunCancelledError
from ...live.lease import KeptAlive
from ...live.session import enter
from ...records import Entry, Run
from ...storage import taking, turns
from ...storage.computing import computed
from ...storage.storage import Storage, aoperate, working_on
from ...storage.turns import Turn, TurnSpec
from ...storage.uninterrupted import to_the_end, wait_out
from ...storage.vocabulary import Pending, RunDecided, RunEnded
from . import ending
from .events import Emit, WorkflowEvent
from .journal import Journal, waits_of, waits_until
from .pausing import Pause
from .result import WorkflowResult
from .runtime import Scope, WorkflowRun, replayed_state, scope_here
from .values import dump

logger = logging.getLogger("sessile")

Body = Callable[[WorkflowRun], Awaitable[Any]]


async def begin(storage: Storage, spec: TurnSpec) -> Turn:
    """Commit that the run has started."""
    beginning = asyncio.ensure_future(aoperate(storage, turns.begin_turn, spec, 0))
    return await _unless_cancelled(storage, beginning)


async def take(
    storage: Storage, spec: TurnSpec, number: int | None, given: DeferredToolResults, by: str | None = None
) -> tuple[Turn, Run, RunDecided | None]:
    """Take over a run that can go on, with what is given, by whom; returns that as it is stored, too."""
    taken: list[Run] = []
    dumped = await dump_decisions(given, by)
    noted: list[RunDecided] = []

    def check(turn: Turn, run: Run) -> list[Entry]:
        decided, stored = with_answers(run, *with_sent(run, turn.epoch - 1, turn.clock.now(), given, dumped))
        _check_resumable(storage, spec, turn, run, decided)
        taken[:] = [run]
        noted[:] = [_decided(run, stored)] if decided.approvals or decided.calls else []
        return [turn.entry(one) for one in noted]

    async def took() -> Turn:
        return (await aoperate(storage, taking.take_turn, spec, number, 0, check))[0]

    turn = await _unless_cancelled(storage, asyncio.ensure_future(took()))
    return turn, taken[0], noted[0] if noted else None


def _decided(run: Run, dumped: RunDecided) -> RunDecided:
    """Decisions as they are stored, with whose they are, and which are about calls that had begun before."""
    pending = Pending.of(run.pending)
    unsure = {call: UNSURE for call, said in requests_of(run).metadata.items() if said == UNSURE}
    return dumped.but(paused=True, answers=True, asked=pending.asked, metadata={**dumped.metadata, **unsure})


def _check_resumable(storage: Storage, spec: TurnSpec, turn: Turn, run: Run, given: DeferredToolResults) -> None:
    if run.durability != "workflow" or run.agent != spec.agent:
        maker = f"of workflow {run.agent!r}" if run.durability == "workflow" else "not of a workflow"
        raise NotResumableError(
            f"Run {run.number} of session {spec.session_id!r} is {maker}; this is workflow {spec.agent!r}.",
            hint="Resume it with what has begun it.",
        )
    waits = waits_of(run) if run.status == "paused" else []
    until = waits_until(run)
    overdue = until is not None and turn.clock.now() >= until
    asked = calls_of(run)
    decided = given.approvals.keys() | given.calls.keys()
    if unknown := decided - asked.keys():
        raise InvalidInputError(
            f"Run {run.number} of session {spec.session_id!r} does not wait for {', '.join(sorted(unknown))}.",
            hint="Look at what is pending: approvals= decides about its approvals, results= answers its calls.",
        )
    check_unredacted(run, given)
    kept = bool(asked) and asked.keys() <= _decided_before(run)
    if not (waits or asked) or overdue or decided or kept or Journal(storage, turn, run).has_event(waits):
        return
    what = [*map(repr, waits), *(f"a decision about {call} ({tool})" for call, tool in asked.items())]
    raise NotResumableError(
        f"Run {run.number} of session {spec.session_id!r} waits for {', '.join(what)}.",
        hint="Send events with workflow.send_event(session_id, name, value); decide with resume(approvals=…).",
    )


def _decided_before(run: Run) -> set[str]:
    """Of the calls that a run waits for those that were decided about, by a program that could not carry it out."""
    asked = Pending.of(run.pending).asked or {}
    decided = [one for step in run.steps if (one := RunDecided.read(step)) is not None]
    unsure = {call for call, said in requests_of(run).metadata.items() if said == UNSURE}
    return {
        call
        for one in decided
        for run_id, calls in (one.asked or {}).items()
        for call in {*calls} & {*asked.get(run_id, ())} & {*one.approvals, *one.calls}
        if call not in unsure or one.metadata.get(call) == UNSURE
    }


def calls_of(run: Run) -> dict[str, str]:
    """The tool calls that a run waits for, by their ids: of which tools."""
    if run.status != "paused" or Pending.of(run.pending).requests is None:
        return {}
    requests = requests_of(run)
    return {call.tool_call_id: call.tool_name for call in (*requests.approvals, *requests.calls)}


async def _unless_cancelled(storage: Storage, beginning: asyncio.Future[Turn]) -> Turn:
    """Wait until the run has begun. If the task is cancelled meanwhile, the run is stored as interrupted."""
    try:
        return await to_the_end(beginning)
    except asyncio.CancelledError:
        if not beginning.cancelled() and beginning.exception() is None:
            await Journal(storage, beginning.result(), None).end(RunEnded(status="interrupted"), [])
        raise


def prepare(
    storage: Storage, turn: Turn, run: Run | None, emit: Emit, decided: RunDecided | None = None
) -> WorkflowRun:
    """The run, ready to be driven: from its start, or with the journal of what it has done, and what was decided."""
    journal = Journal(storage, turn, run)
    journal.decided += [] if decided is None else [decided]
    return WorkflowRun(storage, journal, emit, replayed_state(journal), asyncio.get_running_loop())


async def drive(run: WorkflowRun, body: Body, began: int, limit: float | None) -> WorkflowResult[Any]:
    """Run the function to its end, or until it waits, and store its result.

    Raises what the function raises, after that was stored.
    """
    with working_on(run.storage):
        return await _driven(run, body, began, limit)


async def _driven(run: WorkflowRun, body: Body, began: int, limit: float | None) -> WorkflowResult[Any]:
    run.emit(WorkflowEvent("run.started"))
    try:
        worked = await _to_end_or_pause(run, body, began, limit)
    except BaseException as error:
        await _stopped(run)
        if not run.journal.paused:
            await ending.fail(run, error)
        raise
    if isinstance(worked, Pause):
        if worked.refusal is not None:
            worked.refusal.hint = (
                "Resume it with a program that has it; the run waits as before, and what was decided is kept."
            )
            raise worked.refusal
        return ending.result_of(run, None, "paused", worked)
    cancelled = await _stopped(run)
    result = await ending.complete(run, *worked)
    if cancelled is not None:
        raise cancelled
    return result


async def _to_end_or_pause(run: WorkflowRun, body: Body, began: int, limit: float | None) -> tuple[Any, Any] | Pause:
    """What the function returns, and its JSON form; or the pause, when it is stored."""
    while True:
        try:
            return await _work(run, body, began, limit)
        except Pause as paused:
            await _idle(run)
            if await ending.pause(run, paused):
                return paused
        run.state = replayed_state(run.journal)  # an event has arrived just now: once more, up to where it is taken


async def _work(run: WorkflowRun, body: Body, began: int, limit: float | None) -> tuple[Any, Any]:
    """What the function returns, and its JSON form. It works in a task of its own, which can be cancelled."""
    work = asyncio.ensure_future(_worked(run, body, began))
    over = TimeLimit(run, work, limit)

    async def renew() -> bool:
        try:
            run.cancelled = await aoperate(run.storage, turns.renew_turn, run.journal.turn, run.note())
        except LeaseLostError as error:
            run.journal.broken = error
            raise
        return run.cancelled

    async def is_asked() -> bool:
        return await aoperate(run.storage, turns.is_asked_to_stop, run.journal.turn)

    lease, place = run.storage.settings.lease, run.journal.turn.place
    with KeptAlive(lease, place, renew, is_asked, work.cancel), over:
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError:
            run.stopped = True  # what the function calls on its way out is not begun: it will come here again
            work.cancel()
            await to_the_end(asyncio.wait([work]))
            if not work.cancelled():
                work.exception()  # what the function makes of being left is not to be reported as lost
            raise
    if work.cancelled() and run.journal.broken is not None:
        raise run.journal.broken
    if work.cancelled() and run.cancelled:
        raise RunCancelledError(f"Run {run.journal.turn.number} of session {run.session_id!r} was cancelled.")
    over.check()
    return work.result()


class TimeLimit:
    """The time that a process may work on a run. When it is over, the function is left, and begins nothing more."""

    def __init__(self, run: WorkflowRun, work: asyncio.Future[Any], limit: float | None) -> None:
        self._run, self._work, self._limit = run, work, limit
        self._timer: asyncio.TimerHandle | None = None
        self._over = False

    def __enter__(self) -> None:
        if self._limit is not None:
            self._timer = self._run.loop.call_later(self._limit, self._end)

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _end(self) -> None:
        self._over = self._run.stopped = True
        self._work.cancel()

    def check(self) -> None:
        """Raise `TimeoutError` if the time was over before the work had a result."""
        error = None if self._work.cancelled() else self._work.exception()
        if self._over and (self._work.cancelled() or error is not None):
            raise TimeoutError(f"The run did not end within {self._limit:g} s.") from error


async def _worked(run: WorkflowRun, body: Body, began: int) -> tuple[Any, Any]:
    scope = Scope((), began, run.state)
    scope_here.set(scope)
    enter(run.session(run.state))
    try:
        output = await body(run)
    except BaseExceptionGroup as group:
        raise _of_group(group) from None
    run.journal.check_whole()  # the function may have caught that, and gone on as if nothing were
    if scope.pause is not None:
        raise scope.pause
    if run.journal.reach(()) > scope.steps:
        raise run.journal.changed(f"{scope.steps + 1} and perhaps more were done; the code now ends before")
    return output, await computed(lambda: dump(output, "What the workflow returned"), output)


def _of_group(group: BaseExceptionGroup[Any]) -> BaseException:
    """A `Pause`, if all errors of a task group are pauses; else the group itself."""
    leaves = ending.leaves(group)
    pauses = [leaf for leaf in leaves if isinstance(leaf, Pause)]
    return Pause.of(pauses) if len(pauses) == len(leaves) else group


async def _idle(run: WorkflowRun) -> None:
    """Wait until no step is executed any more: what has begun is finished before the run pauses."""
    while run.tasks:
        await asyncio.wait(set(run.tasks))


async def _stopped(run: WorkflowRun) -> asyncio.CancelledError | None:
    """Cancel the steps that nobody has awaited, and wait for them. Returns a cancellation that came meanwhile."""
    run.stopped = True
    for task in set(run.tasks):
        task.cancel()
    return await wait_out(asyncio.ensure_future(asyncio.wait(set(run.tasks)))) if run.tasks else None


# ---------------------------------------------------------------- ends
