"""The session's state in instructions: `{key}` in their text stands for the value under that key.

Only in text that the developer wrote as instructions of an agent or of a run. What functions, toolsets and servers
contribute may hold other people's text, which must not choose what of the state is shown to the model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from pydantic_ai.messages import AgentInstructionSource, InstructionPart, RunInstructionSource
from pydantic_ai.models import ModelRequestContext

from ..storage.encoding import encode

_PLACEHOLDER = re.compile(r"\{((?:(?:user|app|temp):)?[A-Za-z_][\w]*(?:\.[\w]+)*)\}")


def fill_placeholders(text: str, state: Mapping[str, Any]) -> str:
    """`text` with each `{key}` (or `{key.inner}`) that the state has replaced by its value.

    Text stands as it is, other values as JSON. Braces that name no key of the state are left alone, so that
    instructions may hold JSON examples.
    """

    def value(match: re.Match[str]) -> str:
        node: Any = state
        for key in match[1].split("."):
            if not isinstance(node, Mapping) or key not in node:
                return match[0]
            node = cast(Mapping[str, Any], node)[key]
        return node if isinstance(node, str) else encode(node)

    return _PLACEHOLDER.sub(value, text) if "{" in text else text


def shown_by(instructions: Any, state: Mapping[str, Any]) -> list[str]:
    """The literals among instructions with the state put into their placeholders, in their order."""
    if isinstance(instructions, (list, tuple)):
        return [text for item in cast(list[Any], instructions) for text in shown_by(item, state)]
    text = instructions.content if isinstance(instructions, InstructionPart) else instructions
    return [fill_placeholders(text, state)] if isinstance(text, str) and "{" in text else []


def may_have_placeholders(instructions: Any) -> bool:
    """Whether instructions have a literal with a brace."""
    if isinstance(instructions, (list, tuple)):
        return any(may_have_placeholders(item) for item in cast(list[Any], instructions))
    text = instructions.content if isinstance(instructions, InstructionPart) else instructions
    return isinstance(text, str) and "{" in text


def given_for_a_run(instructions: Any) -> Any:
    """Instructions of one run, their literals named: only by that Pydantic AI tells them from a toolset's."""
    if isinstance(instructions, str):
        return InstructionPart(content=instructions, name="literal")
    if isinstance(instructions, (list, tuple)):
        given = cast(list[Any], instructions)
        return [
            InstructionPart(content=item, name=f"literal-{index}") if isinstance(item, str) else item
            for index, item in enumerate(given)
        ]
    return instructions


def with_state(request_context: ModelRequestContext, state: Mapping[str, Any]) -> ModelRequestContext:
    """The request with the state in its instructions' placeholders."""
    parts = request_context.model_request_parameters.instruction_parts
    if parts and any("{" in part.content and _is_literal(part) for part in parts):
        request_context.model_request_parameters = replace(
            request_context.model_request_parameters, instruction_parts=[_filled(part, state) for part in parts]
        )
    return request_context


def _filled(part: InstructionPart, state: Mapping[str, Any]) -> InstructionPart:
    return replace(part, content=fill_placeholders(part.content, state)) if _is_literal(part) else part


def _is_literal(part: InstructionPart) -> bool:
    """Whether it is text that was given as instructions to the agent or to the run."""
    source = None if part.id is None else part.id.source
    return not part.dynamic and isinstance(source, (AgentInstructionSource, RunInstructionSource))


def may_be_filled(options: Mapping[str, Any]) -> bool:
    """Whether what is passed to Pydantic AI has instructions with placeholders, or may bring history processors."""
    return bool(options.get("capabilities")) or may_have_placeholders(options.get("instructions"))
