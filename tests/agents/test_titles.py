"""Sessions get names: by their first words, or by a small model."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.openai import OpenAIChatModel

from sessile import Agent, SqliteStorage, Team
from sessile.agents.titles import first_words
from sessile.errors import InvalidInputError


def name_of(storage: SqliteStorage, session_id: str = "s") -> str | None:
    head = storage.get_session(session_id)
    assert head is not None
    return head.name


@pytest.mark.parametrize("durability", ["run", "step", "exit"])
def test_the_first_words(model: OpenAIChatModel, storage: SqliteStorage, durability: Any) -> None:
    agent = Agent(model, storage=storage, titles="words", durability=durability)
    agent.run("  How do I\nreturn a  lamp?", session_id="s")
    assert name_of(storage) == "How do I return a lamp?"
    agent.run("Something else", session_id="s")
    assert name_of(storage) == "How do I return a lamp?"
    assert [entry.kind for entry in storage.entries("s")].count("session.renamed") == 1
    storage.rename("s", None)
    agent.run("A later question", session_id="s")
    assert name_of(storage) == "A later question"
    Agent(model, storage=storage).run("Unnamed", session_id="t")
    assert name_of(storage, "t") is None
    assert storage.verify("s")


def test_a_name_that_somebody_gave_meanwhile_stays(model: OpenAIChatModel, storage: SqliteStorage) -> None:
    def rename() -> None:
        storage.rename("s", "Mine")

    Agent(model, storage=storage, titles="words", tools=[rename]).run("call rename {}", session_id="s")
    assert name_of(storage) == "Mine"


def test_a_run_that_fails_names_its_session_too(storage: SqliteStorage) -> None:
    def fail(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        Agent(FunctionModel(fail), storage=storage, titles="words").run("Hello there", session_id="s")
    assert name_of(storage) == "Hello there"


def test_a_small_model_names_it_and_is_paid_for(model: OpenAIChatModel, storage: SqliteStorage) -> None:
    asked: list[str] = []

    def title(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        asked.append(str(messages[-1].parts[-1].content))
        return ModelResponse([TextPart('"Returning a lamp"')])

    team = Team([Agent(model, name="one")], model=model, storage=storage, titles=FunctionModel(title))
    team.run("How do I return a lamp?", session_id="s")
    assert name_of(storage) == "Returning a lamp"
    assert asked == ["How do I return a lamp?"]
    assert storage.runs("s")[0].usage.requests == 2
    team.run("And a chair?", session_id="s")
    assert len(asked) == 1


def test_a_model_that_fails_is_no_harm(model: OpenAIChatModel, storage: SqliteStorage) -> None:
    def fail(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        raise RuntimeError("down")

    agent = Agent(model, storage=storage, titles=FunctionModel(fail))
    assert agent.run("Hello", session_id="s").status == "completed"
    assert name_of(storage) == "Hello"
    with pytest.raises(InvalidInputError):
        Agent(model, storage=storage, titles=3)  # pyright: ignore[reportArgumentType]


def test_words_of_any_text() -> None:
    assert first_words("") is first_words(" \0\n") is None
    long = first_words("word " * 100)
    assert long is not None
    assert long.endswith("word…")
    assert len(long) <= 61
    for text in ("x" * 500, "😀" * 500, "\ud800 broken", "é" * 200):
        name = first_words(text)
        assert name is not None
        assert len(name.encode()) <= 255
