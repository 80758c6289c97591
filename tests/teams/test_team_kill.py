"""Teams whose process is killed in the middle: what is left of members' runs, and how another process goes on."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openai")

from pydantic_ai import ToolApproved
from pydantic_ai.exceptions import UsageLimitExceeded
from pydantic_ai.usage import UsageLimits
from tests.agents.resume_helpers import Nursery, World, a_nursery, a_world, call, ids, parts, then
from tests.agents.resume_tools import wait_until
from tests.campaigns import sampled
from tests.teams.helpers import ask, tree

from sessile import Run
from sessile.errors import InvalidInputError
from sessile.records import Usage

# Nothing is called beside a count: what a call has changed before it ended is saved with one beside it that has ended.
LEADER = then(
    ask("writer", call("count", by=1)),
    ask("desk", ask("clerk", call("note", text="clerk"))) + "\n" + call("note", text="leader"),
    call("count", by=10),
)
PROMPTS = {"coordinate": LEADER, "relay": then(call("count", by=1), call("note", text="a"))}


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with a_nursery() as made:
        yield made


@pytest.fixture
def world(tmp_path: Path, nursery: Nursery) -> Iterator[World]:
    with a_world(tmp_path, nursery) as made:
        yield made


def start(world: World, do: str, *args: Any, mode: str = "coordinate", **job: Any) -> Any:
    return world.start(do, *args, team=True, agent={"mode": mode}, **job)


@pytest.mark.parametrize(("mode", "when"), [("coordinate", "after"), ("relay", "before")])
def test_killed_at_any_commit(nursery: Nursery, tmp_path: Path, mode: str, when: str) -> None:
    """Whatever commit the process dies at, resuming comes to what an undisturbed run comes to, repeating nothing."""
    prompt = PROMPTS[mode]
    with a_world(make(tmp_path / "whole"), nursery) as world:
        result = start(world, "run", prompt, mode=mode).result()
        whole = world.run(), result, len(world.server.requests), sorted(world.traces.lines)
    for which in sampled():  # each takes two processes
        with a_world(make(tmp_path / str(which)), nursery) as world:
            if start(world, "run", prompt, mode=mode, die=[when, "any", which]).wait() != -signal.SIGKILL:
                assert which > 10
                return
            if not world.revision or world.run().status == "completed":
                continue  # killed before the first commit, or after the last
            check_resumed(world, mode, whole)


def check_resumed(world: World, mode: str, whole: Any) -> None:
    run, result, requests, lines = whole
    left = world.interrupted()
    finished = [child.run_id for child in everyone(left) if child.status == "completed"]
    team = world.team(mode=mode)
    resumed = team.resume("s")
    for _ in range(2):  # a member's tool that had started, and perhaps its leader's
        if resumed.status == "paused":
            resumed = team.resume("s", approvals=dict.fromkeys(ids(resumed.pending).values(), True))
    now = world.run()
    assert (resumed.output, resumed.status, now.output) == (run.output, "completed", run.output)
    assert shape(now) == shape(run)
    assert [child.run_id for child in everyone(now) if child.run_id in finished] == finished
    # What a process was doing when it died may have been done, and is then done once more, but nothing else is.
    assert len(world.server.requests) <= requests + 1
    assert set(world.traces.lines) == set(lines)
    assert len(world.traces.lines) <= len(lines) + 1
    assert resumed.state == result["state"]
    assert world.storage.get_session("s").usage == now.usage  # type: ignore[union-attr]
    assert (now.usage, resumed.usage) == (run.usage, run.usage)


def everyone(run: Run) -> Iterator[Run]:
    yield run
    for child in run.children:
        yield from everyone(child)


def shape(run: Run) -> Any:
    """Who did what below a run: names, inputs, outputs, usage, and the messages in short."""
    return [
        (one.agent, one.status, one.input, one.output, one.usage, sorted(parts(one.messages))) for one in everyone(run)
    ]


def make(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.mark.parametrize("durability", ["run", "step"])
def test_finished_members_are_stored_when_the_process_is_killed(world: World, durability: str) -> None:
    prompt = then(ask("writer", call("note", text="a")), ask("checker", call("block", text="b")))
    child = world.start("run", prompt, team=True, agent={"durability": durability})
    world.traces.wait_for("block b")
    wait_until(lambda: [one.status for one in world.run().children] == ["completed", "running"])
    child.kill()
    run = world.interrupted()
    assert tree(run) == [("writer", "completed", "Tool results: note=noted a"), ("checker", "interrupted", None)]
    assert run.children[1].input == call("block", text="b")
    assert run.children[0].usage.requests == 2
    other = world.team().run("Hello", session_id="s")  # whose start notes that the first run is interrupted
    assert tree(world.run(1))[1] == ("checker", "interrupted", None)
    assert other.number == 2
    assert world.storage.get_session("s").usage == other.usage + run.children[0].usage  # type: ignore[union-attr]


def test_a_members_call_that_had_started_waits_for_a_decision(world: World) -> None:
    child = start(world, "run", then(ask("writer", call("note", text="a")), ask("checker", call("block", text="b"))))
    world.traces.wait_for("block b")
    child.kill()
    world.interrupted()
    team = world.team()
    result = team.resume("s")
    assert (result.status, list(ids(result.pending))) == ("paused", ["block"])
    assert tree(world.run())[1] == ("checker", "paused", None)
    assert team.session("s").pending()[1] == result.pending
    world.traces.open_gate()
    with pytest.raises(InvalidInputError, match="cannot be changed"):
        team.resume("s", approvals={ids(result.pending)["block"]: ToolApproved(override_args={"text": "c"})})
    result = team.resume("s", approvals=dict.fromkeys(ids(result.pending).values(), True))
    said = "Tool results: delegate_task=Tool results: note=noted a; delegate_task=Tool results: block=passed b"
    assert result.output == said
    assert world.traces.lines == ["note a", "block b", "block b"]
    assert [one.status for one in world.run().children] == ["completed", "completed"]
    assert world.run().usage == result.usage != Usage()


def test_limits_of_a_resumed_team_count_what_members_have_used(world: World) -> None:
    prompt = then(ask("writer", call("note", text="a")), ask("checker", call("block_again", text="b")))
    child = start(world, "run", prompt)
    world.traces.wait_for("block b")
    child.kill()
    world.interrupted()
    world.traces.open_gate()
    with pytest.raises(UsageLimitExceeded):
        world.team().resume("s", usage_limits=UsageLimits(request_limit=5))
    run = world.run()
    assert (run.status, run.usage.requests, len(world.server.requests)) == ("failed", 5, 5)
