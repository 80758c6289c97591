"""What was stored as a run's input can be run again; and a history that a caller gives is sent, and not stored."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic_ai import BinaryContent, ImageUrl
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, TextPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from sessile import Agent, SqliteStorage
from sessile.errors import InvalidInputError


class Heard:
    """A model that says how many messages it was sent, and remembers them."""

    def __init__(self) -> None:
        self.messages: list[ModelMessage] = []

    def __call__(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        self.messages = list(messages)
        return ModelResponse(parts=[TextPart(f"{len(messages)} messages")])

    @property
    def prompt(self) -> Any:
        """The last prompt."""
        part = self.messages[-1].parts[-1]
        assert isinstance(part, UserPromptPart)
        return part.content


def same(one: Any, other: Any) -> bool:
    """Whether two prompts say the same: Pydantic AI reads an image back as its class for images."""
    text, image, link = one
    return (text, image.data, image.media_type, link.url) == (
        other[0],
        other[1].data,
        other[1].media_type,
        other[2].url,
    )


@pytest.mark.parametrize("size", [100, 100_000])
def test_a_stored_input_with_media_is_run_again(size: int, storage: SqliteStorage) -> None:
    heard = Heard()
    agent = Agent(FunctionModel(heard), storage=storage)
    image = BinaryContent(b"\x89PNG\r\n\x1a\n" + bytes(size), media_type="image/png")
    prompt = ["Look", image, ImageUrl(url="https://example.com/a.png")]
    agent.run(prompt, session_id="s")
    first = storage.runs("s")[0].input
    assert agent.run(first, session_id="s").number == 2
    assert same(heard.prompt, prompt)
    assert storage.runs("s")[1].input == first
    storage.fork("s", session_id="copy")
    agent.run(first, session_id="copy")
    assert same(heard.prompt, prompt)
    if size > 4096:
        for session_id in ("other", "copy of nothing"):
            with pytest.raises(InvalidInputError, match=r"has no media.*Pass the media themselves"):
                agent.run(first, session_id=session_id)
            assert storage.get_session(session_id) is None


def test_objects_that_are_no_content_are_refused(storage: SqliteStorage) -> None:
    agent = Agent(FunctionModel(Heard()), storage=storage)
    with pytest.raises(InvalidInputError, match="no text, and no media"):
        agent.run([{"kind": "nonsense"}], session_id="s")  # pyright: ignore[reportArgumentType]
    assert storage.get_session("s") is None


def test_a_history_that_is_given_is_sent_in_the_place_of_the_sessions_own(storage: SqliteStorage) -> None:
    heard = Heard()
    agent = Agent(FunctionModel(heard), storage=storage)
    agent.run("one", session_id="s")
    given = [ModelRequest(parts=[UserPromptPart("Who are you?")]), ModelResponse(parts=[TextPart("Nobody.")])]
    assert agent.run("two", session_id="s", message_history=given).output == "3 messages"
    assert [part.content for message in heard.messages for part in message.parts] == ["Who are you?", "Nobody.", "two"]
    assert agent.run("three", session_id="s", message_history=[]).output == "1 messages"
    assert [len(run.messages) for run in storage.runs("s")] == [2, 2, 2]
    assert agent.run("four", session_id="s").output == "7 messages"
    assert agent.run("alone", message_history=given).output == "3 messages"
