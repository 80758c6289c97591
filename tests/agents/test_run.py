"""What a user of `Agent` sees first: runs that go on where the last one stopped, in this process or another."""

from __future__ import annotations

import asyncio
import inspect
import threading
from pathlib import Path
from typing import Any

import pydantic_ai
import pytest
from pydantic import BaseModel, field_serializer
from pydantic_ai import BinaryContent, Tool
from pydantic_ai.exceptions import UsageLimitExceeded
from pydantic_ai.messages import ModelRequest, ModelResponse, UserPromptPart
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.models.test import TestModel
from pydantic_ai.usage import UsageLimits
from tests.agents.helpers import model_at, output, prompts, script, sent, turns
from tests.model_server import ModelServer

from sessile import ANY_USER, Agent, MemoryStorage, SqliteStorage
from sessile.agents.options import AgentOptions
from sessile.errors import InvalidIdError, InvalidInputError, InvalidStateError, SessileError
from sessile.records import Usage

LAST = "What was my last question?"
FRANCE = "What is the capital of France?"


def test_the_second_process_knows_what_the_first_was_asked(server: ModelServer, tmp_path: Path, path: Path) -> None:
    body = 'print(Agent(model, storage=storage).run(sys.argv[3], session_id="s1", user_id="ada").output)'
    assert output(script(tmp_path, body, server, path, FRANCE)) == "The capital of France is Paris.\n"
    assert output(script(tmp_path, body, server, path, LAST)) == f"Your last question was: {FRANCE}\n"
    with SqliteStorage(path) as storage:
        assert [run.input for run in storage.runs("s1", user_id="ada")] == [FRANCE, LAST]
        assert storage.verify("s1", user_id="ada") > 0


def test_what_a_run_returns_and_stores(model: OpenAIChatModel, storage: SqliteStorage) -> None:
    agent = Agent(model, name="support", storage=storage)
    result = agent.run(FRANCE, session_id="s1", user_id="ada", run_metadata={"request": 7})
    assert (result.output, result.session_id, result.number) == ("The capital of France is Paris.", "s1", 1)
    assert result.status == "completed"
    assert [type(message) for message in result.new_messages()] == [ModelRequest, ModelResponse]
    head = storage.get_session("s1", user_id="ada")
    assert head is not None
    assert (head.agent, head.user_id, head.kind, head.run_count, head.status) == (
        "support", "ada", "agent", 1, "completed",
    )  # fmt: skip
    (run,) = storage.runs("s1", user_id="ada")
    assert (run.run_id, run.input, run.output, run.agent) == (result.run_id, FRANCE, result.output, "support")
    assert run.metadata == {"request": 7}
    assert [message.data["kind"] for message in run.messages] == ["request", "response"]
    assert run.ended_at is not None
    assert run.ended_at >= run.started_at


def test_a_run_stores_its_own_messages_only(model: OpenAIChatModel, storage: SqliteStorage) -> None:
    agent = Agent(model, storage=storage, session_id="s1")
    for _ in range(3):
        result = agent.run("Hello")
    assert [len(run.messages) for run in storage.runs("s1")] == [2, 2, 2]
    assert len(result.new_messages()) == 2
    assert len(result.all_messages()) == 6


def test_without_a_session_id_each_run_makes_a_session(model: OpenAIChatModel, storage: SqliteStorage) -> None:
    agent = Agent(model, storage=storage)
    first, second = agent.run(FRANCE), agent.run(LAST)
    assert first.session_id != second.session_id
    assert second.output == "You have not asked anything before."
    assert agent.run(LAST, session_id=first.session_id).output == f"Your last question was: {FRANCE}"
    assert {head.session_id for head in storage.sessions(user_id=ANY_USER)} == {first.session_id, second.session_id}


def test_defaults_of_the_agent_and_ids_of_a_call(model: OpenAIChatModel, storage: SqliteStorage) -> None:
    agent = Agent(model, storage=storage, session_id="mine", user_id="ada")
    agent.run(FRANCE)
    assert agent.run(LAST).output == f"Your last question was: {FRANCE}"
    assert agent.run(LAST, session_id="other", user_id="bob").output == "You have not asked anything before."
    heads = storage.sessions(user_id=ANY_USER)
    assert {(head.session_id, head.user_id) for head in heads} == {("mine", "ada"), ("other", "bob")}


async def test_run_works_where_an_event_loop_runs(model: OpenAIChatModel, storage: SqliteStorage) -> None:
    agent = Agent(model, storage=storage, session_id="s1")
    assert agent.run(FRANCE).output == "The capital of France is Paris."
    assert (await agent.arun(LAST)).output == f"Your last question was: {FRANCE}"


async def test_run_inside_a_run_that_it_would_wait_for(model: OpenAIChatModel, storage: SqliteStorage) -> None:
    agent = Agent(model, storage=storage)

    async def ask(question: str) -> str:
        return agent.run(question).output

    async def listen(question: str) -> list[str]:
        return list(agent.stream(question))

    outer = Agent(model, storage=storage, session_id="outer", tools=[ask, listen])
    for tool in ("ask", "listen"):
        with pytest.raises(SessileError, match=r"would wait for.*name begins with a"):
            outer.run(f'call {tool} {{"question": "Hello"}}')
    assert [run.status for run in storage.runs("outer")] == ["failed", "failed"]


def test_an_agent_as_a_tool_of_another(model: OpenAIChatModel, storage: SqliteStorage) -> None:
    expert = Agent(model, name="expert", storage=storage)

    async def ask(question: str) -> str:
        return (await expert.arun(question, session_id="inner")).output

    def ask_in_a_thread(question: str) -> str:
        return expert.run(question, session_id="inner").output

    outer = Agent(model, storage=storage, session_id="outer", tools=[ask, ask_in_a_thread])
    assert "Paris" in outer.run(f'call ask {{"question": "{FRANCE}"}}').output
    assert FRANCE in outer.run(f'call ask_in_a_thread {{"question": "{LAST}"}}').output
    assert [len(run.messages) for run in storage.runs("inner")] == [2, 2]
    assert [len(run.messages) for run in storage.runs("outer")] == [4, 4]


def test_without_a_storage_nothing_is_said_of_before(model: OpenAIChatModel) -> None:
    agent = Agent(model, session_id="s1", state={"n": 1}, read_chat_history=True)
    assert agent.run(FRANCE).output == "The capital of France is Paris."
    result = agent.run(LAST)
    assert result.output == "You have not asked anything before."
    assert (result.session_id, result.number, result.status, result.state) == ("s1", 0, "completed", {"n": 1})
    assert result.usage.requests == 1
    result.state["n"] = 2
    assert agent.run(LAST).state == {"n": 1}


def test_without_a_storage_there_is_nothing_to_resume(model: OpenAIChatModel) -> None:
    agent = Agent(model)
    with pytest.raises(InvalidInputError, match="storage"):
        agent.session("s1")
    with pytest.raises(InvalidInputError, match="storage"):
        agent.resume("s1")


def test_without_a_storage_a_run_may_wait_for_a_decision(model: OpenAIChatModel) -> None:
    def pay(amount: int) -> int:
        return amount

    result = Agent(model, tools=[Tool(pay, requires_approval=True)]).run('call pay {"amount": 5}')
    assert result.status == "paused"
    assert result.pending is not None
    assert [call.tool_name for call in result.pending.approvals] == ["pay"]


# ---------------------------------------------------------------- what Pydantic AI's agent takes


def test_every_argument_of_a_pydantic_ai_agent_is_known() -> None:
    theirs = set(inspect.signature(pydantic_ai.Agent.__init__).parameters)
    ours = set(inspect.signature(Agent.__init__).parameters)
    assert theirs <= ours | set(AgentOptions.__annotations__)


def test_arguments_are_passed_on(server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage) -> None:
    def shout(text: str) -> str:
        return text.upper()

    agent = Agent(model, storage=storage, instructions="Be brief.", tools=[shout], model_settings={"temperature": 0.25})
    result = agent.run('call shout {"text": "hello"}', session_id="s1", model_settings={"max_tokens": 9})
    assert result.output == "Tool results: shout=HELLO"
    assert sent(server).system_text == "Be brief."
    body = server.requests[-1].body
    assert (body["temperature"], body.get("max_tokens", body.get("max_completion_tokens"))) == (0.25, 9)
    assert [message.data["kind"] for message in storage.messages("s1")] == ["request", "response"] * 2


def test_arguments_of_one_run(server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage) -> None:
    agent = Agent(storage=storage, session_id="s1", deps_type=str)
    agent.run("Hello", model=model, instructions="For {nobody} once.")
    assert sent(server).system_text == "For {nobody} once."
    agent.run("Hello", model=model)
    assert sent(server).system_text == ""


def test_a_ready_agent(server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage) -> None:
    ready = pydantic_ai.Agent(model, name="ready", instructions="I am {mood}.", deps_type=str)

    @ready.instructions
    def deps(ctx: pydantic_ai.RunContext[str]) -> str:
        return f"Deps: {ctx.deps}."

    agent = Agent(ready, storage=storage, session_id="s1", state={"mood": "glad"})
    agent.run(FRANCE, deps="x")
    assert sent(server).system_text.split() == ["I", "am", "glad.", "Deps:", "x."]
    assert agent.run(LAST, deps="x").output == f"Your last question was: {FRANCE}"
    head = storage.get_session("s1")
    assert head is not None
    assert head.agent == agent.name == "ready"
    assert Agent(ready, name="mine", storage=storage).name == "mine"


def test_a_ready_agent_has_its_own_settings(model: OpenAIChatModel) -> None:
    ready = pydantic_ai.Agent(model)
    with pytest.raises(InvalidInputError, match="retries, output_type"):
        Agent(ready, output_type=int, retries=3)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"durability": "always"}, "durability"),
        ({"on_busy": "wait"}, "on_busy"),
        ({"on_state_conflict": "first"}, "on_state_conflict"),
        ({"usage_scope": "user"}, "usage_scope"),
        ({"history": -1}, "history"),
        ({"history": True}, "history"),
        ({"durability": "exit", "on_busy": "queue"}, "exit"),
    ],
)
def test_settings_that_make_no_sense(options: dict[str, Any], part: str) -> None:
    with pytest.raises(InvalidInputError, match=part):
        Agent(**options)


def test_ids_and_state_are_checked_before_anything_happens(
    server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage
) -> None:
    with pytest.raises(InvalidIdError):
        Agent(model, name="")
    with pytest.raises(InvalidStateError):
        Agent(model, state={"a": {1}})
    agent, examples = Agent(model, storage=storage), [ModelRequest(parts=[UserPromptPart("Hi")])]
    for call in (
        lambda: agent.run("Hello", session_id="a\0b"),
        lambda: agent.run("Hello", session_id=""),
        lambda: agent.session("").run("Hello"),
        lambda: agent.run("Hello", session_id="s", user_id="x" * 256),
        lambda: agent.run("Hello", session_id="s", run_metadata={"x": float("nan")}),
        lambda: agent.run("Hello", session_id="s", run_metadata=["x"]),  # type: ignore[arg-type]
        lambda: agent.run(7, session_id="s"),  # type: ignore[arg-type]
        lambda: agent.run(b"Hello", session_id="s"),  # type: ignore[arg-type]
        lambda: agent.run({"text": "Hello"}, session_id="s"),  # type: ignore[arg-type]
        lambda: Agent(model, storage=storage, examples=examples).run(7, session_id="s"),  # type: ignore[arg-type]
        lambda: Agent(model, state=["x"]),  # type: ignore[arg-type]
    ):
        with pytest.raises(InvalidInputError):
            call()
    assert server.requests == []
    assert len(storage.sessions(user_id=ANY_USER)) == 0


# ---------------------------------------------------------------- output, usage, media


class City(BaseModel):
    name: str
    population: int


class Broken(BaseModel):
    n: int

    @field_serializer("n")
    def no(self, value: int) -> int:
        raise ValueError("no JSON form")


def test_structured_output(server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage) -> None:
    agent = Agent(model, storage=storage, session_id="s1", output_type=City)
    result = agent.run('One city\noutput {"name": "Paris", "population": 2100000}')
    assert result.output == City(name="Paris", population=2100000)
    assert storage.get_run("s1", 1).output == {"name": "Paris", "population": 2100000}
    agent.run(LAST)  # the server would refuse a history whose output tool has no result
    assert len(prompts(server)) == 2


def test_output_of_any_kind_is_stored(storage: SqliteStorage, model: OpenAIChatModel) -> None:
    class Thing:
        def __repr__(self) -> str:
            return "a thing"

    loop: list[Any] = []
    loop.append(loop)
    values = {
        "bytes": b"\xff",
        "nan": float("nan"),
        "thing": Thing(),
        "set": {1},
        "loop": loop,
        "text": "\ud800",
        "list": ["\ud800"],
        "broken": Broken(n=1),
    }

    def make(name: str) -> Any:
        return values[name]

    agent = Agent(model, storage=storage, session_id="s1", output_type=make)
    for name, value in values.items():
        assert agent.run(f'Make it\noutput {{"name": "{name}"}}').output is value
    stored = [run.output for run in storage.runs("s1")]
    assert stored == ["_w==", "NaN", "a thing", [1], ["..."], "\ud800", ["\ud800"], "Broken(n=1)"]


def test_usage_of_a_run_and_of_its_session(model: OpenAIChatModel, storage: SqliteStorage) -> None:
    def add(a: int, b: int) -> int:
        return a + b

    agent = Agent(model, storage=storage, session_id="s1", tools=[add])
    results = [agent.run('call add {"a": 1, "b": 2}'), agent.run("Thanks")]
    assert [(result.usage.requests, result.usage.tool_calls) for result in results] == [(2, 1), (1, 0)]
    assert all(result.usage.input_tokens and result.usage.output_tokens for result in results)
    assert [run.usage for run in storage.runs("s1")] == [result.usage for result in results]
    head = storage.get_session("s1")
    assert head is not None
    assert head.usage == results[0].usage + results[1].usage


def test_limits_of_a_run_and_of_the_whole_session(server: ModelServer, storage: SqliteStorage) -> None:
    limits = UsageLimits(request_limit=2)
    priced = model_at(server.base_url, name="gpt-4o")
    Agent(priced, storage=storage).run("Hello", session_id="s1", usage_limits=limits)
    whole = Agent(priced, storage=storage, session_id="s1", usage_scope="session")
    second = whole.run("Hello", usage_limits=limits)
    assert second.usage.requests == 1
    with pytest.raises(UsageLimitExceeded):
        whole.run("Hello", usage_limits=limits)
    Agent(priced, storage=storage, session_id="s1").run("Hello", usage_limits=limits)
    runs = storage.runs("s1")
    assert [run.status for run in runs] == ["completed", "completed", "failed", "completed"]
    assert [run.usage.requests for run in runs] == [1, 1, 0, 1]
    assert [run.usage.cost > 0 for run in runs] == [True, True, False, True]
    assert runs[2].usage == Usage()
    head = storage.get_session("s1")
    assert head is not None
    assert head.usage.requests == 3


def test_an_image_is_kept_apart_and_comes_back_on_the_wire(
    server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage
) -> None:
    image = BinaryContent(b"\x89PNG" + bytes(range(256)) * 200, media_type="image/png")
    agent = Agent(model, storage=storage, session_id="s1")
    agent.run(["What is this?", image])
    first = server.requests[-1].body["messages"][-1]["content"]
    agent.run("And now?")
    assert server.requests[-1].body["messages"][0]["content"] == first
    assert image.data_uri in str(first)
    for run in storage.runs("s1"):
        for message in run.messages:
            assert len(str(message.data)) < 2000
    given = storage.get_run("s1", 1).input
    assert given[0] == "What is this?"
    assert storage.media("s1", given[1]["data"]["$blob"]) == image.data


def test_a_tool_that_returns_what_looks_like_a_reference_does_not_spoil_the_session(
    model: OpenAIChatModel, storage: SqliteStorage
) -> None:
    def fetch() -> Any:
        return {"kind": "binary", "media_type": "image/png", "data": {"$blob": "0" * 64, "size": 1}}

    agent = Agent(model, storage=storage, session_id="s1", tools=[fetch])
    agent.run("call fetch {}")
    assert agent.run("And now?").output == "You said: And now?"


def test_a_small_image_stays_in_its_message(
    server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage
) -> None:
    image = BinaryContent(b"\xfb\xff\xfe" * 20, media_type="image/png")
    agent = Agent(model, storage=storage, session_id="s1")
    agent.run(["What is this?", image])
    agent.run("And now?")
    assert image.data_uri in str(server.requests[-1].body["messages"][0]["content"])


def test_runs_of_other_code_are_part_of_the_history(
    server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage
) -> None:
    storage.add_run("s1", input=FRANCE, output="Paris, of course.")
    storage.add_run("s1", input={"not": "text"}, output=None)
    assert Agent(model, storage=storage).run(LAST, session_id="s1").output == f"Your last question was: {FRANCE}"
    assert turns(server)[:2] == [("user", FRANCE), ("assistant", "Paris, of course.")]


def test_one_agent_in_several_event_loops() -> None:
    with ModelServer() as server, MemoryStorage() as storage:
        agent = Agent(model_at(server.base_url), storage=storage, session_id="s1")
        agent.run(FRANCE)
        for _ in range(3):
            asyncio.run(agent.arun(LAST))
        assert agent.run(LAST).output == f"Your last question was: {LAST}"
        assert [run.status for run in storage.runs("s1")] == ["completed"] * 5


def test_a_model_given_by_name_in_several_event_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client keeps its connections open, and they belong to the loop that opened them."""
    with ModelServer() as server, MemoryStorage() as storage:
        monkeypatch.setenv("OPENAI_API_KEY", "test")
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        agent = Agent("openai-chat:gpt-test", storage=storage, session_id="s1")
        agent.run(FRANCE)
        for _ in range(3):
            asyncio.run(agent.arun(LAST))
            agent.run(LAST)
        threads = [threading.Thread(target=lambda: asyncio.run(agent.arun(LAST))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [run.error for run in storage.runs("s1")] == [None] * 11


def test_a_model_that_is_changed_later_is_used_in_every_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    agent = Agent("openai-chat:gpt-test")
    agent.pydantic_agent.model = TestModel(custom_output_text="the other")  # type: ignore[attr-defined]
    assert agent.run("Hi").output == asyncio.run(agent.arun("Hi")).output == "the other"
