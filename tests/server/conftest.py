"""Servers for the tests: agents that are slow, that fail, that ask, and a workflow that waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from sessile import Agent, Context, SqliteStorage, Storage, Team, Workflow

pytest.importorskip("fastapi")

from fastapi import FastAPI
from pydantic_ai import Tool
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from starlette.testclient import TestClient

from sessile.agents.offline import OfflineModel
from sessile.server import Caller, Limits, Tokens, create_app

TOKENS = {
    "ada": "token-of-ada-0123456789",
    "bob": "token-of-bob-0123456789",
    "root": "token-of-root-012345678",
}

AUTH = Tokens(
    {
        TOKENS["ada"]: "ada",
        TOKENS["bob"]: "bob",
        TOKENS["root"]: Caller("root", administrator=True),
    }
)


def headers(who: str | None) -> dict[str, str]:
    return {"X-Sessile": "1"} if who is None else {"Authorization": f"Bearer {TOKENS[who]}"}


class Pace:
    """Holds up the slow agent, word by word."""

    def __init__(self) -> None:
        self.seconds = 0.02
        self.asked = 0


def slow_model(pace: Pace) -> FunctionModel:
    async def stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        pace.asked += 1
        for number in range(20):
            await asyncio.sleep(pace.seconds)
            yield f"word{number} "

    async def whole(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        return ModelResponse(parts=[TextPart("".join([piece async for piece in stream(messages, info)]))])

    return FunctionModel(whole, stream_function=stream)


SLOW_TEXT = "".join(f"word{number} " for number in range(20))


def broken(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    raise ConnectionError("secret-host.internal refused the password hunter2")


async def broken_stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
    yield "I begin"
    broken(messages, info)


def asking(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    returned = [part for part in messages[-1].parts if isinstance(part, ToolReturnPart)]
    if returned:
        return ModelResponse(parts=[TextPart(f"Done: {returned[0].content}")])
    return ModelResponse(parts=[ToolCallPart("refund", {"amount": 5}, tool_call_id="call-1")])


async def asking_stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
    for part in asking(messages, info).parts:
        if isinstance(part, ToolCallPart):
            yield {0: DeltaToolCall(part.tool_name, part.args_as_json_str(), tool_call_id=part.tool_call_id)}
        elif isinstance(part, TextPart):
            yield part.content


def refund(amount: int) -> str:
    return f"{amount} refunded"


async def wait_for_ok(ctx: Context, topic: str) -> str:
    answer: str = await ctx.wait_for_event("ok")
    return f"{topic}: {answer}"


def agents(storage: Storage, pace: Pace) -> list[Agent[Any] | Workflow[Any]]:
    offline = OfflineModel(introduce=False)
    return [
        Agent(offline, name="support", storage=storage),
        Agent(slow_model(pace), name="slow", storage=storage, durability="step"),
        Agent(FunctionModel(broken, stream_function=broken_stream), name="broken", storage=storage),
        Agent(
            FunctionModel(asking, stream_function=asking_stream),
            name="asking",
            storage=storage,
            tools=[Tool(refund, requires_approval=True)],
        ),
        Team([Agent(offline, name="one"), Agent(offline, name="two")], offline, name="team", storage=storage),
        Workflow(wait_for_ok, name="waiting", storage=storage),
    ]


@pytest.fixture
def pace() -> Pace:
    return Pace()


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    with SqliteStorage(tmp_path / "sessions.db") as made:
        yield made


@pytest.fixture
def app(storage: Storage, pace: Pace) -> FastAPI:
    return create_app(agents(storage, pace), auth=AUTH, limits=Limits(stop_seconds=0.1), resume_every=None)


@pytest.fixture
def ask(app: FastAPI) -> Iterator[Callable[[str | None], TestClient]]:
    """A client for each caller, of one server."""
    with ExitStack() as stack:
        first = stack.enter_context(TestClient(app, raise_server_exceptions=False))

        def client(who: str | None) -> TestClient:
            made = TestClient(app, headers=headers(who), raise_server_exceptions=False)
            made.portal = first.portal
            return made

        yield client


@pytest.fixture
def ada(ask: Callable[[str | None], TestClient]) -> TestClient:
    return ask("ada")


def frames(text: str) -> list[dict[str, str]]:
    """The events of a stream."""
    found: list[dict[str, str]] = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "event" in fields:
            found.append(fields)
    return found
