"""Tools answered from the log: a replay that does nothing in the world."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

from pydantic_ai import RunContext
from pydantic_ai.capabilities import AbstractCapability, ValidatedToolArgs, WrapToolExecuteHandler
from pydantic_ai.messages import ToolCallPart
from pydantic_ai.tools import AgentDepsT, ToolDefinition

from ..errors import SessileError
from ..insight.tooluses import ToolUse


class NotInLogError(SessileError):
    """A replayed run has called a tool in a way that the log has no answer to."""


@dataclass
class LoggedTools(AbstractCapability[AgentDepsT]):
    """Answers calls of tools with what the same calls, same tool and same arguments, have returned before.

    The same call made again gets the next answer, and after the last one that one again. No tool is executed.
    """

    _: KW_ONLY
    uses: Sequence[ToolUse] = field(default=(), repr=False)
    id: str | None = "sessile_logged_tools"
    _given: dict[str, int] = field(default_factory=dict[str, int], repr=False)

    async def wrap_tool_execute(
        self,
        ctx: RunContext[AgentDepsT],
        *,
        call: ToolCallPart,
        tool_def: ToolDefinition,
        args: ValidatedToolArgs,
        handler: WrapToolExecuteHandler,
    ) -> Any:
        """Answer from the log. Raises `NotInLogError` if it has no such call."""
        if tool_def.kind == "output":
            return await handler(args)
        key = _key(call.tool_name, call.args_as_dict())
        answers = [use.result for use in self.uses if _key(use.tool, use.args) == key]
        if not answers:
            raise NotInLogError(
                f"The log has no call of {call.tool_name} with {call.args_as_json_str()[:200]}.",
                hint='Run it with tools="live", if that may happen.',
            )
        place = self._given.get(key, 0)
        self._given[key] = place + 1
        return answers[min(place, len(answers) - 1)]


def _key(tool: str, args: Any) -> str:
    return f"{tool} {json.dumps(args or {}, sort_keys=True)}"
