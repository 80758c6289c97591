"""The end of a workflow's run is always stored: its result, what it waits for, or how it failed."""

from __future__ import annotations

import logging
from typing import Any, cast

from ...errors import (
    InvalidInputError,
    InvalidStateError,
    LeaseLostError,
    NotStoredError,
    RunCancelledError,
    SessileError,
    StorageError,
    TooLargeError,
    WorkflowChangedError,
    problem_of,
)
from ...live.endings import unfinished
from ...records import datetime_of
from ...storage.faces import background
from ...storage.vocabulary import RunEnded, StepsAgain
from .events import WorkflowEvent
from .journal import path_text
from .pausing import Pause
from .result import WorkflowResult
from .runtime import WorkflowRun

logger = logging.getLogger("sessile")


def leaves(error: BaseException) -> list[BaseException]:
    """What a group of errors holds in the end; an error that is no group is its own leaf."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [leaf for one in cast(BaseExceptionGroup[Any], error).exceptions for leaf in leaves(one)]


async def pause(run: WorkflowRun, waiting: Pause) -> bool:
    """Store the run as paused until one of its events arrives; False if one is there already."""
    paused = await run.journal.pause(waiting, await run.changes())
    if paused:
        run.emit(WorkflowEvent("run.paused", text=waiting.text))
    return paused


async def complete(run: WorkflowRun, output: Any, data: Any) -> WorkflowResult[Any]:
    """Store what the function has returned; `data` is the JSON form of it. It is not lost when that fails."""
    result = result_of(run, output, "completed")
    ended = RunEnded(status="completed", output=data)

    async def store() -> WorkflowResult[Any]:
        await run.journal.end(ended, await run.changes())
        return result

    try:
        await store()
    except InvalidInputError as error:  # the state is refused; the run itself is kept all the same
        if isinstance(error, InvalidStateError) and await _end_with_json(run, ended):
            error.result = result
            raise
        refused = await _end_without_state(run, ended) or error
        refused.result = result
        raise refused from error
    except StorageError as error:
        said = f"The run of session {run.session_id!r} has ended but could not be stored: {error.message}"
        raise NotStoredError(said, result=result, cause=error, again=store, step=background.run) from error
    run.emit(WorkflowEvent("run.ended"))
    return result


async def _end_with_json(run: WorkflowRun, ended: RunEnded) -> bool:
    """Store the run's end without what in the state is no JSON; False if that is refused, too."""
    try:
        await run.journal.end(ended, await run.changes(json_only=True))
    except InvalidInputError:
        return False
    return True


async def _end_without_state(run: WorkflowRun, ended: RunEnded) -> TooLargeError | None:
    """Store the run's end; as failed, with the error that says so, where its output is too large for any commit."""
    try:
        await run.journal.end(ended, [])
    except TooLargeError as error:
        await run.journal.end(RunEnded(status="failed", error=problem_of(error)), [])
        error.written = "yes"
        error.hint = "The result is error.result; and store less, or raise max_commit_bytes."
        return error
    return None


def result_of(run: WorkflowRun, output: Any, status: Any, waiting: Pause | None = None) -> WorkflowResult[Any]:
    """The result of the run, or what it waits for."""
    return WorkflowResult(
        output=output,
        session_id=run.session_id,
        run_id=run.run_id,
        number=run.journal.turn.number,
        status=status,
        usage=run.journal.usage,
        state=run.state,
        pending=None if waiting is None else waiting.requests,
        waiting_for=() if waiting is None else tuple(waiting.names),
        waiting_until=None if waiting is None or waiting.until is None else datetime_of(waiting.until),
    )


async def fail(run: WorkflowRun, error: BaseException) -> None:
    """Store how the run has ended, so that it can be resumed, unless somebody has asked to cancel it.

    What ends the task or the process (a deploy) is not such a request: the run has been interrupted.
    """
    problem = problem_of(error)
    run.emit(WorkflowEvent("run.ended", error=f"{problem['type']}: {problem['message']}"))
    if isinstance(error, LeaseLostError):
        return
    if isinstance(error, WorkflowChangedError):
        await _end_or_told(run, RunEnded(status="interrupted"), error, with_state=False)
        return
    ended = unfinished(error, cancelled=isinstance(error, RunCancelledError), stepwise=True)
    if ended.status == "failed":
        again = [path_text(path) for path in (*_to_do_again(run, error), *run.unheard)]
        if again:
            run.journal.note(StepsAgain(paths=again))
    await _end_or_told(run, ended, error)


async def _end_or_told(run: WorkflowRun, ended: RunEnded, error: BaseException, *, with_state: bool = True) -> None:
    try:
        changes = await run.changes() if with_state else []
        await run.journal.end(ended, changes)
    except InvalidInputError as problem:
        error.add_note(f"What the run has changed in the state was refused: {problem}")
        if isinstance(problem, InvalidStateError) and await _end_with_json(run, ended):
            return
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
    queue = leaves(error)
    seen: set[int] = set()
    while queue:
        one = queue.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if id(one) in failures:
            found.append(failures[id(one)])
        cause = one.__cause__ or (None if found else one.__context__)
        queue += leaves(cause) if cause is not None else []
    return found
