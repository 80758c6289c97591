"""What the model answers: a function of the messages that arrived, and of nothing else."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass

from .schema import generate
from .wire import Call, Conversation, Json, Tool, count_tokens

CAPITALS = {"france": "Paris", "italy": "Rome", "japan": "Tokyo", "germany": "Berlin"}

_CALL = re.compile(r"^\s*(then\s+)?call\s+([\w.-]+)\s+(\{.*)$", re.IGNORECASE)
_OUTPUT = re.compile(r"^\s*output\s+(?:([\w.-]+)\s+)?(\{.*)$", re.IGNORECASE | re.MULTILINE)
_SUMMARIZE = re.compile(r"\bsummari[sz]e\b", re.IGNORECASE)
_NAME = re.compile(r"(?i:\bmy name is) ([\w'-]+(?: [A-Z][\w'-]*)*)")
_CAPITAL = re.compile(r"capital of (\w+)", re.IGNORECASE)


@dataclass(frozen=True)
class Reply:
    """One answer: text, or tool calls, or both."""

    text: str = ""
    calls: tuple[Call, ...] = ()

    @property
    def output_tokens(self) -> int:
        """Tokens of the text and of all calls."""
        return count_tokens(self.text) + sum(count_tokens(f"{call.name} {call.arguments}") for call in self.calls)


def answer(conversation: Conversation) -> Reply:
    """The model's reply to a conversation; the same conversation always gets the same one."""
    user = conversation.last_user_text
    summarizing = _SUMMARIZE.search(user) is not None
    stages = [] if summarizing else call_stages(user)
    done = sum(1 for turn in conversation.since_last_user if turn.calls)
    if done < len(stages):
        return Reply(calls=_with_ids(conversation, stages[done]))
    special = _tool_results(conversation) if stages else _known_answer(conversation)
    return _finish(conversation, special)


def call_stages(text: str) -> list[list[tuple[str, str]]]:
    """The tool calls a text asks for: batches of (name, arguments), each batch made after the one before it.

    Lines `call TOOL {json}` make one batch; a line `then call TOOL {json}` begins the next.
    """
    stages: list[list[tuple[str, str]]] = []
    for line in text.splitlines():
        if match := _CALL.match(line):
            later, name, arguments = match.groups()
            if later or not stages:
                stages.append([])
            stages[-1].append((name, arguments.strip()))
    return stages


def _finish(conversation: Conversation, special: str | None) -> Reply:
    """Give the answer the form that is asked for: text, text after a schema, or a call of an output tool.

    A line `output {json}` or `output TOOL {json}` of the user sets fields of what is made from the schema; if
    it holds no JSON object, it is sent as it is.
    """
    text = special if special is not None else f"You said: {conversation.last_user_text}"
    wanted = _OUTPUT.search(conversation.last_user_text)
    tool = _output_tool(conversation, wanted[1] if wanted else None)
    given = wanted[2].strip() if wanted else None
    if tool is not None and (conversation.must_call or wanted or special is None):
        return Reply(calls=_with_ids(conversation, [(tool.name, _filled(tool.schema, text, given))]))
    if conversation.output_schema is not None:
        return Reply(_filled(conversation.output_schema, text, given))
    return Reply(given or text)


def _filled(schema: Json, text: str, given: str | None) -> str:
    """JSON text after a schema, with the given fields in place of the made ones."""
    made = generate(schema, text)
    if given is None or not isinstance(made, dict):
        return json.dumps(made)
    try:
        return json.dumps({**made, **json.loads(given)})
    except (TypeError, ValueError):
        return given


def _output_tool(conversation: Conversation, wanted: str | None) -> Tool | None:
    """The tool that takes the final answer, if any: the wanted one, else the first that looks like one."""
    tools = {tool.name: tool for tool in conversation.tools}
    name = conversation.forced or wanted
    if name is not None and name in tools:
        return tools[name]
    for tool in conversation.tools:
        if tool.name.startswith("final_result") or "final response" in tool.description:
            return tool
    return conversation.tools[-1] if conversation.must_call and conversation.tools else None


def _with_ids(conversation: Conversation, calls: list[tuple[str, str]]) -> tuple[Call, ...]:
    """Calls with ids made from all that arrived and their own place: repeatable, and unique in a history."""
    seen = repr((conversation.instructions, conversation.turns))
    made: list[Call] = []
    for index, (name, arguments) in enumerate(calls):
        digest = hashlib.sha256(repr((seen, index, name, arguments)).encode("utf-8", "surrogatepass")).hexdigest()
        made.append(Call(f"call_{digest[:24]}", name, arguments))
    return tuple(made)


def _tool_results(conversation: Conversation) -> str:
    results = [f"{turn.name}={turn.text}" for turn in conversation.since_last_user if turn.role == "tool"]
    return "Tool results: " + "; ".join(results)


def _known_answer(conversation: Conversation) -> str | None:
    """The answer to one of the questions this model knows, or None."""
    user = conversation.last_user_text
    question = user.lower()
    if _SUMMARIZE.search(user) or _SUMMARIZE.search(conversation.system_text):
        return _summary(conversation)
    if "show your instructions" in question:
        return conversation.system_text or "I have no instructions."
    if "what was my last question" in question:
        earlier = conversation.user_texts[:-1]
        return f"Your last question was: {earlier[-1]}" if earlier else "You have not asked anything before."
    if "what is my name" in question:
        return _name(conversation)
    if "how many messages do you see" in question:
        return _count(conversation)
    if match := _CAPITAL.search(user):
        capital = CAPITALS.get(match[1].lower())
        if capital is None:
            return f"I do not know the capital of {match[1]}."
        return f"The capital of {match[1].capitalize()} is {capital}."
    return None


def _name(conversation: Conversation) -> str:
    for text in reversed(conversation.user_texts[:-1]):
        if match := _NAME.search(text):
            return f"Your name is {match[1]}."
    return "I do not know your name."


def _count(conversation: Conversation) -> str:
    """Counts user messages (this one included), answers (their tool calls included) and tool results."""
    roles = [turn.role for turn in conversation.turns if turn.role != "system"]
    user, assistant, tool = (roles.count(role) for role in ("user", "assistant", "tool"))
    return f"I see {len(roles)} messages: {user} user, {assistant} assistant, {tool} tool."


def _summary(conversation: Conversation) -> str:
    """A summary of the user messages, without the one that asks for it, unless that is all there is."""
    texts = conversation.user_texts
    if len(texts) > 1 and _SUMMARIZE.search(texts[-1]):
        texts = texts[:-1]
    heads = "; ".join(" ".join(text.split())[:40] for text in texts)
    return f"Summary of {len(texts)} user messages: {heads}"
