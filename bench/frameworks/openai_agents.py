"""openai-agents: what one run with a tool asks of its session: all items (or the newest 12), and three appends."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from agents import SQLiteSession
from agents.run_context import RunContextWrapper

from sessile import SqliteStorage
from sessile.integrations.openai_agents import SessileSession

from .pairs import Side, Took, main, timed


def items(number: int) -> list[list[Any]]:
    """What the runner adds, each time."""
    text = f"Answer number {number}: " + "The capital of that country has been the same for a long time. " * 3
    call = {"type": "function_call", "call_id": f"c{number}", "name": "look_up", "arguments": '{"what": "capital"}'}
    output = {"type": "function_call_output", "call_id": f"c{number}", "output": "It is a city of some size."}
    said = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    answer = {"id": f"m{number}", "type": "message", "role": "assistant", "status": "completed", "content": [said]}
    return [[{"role": "user", "content": f"Question number {number}?"}], [call, output], [answer]]


class Theirs(Side):
    limit: int | None = None

    def __init__(self, path: Path) -> None:
        self.loop = asyncio.new_event_loop()
        self.session: Any = self.open(path)
        self.number = 0

    def open(self, path: Path) -> Any:
        return SQLiteSession("s1", path)

    def fill(self, turns: int) -> None:
        for number in range(turns):
            self.loop.run_until_complete(self.session.add_items([one for part in items(number) for one in part]))
        self.number = turns

    def turn(self) -> Took:
        self.number += 1
        return timed(lambda: self.loop.run_until_complete(self.work()))

    async def work(self) -> None:
        await self.session.get_items(self.limit)
        for part in items(self.number):
            await self.session.add_items(part)


class Ours(Theirs):
    def open(self, path: Path) -> Any:
        return SessileSession("s1", SqliteStorage(path))

    async def work(self) -> None:
        wrapper: Any = RunContextWrapper(None)
        await self.session.get_items(self.limit, wrapper=wrapper)
        for part in items(self.number):
            await self.session.add_items(part, wrapper=wrapper)


class TheirsLimited(Theirs):
    limit = 12


class OursLimited(Ours):
    limit = 12


class OursAnew(Ours):
    """An object for each turn, as a server makes it."""

    async def work(self) -> None:
        self.session = SessileSession("s1", self.session.storage)
        await super().work()


if __name__ == "__main__":
    main(
        {
            "openai-agents, all items": (Theirs, Ours),
            "openai-agents, all items, a new session object each": (Theirs, OursAnew),
            "openai-agents, the newest 12": (TheirsLimited, OursLimited),
        }
    )
