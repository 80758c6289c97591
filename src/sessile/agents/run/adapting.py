"""A run that goes on, perhaps with another model than the one that began it: what it has said fits that model."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from datetime import datetime
from typing import Any

from pydantic_ai import RetryModelRequest, RunContext
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models import ModelRequestContext

from ..history.accepted import asks, fitting, is_refused, provider_of
from ..history.thinking import in_one_mode
from ..history.worded import in_words

logger = logging.getLogger("sessile")


@dataclass
class Adapting(AbstractCapability[Any]):
    """Makes each request of a resumed run one that its model accepts; what is stored stays as it is.

    Attributes:
        earlier: the run's messages from before it was resumed.
    """

    _: KW_ONLY
    earlier: Sequence[ModelMessage] = field(default=(), repr=False)
    id: str | None = "sessile_adapting"
    _answered: datetime | None = field(default=None, init=False, repr=False)
    _worded: bool = field(default=False, init=False, repr=False)

    async def prepare_model_request(
        self, ctx: RunContext[Any], request_context: ModelRequestContext
    ) -> ModelRequestContext:
        """Make what was said before fit the model that is asked."""
        messages = request_context.messages
        if self._worded:
            place = self._place(messages)
            messages = [*in_words(messages[:place], sum(map(asks, self.earlier))), *messages[place:]]
        return in_one_mode(replace(request_context, messages=fitting(messages, request_context.model)))

    async def after_model_request(
        self, ctx: RunContext[Any], *, request_context: ModelRequestContext, response: ModelResponse
    ) -> ModelResponse:
        """The model takes what was said before: what it refuses later is about something else."""
        self._answered = self._answered or response.timestamp
        return response

    async def on_model_request_error(
        self, ctx: RunContext[Any], *, request_context: ModelRequestContext, error: Exception
    ) -> ModelResponse:
        """Ask a model once more that does not take what was said before, which is then told in words."""
        if self._answered is not None or self._worded or not is_refused(error):
            raise error
        logger.warning(
            "A run that goes on was refused by %s, and is tried once more with what it has done told in words: %s",
            provider_of(request_context.model) or "the model",
            error,
        )
        self._worded = True
        raise RetryModelRequest

    def _place(self, messages: Sequence[ModelMessage]) -> int:
        """Where that begins which this model has said itself."""
        said = (i for i, m in enumerate(messages) if isinstance(m, ModelResponse) and m.timestamp == self._answered)
        return next(said, len(messages))
