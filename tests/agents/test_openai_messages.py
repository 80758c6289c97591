"""Conversations in OpenAI's forms: what an agent goes on with, and what comes out for others."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic_ai import BinaryContent, BinaryImage, ImageUrl
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    RetryFeedbackPart,
    RetryInfo,
    SystemPromptPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel

from sessile import Agent, MemoryStorage
from sessile.agents import from_openai, to_openai
from sessile.errors import InvalidInputError, UnknownFormatError

RETRY: RetryInfo[Any] = RetryInfo(cause="validation_error")
PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
DATA = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"

CHAT: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "What is this, and how warm is it in Paris?"},
            {"type": "image_url", "image_url": {"url": DATA}},
            {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        ],
    },
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "warmth", "arguments": '{"of": "Paris"}'}}
        ],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "21"},
    {"role": "assistant", "content": "A picture. 21 degrees."},
]

ITEMS: list[dict[str, Any]] = [
    {"type": "message", "role": "system", "content": "Be brief."},
    {
        "type": "message",
        "role": "user",
        "content": [
            {"type": "input_text", "text": "What is this, and how warm is it in Paris?"},
            {"type": "input_image", "image_url": DATA},
            {"type": "input_image", "image_url": "https://example.com/a.png"},
        ],
    },
    {"type": "function_call", "call_id": "c1", "name": "warmth", "arguments": '{"of": "Paris"}'},
    {"type": "function_call_output", "call_id": "c1", "output": "21"},
    {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "A picture. 21 degrees."}],
    },
]


def shape(messages: list[ModelMessage]) -> list[list[Any]]:
    """What the messages say, without times."""
    return [[(part.part_kind, getattr(part, "content", None) or part.args) for part in m.parts] for m in messages]  # type: ignore[union-attr]


SHAPE: list[list[Any]] = [
    [
        ("system-prompt", "Be brief."),
        (
            "user-prompt",
            [
                "What is this, and how warm is it in Paris?",
                BinaryImage(PNG, media_type="image/png"),
                ImageUrl("https://example.com/a.png"),
            ],
        ),
    ],
    [("tool-call", '{"of": "Paris"}')],
    [("tool-return", "21")],
    [("text", "A picture. 21 degrees.")],
]


@pytest.mark.parametrize("messages", [CHAT, ITEMS], ids=["chat", "responses"])
def test_there_and_back(messages: list[dict[str, Any]]) -> None:
    loaded = from_openai(messages)
    assert shape(loaded) == SHAPE
    assert loaded[2].parts[0].tool_name == "warmth"  # type: ignore[union-attr]
    assert to_openai(loaded, api="chat" if messages is CHAT else "responses") == messages


def test_what_other_programs_write() -> None:
    """Items without a type, reasoning, calls of an older form, texts in parts, an answer and its calls as items."""
    loaded = from_openai(
        [
            {"role": "developer", "content": [{"type": "text", "text": "Be kind."}]},
            {"role": "user", "content": "Hello"},
            {"type": "reasoning", "summary": [], "encrypted_content": "…"},
            {"type": "web_search_call", "id": "w", "status": "completed"},
            {"role": "assistant", "content": [{"type": "output_text", "text": "Wait."}]},
            {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}", "id": "fc"},
            {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "seen"}]},
            {"role": "user", "content": "And?"},
            {"role": "assistant", "content": None, "function_call": {"name": "old", "arguments": "{}"}},
            {"role": "function", "name": "old", "content": "done"},
            {"role": "assistant", "content": None, "refusal": "No."},
        ]
    )
    assert [[part.part_kind for part in message.parts] for message in loaded] == [
        ["system-prompt", "user-prompt"],
        ["text", "tool-call"],
        ["tool-return", "user-prompt"],
        ["tool-call"],
        ["tool-return"],
        ["text"],
    ]
    assert [part.content for message in loaded for part in message.parts if isinstance(part, ToolReturnPart)] == [
        "seen",
        "done",
    ]


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]},
        {"role": "user", "content": [{"type": "hologram"}]},
        {"role": "user"},
        {"type": "computer_call", "call_id": "c"},
        {"role": "assistant", "content": 5},
    ],
)
def test_what_has_no_form(message: dict[str, Any]) -> None:
    with pytest.raises(UnknownFormatError):
        from_openai([message])


def test_what_pydantic_ai_has_more() -> None:
    messages: list[ModelMessage] = [
        ModelRequest(
            parts=[SystemPromptPart("s"), UserPromptPart(["a", BinaryContent(b"RIFF", media_type="audio/wav")])]
        ),
        ModelResponse(parts=[ThinkingPart("hm"), TextPart("a"), TextPart("b"), ToolCallPart("t", {"x": 1}, "c")]),
        ModelRequest(parts=[ToolReturnPart("t", "wrong", "c"), RetryFeedbackPart("again", retry=RETRY)]),
        ModelResponse(parts=[ThinkingPart("hm")]),
        ModelRequest(parts=[UserPromptPart([BinaryContent(b"%PDF", media_type="application/pdf")])]),
    ]
    chat = to_openai(messages)
    assert [one["role"] for one in chat] == ["system", "user", "assistant", "tool", "user", "user"]
    assert chat[1]["content"][1]["type"] == "input_audio"
    assert (chat[2]["content"], chat[2]["tool_calls"][0]["function"]["arguments"]) == ("a\n\nb", '{"x": 1}')
    assert chat[3]["tool_call_id"] == "c"
    assert chat[3]["content"].startswith("wrong")
    assert from_openai(chat)
    assert [one["type"] for one in to_openai(messages, api="responses")] == [
        *["message"] * 3,
        "function_call",
        "function_call_output",
        *["message"] * 2,
    ]


class Listening:
    """A model that remembers what it was sent."""

    def __init__(self) -> None:
        self.sent: list[list[ModelMessage]] = []
        self.model = FunctionModel(self._answer)

    def _answer(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        self.sent.append(messages)
        return ModelResponse(parts=[TextPart("ok")])

    @property
    def said(self) -> str:
        return str(shape(self.sent[-1]))


@pytest.mark.parametrize("messages", [CHAT, ITEMS], ids=["chat", "responses"])
def test_an_agent_goes_on_with_an_imported_conversation(messages: list[dict[str, Any]]) -> None:
    listening = Listening()
    then = datetime(2024, 2, 29, 12, tzinfo=UTC)
    with MemoryStorage() as storage:
        agent = Agent(listening.model, storage=storage, session_id="s")
        run = storage.add_run(
            "s", messages=messages, format="openai", started_at=then, ended_at=then + timedelta(seconds=3)
        )
        assert {message.format for message in run.messages} == {"openai"}
        stored = storage.get_run("s", 1)
        assert (stored.started_at, stored.ended_at) == (then, then + timedelta(seconds=3))
        assert agent.run("And in Rome?").output == "ok"
        assert [
            part for part in ("Be brief.", "how warm", "example.com/a.png", "'21'") if part not in listening.said
        ] == []
        assert [run.status for run in storage.runs("s")] == ["completed", "completed"]


def test_a_conversation_that_ends_in_an_open_call() -> None:
    listening = Listening()
    with MemoryStorage() as storage:
        agent = Agent(listening.model, storage=storage, session_id="s")
        storage.add_run("s", messages=CHAT[:3], format="openai")
        for question in ("Well?", "And now?"):
            assert agent.run(question).output == "ok"
        assert "tool-return" in listening.said


def test_what_cannot_be_sent_is_its_input_and_output() -> None:
    listening = Listening()
    with MemoryStorage() as storage:
        agent = Agent(listening.model, storage=storage, session_id="s")
        odd = [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]
        storage.add_run("s", input="Read this.", output="I did.", messages=odd, format="openai")
        storage.add_run("s", input="Of mine?", output="Yes.", messages=[{"mine": 1}], format="mine")
        assert agent.run("Well?").output == "ok"
        assert all(text in listening.said for text in ("Read this.", "I did.", "Of mine?", "Yes."))


def test_messages_without_a_format_are_pydantic_ais_or_refused() -> None:
    with MemoryStorage() as storage:
        own = {"kind": "request", "parts": [{"part_kind": "user-prompt", "content": "x"}]}
        assert storage.add_run("s", messages=[own]).messages[0].format == "pydantic-ai/2"
        for openais in ([CHAT[0]], [ITEMS[2]]):
            with pytest.raises(InvalidInputError, match="look like OpenAI's"):
                storage.add_run("s", messages=openais)
        for unknown in ([{"text": "x"}], [CHAT[0], own], [{}]):
            with pytest.raises(InvalidInputError, match="cannot be told"):
                storage.add_run("s", messages=unknown)
        with pytest.raises(InvalidInputError, match="cannot be told"):
            storage.amend_run("s", messages=[{"text": "x"}])
        now = datetime.now(UTC)
        with pytest.raises(InvalidInputError, match="before started_at"):
            storage.add_run("s", started_at=now, ended_at=now - timedelta(seconds=1))
