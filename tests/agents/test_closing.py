"""A storage that is closed lets the runs at work on it store what they have, as a web server that stops needs it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from sessile import Agent, Context, SqliteStorage, workflow
from sessile.storage import working


class Model:
    """Answers when it is told to, and says when it was asked."""

    def __init__(self) -> None:
        self.asked, self.may_answer = asyncio.Event(), asyncio.Event()

    async def __call__(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        self.asked.set()
        await self.may_answer.wait()
        return ModelResponse([TextPart("Rome.")])


def status_in(path: Path) -> str:
    with SqliteStorage(path) as storage:
        return storage.runs("s1")[0].status


async def test_a_request_that_is_cancelled_while_the_application_ends_is_stored(tmp_path: Path) -> None:
    model, storage = Model(), SqliteStorage(tmp_path / "s.db")
    request = asyncio.create_task(Agent(FunctionModel(model), storage=storage).arun("Hi", session_id="s1"))
    await model.asked.wait()
    request.cancel()
    await storage.aclose()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert status_in(tmp_path / "s.db") == "interrupted"


async def test_a_run_that_is_about_to_end_may_do_so(tmp_path: Path) -> None:
    model, storage = Model(), SqliteStorage(tmp_path / "s.db")
    request = asyncio.create_task(Agent(FunctionModel(model), storage=storage).arun("Hi", session_id="s1"))
    await model.asked.wait()
    model.may_answer.set()
    await storage.aclose()
    assert (await request).output == "Rome."
    assert status_in(tmp_path / "s.db") == "completed"


async def test_what_goes_on_is_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(working, "ROOM", 0.01)
    model, storage = Model(), SqliteStorage(tmp_path / "s.db")
    agent, begun = Agent(FunctionModel(model), storage=storage, durability="step"), asyncio.Event()

    @workflow(storage=storage)
    async def flow(ctx: Context) -> None:
        begun.set()
        await asyncio.sleep(3600)

    asked = asyncio.create_task(agent.for_user("ada").arun("Hi", session_id="s1"))
    waiting = asyncio.create_task(flow.arun(session_id="s1"))
    await model.asked.wait()
    await begun.wait()
    await storage.aclose()
    for task in (asked, waiting):
        with pytest.raises(asyncio.CancelledError):
            await task
    assert status_in(tmp_path / "s.db") == "interrupted"
    with SqliteStorage(tmp_path / "s.db") as storage:
        assert storage.for_user("ada").runs("s1")[0].status == "interrupted"
