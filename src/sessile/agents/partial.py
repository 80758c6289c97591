"""What an answer is as far as it has come: pieces of text, or objects that are not whole yet."""

from __future__ import annotations

import time
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from types import UnionType
from typing import Annotated, Any, Union, cast, get_args, get_origin

from pydantic import ValidationError
from pydantic_ai import DeferredToolRequests
from pydantic_ai.agent import EventStreamHandler
from pydantic_ai.exceptions import ModelRetry, UnexpectedModelBehavior, UserError
from pydantic_ai.messages import AgentStreamEvent, FinalResultEvent, FunctionToolCallEvent, FunctionToolResultEvent
from pydantic_ai.result import AgentStream

from ..live.result import RunResult
from ..live.streams import Put, text_delta

SHARE = 5
"""One part in so many of a stream's time may go into validating what has come so far: each time reads all of it."""

_NOTHING: Any = object()


def types_of(output_type: Any) -> Sequence[Any]:
    """The types that an output specification names."""
    if isinstance(output_type, Sequence) and not isinstance(output_type, str):
        return [kind for part in cast("Sequence[Any]", output_type) for kind in types_of(part)]
    if get_origin(output_type) in (Union, UnionType, Annotated):
        return get_args(output_type)
    return (output_type,)


def is_text(output_type: Any) -> bool:
    """Whether nothing but text comes of an output specification, so that its pieces can be told."""
    return all(kind in (str, DeferredToolRequests) for kind in types_of(output_type))


def told_to(put: Put, *, events: bool, text: bool) -> EventStreamHandler[Any]:
    """A handler that puts a run's events into a stream, or the pieces of its text, or its output as far as it is."""

    async def take(context: Any, stream: AsyncIterable[AgentStreamEvent]) -> None:
        if not (events or text):
            async for _ in with_partial(stream, put):
                pass
            return
        async for event in stream:
            item = event if events else text_delta(event)
            if item:
                put(item)

    return take


def tools_told_to(put: Put) -> EventStreamHandler[Any]:
    """A handler that puts only what tools do into a stream: what the model says is for others to see first."""

    async def take(context: Any, stream: AsyncIterable[AgentStreamEvent]) -> None:
        async for event in stream:
            if isinstance(event, (FunctionToolCallEvent, FunctionToolResultEvent)):
                put(event)

    return take


async def with_partial(stream: AsyncIterable[AgentStreamEvent], put: Put) -> AsyncIterator[AgentStreamEvent]:
    """The events of a stream, while what the output is so far is put into another one each time that it has grown."""
    begun, last, after = False, _NOTHING, 0.0
    async for event in stream:
        yield event
        begun = begun or isinstance(event, FinalResultEvent)
        if not begun or not isinstance(stream, AgentStream) or (now := time.monotonic()) < after:
            continue
        output = await _so_far(cast("AgentStream[Any, Any]", stream))
        ended = time.monotonic()
        after = ended + (SHARE - 1) * (ended - now)
        if output is not _NOTHING and (last is _NOTHING or output != last):
            last = output
            put(output)


async def _so_far(stream: AgentStream[Any, Any]) -> Any:
    """The output that a response has brought so far, validated as what is not whole yet; or nothing."""
    try:
        output = await stream.validate_response_output(stream.response, allow_partial=True)
    except (ValidationError, ModelRetry, UnexpectedModelBehavior, UserError):
        return _NOTHING
    return _NOTHING if output is None or isinstance(output, DeferredToolRequests) else output


def put_last(put: Put, result: RunResult[Any], *, events: bool, text: bool) -> RunResult[Any]:
    """Put what has come of a run into its stream, unless it was put there in pieces; returns the result."""
    if not events and result.status == "completed" and (not text or result.agent_result is None):
        put(result.output)
    return result
