"""A request that comes a second time, under the id that its caller gave: its run is found, and not made again."""

from __future__ import annotations

from contextlib import suppress
from copy import deepcopy
from functools import partial
from typing import Any

from pydantic_ai.messages import ModelMessage

from ...errors import NotResumableError, SessionBusyError, UnknownFormatError
from ...live.queue import in_turn
from ...live.result import RunResult
from ...records import Run
from ...storage import turns
from ...storage.repeating import Found
from ...storage.storage import Storage, aoperate
from ...storage.turns import TurnSpec
from ..messages.results import load_output, stored_result
from ..messages.stored import load_messages
from ..run.job import Job
from .resuming import resume_run


async def run_again(storage: Storage, spec: TurnSpec, job: Job) -> RunResult[Any] | None:
    """What has come, or comes, of the run that has the spec's id; None if there is none.

    A run that has completed, or waits for a decision, is returned as it is stored; the model is not asked. One that was
    interrupted goes on: from its last stored step, or from its beginning if no steps were stored.

    Raises `SessionBusyError` if a process works on it (with `on_busy="queue"` it waits), `NotResumableError` if it
    has failed or was cancelled, and `InvalidInputError` if it began with another input.
    """
    while True:
        found = await aoperate(storage, turns.repeated, spec)
        if found is None:
            return None
        run = found.run
        if run.status == "running":
            await in_turn(
                partial(_check_idle, storage, spec),
                storage,
                spec.session_id,
                queue=spec.on_busy == "queue",
                limit=spec.queue_timeout,
            )
            continue
        if run.status in ("completed", "paused"):
            return await _stored(storage, spec, job, found)
        if not found.open or not _goes_on(run):
            raise await _refused(storage, spec, job, found)
        try:
            return await resume_run(storage, spec, job, run.number, {}, None, from_start=True)
        except NotResumableError:
            now = await aoperate(storage, turns.repeated, spec)
            if now is None or now.run.status in ("interrupted", "failed"):
                raise
            # Somebody else has taken it over at the same time.


def _goes_on(run: Run) -> bool:
    """Whether a run goes on when its request comes again: interrupted, or failed and its steps are stored."""
    return run.status == "interrupted" or (run.status == "failed" and run.durability == "step")


async def _check_idle(storage: Storage, spec: TurnSpec) -> None:
    """Raise `SessionBusyError` if a process works on the run."""
    found = await aoperate(storage, turns.repeated, spec)
    if found is not None and found.run.status == "running":
        run = found.run
        error = SessionBusyError(f"Run {run.number} of session {spec.session_id!r}, {run.run_id!r}, is running.")
        error.at_work = (run.run_id,)
        raise error


async def _stored(storage: Storage, spec: TurnSpec, job: Job, found: Found) -> RunResult[Any]:
    async def read(digest: str) -> bytes:
        return await storage.amedia(spec.session_id, digest, user_id=spec.user_id)

    messages: list[ModelMessage] = []
    with suppress(UnknownFormatError):  # the result is what was asked for
        messages = await load_messages(found.run.messages, read)
    output_type = job.options.get("output_type", getattr(job.agent, "output_type", str))
    output = await load_output(found.run.output, output_type, read) if found.run.status == "completed" else None
    return stored_result(spec.session_id, deepcopy(found.session.state), found.run, output=output, messages=messages)


async def _refused(storage: Storage, spec: TurnSpec, job: Job, found: Found) -> NotResumableError:
    run = found.run
    said = f": {run.error['type']}: {run.error['message']}" if run.error else "."
    error = NotResumableError(
        f"Run {run.number} of session {spec.session_id!r}, {run.run_id!r}, is {run.status}{said}",
        hint="Its result is error.result. To run the request again, give it another run_id.",
    )
    error.result = await _stored(storage, spec, job, found)
    return error
