"""Driving one run: Pydantic AI's agent in the middle, the session around it, and an end that is always stored."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

from pydantic_ai.conversation import Conversation
from pydantic_ai.messages import ModelMessage, ModelResponse, repair_messages
from pydantic_ai.run import AgentRunResult
from pydantic_ai.usage import UsageLimits

from ...live.lease import KeptAlive
from ...live.result import RunResult
from ...live.session import entered
from ...storage.computing import computed
from ...storage.storage import working_on
from ..history.accepted import accepted, is_refused, plain, provider_of
from ..history.past import SessionPast
from ..messages.captured import captured
from ..messages.counted import plus, run_usage
from ..models import may_call_tools, override_of, tells_events
from ..shown import question_of
from .adapting import Adapting
from .budget import Budget
from .company import with_all
from .ending import store_failure, store_result
from .job import Job
from .naming import Naming
from .recorder import Recorder
from .remembering import Remembering
from .standing import StandingApprovals
from .steps import SessionSteps

logger = logging.getLogger("sessile")


async def drive(recorder: Recorder, job: Job) -> RunResult[Any]:
    """Run the agent for a run that has started, and commit its end, whatever it is.

    Raises what the run raises, after that was stored; `NotStoredError` if the end could not be stored.
    """
    join(recorder, job)
    if job.went_on is not None:
        job.went_on(recorder.turn.epoch, () if job.review else job.own)
    if job.begun is not None:
        job.begun(recorder.session.session_id, recorder.run_id, recorder.turn.number)
    with working_on(recorder.storage):
        with _kept_alive(recorder), entered(recorder.session):
            try:
                async with Naming(recorder, job), Remembering(recorder, job):
                    result = await _run(recorder, job)
            except BaseException as error:
                await store_failure(recorder, error)
                raise
        return await store_result(recorder, result, job)


def join(recorder: Recorder, job: Job) -> None:
    """Let a run's recorder and those who work beside the run know each other."""
    recorder.handed = job.handed
    if recorder.company is not job.company:
        recorder.company = job.company
        job.company.begin(recorder, job)


async def _run(recorder: Recorder, job: Job) -> AgentRunResult[Any]:
    history, model = await _history(recorder, job)
    try:
        return await _asked(recorder, job, history)
    except Exception as error:
        if not history or not is_refused(error) or _has_begun(recorder):
            raise
        logger.warning(
            "Run %d of session %r was refused with its history by %s, and is tried once more with the plain words of "
            "it: %s",
            recorder.turn.number,
            recorder.session.session_id,
            provider_of(model) or "the model",
            error,
        )
    recorder.transcript.begin_anew()
    return await _asked(recorder, job, plain(history))


async def _history(recorder: Recorder, job: Job) -> tuple[list[ModelMessage], Any]:
    """What is sent along, as the run's model accepts it; and that model."""
    override = override_of(job.agent)
    model = override or job.options.get("model") or getattr(job.agent, "model", None)
    session = partial(SessionPast, recorder.storage, recorder.turn, recorder.media)
    past = (job.past or session)(model)
    past.override = override
    shown = await job.show(question_of(recorder.record.input)) if job.choose is not None else None
    try:
        selected = await job.window.select(past)
        chosen = selected if shown is None else [*shown.messages, *selected]
        return await computed(lambda: accepted(chosen, model, job.own or ()), size=3 * len(chosen)), model
    finally:
        recorder.meter.beside = past.used


def _has_begun(recorder: Recorder) -> bool:
    """Whether anything has come of a run: the same requests would not be made again."""
    if recorder.transcript.earlier:  # what was decided has been carried out; `Adapting` has tried it in words
        return True
    own = recorder.transcript.own(recorder.transcript.messages)
    return bool(recorder.company.results) or any(isinstance(message, ModelResponse) for message in own)


async def _asked(recorder: Recorder, job: Job, history: list[ModelMessage]) -> AgentRunResult[Any]:
    head = recorder.turn.before.head
    meter, transcript = recorder.meter, recorder.transcript
    before = with_all(meter.earlier, job.company) if job.limited else meter.earlier
    meter.before = plus(head.usage if job.session_usage and head is not None else before, job.usage_before)
    conversation = Conversation(
        messages=_joined(history, job.own, recorder.run_id) if job.own else history,
        usage=meter.start(),
        conversation_id=recorder.turn.spec.session_id,
        deferred_tool_requests=job.pending,
    )
    options = dict(job.options)
    if job.limited and job.company.speaks and recorder.above is None and recorder.budget is None:
        recorder.budget = Budget(options["usage_limits"], meter.start())
    elif recorder.root.budget is not None:
        recorder.root.budget.count(run_usage(meter.unstored))  # what a member had used when its process died
    if recorder.root.budget is not None:  # it counts requests, and only those that a model was asked
        options["usage_limits"] = replace(options["usage_limits"], request_limit=None)
    if job.session_usage and options.get("usage_limits") is None:
        options["usage_limits"] = UsageLimits(request_limit=None)  # Pydantic AI's default of 50 is meant for one run
    if job.placeholders or recorder.watched or job.company.speaks or job.own or job.handed is not None:
        adapting = [Adapting(earlier=recorder.transcript.earlier)] if recorder.transcript.earlier else []
        options["capabilities"] = [*(options.get("capabilities") or ()), SessionSteps(recorder=recorder), *adapting]
    # Each capability takes Pydantic AI as long as a commit takes us.
    elif may_call_tools(job.agent, options) or tells_events(job.agent, options):
        options["capabilities"] = [*(options.get("capabilities") or ()), StandingApprovals(recorder=recorder)]
    with captured() as transcript.messages:
        try:
            return await job.agent.run(
                job.prompt,
                conversation=conversation,
                deferred_tool_results=job.results,
                run_id=transcript.attempt_id,
                cancellation_token=recorder.root.token,
                **options,
            )
        finally:
            await job.company.settle()


def _joined(history: Sequence[ModelMessage], own: Sequence[ModelMessage], run_id: str) -> list[ModelMessage]:
    """The history and a resumed run's own messages.

    Pydantic AI merges neighbouring requests into one that has no run id. It would then stamp that one as a message of
    this attempt, and it would be stored twice. So they are merged here, and get the run's id.
    """
    messages = repair_messages([*history, *own], repair_last_response=False)
    return [message if message.run_id else replace(message, run_id=run_id) for message in messages]


def _kept_alive(recorder: Recorder) -> AbstractContextManager[None]:
    if recorder.above is not None:  # runs of members have the lease of the run above them
        return nullcontext()
    lease, place = recorder.storage.settings.lease, recorder.turn.place
    return KeptAlive(lease, place, recorder.renew, recorder.is_asked, recorder.token.cancel)
