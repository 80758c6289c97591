"""Members that wait for a person's decision, and the processes in which the team goes on."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openai")

from pydantic_ai import DeferredToolResults, Tool, ToolDenied
from tests.agents.resume_helpers import Nursery, World, a_nursery, a_world, call, ids, then
from tests.model_server import ModelServer
from tests.teams.helpers import ask, member, own_session, team_of, tree

from sessile import MemoryStorage, SqliteStorage
from sessile.errors import InvalidInputError, NotResumableError

SEND = call("send", to="Ada")
SENT = "Tool results: send=sent to Ada"
WRITER = ask("writer", SEND)


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with a_nursery() as made:
        yield made


@pytest.fixture
def world(tmp_path: Path, nursery: Nursery) -> Iterator[World]:
    with a_world(tmp_path, nursery, lease=30.0) as made:
        yield made


@pytest.mark.parametrize(
    ("mode", "durability", "prompt", "answer"),
    [
        ("coordinate", "run", WRITER, f"Tool results: delegate_task={SENT}"),
        ("coordinate", "exit", WRITER, f"Tool results: delegate_task={SENT}"),
        ("route", "step", WRITER, SENT),
        ("route", "run", ask("desk", ask("clerk", SEND)), f"Tool results: delegate_task={SENT}"),
        ("relay", "run", SEND, f"{SENT} / {SENT}"),
        ("relay", "step", SEND, f"{SENT} / {SENT}"),
    ],
)
def test_a_pause_survives_its_process(world: World, mode: str, durability: str, prompt: str, answer: str) -> None:
    options = {"mode": mode, "durability": durability}
    child = world.start("run", prompt, team=True, agent=options).result()
    assert child["status"] == "paused", child
    run = world.run()
    assert (run.status, run.children[0].status, run.output) == ("paused", "paused", None)
    assert run.pending["requests"]["approvals"][0]["args"] == '{"to": "Ada"}'
    (pending,) = world.team().session("s").pending().values()
    assert ids(pending) == child["pending"]
    before = len(world.server.requests)
    for _ in range(2 if mode == "relay" else 1):
        child = world.start(
            "resume", team=True, agent=options, approvals=dict.fromkeys(child["pending"].values(), True)
        )
        child = child.result()
    assert (child["status"], child["output"], child["number"]) == ("completed", answer, 1)
    assert world.traces.lines == ["send Ada"] * (2 if mode == "relay" else 1)
    run = world.run()
    assert {one.status for one in run.children} == {"completed"}
    requests = {"coordinate": 2, "route": 1 if "desk" not in prompt else 2, "relay": 3}[mode]
    assert len(world.server.requests) - before == requests
    assert run.usage.requests == len(world.server.requests)
    assert run.usage == world.storage.get_session("s").usage  # type: ignore[union-attr]
    assert world.team(**options).run("Thanks", session_id="s").status == "completed"


def test_members_that_wait_and_members_that_have_ended(world: World) -> None:
    """Those who wait are asked about together, also a tool of the leader's own, and nobody's work is done twice."""
    prompt = "\n".join(
        [
            ask("writer", SEND),
            ask("checker", call("note", text="a")),
            ask("desk", ask("clerk", call("outside", what="x"))),
            call("ask", what="y"),
        ]
    )
    team = world.team(durability="run")
    paused = team.run(prompt, session_id="s")
    assert sorted(ids(paused.pending)) == ["ask", "outside", "send"]
    statuses = {one.agent: one.status for one in paused.members}
    assert statuses == {"writer": "paused", "checker": "completed", "desk": "paused"}
    waiting = ids(paused.pending)
    with pytest.raises(NotResumableError, match=waiting["outside"]):
        team.resume("s", approvals={waiting["send"]: True, waiting["ask"]: True})
    with pytest.raises(InvalidInputError, match="does not wait for call_x"):
        team.resume("s", approvals={"call_x": True})
    result = team.resume(
        "s",
        approvals={waiting["send"]: ToolDenied("Not today."), waiting["ask"]: True},
        results=DeferredToolResults(calls={waiting["outside"]: "done outside"}),
    )
    assert result.status == "completed"
    for part in ("send=Not today.", "note=noted a", "outside=done outside", "ask=bought y"):
        assert part in result.output
    assert sorted(world.traces.lines) == ["ask y", "note a"]
    assert [one.status for one in world.run().children] == ["completed"] * 3
    assert result.usage == world.run().usage


@pytest.mark.parametrize("die", [["after", "run.taken", 1], ["after", "run.taken", 2], ["after", "tool.ended", 1]])
def test_a_crash_after_the_decision(tmp_path: Path, nursery: Nursery, die: Any) -> None:
    with a_world(tmp_path, nursery) as world:
        paused = world.team().run(then(ask("writer", SEND), ask("desk", ask("clerk", SEND))), session_id="s")
        for _ in range(2):
            decided = dict.fromkeys(ids(paused.pending).values(), True)
            assert world.start("resume", team=True, approvals=decided, die=die).wait() == -signal.SIGKILL
            world.interrupted()
            paused = world.team().resume("s")
        assert paused.status == "completed"
        assert world.traces.lines == ["send Ada"] * 2
        assert world.run().usage.requests == len(world.server.requests)


def test_a_member_that_pauses_in_its_own_session(server: ModelServer, storage: SqliteStorage) -> None:
    def send(to: str) -> str:
        return f"sent to {to}"

    with MemoryStorage() as other:
        scribe = member(server, "scribe", storage=other, tools=[Tool(send, requires_approval=True)])
        team = team_of(server, scribe, storage=storage, session_id="s1")
        paused = team.run(ask("scribe", SEND))
        assert other.get_session(own_session(other, "s1/scribe")).status == storage.get_session("s1").status == "paused"  # type: ignore[union-attr]
        result = team.resume(approvals=dict.fromkeys(ids(paused.pending).values(), True))
        assert result.output == "Tool results: delegate_task=Tool results: send=sent to Ada"
        (run,) = storage.runs("s1")
        (own,) = other.runs(own_session(other, "s1/scribe"))
        assert (own.status, own.usage) == ("completed", run.children[0].usage)
        assert tree(run) == [("scribe", "completed", "Tool results: send=sent to Ada")]
        assert run.usage == result.usage
