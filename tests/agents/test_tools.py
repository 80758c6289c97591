"""The tools with which an agent looks into its own past, called by the model."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic_ai import BinaryContent
from pydantic_ai.models.openai import OpenAIChatModel
from tests.agents.helpers import sent, tool_results
from tests.model_server import ModelServer

from sessile import Agent, SqliteStorage


@pytest.fixture
def agent(model: OpenAIChatModel, storage: SqliteStorage) -> Agent[str]:
    return Agent(model, storage=storage, history=0, read_chat_history=True, search_sessions=True)


def call(server: ModelServer, agent: Agent[Any], tool: str, **arguments: Any) -> str:
    """What a tool answered when the model called it in session `s1` of `ada`."""
    agent.run(f"call {tool} {json.dumps(arguments)}", session_id="s1", user_id="ada")
    return tool_results(server)[-1].text


def test_the_tools_are_offered_only_where_they_are_wanted(
    server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage
) -> None:
    wanted = {"read_chat_history": "read_history", "search_sessions": "search_past_sessions"}
    for setting, name in wanted.items():
        Agent(model, storage=storage, **{setting: True}).run("Hello")  # pyright: ignore[reportArgumentType]
        assert [tool.name for tool in sent(server).tools] == [name]
    Agent(model, storage=storage).run("Hello")
    assert sent(server).tools == ()
    Agent(model, read_chat_history=True, search_sessions=True).run("Hello")
    assert sent(server).tools == ()


def test_reading_what_the_window_does_not_reach(server: ModelServer, agent: Agent[str]) -> None:
    assert call(server, agent, "read_history") == "There are no earlier messages."
    for text in ("What is the capital of France?", "My name is Ada."):
        agent.run(text, session_id="s1", user_id="ada")
    read = call(server, agent, "read_history")
    assert "[2] User: What is the capital of France?\n[2] Assistant: The capital of France is Paris.\n" in read
    assert "[3] User: My name is Ada.\n[3] Assistant: You said: My name is Ada." in read
    assert "[4]" not in read
    # The last runs include the one at hand.
    assert call(server, agent, "read_history", last_runs=2).startswith("[4] User: call read_history")
    some = call(server, agent, "read_history", from_run=2, to_run=3)
    assert {line[:3] for line in some.splitlines()} == {"[2]", "[3]"}


@pytest.mark.parametrize(
    "arguments", [{"last_runs": -1}, {"last_runs": 10**30}, {"from_run": -5}, {"from_run": 10**30}, {"to_run": -1}]
)
def test_numbers_that_a_model_makes_up(server: ModelServer, agent: Agent[str], arguments: Any) -> None:
    agent.run("Hello", session_id="s1", user_id="ada")
    read = call(server, agent, "read_history", **arguments)
    assert read == "There are no earlier messages." or read.startswith("[1] User: Hello")


def test_searching_other_sessions(server: ModelServer, agent: Agent[str], storage: SqliteStorage) -> None:
    agent.run("The Parrot is dead", session_id="s2", user_id="ada")
    agent.run("A parrot, not dead", session_id="s3", user_id="ada")
    agent.run("A dead parrot of Bob's", session_id="s4", user_id="bob")
    agent.run("A dead parrot of nobody's", session_id="s5")
    storage.rename("s2", "Birds")
    agent.run("A dead parrot of this session", session_id="s1", user_id="ada")
    found = call(server, agent, "search_past_sessions", query="DEAD parrot!")
    assert found.splitlines() == [
        "[Birds, 1] User: The Parrot is dead",
        "[Birds, 1] Assistant: You said: The Parrot is dead",
        "[s3, 1] User: A parrot, not dead",
        "[s3, 1] Assistant: You said: A parrot, not dead",
    ]
    assert call(server, agent, "search_past_sessions", query="unicorn") == "Nothing was found."
    for nothing in ("", "?!"):
        assert call(server, agent, "search_past_sessions", query=nothing).startswith("Nothing was found: ")


def test_searching_without_a_user(server: ModelServer, agent: Agent[str]) -> None:
    agent.run("A dead parrot", session_id="s2", user_id="ada")
    agent.run("A dead parrot", session_id="s3")
    agent.run('call search_past_sessions {"query": "parrot"}', session_id="s4")
    assert tool_results(server)[-1].text.startswith("Nothing was found: ")


def test_a_search_is_bounded(server: ModelServer, agent: Agent[str], storage: SqliteStorage) -> None:
    for number in range(30):
        storage.add_run(f"old{number}", input=f"parrot {number}", output="ok", user_id="ada")
    found = call(server, agent, "search_past_sessions", query="parrot").splitlines()
    assert len(found) == 20
    assert found[0] == "[old29, 1] User: parrot 29"


def test_runs_of_other_code_are_read_too(server: ModelServer, agent: Agent[str], storage: SqliteStorage) -> None:
    add: Any = storage.add_run
    add("s1", input="Plain", output={"json": ["ä"]}, user_id="ada")
    add("s1", input="OpenAI's", output="x", messages=[{"role": "user", "content": "?"}], format="openai")
    add("s1", input="Google's", output=None, messages=[{"role": "user", "parts": ["?"]}], format="google")
    add("s1", input="Odd", output=1, messages=[{"parts": "?"}])
    assert call(server, agent, "read_history").splitlines() == [
        "[1] User: Plain",
        '[1] Assistant: {"json": ["ä"]}',
        "[2] User: OpenAI's",
        "[2] Assistant: x",
        "[3] User: Google's",
        "[4] User: Odd",
        "[4] Assistant: 1",
    ]


def test_images_are_named_and_not_read(server: ModelServer, agent: Agent[str], storage: SqliteStorage) -> None:
    for size in (20, 20_000):
        image = BinaryContent(b"x" * size, media_type="image/png")
        agent.run(["Look", image], session_id="s1", user_id="ada")
    read = call(server, agent, "read_history")
    assert '[1] User: ["Look", "[image/png]"]' in read
    assert '[2] User: ["Look", "[image/png]"]' in read
    assert len(read) < 500
