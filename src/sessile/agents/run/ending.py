"""The end of a run is always stored: what came out of it, or how it failed; and nobody's answer is lost over it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

from pydantic_ai import DeferredToolRequests
from pydantic_ai.exceptions import RunCancelled
from pydantic_ai.messages import ModelMessage
from pydantic_ai.run import AgentRunResult

from ...errors import (
    ConflictError,
    InvalidInputError,
    InvalidStateError,
    LeaseLostError,
    NotStoredError,
    SessileError,
)
from ...live.endings import unfinished
from ...live.result import RunResult
from ...records import Status
from ...storage.faces import background
from ...storage.undivided import kept_whole
from ...storage.uninterrupted import to_the_end
from .company import with_all
from .job import Job
from .recorder import Recorder, StatePart
from .reviewed import under_review

logger = logging.getLogger("sessile")


async def store_result(recorder: Recorder, result: AgentRunResult[Any], job: Job | None = None) -> RunResult[Any]:
    """Commit a run that has a result. The result is not lost when that fails: the error carries it.

    Where the job says that somebody looks at it first, the run waits.
    """
    paused = isinstance(result.output, DeferredToolRequests)
    if not paused:
        recorder.company.dismiss()
    made = result_of(recorder, result, "paused" if paused else "completed")
    if job is not None and job.review and not paused:
        made = under_review(made, job)

    async def store(state: StatePart = "all") -> RunResult[Any]:
        await recorder.finish(made.output, state=state)
        made.number = recorder.turn.number
        return made

    try:
        return await kept_whole(recorder.storage, store())
    except (InvalidInputError, ConflictError) as error:
        if error.written == "no":  # What the tools have put into the state is refused; the run is kept all the same.
            try:
                await _without_refused(store, error)
            except SessileError as problem:
                raise _not_stored(problem, made, store) from problem
        else:  # as failed, without what is too large
            made.number, made.status, made.error = recorder.turn.number, recorder.record.status, recorder.record.error
        error.result = made
        raise
    except SessileError as error:
        raise _not_stored(error, made, store) from error


async def _without_refused(store: Callable[[StatePart], Coroutine[Any, Any, Any]], error: SessileError) -> None:
    """Store a run without what was refused of its changes of the state: what is no JSON; else all of them."""
    if isinstance(error, InvalidStateError):
        with suppress(InvalidInputError, ConflictError):
            await to_the_end(store("json"))
            return
    await to_the_end(store("none"))


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
    ended = unfinished(error, cancelled=_is_cancelled(recorder, error), stepwise=recorder.stepwise)

    async def store(state: StatePart = "all") -> None:
        await recorder.fail(ended, state=state)

    try:
        await kept_whole(recorder.storage, store())
    except (InvalidInputError, ConflictError) as refused:
        if refused.written == "no":
            error.add_note(f"What the run has changed in the state was refused: {refused}")
            try:
                await _without_refused(store, refused)
            except SessileError as problem:
                _tell(problem, error, store)
    except SessileError as problem:
        _tell(problem, error, store)


def _tell(problem: SessileError, error: BaseException, store: Any) -> None:
    """Raise that a failed run could not be stored; a cancellation must go on as itself, so it gets a note."""
    if isinstance(error, Exception):
        raise _not_stored(problem, None, store) from error
    error.add_note(f"The run could not be stored: {problem}")
    logger.error("A run that was cancelled could not be stored: %s", problem)


def _is_cancelled(recorder: Recorder, error: BaseException) -> bool:
    """Whether somebody has cancelled the run: from elsewhere, in a tool, or with the run of its team."""
    return isinstance(error, RunCancelled) or recorder.root.token.cancelled


def result_without_model(
    recorder: Recorder, output: Any, status: Status, own: Sequence[ModelMessage], *, pending: Any = None
) -> RunResult[Any]:
    """What comes of a resumed run that no model was asked for again: it waits, or has the output that it had made."""
    return RunResult(
        output=output,
        session_id=recorder.session.session_id,
        run_id=recorder.run_id,
        number=recorder.turn.number,
        status=status,
        usage=recorder.record.usage,
        state=recorder.session.state,
        pending=pending,
        agent=recorder.record.agent,
        members=list(recorder.company.results.values()),
        stored_messages=list(own),
    )


def result_of(recorder: Recorder, result: AgentRunResult[Any], status: Status) -> RunResult[Any]:
    """Pydantic AI's result as ours, with the run's messages and usage as they are in the end."""
    output: Any = recorder.company.come_to(result.output)
    messages = list(result.all_messages())
    recorder.observe(messages, result.usage)
    used = recorder.meter.used(recorder.transcript.own(messages))
    return RunResult(
        output=output,
        session_id=recorder.session.session_id,
        run_id=recorder.run_id,
        number=recorder.turn.number,
        status=status,
        usage=with_all(recorder.meter.earlier + used, recorder.company),
        state=recorder.session.state,
        pending=output if status == "paused" else None,
        agent_result=result,
        agent=recorder.record.agent,
        members=list(recorder.company.results.values()),
        stored_messages=recorder.transcript.said() if recorder.transcript.earlier else [],
    )
