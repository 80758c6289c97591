"""What a run has to compute for its session does not hold up the other runs of its event loop."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import BinaryContent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from tests.storage.helpers import longest_stall

from sessile import Agent, SqliteStorage, session_state
from sessile.storage import computing

THINGS: dict[str, Any] = {f"key {number}": {"number": number, "text": "word"} for number in range(2_000)}


def remember() -> str:
    """A tool that changes much in the state. What it returns is short: Pydantic AI looks at that several times."""
    session_state().update(THINGS)
    return "remembered"


def said(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    asked = any(isinstance(part, ToolReturnPart) for part in messages[-1].parts)
    return ModelResponse(parts=[TextPart("done") if asked else ToolCallPart("remember", {})])


def stall(path: Path) -> float:
    """How long the loop stands still at most while a session with much in it has another run."""

    async def run() -> float:
        async with SqliteStorage(path, max_state_bytes=10**7) as storage:
            agent = Agent(FunctionModel(said), tools=[remember], storage=storage, durability="step")
            image = BinaryContent(b"\x89PNG" + bytes(2_000_000), media_type="image/png")
            stalls = [await longest_stall(agent.arun(["Look", image], session_id="s")) for _ in range(2)]
            session = await storage.aget_session("s")
            assert session is not None
            assert session.state == THINGS
            return max(stalls)

    return asyncio.run(run())


def test_the_loop_goes_on_with_other_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beside = min(stall(tmp_path / f"{number}.db") for number in range(3))  # a busy machine only makes one longer
    monkeypatch.setattr(computing, "LARGE", 10**12)
    assert beside < stall(tmp_path / "on the loop.db") / 3
