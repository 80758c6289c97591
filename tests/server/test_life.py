"""Servers begin and end: runs go on elsewhere, streams read on, nothing is said twice."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

from fastapi import FastAPI
from pydantic_ai.messages import ModelMessage, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from starlette.testclient import TestClient
from tests.server.conftest import AUTH, frames, headers
from tests.server.test_runs import run, text_of, wait_for

from sessile import ANY_USER, Agent, Context, SqliteStorage, Workflow
from sessile.server import Limits, create_app
from sessile.storage.extending import operate
from sessile.storage.turns import TurnSpec, open_turn, start_turn

FIRST, SECOND = "I look it up. ", "It is 42."


class Gate:
    """Where the work stands still, until somebody lets it go on."""

    def __init__(self) -> None:
        self.open = False
        self.came = 0

    async def passed(self) -> str:
        self.came += 1
        while not self.open:  # noqa: ASYNC110 (set from other threads)
            await asyncio.sleep(0.01)
        return "42"


def served(path: Path, gate: Gate, **more: Any) -> FastAPI:
    """A server process of its own, as far as the database sees it."""
    storage = SqliteStorage(path, lease=0.6)

    async def stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
        if any(isinstance(part, ToolReturnPart) for part in messages[-1].parts):
            yield SECOND[:5]
            yield SECOND[5:]
        else:
            yield FIRST
            yield {0: DeltaToolCall("look_up", "{}", tool_call_id="call-1")}

    async def look_up() -> str:
        return await gate.passed()

    async def steps(ctx: Context, topic: str) -> str:
        found: str = await ctx.step(gate.passed)
        return f"{topic} {found}"

    agent = Agent(FunctionModel(stream_function=stream), name="stepwise", storage=storage, durability="step")
    agent.pydantic_agent.tool_plain(metadata={"idempotent": True})(look_up)  # type: ignore[attr-defined]
    things = [agent, Workflow(steps, name="steps", storage=storage)]
    return create_app(things, auth=AUTH, limits=Limits(stop_seconds=0.1), **more)


def test_what_a_stopped_server_leaves_goes_on_in_another(tmp_path: Path) -> None:
    path, gate = tmp_path / "sessions.db", Gate()
    with TestClient(served(path, gate, resume_every=None), headers=headers("ada")) as first:
        begun = run(first, "stepwise", "Go", session_id="s1", background=True).json()
        run(first, "steps", {"topic": "Rain"}, session_id="w1", background=True)
        wait_until(lambda: gate.came == 2)
    with SqliteStorage(path) as storage:
        assert {one.status for one in storage.sessions(user_id=ANY_USER)} == {"interrupted"}
    gate.open = True
    with TestClient(served(path, gate, resume_every=0.1), headers=headers("ada")) as second:
        found = frames(second.get(begun["events"]).text)
        assert text_of(found) == FIRST + SECOND
        assert json.loads(found[-1]["data"])["output"] == SECOND
        assert wait_for(second, "/sessions/w1/runs/1", "completed")["output"] == "Rain 42"
        assert "sessile_runs_resumed_total 2" in second.get("/metrics", headers=headers("root")).text


def test_a_reader_goes_from_one_server_to_another(tmp_path: Path) -> None:
    """What it has read of the first one's is not said again by the second."""
    path, gate = tmp_path / "sessions.db", Gate()
    places: list[str] = []
    with TestClient(served(path, gate, resume_every=None), headers=headers("ada")) as first:
        app: Any = first.app
        begun = run(first, "stepwise", "Go", session_id="s1", background=True).json()
        wait_until(lambda: gate.came == 1)
        [live] = app.state.sessile.work.live.values()
        places += [str(frame.place) for frame in live.frames]
        texts = [frame.text for frame in live.frames]
    gate.open = True
    with TestClient(served(path, gate, resume_every=0.1), headers=headers("ada")) as second:
        wait_for(second, begun["run"], "completed")
        for place, last in enumerate(places):
            text = "".join(texts[: place + 1])
            for one in frames(second.get(begun["events"], headers={"Last-Event-ID": last}).text):
                data = json.loads(one["data"])
                if one["event"] == "text.restarted":
                    text = text[: data["keep"]]
                text += data.get("text", "") if one["event"] == "text" else ""
            assert text == FIRST + SECOND


def test_a_run_is_cancelled_by_another_server(tmp_path: Path) -> None:
    path, gate = tmp_path / "sessions.db", Gate()
    with (
        TestClient(served(path, gate, resume_every=None), headers=headers("ada")) as first,
        TestClient(served(path, gate, resume_every=None), headers=headers("ada")) as second,
    ):
        begun = run(first, "stepwise", "Go", session_id="s1", background=True).json()
        wait_until(lambda: gate.came == 1)
        assert second.post(f"{begun['run']}/cancel").json() == {"cancelled": True}
        assert wait_for(first, begun["run"], "cancelled")
        gate.open = True


def test_another_server_reads_what_is_committed_while_the_run_goes_on(tmp_path: Path) -> None:
    path, gate = tmp_path / "sessions.db", Gate()
    with (
        TestClient(served(path, gate, resume_every=None), headers=headers("ada")) as first,
        TestClient(served(path, gate, resume_every=None), headers=headers("ada")) as second,
    ):
        begun = run(first, "stepwise", "Go", session_id="s1", background=True).json()
        wait_until(lambda: gate.came == 1)
        first.portal.start_task_soon(open_later, gate)  # type: ignore[union-attr]
        found = frames(second.get(begun["events"]).text)
        texts = [json.loads(one["data"])["text"] for one in found if one["event"] == "text"]
        assert texts == [FIRST, SECOND]
        assert json.loads(found[-1]["data"])["status"] == "completed"


def test_the_index_is_kept_up_to_date(tmp_path: Path) -> None:
    app = served(tmp_path / "sessions.db", Gate(), index_every=0.05)
    with TestClient(app, headers=headers("ada")) as client:
        wait_until(lambda: "index_seconds" in client.get("/ready").json())
        assert client.get("/runs").json()["items"] == []


async def open_later(gate: Gate) -> None:
    await asyncio.sleep(1)
    gate.open = True


def wait_until(true: Any) -> None:
    import time

    until = time.monotonic() + 60
    while not true():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize("durability", ["run", "step"])
def test_a_run_whose_process_has_died_is_not_waited_for_in_vain(tmp_path: Path, durability: Any) -> None:
    """Where no steps are stored, or nobody here goes on with them, its stream ends, and says so."""
    path = tmp_path / "sessions.db"
    with SqliteStorage(path, lease=0.6) as storage:
        mine = storage.for_user("ada")
        agent = "stepwise" if durability == "step" else "another"
        turn = operate(mine, open_turn, TurnSpec("s1", "r1", input="Go", agent=agent, durability=durability), 0)
        operate(mine, start_turn, turn)
    app = served(path, Gate(), resume_every=None)
    app.state.sessile.served.pop("stepwise")
    with TestClient(app, headers=headers("ada")) as client:
        found = frames(client.get("/sessions/s1/runs/1/events").text)
        assert json.loads(found[-1]["data"])["status"] == "interrupted"
