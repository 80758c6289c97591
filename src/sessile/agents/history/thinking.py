"""A run that continues with Claude: thought through from its beginning, or not at all.

Anthropic's extended thinking is of a whole turn, all of its tool calls included: with a budget the turn must begin with
thinking, without thinking nothing of it may stand there. A run that began with another model, or with other settings,
has the wrong one. Adaptive thinking asks for neither.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, cast

from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, ThinkingPart
from pydantic_ai.models import Model, ModelRequestContext
from pydantic_ai.models.fallback import FallbackModel

from .accepted import asks, name_of, provider_of

Thinking = Literal["enabled", "adaptive", "off"]
"""How Claude is asked to think: within a budget, as it likes, or not at all."""

_MODES: dict[str, Thinking] = {"enabled": "enabled", "adaptive": "adaptive", "disabled": "off"}

BEDROCK = "bedrock_additional_model_requests_fields"
"""The setting that has what Bedrock passes on to a model."""


def in_one_mode(context: ModelRequestContext) -> ModelRequestContext:
    """The request with a turn that is either thought through, or has no thinking at all, as Claude wants it."""
    model = context.model
    if isinstance(model, FallbackModel) or "claude" not in f"{provider_of(model)} {name_of(model)}".lower():
        return context
    mode = _mode(context)
    turn = _turn(context.messages)
    if mode == "enabled" and turn and not _begins_with_thinking(model, turn[0]):
        context = replace(context, model_settings=_without_thinking(context.model_settings))
        mode = "off"
    if mode != "off" or not any(_thoughts(model, response) for response in turn):
        return context
    first = len(context.messages) - _length(context.messages)
    rest = [_thoughtless(model, message) for message in context.messages[first:]]
    kept = [message for message in rest if isinstance(message, ModelRequest) or message.parts]
    return replace(context, messages=[*context.messages[:first], *kept])


def _length(messages: Sequence[ModelMessage]) -> int:
    """How many messages there are since a user has said something."""
    for count, message in enumerate(reversed(messages)):
        if asks(message):
            return count
    return len(messages)


def _turn(messages: Sequence[ModelMessage]) -> list[ModelResponse]:
    """What the model has said since the user has."""
    since = messages[len(messages) - _length(messages) :]
    return [message for message in since if isinstance(message, ModelResponse)]


def _begins_with_thinking(model: Model, response: ModelResponse) -> bool:
    return bool(response.parts) and response.parts[0] in _thoughts(model, response)


def _thoughts(model: Model, response: ModelResponse) -> list[ThinkingPart]:
    """What is sent to the model as its own thinking; what others have thought is sent as text."""
    thoughts = [part for part in response.parts if isinstance(part, ThinkingPart) and part.signature]
    return [part for part in thoughts if model.accepts_stateless_artifacts(response, part)]


def _thoughtless(model: Model, message: ModelMessage) -> ModelMessage:
    if not isinstance(message, ModelResponse) or not (thoughts := _thoughts(model, message)):
        return message
    return replace(message, parts=[part for part in message.parts if part not in thoughts])


# ---------------------------------------------------------------- what is asked for


def _mode(context: ModelRequestContext) -> Thinking | None:
    """How the model is asked to think by the settings, in the order in which Pydantic AI looks at them."""
    settings = cast("Mapping[str, Any]", context.model_settings or {})
    profile: Mapping[str, Any] = cast("Mapping[str, Any]", context.model.profile)
    for asked in (
        _passed_on(settings, "extra_body"),
        settings.get("anthropic_thinking"),
        _passed_on(settings, BEDROCK),
    ):
        if isinstance(asked, Mapping) and (kind := cast("Mapping[str, Any]", asked).get("type")):
            return _MODES.get(str(kind))
    unified = context.model_request_parameters.thinking
    unified = settings.get("thinking") if unified is None else unified
    if profile.get("thinking_always_enabled") or (unified is None and profile.get("thinking_enabled_by_default")):
        return "adaptive"
    if unified is None or unified is False:
        return "off"
    adapts = profile.get("anthropic_supports_adaptive_thinking") or profile.get("bedrock_supports_adaptive_thinking")
    return "adaptive" if adapts else "enabled"


def _passed_on(settings: Mapping[str, Any], key: str) -> Any:
    """The thinking in a setting that is passed on to the provider as it is."""
    fields: Any = settings.get(key)
    return cast("Mapping[str, Any]", fields).get("thinking") if isinstance(fields, Mapping) else None


def _without_thinking(given: Mapping[str, Any] | None) -> Any:
    """Settings by which the model does not think."""
    settings: dict[str, Any] = {key: value for key, value in (given or {}).items() if key != "anthropic_thinking"}
    for key in ("extra_body", BEDROCK):
        if _passed_on(settings, key) is not None:
            settings[key] = {name: value for name, value in settings[key].items() if name != "thinking"}
    return settings | {"thinking": False}
