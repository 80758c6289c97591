"""Driving a run of a workflow: its function in the middle, its lease around it, and an end that is always stored."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

from ..agents.driving import kept_alive
from ..agents.recorder import to_the_end, wait_out
from ..agents.state import enter
from ..errors import (
    InvalidInputError,
    LeaseLostError,
    NotResumableError,
    NotStoredError,
    RunCancelledError,
    SessileError,
    StorageError,
    WorkflowChangedError,
    problem_of,
)
from ..records import Entry, JsonObject, Run
from ..storage import turns
from ..storage.faces import background
from ..storage.storage import Storage
from ..storage.turns import Turn, TurnSpec
from .events import Emit, WorkflowEvent
from .journal import AGAIN, Journal, path_text, waits_of
from .result import WorkflowResult
from .runtime import Pause, Scope, WorkflowRun, replayed_state, scope_here
from .values import dump

logger = logging.getLogger("sessile")

Body = Callable[[WorkflowRun], Awaitable[Any]]


async def begin(storage: Storage, spec: TurnSpec) -> Turn:
    """Commit that the run has started."""
    beginning = asyncio.ensure_future(storage.arun_operation(turns.begin_turn, spec, 0))
    return await _unless_cancelled(storage, beginning)


async def take(storage: Storage, spec: TurnSpec, number: int | None) -> tuple[Turn, Run]:
    """Take over a run that can be gone on with."""
    taken: list[Run] = []

    def check(turn: Turn, run: Run) -> list[Entry]:
        _check_resumable(storage, spec, turn, run)
        taken[:] = [run]
        return []

    async def taking() -> Turn:
        return (await storage.arun_operation(turns.take_turn, spec, number, 0, check))[0]

    turn = await _unless_cancelled(storage, asyncio.ensure_future(taking()))
    return turn, taken[0]


def _check_resumable(storage: Storage, spec: TurnSpec, turn: Turn, run: Run) -> None:
    if run.durability != "workflow" or run.owner != spec.owner:
        maker = f"of workflow {run.owner!r}" if run.durability == "workflow" else "not of a workflow"
        raise NotResumableError(
            f"Run {run.number} of session {spec.session_id!r} is {maker}; this is workflow {spec.owner!r}.",
            hint="Resume it with what has begun it.",
        )
    waits = waits_of(run) if run.status == "paused" else []
    if waits and not Journal(storage, turn, run).has_event(waits):
        raise NotResumableError(
            f"Run {run.number} of session {spec.session_id!r} waits for {', '.join(map(repr, waits))}.",
            hint="Send it: workflow.send(session_id, name, value).",
        )


async def _unless_cancelled(storage: Storage, beginning: asyncio.Future[Turn]) -> Turn:
    """The run that has been begun; if the task was cancelled meanwhile, it is stored as interrupted."""
    try:
        return await to_the_end(beginning)
    except asyncio.CancelledError:
        if not beginning.cancelled() and beginning.exception() is None:
            await Journal(storage, beginning.result(), None).end({"status": "interrupted"}, [])
        raise


def prepare(storage: Storage, turn: Turn, run: Run | None, emit: Emit) -> WorkflowRun:
    """The run, ready to be driven: from its start, or with the journal of what it has done."""
    journal = Journal(storage, turn, run)
    return WorkflowRun(storage, journal, emit, replayed_state(journal), asyncio.get_running_loop())


async def drive(run: WorkflowRun, body: Body, began: int, limit: float | None) -> WorkflowResult[Any]:
    """Run the function to its end, or until it waits, and store what it came to.

    Raises what the function raises, after that was stored.
    """
    run.emit(WorkflowEvent("run.started"))
    try:
        worked = await _to_end_or_pause(run, body, began, limit)
    except BaseException as error:
        await _stopped(run)
        if not run.journal.paused:
            await _failed(run, error)
        raise
    if isinstance(worked, Pause):
        return _result(run, None, "paused", worked.names)
    cancelled = await _stopped(run)
    result = await _completed(run, *worked)
    if cancelled is not None:
        raise cancelled
    return result


async def _to_end_or_pause(run: WorkflowRun, body: Body, began: int, limit: float | None) -> tuple[Any, Any] | Pause:
    """What the function returns, and its JSON form; or the pause, when it is stored."""
    while True:
        try:
            return await _work(run, body, began, limit)
        except Pause as pause:
            await _idle(run)
            if await _paused(run, pause.names):
                return pause
        run.state = replayed_state(run.journal)  # an event has arrived just now: once more, up to where it is taken


async def _work(run: WorkflowRun, body: Body, began: int, limit: float | None) -> tuple[Any, Any]:
    """What the function returns, and its JSON form. It works in a task of its own, which can be cancelled."""
    work = asyncio.ensure_future(_in_time(run, body, began, limit))

    async def renew() -> bool:
        try:
            run.cancelled = await run.storage.arun_operation(turns.renew_turn, run.journal.turn, run.note())
        except LeaseLostError as error:
            run.journal.broken = error
            raise
        return run.cancelled

    with kept_alive(run.storage.settings.lease, run.journal.turn.number, renew, work.cancel):
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError:
            work.cancel()
            await to_the_end(asyncio.wait([work]))
            raise
    if work.cancelled() and run.journal.broken is not None:
        raise run.journal.broken
    if work.cancelled() and run.cancelled:
        raise RunCancelledError(f"Run {run.journal.turn.number} of session {run.session_id!r} was cancelled.")
    return work.result()


async def _in_time(run: WorkflowRun, body: Body, began: int, limit: float | None) -> tuple[Any, Any]:
    scope = Scope((), began, run.state)
    scope_here.set(scope)
    enter(run.session(run.state))
    timeout = asyncio.timeout(limit)
    try:
        async with timeout:
            output = await body(run)
    except TimeoutError as error:
        if timeout.expired():
            raise TimeoutError(f"The run did not end within {limit:g} s.") from error
        raise
    except BaseExceptionGroup as group:
        raise _of_group(group) from None
    run.journal.check_whole()  # the function may have caught that, and gone on as if nothing were
    if run.journal.reach(()) > scope.steps:
        raise run.journal.changed(f"{scope.steps + 1} and perhaps more were done; the code now ends before")
    return output, dump(output, "What the workflow returned")


def _of_group(group: BaseExceptionGroup[Any]) -> BaseException:
    """A task group that only waits is a pause; any other is what it is."""
    leaves = _leaves(group)
    names = [name for leaf in leaves if isinstance(leaf, Pause) for name in leaf.names]
    return Pause(names) if all(isinstance(leaf, Pause) for leaf in leaves) else group


def _leaves(error: BaseException) -> list[BaseException]:
    """What a group of errors holds in the end; an error that is no group is its own leaf."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [leaf for one in cast(BaseExceptionGroup[Any], error).exceptions for leaf in _leaves(one)]


async def _idle(run: WorkflowRun) -> None:
    """Wait until no step is executed any more: what has begun is finished before the run pauses."""
    while run.tasks:
        await asyncio.wait(set(run.tasks))


async def _stopped(run: WorkflowRun) -> asyncio.CancelledError | None:
    """Let nothing go on: steps that nobody has awaited are cancelled. Returns a cancellation that came meanwhile."""
    run.stopped = True
    for task in set(run.tasks):
        task.cancel()
    return await wait_out(asyncio.ensure_future(asyncio.wait(set(run.tasks)))) if run.tasks else None


# ---------------------------------------------------------------- ends


async def _paused(run: WorkflowRun, names: Sequence[str]) -> bool:
    paused = await run.journal.pause(list(dict.fromkeys(names)), run.changes())
    if paused:
        run.emit(WorkflowEvent("run.paused", text=", ".join(dict.fromkeys(names))))
    return paused


async def _completed(run: WorkflowRun, output: Any, data: Any) -> WorkflowResult[Any]:
    result = _result(run, output, "completed")
    ended: JsonObject = {"status": "completed", "output": data}

    async def store() -> WorkflowResult[Any]:
        await run.journal.end(ended, run.changes())
        return result

    try:
        await store()
    except InvalidInputError as error:  # the state is refused; the run itself is kept all the same
        await run.journal.end(ended, [])
        error.result = result
        raise
    except StorageError as error:
        said = f"The run of session {run.session_id!r} has ended but could not be stored: {error.message}"
        raise NotStoredError(said, result=result, cause=error, again=store, step=background.run) from error
    run.emit(WorkflowEvent("run.ended"))
    return result


def _result(run: WorkflowRun, output: Any, status: Any, waits: Sequence[str] = ()) -> WorkflowResult[Any]:
    return WorkflowResult(
        output=output,
        session_id=run.session_id,
        run_id=run.run_id,
        number=run.journal.turn.number,
        status=status,
        usage=run.journal.usage,
        state=run.state,
        waits_for=tuple(dict.fromkeys(waits)),
    )


async def _failed(run: WorkflowRun, error: BaseException) -> None:
    """Store how the run has ended, so that it can be resumed, unless somebody has asked to cancel it.

    What ends the task or the process (a deploy) is not such a request: the run has been interrupted.
    """
    problem = problem_of(error)
    run.emit(WorkflowEvent("run.ended", error=f"{problem['type']}: {problem['message']}"))
    if isinstance(error, LeaseLostError):
        return
    if isinstance(error, WorkflowChangedError):
        await _end_or_told(run, {"status": "interrupted"}, error, with_state=False)
    elif isinstance(error, RunCancelledError):
        await _end_or_told(run, {"status": "cancelled", "error": problem}, error)
    elif isinstance(error, asyncio.CancelledError) or not isinstance(error, Exception):
        await _end_or_told(run, {"status": "interrupted"}, error)
    else:
        again = [path_text(path) for path in (*_to_do_again(run, error), *run.unheard)]
        if again:
            run.journal.note(AGAIN, {"paths": again})
        await _end_or_told(run, {"status": "failed", "error": problem, "resumable": True}, error)


async def _end_or_told(run: WorkflowRun, ended: JsonObject, error: BaseException, *, with_state: bool = True) -> None:
    try:
        changes = run.changes() if with_state else []
        await run.journal.end(ended, changes)
    except InvalidInputError as problem:
        error.add_note(f"What the run has changed in the state was refused: {problem}")
        await _end_or_told(run, ended, error, with_state=False)
    except SessileError as problem:  # its lease will run out, and then it can be resumed
        error.add_note(f"That the run has ended could not be stored: {problem}")
        logger.warning("The end of a run could not be stored: %s", problem)


def _to_do_again(run: WorkflowRun, error: BaseException) -> list[Any]:
    """The steps whose failure has ended the run: resumed, it does them again.

    Failures that the function has caught, to go on another way, stay what they are.
    """
    failures = {id(failure): path for failure, path in run.failures}
    found: list[Any] = []
    queue = _leaves(error)
    seen: set[int] = set()
    while queue:
        one = queue.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if id(one) in failures:
            found.append(failures[id(one)])
        cause = one.__cause__ or (None if found else one.__context__)
        queue += _leaves(cause) if cause is not None else []
    return found
