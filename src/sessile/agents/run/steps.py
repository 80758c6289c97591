"""What happens inside a run: placeholders filled, steps committed, finished ones given again."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import partial
from typing import Any, ClassVar

from pydantic import TypeAdapter
from pydantic_ai import DeferredToolRequests, DeferredToolResults, ModelRetry, RunContext, ToolDenied
from pydantic_ai.capabilities import (
    ValidatedToolArgs,
    WrapModelRequestHandler,
    WrapOutputProcessHandler,
    WrapToolExecuteHandler,
)
from pydantic_ai.exceptions import ApprovalRequired, CallDeferred, ToolFailed, ToolFailedError, ToolRetryError
from pydantic_ai.messages import ModelMessage, ModelResponse, ToolCallPart
from pydantic_ai.models import ModelRequestContext
from pydantic_ai.output import OutputContext
from pydantic_ai.run import AgentRunResult
from pydantic_ai.tools import AgentDepsT, ToolDefinition

from ...errors import StorageError, TooLargeError
from ...records import Handoff
from ..history.accepted import told
from ..messages.counted import MADE_UP
from ..placeholders import with_state
from .budget import Budget
from .first import FirstPart, HearsFirst
from .recorder import Recorder, Replay, kept_result, text_output_call
from .standing import approve

logger = logging.getLogger("sessile")

NOT_KEPT = (
    "Not executed: the process ended before, and the arguments were redacted where they were stored. Call it again if "
    "it is still needed."
)
"""What a model is told of a call, or of an answer, that had not been executed, and cannot be as it was meant."""


class HandedOver(Exception):
    """A member has handed the conversation over, and says nothing more."""

    def __init__(self, handoff: Handoff) -> None:
        super().__init__(f"handed over to {handoff.to}")
        self.handoff = handoff


_results = TypeAdapter(AgentRunResult[Any])


@dataclass
class SessionSteps(HearsFirst[AgentDepsT]):
    """What happens inside a run: placeholders filled, steps committed, finished ones given again.

    Added by `Agent` to each of its runs, which loads before and stores after; alone it does neither.
    """

    partial_functions: ClassVar[bool] = False
    """Whether a stream calls a function that makes the output for what is not whole, as on a bare agent."""

    _: KW_ONLY
    recorder: Recorder | None = field(default=None, repr=False)
    id: str | None = "sessile_session"

    @property
    def first_part(self) -> FirstPart | None:
        """See `HearsFirst`."""
        return None if self.recorder is None else self.recorder.first

    async def handle_deferred_tool_calls(
        self, ctx: RunContext[AgentDepsT], *, requests: DeferredToolRequests
    ) -> DeferredToolResults | None:
        """Give the results that are kept, and approve what was granted before."""
        recorder = self.recorder
        if recorder is None:
            return None
        given = await _kept(recorder, requests)
        rest = requests.remaining(given)
        granted = None if rest is None else await approve(recorder, rest)
        if granted is not None:
            given.update(granted)
        return given if given.approvals or given.calls else None

    async def before_model_request(
        self, ctx: RunContext[AgentDepsT], request_context: ModelRequestContext
    ) -> ModelRequestContext:
        """Put the state into the instructions' placeholders."""
        return request_context if self.recorder is None else with_state(request_context, self.recorder.session.shown)

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
            made_up = response.provider_name == MADE_UP
            recorder.meter.made_up += made_up
            _note_speaker(recorder, is_model=False)
            if recorder.root.budget is not None and not made_up:
                recorder.root.budget.answered(response)
            return response
        _note_speaker(recorder, is_model=True)
        recorder.replay = None  # what the model asks for from here on is new, under whatever ids
        if recorder.handed is not None:
            handoff = recorder.handed(recorder.transcript.said(ctx.messages))
            if handoff is not None:
                raise HandedOver(handoff)
        if (known := recorder.company.next_response(ctx.messages)) is not None:
            recorder.meter.made_up += 1
            _note_speaker(recorder, is_model=False)
            handler = partial(_at_hand, known)
        elif recorder.root.budget is not None:
            handler = partial(_within, recorder.root.budget, handler)
        if known is None and recorder.company.speaks:  # a model is sent what was said in its place as words of others
            request_context.messages = told(request_context.messages)
        if not recorder.stepwise:
            return await handler(request_context)
        await recorder.store_messages(ctx.messages)
        response = await handler(request_context)
        made = list(_with_response(ctx, response))
        try:
            await recorder.store_messages(made)
        except (StorageError, TooLargeError) as error:
            if error.written != "no":
                raise
            # The model has answered: the answer is not thrown away, the next commit has it.
            logger.warning("A model's response could not be stored yet: %s", error)
            recorder.observe(made, ctx.usage)
        return response

    async def on_run_error(self, ctx: RunContext[AgentDepsT], *, error: BaseException) -> AgentRunResult[Any]:
        """End the run of a member that has handed over with that; its model is not asked again."""
        if not isinstance(error, HandedOver):
            raise error
        before = sum(message.run_id != ctx.run_id for message in ctx.messages)
        said = {"messages": ctx.messages, "usage": ctx.usage, "run_id": ctx.run_id, "new_message_index": before}
        return _results.validate_python({"output": error.handoff, "conversation_id": ctx.conversation_id, **said})

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
            if call.tool_call_id in recorder.replay.redacted:
                return ToolDenied(NOT_KEPT)
        if recorder.root.budget is not None:
            recorder.root.budget.tool_call()
        if not recorder.stepwise:
            return await handler(args)
        return await _executed(recorder, call, args, handler)

    async def wrap_output_process(
        self,
        ctx: RunContext[AgentDepsT],
        *,
        output_context: OutputContext,
        output: Any,
        handler: WrapOutputProcessHandler,
    ) -> Any:
        """Commit a function that makes the output as a tool call, before and after it; never repeat it.

        One that had not begun is not called with what a redaction has left of what the model said: it is asked again.
        """
        recorder = self.recorder
        if recorder is None or not output_context.has_function:
            return await handler(output)
        if ctx.partial_output:
            if self.partial_functions:
                return await handler(output)
            raise ModelRetry("A function makes the output, when it is whole.")  # a stream then has nothing so far
        call = output_context.tool_call or text_output_call(output_context.function_name, output)
        recorder.observe(ctx.messages, ctx.usage)
        if recorder.replay is not None:
            kept = await _replayed(recorder, recorder.replay, call)
            if kept is not None:  # one that is not to run again leaves what the model has said as the output
                return output if isinstance(kept[0], ToolDenied) else kept[0]
            if call.tool_call_id in recorder.replay.redacted:
                raise ModelRetry(NOT_KEPT)
        if not recorder.stepwise:
            return await handler(output)
        return await _executed(recorder, call, output, handler, output=True)


async def _executed(
    recorder: Recorder,
    call: ToolCallPart,
    args: Any,
    handler: Callable[[Any], Awaitable[Any]],
    *,
    output: bool = False,
) -> Any:
    """Execute a tool between two commits."""
    call_id, tool = call.tool_call_id, call.tool_name
    await recorder.tool_started(call_id, tool, args, output=output)
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


async def _kept(recorder: Recorder, requests: DeferredToolRequests) -> DeferredToolResults:
    """Of calls that would wait for a decision those that need none: their results are known, and given again."""
    given = DeferredToolResults()
    known = {} if recorder.replay is None else recorder.replay.results
    for call in requests.approvals:
        if call.tool_call_id in known and known[call.tool_call_id].outcome != "deferred":
            given.approvals[call.tool_call_id] = True
    for call in requests.calls:
        if call.tool_call_id in known and known[call.tool_call_id].outcome != "deferred":
            given.calls[call.tool_call_id] = await kept_result(known[call.tool_call_id], recorder.media)
    return given


async def _replayed(recorder: Recorder, replay: Replay, call: ToolCallPart) -> tuple[Any] | None:
    """What a tool call returned before the interruption, or by the user's decision; None: execute it."""
    kept = replay.results.get(call.tool_call_id)
    if kept is not None and kept.outcome != "deferred":
        result = await kept_result(kept, recorder.media)
        if isinstance(result, (ModelRetry, ToolFailed)):
            raise result
        return (result,)
    decision = replay.decided.get(call.tool_call_id, True)
    if isinstance(decision, ToolDenied):
        return (decision,)
    return None if decision else (ToolDenied(),)


def _note_speaker(recorder: Recorder, *, is_model: bool) -> None:
    """Take note of who answers next, for when it is heard."""
    if recorder.first is not None:
        recorder.first.is_of_model = is_model


async def _within(
    budget: Budget, handler: WrapModelRequestHandler, request_context: ModelRequestContext
) -> ModelResponse:
    """Ask the model within the limits of the whole tree of runs."""
    return await budget.request(lambda: handler(request_context))


async def _at_hand(response: ModelResponse, _: ModelRequestContext) -> ModelResponse:
    return response


def _with_response(ctx: RunContext[Any], response: ModelResponse) -> Sequence[ModelMessage]:
    """The run's messages with a response that the graph is about to append."""
    stamped = replace(response, run_id=ctx.run_id) if response.run_id is None else response
    return ctx.messages if ctx.messages and ctx.messages[-1] is response else [*ctx.messages, stamped]
