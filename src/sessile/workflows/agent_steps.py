"""Agents as steps: what they say is kept in the same commit as the step's result, as a run below the workflow's."""

from __future__ import annotations

from collections.abc import AsyncIterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic_ai import DeferredToolRequests, RunContext, capture_run_messages
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.messages import AgentStreamEvent, ModelMessage
from pydantic_ai.models import ModelRequestContext
from pydantic_ai.usage import RunUsage

from ..agents.agent import Agent
from ..agents.capability import with_state
from ..agents.messages import FORMAT, dump_input, dump_message, dump_output, usage_of
from ..agents.state import session_state
from ..agents.streaming import text_delta
from ..agents.team import Team
from ..errors import InvalidInputError, problem_of
from ..records import Entry, JsonObject
from ..storage import fold, turns
from ..storage.core import now_micros
from ..storage.ids import uuid7
from .events import unheard
from .runtime import current_step

if TYPE_CHECKING:
    from .executing import Call
    from .runtime import WorkflowRun


@dataclass
class FilledInstructions(AbstractCapability[Any]):
    """Puts the workflow's state into the placeholders of an agent's instructions, and counts what is used."""

    usage: RunUsage = field(default_factory=RunUsage)

    async def before_model_request(
        self, ctx: RunContext[Any], request_context: ModelRequestContext
    ) -> ModelRequestContext:
        """See `AbstractCapability`."""
        self.usage = ctx.usage
        return with_state(request_context, session_state())


async def run_agent(run: WorkflowRun, call: Call, agent: Agent[Any], entries: list[Entry]) -> Any:
    """The agent's answer. With `session_id=` it answers in that session of its own, else inside the workflow's run.

    `entries` gets what the agent said, also if it fails. A team answers in a session of its own, always the same one
    for this step of this run, which is kept if the team has a storage.
    """
    options = dict(call.kwargs)
    if run.emit is not unheard:  # only then: an answer that nobody watches need not be streamed
        options["event_stream_handler"] = _telling(run, call, options.get("event_stream_handler"))
    if isinstance(agent, Team):  # its members need a session
        options.setdefault("session_id", current_step().idempotency_key)
    if "session_id" in options:
        result: Any = await agent.arun(*call.args, **{"user_id": run.user_id, **options})
        return _answer(agent, result.output)
    prompt = call.args[0] if call.args else options.pop("prompt", None)
    part = AgentPart(run, agent, dump_input(prompt))
    options["capabilities"] = [*(options.get("capabilities") or ()), part.watcher]
    with capture_run_messages() as messages:
        try:
            result = await agent.arun_part(prompt, session_id=run.session_id, run_id=part.run_id, **options)
            output = _answer(agent, result.output)
        except Exception as error:
            entries += await part.entries(messages, "failed", {"error": problem_of(error)})
            raise
    entries += await part.entries(result.new_messages(), "completed", {"output": dump_output(output)})
    return output


def _answer(agent: Agent[Any], output: Any) -> Any:
    if isinstance(output, DeferredToolRequests):
        raise InvalidInputError(
            f"Agent {agent.name!r} waits for a decision about a tool call, for which a step cannot wait.",
            hint="Decide in the workflow, with ctx.wait, before the step that needs approval.",
        )
    return output


class AgentPart:
    """A run of an agent below the workflow's run."""

    def __init__(self, run: WorkflowRun, agent: Agent[Any], prompt: Any) -> None:
        self.run, self.agent, self.prompt = run, agent, prompt
        self.run_id = uuid7()
        self.watcher = FilledInstructions()
        self._started = now_micros()

    async def entries(self, messages: list[ModelMessage], status: str, ended: JsonObject) -> list[Entry]:
        """The entries of the agent's run, whose usage counts for the workflow's run as well."""
        usage = usage_of(self.watcher.usage)
        started = {"input": await self._keep(self.prompt), "started_at": self._started}
        self.run.journal.usage = self.run.journal.usage + usage
        return [
            self._entry(fold.RUN_STARTED, started),
            *[self._entry(fold.MESSAGE, await dump_message(one, self._keep), FORMAT) for one in messages],
            self._entry(fold.RUN_ENDED, {"status": status, **ended, "usage": usage.to_json()}),
        ]

    def _entry(self, kind: str, data: Any, format: str | None = None) -> Entry:
        turn = self.run.journal.turn
        return Entry(kind, data, self.run_id, turn.number, turn.spec.run_id, self.agent.name, format)

    async def _keep(self, value: Any) -> Any:
        return await self.run.storage.arun_operation(turns.keep_media, self.run.journal.turn, value)


def _telling(run: WorkflowRun, call: Call, other: Any) -> Any:
    """A handler of the agent's events that tells the pieces of text to who listens to the workflow."""

    async def told(events: AsyncIterable[AgentStreamEvent]) -> AsyncIterable[AgentStreamEvent]:
        async for event in events:
            if text := text_delta(event):
                run.tell("step.text", call.name, call.path, text=text)
            yield event

    async def handler(context: Any, events: AsyncIterable[AgentStreamEvent]) -> None:
        if other is not None:
            await other(context, told(events))
        else:
            async for _ in told(events):
                pass

    return handler
