"""What a run's user is remembered by, beside the run's own work."""

from __future__ import annotations

import asyncio
from typing import Any

from ...records import Usage
from ...storage.memories import Source
from ..memory import extract
from ..models import override_of
from ..shown import question_of
from .beside import outcome
from .job import Job
from .recorder import Recorder

PATIENCE = 30.0
"""For how many seconds the end of a run waits for the model that reads what the user says."""


class Remembering:
    """Lets a model write memories while a run is in progress. A context manager around the run."""

    def __init__(self, recorder: Recorder, job: Job) -> None:
        self._recorder = recorder
        self._task: asyncio.Task[Usage] | None = None
        session, memory = recorder.session, job.memory
        if memory is None or memory.extract is False or recorder.above is not None or session.user_id is None:
            return
        question = question_of(recorder.record.input)
        if question.strip():
            own = job.options.get("model") or getattr(job.agent, "model", None)
            model = override_of(job.agent) or (own if memory.extract is True else memory.extract)
            source = Source(session.session_id, recorder.run_id, session.agent, session.incarnation)
            self._task = asyncio.create_task(
                extract(memory, model, recorder.storage, session.user_id, question, source)
            )

    async def __aenter__(self) -> Remembering:
        return self

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        """Count what the model has used with the run. One that has failed does not wait for it."""
        if self._task is None:
            return
        used = await outcome(self._task, PATIENCE, error)
        if used is not None:
            self._recorder.meter.beside += used
