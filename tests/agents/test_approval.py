"""Runs that pause for a decision, and the processes that go on with them."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydantic_ai
import pytest

pytest.importorskip("openai")

from pydantic_ai import DeferredToolRequests, DeferredToolResults, ModelRetry, ToolApproved, ToolDenied
from pydantic_ai.exceptions import ToolFailed
from pydantic_ai.messages import ToolReturn
from tests.agents.helpers import sent
from tests.agents.resume_helpers import Nursery, World, a_nursery, a_world, call, ids, model_at, then
from tests.agents.resume_tools import tools_of, wait_until

from sessile import Agent
from sessile.errors import InvalidInputError, NotResumableError, RunNotFoundError, SessionNotFoundError

SEND = call("send", to="Ada")
MIXED = call("note", text="a") + "\n" + SEND + "\n" + call("outside", what="x") + "\n" + call("ask", what="y")


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with a_nursery() as made:
        yield made


@pytest.fixture
def world(tmp_path: Path, nursery: Nursery) -> Iterator[World]:
    with a_world(tmp_path, nursery, lease=30.0) as made:
        yield made


def pause(world: World, prompt: str = SEND, **options: Any) -> dict[str, str]:
    """A run that pauses, in a process that then ends; returns the ids of the calls that wait, by tool."""
    result = world.start("run", prompt, agent={"durability": "run", **options}).result()
    assert result["status"] == "paused", result
    return result["pending"]


# ---------------------------------------------------------------- one decision


def test_a_paused_run_survives_its_process(world: World) -> None:
    world.storage.add_run("s", input="My name is Ada.", output="Hello Ada.")
    waiting = pause(world)
    head, run = world.storage.get_session("s"), world.run(2)
    assert head is not None
    assert (head.status, run.status, run.ended_at, run.input, run.output) == ("paused", "paused", None, SEND, None)
    assert run.pending["requests"]["approvals"][0]["tool_name"] == "send"
    (pending,) = world.agent().session("s").pending().items()
    assert (pending[0], ids(pending[1])) == (2, waiting)
    assert world.traces.lines == []
    result = world.start("resume", approvals={waiting["send"]: True}).result()
    assert (result["status"], result["number"]) == ("completed", 2)
    assert result["output"] == "Tool results: send=sent to Ada"
    assert world.traces.lines == ["send Ada"]
    assert world.parts == ["user", "call send", "result of send", "text"]
    run = world.run(2)
    assert (run.status, run.pending, run.output) == ("completed", None, "Tool results: send=sent to Ada")
    assert (run.usage.requests, run.usage.tool_calls) == (2, 1)
    assert result["usage"]["requests"] == 2
    assert world.agent().session("s").pending() == {}
    sent = [message["role"] for message in world.server.requests[-1].body["messages"]]
    assert sent == ["user", "assistant", "user", "assistant", "tool"]
    assert world.agent().run("What is my name?", session_id="s").output == "Your name is Ada."


@pytest.mark.parametrize("durability", ["run", "step", "exit"])
@pytest.mark.parametrize(
    ("decision", "result", "done"),
    [
        (True, "sent to Ada", ["send Ada"]),
        (ToolApproved(override_args={"to": "Bob"}), "sent to Bob", ["send Bob"]),
        (False, "The tool call was denied.", []),
        (ToolDenied("Not today."), "Not today.", []),
    ],
)
def test_decisions(world: World, durability: Any, decision: Any, result: str, done: list[str]) -> None:
    agent = world.agent(durability=durability)
    first = agent.run(SEND, session_id="s")
    assert (first.status, first.output) == ("paused", first.pending)
    assert first.pending is not None
    resumed = agent.session("s").resume(approvals={ids(first.pending)["send"]: decision})
    assert resumed.output == f"Tool results: send={result}"
    assert world.traces.lines == done
    assert world.parts == ["user", "call send", "result of send", "text"]
    assert agent.run("Thanks", session_id="s").output == "You said: Thanks"


@pytest.mark.parametrize("durability", ["run", "step"])
def test_another_provider_goes_on_with_ids_of_its_own_form(world: World, durability: Any) -> None:
    agent = world.agent(durability=durability)
    first = agent.run(call("note", text="a") + "\nthen " + SEND, session_id="s")
    assert first.pending is not None
    waiting = ids(first.pending)["send"]
    mistral = model_at(world.server.base_url, name="mistral-large-latest")
    resumed = agent.resume("s", approvals={waiting: True}, model=mistral)
    assert "send=sent to Ada" in resumed.output
    said = [turn for turn in sent(world.server).turns if turn.role in ("assistant", "tool")]
    calls = [one.id for turn in said for one in turn.calls]
    assert [turn.call_id for turn in said if turn.role == "tool"] == calls
    assert len(calls) == 2
    assert all(re.fullmatch("[A-Za-z0-9]{9}", one) for one in calls)
    assert waiting in str(world.storage.get_run("s", 1).messages), "what is stored keeps its ids"


async def test_resuming_in_an_event_loop(world: World) -> None:
    handle = world.agent().session("s")
    result = await handle.arun(call("ask", what="a boat"))
    pending = (await handle.apending())[1]
    assert pending == result.pending
    assert pending.metadata == {ids(pending)["ask"]: {"why": "it costs money"}}
    result = await handle.aresume(approvals={ids(pending)["ask"]: True})
    assert result.output == "Tool results: ask=bought a boat"


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"rows": 3}, '{"rows":3}'),
        (ToolReturn("done", metadata={"by": "worker 7"}), "done"),
        (ModelRetry("Wrong queue."), "Wrong queue."),
        (ToolFailed("The queue is closed."), "The queue is closed."),
    ],
)
def test_calls_that_are_executed_elsewhere(world: World, answer: Any, told: str) -> None:
    agent = world.agent()
    first = agent.run(call("outside", what="x"), session_id="s")
    assert first.pending is not None
    call_id = ids(first.pending)["outside"]
    assert first.pending.metadata == {call_id: {"queue": "x"}}
    result = agent.resume("s", results=DeferredToolResults(calls={call_id: answer}))
    assert told in result.output
    assert world.parts == ["user", "call outside", "result of outside", "text"]


# ---------------------------------------------------------------- several calls and runs


@pytest.mark.parametrize("durability", ["run", "step"])
def test_parallel_calls_that_wait_and_that_do_not(world: World, durability: str) -> None:
    waiting = pause(world, MIXED, durability=durability)
    assert sorted(waiting) == ["ask", "outside", "send"]
    assert world.traces.lines == ["note a"]
    agent = world.agent()
    results = DeferredToolResults(calls={waiting["outside"]: "outside x"}, approvals={waiting["ask"]: True})
    result = agent.resume("s", approvals={waiting["send"]: False}, results=results)
    assert "note=noted a; send=The tool call was denied.; outside=outside x; ask=bought y" in result.output
    assert world.traces.lines == ["note a", "ask y"]
    assert world.parts.count("result of note") == 1
    assert len(world.parts) == 1 + 4 + 4 + 1
    assert agent.run("How many messages do you see?", session_id="s").output.startswith("I see 8 messages")


def test_a_run_that_pauses_twice(world: World) -> None:
    waiting = pause(world, then(SEND, call("send", to="Bob")))
    second = world.start("resume", approvals={waiting["send"]: True}).result()
    assert second["status"] == "paused"
    assert second["usage"]["requests"] == world.run().usage.requests == 2
    result = world.agent().resume("s", approvals={second["pending"]["send"]: True})
    assert (result.output, result.number) == ("Tool results: send=sent to Ada; send=sent to Bob", 1)
    assert (result.usage, world.run().usage.requests) == (world.run().usage, 3)
    head = world.storage.get_session("s")
    assert head is not None
    assert (head.usage, head.run_count) == (result.usage, 1)


def test_other_runs_while_one_waits(world: World) -> None:
    first, second = pause(world), pause(world, call("send", to="Bob"))
    agent = world.agent()
    said = agent.run("How many messages do you see?", session_id="s").output
    assert said == "I see 9 messages: 3 user, 4 assistant, 2 tool."  # what waits is sent along, its calls closed
    assert set(agent.session("s").pending()) == {1, 2}
    with pytest.raises(NotResumableError, match="has ended"):
        agent.resume("s", run_number=3)
    result = agent.resume("s", approvals={first["send"]: True})
    assert (result.number, world.traces.lines) == (1, ["send Ada"])
    with pytest.raises(InvalidInputError, match=first["send"]):
        agent.resume("s", run_number=2, approvals={first["send"]: True})
    assert agent.resume("s", approvals={second["send"]: True}).number == 2
    assert [message.run for message in world.storage.messages("s")] == [1] * 4 + [2] * 4 + [3] * 2


# ---------------------------------------------------------------- what is refused


def test_wrong_and_missing_decisions(world: World) -> None:
    waiting = pause(world, SEND + "\n" + call("outside", what="x"))
    agent, revision = world.agent(), world.revision
    send, outside = waiting["send"], waiting["outside"]
    elsewhere = DeferredToolResults(calls={outside: 1})
    with pytest.raises(NotResumableError, match=f"waits for decisions about {send}") as caught:
        agent.resume("s", results=elsewhere)
    assert "approvals=" in caught.value.hint
    with pytest.raises(NotResumableError, match=outside):
        agent.resume("s", approvals={send: True})
    with pytest.raises(InvalidInputError, match="does not wait for call_x"):
        agent.resume("s", approvals={send: True, "call_x": True}, results=elsewhere)
    with pytest.raises(InvalidInputError, match=outside) as wrong:
        agent.resume("s", approvals={send: True, outside: True})
    assert "results=" in wrong.value.hint
    with pytest.raises(InvalidInputError, match="it is 'yes'"):
        agent.resume("s", approvals={send: "yes"}, results=elsewhere)  # type: ignore[dict-item]
    with pytest.raises(InvalidInputError, match="not JSON"):
        agent.resume("s", approvals={send: True}, results=DeferredToolResults(calls={outside: object()}))
    with pytest.raises(RunNotFoundError, match="no run 7"):
        agent.resume("s", run_number=7, approvals={send: True})
    with pytest.raises(SessionNotFoundError):
        agent.resume("s", user_id="eve", approvals={send: True})
    with pytest.raises(SessionNotFoundError):
        agent.resume("another", approvals={send: True})
    with pytest.raises(InvalidInputError, match="session_id"):
        agent.resume()
    assert (world.revision, world.run().status, world.traces.lines) == (revision, "paused", [])
    assert agent.resume("s", approvals={send: True}, results=elsewhere).status == "completed"
    with pytest.raises(NotResumableError, match="no run that waits"):
        agent.resume("s", approvals={send: True})


@pytest.mark.parametrize("kind", ["processes", "threads"])
def test_only_one_goes_on_with_it(world: World, kind: str) -> None:
    call_id = pause(world, durability="step")["send"]
    outcomes: list[str] = []

    def resume() -> None:
        try:
            outcomes.append(world.agent().resume("s", approvals={call_id: True}).status)
        except NotResumableError as error:
            outcomes.append(type(error).__name__)

    if kind == "threads":
        threads = [threading.Thread(target=resume) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    else:
        children = [world.start("resume", approvals={call_id: True}, gate=True) for _ in range(8)]
        wait_until(lambda: world.traces.lines.count("ready") == 8)
        world.traces.open_gate()
        results = [child.result() for child in children]
        outcomes.extend(result.get("error") or result["status"] for result in results)
    assert sorted(outcomes) == ["NotResumableError"] * 7 + ["completed"]
    assert world.traces.lines.count("send Ada") == 1
    assert world.parts == ["user", "call send", "result of send", "text"]


# ---------------------------------------------------------------- ready agents


@pytest.mark.parametrize("pausing", [True, False])
def test_a_ready_agent(world: World, pausing: bool) -> None:
    output: Any = [str, DeferredToolRequests] if pausing else str
    ready = pydantic_ai.Agent(model_at(world.server.base_url), output_type=output, tools=tools_of(world.traces))
    agent: Agent[Any] = Agent(ready, storage=world.storage)
    if pausing:
        waiting = ids(agent.run(SEND, session_id="s").pending)
        assert agent.resume("s", approvals={waiting["send"]: True}).output == "Tool results: send=sent to Ada"
    else:
        with pytest.raises(pydantic_ai.UserError, match="DeferredToolRequests"):
            agent.run(SEND, session_id="s")
        assert world.run().status == "failed"
