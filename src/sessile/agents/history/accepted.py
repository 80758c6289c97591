"""Histories that the provider at hand accepts. docs/histories.md lists the rules of providers, and their sources.

A history is put together from runs of other days: of other models, other tools, runs that failed or were stopped in the
middle of a word. Each rule here is one that some provider answers with an error, which would come again with every
later run of the session.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeGuard

from pydantic_ai.exceptions import FallbackExceptionGroup, ModelHTTPError, UserError
from pydantic_ai.messages import (
    CachePoint,
    ModelMessage,
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    ModelResponsePart,
    NativeToolCallPart,
    NativeToolReturnPart,
    RetryFeedbackPart,
    RetryPromptPart,  # pyright: ignore[reportDeprecated] (messages of older versions have it)
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserContent,
    UserPromptPart,
    repair_messages,
)

from ..messages.counted import MADE_UP, made_up
from ..messages.spoken import as_text, plain_text
from ..messages.stored import to_plain

NO_ANSWER = "(No answer.)"
"""What is said in the place of an answer that never came."""

NO_TEXT = "(No text.)"
"""What is said in the place of an empty prompt."""

TOLD = "What the members of your team say:"
"""What goes before the answers of members that a team has asked in its leader's place."""

REFUSED = frozenset({400, 413, 415, 422})
"""The statuses by which providers refuse a request for what is in it."""

LONGEST_ID = 40
"""Of a tool call's id, as OpenAI's chat completions have it."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_GOOGLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,63}")
_PLAIN_ID = re.compile(r"[A-Za-z0-9_-]+")
_MISTRAL_ID = re.compile(r"[A-Za-z0-9]{9}")
_MISTRALS = re.compile("mistral|mixtral|pixtral|ministral|magistral|codestral|devstral|voxtral")


def accepted(
    messages: Sequence[ModelMessage], model: Any = None, following: Sequence[ModelMessage] = ()
) -> list[ModelMessage]:
    """Messages of earlier runs as a history that the provider of this model accepts, to be followed by a prompt.

    Of a run that goes on, its own messages are the `following`; the ids of their calls are theirs alone.

    Requests and responses alternate; none is empty; each tool call has its result, right after it, under an id of its
    own; a response does not end in thinking; names and ids are such as the provider takes. The messages themselves are
    not changed.
    """
    if _is_plain(messages):
        return list(messages)
    returned = {part.tool_call_id for m in messages for part in m.parts if isinstance(part, NativeToolReturnPart)}
    called = {part.tool_call_id for m in messages for part in m.parts if isinstance(part, NativeToolCallPart)}
    paired = returned & called
    answers = _without_lost_results(told(messages))
    sound = [_sound_request(m) if isinstance(m, ModelRequest) else _sound_response(m, paired) for m in answers]
    history = repair_messages(_alternating(sound))
    if history and isinstance(history[-1], ModelRequest):
        history.append(made_up(TextPart(NO_ANSWER)))
    taken = {call.tool_call_id for m in following if isinstance(m, ModelResponse) for call in m.tool_calls}
    return _named(history, provider_of(model), name_of(model), taken)


def _is_plain(messages: Sequence[ModelMessage]) -> bool:
    """Whether these are questions and answers in turn, each in words, which any provider takes as they are."""
    asked = True
    for message in messages:
        if len(message.parts) != 1 or message.kind != ("request" if asked else "response"):
            return False
        part: Any = message.parts[0]
        if type(part) is not (UserPromptPart if asked else TextPart) or not isinstance(part.content, str):
            return False
        if not part.content.strip() or (isinstance(message, ModelResponse) and message.state == "interrupted"):
            return False
        asked = not asked
    return asked


def provider_of(model: Any) -> str:
    """The name of a model's provider, of a model or of the name of one; empty if it is not known."""
    if isinstance(model, str):
        return model.partition(":")[0]
    return str(getattr(model, "system", ""))


def name_of(model: Any) -> str:
    """The name of a model without its provider, of a model or of its whole name; empty if it is not known."""
    if isinstance(model, str):
        return model.rpartition(":")[2]
    return str(getattr(model, "model_name", ""))


def asks(message: ModelMessage) -> bool:
    """Whether a user says something in it."""
    return isinstance(message, ModelRequest) and any(isinstance(part, UserPromptPart) for part in message.parts)


def is_refused(error: BaseException) -> bool:
    """Whether a request was refused for what is in it: by its provider, or by what writes it down for that."""
    if isinstance(error, FallbackExceptionGroup):
        return all(is_refused(one) for one in error.exceptions)
    if isinstance(error, ModelHTTPError):
        return error.status_code in REFUSED
    return isinstance(error, (NotImplementedError, UserError, UnicodeEncodeError))


# ---------------------------------------------------------------- what no model has said


def told(messages: Sequence[ModelMessage]) -> list[ModelMessage]:
    """The messages with tool calls that no model has made as words of the request before them.

    A team calls its members in the name of its leader. Providers look into the calls of a model: Anthropic's want the
    thinking that went before, Google's its signature. What was made up has neither, so it is told and not played.
    """
    if not any(_made_up_calls(message) for message in messages):
        return list(messages)
    result: list[ModelMessage] = []
    calls: dict[str, ToolCallPart] = {}
    for index, message in enumerate(messages):
        if _made_up_calls(message):
            calls = {call.tool_call_id: call for call in message.tool_calls}
            following = messages[index + 1] if index + 1 < len(messages) else None
            if not isinstance(following, ModelRequest):
                result.append(made_up(TextPart(NO_ANSWER)))
        elif calls and isinstance(message, ModelRequest):
            after = messages[index + 1] if index + 1 < len(messages) else None
            answered = isinstance(after, ModelResponse) and after.provider_name == MADE_UP and not after.tool_calls
            _tell(result, message, calls, said=answered)
            calls = {}
        else:
            result.append(message)
    return result


def _made_up_calls(message: ModelMessage) -> TypeGuard[ModelResponse]:
    return isinstance(message, ModelResponse) and message.provider_name == MADE_UP and bool(message.tool_calls)


def _tell(result: list[ModelMessage], message: ModelRequest, calls: dict[str, ToolCallPart], *, said: bool) -> None:
    """Put what the calls returned into the request before them, unless it is the very answer that follows."""
    returns = [part for part in message.parts if isinstance(part, ToolReturnPart) and part.tool_call_id in calls]
    rest = [part for part in message.parts if part not in returns]
    lines = [f"{_called(calls[part.tool_call_id])}: {as_text(to_plain(part.content))}" for part in returns]
    told_parts = [] if said or not lines else [UserPromptPart("\n\n".join([TOLD, *lines]))]
    if result and isinstance(result[-1], ModelRequest):
        request = result.pop()
        result.append(_sound_request(replace(message, parts=[*request.parts, *told_parts, *rest])))
    elif told_parts or rest:
        result.append(replace(message, parts=[*told_parts, *rest]))


def _called(call: ToolCallPart) -> str:
    member = call.args_as_dict().get("member")
    return member if isinstance(member, str) else call.tool_name


# ---------------------------------------------------------------- one message


def _sound_response(response: ModelResponse, paired: set[str]) -> ModelResponse:
    """A response without what cannot be sent again; perhaps without anything."""
    cut = response.state == "interrupted"
    kept = [part for part in response.parts if not _unsendable(part, paired, cut=cut)]
    while kept and isinstance(kept[-1], ThinkingPart):
        kept.pop()
    parts = [_with_arguments(part) for part in kept]
    if len(parts) == len(response.parts) and all(
        one is other for one, other in zip(parts, response.parts, strict=True)
    ):
        return response
    if cut:  # without the thinking that they came after, the provider's ids of the others mean nothing to it
        parts = [replace(part, id=None) if isinstance(part, (TextPart, ToolCallPart)) else part for part in parts]
    return replace(response, parts=parts)


def _unsendable(part: ModelResponsePart, paired: set[str], *, cut: bool) -> bool:
    if isinstance(part, TextPart):
        return not part.content.strip()
    if isinstance(part, ThinkingPart):
        return cut  # it has no signature yet
    return isinstance(part, (NativeToolCallPart, NativeToolReturnPart)) and part.tool_call_id not in paired


def _with_arguments(part: ModelResponsePart) -> ModelResponsePart:
    """A tool call whose arguments are a JSON object; what a model wrote instead stands in one."""
    if not isinstance(part, ToolCallPart) or not isinstance(part.args, str):
        return part
    arguments = part.args_as_dict()
    return replace(part, args=arguments) if "INVALID_JSON" in arguments else part


def _sound_request(request: ModelRequest) -> ModelRequest:
    """A request whose prompts say something, in one part if they stand together."""
    parts: list[ModelRequestPart] = []
    for part in request.parts:
        last = parts[-1] if parts else None
        if isinstance(part, UserPromptPart):
            part = _worded(part)
            if isinstance(last, UserPromptPart):
                parts[-1] = replace(last, content=_both(last.content, part.content))
                continue
        parts.append(part)
    if not any(_is_said(part) for part in parts):
        parts.append(UserPromptPart(NO_TEXT))
    return request if _same(parts, request.parts) else replace(request, parts=parts)


def _same(parts: Sequence[Any], others: Sequence[Any]) -> bool:
    """Whether nothing was changed."""
    return len(parts) == len(others) and all(one is other for one, other in zip(parts, others, strict=True))


def _is_said(part: ModelRequestPart) -> bool:
    """Whether a part is sent as a message of the user's side, and not beside the conversation."""
    kinds = (UserPromptPart, ToolReturnPart, RetryPromptPart, RetryFeedbackPart)  # pyright: ignore[reportDeprecated]
    return isinstance(part, kinds) or part.part_kind in ("speech", "compaction")


def _worded(part: UserPromptPart) -> UserPromptPart:
    content = part.content
    if isinstance(content, str):
        return part if content.strip() else replace(part, content=NO_TEXT)
    said = [item for item in content if not isinstance(item, str) or item.strip()]
    if all(isinstance(item, CachePoint) for item in said):
        return replace(part, content=NO_TEXT)
    return part if len(said) == len(content) else replace(part, content=said)


def _both(one: str | Sequence[UserContent], other: str | Sequence[UserContent]) -> str | Sequence[UserContent]:
    if isinstance(one, str) and isinstance(other, str):
        return f"{one}\n\n{other}"
    return [*([one] if isinstance(one, str) else one), *([other] if isinstance(other, str) else other)]


# ---------------------------------------------------------------- their order


def _without_lost_results(messages: Sequence[ModelMessage]) -> list[ModelMessage]:
    """The messages without results of tools that do not follow their call, or requests that hold nothing else."""
    result: list[ModelMessage] = []
    waiting: list[str] = []
    for message in messages:
        if isinstance(message, ModelResponse):
            waiting = [call.tool_call_id for call in message.tool_calls]
            result.append(message)
            continue
        parts: list[ModelRequestPart] = []
        for part in message.parts:
            named: object = part
            called = named.tool_call_id if _has_name(named) else None
            if called is not None:
                if called not in waiting:
                    continue
                waiting.remove(called)
            parts.append(part)
        if parts or not (message.parts or waiting):  # an empty one begins a run that had no prompt
            result.append(message if _same(parts, message.parts) else replace(message, parts=parts))
    return result


def _alternating(messages: Sequence[ModelMessage]) -> list[ModelMessage]:
    """Requests and responses in turns, from a request on."""
    result: list[ModelMessage] = []
    for message in messages:
        last = result[-1] if result else None
        if isinstance(message, ModelResponse):
            if not message.parts:
                continue
            if last is None:
                result.append(ModelRequest(parts=[UserPromptPart(NO_TEXT)]))
            elif isinstance(last, ModelResponse) and not last.tool_calls:
                result[-1] = replace(last, parts=[*last.parts, *message.parts], state="complete")
                continue
        elif isinstance(last, ModelRequest):
            if _is_about_nothing(message):
                continue
            if not any(isinstance(part, ToolReturnPart) for part in message.parts):
                result.append(made_up(TextPart(NO_ANSWER)))
        result.append(message)
    return result


def _is_about_nothing(request: ModelRequest) -> bool:
    """Whether a request only complains of a response that has said nothing, and is not sent."""
    return all(
        isinstance(part, RetryFeedbackPart) or (isinstance(part, RetryPromptPart) and part.tool_name is None)  # pyright: ignore[reportDeprecated]
        for part in request.parts
    )


# ---------------------------------------------------------------- names and ids


def fitting(messages: Sequence[ModelMessage], model: Any) -> list[ModelMessage]:
    """The messages of a run that goes on, with names and ids of tool calls that its model takes.

    It may have begun with a model of another provider. What is stored, and what is asked about its calls, keeps the
    ids of that one.
    """
    return _named(messages, provider_of(model), name_of(model), set())


def _named(messages: Sequence[ModelMessage], provider: str, model: str, seen: set[str]) -> list[ModelMessage]:
    """The messages with names and ids of tool calls that the provider takes, no id twice, and none of those `seen`."""
    pattern = _GOOGLE_NAME if provider.startswith("google") else _NAME
    form = _form_of_ids(provider, model.lower())
    renamed: dict[str, list[str]] = {}
    result: list[ModelMessage] = []
    for message in messages:
        if isinstance(message, ModelResponse):
            renamed = {}
        parts = list(_named_parts(message.parts, pattern, form, seen, renamed))
        result.append(message if _same(parts, message.parts) else replace(message, parts=parts))
    return result


def _form_of_ids(provider: str, model: str) -> re.Pattern[str] | None:
    """How ids of calls look that a model takes, whoever serves it; None: of any characters."""
    if provider == "mistral" or _MISTRALS.search(model):
        return _MISTRAL_ID
    return _PLAIN_ID if provider in ("anthropic", "bedrock") or "claude" in f"{provider} {model}" else None


def _named_parts(
    parts: Sequence[Any],
    pattern: re.Pattern[str],
    form: re.Pattern[str] | None,
    seen: set[str],
    renamed: dict[str, list[str]],
) -> Iterator[Any]:
    for part in parts:
        if not _has_name(part):
            yield part
            continue
        if isinstance(part, ToolCallPart):
            given = _id_of(part.tool_call_id, seen, form)
            renamed.setdefault(part.tool_call_id, []).append(given)
        else:
            waiting = renamed.get(part.tool_call_id) or [part.tool_call_id]
            given = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        name = _name_of(part.tool_name or "", pattern)
        same = (name, given) == (part.tool_name, part.tool_call_id)
        yield part if same else replace(part, tool_name=name, tool_call_id=given)


def _has_name(part: Any) -> TypeGuard[ToolCallPart | ToolReturnPart | RetryPromptPart]:  # pyright: ignore[reportDeprecated]
    """Whether a part is of a tool call."""
    if isinstance(part, RetryPromptPart):  # pyright: ignore[reportDeprecated]
        return part.tool_name is not None
    return isinstance(part, (ToolCallPart, ToolReturnPart))


def _id_of(call_id: str, seen: set[str], form: re.Pattern[str] | None) -> str:
    """The id of a call, or one made of it: shorter, of other characters, or one that no call before it has had."""
    wanted, count = call_id, 1
    if len(call_id) > LONGEST_ID or not call_id or (form is not None and not form.fullmatch(call_id)):
        wanted = f"c{_digest(call_id)}" if form is _MISTRAL_ID else f"call_{_digest(call_id)}"
    while wanted in seen:
        count += 1
        wanted = f"c{_digest(f'{call_id} {count}')}" if form is _MISTRAL_ID else f"call_{_digest(call_id)}_{count}"
    seen.add(wanted)
    return wanted


def _name_of(name: str, pattern: re.Pattern[str]) -> str:
    if pattern.fullmatch(name):
        return name
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", name)
    plain = plain if _NAME.match(plain) else f"_{plain}"
    return plain if len(plain) <= 64 else f"{plain[:55]}_{_digest(name)}"


def _digest(text: str) -> str:
    return f"{zlib.crc32(text.encode(errors='surrogatepass')):08x}"


# ---------------------------------------------------------------- the plainest form


def plain(messages: Sequence[ModelMessage]) -> list[ModelMessage]:
    """A history as nothing but questions and answers in words: what any model takes that takes text.

    Media are named, tool calls and thinking left out, and what cannot be encoded is replaced.
    """
    pairs: list[tuple[list[str], list[str]]] = []
    for message in messages:
        if isinstance(message, ModelRequest):
            asked = [plain_text(part.content) for part in message.parts if isinstance(part, UserPromptPart)]
            if asked or not pairs:
                pairs.append((asked, []))
        else:
            if not pairs:
                pairs.append(([], []))
            pairs[-1][1].extend(part.content for part in message.parts if isinstance(part, TextPart))
    result: list[ModelMessage] = []
    for asked, said in pairs:
        question, answer = sound_text("\n\n".join(asked)), sound_text("".join(said))
        result.append(ModelRequest(parts=[UserPromptPart(question if question.strip() else NO_TEXT)]))
        result.append(made_up(TextPart(answer if answer.strip() else NO_ANSWER)))
    return result


def sound_text(text: str) -> str:
    """The text without what has no encoding: lone surrogates."""
    return text.encode(errors="replace").decode()
