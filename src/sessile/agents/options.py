"""What runs are given: prompts, decisions, and what is passed on to Pydantic AI as it is.

Pydantic AI's documentation says what each of its options means.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypedDict

from pydantic_ai import AgentCapability, AgentRetries, EndStrategy, Tool, ToolApproved, ToolDenied, UsageLimits
from pydantic_ai.agent import EventStreamHandler
from pydantic_ai.messages import ModelMessage, UserContent
from pydantic_ai.models import KnownModelName, Model
from pydantic_ai.output import OutputSpec
from pydantic_ai.settings import ModelSettings
from pydantic_ai.toolsets import AbstractToolset, AgentToolset

from ..records import JsonObject, UserId

Prompt = str | Sequence[UserContent]
"""What the user says: text, or a sequence of text, images and other content."""

Approval = bool | ToolApproved | ToolDenied
"""A decision about a tool call that waits for one."""


class AgentOptions(TypedDict, total=False):
    """Further arguments of `pydantic_ai.Agent`."""

    instructions: Any
    system_prompt: str | Sequence[str]
    deps_type: Any
    description: str | None
    model_settings: ModelSettings | Callable[..., ModelSettings] | None
    retries: int | AgentRetries | None
    validation_context: Any
    tools: Sequence[Tool[Any] | Callable[..., Any]]
    toolsets: Sequence[AgentToolset[Any]] | None
    defer_model_check: bool
    end_strategy: EndStrategy
    metadata: Any
    tool_timeout: float | None
    max_concurrency: Any
    capabilities: Sequence[AgentCapability[Any]] | None


class RunOptions(TypedDict, total=False):
    """Further arguments of `pydantic_ai.Agent.run`, for one run.

    Of a team's run, `members` says who works in it: names of the team's members, or agents and teams.
    """

    output_type: OutputSpec[Any]
    model: Model | KnownModelName | str
    instructions: Any
    message_history: Sequence[ModelMessage] | None
    deps: Any
    model_settings: ModelSettings | Callable[..., ModelSettings] | None
    usage_limits: UsageLimits | None
    timeout: float | None
    metadata: Any
    retries: int | AgentRetries | None
    toolsets: Sequence[AbstractToolset[Any]] | None
    event_stream_handler: EventStreamHandler[Any] | None
    capabilities: Sequence[AgentCapability[Any]] | None
    members: Sequence[Any] | None


class StreamOptions(RunOptions, total=False):
    """The arguments of `Agent.stream` beside the prompt."""

    session_id: str | None
    user_id: UserId
    run_id: str | None
    run_metadata: JsonObject | None
