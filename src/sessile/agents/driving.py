"""Driving one run: Pydantic AI's agent in the middle, the session around it, and an end that is always stored."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pydantic_ai import CancellationToken, DeferredToolRequests, DeferredToolResults, capture_run_messages
from pydantic_ai.agent import AbstractAgent
from pydantic_ai.conversation import Conversation
from pydantic_ai.messages import ModelMessage, UserContent, repair_messages
from pydantic_ai.run import AgentRunResult
from pydantic_ai.usage import UsageLimits

from ..errors import LeaseLostError, StorageError
from ..records import Usage
from .capability import SessionSteps
from .history import Window
from .messages import run_usage
from .recorder import Recorder
from .result import RunResult
from .state import entered
from .storing import store_failure, store_result

if TYPE_CHECKING:
    from .teamwork import Teamwork

logger = logging.getLogger("sessile")


@dataclass(slots=True)
class Job:
    """What a run is driven with, beside its recorder.

    `options` are passed on to `pydantic_ai.Agent.run`. `prompt`, `results` and `history` are what it begins with.
    `usage_before` is what counts for its limits beside its own usage. `team` is there for a team's run.
    """

    agent: AbstractAgent[Any, Any]
    window: Window
    options: dict[str, Any]
    newest: int
    prompt: str | Sequence[UserContent] | None = None
    results: DeferredToolResults | None = None
    pending: DeferredToolRequests | None = None
    own: Sequence[ModelMessage] = field(default_factory=list[ModelMessage])
    session_usage: bool = False
    placeholders: bool = True
    usage_before: Usage = field(default_factory=Usage)
    team: Teamwork | None = None

    @property
    def limited(self) -> bool:
        """Whether the run has limits of its own, which hold for the runs below it as well."""
        return self.options.get("usage_limits") is not None


async def drive(recorder: Recorder, job: Job) -> RunResult[Any]:
    """Run the agent for a run that has started, and commit its end, whatever it is.

    Raises what the run raises, after that was stored; `NotStoredError` if the end could not be stored.
    """
    join(recorder, job)
    with _kept_alive(recorder) as token, entered(recorder.session):
        try:
            result = await _run(recorder, job, token)
        except BaseException as error:
            await store_failure(recorder, error)
            raise
    return await store_result(recorder, result)


def join(recorder: Recorder, job: Job) -> None:
    """Let the members' side of a team's run and its recorder know each other."""
    if job.team is not None and recorder.team is None:
        recorder.team = job.team
        job.team.begin(recorder, job)


async def _run(recorder: Recorder, job: Job, token: CancellationToken) -> AgentRunResult[Any]:
    history = await recorder.history(job.window, job.options.get("model") or getattr(job.agent, "model", None))
    head = recorder.turn.before.head
    before = recorder.usage_earlier + (recorder.usage_of_members if job.limited else Usage())
    recorder.usage_before = job.usage_before + (head.usage if job.session_usage and head is not None else before)
    conversation = Conversation(
        messages=_joined(history, job.own, recorder.run_id) if job.own else history,
        usage=run_usage(recorder.usage_before + recorder.usage_unstored),
        conversation_id=recorder.turn.spec.session_id,
        deferred_tool_requests=job.pending,
    )
    options = dict(job.options)
    if job.session_usage and options.get("usage_limits") is None:
        options["usage_limits"] = UsageLimits(request_limit=None)  # Pydantic AI's default of 50 is meant for one run
    if job.placeholders or recorder.stepwise or recorder.replay is not None or job.team or recorder.above:
        options["capabilities"] = [*(options.get("capabilities") or ()), SessionSteps(recorder=recorder)]
    with capture_run_messages() as recorder.messages:
        try:
            return await job.agent.run(
                job.prompt,
                conversation=conversation,
                deferred_tool_results=job.results,
                run_id=recorder.attempt_id,
                cancellation_token=token,
                **options,
            )
        finally:
            if job.team is not None:
                await job.team.settle()


def _joined(history: Sequence[ModelMessage], own: Sequence[ModelMessage], run_id: str) -> list[ModelMessage]:
    """The history and a resumed run's own messages.

    Pydantic AI merges neighbouring requests, leaves the id of the run out, and would then take what it has merged for
    a new message of this attempt, which is stored again. So that is done here, and the id put back.
    """
    messages = repair_messages([*history, *own], repair_last_response=False)
    return [message if message.run_id else replace(message, run_id=run_id) for message in messages]


# ---------------------------------------------------------------- the lease


@contextmanager
def _kept_alive(recorder: Recorder) -> Generator[CancellationToken]:
    token = recorder.root.token
    if recorder.above is not None:  # runs of members have the lease of the run above them
        yield token
        return
    with kept_alive(recorder.storage.settings.lease, recorder.turn.number, recorder.renew, token.cancel):
        yield token


@contextmanager
def kept_alive(
    lease: float, run: int, renew_lease: Callable[[], Awaitable[bool]], stop: Callable[[], Any]
) -> Generator[None]:
    """Renew a run's lease at a third of its time, and stop the run if it was asked to or has lost the lease."""
    loop = asyncio.get_running_loop()
    interval = lease / 3
    tasks: set[asyncio.Task[None]] = set()
    handles: list[asyncio.TimerHandle] = []

    async def renew() -> None:
        try:
            if await renew_lease():
                stop()
        except LeaseLostError:
            stop()
        except StorageError as error:  # the next renewal may work; the lease holds until then
            logger.warning("The lease of run %s could not be renewed: %s", run, error)

    def beat() -> None:
        task = loop.create_task(renew())
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        handles[:] = [loop.call_later(interval, beat)]

    handles.append(loop.call_later(interval, beat))
    try:
        yield
    finally:
        handles[-1].cancel()
        for task in tasks:
            task.cancel()
