"""The end of a run is always stored: what came out of it, or how it failed; and nobody's answer is lost over it."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from pydantic_ai import DeferredToolRequests
from pydantic_ai.exceptions import RunCancelled
from pydantic_ai.run import AgentRunResult

from ..errors import ConflictError, InvalidInputError, LeaseLostError, NotStoredError, SessileError
from ..records import Status
from ..storage.faces import background
from .recorder import Recorder, to_the_end
from .result import RunResult

logger = logging.getLogger("sessile")


async def store_result(recorder: Recorder, result: AgentRunResult[Any]) -> RunResult[Any]:
    """Commit a run that has come to a result. The result is not lost when that fails: the error carries it."""
    made = result_of(recorder, result, "paused" if isinstance(result.output, DeferredToolRequests) else "completed")

    async def store(*, with_state: bool = True) -> RunResult[Any]:
        delegated = () if recorder.team is None else recorder.team.delegated
        await recorder.finish(
            result.all_messages(), result.usage, made.output, delegated=delegated, with_state=with_state
        )
        made.number = recorder.turn.number
        return made

    try:
        return await to_the_end(store())
    except (InvalidInputError, ConflictError) as error:
        # What the tools have put into the state is refused; the run itself is kept all the same.
        await _stored_or_told(store(with_state=False), made, store)
        error.result = made
        raise
    except SessileError as error:
        raise _not_stored(error, made, store) from error


async def _stored_or_told(storing: Any, made: RunResult[Any], store: Any) -> None:
    try:
        await to_the_end(storing)
    except SessileError as error:
        raise _not_stored(error, made, store) from error


def _not_stored(error: SessileError, made: RunResult[Any] | None, again: Any) -> SessileError:
    if isinstance(error, LeaseLostError):
        error.result = made
        return error
    if made is None:
        said = f"The run has failed or was cancelled, and could not be stored: {error.message}"
        hint = "Look at error.__cause__ for what the run raised, and call error.retry_commit() to store it again."
    else:
        said = f"The run of session {made.session_id!r} has ended but could not be stored: {error.message}"
        hint = None
    return NotStoredError(
        said,
        hint=hint,
        result=made,
        cause=error,
        again=again,
        step=background.run,
    )


async def store_failure(recorder: Recorder, error: BaseException) -> None:
    """Commit a run that has failed or was cancelled; if that fails too, the caller is told."""
    cancelled = RunCancelled.from_cancellation(error)
    if cancelled is not None:
        recorder.observe(cancelled.all_messages(), cancelled.usage)
    status = status_of(error)

    async def store(*, with_state: bool = True) -> None:
        await recorder.fail(error, status, with_state=with_state)

    try:
        await to_the_end(store())
    except (InvalidInputError, ConflictError):
        await _failure_stored_or_told(store(with_state=False), error, store)
    except SessileError as problem:
        _tell(problem, error, store)


async def _failure_stored_or_told(storing: Any, error: BaseException, store: Any) -> None:
    try:
        await to_the_end(storing)
    except SessileError as problem:
        _tell(problem, error, store)


def _tell(problem: SessileError, error: BaseException, store: Any) -> None:
    """Raise that a failed run could not be stored; a cancellation must go on as itself, so it gets a note."""
    if isinstance(error, Exception):
        raise _not_stored(problem, None, store) from error
    error.add_note(f"The run could not be stored: {problem}")
    logger.error("A run that was cancelled could not be stored: %s", problem)


def status_of(error: BaseException) -> Status:
    """Whether an error means that the run was stopped from outside, or that it failed."""
    stopped = isinstance(error, (asyncio.CancelledError, RunCancelled)) or not isinstance(error, Exception)
    return "cancelled" if stopped else "failed"


def result_of(recorder: Recorder, result: AgentRunResult[Any], status: Status) -> RunResult[Any]:
    """Pydantic AI's result as ours."""
    output: Any = recorder.come_to(result.output)
    return RunResult(
        output=output,
        session_id=recorder.session.session_id,
        run_id=recorder.run_id,
        number=recorder.turn.number,
        status=status,
        usage=recorder.usage_earlier + recorder.used(result.usage) + recorder.usage_of_members,
        state=recorder.session.state,
        pending=output if status == "paused" else None,
        agent_result=result,
        owner=recorder.record.owner,
        members=recorder.members,
    )
