"""What arrived on the wire, in one form for both protocols, and the checks that OpenAI makes on it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]


class BadRequest(Exception):
    """The request is one that OpenAI would refuse with status 400."""

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code


@dataclass(frozen=True)
class Call:
    """One tool call of the assistant; `arguments` is the text as it travels, valid JSON or not."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class Turn:
    """One message: `role` is system, user, assistant or tool (developer counts as system).

    `calls` is only filled for the assistant, `call_id` and `name` only for a tool result.
    """

    role: str
    text: str
    calls: tuple[Call, ...] = ()
    call_id: str = ""
    name: str = ""


@dataclass(frozen=True)
class Tool:
    """One function tool that the request offers."""

    name: str
    description: str
    schema: Json


@dataclass(frozen=True)
class Conversation:
    """One request, without anything that differs between the two protocols.

    `must_call`: the answer has to be a tool call. `forced`: the one tool it has to be, if it says so.
    `output_schema`: the JSON schema that the answer's text has to follow, if any.
    """

    turns: tuple[Turn, ...]
    instructions: tuple[str, ...] = ()
    tools: tuple[Tool, ...] = ()
    must_call: bool = False
    forced: str | None = None
    output_schema: Json | None = None

    @property
    def system_text(self) -> str:
        """Instructions and all system and developer messages, in order, one per line."""
        return "\n".join([*self.instructions, *(turn.text for turn in self.turns if turn.role == "system")])

    @property
    def user_texts(self) -> list[str]:
        """The texts of all user messages, oldest first."""
        return [turn.text for turn in self.turns if turn.role == "user"]

    @property
    def last_user_text(self) -> str:
        """The text of the newest user message, empty if there is none."""
        return self.user_texts[-1] if self.user_texts else ""

    @property
    def since_last_user(self) -> tuple[Turn, ...]:
        """What came after the newest user message: tool calls and their results."""
        users = [index for index, turn in enumerate(self.turns) if turn.role == "user"]
        return self.turns[users[-1] + 1 :] if users else self.turns

    @property
    def input_tokens(self) -> int:
        """Tokens of everything that arrived except the tool definitions."""
        texts = list(self.instructions)
        for turn in self.turns:
            texts.append(turn.text)
            texts.extend(f"{call.name} {call.arguments}" for call in turn.calls)
        return sum(count_tokens(text) for text in texts)


def count_tokens(text: str) -> int:
    """The number of tokens of a text as this server counts them: words and punctuation marks."""
    return len(re.findall(r"\w+|[^\w\s]", text))


def parse_chat(body: Json) -> Conversation:
    """Read a body of /v1/chat/completions; raises `BadRequest` where OpenAI would refuse it."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRequest("Invalid 'messages': empty array or missing.", param="messages")
    names: dict[str, str] = {}
    turns = [_chat_turn(message, names) for message in messages]
    _check_chat_order(turns)
    must_call, forced = _tool_choice(body.get("tool_choice"))
    response_format = body.get("response_format") or {}
    schema = (response_format.get("json_schema") or {}).get("schema")
    tools = tuple(
        _tool(tool["function"]) for tool in body.get("tools") or () if tool.get("type", "function") == "function"
    )
    return Conversation(tuple(turns), (), tools, must_call, forced, schema)


def parse_responses(body: Json) -> Conversation:
    """Read a body of /v1/responses; raises `BadRequest` where OpenAI would refuse it."""
    if previous := body.get("previous_response_id"):
        message = f"Previous response with id '{previous}' not found."
        raise BadRequest(message, param="previous_response_id", code="previous_response_not_found")
    items = body.get("input")
    if isinstance(items, str):
        items = [{"role": "user", "content": items}]
    if not isinstance(items, list):
        raise BadRequest("Missing required parameter: 'input'.", param="input")
    _check_items(items)
    must_call, forced = _tool_choice(body.get("tool_choice"))
    text_format = (body.get("text") or {}).get("format") or {}
    instructions = body.get("instructions")
    return Conversation(
        tuple(_item_turns(items)),
        (instructions,) if isinstance(instructions, str) and instructions else (),
        tuple(_tool(tool) for tool in body.get("tools") or () if tool.get("type") == "function"),
        must_call,
        forced,
        text_format.get("schema") if text_format.get("type") == "json_schema" else None,
    )


def _content_text(content: Any) -> str:
    """The text of a content field; a part that is not text is named by its type in brackets."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    parts: list[str] = []
    for part in content:
        if isinstance(part, str):
            parts.append(part)
        else:
            text = part.get("text", part.get("refusal"))
            parts.append(text if isinstance(text, str) else f"[{part.get('type', 'unknown')}]")
    return "\n".join(parts)


def _role(role: Any) -> str:
    if role not in ("system", "developer", "user", "assistant", "tool"):
        raise BadRequest(f"Invalid value: {role!r} is no role.", param="messages")
    return "system" if role == "developer" else str(role)


def _chat_turn(message: Json, names: dict[str, str]) -> Turn:
    """One chat message as a turn; `names` collects the tool names by call id for the results that follow."""
    role = _role(message.get("role"))
    text = _content_text(message.get("content"))
    if role == "tool":
        call_id = str(message.get("tool_call_id", ""))
        return Turn(role, text, call_id=call_id, name=names.get(call_id, "unknown"))
    calls = tuple(
        Call(call["id"], call["function"]["name"], call["function"]["arguments"])
        for call in message.get("tool_calls") or ()
    )
    names.update((call.id, call.name) for call in calls)
    return Turn(role, text, calls)


def _check_chat_order(turns: list[Turn]) -> None:
    """Every tool call has its result directly behind its message, and every result has its call before it."""
    open_calls: list[str] = []
    for turn in [*turns, Turn("end", "")]:
        if turn.role == "tool":
            if turn.call_id not in open_calls:
                raise BadRequest(
                    "Invalid parameter: messages with role 'tool' must be a response to a preceding message "
                    f"with 'tool_calls' (tool_call_id {turn.call_id!r}).",
                    param="messages",
                )
            open_calls.remove(turn.call_id)
        elif open_calls:
            raise BadRequest(
                "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
                "'tool_call_id'. The following tool_call_ids did not have response messages: " + ", ".join(open_calls),
                param="messages",
            )
        else:
            open_calls = [call.id for call in turn.calls]


def _check_items(items: list[Json]) -> None:
    """No item id twice, every function call has its output, every output its call."""
    seen: set[str] = set()
    for item in items:
        item_id = item.get("id")
        if item_id is not None and item_id in seen:
            raise BadRequest(f"Duplicate item found with id {item_id}. Remove duplicate items.", param="input")
        seen.add(str(item_id))
    calls = [item["call_id"] for item in items if item.get("type") == "function_call"]
    outputs = [item["call_id"] for item in items if item.get("type") == "function_call_output"]
    for call_id in calls:
        if call_id not in outputs:
            raise BadRequest(f"No tool output found for function call {call_id}.", param="input")
    for call_id in outputs:
        if call_id not in calls:
            raise BadRequest(f"No tool call found for function call output with call_id {call_id}.", param="input")


def _item_turns(items: list[Json]) -> list[Turn]:
    """Input items as turns: the text and the calls of one answer become one assistant turn."""
    turns: list[Turn] = []
    names: dict[str, str] = {}
    for item in items:
        kind = item.get("type", "message")
        if kind == "message":
            turns.append(Turn(_role(item.get("role")), _content_text(item.get("content"))))
        elif kind == "function_call":
            call = Call(item["call_id"], item["name"], item["arguments"])
            names[call.id] = call.name
            before = turns.pop() if turns and turns[-1].role == "assistant" else Turn("assistant", "")
            turns.append(Turn("assistant", before.text, (*before.calls, call)))
        elif kind == "function_call_output":
            call_id = item["call_id"]
            turns.append(Turn("tool", _content_text(item.get("output")), call_id=call_id, name=names[call_id]))
    return turns


def _tool(definition: Json) -> Tool:
    return Tool(
        definition["name"],
        definition.get("description") or "",
        definition.get("parameters") or {"type": "object"},
    )


def _tool_choice(choice: Any) -> tuple[bool, str | None]:
    """Whether a tool call is demanded, and the name of the tool if it has to be a certain one."""
    if isinstance(choice, dict):
        if choice.get("type") == "function":
            return True, choice.get("name") or choice["function"]["name"]
        return (choice.get("allowed_tools") or choice).get("mode") == "required", None
    return choice == "required", None
