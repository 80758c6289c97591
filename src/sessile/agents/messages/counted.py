"""What models have used, as Pydantic AI counts it and as the log does.

Responses that no model was asked for (`made_up`) count nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any, TypeGuard

from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    ModelResponsePart,
    ToolReturnPart,
)
from pydantic_ai.usage import RunUsage

from ...records import Usage

MADE_UP = "sessile"
"""The provider of responses that no model was asked for."""

NOTHING = Usage()
"""What counts begin with. A count is replaced, never changed in place."""


def plus(one: Usage, other: Usage) -> Usage:
    """What both have used; mostly the other one is `NOTHING`."""
    return one if other is NOTHING else one + other


def usage_of(usage: RunUsage, messages: Iterable[ModelMessage] | None = None) -> Usage:
    """Pydantic AI's usage as ours.

    That count adds up what is known of the cost; whether it is all is seen by the `messages` that it was made of.
    """
    cost: Any = getattr(usage, "cost", None)
    made = Usage(
        requests=usage.requests,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        tool_calls=usage.tool_calls,
        cost=cost,
    )
    if messages is not None and made.unpriced is not None:
        made.unpriced = unpriced_in(messages)
    return made


def unpriced_in(messages: Iterable[ModelMessage]) -> int:
    """How many of the responses that a model was asked for have no known price."""
    return sum(asked_for(message) and message.usage.cost is None for message in messages)


def asked_for(message: ModelMessage) -> TypeGuard[ModelResponse]:
    """Whether it is a response of a model."""
    return isinstance(message, ModelResponse) and message.provider_name != MADE_UP


def models_asked(messages: Iterable[ModelMessage]) -> Usage:
    """How often models were asked for these messages, and what of it has which price; no tokens."""
    requests = unpriced = 0
    cost: Decimal | None = None
    for message in messages:
        if asked_for(message):
            requests += 1
            if message.usage.cost is None:
                unpriced += 1
            else:
                cost = message.usage.cost + (cost or 0)
    asked = Usage(requests=requests, cost=cost)
    asked.unpriced = unpriced
    return asked


def count_responses(messages: Iterable[ModelMessage]) -> RunUsage:
    """What the models have used that were asked for these messages."""
    count = RunUsage()
    for message in messages:
        if asked_for(message):
            count.incr(message.usage)
            count.requests += 1
    return count


def count_returned(messages: Iterable[ModelMessage]) -> int:
    """How many tool calls have returned something, out of these messages."""
    requests = [message for message in messages if isinstance(message, ModelRequest)]
    return sum(_has_returned(part) for message in requests for part in message.parts)


def _has_returned(part: ModelRequestPart) -> bool:
    """Whether a part is what a tool has returned, as Pydantic AI counts it: not a refusal, nor the run's output."""
    return isinstance(part, ToolReturnPart) and part.outcome == "success" and part.content != OUTPUT_TAKEN


OUTPUT_TAKEN = "Final result processed."
"""What Pydantic AI gives as the result of a tool call that was a run's structured answer."""


def made_up(*parts: ModelResponsePart) -> ModelResponse:
    """A response that no model was asked for: what a team does of itself, as its leader would say it."""
    return ModelResponse(parts=list(parts), provider_name=MADE_UP)


def run_usage(usage: Usage) -> RunUsage:
    """Our usage as Pydantic AI's, for limits that span the session."""
    return RunUsage(
        requests=usage.requests,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        tool_calls=usage.tool_calls,
        cost=usage.known_cost if usage.nano_dollars else None,
    )
