"""The limits of a tree of runs: one count for a team's run and all that its members do, at the same time too."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from copy import deepcopy
from dataclasses import replace

from pydantic_ai import UsageLimits
from pydantic_ai.messages import ModelResponse
from pydantic_ai.usage import RunUsage


class Budget:
    """What all runs of a tree have used together, held against the limits of the run at its top."""

    def __init__(self, limits: UsageLimits, used: RunUsage) -> None:
        self._limits, self._used = limits, deepcopy(used)

    def count(self, usage: RunUsage) -> None:
        """Count what was used outside of this tree's own requests."""
        self._used.incr(usage)

    def answered(self, response: ModelResponse) -> None:
        """Count a request that was made before the process died."""
        self._used.requests += 1
        self._used.incr(response.usage)

    async def request(self, ask: Callable[[], Awaitable[ModelResponse]]) -> ModelResponse:
        """Ask a model, if that is within the limits; raises Pydantic AI's `UsageLimitExceeded` if it is not.

        A request counts from when it is made, so that those that are made at the same time see each other.
        """
        self._limits.check_before_request(self._used)
        self._limits.check_tokens(self._used)
        self._used.requests += 1
        try:
            response = await ask()
        except BaseException:
            self._used.requests -= 1
            raise
        self._used.incr(response.usage)
        return response

    def tool_call(self) -> None:
        """Count a tool call that is about to be made; raises `UsageLimitExceeded` if it is one too many."""
        more = replace(self._used, tool_calls=self._used.tool_calls + 1)
        self._limits.check_before_tool_call(more)
        self._used.tool_calls += 1
