"""The name that a session gets from its first run, beside the run's own work."""

from __future__ import annotations

import asyncio
from typing import Any

from ...records import Usage
from ..shown import question_of
from ..titles import first_words, title_of
from .beside import outcome
from .job import Job
from .recorder import Recorder

PATIENCE = 10.0
"""For how many seconds the end of a run waits for the model that names its session."""


class Naming:
    """Names a session without a name while its run is in progress. A context manager around the run."""

    def __init__(self, recorder: Recorder, job: Job) -> None:
        self._recorder = recorder
        self._task: asyncio.Task[tuple[str | None, Usage]] | None = None
        if job.titles is None or recorder.above is not None:
            return
        head = recorder.turn.head or recorder.turn.before.head
        if head is None or head.name is None:
            self._question = question_of(recorder.record.input)
            self._task = asyncio.create_task(title_of(job.titles, self._question))

    async def __aenter__(self) -> Naming:
        return self

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        """Let the run's last commit have the name: of a run that has failed, the first words."""
        if self._task is None:
            return
        found = await outcome(self._task, PATIENCE, error)
        if found is None:
            self._recorder.turn.title = first_words(self._question)
        else:
            self._recorder.turn.title, used = found
            self._recorder.meter.beside += used
