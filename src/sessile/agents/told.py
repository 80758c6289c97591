"""Runs for servers, which tell what happens while they work."""

# pyright: reportPrivateUsage=false
# What an agent's own methods do, in other combinations.

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from pydantic_ai import DeferredToolResults
from pydantic_ai.messages import ModelMessage, PartStartEvent, TextPart

from ..live.result import RunResult
from ..live.sigterm import stored_on_sigterm
from ..live.streams import Put
from ..records import JsonObject, UserId
from ..storage.taking import checked_epoch
from .agent import Agent
from .options import Prompt
from .resume.resuming import resume_run


class Listener(Protocol):
    """Who hears of a run."""

    def went_on(self, epoch: int, own: Sequence[ModelMessage]) -> None:
        """Which process's turn it is, and what the run has said before; called just before `begun`."""
        ...

    def begun(self, session_id: str, run_id: str, number: int) -> None:
        """The run has begun, or goes on."""
        ...


async def run_told(
    agent: Agent[Any],
    prompt: Prompt | None,
    listener: Listener,
    put: Put | None,
    *,
    session_id: str | None,
    user_id: UserId,
    run_id: str | None,
    run_metadata: JsonObject | None,
) -> RunResult[Any]:
    """As `agent.arun`; tells which run it is when it has begun, and its events as they come where `put` takes them."""
    job = agent._job({}) if put is None else agent._told({}, put, events=True)
    job.begun, job.went_on = listener.begun, listener.went_on
    spec = agent._spec(session_id, user_id, run_metadata, run_id)
    return await agent._begin(prompt, spec, job)


async def resume_told(
    agent: Agent[Any],
    listener: Listener,
    put: Put,
    *,
    session_id: str,
    user_id: UserId,
    run_number: int | None,
    results: DeferredToolResults,
    by: str | None = None,
    epoch: int | None = None,
) -> RunResult[Any]:
    """As `agent.aresume`; tells which run it is when it goes on, and its events as they come."""
    assert agent.storage is not None, "sessions are kept in one"
    job = agent._told({}, put, events=True)
    job.begun, job.went_on = listener.begun, listener.went_on
    spec = agent._spec(session_id, user_id, None)
    spec.epoch = checked_epoch(epoch, run_number)
    with stored_on_sigterm():
        result = await resume_run(agent.storage, spec, job, run_number, {}, results, by=by)
    if agent.review and result.status == "completed" and isinstance(result.output, str):
        put(PartStartEvent(index=0, part=TextPart(result.output)))  # now that it is given; drafts are not told
    return result
