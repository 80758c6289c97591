"""`print_response`: what stands in the terminal afterwards."""

from __future__ import annotations

import sys
from typing import Any

import pytest

pytest.importorskip("rich")

from pydantic import BaseModel
from pydantic_ai import BinaryContent, Tool
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.models.openai import OpenAIChatModel
from tests.model_server import ModelServer

from sessile import Agent, SqliteStorage
from sessile.errors import MissingDependencyError

FRANCE = "What is the capital of France?"


def test_question_and_answer(
    model: OpenAIChatModel, storage: SqliteStorage, capsys: pytest.CaptureFixture[str]
) -> None:
    result = Agent(model, storage=storage).print_response(FRANCE, session_id="s1", user_id="ada")
    shown = capsys.readouterr().out
    assert shown.index("Question") < shown.index(FRANCE) < shown.index("Answer") < shown.index("is Paris.")
    assert (result.session_id, result.output) == ("s1", "The capital of France is Paris.")
    assert storage.runs("s1", user_id="ada")[0].output == result.output


async def test_question_and_answer_asynchronously(
    model: OpenAIChatModel, storage: SqliteStorage, capsys: pytest.CaptureFixture[str]
) -> None:
    agent = Agent(model, storage=storage)
    result = await agent.aprint_response(FRANCE, session_id="s1", user_id="ada")
    assert result.output in capsys.readouterr().out
    await agent.aprint_response("What was my last question?", session_id="s1", user_id="ada")
    assert f"Your last question was: {FRANCE}" in capsys.readouterr().out


def test_without_a_storage(model: OpenAIChatModel, capsys: pytest.CaptureFixture[str]) -> None:
    assert Agent(model).print_response(FRANCE).output in capsys.readouterr().out


def test_structured_output_is_shown(
    model: OpenAIChatModel, storage: SqliteStorage, capsys: pytest.CaptureFixture[str]
) -> None:
    class City(BaseModel):
        name: str

    Agent(model, storage=storage, output_type=City).print_response('A city\noutput {"name": "Paris"}')
    assert "City(name='Paris')" in capsys.readouterr().out


def test_a_pause_is_shown(model: OpenAIChatModel, storage: SqliteStorage, capsys: pytest.CaptureFixture[str]) -> None:
    def pay(amount: int) -> int:
        return amount

    agent = Agent(model, storage=storage, tools=[Tool(pay, requires_approval=True)])
    assert agent.print_response('call pay {"amount": 5}').status == "paused"
    assert "Waits for a decision about: pay" in capsys.readouterr().out


def test_an_image_is_named(model: OpenAIChatModel, storage: SqliteStorage, capsys: pytest.CaptureFixture[str]) -> None:
    image = BinaryContent(b"x" * 5000, media_type="image/png")
    Agent(model, storage=storage).print_response(["Look:", image])
    assert "Look: [binary]" in capsys.readouterr().out


def test_text_is_not_taken_for_markup(
    model: OpenAIChatModel, storage: SqliteStorage, capsys: pytest.CaptureFixture[str]
) -> None:
    Agent(model, storage=storage).print_response("a [bold]b[/bold] [/c]")
    question = capsys.readouterr().out.split("Answer")[0]
    assert "a [bold]b[/bold] [/c]" in question


def test_what_fails_is_raised(server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage) -> None:
    with pytest.raises(ModelHTTPError):
        Agent(model, storage=storage).print_response("[500] Hello", session_id="s1")
    assert storage.runs("s1")[0].status == "failed"


def test_rich_that_is_not_installed(
    server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing: Any = None
    monkeypatch.setitem(sys.modules, "rich.console", missing)
    with pytest.raises(MissingDependencyError, match=r"rich.*pip install"):
        Agent(model, storage=storage).print_response("Hello")
    assert server.requests == []
