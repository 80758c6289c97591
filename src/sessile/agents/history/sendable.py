"""The messages of earlier runs as they may be sent to a model again: which runs, and what of each."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import replace
from typing import Any, TypeGuard, cast

from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    TextPart,
    ToolReturnPart,
    UserPromptPart,
)

from ...records import FINISHED, JsonObject, Run
from ..messages.counted import OUTPUT_TAKEN, made_up
from ..messages.spoken import as_text, plain_text
from ..messages.stored import to_plain
from .accepted import accepted, sound_text
from .past import Past, SessionPast

SENT = FINISHED | {"paused"}
"""The statuses of runs that are sent along."""

UNDECIDED = "Not executed yet: this call waits for a decision of the user's."
"""What is sent in the place of the result of a call that nobody has decided about."""

WAITING = "(I am waiting for the decision about this.)"
"""What ends a run that waits for a decision, where it is sent along with the next one."""


async def sendable(past: Past, runs: Sequence[Run]) -> list[list[ModelMessage]]:
    """The messages of runs that a model has answered: of each that may be sent along, in their order.

    Of a run that waits for a decision its calls are sent as not decided, because what the user says next may be about
    them. A run that is running, or was interrupted and can be resumed, is not sent: it may still go on.
    """
    result: list[list[ModelMessage]] = []
    for run in runs:
        if (run.status in SENT or _stopped(run)) and not filtered(run):
            messages = await past.messages(run)
            if answered(messages):
                result.append(_closed(run, messages))
    return result


async def sent(past: Past, numbers: Sequence[int]) -> list[list[ModelMessage]]:
    """What is `sendable` of the runs of these numbers, without making again what is known.

    That is asked of no other past than the session's own: one that a window has put around it may say less of a run.
    """
    if type(past) is not SessionPast:
        return await sendable(past, await past.runs(numbers))
    found = {number: messages for number, messages in past.known(numbers).items() if answered(messages)}
    others = [number for number in numbers if number not in found]
    for run in await past.runs(others) if others else ():
        for group in await sendable(past, [run]):
            past.know(run, group)
            found[run.number] = group
    return [found[number] for number in numbers if number in found]


def _stopped(run: Run) -> bool:
    """Whether a run was interrupted that cannot be resumed, because its steps are not stored: it stays as it is."""
    return run.status == "interrupted" and run.durability != "step"


def _closed(run: Run, messages: list[ModelMessage]) -> list[ModelMessage]:
    if run.status == "completed":
        return messages
    if run.status == "paused":
        return _undecided(messages)
    return accepted(harmless(messages) if run.status == "failed" else messages)


def _undecided(messages: Sequence[ModelMessage]) -> list[ModelMessage]:
    """The messages of a paused run, the calls that it waits for closed."""
    returned = {part.tool_call_id for m in messages for part in m.parts if isinstance(part, ToolReturnPart)}
    calls = messages[-1].tool_calls if isinstance(messages[-1], ModelResponse) else []
    open_calls = [call for call in calls if call.tool_call_id not in returned]
    results = [ToolReturnPart(call.tool_name, UNDECIDED, call.tool_call_id) for call in open_calls]
    closing: list[ModelMessage] = [ModelRequest(parts=list(results))] if results else []
    return [*messages, *closing, made_up(TextPart(WAITING))]


UNANSWERED = 2_000
"""How many characters of a tool's result are sent again that no model has answered."""


def filtered(run: Run) -> bool:
    """Whether a provider has refused to say anything about a run, by its content filter.

    It judges whole requests: sent again, what it has found would block every later question.
    """
    if run.status == "completed":
        return False
    last: Any = run.messages[-1].data if run.messages else None
    ended = cast(JsonObject, last).get("finish_reason") if isinstance(last, dict) else None
    return ended == "content_filter" or (run.error or {}).get("type") == "ContentFilterError"


def harmless(messages: Sequence[ModelMessage]) -> list[ModelMessage]:
    """The messages of a failed run without what may have made it fail, and would make every later run fail, too.

    A request may have been refused for what a tool has returned: because it is too long, an image that the model does
    not take, or text that cannot be sent. So of a last request that was not answered only short, sound text is left.
    """
    *before, last = messages
    if not isinstance(last, ModelRequest):
        return list(messages)
    return [*before, replace(last, parts=[_harmless(part) for part in last.parts])]


def _harmless(part: ModelRequestPart) -> ModelRequestPart:
    if isinstance(part, ToolReturnPart):
        return replace(part, content=_short(as_text(to_plain(part.content))))
    return replace(part, content=_short(plain_text(part.content))) if isinstance(part, UserPromptPart) else part


def _short(text: str) -> str:
    sound = sound_text(text)
    return sound if len(sound) <= UNANSWERED else f"{sound[:UNANSWERED]} … (cut off)"


def flat(groups: Sequence[Sequence[ModelMessage]]) -> list[ModelMessage]:
    """Groups of messages as one list."""
    return [message for group in groups for message in group]


def question_and_answer(messages: Sequence[ModelMessage]) -> list[ModelMessage]:
    """The first prompt and the last answer of a run's messages: its text in one piece; a structured one as JSON."""
    requests = [message for message in messages if isinstance(message, ModelRequest)]
    prompts = [part for message in requests for part in message.parts if isinstance(part, UserPromptPart)]
    results = {part.tool_call_id for m in requests for part in m.parts if _is_of_output(part)}
    answers = (_answer(message, results) for message in reversed(messages) if isinstance(message, ModelResponse))
    answer = next((answer for answer in answers if answer), None)
    said: list[ModelMessage] = [ModelResponse(parts=[TextPart(answer)])] if answer else []
    return [*(ModelRequest(parts=[part]) for part in prompts[:1]), *said]


def _is_of_output(part: ModelRequestPart) -> TypeGuard[ToolReturnPart]:
    return isinstance(part, ToolReturnPart) and part.content == OUTPUT_TAKEN


def _answer(response: ModelResponse, outputs: Container[str]) -> str:
    """What a response says: of a structured answer, the arguments of the call that it was made by."""
    taken = [call.args_as_json_str() for call in response.tool_calls if call.tool_call_id in outputs]
    return "\n".join(taken) or _words(response)


def _words(response: ModelResponse) -> str:
    return "".join(part.content for part in response.parts if isinstance(part, TextPart)).strip()


def answered(messages: Sequence[ModelMessage]) -> bool:
    """Whether a model has said anything: what was refused or cut off before that is not worth sending again."""
    return any(isinstance(message, ModelResponse) and _says(message) for message in messages)


def _says(response: ModelResponse) -> bool:
    return any(
        part.part_kind in _SAYING or (isinstance(part, TextPart) and bool(part.content.strip()))
        for part in response.parts
    )


_SAYING = frozenset(("tool-call", "file", "speech"))
"""The kinds of parts, beside text, by which a model says something."""
