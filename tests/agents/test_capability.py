"""`SessionCapability` on a bare `pydantic_ai.Agent`: what it does, and what its docstring says that it cannot do."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydantic_ai
import pytest

pytest.importorskip("openai")

from pydantic_ai import DeferredToolRequests, Tool
from pydantic_ai.messages import ModelResponse, TextPart
from pydantic_ai.settings import ModelSettings
from tests.agents.resume_helpers import Nursery, World, a_nursery, a_world, call, ids, model_at, parts, then
from tests.agents.resume_tools import tools_of, wait_until

from sessile import ANY_USER, SessionCapability, current_session, session_state
from sessile.agents.run.steps import SessionSteps
from sessile.errors import (
    InvalidInputError,
    InvalidStateError,
    NotStoredError,
    SessileError,
    SessionBusyError,
    SessionNotFoundError,
    StorageError,
)
from sessile.testing import faults

ASK = "What was my last question?"


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with a_nursery() as made:
        yield made


@pytest.fixture
def world(tmp_path: Path, nursery: Nursery) -> Iterator[World]:
    with a_world(tmp_path, nursery, lease=30.0) as made:
        yield made


@pytest.fixture
def brief(tmp_path: Path, nursery: Nursery) -> Iterator[World]:
    """A world of short leases."""
    with a_world(tmp_path, nursery) as made:
        yield made


def bare(world: World, *, tools: Any = None, made_with: Any = None, **options: Any) -> pydantic_ai.Agent[None, Any]:
    """A bare agent with the capability."""
    made: Any = pydantic_ai.Agent(
        model_at(world.server.base_url),
        name="bare",
        tools=tools_of(world.traces) if tools is None else tools,
        capabilities=[SessionCapability(world.storage, **options)],
        **(made_with or {}),
    )
    return made


# ---------------------------------------------------------------- sessions


async def test_history_and_what_is_stored(world: World) -> None:
    agent = bare(world)
    await agent.run("Hello", conversation_id="s")
    result = await agent.run(ASK, conversation_id="s")
    assert result.output == "Your last question was: Hello"
    assert [len(result.all_messages()), len(result.new_messages())] == [4, 2]
    runs, head = world.storage.runs("s"), world.storage.get_session("s")
    assert head is not None
    assert [(run.number, run.status, run.input) for run in runs] == [(1, "completed", "Hello"), (2, "completed", ASK)]
    assert (runs[1].output, runs[1].run_id, runs[1].usage.requests) == (result.output, result.run_id, 1)
    assert (head.agent, head.user_id, head.run_count, head.usage.requests) == ("bare", None, 2, 2)
    assert [message.run for message in world.storage.messages("s")] == [1, 1, 2, 2]
    assert world.agent().run(ASK, session_id="s").output == f"Your last question was: {ASK}"


@pytest.mark.parametrize(("history", "output"), [(None, "You have not"), (1, "Your last"), ("all", "Your last")])
async def test_windows(world: World, history: Any, output: str) -> None:
    agent = bare(world, history=history)
    for prompt in ("One", "Two"):
        await agent.run(prompt, conversation_id="s")
    assert (await agent.run(ASK, conversation_id="s")).output.startswith(output)
    assert len(world.server.requests[-1].body["messages"]) == {None: 1, 1: 3, "all": 5}[history]


async def test_ids_and_users(world: World) -> None:
    await bare(world, session_id="fixed", user_id="ada", agent="boss").run("Hello", conversation_id="s")
    head = world.storage.get_session("fixed", user_id="ada")
    assert head is not None
    assert head.agent == "boss"
    assert world.storage.get_session("s", user_id=ANY_USER) is None
    with pytest.raises(SessionNotFoundError):
        await bare(world, session_id="fixed", user_id="eve").run("Hello")
    result = await bare(world).run("Hello")
    assert world.storage.get_session(result.conversation_id) is not None
    assert len(world.server.requests) == 2


def test_run_sync(world: World) -> None:
    agent = bare(world)
    assert agent.run_sync("Hello", conversation_id="s").output == "You said: Hello"
    assert agent.run_sync(ASK, conversation_id="s").output == "Your last question was: Hello"


async def test_run_stream_and_iter(world: World) -> None:
    agent = bare(world)
    async with agent.run_stream("Hello", conversation_id="s") as streamed:
        assert await streamed.get_output() == "You said: Hello"
    async with agent.iter(ASK, conversation_id="s") as run:
        async for _ in run:
            assert world.run(2).input == ASK
    assert run.result is not None
    assert run.result.output == "Your last question was: Hello"
    assert [run.status for run in world.storage.runs("s")] == ["completed", "completed"]
    assert world.parts == ["user", "text"] * 2


@pytest.mark.parametrize("durability", ["run", "step"])
async def test_broken_off_early(world: World, durability: Any) -> None:
    agent = bare(world, durability=durability)
    async with agent.iter(then(call("note", text="a"), call("note", text="b")), conversation_id="s") as run:
        async for _ in run:
            if "note a" in world.traces.lines:
                break
    assert (world.run().status, world.traces.lines) == ("interrupted", ["note a"])
    assert world.parts[:2] == ["user", "call note"]
    assert (await agent.run("Hello", conversation_id="s")).output == "You said: Hello"
    assert world.run(2).status == "completed"


async def test_two_conversations_at_once(world: World) -> None:
    async def meet(who: str) -> str:
        session_state()["who"] = who
        world.traces.add(who)
        await world.traces.at_gate()
        session = current_session()
        return f"{session.state['who']} in {session.session_id}"

    agent = bare(world, tools=[meet])
    work = [agent.run(call("meet", who=who), conversation_id=f"session of {who}") for who in ("Ada", "Bob")]
    running = asyncio.gather(*work)
    await asyncio.to_thread(wait_until, lambda: len(world.traces.lines) == 2)
    world.traces.open_gate()
    for who, result in zip(("Ada", "Bob"), await running, strict=True):
        assert result.output == f"Tool results: meet={who} in session of {who}"
        head = world.storage.get_session(f"session of {who}")
        assert head is not None
        assert (head.state, head.run_count) == ({"who": who}, 1)


async def test_the_part_that_agents_add(world: World) -> None:
    """Without a run of a Sessile agent around it, it does nothing."""
    agent = pydantic_ai.Agent(
        model_at(world.server.base_url), tools=tools_of(world.traces), capabilities=[SessionSteps()]
    )
    assert (await agent.run(call("note", text="a"))).output == "Tool results: note=noted a"
    assert not world.storage.sessions(user_id=ANY_USER).items


async def test_message_history_is_refused(world: World) -> None:
    history = (await pydantic_ai.Agent(model_at(world.server.base_url)).run("Hello")).all_messages()
    with pytest.raises(InvalidInputError, match="message_history"):
        await bare(world).run("Hello", message_history=history, conversation_id="s")
    assert (world.storage.get_session("s"), len(world.server.requests)) == (None, 1)


# ---------------------------------------------------------------- state


async def test_state_and_placeholders(world: World) -> None:
    instructions = {"instructions": ["You help {name}.", "They have {count}."]}
    agent = bare(world, state={"name": "Ada", "count": 1}, made_with=instructions, durability="step")
    assert (await agent.run(call("count", by=2), conversation_id="s")).output == "Tool results: count=3"
    assert world.server.requests[0].body["messages"][0]["content"].split() == [
        "You",
        "help",
        "Ada.",
        "They",
        "have",
        "1.",
    ]
    result = await agent.run("Show your instructions", conversation_id="s")
    assert "They have 3." in result.output
    head = world.storage.get_session("s")
    assert head is not None
    assert head.state == {"name": "Ada", "count": 3}
    assert [entry.kind for entry in world.storage.entries("s")].count("tool.ended") == 1


async def test_state_that_is_not_json(world: World) -> None:
    def spoil() -> str:
        session_state()["bad"] = object()
        return "done"

    with pytest.raises(InvalidStateError):
        await bare(world, tools=[spoil], durability="step").run(call("spoil"), conversation_id="s")
    run, head = world.run(), world.storage.get_session("s")
    assert head is not None
    assert (run.status, run.output, head.state) == ("completed", "Tool results: spoil=done", {})


async def test_contexts_of_agents_in_tools(world: World) -> None:
    seen: list[str] = []

    def look() -> str:
        seen.append(current_session().session_id)
        return seen[-1]

    inner = bare(world, tools=[look], session_id="inside")

    async def delegate() -> str:
        look()
        result = await inner.run(call("look"))
        look()
        return str(result.output)

    await bare(world, tools=[delegate]).run(call("delegate"), conversation_id="s")
    assert seen == ["s", "inside", "s"]
    assert parts(world.storage.messages("inside")) == ["user", "call look", "result of look", "text"]
    with pytest.raises(SessileError, match="no session here"):
        current_session()


async def test_an_agent_without_its_own_session_in_a_tool(world: World) -> None:
    plain = pydantic_ai.Agent(model_at(world.server.base_url))

    async def delegate() -> str:
        return str((await plain.run("Hello")).output)

    result = await bare(world, tools=[delegate], durability="step").run(call("delegate"), conversation_id="s")
    assert result.output == "Tool results: delegate=You said: Hello"
    assert world.parts == ["user", "call delegate", "result of delegate", "text"]


# ---------------------------------------------------------------- other runs, failures


async def test_busy(world: World) -> None:
    world.server.plan("hang")
    first = asyncio.create_task(bare(world).run("One", conversation_id="s"))
    await asyncio.to_thread(world.server.wait_for_hanging)
    try:
        with pytest.raises(SessionBusyError):
            await bare(world, on_busy="reject").run("Two", conversation_id="s")
    finally:
        queued = asyncio.create_task(bare(world, on_busy="queue").run(ASK, conversation_id="s"))
        world.server.release()
    assert (await first).output == "You said: One"
    assert (await queued).output == "Your last question was: One"


@pytest.mark.parametrize("durability", ["run", "step"])
async def test_failing_and_cancelled_runs(world: World, durability: Any) -> None:
    def fail() -> str:
        session_state()["tried"] = True
        raise ValueError("No luck")

    agent = bare(world, tools=[*tools_of(world.traces), Tool(fail)], durability=durability)
    with pytest.raises(ValueError, match="No luck"):
        await agent.run(call("fail"), conversation_id="s")
    run, head = world.run(), world.storage.get_session("s")
    assert head is not None
    assert (run.status, run.error) == ("failed", {"type": "ValueError", "message": "No luck"})
    assert (head.state, world.parts, run.usage.requests) == ({"tried": True}, ["user", "call fail"], 1)
    task = asyncio.create_task(agent.run(call("block", text="b"), conversation_id="s"))
    await asyncio.to_thread(world.traces.wait_for, "block b")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (world.run(2).status, parts(world.run(2).messages)) == ("interrupted", ["user", "call block"])
    world.server.plan("500")
    with pytest.raises(pydantic_ai.ModelHTTPError):
        await agent.run("Hello", conversation_id="s")
    assert (world.run(3).status, parts(world.run(3).messages)) == ("failed", ["user"])
    assert (await agent.run("Hello", conversation_id="s")).output == "You said: Hello"


async def test_an_answer_that_cannot_be_stored(world: World) -> None:
    agent = bare(world)
    faults.inject(world.storage, faults.Script("append", [None, faults.REFUSE]))
    with pytest.raises(NotStoredError) as caught:
        await agent.run("Hello", conversation_id="s")
    faults.heal(world.storage)
    assert caught.value.result.output == "You said: Hello"
    assert (await caught.value.aretry_commit()).status == "completed"
    assert (world.run().output, world.parts) == ("You said: Hello", ["user", "text"])


# ---------------------------------------------------------------- what only an Agent can do


async def test_a_failure_that_cannot_be_stored(world: World) -> None:
    faults.inject(world.storage, faults.Script("append", [None, faults.REFUSE]))
    world.server.plan("500")
    with pytest.raises(pydantic_ai.ModelHTTPError) as caught:
        await bare(world).run("Hello", conversation_id="s")
    assert isinstance(caught.value.__context__, NotStoredError)
    assert isinstance(caught.value.__context__.cause, StorageError)
    faults.heal(world.storage)


async def test_a_paused_run(world: World) -> None:
    """The run is stored as paused; only an Agent goes on with it."""
    agent = bare(world, made_with={"output_type": [str, DeferredToolRequests]})
    result = await agent.run(call("send", to="Ada"), conversation_id="s")
    waiting = ids(result.output)
    assert world.run().status == "paused"
    approved = result.output.build_results(approve_all=True)
    with pytest.raises((InvalidInputError, pydantic_ai.UserError)):
        await agent.run(deferred_tool_results=approved, conversation_id="s")
    assert world.traces.lines == []
    resumed = await world.agent().aresume("s", approvals={waiting["send"]: True}, run_number=1, adopt=True)
    assert resumed.output == "Tool results: send=sent to Ada"


async def test_the_lease_holds_for_one_term(brief: World) -> None:
    brief.server.plan("hang")
    task = asyncio.create_task(bare(brief, durability="step").run("Hello", conversation_id="s"))
    await asyncio.to_thread(brief.server.wait_for_hanging)
    await asyncio.to_thread(brief.interrupted)
    brief.server.release()
    assert (await task).output == "You said: Hello"
    assert brief.run().status == "completed"


async def test_an_interrupted_run_is_resumed_by_an_agent(brief: World) -> None:
    child = brief.start("capability", call("note", text="a"), die=["after", "tool.ended", 1])
    assert child.wait() == -signal.SIGKILL
    await asyncio.to_thread(brief.interrupted)
    assert (await brief.agent().aresume("s", adopt=True)).output == "Tool results: note=noted a"
    assert brief.traces.lines == ["note a"]


async def test_with_other_capabilities(world: World) -> None:
    """What others make of a response is what is stored, because this one is the outermost."""

    class Shout(pydantic_ai.capabilities.AbstractCapability[Any]):
        async def after_model_request(
            self, ctx: Any, *, request_context: Any, response: ModelResponse
        ) -> ModelResponse:
            response.parts = [TextPart(part.content.upper()) for part in response.parts if isinstance(part, TextPart)]
            return response

    agent: Any = pydantic_ai.Agent(
        model_at(world.server.base_url),
        model_settings=ModelSettings(temperature=0),
        capabilities=[Shout(), SessionCapability(world.storage, durability="step")],
    )
    assert (await agent.run("Hello", conversation_id="s")).output == "YOU SAID: HELLO"
    assert world.storage.messages("s")[1].data["parts"][0]["content"] == "YOU SAID: HELLO"
