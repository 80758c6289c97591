"""Continuing runs that were paused or interrupted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from pydantic_ai import DeferredToolRequests, DeferredToolResults
from pydantic_ai.messages import ModelResponse

from ...live.queue import in_turn
from ...live.result import RunResult
from ...records import ANY_USER, Entry, JsonObject, Run
from ...storage import taking
from ...storage.ids import check_optional_id, uuid7
from ...storage.storage import Storage, aoperate
from ...storage.turns import Turn, TurnSpec
from ...storage.uninterrupted import to_the_end
from ..messages.stored import load_input, load_messages
from ..options import Approval
from ..remembered import holding
from ..run.company import UnchosenError
from ..run.driving import drive, join
from ..run.ending import result_without_model
from ..run.job import Job
from ..run.recorder import TEXT_OUTPUT, Recorder, Replay, text_output_call
from .decisions import (
    UNSURE,
    all_given,
    check_in_time,
    check_resumable,
    delegated,
    dump_decisions,
    is_yes,
    load_decisions,
    noted,
    own_part,
    redacted_calls,
    waits,
    with_answers,
    with_sent,
)
from .fitting import Abilities, check_owner
from .progress import Progress, drop_cut, progress_of, unsaved_state, unstored_usage, without_cut
from .reviewing import give, remark_of, unfinished_review, with_review
from .tools import Tools, UnlistedError


async def resume_run(
    storage: Storage,
    spec: TurnSpec,
    job: Job,
    number: int | None,
    approvals: Mapping[str, Approval],
    results: DeferredToolResults | None,
    *,
    taken: Callable[[Recorder], None] | None = None,
    from_start: bool = False,
    adopt: bool = False,
    by: str | None = None,
) -> RunResult[Any]:
    """Take the run over, prepare what it continues with, and drive it. See `Agent.resume`.

    With `from_start` an interrupted run whose steps were not stored begins anew with its input. `taken` is given the
    recorder when the run is taken over. (A team lets it know the run that it goes with.) With `adopt` it may be the run
    of an agent of another name or kind. `by` is who has decided.
    """
    check_optional_id(by, "by")
    said = all_given(approvals, results)
    dumped = await dump_decisions(said, by)
    whole = [said]
    reviews: list[JsonObject | None] = [None]

    abilities = Abilities()

    def check(turn: Turn, run: Run) -> list[Entry]:
        now = turn.clock.now()
        check_in_time(run, turn.epoch - 1, now, said)
        given, stored = with_answers(run, *with_sent(run, turn.epoch - 1, now, said, dumped))
        if not (from_start and run.status == "interrupted" and run.durability == "run"):
            check_resumable(run, given)
        if not adopt:
            check_owner(turn.before.head, run, spec)
        holding(run, job.given)
        job.company.check_chosen(run)
        abilities.check(run, given, job)
        stored = with_review(run, given, stored, job)
        whole[:], reviews[:] = [given], [stored.reviewed]
        return [*without_cut(run), *(turn.entry(decided) for decided in noted(run, given, stored))]

    while True:
        try:
            turn, run = await _take(storage, spec, number, job, check)
            break
        except UnlistedError:
            await abilities.ask()
        except UnchosenError as unchosen:
            await job.company.find(unchosen.run, spec.session_id, None if spec.user_id is ANY_USER else spec.user_id)
    drop_cut(run)
    if job.remake is not None and run.given:
        before, job = job, job.remake(holding(run, job.given))
        job.begun, job.went_on = before.begun, before.went_on
        job.company.take_members(before.company)
    recorder = await Recorder.of(storage, turn, refuse_conflicts=job.refuse_conflicts)
    recorder.transcript.attempt_id = uuid7()
    recorder.take_over(run)
    if taken is not None:
        taken(recorder)
    return await go_on(recorder, job, run, whole[0], reviews[0] or unfinished_review(run))


async def go_on(
    recorder: Recorder, job: Job, run: Run, given: DeferredToolResults, reviewed: JsonObject | None = None
) -> RunResult[Any]:
    """Prepare a run that was taken over, and drive it. If it cannot be prepared, it is left as it was.

    One whose output somebody has accepted (`reviewed`) ends with it.
    """
    join(recorder, job)
    if reviewed is not None and "output" in reviewed:
        return await give(recorder, job, run, reviewed)
    try:
        asked = await _prepare(recorder, job, run, given, reviewed)
    except BaseException:
        await to_the_end(recorder.put_back(run))
        raise
    if asked is not None:
        await to_the_end(recorder.pause(asked))
        return _paused(recorder, asked)
    return await drive(recorder, job)


async def _take(
    storage: Storage, spec: TurnSpec, number: int | None, job: Job, check: Callable[[Turn, Run], list[Entry]]
) -> tuple[Turn, Run]:
    """Take the run over. If a cancellation comes too late to keep that from happening, the run is put back."""

    async def attempt() -> tuple[Turn, Run]:
        beginning = asyncio.ensure_future(aoperate(storage, taking.take_turn, spec, number, job.newest, check))
        try:
            return await to_the_end(beginning)
        except asyncio.CancelledError:
            if not beginning.cancelled():
                turn, run = beginning.result()
                await Recorder(storage, turn).put_back(run)
            raise

    return await in_turn(attempt, storage, spec.session_id, queue=spec.on_busy == "queue", limit=spec.queue_timeout)


async def _prepare(
    recorder: Recorder, job: Job, run: Run, given: DeferredToolResults, reviewed: JsonObject | None = None
) -> DeferredToolRequests | None:
    """Put together what the run continues with; returns the calls that must be decided about first, if any."""
    job.own = await load_messages(run.messages, recorder.media)
    recorder.transcript.earlier = list(job.own)
    recorder.meter.earlier = run.own_usage
    job.company.given = given
    if reviewed is not None:
        job.prompt = remark_of(reviewed)
        return None
    if waits(run):
        job.results = own_part(given, delegated(run), job.own)
        return None
    progress = progress_of(run)
    progress.decided.update(given.approvals)
    if run.status != "paused" and recorder.above is None:
        recorder.restore_state(unsaved_state(run))
    replay = _replay(job, progress)
    if progress.answers is None:
        begun = progress.started if job.company.speaks else set[str]()  # of members, whose runs go on by themselves
        replay.redacted = redacted_calls(run) - begun
    recorder.replay = replay
    recorder.meter.unstored = unstored_usage(job.own, progress.returned, run.own_usage)
    job.company.given.approvals.update(progress.decided)
    if progress.answers is not None:
        answers = await load_decisions(progress.answers, recorder.media)
        job.company.given.update(answers)
        job.results = own_part(answers, progress.answers.delegated, job.own)
        job.results.approvals.update({call: no for call, no in replay.decided.items() if not is_yes(no)})
    # What was asked stands in the run's messages, if there are any; a request that comes again says it once more.
    job.prompt = None if run.messages else await load_input(run.input, recorder.media)
    idempotent = Tools(job).idempotent
    asked = [one for one in replay.unsure if one.tool_call_id not in replay.decided and one.tool_name not in idempotent]
    if not asked:
        return None
    return DeferredToolRequests(approvals=asked, metadata={call.tool_call_id: UNSURE for call in asked})


def _replay(job: Job, progress: Progress) -> Replay:
    """What is given again. A response that is given again is taken out of the job's own messages."""
    *before, last = job.own or [None]
    response = last if isinstance(last, ModelResponse) and progress.answers is None else None
    source = response
    if response is not None:
        job.own = [message for message in before if message is not None]
    elif progress.answers is not None:
        source = next(message for message in reversed(job.own) if isinstance(message, ModelResponse))
    calls = {} if source is None else {call.tool_call_id: call for call in source.tool_calls}
    if source is not None and not calls:
        calls[TEXT_OUTPUT] = text_output_call(None, source.text or "")
    return Replay(
        response,
        {call: result for call, result in progress.results.items() if call in calls},
        [call for call in calls.values() if call.tool_call_id in progress.started],
        progress.decided,
    )


def _paused(recorder: Recorder, requests: DeferredToolRequests) -> RunResult[Any]:
    return result_without_model(recorder, requests, "paused", recorder.transcript.earlier, pending=requests)
