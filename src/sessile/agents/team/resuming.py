"""Continuing the runs of members, after the run of their team was taken over."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from pydantic_ai import DeferredToolResults

from ...live.result import RunResult
from ...records import Run
from ..resume.decisions import decidable_part, dump_decisions, noted
from ..resume.resuming import go_on
from ..run.job import Job
from ..run.recorder import Recorder
from .member import MemberRecorder


async def resume_member(
    above: Recorder, run: Run, job: Job, given: DeferredToolResults
) -> tuple[MemberRecorder, Coroutine[Any, Any, RunResult[Any]]]:
    """Take a member's run over, after the team's run. Returns its recorder, and the work that is left to be awaited.

    `given` are all decisions about the team's run; the member takes those about calls of its own and of its members.
    They must be all that it waits for: ask `undecided` before.
    """
    recorder, own = await take_member(above, run, given)
    return recorder, go_on(recorder, job, run, own)


async def take_member(
    above: Recorder, run: Run, given: DeferredToolResults
) -> tuple[MemberRecorder, DeferredToolResults]:
    """Take a member's run over. Returns its recorder, and those of the decisions that are about its calls."""
    own = decidable_part(run, given)
    decided = noted(run, own, await dump_decisions(own))
    recorder = await MemberRecorder.take(above, run, decided)
    recorder.meter.earlier = run.own_usage
    return recorder, own
