"""Agents as context managers: the servers of their toolsets are connected to once, and not for each run."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Self

import pytest
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.toolsets import FunctionToolset

from sessile import Agent, SqliteStorage, Team
from sessile.errors import NotResumableError


class Server(FunctionToolset[Any]):
    """A toolset with something that must be opened, as a server's connection; it is, while anybody has entered it."""

    def __init__(self) -> None:
        super().__init__(id="server")
        self.events: list[str] = []
        self.entered = 0
        self.add_function(self.look)

    def look(self) -> str:
        """Look."""
        self.events.append("look")
        return "a house"

    async def __aenter__(self) -> Self:
        self.entered += 1
        if self.entered == 1:
            self.events.append("open")
        return self

    async def __aexit__(self, *_: object) -> None:
        self.entered -= 1
        if self.entered == 0:
            self.events.append("close")


def looks(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    last = messages[-1].parts[-1]
    if last.part_kind == "user-prompt":
        return ModelResponse(parts=[ToolCallPart(info.function_tools[0].name, {})])
    return ModelResponse(parts=[TextPart(f"I see {getattr(last, 'content', '')}")])


def test_for_synchronous_callers(storage: SqliteStorage) -> None:
    server = Server()
    agent = Agent(FunctionModel(looks), name="a", storage=storage, toolsets=[server])
    agent.run("What is there?")
    assert server.events == ["open", "look", "close"]
    server.events.clear()
    with agent as same:
        assert same is agent
        for _ in range(2):
            assert agent.run("What is there?").output == "I see a house"
        with agent:
            agent.run("What is there?")
    assert [event for event in server.events if event != "look"] == ["open", "close"]
    assert server.events.count("look") == 3


async def test_for_asynchronous_callers(storage: SqliteStorage) -> None:
    server = Server()
    agent = Agent(FunctionModel(looks), name="a", storage=storage, toolsets=[server])
    team: Team[str] = Team([agent], FunctionModel(lambda _, __: ModelResponse(parts=[TextPart("done")])), name="t")
    for opened in (agent, team):
        server.events.clear()
        async with opened:
            for _ in range(2):
                await agent.arun("What is there?")
        assert server.events == ["open", "look", "look", "close"]


def test_what_cannot_be_opened(storage: SqliteStorage) -> None:
    class Down(Server):
        async def __aenter__(self) -> Self:
            raise ConnectionError("down")

    agent = Agent(FunctionModel(looks), name="a", storage=storage, toolsets=[Down()])
    with pytest.raises(ConnectionError, match="down"), agent:
        pytest.fail("it was not opened")


MCP_SERVER = """
import os, sys
try:
    from mcp.server.mcpserver import MCPServer
except ImportError:  # before version 2
    from mcp.server.fastmcp import FastMCP as MCPServer

server = MCPServer("looker")
with open(sys.argv[1], "a") as log:
    log.write(f"started {os.getpid()}\\n")

@server.tool()
def look() -> str:
    "Look."
    return "a house"

server.run()
"""


@pytest.fixture
def served(tmp_path: Path) -> tuple[Any, Path]:
    """Makes toolsets of a real MCP server, a process of its own; and the log of its starts."""
    transports: Any = pytest.importorskip("fastmcp.client.transports", reason='needs "pydantic-ai-slim[mcp]"')
    from pydantic_ai.mcp import MCPToolset

    program, log = tmp_path / "server.py", tmp_path / "starts.log"

    def make(source: str = MCP_SERVER) -> Any:
        program.write_text(source)
        transport = transports.StdioTransport(
            sys.executable, [str(program), str(log)], env=dict(os.environ), keep_alive=False
        )
        return MCPToolset(transport, init_timeout=600)  # by default 5 s, in which a busy machine starts no process

    return make, log


@pytest.fixture
def mcp(served: tuple[Any, Path]) -> tuple[Any, Path]:
    """A toolset of a real MCP server, and the log of its starts."""
    make, log = served
    return make(), log


def test_a_real_mcp_server(storage: SqliteStorage, mcp: tuple[Any, Path]) -> None:
    toolset, log = mcp
    agent = Agent(FunctionModel(looks), name="a", storage=storage, toolsets=[toolset])
    with agent:
        for session in ("s1", "s2"):
            assert "house" in agent.run("What is there?", session_id=session).output
    assert len(log.read_text().splitlines()) == 1


async def test_a_real_mcp_server_of_an_event_loop(storage: SqliteStorage, mcp: tuple[Any, Path]) -> None:
    toolset, log = mcp
    agent = Agent(FunctionModel(looks), name="a", storage=storage, toolsets=[toolset])
    async with agent:
        for session in ("s1", "s2"):
            assert "house" in (await agent.arun("What is there?", session_id=session)).output
    assert len(log.read_text().splitlines()) == 1


@pytest.mark.parametrize("durability", ["run", "step"])
@pytest.mark.parametrize("open_", [False, True])
async def test_a_call_of_a_real_mcp_server_is_approved_elsewhere(
    storage: SqliteStorage, served: tuple[Any, Path], durability: Any, open_: bool
) -> None:
    """By an agent made anew, which has to ask its own server for the tool before the decision is used up."""
    make, log = served

    def agent(source: str = MCP_SERVER) -> Agent[Any]:
        toolsets = [make(source).approval_required()]
        return Agent(FunctionModel(looks), name="a", storage=storage, toolsets=toolsets, durability=durability)

    paused = await agent().arun("What is there?", session_id="s")
    assert paused.status == "paused"
    (call,) = paused.pending.approvals
    revision = storage.get_session("s").revision  # type: ignore[union-attr]
    with pytest.raises(NotResumableError, match="no tool 'look'"):  # a server that does not have it any more
        await agent(MCP_SERVER.replace("look()", "see()")).aresume("s", approvals={call.tool_call_id: True})
    assert storage.get_session("s").revision == revision  # type: ignore[union-attr]
    resuming = agent()
    async with resuming if open_ else nullcontext():
        done = await resuming.aresume("s", approvals={call.tool_call_id: True})
    assert (done.status, "house" in done.output) == ("completed", True)
    assert len(log.read_text().splitlines()) >= 3
    storage.verify("s")


async def test_a_run_with_a_real_mcp_server_goes_on_after_an_interruption(
    storage: SqliteStorage, served: tuple[Any, Path]
) -> None:
    """What its tool has returned is not asked of the server again."""
    make, _ = served
    answers = [True]

    def looks_and_stops(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        if len(messages) > 1 and answers.pop():
            answers.append(False)
            raise asyncio.CancelledError
        return looks(messages, info)

    def agent(source: str = MCP_SERVER) -> Agent[Any]:
        model = FunctionModel(looks_and_stops)
        return Agent(model, name="a", storage=storage, toolsets=[make(source)], durability="step")

    with pytest.raises(asyncio.CancelledError):
        await agent().arun("What is there?", session_id="s")
    assert storage.get_run("s", 1).status == "interrupted"
    done = await agent(MCP_SERVER.replace("a house", "a garden")).aresume("s")
    assert "house" in done.output
    assert [message.data["kind"] for message in storage.messages("s")] == ["request", "response"] * 2
    storage.verify("s")
