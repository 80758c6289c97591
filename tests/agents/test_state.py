"""Session state: read and changed in tools, shown in instructions, saved as a patch when the run ends."""

from __future__ import annotations

import asyncio
import sys
import threading
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import ModelMessage, ModelResponse, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.models.test import TestModel
from pydantic_ai.toolsets import FunctionToolset
from tests.agents.helpers import sent
from tests.model_server import ModelServer

from sessile import Agent, SqliteStorage, current_session, session_state
from sessile.errors import ConflictError, InvalidInputError, InvalidStateError, SessileError, TooLargeError
from sessile.records import JsonObject


def state_of(storage: SqliteStorage, session_id: str = "s1") -> JsonObject:
    head = storage.get_session(session_id)
    assert head is not None
    return head.state


def put(key: str, value: Any) -> str:
    """Set a key of the state, in a thread."""
    session_state()[key] = value
    return "done"


async def aput(key: str, value: Any) -> str:
    """Set a key of the state, in the event loop."""
    session_state()[key] = value
    return "done"


def count() -> int:
    """Count up."""
    state = session_state()
    state["count"] = state.get("count", 0) + 1
    return state["count"]


def test_tools_read_and_change_the_state(model: OpenAIChatModel, storage: SqliteStorage) -> None:
    agent = Agent(model, storage=storage, session_id="s1", state={"count": 10, "user": "Ada"}, tools=[count, aput])
    result = agent.run('call count {}\nthen call count {}\nthen call aput {"key": "mood", "value": {"now": "glad"}}')
    assert result.output.startswith("Tool results: count=11; count=12")
    assert result.state == state_of(storage) == {"count": 12, "user": "Ada", "mood": {"now": "glad"}}
    assert agent.run("call count {}").output == "Tool results: count=13"
    assert storage.verify("s1")


def test_the_default_state_is_for_new_sessions_only(model: OpenAIChatModel, storage: SqliteStorage) -> None:
    default: JsonObject = {"count": 1, "deep": {"list": [1]}}
    agent = Agent(model, storage=storage, state=default, tools=[count])
    default["deep"]["list"].append(2)
    agent.run("call count {}", session_id="s1").state["deep"]["list"].append(3)
    agent.run("Hello", session_id="s2")
    assert state_of(storage, "s1") == {"count": 2, "deep": {"list": [1]}}
    assert state_of(storage, "s2") == {"count": 1, "deep": {"list": [1]}}
    Agent(model, storage=storage, state={"other": 1}).run("Hello", session_id="s1")
    assert state_of(storage, "s1") == {"count": 2, "deep": {"list": [1]}}


def test_only_what_has_changed_is_saved(model: OpenAIChatModel, storage: SqliteStorage) -> None:
    def change() -> None:
        state = session_state()
        state["deep"]["b"] = None
        del state["gone"]

    state = {"deep": {"a": 1, "b": 2}, "gone": 1, "same": [1, 2]}
    Agent(model, storage=storage, session_id="s1", state=state, tools=[change]).run("call change {}")
    (patched,) = [entry for entry in storage.entries("s1") if entry.kind == "state.patched"]
    assert sorted(map(str, patched.data["patch"])) == ["['del', ['gone']]", "['set', ['deep', 'b'], None]"]
    assert state_of(storage) == {"deep": {"a": 1, "b": None}, "same": [1, 2]}


def test_placeholders_in_instructions(server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage) -> None:
    instructions = 'User: {user.name}. List: {list}. Unknown: {nobody} {user.age}. JSON: {"user": {}} {} {1} { user }'
    agent = Agent(
        model,
        storage=storage,
        session_id="s1",
        state={"user": {"name": "Ada {list}"}, "list": ["ä", 1, None]},
        instructions=instructions,
        tools=[put],
    )
    agent.run('call put {"key": "list", "value": 2}')
    rest = 'Unknown: {nobody} {user.age}. JSON: {"user": {}} {} {1} { user }'
    assert sent(server, 0).system_text == f'User: Ada {{list}}. List: ["ä",1,null]. {rest}'
    assert sent(server, 1).system_text == f"User: Ada {{list}}. List: 2. {rest}"
    agent.run("Next")
    assert sent(server).system_text == f"User: Ada {{list}}. List: 2. {rest}"


def test_placeholders_only_in_what_the_developer_wrote(
    server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage
) -> None:
    """What a function makes may hold other people's text."""

    def made() -> str:
        return f"{{name}} has {len(session_state())} keys in {current_session().session_id}."

    agent = Agent(model, storage=storage, session_id="s1", state={"name": "Ada"}, instructions=["Plain.", made])
    agent.run("Hello", instructions="And {name} once more.")
    assert sorted(sent(server).system_text.split("\n")) == ["And Ada once more.", "Plain.", "{name} has 1 keys in s1."]


def test_no_placeholders_in_functions_that_are_registered_later(
    server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage
) -> None:
    agent = Agent(model, storage=storage, state={"plan": "free"})
    agent.run("Hello")

    @agent.pydantic_agent.instructions  # type: ignore[attr-defined]
    def plan() -> str:
        return "The plan is {plan}."

    agent.run("Hello")
    assert "The plan is {plan}." in sent(server).system_text


@pytest.mark.parametrize("when", ["made", "run", "registered"])
def test_no_placeholders_in_instructions_of_toolsets(
    server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage, when: str
) -> None:
    tools: FunctionToolset[Any] = FunctionToolset([put], instructions="Tools of the plan {plan}.")
    agent = Agent(model, storage=storage, state={"plan": "free"}, toolsets=[tools] if when == "made" else [])
    if when == "registered":
        agent.pydantic_agent.toolset(lambda context: tools)  # type: ignore[attr-defined]
    agent.run("Hello", toolsets=[tools] if when == "run" else None)
    assert "Tools of the plan {plan}." in sent(server).system_text


def test_the_session_at_hand(model: OpenAIChatModel, storage: SqliteStorage) -> None:
    seen: list[Any] = []

    def look() -> None:
        seen.append(current_session())

    result = Agent(model, storage=storage, tools=[look]).run("call look {}", session_id="s1", user_id="ada")
    assert [(s.session_id, s.user_id, s.run_id, s.storage) for s in seen] == [("s1", "ada", result.run_id, storage)]
    with pytest.raises(SessileError, match="inside a run"):
        current_session()
    Agent(model, tools=[look]).run("call look {}")
    assert (seen[1].session_id != "s1", seen[1].user_id) == (True, None)  # of its own, stored nowhere


# ---------------------------------------------------------------- failed and cancelled runs


def test_the_state_is_kept_when_the_run_fails(
    server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage
) -> None:
    agent = Agent(model, storage=storage, session_id="s1", tools=[put])
    server.plan("ok", "500")
    with pytest.raises(ModelHTTPError):
        agent.run('call put {"key": "a", "value": 1}')
    assert storage.runs("s1")[0].status == "failed"
    assert state_of(storage) == {"a": 1}


async def test_the_state_is_kept_when_the_run_is_cancelled(
    server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage
) -> None:
    agent = Agent(model, storage=storage, session_id="s1", tools=[aput])
    server.plan("ok", "hang")
    task = asyncio.create_task(agent.arun('call aput {"key": "a", "value": 1}'))
    await asyncio.to_thread(server.wait_for_hanging)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await storage.aruns("s1"))[0].status == "interrupted"
    assert state_of(storage) == {"a": 1}


# ---------------------------------------------------------------- two at once


class Pair:
    """Two runs of a session that both have changed the state before either of them ends."""

    def __init__(self, server: ModelServer, storage: SqliteStorage, model: OpenAIChatModel, **settings: Any) -> None:
        self.server = server
        self.agent = Agent(model, storage=storage, session_id="s1", tools=[aput], **settings)

    async def run(self, first: str, second: str) -> list[Any]:
        """Run `first` up to where its tool has been called, `second` to its end, and then `first` to its end."""
        self.server.plan("ok", "hang")
        hanging = asyncio.create_task(self.agent.arun(first))
        await asyncio.to_thread(self.server.wait_for_hanging)
        result = await self.agent.arun(second)
        self.server.release()
        return [*await asyncio.gather(hanging, return_exceptions=True), result]


SET = 'call aput {{"key": "{0}", "value": {1}}}'


async def test_two_runs_that_change_different_keys_both_win(
    server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage
) -> None:
    for setting in ("last_write_wins", "error"):
        pair = Pair(server, storage, model, on_state_conflict=setting)
        await pair.run(SET.format(f"a-{setting}", 1), SET.format(f"b-{setting}", 2))
    assert state_of(storage) == {"a-last_write_wins": 1, "b-last_write_wins": 2, "a-error": 1, "b-error": 2}


async def test_for_the_same_key_the_later_run_wins(
    server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage
) -> None:
    await Pair(server, storage, model).run(SET.format("a", 1), SET.format("a", 2))
    assert state_of(storage) == {"a": 1}


async def test_for_the_same_key_the_later_run_is_told(
    server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage
) -> None:
    pair = Pair(server, storage, model, on_state_conflict="error")
    error, _ = await pair.run(SET.format("a", 1), SET.format("a", 2))
    assert isinstance(error, ConflictError)
    assert "a" in error.message
    assert error.result.output == "Tool results: aput=done"
    assert state_of(storage) == {"a": 2}
    assert [(run.status, run.output) for run in storage.runs("s1")] == [("completed", "Tool results: aput=done")] * 2


async def test_a_failed_run_that_conflicts_raises_its_own_error(
    server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage
) -> None:
    pair = Pair(server, storage, model, on_state_conflict="error")
    hanging_then_failing = SET.format("a", 1) + "\nthen " + SET.format("b", "1")
    server.plan("ok", "hang", "ok", "ok", "500")
    task = asyncio.create_task(pair.agent.arun(hanging_then_failing))
    await asyncio.to_thread(server.wait_for_hanging)
    await pair.agent.arun(SET.format("a", 2))
    server.release()
    with pytest.raises(ModelHTTPError):
        await task
    assert [run.status for run in await storage.aruns("s1")] == ["failed", "completed"]
    assert state_of(storage) == {"a": 2}


# ---------------------------------------------------------------- state that cannot be stored


class Odd:
    """Tools that put into the state what is not JSON."""

    values: dict[str, Any] = {"set": {1, 2}, "nan": float("nan"), "bytes": b"x", "key": {1: 2}}  # noqa: RUF012


def put_odd(name: str) -> str:
    """Put a value that is not JSON into the state."""
    session_state()["odd"] = Odd.values[name]
    session_state()["fine"] = 1
    return "done"


@pytest.mark.parametrize("durability", ["run", "step", "exit"])
@pytest.mark.parametrize("name", list(Odd.values))
def test_state_that_is_not_json(model: OpenAIChatModel, storage: SqliteStorage, name: str, durability: Any) -> None:
    agent = Agent(
        model, storage=storage, session_id="s1", state={"before": 1}, tools=[put_odd, put], durability=durability
    )
    with pytest.raises(InvalidStateError) as caught:
        agent.run(f'call put_odd {{"name": "{name}"}}')
    assert caught.value.result.output == "Tool results: put_odd=done"
    (run,) = storage.runs("s1")
    assert (run.status, run.output, len(run.messages)) == ("completed", "Tool results: put_odd=done", 4)
    kept = {"before": 1, "fine": 1} | ({"odd": {}} if name == "key" else {})
    assert state_of(storage) == kept
    agent.run('call put {"key": "a", "value": 1}')
    assert state_of(storage) == kept | {"a": 1}
    assert storage.verify("s1")


@pytest.mark.parametrize("durability", ["run", "step", "exit"])
@pytest.mark.parametrize("value", [None, [], "", 0, False, ["a"], "text"], ids=repr)
def test_a_state_that_is_no_object(storage: SqliteStorage, value: Any, durability: Any) -> None:
    """A tool has put something else in its place; what is stored stays."""

    def spoil() -> str:
        current_session().state = value
        return "done"

    storage.create_session("s1", state={"before": 1})
    agent = Agent(TestModel(), storage=storage, session_id="s1", tools=[spoil], durability=durability)
    with pytest.raises(InvalidStateError, match="The session's state is no object, but of type "):
        agent.run("Hello")
    assert [run.status for run in storage.runs("s1")] == ["completed"]
    assert state_of(storage) == {"before": 1}


def test_state_that_is_too_large(model: OpenAIChatModel, storage: SqliteStorage) -> None:
    def fill() -> None:
        session_state()["large"] = "x" * 300_000

    with pytest.raises(TooLargeError) as caught:
        Agent(model, storage=storage, session_id="s1", tools=[fill]).run("call fill {}")
    assert caught.value.result.status == "completed"
    assert storage.runs("s1")[0].status == "completed"
    assert state_of(storage) == {}


def test_a_failed_run_with_state_that_is_not_json_raises_its_own_error(
    server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage
) -> None:
    server.plan("ok", "500")
    with pytest.raises(ModelHTTPError):
        Agent(model, storage=storage, session_id="s1", tools=[put_odd]).run('call put_odd {"name": "set"}')
    assert storage.runs("s1")[0].status == "failed"
    assert state_of(storage) == {"fine": 1}


@pytest.mark.parametrize("durability", ["run", "step"])
def test_what_is_not_json_names_its_place_and_costs_nothing_else(
    model: OpenAIChatModel, storage: SqliteStorage, durability: Any
) -> None:
    def buy() -> str:
        state = session_state()
        state["cart"] = [{"price": 1}, {"price": Decimal(2)}]
        state["user"]["address"]["since"] = datetime.now(UTC)
        state["user"]["address"]["town"] = "Oslo"
        state["user"]["name"] = "Ada"
        state["list"].append(2)
        del state["old"]
        return "done"

    before = {"cart": [], "list": [1], "old": 1, "user": {"address": {"since": "now", "street": "x"}}}
    agent = Agent(model, storage=storage, session_id="s1", state=before, tools=[buy], durability=durability)
    with pytest.raises(InvalidStateError, match=r'type Decimal, which is not JSON: state\["cart"\]\[1\]\["price"\]\.'):
        agent.run("call buy {}")
    address = {"since": "now", "street": "x", "town": "Oslo"}
    assert state_of(storage) == {"cart": [], "list": [1, 2], "user": {"address": address, "name": "Ada"}}
    assert storage.verify("s1")


def test_a_default_state_must_be_an_object(model: OpenAIChatModel, storage: SqliteStorage) -> None:
    with pytest.raises(InvalidInputError):
        Agent(model, storage=storage, state=[1]).run("Hello")  # pyright: ignore[reportArgumentType]


def test_state_of_threads_that_run_at_the_same_time(
    server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage
) -> None:
    agent = Agent(model, storage=storage, session_id="s1", tools=[put], durability="step")
    agent.run("Hello")
    threads = [
        threading.Thread(target=agent.run, args=[f'call put {{"key": "k{number}", "value": {number}}}'])
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert state_of(storage) == {f"k{number}": number for number in range(8)}
    assert [run.status for run in storage.runs("s1")] == ["completed"] * 9


@pytest.mark.parametrize("durability", ["run", "step"])
def test_tools_in_threads_may_change_the_state_while_it_is_stored(storage: SqliteStorage, durability: Any) -> None:
    """A tool that was cancelled goes on in its thread, and others end while one is at work."""
    stop = threading.Event()

    def restless() -> str:
        state = session_state()
        while not stop.is_set():
            for number in range(3000):
                state[f"key {number}"] = number
            for number in range(3000):
                del state[f"key {number}"]
        return "at last"

    def quick(number: int) -> int:
        stop.wait(0.02 * number)
        return number

    async def last() -> str:
        await asyncio.sleep(0.5)
        raise OSError("broken")

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        calls = [ToolCallPart("quick", {"number": number}) for number in range(10)]
        return ModelResponse(parts=[ToolCallPart("restless"), *calls, ToolCallPart("last")])

    agent = Agent(FunctionModel(answer), storage=storage, tools=[restless, quick, last], durability=durability)
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with pytest.raises(OSError, match="broken"):
            agent.run("Go", session_id="s1")
    finally:
        sys.setswitchinterval(switch)
        stop.set()
    assert [(run.status, run.error and run.error["message"]) for run in storage.runs("s1")] == [("failed", "broken")]
