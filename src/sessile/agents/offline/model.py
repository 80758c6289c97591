"""A small model that needs no network and no key: a stand-in for trying things out, not a language model.

Its answers are a function of the messages and instructions that it is given, and of nothing else, so what it
remembers is what the history holds.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    ModelResponsePart,
    ModelResponseStreamEvent,
    SystemPromptPart,
    TextContent,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserContent,
    UserPromptPart,
)
from pydantic_ai.models import Model, ModelRequestParameters, StreamedResponse
from pydantic_ai.profiles import ModelProfile
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import RunContext
from pydantic_ai.usage import RequestUsage

from .answers import ABOUT, INTRODUCTION, Heard, say
from .schema import example

NAME = "offline"

_CALL = re.compile(r"\bcall (?P<tool>[\w-]+) (?=\{)", re.IGNORECASE)
_MOST_CALLS = 100
_TOKEN = re.compile(r"\w+|[^\w\s]")
_FRAME = re.compile(r"<(?:system|pyai:)")

_OUTCOMES = {
    "success": "returned",
    "failed": "failed",
    "denied": "was denied",
    "interrupted": "was interrupted",
    "retried": "asked again",
}

Call = tuple[str, dict[str, Any]]


class OfflineModel(Model):
    """A deterministic stand-in for a language model, for demonstrations, examples and tests.

    It finds facts in what it is given ("My name is Ada." … "What is my name?"), quotes earlier questions, counts
    messages, knows a few capitals, can summarize, fills structured outputs with plausible values, and streams word
    by word. A user's text `call TOOL {json}` makes it call that tool, several such calls all of them at once, and
    report what came back. The usage that it reports is an estimate from the text.

    Args:
        introduce: whether the first answer of a conversation ends with a line that says what it comes from.
        settings: as for every model of Pydantic AI; without effect here.
    """

    def __init__(self, *, introduce: bool = True, settings: ModelSettings | None = None) -> None:
        profile = ModelProfile(supports_inline_system_prompts=True, supports_json_schema_output=True)
        super().__init__(settings=settings, profile=profile)
        self._introduce = introduce

    @property
    def model_name(self) -> str:
        """`offline`."""
        return NAME

    @property
    def system(self) -> str:
        """`offline`: there is no provider behind it."""
        return NAME

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """The answer to these messages; the same messages always get the same one."""
        _, parameters = self.prepare_request(model_settings, model_request_parameters)
        heard = _listen(messages, parameters)
        parts = self._answer(heard, parameters)
        usage = RequestUsage(input_tokens=heard.tokens, output_tokens=_count_parts(parts))
        return ModelResponse(parts=parts, usage=usage, model_name=NAME, provider_name=NAME, finish_reason="stop")

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AsyncGenerator[StreamedResponse]:
        """The same answer as `request`, word by word."""
        _, parameters = self.prepare_request(model_settings, model_request_parameters)
        heard = _listen(messages, parameters)
        yield OfflineStream(parameters, self._answer(heard, parameters), heard.tokens)

    async def count_tokens(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> RequestUsage:
        """The estimate of input tokens that `request` reports, without an answer."""
        _, parameters = self.prepare_request(model_settings, model_request_parameters)
        return RequestUsage(input_tokens=_listen(messages, parameters).tokens)

    def _answer(self, heard: Heard, parameters: ModelRequestParameters) -> list[ModelResponsePart]:
        tools = {tool.name for tool in parameters.function_tools}
        calls = wanted_calls(heard.question)
        if calls and not heard.called and all(name in tools for name, _ in calls):
            return _call_parts(calls, heard)
        text = say(heard, sorted(tools), [name for name, _ in calls if name not in tools])
        if parameters.output_object is not None:
            return [TextPart(json.dumps(example(parameters.output_object.json_schema, text)))]
        if parameters.output_tools and not parameters.allow_text_output:
            tool = parameters.output_tools[0]
            return _call_parts([(tool.name, example(tool.parameters_json_schema, text))], heard)
        first = self._introduce and not heard.answered and text != ABOUT and not heard.summarizes
        return [TextPart(f"{text}\n{INTRODUCTION}" if first else text)]


@dataclass
class OfflineStream(StreamedResponse):
    """An answer of the offline model that arrives word by word."""

    _parts: list[ModelResponsePart]
    _input_tokens: int
    _time: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __post_init__(self) -> None:
        self._usage += RequestUsage(input_tokens=self._input_tokens)

    async def _get_event_iterator(self) -> AsyncIterator[ModelResponseStreamEvent]:
        for index, part in enumerate(self._parts):
            if isinstance(part, TextPart):
                for word in re.findall(r"\s*\S+|\s+", part.content):
                    await asyncio.sleep(0)  # as from a network: others get their turn between two words
                    self._usage += RequestUsage(output_tokens=count_tokens(word))
                    for event in self._parts_manager.handle_text_delta(vendor_part_id=index, content=word):
                        yield event
            elif isinstance(part, ToolCallPart):
                self._usage += RequestUsage(output_tokens=_count_parts([part]))
                yield self._parts_manager.handle_part(vendor_part_id=index, part=part)
        self.finish_reason = "stop"

    async def close_stream(self) -> None:
        """Nothing is open."""

    @property
    def model_name(self) -> str:
        """`offline`."""
        return NAME

    @property
    def provider_name(self) -> str:
        """`offline`."""
        return NAME

    @property
    def provider_url(self) -> None:
        """There is none."""
        return

    @property
    def timestamp(self) -> datetime:
        """When the answer began."""
        return self._time


# ---------------------------------------------------------------- what arrived


def _listen(messages: Sequence[ModelMessage], parameters: ModelRequestParameters) -> Heard:
    heard = Heard()
    prompts: list[str] = []
    for message in messages:
        if isinstance(message, ModelRequest):
            _hear_request(message, heard, prompts)
        else:
            texts = [part.content for part in message.parts if isinstance(part, TextPart) and part.content]
            heard.answered += 1 if texts else 0
            heard.called += 1 if any(isinstance(part, ToolCallPart) for part in message.parts) else 0
            heard.tokens += _count_parts(message.parts)
    if parameters.instruction_parts is not None:
        prompts += [part.content for part in parameters.instruction_parts]
    else:
        prompts += [text for message in messages[-1:] if (text := getattr(message, "instructions", None))]
    heard.instructions = "\n".join(prompts)
    heard.tokens += count_tokens(heard.instructions)
    return heard


def _hear_request(message: ModelRequest, heard: Heard, prompts: list[str]) -> None:
    for part in message.parts:
        if isinstance(part, UserPromptPart):
            text = _text_of(part.content)
            heard.tokens += count_tokens(text)
            if text and not _FRAME.search(text):  # what a framework adds in the user's place is not the user's
                heard.ask(text, part.timestamp.isoformat())
        elif isinstance(part, ToolReturnPart):
            text = part.model_response_str(wrap_if_error=False)
            heard.tokens += count_tokens(text)
            heard.results.append(f"{part.tool_name} {_OUTCOMES.get(part.outcome, part.outcome)}: {text}")
        elif isinstance(part, SystemPromptPart):
            prompts.append(part.content)


def _text_of(content: str | Sequence[UserContent]) -> str:
    if isinstance(content, str):
        return content.strip()
    texts = [item.content if isinstance(item, TextContent) else item for item in content]
    return "\n".join(text for text in texts if isinstance(text, str)).strip()


def count_tokens(text: str) -> int:
    """An estimate of tokens: words and marks."""
    return len(_TOKEN.findall(text))


def _count_parts(parts: Iterable[ModelResponsePart]) -> int:
    total = 0
    for part in parts:
        if isinstance(part, TextPart):
            total += count_tokens(part.content)
        elif isinstance(part, ToolCallPart):
            total += count_tokens(f"{part.tool_name} {part.args_as_json_str()}")
    return total


# ---------------------------------------------------------------- tools


def wanted_calls(text: str) -> list[Call]:
    """The tool calls that a text asks for with `call TOOL {json}`, in order; what is no JSON object asks for none.

    Only so many places are looked at: what is no JSON costs as much as all the text before it.
    """
    calls: list[Call] = []
    for match in islice(_CALL.finditer(text), _MOST_CALLS):
        try:
            arguments, _ = json.JSONDecoder().raw_decode(text, match.end())
        except ValueError:
            continue
        calls.append((match["tool"], arguments))
    return calls


def _call_parts(calls: Sequence[Call], heard: Heard) -> list[ModelResponsePart]:
    """The calls, under ids that are the same for the same messages and differ between runs."""
    parts: list[ModelResponsePart] = []
    for index, (name, arguments) in enumerate(calls):
        seed = f"{heard.asked_at} {heard.called} {index} {name}"
        call_id = f"offline_{hashlib.sha256(seed.encode()).hexdigest()[:16]}"
        parts.append(ToolCallPart(name, arguments, tool_call_id=call_id))
    return parts
