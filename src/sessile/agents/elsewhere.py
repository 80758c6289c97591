"""Members that keep sessions of their own: in their own storage, with what they came to in the team's log as well.

A member works there as it would without a team. Its run in the team's log has the same id, and says under `metadata`
which session it is in; it has what the member was asked, what came of it and what was used, but no messages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic_ai import DeferredToolResults

from ..errors import NotResumableError
from ..records import FINISHED, Run
from ..storage.storage import Storage
from ..storage.turns import TurnSpec
from .driving import Job, drive
from .member import MemberRecorder
from .recorder import Recorder
from .result import RunResult, as_result
from .resuming import resume_run
from .storing import store_failure

if TYPE_CHECKING:
    from .agent import Agent

SEARCHED_RUNS = 100
"""How many of the last runs of a member's own session are looked through for the one that is to be gone on with."""


def own_spec(member: Agent[Any], recorder: Recorder, path: tuple[str, ...]) -> TurnSpec:
    """What a member's run in its own session is begun with.

    The session is the one that the member was made with, or else is called after the team's: `team-session/member`.
    """
    team = recorder.session
    return member.spec(member.session_id or "/".join((team.session_id, *path)), team.user_id, None)


async def work_elsewhere(
    member: Agent[Any], storage: Storage, recorder: MemberRecorder, job: Job, spec: TurnSpec
) -> RunResult[Any]:
    """A member's run in its own session, and its end in the team's log."""
    spec.run_id = recorder.run_id
    try:
        own = await Recorder.begin(storage, spec, job.prompt, member.newest, refuse_conflicts=member.refuses_conflicts)
        recorder.hold_together(own)
        result = await drive(own, job)
    except BaseException as error:
        await store_failure(recorder, error)
        raise
    await recorder.end_as(result)
    return result


async def resume_elsewhere(
    member: Agent[Any], storage: Storage, recorder: MemberRecorder, job: Job, spec: TurnSpec, given: DeferredToolResults
) -> RunResult[Any]:
    """Go on with a member's run in its own session; one that has ended there is not repeated."""
    try:
        run = await _find(storage, spec, recorder.run_id)
        if run is None:
            raise NotResumableError(f"Session {spec.session_id!r} has no run {recorder.run_id} to go on with.")
        if run.status in FINISHED:
            result = as_result(recorder.session, run)
        else:
            options: dict[str, Any] = {"refuse_conflicts": member.refuses_conflicts, "member": recorder}
            result = await resume_run(storage, spec, job, run.number, {}, given, **options)
    except BaseException as error:
        await store_failure(recorder, error)
        raise
    await recorder.end_as(result)
    return result


async def _find(storage: Storage, spec: TurnSpec, run_id: str) -> Run | None:
    runs = await storage.aruns(spec.session_id, last=SEARCHED_RUNS, user_id=spec.user_id)
    return next((run for run in runs if run.run_id == run_id), None)
