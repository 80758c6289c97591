"""Members that do what the request says, by name, for tests of handoffs; and processes that run a team of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic_ai import Tool
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from tests.agents.resume_helpers import LEASE, die_at_commit, serve, storage_in
from tests.agents.resume_tools import Traces

from sessile import Agent, Storage, Team
from sessile.agents.history.past import Past
from sessile.agents.history.windows import Window

Heard = list[tuple[str, list[ModelMessage], AgentInfo]]
"""What each member was sent, in order."""


def over(to: str, reason: str = "") -> tuple[str, dict[str, Any]]:
    """The call by which a member hands over."""
    return "handoff", {"to": to, **({"reason": reason} if reason else {})}


def told(**lines: Any) -> str:
    """A request that says who makes which calls, one after the other: `told(front=[over("billing")])`."""
    return "\n".join(f"{name}: {json.dumps(calls)}" for name, calls in lines.items())


def play(name: str, heard: Heard | None = None) -> FunctionModel:
    """A model that makes the calls that its member is told to, one a response, and then answers with its name."""

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        if heard is not None:
            heard.append((name, list(messages), info))
        text, since = _asked(messages)
        calls = _calls(name, text)
        done = sum(isinstance(message, ModelResponse) for message in since)
        if done >= len(calls):
            return ModelResponse([TextPart(f"{name} answers.")])
        parts: list[Any] = []
        for index, (tool, arguments) in enumerate(calls[done] if isinstance(calls[done][0], list) else [calls[done]]):
            if tool == "say":
                parts.append(TextPart(arguments))
            else:
                parts.append(ToolCallPart(tool, arguments, tool_call_id=f"{name}_{len(messages)}_{index}"))
        return ModelResponse(parts)

    async def streamed(messages: list[ModelMessage], info: AgentInfo) -> Any:
        for index, part in enumerate(answer(messages, info).parts):
            if isinstance(part, TextPart):
                for piece in part.content.split(" "):
                    yield piece + " "
            elif isinstance(part, ToolCallPart):
                yield {index: DeltaToolCall(part.tool_name, json.dumps(part.args), tool_call_id=part.tool_call_id)}

    return FunctionModel(answer, stream_function=streamed)


def _asked(messages: Sequence[ModelMessage]) -> tuple[str, Sequence[ModelMessage]]:
    """The newest thing that a person has said, and what came after it."""
    for place in range(len(messages) - 1, -1, -1):
        said = [part for part in messages[place].parts if isinstance(part, UserPromptPart)]
        if said:
            content = said[-1].content
            text = content if isinstance(content, str) else "\n".join(one for one in content if isinstance(one, str))
            return text, messages[place + 1 :]
    return "", messages


def _calls(name: str, text: str) -> list[Any]:
    lines = [line.removeprefix(f"{name}: ") for line in text.splitlines() if line.startswith(f"{name}: [")]
    return json.loads(lines[-1]) if lines else []


def desk(*names: str, heard: Heard | None = None, traces: Traces | None = None, **options: Any) -> Team[Any]:
    """A team whose members hand over to each other; each may note something, and refund if somebody agrees."""

    def note(text: str) -> str:
        """Note something."""
        if traces is not None:
            traces.add(text)
        return f"noted {text}"

    def refund(amount: int) -> str:
        """Pay money back."""
        return f"paid {amount}"

    tools = [Tool(note, metadata={"idempotent": True}), Tool(refund, requires_approval=True)]
    history = options.pop("each", "all")
    members = [
        Agent(play(name, heard), name=name, description=f"Knows {name}.", tools=tools, history=history)
        for name in names or ("front", "billing", "tech")
    ]
    return Team(members, mode="handoff", **{"name": "desk", **options})


def lead(storage: Storage, session_id: str = "s") -> str | None:
    """Who answers in a session."""
    head = storage.get_session(session_id)
    assert head is not None
    return head.lead


class OnlyZero(Window):
    """A window that lets through one question and its answer."""

    async def select(self, past: Past) -> list[ModelMessage]:
        runs = await past.runs(past.numbers(10))
        return [message for run in runs if run.input == "Zero" for message in await past.messages(run)]


def _work(job: dict[str, Any]) -> None:
    """One run of a team in a process of its own, which dies at a commit."""
    folder = Path(job["folder"])
    traces = Traces(folder)
    storage = storage_in(folder, lease=LEASE)
    die_at_commit([storage], traces, *job["die"])
    desk(storage=storage, traces=traces, durability="step").run(job["prompt"], session_id="s")


if __name__ == "__main__":
    serve(_work)
