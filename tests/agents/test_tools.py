"""The tools with which an agent looks into its own past, called by the model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from pydantic_ai import BinaryContent
from pydantic_ai.models.openai import OpenAIChatModel
from tests.agents.helpers import sent, tool_results
from tests.model_server import ModelServer

from sessile import Agent, Index, PastSessions, SqliteStorage, Team
from sessile.agents.history import tools
from sessile.errors import InvalidInputError
from sessile.storage.reads import newest_runs


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
    storage.rename("s2", "Birds", user_id="ada")
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


def test_what_other_agents_were_told_is_theirs(
    server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage
) -> None:
    """An agent of billing does not read what the user has told the doctor, unless it was made to."""
    Agent(model, name="doctor", storage=storage).run("My parrot is ill", session_id="s2", user_id="ada")
    billing = Agent(model, name="billing", storage=storage, search_sessions=True)
    billing.run("The parrot was dear", session_id="s3", user_id="ada")
    found = call(server, billing, "search_past_sessions", query="parrot")
    assert ("dear" in found, "ill" in found) == (True, False)
    everything = Agent(model, name="billing", storage=storage, search_sessions="all")
    found = call(server, everything, "search_past_sessions", query="parrot")
    assert ("dear" in found, "ill" in found) == (True, True)
    desk: Team[str] = Team([Agent(model, name="doctor")], model, name="desk", storage=storage, search_sessions=True)
    assert call(server, desk, "search_past_sessions", query="parrot") == "Nothing was found."


def test_the_index_is_searched_where_there_is_one(
    server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage
) -> None:
    """More sessions than are looked through without it; and nothing of other users, or told to other agents."""
    agent = Agent(model, name="billing", storage=storage, search_sessions=True)
    storage.add_run("first", input="The parrot_id is ORD-7781", output="Noted.", user_id="ada", agent="billing")
    storage.add_run("bobs", input="My parrot", output="Noted.", user_id="bob", agent="billing")
    storage.add_run("ill", input="My parrot is ill", output="Noted.", user_id="ada", agent="doctor")
    for number in range(60):
        storage.add_run(f"old{number}", input=f"About {number}", output="ok", user_id="ada", agent="billing")
    assert call(server, agent, "search_past_sessions", query="parrot") == "Nothing was found."
    storage.index().update()
    agent.run("A parrot of this session", session_id="s1", user_id="ada")
    assert call(server, agent, "search_past_sessions", query="parrot") == "[first, 1] The parrot_id is ORD-7781"
    assert call(server, agent, "search_past_sessions", query='"ord-7781"').startswith("[first, 1] ")
    assert call(server, agent, "search_past_sessions", query="unicorn") == "Nothing was found."
    everything = Agent(model, name="billing", storage=storage, search_sessions="all")
    assert len(call(server, everything, "search_past_sessions", query="parrot").splitlines()) == 2
    found = call(server, agent, "search_past_sessions", query="about").splitlines()
    assert (found[0], len(found), found[-1]) == ("[old59, 1] About 59", 21, "There are more: page 2.")
    rest = call(server, agent, "search_past_sessions", query="about", page=3).splitlines()
    assert (rest[0], len(rest)) == ("[old19, 1] About 19", 20)
    storage.delete("first", user_id="ada")
    assert call(server, agent, "search_past_sessions", query="parrot") == "Nothing was found."


def about(texts: Sequence[str]) -> list[list[float]]:
    """Vectors by what a text is about: parcels, or money."""
    themes = (("parcel", "package", "delivery"), ("refund", "money", "invoice"))
    return [[0.1 + sum(word in text.lower() for word in theme) for theme in themes] for text in texts]


def test_searching_by_meaning(server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage) -> None:
    """What was about the same is found without its words; of the same user, and told to this agent."""
    storage.add_run("s2", input="My parcel is late", output="Soon.", user_id="ada", agent="desk")
    storage.add_run("s3", input="I want my money", output="Yes.", user_id="ada", agent="desk")
    storage.add_run("bobs", input="My package", output="Soon.", user_id="bob", agent="desk")
    storage.add_run("other", input="A parcel of land", output="Dear.", user_id="ada", agent="estate")
    with Index(storage, embed=about) as index:
        meaning = PastSessions(index, order="meaning")
        desk = Agent(model, name="desk", storage=storage, search_sessions=meaning)
        found = call(server, desk, "search_past_sessions", query="delivery").splitlines()
        assert found[0].startswith("[s2, 1] ")
        assert not any(line.startswith(("[bobs", "[other")) for line in found)
        assert "other words of the same meaning" in str(sent(server).tools[0].schema)
        everywhere = Agent(model, name="desk", storage=storage, search_sessions=replace(meaning, everywhere=True))
        found = call(server, everywhere, "search_past_sessions", query="delivery").splitlines()
        assert {line[1:].split(",")[0] for line in found[:2]} == {"s2", "other"}
        by_words = Agent(model, name="desk", storage=storage, search_sessions=PastSessions(index))
        assert call(server, by_words, "search_past_sessions", query="delivery") == "Nothing was found."
        assert call(server, by_words, "search_past_sessions", query="money").startswith("[s3, 1] ")
        assert "the newest conversations come first" in sent(server).tools[0].description
        best = Agent(model, name="desk", storage=storage, search_sessions=PastSessions(index, order="best"))
        assert call(server, best, "search_past_sessions", query="money").startswith("[s3, 1] ")
        assert "those that have them most often come first" in sent(server).tools[0].description
    with Index(storage) as index:
        agent = Agent(model, name="desk", storage=storage, search_sessions=PastSessions(index, order="meaning"))
        with pytest.raises(InvalidInputError, match="needs embed"):
            agent.run('call search_past_sessions {"query": "delivery"}', session_id="s9", user_id="ada")


def test_what_is_no_search_is_refused(model: OpenAIChatModel, storage: SqliteStorage) -> None:
    with pytest.raises(InvalidInputError, match="order='meaning' needs an index"):
        PastSessions(order="meaning")
    with pytest.raises(InvalidInputError, match="order must be one of 'newest', 'best', 'meaning'"):
        PastSessions(order="nearest")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="search_sessions must be True"):
        Agent(model, storage=storage, search_sessions="some")  # type: ignore[arg-type]


def test_searching_without_a_user(server: ModelServer, agent: Agent[str]) -> None:
    agent.run("A dead parrot", session_id="s2", user_id="ada")
    agent.run("A dead parrot", session_id="s3")
    agent.run('call search_past_sessions {"query": "parrot"}', session_id="s4")
    assert tool_results(server)[-1].text.startswith("Nothing was found: ")


def test_a_search_is_bounded(server: ModelServer, agent: Agent[str], storage: SqliteStorage) -> None:
    for number in range(30):
        storage.add_run(f"old{number}", input=f"parrot {number}", output="ok", user_id="ada")
    found = call(server, agent, "search_past_sessions", query="parrot").splitlines()
    assert len(found) == 21
    assert (found[0], found[-1]) == ("[old29, 1] User: parrot 29", "There are more: page 2.")
    rest = call(server, agent, "search_past_sessions", query="parrot", page=2).splitlines()
    assert (rest[0], rest[-1], len(rest)) == ("[old9, 1] User: parrot 9", "[old0, 1] User: parrot 0", 10)
    for page in (3, 10**30, 0, -1):
        assert call(server, agent, "search_past_sessions", query="parrot", page=page)


def test_long_messages_are_cut(server: ModelServer, agent: Agent[str], storage: SqliteStorage) -> None:
    """A model's context, and its bill, are not filled by one long message or by many."""
    words = "word " * 200_000
    for number in range(30):
        storage.add_run(f"old{number}", input=f"{words} parrot {words}", output="ok", user_id="ada")
        storage.add_run("s1", input=f"{number} {words}", output="ok", user_id="ada")
    found = call(server, agent, "search_past_sessions", query="parrot")
    assert found.startswith("[old29, 1] … ")
    assert " parrot word " in found
    assert len(found) < 17_000
    read = call(server, agent, "read_history", last_runs=30)
    assert read.startswith("[3] User: 2 word word")
    assert "more characters)" in read.splitlines()[0]
    assert read.endswith("Ask for fewer exchanges.)")
    assert len(read) < 17_000


def test_runs_of_other_code_are_read_too(server: ModelServer, agent: Agent[str], storage: SqliteStorage) -> None:
    add: Any = partial(storage.add_run, user_id="ada")
    add("s1", input="Plain", output={"json": ["ä"]})
    add("s1", input="OpenAI's", output="x", messages=[{"role": "user", "content": "?"}], format="openai")
    add("s1", input="Google's", output=None, messages=[{"role": "user", "parts": ["?"]}], format="google")
    add("s1", input="Odd", output=1, messages=[{"parts": "?"}], format="mine")
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


def test_a_search_reads_so_much_and_no_more(
    server: ModelServer, agent: Agent[str], storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fifty sessions of as much as one call reads would be three gigabytes; and the model may call it again."""
    for number in range(30):
        storage.add_run(f"old{number}", input=f"parrot {'x' * 50_000}", output="ok", user_id="ada")
    read: list[int] = []

    async def noted(*args: Any, **kwargs: Any) -> Any:
        runs, left = await newest_runs(*args, **kwargs)
        read.append(len(runs))
        return runs, left

    monkeypatch.setattr(tools, "newest_runs", noted)
    monkeypatch.setattr(tools, "SEARCHED_BYTES", 400_000)
    found = call(server, agent, "search_past_sessions", query="parrot").splitlines()
    assert found[-1] == "Older conversations were not searched: there is too much in these."
    assert 7 <= len(found) - 1 == sum(read) <= 9
    assert found[0].startswith("[old29, 1] User: parrot xx")
    nothing = call(server, agent, "search_past_sessions", query="unicorn").splitlines()
    assert (nothing[0], nothing[-1]) == ("Nothing was found.", found[-1])
    monkeypatch.setattr(tools, "SEARCHED_SECONDS", -1.0)
    late = call(server, agent, "search_past_sessions", query="parrot").splitlines()
    assert late == ["Nothing was found.", found[-1]]
