"""A stand-in for Anthropic's service that refuses what it refuses about thinking; docs/histories.md has the sources."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import anthropic
import httpx2
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.providers.anthropic import AnthropicProvider

THOUGHTS = ("thinking", "redacted_thinking")


class Claude:
    """Answers by what `says` gives (a list of blocks for each request, in turn), after it has looked at the request."""

    def __init__(self, says: Sequence[list[dict[str, Any]]], *, refuses: str = "") -> None:
        """With `refuses` it takes no request in which a tool has that name, whatever the reason."""
        self._says, self._refuses = list(says), refuses
        self.taken: list[dict[str, Any]] = []
        self.refused: list[str] = []

    def model(self, name: str = "claude-sonnet-4-5") -> AnthropicModel:
        client = httpx2.AsyncClient(transport=httpx2.MockTransport(self._answer))
        made = anthropic.AsyncAnthropic(api_key="x", max_retries=0, http_client=client)
        return AnthropicModel(name, provider=AnthropicProvider(anthropic_client=made))

    def _answer(self, request: Any) -> Any:
        body = json.loads(request.content)
        faults = [*violations(body), *self._others(body)]
        if faults:
            self.refused += faults
            error = {"type": "invalid_request_error", "message": faults[0]}
            return httpx2.Response(400, json={"type": "error", "error": error})
        self.taken.append(body)
        content = self._says.pop(0)
        stop = "tool_use" if any(block["type"] == "tool_use" for block in content) else "end_turn"
        message = {
            "id": "m",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "stop_sequence": None,
            "usage": {"input_tokens": 1, "output_tokens": 1},
        }
        if not body.get("stream"):
            return httpx2.Response(200, json=message | {"content": content, "stop_reason": stop})
        events = list(_events(message | {"content": [], "stop_reason": None}, content, stop))
        text = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)
        return httpx2.Response(200, text=text, headers={"content-type": "text/event-stream"})

    def _others(self, body: dict[str, Any]) -> list[str]:
        names = [block["name"] for message in body["messages"] for block in blocks_of(message, "tool_use")]
        return [f"this server takes no {self._refuses}"] if self._refuses in names else []


def _events(message: dict[str, Any], content: list[dict[str, Any]], stop: str) -> Iterator[dict[str, Any]]:
    yield {"type": "message_start", "message": message}
    for index, block in enumerate(content):
        empty = block | {"text": ""} if block["type"] == "text" else block
        yield {"type": "content_block_start", "index": index, "content_block": empty}
        if block["type"] == "text":
            delta = {"type": "text_delta", "text": block["text"]}
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    yield {
        "type": "message_delta",
        "delta": {"stop_reason": stop, "stop_sequence": None},
        "usage": {"output_tokens": 1},
    }
    yield {"type": "message_stop"}


def blocks_of(message: dict[str, Any], *kinds: str) -> list[dict[str, Any]]:
    content = message["content"]
    return [] if isinstance(content, str) else [block for block in content if block["type"] in kinds]


def mode_of(body: dict[str, Any]) -> str:
    """How a request asks for thinking."""
    asked: dict[str, Any] = body.get("thinking") or {}
    return str(asked.get("type", "disabled"))


def violations(body: dict[str, Any]) -> Iterator[str]:
    """With a budget the final assistant turn begins with thinking; without thinking it has none; adaptive asks neither.

    The turn is all that the assistant has said since the user has said anything but results.
    """
    mode = mode_of(body)
    messages = body["messages"]
    asked = max(i for i, m in enumerate(messages) if m["role"] == "user" and not blocks_of(m, "tool_result"))
    turn = [(i, m["content"]) for i, m in enumerate(messages) if i > asked and m["role"] == "assistant"]
    if mode == "enabled" and turn and turn[0][1][0]["type"] not in THOUGHTS:
        place, content = turn[0]
        yield (
            f"messages.{place}.content.0.type: Expected `thinking` or `redacted_thinking`, but found "
            f"`{content[0]['type']}`. When `thinking` is enabled, a final `assistant` message must start with a "
            "thinking block (preceeding the lastmost set of `tool_use` and `tool_result` blocks)."
        )
    for place, content in turn if mode == "disabled" else ():
        if any(block["type"] in THOUGHTS for block in content):
            yield (
                f"messages.{place}.content.0: When thinking is disabled, an `assistant` message in the final position "
                "cannot contain `thinking`. To use thinking blocks, enable `thinking` in your request."
            )


def thinks() -> dict[str, Any]:
    return {"type": "thinking", "thinking": "hm", "signature": "signed"}


def says(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def calls(tool: str, id: str = "toolu_1") -> dict[str, Any]:
    return {"type": "tool_use", "id": id, "name": tool, "input": {}}
