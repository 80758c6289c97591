"""Processes that are killed with SIGKILL in the middle of a run, and what is left of the run."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openai")

from pydantic_ai import ToolApproved, ToolDenied
from tests.agents.resume_helpers import Nursery, World, a_nursery, a_world, call, ids, results, then
from tests.agents.resume_tools import PICTURE, City, wait_until
from tests.campaigns import sampled

from sessile.errors import InvalidInputError, NotResumableError

PARALLEL = call("note", text="a") + "\n" + call("block", text="b")
LONG = then(
    call("note", text="a") + "\n" + call("flaky", text="b") + "\n" + call("broken", text="c"),
    call("fancy", name="d") + "\n" + call("picture", name="e"),
)


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with a_nursery() as made:
        yield made


@pytest.fixture
def world(tmp_path: Path, nursery: Nursery) -> Iterator[World]:
    with a_world(tmp_path, nursery) as made:
        yield made


# ---------------------------------------------------------------- anywhere


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_any_commit(nursery: Nursery, tmp_path: Path, when: str) -> None:
    """Whatever commit a process dies at, resuming comes to what an undisturbed run comes to, repeating nothing."""
    with a_world(make(tmp_path / "whole"), nursery) as world:
        world.storage.add_run("s", input="Hi", output="Hello")
        assert world.start("run", LONG).result()["number"] == 2
        whole = world.run(2), world.parts, world.agent().run("How many messages do you see?", session_id="s").output
    for which in sampled():
        with a_world(make(tmp_path / str(which)), nursery) as world:
            world.storage.add_run("s", input="Hi", output="Hello")
            child = world.start("run", LONG, die=[when, "any", which])
            if child.wait() != -signal.SIGKILL:
                assert which > 15
                return
            head = world.storage.get_session("s")
            assert head is not None
            if head.run_count == 1 or world.run(2).status == "completed":
                continue  # killed before the first commit, or after the last
            check_resumed(world, whole)


def check_resumed(world: World, whole: Any) -> None:
    run = world.interrupted(2)
    assert run.input == LONG
    stored = sum(message.data["kind"] == "response" for message in run.messages)
    ended = [step.data["tool_name"] for step in run.steps if step.kind == "tool.ended"]
    before, asked = world.traces.lines, len(world.server.requests)
    result = world.agent().resume("s")
    if result.status == "paused":
        assert len(world.server.requests) == asked
        assert not set(ids(result.pending)) & set(ended)
        result = world.agent().resume("s", approvals=dict.fromkeys(ids(result.pending).values(), True))
    again = [line.split()[0] for line in world.traces.lines[len(before) :]]
    assert not set(again) & set(ended)
    assert len(world.server.requests) - asked == 3 - stored
    assert (result.number, result.usage, result.output) == (2, whole[0].usage, whole[0].output)
    assert (world.run(2).usage, world.parts) == (whole[0].usage, whole[1])
    assert results(world.run(2)) == results(whole[0])
    assert world.agent().run("How many messages do you see?", session_id="s").output == whole[2]


def make(folder: Path) -> Path:
    folder.mkdir()
    return folder


# ---------------------------------------------------------------- while the model works


def test_killed_while_the_model_works(world: World) -> None:
    world.server.plan("hang")
    child = world.start("run", "What is the capital of France?")
    world.server.wait_for_hanging()
    handle = world.agent().session("s")
    wait_until(lambda: [handle.get_session().status, world.run().status] == ["running"] * 2)  # type: ignore[union-attr]
    child.kill()
    run = world.interrupted()
    head = world.storage.get_session("s")
    assert head is not None
    assert head.status == "interrupted"
    assert (run.input, run.output, run.ended_at) == ("What is the capital of France?", None, None)
    result = world.agent().resume("s")
    assert result.output == "The capital of France is Paris."
    assert (result.number, result.run_id, world.run().status) == (1, run.run_id, "completed")
    assert world.parts == ["user", "text"]
    assert len(world.server.requests) == 2


def test_killed_in_the_middle_of_a_stream(world: World) -> None:
    world.server.plan("ok", "hang-stream")
    child = world.start("stream", call("note", text="a"))
    world.server.wait_for_hanging()
    child.kill()
    world.interrupted()
    with world.agent().stream("How many messages do you see?", session_id="s") as stream:
        assert "".join(stream) == "I see 1 messages: 1 user, 0 assistant, 0 tool."
    assert world.agent().resume("s", run_number=1).output == "Tool results: note=noted a"
    assert world.traces.lines == ["note a"]
    assert world.run().usage.requests == 2


def test_killed_after_the_last_response(world: World) -> None:
    assert world.start("run", "Hello", die=["before", "run.ended", 1]).wait() == -signal.SIGKILL
    assert world.interrupted().output is None
    assert world.agent().resume("s").output == "You said: Hello"
    assert len(world.server.requests) == 1
    assert (world.parts, world.run().usage.requests) == (["user", "text"], 1)


def test_structured_output(world: World) -> None:
    agent = world.agent(output_type=City)
    prompt = call("note", text="a") + '\noutput {"name": "Paris"}'
    world.server.plan("ok", "hang")
    child = world.start("run", prompt, agent={"output_type": "city"})
    world.server.wait_for_hanging()
    child.kill()
    world.interrupted()
    assert agent.resume("s").output == City(name="Paris")
    assert world.run().output == {"name": "Paris"}
    assert world.traces.lines == ["note a"]
    assert agent.run('output {"name": "Rome"}', session_id="s").output == City(name="Rome")


# ---------------------------------------------------------------- while a tool works


def block_and_kill(world: World, prompt: str = PARALLEL, ended: Sequence[str] = ("note",)) -> None:
    """Kill a process in a tool that has started and does not end, when others have ended."""
    child = world.start("run", prompt)
    world.traces.wait_for("block b")
    wait_until(lambda: {step.data["tool_name"] for step in world.run().steps if step.kind == "tool.ended"} == {*ended})
    child.kill()
    world.interrupted()
    world.traces.open_gate()


@pytest.mark.parametrize("again", [True, ToolApproved()])
def test_a_call_that_had_started_waits_for_a_decision(world: World, again: Any) -> None:
    block_and_kill(world)
    agent = world.agent()
    result = agent.resume("s")
    assert (result.status, result.output) == ("paused", result.pending)
    assert len(result.new_messages()) == 2  # the question, and what the model asked for
    assert list(ids(result.pending)) == ["block"]
    (call_id,) = ids(result.pending).values()
    assert "not known whether it finished" in result.pending.metadata[call_id]["reason"]
    head = world.storage.get_session("s")
    assert head is not None
    assert head.status == world.run().status == "paused"
    assert agent.session("s").pending()[1] == result.pending
    with pytest.raises(NotResumableError, match=call_id):
        agent.resume("s")
    result = agent.resume("s", approvals={call_id: again})
    assert result.output == "Tool results: note=noted a; block=passed b"
    assert sorted(world.traces.lines) == ["block b", "block b", "note a"]
    assert world.parts == ["user", "call note", "call block", "result of note", "result of block", "text"]


@pytest.mark.parametrize(
    ("answer", "told"), [(False, "The tool call was denied."), (ToolDenied("It has been done."), "It has been done.")]
)
def test_a_call_that_had_started_is_not_repeated(world: World, answer: Any, told: str) -> None:
    block_and_kill(world)
    (call_id,) = ids(world.agent().resume("s").pending).values()
    assert world.agent().resume("s", approvals={call_id: answer}).output == f"Tool results: note=noted a; block={told}"
    assert sorted(world.traces.lines) == ["block b", "note a"]
    denied = world.run().messages[2].data["parts"][1]
    assert (denied["tool_call_id"], denied["outcome"]) == (call_id, "denied")


def test_decisions_before_they_are_asked_for(world: World) -> None:
    block_and_kill(world)
    agent, revision = world.agent(), world.revision
    with pytest.raises(InvalidInputError, match="does not wait for call_x"):
        agent.resume("s", approvals={"call_x": True})
    call_id = next(iter(started(world)))
    with pytest.raises(InvalidInputError, match="cannot be changed"):
        agent.resume("s", approvals={call_id: ToolApproved(override_args={"text": "c"})})
    assert world.revision == revision
    assert agent.resume("s", approvals={call_id: True}).status == "completed"


def test_killed_again_after_such_a_decision(world: World) -> None:
    """The decision holds, and so does what finished tools had changed in the state."""
    block_and_kill(world, call("count", by=10) + "\n" + call("block", text="b"), ["count"])
    (call_id,) = started(world)
    child = world.start("resume", approvals={call_id: "It is done."}, die=["after", "run.taken", 1])
    assert child.wait() == -signal.SIGKILL
    world.interrupted()
    result = world.agent().resume("s")
    assert (result.output, result.state) == ("Tool results: count=10; block=It is done.", {"count": 10})
    assert world.traces.lines == ["block b"]


def started(world: World) -> set[str]:
    """The calls that had started and not ended."""
    steps = world.run().steps
    calls = {step.data["tool_call_id"] for step in steps if step.kind == "tool.started"}
    return calls - {step.data["tool_call_id"] for step in steps if step.kind == "tool.ended"}


def test_an_idempotent_call_runs_again(world: World) -> None:
    block_and_kill(world, PARALLEL.replace("block", "block_again"))
    assert world.agent().resume("s").output == "Tool results: note=noted a; block_again=passed b"
    assert sorted(world.traces.lines) == ["block b", "block b", "note a"]


def test_state_of_finished_tools(world: World) -> None:
    """What a finished tool has changed is not lost, though the tool is not run again; and it is there only once."""
    world.storage.create_session("s", state={"count": 1, "other": 1})
    prompt = call("count", by=10) + "\nthen " + call("block", text="b")
    block_and_kill(world, prompt, ["count"])
    world.storage.update_state("s", {"other": 2})
    result = world.agent().resume("s")
    assert result.state == {"count": 11, "other": 2}
    world.storage.update_state("s", {"count": 100})
    result = world.agent().resume("s", approvals=dict.fromkeys(ids(result.pending).values(), True))
    head = world.storage.get_session("s")
    assert head is not None
    assert head.state == result.state == {"count": 100, "other": 2}


ENDED = ("picture", "fancy", "flaky", "broken", "note")


def test_results_survive_as_they_were(world: World) -> None:
    first = [call("picture", name="a"), call("fancy", name="b"), call("flaky", text="c"), call("broken", text="d")]
    block_and_kill(world, "\n".join([*first, PARALLEL]), ENDED)
    (call_id,) = ids(world.agent().resume("s").pending).values()
    agent = world.agent()
    agent.resume("s", approvals={call_id: False})
    assert len(world.traces.lines) == 6
    picture, fancy, flaky, broken, *_, content = world.run().messages[2].data["parts"]
    assert (flaky["outcome"], flaky["content"]) == ("retried", "not c")
    assert (broken["outcome"], broken["content"]) == ("failed", "no d today")
    digest = picture["content"]["data"]["$blob"]
    assert world.storage.media("s", digest) == PICTURE
    assert (fancy["content"], fancy["metadata"], content["content"]) == ("fancy b", {"made": "b"}, ["Look:", "b"])
    assert agent.run("Thanks", session_id="s").output == "You said: Thanks"
    assert "image_url" in str(world.server.requests[-1].body)


def test_one_interruption_after_the_other(world: World) -> None:
    """Each process gets one step further; no response and no finished tool is asked for twice."""
    prompt = then(call("note", text="a"), call("block_again", text="b"), call("note", text="c"))
    block_and_kill(world, prompt)
    for kind, which in (("tool.ended", 1), ("message", 2), ("tool.ended", 1), ("message", 1)):
        child = world.start("resume", die=["after", kind, which])
        assert child.wait() == -signal.SIGKILL
        world.interrupted()
    assert world.start("resume").result()["output"] == "Tool results: note=noted a; block_again=passed b; note=noted c"
    assert world.traces.lines == ["note a", "block b", "block b", "note c"]
    call_and_result = [["call note", "result of note"], ["call block_again", "result of block_again"]]
    assert world.parts == ["user", *call_and_result[0], *call_and_result[1], *call_and_result[0], "text"]
    assert (world.run().number, world.run().usage.requests, world.run().usage.tool_calls) == (1, 4, 3)
    head = world.storage.get_session("s")
    assert head is not None
    assert (head.run_count, head.usage) == (1, world.run().usage)
