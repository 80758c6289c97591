"""Members that keep sessions of their own: in their own storage, with what they came to in the team's log as well.

A member works there as it would without a team. Its run in the team's log has the same id, and says under `metadata`
which session it is in; it has what the member was asked, what came of it and what was used, but no messages.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from pydantic_ai import DeferredToolResults

from ..records import FINISHED, Run
from ..storage.storage import Storage
from ..storage.turns import TurnSpec
from .driving import Job, drive
from .member import MemberRecorder
from .messages import load_input
from .recorder import Recorder
from .result import RunResult, as_result
from .resuming import decidable_part, resume_run, undecided
from .storing import store_failure

if TYPE_CHECKING:
    from .agent import Agent

SEARCHED_RUNS = 100
"""How many runs of a member's own session are read at a time to find the one that is to be gone on with."""

PAUSE = 0.2
"""Seconds between two looks at a run of a member's own session that somebody is still at work on."""


def own_spec(member: Agent[Any], recorder: Recorder, path: tuple[str, ...]) -> TurnSpec:
    """What a member's run in its own session is begun with.

    The session is the one that the member was made with, or else is called after the team's: `team-session/member`.
    Where the steps of the team's run are stored those of the member's are, so that it can be gone on with, too.
    """
    team = recorder.session
    spec = member.spec(member.session_id or "/".join((team.session_id, *path)), team.user_id, None)
    if recorder.stepwise:
        spec.durability = "step"
    return spec


async def work_elsewhere(
    member: Agent[Any],
    storage: Storage,
    recorder: MemberRecorder,
    job: Job,
    spec: TurnSpec,
    given: DeferredToolResults | None = None,
) -> RunResult[Any]:
    """A member's run in its own session, and its end in the team's log.

    With `given`, what was decided about calls that members wait for, it is one of a team's run that is resumed.
    """
    spec.run_id = recorder.run_id
    try:
        if given is None:
            result = await _begin(member, storage, recorder, job, spec)
        else:
            result = await _go_on(member, storage, recorder, job, spec, given)
    except BaseException as error:
        await store_failure(recorder, error)
        raise
    await recorder.end_as(result)
    return result


async def _begin(
    member: Agent[Any], storage: Storage, recorder: MemberRecorder, job: Job, spec: TurnSpec
) -> RunResult[Any]:
    own = await Recorder.begin(storage, spec, job.prompt, member.newest, refuse_conflicts=member.refuses_conflicts)
    recorder.hold_together(own)
    return await drive(own, job)


async def _go_on(
    member: Agent[Any], storage: Storage, recorder: MemberRecorder, job: Job, spec: TurnSpec, given: DeferredToolResults
) -> RunResult[Any]:
    """Go on with what has begun; what has come to an end or a pause since then is not repeated."""
    run = await _left_behind(storage, spec)
    if run is None:  # the process was gone before it had begun
        job.prompt = await load_input(recorder.record.input, recorder.media)
        spec.only_once = True
        return await _begin(member, storage, recorder, job, spec)
    if run.status in FINISHED or undecided(run, given) is not None:
        recorder.own_record = run
        return as_result(recorder.session, run)
    options: dict[str, Any] = {"refuse_conflicts": member.refuses_conflicts, "member": recorder}
    return await resume_run(storage, spec, job, run.number, {}, decidable_part(run, given), **options)


async def _left_behind(storage: Storage, spec: TurnSpec) -> Run | None:
    """The run in the member's own session, when nobody is at work on it; None if it has never begun.

    Its lease may hold a little longer than the one of the team's run, whose process is gone.
    """
    while True:
        run = await _find(storage, spec)
        if run is None or run.status != "running":
            return run
        await asyncio.sleep(PAUSE)


async def _find(storage: Storage, spec: TurnSpec) -> Run | None:
    last: int | None = None
    while runs := await storage.aruns(spec.session_id, last=SEARCHED_RUNS, to_run=last, user_id=spec.user_id):
        for run in runs:
            if run.run_id == spec.run_id:
                return run
        last = runs[0].number - 1
    return None
