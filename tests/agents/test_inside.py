"""Going back to a step inside of a run: a fork that ends there, and goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Tool
from pydantic_ai.messages import BinaryContent, ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from sessile import Agent, SqliteStorage, Storage, Team, session_files, session_state
from sessile.errors import AlreadyExistsError, InvalidInputError, RunNotFoundError, SessionNotFoundError

DONE: list[str] = []


def weather(city: str) -> str:
    """The weather."""
    DONE.append(city)
    session_state()[city] = len(DONE)
    return f"rain in {city}"


def book(city: str) -> str:
    """Book a hotel."""
    DONE.append(f"booked {city}")
    session_state()["booked"] = city
    return f"a room in {city}"


def _plans(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """Asks for the weather of two cities, books the one with sun or else Oslo, and says so."""
    last = messages[-1]
    results = {part.tool_name: str(part.content) for part in reversed(last.parts) if isinstance(part, ToolReturnPart)}
    if "weather" in results:
        sunny = "Rome" if "sun" in results["weather"] else "Oslo"
        return ModelResponse([ToolCallPart("book", {"city": sunny}, tool_call_id="b1")])
    if "book" in results:
        return ModelResponse([TextPart(f"You have {results['book']}.")])
    return ModelResponse(
        [
            ToolCallPart("weather", {"city": "Rome"}, tool_call_id="w1"),
            ToolCallPart("weather", {"city": "Oslo"}, tool_call_id="w2"),
        ]
    )


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    DONE.clear()
    with SqliteStorage(tmp_path / "s.db") as made:
        yield made


def planner(storage: Storage, durability: Any = "step", *, ask: bool = False) -> Agent[str]:
    tools = [Tool(weather, sequential=True), Tool(book, requires_approval=ask)]
    return Agent(FunctionModel(_plans), storage=storage, name="planner", tools=tools, durability=durability, history=1)


@pytest.mark.parametrize("durability", ["run", "step"])
def test_another_result_of_a_tool_takes_the_run_elsewhere(storage: Storage, durability: Any) -> None:
    agent = planner(storage, durability)
    agent.run("First", session_id="s", user_id="ada")
    session = agent.session("s", user_id="ada")
    before = session.run([BinaryContent(b"a picture" * 100, media_type="image/png"), "Where to?"])
    assert before.output == "You have a room in Oslo."
    DONE.clear()
    other = session.fork(at=2, results={"w1": "sun in Rome"})
    assert DONE == []
    run = other.runs()[-1]
    assert (run.number, run.status, run.agent) == (2, "interrupted", "planner")
    assert run.input[1] == "Where to?"
    done = other.resume()
    assert (done.number, done.output, DONE) == (2, "You have a room in Rome.", ["booked Rome"])
    assert other.state()["booked"] == "Rome"
    told = [
        part["content"]
        for message in other.messages(last_runs=1)
        for part in message.data["parts"]
        if part.get("tool_name") == "weather" and part["part_kind"] == "tool-return"
    ]
    assert told == ["sun in Rome", "rain in Oslo"]
    assert session.runs()[-1].output == "You have a room in Oslo.", "what it comes from is as it was"
    assert other.runs()[-1].usage.requests == 3


def test_a_run_goes_on_after_one_of_its_messages(storage: Storage) -> None:
    agent = planner(storage)
    agent.run("Where to?", session_id="s")
    session = agent.session("s")
    assert len(session.messages()) == 6
    DONE.clear()
    anew = session.fork(message=2)  # its calls are made again
    assert anew.state() == {}
    assert (anew.resume().output, DONE) == ("You have a room in Oslo.", ["Rome", "Oslo", "booked Oslo"])
    DONE.clear()
    asked = session.fork(message=3)  # the model is asked again
    assert asked.state() == {"Rome": 1, "Oslo": 2}
    assert (asked.resume().output, DONE) == ("You have a room in Oslo.", ["booked Oslo"])
    assert asked.state() == {"Rome": 1, "Oslo": 2, "booked": "Oslo"}
    whole = session.fork(message=6)
    assert whole.resume().output == "You have a room in Oslo."
    assert [one.data["kind"] for one in whole.messages()] == ["request", "response"] * 3


@pytest.mark.parametrize("durability", ["run", "step"])
def test_a_fork_has_the_files_of_its_moment(storage: Storage, durability: Any) -> None:
    def write(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        calls = sum(isinstance(one, ModelResponse) for one in messages)
        if calls == 2:
            return ModelResponse([TextPart("done")])
        given = {"name": f"{calls}.txt", "content": "made in the run"}
        return ModelResponse([ToolCallPart("write_file", given, tool_call_id=f"c{calls}")])

    model = FunctionModel(write)
    agent = Agent(model, storage=storage, name="writer", toolsets=[session_files()], durability=durability)
    storage.create_session("s")
    storage.files("s").write("of-ada.txt", "written before the run")
    agent.run("Go on with my file.", session_id="s")
    session = agent.session("s")
    storage.files("s").write("later.txt", "x")

    def files(**point: Any) -> list[str]:
        return [one.name for one in storage.files(session.fork(at=1, **point).session_id).all()]

    first = ["0.txt"] if durability == "step" else []
    second = ["1.txt"] if durability == "step" else []
    assert files(message=2) == ["of-ada.txt"], "the call is made again"
    assert files(message=3) == [*first, "of-ada.txt"]
    assert files(results={"c1": "as if"}) == [*first, *second, "of-ada.txt"]
    copy = session.fork(at=1, message=3)
    assert copy.resume().output == "done"
    assert [one.name for one in storage.files(copy.session_id).all()][-1] == "of-ada.txt"


def test_a_call_that_waits_may_be_given_a_result(storage: Storage) -> None:
    agent = planner(storage, ask=True)
    assert agent.run("Where to?", session_id="s").status == "paused"
    other = agent.session("s").fork(results={"b1": "a tent in Oslo"})
    assert other.resume().output == "You have a tent in Oslo."
    assert "booked Oslo" not in DONE
    waits = agent.session("s").fork(message=4).resume()
    assert waits.status == "paused"


def test_what_cannot_be_gone_back_into_is_refused(storage: Storage) -> None:
    agent = planner(storage)
    agent.run("Where to?", session_id="s")
    session = agent.session("s")
    unfit: list[dict[str, Any]] = [
        {"message": 0}, {"message": 7}, {"results": {"other": 1}}, {"results": {}}, {"results": {"w1": 1, "b1": 2}},
        {"message": 2, "results": {"w1": 1}}, {"results": {"w1": object()}},
    ]  # fmt: skip
    for wrong in unfit:
        with pytest.raises(InvalidInputError):
            session.fork(**wrong)
    with pytest.raises(RunNotFoundError):
        session.fork(at=2, message=1)
    with pytest.raises(AlreadyExistsError):
        session.fork(message=1, session_id="s")
    with pytest.raises(SessionNotFoundError):
        agent.session("s", user_id="bob").fork(at=1, message=1)
    team = Team([agent], model=FunctionModel(_delegates), name="team", storage=storage)
    team.run("Where to?", session_id="t")
    with pytest.raises(InvalidInputError, match="below it"):
        team.session("t").fork(message=1)
    assert {one.session_id for one in storage.sessions()} == {"s", "t"}


def _delegates(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    last = messages[-1].parts[-1]
    if isinstance(last, ToolReturnPart):
        return ModelResponse([TextPart("Done.")])
    return ModelResponse([ToolCallPart("delegate_task", {"member": "planner"})])


def test_results_cannot_name_media_that_are_not_there(storage: Storage) -> None:
    agent = planner(storage)
    agent.run("Where to?", session_id="s")
    calls = [
        part for one in agent.session("s").messages() for part in one.data["parts"] if part["part_kind"] == "tool-call"
    ]
    forged = {"kind": "binary", "media_type": "image/png", "data": {"$blob": "0" * 64, "size": 3}}
    with pytest.raises(InvalidInputError, match="does not have"):
        agent.session("s").fork(at=1, results={calls[0]["tool_call_id"]: {"picture": [forged]}})
    assert [one.session_id for one in storage.sessions()] == ["s"]
