"""Going on with runs: which ones can be, what they go on with, and what is left when that fails."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openai")

from pydantic_ai import DeferredToolResults, Tool, UsageLimitExceeded, UsageLimits
from pydantic_ai.messages import BinaryContent
from tests.agents.resume_helpers import Nursery, World, a_nursery, a_world, call, ids, model_at, then
from tests.agents.resume_tools import PICTURE, City, wait_until

from sessile import Agent, SqliteStorage, current_session
from sessile.errors import (
    InvalidInputError,
    NotResumableError,
    SessileError,
    StorageError,
    StorageUnavailableError,
    UnknownFormatError,
)
from sessile.testing import faults

SEND = call("send_slowly", to="Ada")


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with a_nursery() as made:
        yield made


@pytest.fixture
def world(tmp_path: Path, nursery: Nursery) -> Iterator[World]:
    with a_world(tmp_path, nursery) as made:
        yield made


# ---------------------------------------------------------------- what each durability leaves


def test_durability_run_keeps_the_input(world: World) -> None:
    prompt = call("note", text="a")
    world.server.plan("ok", "hang")
    child = world.start("run", prompt, agent={"durability": "run"})
    world.server.wait_for_hanging()
    assert world.revision == 1
    child.kill()
    run = world.interrupted()
    assert (run.input, run.messages, run.steps) == (prompt, [], [])
    agent = world.agent()
    with pytest.raises(NotResumableError, match="Run 1 was interrupted") as caught:
        agent.resume("s")
    assert 'durability="step"' in caught.value.hint
    assert world.revision == 1
    assert agent.run(run.input, session_id="s").output == "Tool results: note=noted a"
    assert [message.run for message in world.storage.messages("s")] == [2] * 4
    assert [run.status for run in world.storage.runs("s")] == ["interrupted", "completed"]


def test_durability_exit_commits_once(world: World) -> None:
    world.storage.create_session("s")
    world.server.plan("ok", "hang")
    child = world.start("run", call("note", text="a"), agent={"durability": "exit"})
    world.server.wait_for_hanging()
    child.kill()
    assert (world.revision, world.storage.runs("s")) == (1, [])
    result = world.agent(durability="exit").run(call("note", text="a"), session_id="s")
    assert (world.revision, result.number, world.run().status) == (2, 1, "completed")
    assert world.agent(durability="exit").run(call("send", to="Ada"), session_id="s").status == "paused"
    assert world.revision == 3


def test_steps_are_seen_as_they_happen(world: World) -> None:
    child = world.start("run", then(call("note", text="a"), call("block", text="b")), lease=30.0)
    world.traces.wait_for("block b")
    assert world.parts == ["user", "call note", "result of note", "call block"]
    world.traces.open_gate()
    assert child.result()["status"] == "completed"
    assert world.parts[4:] == ["result of block", "text"]


# ---------------------------------------------------------------- which run


def kill_in_tool(world: World, prompt: str, line: str, number: int = 1, **job: Any) -> None:
    child = world.start("run", prompt, **job)
    world.traces.wait_for(line)
    child.kill()
    world.interrupted(number)


def test_the_newest_that_can_go_on(world: World) -> None:
    agent = world.agent()
    waiting = ids(agent.run(call("send", to="Ada"), session_id="s").pending)
    kill_in_tool(world, call("block_again", text="b"), "block b", 2)
    kill_in_tool(world, call("block_again", text="c"), "block c", 3, agent={"durability": "run"})
    world.traces.open_gate()
    with pytest.raises(NotResumableError, match="Run 3"):
        agent.resume("s", run_number=3)
    assert agent.resume("s", approvals={waiting["send"]: True}).number == 1
    assert agent.resume("s").number == 2
    with pytest.raises(NotResumableError, match="Run 3 was interrupted"):
        agent.resume("s")


def test_structured_runs_before_it(world: World) -> None:
    """The run before ends with a tool result, which the model is sent in one request with the input of this one."""
    agent = world.agent(output_type=City)
    agent.run('output {"name": "Paris"}', session_id="s")
    world.server.plan("hang")
    child = world.start("run", 'output {"name": "Rome"}', agent={"output_type": "city"})
    world.server.wait_for_hanging()
    child.kill()
    world.interrupted(2)
    assert agent.resume("s").output == City(name="Rome")
    assert world.parts == ["user", "call final_result", "result of final_result"] * 2


def test_a_run_that_works_cannot_be_resumed(world: World) -> None:
    child = world.start("run", call("block", text="b"), lease=30.0)
    world.traces.wait_for("block b")
    with pytest.raises(NotResumableError, match="being worked on"):
        world.agent().resume("s", run_number=1)
    with pytest.raises(NotResumableError, match="being worked on"):
        world.agent().resume("s")
    world.traces.open_gate()
    assert child.result()["status"] == "completed"


def test_what_resuming_needs(world: World) -> None:
    with pytest.raises(InvalidInputError, match="needs a storage"):
        Agent(model_at(world.server.base_url)).resume("s")


# ---------------------------------------------------------------- killed while going on after a decision


@pytest.mark.parametrize("die", [["after", "run.taken", 1], ["before", "tool.started", 1], ["after", "message", 1]])
def test_decisions_survive_too(world: World, die: list[Any]) -> None:
    """A decision that was given once is not asked for again, wherever the process that went on with it dies."""
    world.traces.open_gate()
    prompt = call("note", text="a") + "\n" + SEND + "\n" + call("outside", what="x") + "\n" + call("send", to="Bob")
    waiting = world.start("run", prompt).result()["pending"]
    approvals = {waiting["send_slowly"]: {"to": "Eve"}, waiting["send"]: "Not Bob."}
    calls = {waiting["outside"]: {"rows": 3}}
    child = world.start("resume", approvals=approvals, calls=calls, die=die)
    assert child.wait() == -signal.SIGKILL
    world.interrupted()
    result = world.agent().resume("s")
    told = 'note=noted a; send_slowly=sent to Eve; outside={"rows":3}; send=Not Bob.'
    assert result.output == f"Tool results: {told}"
    assert world.traces.lines == ["note a", "send Eve"]
    assert len(world.parts) == 1 + 4 + 4 + 1
    assert (len(world.server.requests), result.usage.requests, result.usage.tool_calls) == (2, 2, 2)
    assert result.usage == world.run().usage
    assert world.agent().run("Thanks", session_id="s").output == "You said: Thanks"


@pytest.mark.parametrize("answer", [True, False])
def test_killed_in_a_tool_that_was_approved(world: World, answer: bool) -> None:
    waiting = world.start("run", SEND + "\n" + call("note", text="a")).result()["pending"]
    child = world.start("resume", approvals={waiting["send_slowly"]: {"to": "Eve"}})
    world.traces.wait_for("send Eve")
    child.kill()
    world.interrupted()
    world.traces.open_gate()
    agent = world.agent()
    pending = agent.resume("s").pending
    assert pending is not None
    assert ids(pending) == waiting
    result = agent.resume("s", approvals={waiting["send_slowly"]: answer})
    told = "sent to Eve" if answer else "The tool call was denied."
    assert result.output == f"Tool results: send_slowly={told}; note=noted a"
    assert world.traces.lines == ["note a", "send Eve"] + ["send Eve"] * answer


def test_killed_after_the_decision_about_an_interrupted_call(world: World) -> None:
    kill_in_tool(world, call("block", text="b"), "block b")
    waiting = world.start("resume").result()["pending"]
    child = world.start("resume", approvals={waiting["block"]: False}, die=["after", "run.taken", 1])
    assert child.wait() == -signal.SIGKILL
    world.interrupted()
    assert world.agent().resume("s").output == "Tool results: block=The tool call was denied."
    assert world.traces.lines == ["block b"]


# ---------------------------------------------------------------- what a run goes on with


def test_a_prompt_with_a_picture(world: World) -> None:
    """Large parts of the input are kept apart, and are there again when a run begins anew."""
    storage, agent = world.storage, world.agent()
    faults.inject(storage, faults.Script("append", [None, None, faults.CRASH_BEFORE]))
    with pytest.raises(faults.SimulatedCrash):
        agent.run(["Look at this:", BinaryContent(PICTURE, media_type="image/png")], session_id="s")
    faults.heal(storage)
    assert world.interrupted().messages == []
    assert agent.resume("s").output == "You said: Look at this:\n[image_url]"
    assert world.parts == ["user", "text"]


def test_a_change_that_was_taken_back(world: World) -> None:
    steps = then(call("count", by=1), call("count", by=-1), call("block_again", text="b"))
    kill_in_tool(world, steps, "block b", agent={"state": {"count": 0}})
    world.traces.open_gate()
    assert world.agent(state={"count": 0}).resume("s").state == {"count": 0}
    assert world.storage.get_session("s").state == {"count": 0}  # type: ignore[union-attr]


def test_limits_count_what_was_used_before(world: World) -> None:
    prompt = then(call("note", text="a"), call("block_again", text="b"))
    kill_in_tool(world, prompt, "block b")
    world.traces.open_gate()
    with pytest.raises(UsageLimitExceeded):
        world.agent().resume("s", usage_limits=UsageLimits(request_limit=2))
    assert (world.run().status, world.run().usage.requests) == ("failed", 2)
    agent = world.agent(usage_scope="session")
    with pytest.raises(UsageLimitExceeded):
        agent.run("Hello", session_id="s", usage_limits=UsageLimits(request_limit=2))
    assert agent.run("Hello", session_id="s", usage_limits=UsageLimits(request_limit=3)).usage.requests == 1


# ---------------------------------------------------------------- when going on fails


def spoil(world: World) -> None:
    """Give the stored messages a kind of part that this version does not know."""
    with sqlite3.connect(world.folder / "sessions.db") as database:
        database.execute("UPDATE sessile_commits SET body = replace(body, 'tool-call', 'tool-riddle')")
    database.close()


def ids_in(pending: Any) -> list[str]:
    return [] if pending is None else [one["tool_call_id"] for one in pending["requests"]["approvals"]]


@pytest.mark.parametrize("status", ["paused", "interrupted"])
def test_a_run_that_cannot_be_read_stays_as_it_was(world: World, status: str) -> None:
    if status == "paused":
        pending = ids(world.agent().run(call("send", to="Ada"), session_id="s").pending)
    else:
        kill_in_tool(world, call("block_again", text="b"), "block b")
        pending = {}
    waiting = ids_in(world.run().pending)
    spoil(world)
    for _ in range(2):
        with pytest.raises(UnknownFormatError):
            world.agent().resume("s", approvals=dict.fromkeys(pending.values(), True))
        assert (world.run().status, ids_in(world.run().pending)) == (status, waiting)


async def test_cancelled_while_it_is_taken_over(world: World) -> None:
    agent = world.agent()
    waiting = ids((await agent.arun(call("send", to="Ada"), session_id="s")).pending)
    reached = asyncio.Event()
    loop = asyncio.get_running_loop()
    driver: Any = world.storage._core.driver  # type: ignore[union-attr]
    append = driver.append

    async def slow(*args: Any) -> bool:
        loop.call_soon_threadsafe(reached.set)
        wait_until(world.traces.gate.exists)
        return await append(*args)

    driver.append = slow
    task = asyncio.create_task(agent.aresume("s", approvals={waiting["send"]: True}))
    await reached.wait()
    task.cancel()
    world.traces.open_gate()
    with pytest.raises(asyncio.CancelledError):
        await task
    driver.append = append
    assert world.run().status == "paused"
    assert (await agent.aresume("s", approvals={waiting["send"]: True})).status == "completed"


def test_nothing_is_lost_when_taking_over_fails(world: World) -> None:
    agent = world.agent()
    waiting = ids(agent.run(call("send", to="Ada"), session_id="s").pending)
    faults.inject(world.storage, faults.Always("append", faults.REFUSE))
    with pytest.raises(StorageError):
        agent.resume("s", approvals={waiting["send"]: True})
    faults.heal(world.storage)
    assert world.run().status == "paused"
    faults.inject(world.storage, faults.Script("append", [faults.LOSE_ANSWER]))
    assert agent.resume("s", approvals={waiting["send"]: True}).status == "completed"
    assert world.traces.lines == ["send Ada"]
    assert StorageUnavailableError.default_retryable


def test_a_model_that_fails_when_it_goes_on(world: World) -> None:
    agent = world.agent(durability="run")
    waiting = ids(agent.run(call("send", to="Ada"), session_id="s").pending)
    world.server.plan("500")
    with pytest.raises(Exception, match="500"):
        agent.resume("s", approvals={waiting["send"]: True})
    assert (world.run().status, world.traces.lines) == ("failed", ["send Ada"])
    assert world.run().error["type"] == "ModelServerError"  # type: ignore[index]
    assert world.parts == ["user", "call send", "result of send"]
    assert agent.run("Hello", session_id="s").output == "You said: Hello"


# ---------------------------------------------------------------- agents inside tools


@pytest.mark.parametrize("same_storage", [True, False])
async def test_an_agent_inside_a_tool(world: World, same_storage: bool) -> None:
    other = world.storage if same_storage else SqliteStorage(world.folder / "other.db")
    seen: list[str] = []

    async def look(who: str) -> str:
        session = current_session()
        seen.append(f"{who} in {session.session_id}")
        session.state["last"] = who
        return who

    inner = Agent(model_at(world.server.base_url), storage=other, name="inner", tools=[Tool(look, name="inner_look")])

    async def delegate(text: str) -> str:
        await look("before")
        result = await inner.arun(call("inner_look", who=text), session_id="inside")
        await look("after")
        return result.output

    outer = Agent(model_at(world.server.base_url), storage=world.storage, tools=[delegate], durability="step")
    result = await outer.arun(call("delegate", text="within"), session_id="s")
    assert result.output == "Tool results: delegate=Tool results: inner_look=within"
    assert seen == ["before in s", "within in inside", "after in s"]
    assert result.state == {"last": "after"}
    head = other.get_session("inside")
    assert head is not None
    assert (head.state, head.agent, head.run_count) == ({"last": "within"}, "inner", 1)
    assert world.parts == ["user", "call delegate", "result of delegate", "text"]
    assert [json.dumps(message.data).count("inner_look") > 0 for message in other.messages("inside")][1:3] == [True] * 2
    with pytest.raises(SessileError, match="no session here"):
        current_session()
    if not same_storage:
        other.close()


def test_results_for_a_run_that_was_interrupted(world: World) -> None:
    kill_in_tool(world, call("block", text="b"), "block b")
    with pytest.raises(InvalidInputError, match="does not wait for call_x"):
        world.agent().resume("s", results=DeferredToolResults(calls={"call_x": 1}))
