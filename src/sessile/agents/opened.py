"""Agents as context managers: what they hold open stays open over many runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import Future
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

from pydantic_ai import Agent as PydanticAgent
from pydantic_ai.agent import AbstractAgent

from ..storage.faces import BackgroundTask, background


class Opened:
    """What an agent and a team have as context managers.

    ```python
    agent = Agent("openai:gpt-5-mini", toolsets=[MCPToolset("http://localhost:8000/mcp")], storage=storage)
    async with agent:
        await agent.arun("…", session_id="s1")  # the server is connected to once
        await agent.arun("…", session_id="s2")
    ```

    Outside of one, each run connects to the servers of its toolsets and leaves them again. `with agent:` keeps them
    open for `run`, `stream` and `resume`, which work on a loop in the background; `async with agent:` for `arun`,
    `astream` and `aresume` of the event loop at hand: a connection belongs to the loop that has made it. A team opens
    its members as well.
    """

    pydantic_agent: PydanticAgent[Any, Any]

    def _held_open(self) -> Iterable[AbstractAgent[Any, Any]]:
        """The agents whose toolsets are opened."""
        return (self.pydantic_agent,)

    async def _open(self) -> AsyncExitStack:
        async with AsyncExitStack() as opening:
            for agent in self._held_open():
                await opening.enter_async_context(agent)
            return opening.pop_all()

    async def __aenter__(self) -> Self:
        """Open the toolsets of the agent (MCP servers, for example), until the block ends."""
        opened = await self._open()
        self._opened.setdefault(asyncio.current_task(), []).append(opened)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task = asyncio.current_task()
        opened = self._opened[task].pop()
        if not self._opened[task]:
            del self._opened[task]
        await opened.aclose()

    def __enter__(self) -> Self:
        """As `async with`, for `run` and the other synchronous methods."""
        keeper = _Keeper(self._open)
        keeper.open()
        self._keepers.append(keeper)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._keepers.pop().close()

    @property
    def _opened(self) -> dict[Any, list[AsyncExitStack]]:
        """What is open, by the task that has opened it, and must close it."""
        return self.__dict__.setdefault("_opened_by_task", {})

    @property
    def _keepers(self) -> list[_Keeper]:
        return self.__dict__.setdefault("_opened_keepers", [])


class _Keeper:
    """A task of the background loop that holds an agent open: what a task has opened, it must close."""

    def __init__(self, open_agent: Callable[[], Awaitable[AsyncExitStack]]) -> None:
        self._open_agent = open_agent
        self._opened: Future[None] = Future()
        self._close: asyncio.Event | None = None
        self._task: BackgroundTask[None] = background.task(self._hold())

    async def _hold(self) -> None:
        self._close = asyncio.Event()
        try:
            opened = await self._open_agent()
        except BaseException as error:  # noqa: BLE001 (whoever opens it is told)
            self._opened.set_exception(error)
            return
        async with opened:
            self._opened.set_result(None)
            await self._close.wait()

    async def _end(self) -> None:
        if self._close is not None:
            self._close.set()

    def open(self) -> None:
        """Open the agent; raises what that raises."""
        self._task.start()
        self._opened.result()

    def close(self) -> None:
        """Close it, and wait until that is done."""
        background.run(self._end())
        self._task.result()
