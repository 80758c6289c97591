"""The session logic as a Pydantic AI capability."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import partial
from typing import Any

from pydantic_ai import ModelRetry, RunContext, ToolDenied
from pydantic_ai.capabilities import (
    AbstractCapability,
    CapabilityOrdering,
    ValidatedToolArgs,
    WrapModelRequestHandler,
    WrapRunHandler,
    WrapToolExecuteHandler,
)
from pydantic_ai.exceptions import ApprovalRequired, CallDeferred, ToolFailed, ToolFailedError, ToolRetryError
from pydantic_ai.messages import InstructionPart, ModelMessage, ModelResponse, ToolCallPart
from pydantic_ai.models import ModelRequestContext
from pydantic_ai.run import AgentRunResult
from pydantic_ai.tools import AgentDepsT, ToolDefinition

from ..errors import InvalidInputError, StorageError
from ..storage.ids import uuid7
from ..storage.reads import check_choice
from ..storage.storage import Storage, check_storage
from ..storage.turns import Durability, OnBusy, TurnSpec
from .history import History, window_of
from .messages import MADE_UP
from .recorder import Recorder, Replay
from .state import enter, fill_placeholders
from .storing import store_failure, store_result

logger = logging.getLogger("sessile")


@dataclass
class SessionSteps(AbstractCapability[AgentDepsT]):
    """What happens inside a run: placeholders filled, steps committed, finished ones given again.

    Added by `Agent` to each of its runs, which loads before and stores after; alone it does neither.
    """

    _: KW_ONLY
    recorder: Recorder | None = field(default=None, repr=False)
    id: str | None = "sessile_session"

    async def before_model_request(
        self, ctx: RunContext[AgentDepsT], request_context: ModelRequestContext
    ) -> ModelRequestContext:
        """Put the state into the instructions' placeholders."""
        return request_context if self.recorder is None else with_state(request_context, self.recorder.session.state)

    async def wrap_model_request(
        self, ctx: RunContext[AgentDepsT], *, request_context: ModelRequestContext, handler: WrapModelRequestHandler
    ) -> ModelResponse:
        """Commit request and response of each step; give the last response of an interrupted run again."""
        recorder = self.recorder
        if recorder is None:
            return await handler(request_context)
        recorder.observe(ctx.messages, ctx.usage)
        if recorder.replay is not None and recorder.replay.response is not None:
            response, recorder.replay.response = recorder.replay.response, None
            recorder.made_up += response.provider_name == MADE_UP
            return response
        if recorder.team is not None and (known := recorder.team.next_response(ctx.messages)) is not None:
            recorder.made_up += 1
            handler = partial(_at_hand, known)
        if not recorder.stepwise:
            return await handler(request_context)
        await recorder.store_messages(ctx.messages)
        response = await handler(request_context)
        made = list(_with_response(ctx, response))
        try:
            await recorder.store_messages(made)
        except StorageError as error:
            if error.written != "no":
                raise
            # The model has answered: the answer is not thrown away, the next commit has it.
            logger.warning("A model's response could not be stored yet: %s", error)
            recorder.observe(made, ctx.usage)
        return response

    async def wrap_tool_execute(
        self,
        ctx: RunContext[AgentDepsT],
        *,
        call: ToolCallPart,
        tool_def: ToolDefinition,
        args: ValidatedToolArgs,
        handler: WrapToolExecuteHandler,
    ) -> Any:
        """Commit each tool call before it starts and after it ends; never repeat one that has finished."""
        recorder = self.recorder
        if recorder is None or tool_def.kind == "output":
            return await handler(args)
        recorder.observe(ctx.messages, ctx.usage)
        if recorder.replay is not None:
            kept = await _replayed(recorder, recorder.replay, call)
            if kept is not None:
                return kept[0]
        if not recorder.stepwise:
            return await handler(args)
        return await _executed(recorder, call, args, handler)


@dataclass
class SessionCapability(SessionSteps[AgentDepsT]):
    """Gives a bare `pydantic_ai.Agent` sessions: history before a run, everything stored after it.

    ```python
    agent = pydantic_ai.Agent("openai:gpt-5-mini", capabilities=[SessionCapability(storage)])
    agent.run_sync("What is my name?", conversation_id="s1")
    ```

    The session's id is the run's `conversation_id` unless `session_id` is given; the history comes from the storage,
    so do not pass `message_history`. The state is there as in a Sessile `Agent` (`session_state()`, `{placeholders}`
    in instructions).

    What only `sessile.Agent` can do, because a capability cannot: continue a paused run with the user's decisions
    (`resume`; deferred tool results must be there before the run begins), resume an interrupted run, hold the run's
    lease beyond its first term, store on SIGTERM, and raise `NotStoredError` when a run has failed and could not be
    stored either: Pydantic AI then raises the run's own error, with ours as its context. An agent with a
    `system_prompt` (not `instructions`) needs Pydantic AI's `ReinjectSystemPrompt(replace_existing=True)` beside it,
    because the window may not reach back to the run that the prompt was stored with.

    Args:
        storage: where the sessions are kept.
        session_id, user_id: whose session; `session_id` defaults to the run's `conversation_id`.
        history: the window of earlier runs that is sent along; see `Agent`.
        state: what the state of a new session begins with.
        durability: `"run"`, `"step"` or `"exit"`; see `Agent`.
        on_busy: `"parallel"`, `"queue"` or `"reject"`; see `Agent`.
        owner: the name to store; default: the agent's name.
    """

    storage: Storage
    _: KW_ONLY
    session_id: str | None = None
    user_id: str | None = None
    history: History = 3
    state: dict[str, Any] | None = None
    durability: Durability = "run"
    on_busy: OnBusy = "parallel"
    owner: str | None = None

    def __post_init__(self) -> None:
        """Refuse what could only fail, or do something else, when the agent runs."""
        check_storage(self.storage)
        if self.storage is None:  # pyright: ignore[reportUnnecessaryComparison] (an agent may have none, this may not)
            raise InvalidInputError("A SessionCapability needs a storage.")
        check_choice(self.durability, "durability", ("run", "step", "exit"))
        check_choice(self.on_busy, "on_busy", ("parallel", "queue", "reject"))

    def get_ordering(self) -> CapabilityOrdering | None:
        """Outermost: what is stored is what the run came to after everything else."""
        return CapabilityOrdering(position="outermost")

    async def for_run(self, ctx: RunContext[AgentDepsT]) -> AbstractCapability[AgentDepsT]:
        """A capability of the run's own, so that nothing of one run reaches another."""
        return replace(self, recorder=None)

    async def wrap_run(self, ctx: RunContext[AgentDepsT], *, handler: WrapRunHandler) -> AgentRunResult[Any]:
        """Load the history, commit the start, run, and commit the end, whatever it is."""
        recorder = await self._begin(ctx)
        try:
            result = await handler()
        except BaseException as error:
            await store_failure(recorder, error)
            raise
        await store_result(recorder, result)
        return result

    async def _begin(self, ctx: RunContext[AgentDepsT]) -> Recorder:
        if ctx.messages:
            raise InvalidInputError("A run with a storage takes its history from there; do not pass message_history.")
        session_id = self.session_id or ctx.conversation_id or uuid7()
        owner = self.owner or (ctx.agent.name if ctx.agent is not None else None)
        spec = TurnSpec(
            session_id,
            run_id=ctx.run_id or uuid7(),
            input=None,
            user_id=self.user_id,
            owner=owner,
            durability=self.durability,
            on_busy=self.on_busy,
            session={"state": self.state} if self.state else {},
        )
        window = window_of(self.history)
        recorder = await Recorder.begin(self.storage, spec, ctx.prompt, window.newest)
        ctx.messages[:0] = await recorder.history(window, ctx.model)
        enter(recorder.session)
        self.recorder = recorder
        return recorder


def with_state(request_context: ModelRequestContext, state: dict[str, Any]) -> ModelRequestContext:
    """The request with the state in its instructions' placeholders."""
    parts = request_context.model_request_parameters.instruction_parts
    if parts and any("{" in part.content for part in parts):
        request_context.model_request_parameters = replace(
            request_context.model_request_parameters, instruction_parts=[_filled(part, state) for part in parts]
        )
    return request_context


async def _executed(
    recorder: Recorder, call: ToolCallPart, args: ValidatedToolArgs, handler: WrapToolExecuteHandler
) -> Any:
    """Execute a tool between two commits."""
    call_id, tool = call.tool_call_id, call.tool_name
    await recorder.tool_started(call_id, tool, args)
    try:
        value = await handler(args)
    except (ApprovalRequired, CallDeferred):
        await recorder.tool_ended(call_id, tool, "deferred")
        raise
    except (ModelRetry, ToolRetryError) as error:
        await recorder.tool_ended(call_id, tool, "retry", _said(error))
        raise
    except (ToolFailed, ToolFailedError) as error:
        await recorder.tool_ended(call_id, tool, "failed", _said(error))
        raise
    await recorder.tool_returned(call_id, tool, value)
    return value


def _said(error: Exception) -> str:
    """What a tool has said, which Pydantic AI wraps in an error of its own, or a hook has raised as it is."""
    return str(error.__cause__ if isinstance(error, (ToolRetryError, ToolFailedError)) else error)


async def _replayed(recorder: Recorder, replay: Replay, call: ToolCallPart) -> tuple[Any] | None:
    """What a tool call came to before the interruption, or by the user's decision; None: execute it."""
    kept = replay.results.get(call.tool_call_id)
    if kept is not None and kept["outcome"] != "deferred":
        result = await recorder.kept_result(kept)
        if isinstance(result, (ModelRetry, ToolFailed)):
            raise result
        return (result,)
    decision = replay.decided.get(call.tool_call_id, True)
    if isinstance(decision, ToolDenied):
        return (decision,)
    return None if decision else (ToolDenied(),)


async def _at_hand(response: ModelResponse, _: ModelRequestContext) -> ModelResponse:
    return response


def _filled(part: InstructionPart, state: dict[str, Any]) -> InstructionPart:
    return replace(part, content=fill_placeholders(part.content, state))


def _with_response(ctx: RunContext[Any], response: ModelResponse) -> Sequence[ModelMessage]:
    """The run's messages with a response that the graph is about to append."""
    stamped = replace(response, run_id=ctx.run_id) if response.run_id is None else response
    return ctx.messages if ctx.messages and ctx.messages[-1] is response else [*ctx.messages, stamped]
