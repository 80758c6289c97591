"""Members with a storage of their own: they keep a session there, and the team's log has their results.

A member works there as it would without a team. Its run in the team's log has the same id, and says under `metadata`
which session it is in; it has what the member was asked, what came of it and what was used, but no messages.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

from pydantic_ai import DeferredToolResults

from ...live.result import RunResult
from ...records import FINISHED, Run, Session
from ...storage import turns
from ...storage.storage import Storage, aoperate
from ...storage.turns import TurnSpec
from ...storage.users import MAX_OWN_ID_BYTES
from ..agent import Agent, member_spec
from ..messages.results import as_result
from ..messages.stored import load_input
from ..resume.decisions import decidable_part, undecided
from ..resume.resuming import resume_run
from ..run.driving import drive
from ..run.ending import store_failure
from ..run.job import Job
from ..run.recorder import Recorder
from .member import MemberRecorder

PAUSE = 0.2
"""Seconds between two looks whether somebody is still working on a run of a member's own session."""


async def own_spec(member: Agent[Any], recorder: Recorder, path: tuple[str, ...], kept: Run | None) -> TurnSpec:
    """Which run of which session a member with a storage of its own begins, or has begun (`kept`).

    The session is the one that the member was made with, or one that belongs to the team's, and is found again by all
    its runs. Where the team's run stores its steps, the member's run stores its own, so that both can be resumed.
    """
    team = recorder.session
    session_id = None if kept is None else kept.metadata.get("session_id")
    session_id = session_id or member.session_id
    if session_id is None:
        session = await aoperate(recorder.storage, turns.session_of, recorder.turn)
        session_id = session_below(session, path)
    spec = member_spec(member, session_id, team.user_id)
    if recorder.stepwise:
        spec.durability = "step"
    return spec


def session_below(session: Session, path: tuple[str, ...]) -> str:
    """The id of the session that a member keeps for a team's: `team-session/member/…`.

    It ends with what tells this session from others that had or will have its id. That is random, and stands in the
    team's log alone: so nobody who merely knows how a session is called can be there before the member.
    """
    called = "/".join((session.session_id, *path, session.incarnation))
    return called if len(called.encode()) <= MAX_OWN_ID_BYTES else hashlib.sha256(called.encode()).hexdigest()


async def work_elsewhere(
    storage: Storage,
    recorder: MemberRecorder,
    job: Job,
    spec: TurnSpec,
    given: DeferredToolResults | None = None,
) -> RunResult[Any]:
    """Let the member work in its own session, and commit what comes of it in the team's log.

    Of a team's run that is resumed, `given` is what was decided about tool calls: the member's run continues with it.
    """
    spec.run_id, spec.only_once = recorder.run_id, True
    recorder.elsewhere = storage
    try:
        if given is None:
            result = await _begin(storage, recorder, job, spec)
        else:
            result = await _go_on(storage, recorder, job, spec, given)
    except BaseException as error:
        await store_failure(recorder, error)
        raise
    await recorder.end_as(result)
    return result


async def _begin(storage: Storage, recorder: MemberRecorder, job: Job, spec: TurnSpec) -> RunResult[Any]:
    spec.given = recorder.record.given or None
    own = await Recorder.begin(storage, spec, job.prompt, job.newest, refuse_conflicts=job.refuse_conflicts)
    recorder.hold_together(own)
    return await drive(own, job)


async def _go_on(
    storage: Storage, recorder: MemberRecorder, job: Job, spec: TurnSpec, given: DeferredToolResults
) -> RunResult[Any]:
    """Continue what has begun; what has ended or paused since then is not repeated."""
    run = await _left_behind(storage, spec)
    if run is None:  # the process was gone before it had begun
        job.prompt = await load_input(recorder.record.input, recorder.media)
        return await _begin(storage, recorder, job, spec)
    if run.status in FINISHED or undecided(run, given) is not None:
        recorder.own_record = run
        return as_result(recorder.session, run)
    decided = decidable_part(run, given)
    return await resume_run(storage, spec, job, run.number, {}, decided, taken=recorder.hold_together)


async def _left_behind(storage: Storage, spec: TurnSpec) -> Run | None:
    """The run in the member's own session, when nobody works on it; None if it has never begun.

    Its lease may hold a little longer than the one of the team's run, whose process is gone.
    """
    while True:
        found = await aoperate(storage, turns.repeated, spec, same=False)
        if found is None or found.run.status != "running":
            return None if found is None else found.run
        await asyncio.sleep(PAUSE)
