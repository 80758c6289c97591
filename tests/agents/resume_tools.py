"""Tools that leave traces in a file, for tests that count what was executed, in whatever process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_ai import BinaryContent, ModelRetry, RunContext, Tool
from pydantic_ai.exceptions import ApprovalRequired, CallDeferred, ToolFailed
from pydantic_ai.messages import ToolReturn

from sessile import session_state

PICTURE = b"\x89PNG" + bytes(range(256)) * 20  # larger than what stays inside a message


class City(BaseModel):
    """A structured answer."""

    name: str


class Traces:
    """What the tools have done: a line each in a file that all processes append to; and a gate where some wait."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "traces.txt"
        self.gate = folder / "gate"

    def add(self, line: str) -> None:
        with self.path.open("a") as file:
            file.write(line + "\n")

    @property
    def lines(self) -> list[str]:
        return self.path.read_text().splitlines() if self.path.exists() else []

    def wait_for(self, line: str) -> None:
        wait_until(lambda: line in self.lines)

    def open_gate(self) -> None:
        self.gate.touch()

    async def at_gate(self) -> None:
        while not self.gate.exists():  # noqa: ASYNC110 (another process opens it)
            await asyncio.sleep(0.002)


def wait_until(condition: Callable[[], Any]) -> None:
    """Wait for a condition; one that never comes ends as a test that hangs does."""
    while not condition():
        time.sleep(0.002)


class Tools:
    """Tools that say in the traces what they have done."""

    def __init__(self, traces: Traces) -> None:
        self.traces = traces

    def note(self, text: str) -> str:
        self.traces.add(f"note {text}")
        return f"noted {text}"

    async def block(self, text: str) -> str:
        self.traces.add(f"block {text}")
        await self.traces.at_gate()
        return f"passed {text}"

    def send(self, to: str) -> str:
        self.traces.add(f"send {to}")
        return f"sent to {to}"

    async def send_slowly(self, to: str) -> str:
        self.traces.add(f"send {to}")
        await self.traces.at_gate()
        return f"sent to {to}"

    def ask(self, context: RunContext[Any], what: str) -> str:
        if not context.tool_call_approved:
            raise ApprovalRequired(metadata={"why": "it costs money"})
        self.traces.add(f"ask {what}")
        return f"bought {what}"

    def outside(self, what: str) -> str:
        raise CallDeferred(metadata={"queue": what})

    def flaky(self, text: str) -> str:
        self.traces.add(f"flaky {text}")
        raise ModelRetry(f"not {text}")

    def broken(self, text: str) -> str:
        self.traces.add(f"broken {text}")
        raise ToolFailed(f"no {text} today")

    def picture(self, name: str) -> BinaryContent:
        self.traces.add(f"picture {name}")
        return BinaryContent(PICTURE, media_type="image/png")

    def fancy(self, name: str) -> ToolReturn:
        self.traces.add(f"fancy {name}")
        return ToolReturn(f"fancy {name}", content=["Look:", name], metadata={"made": name})

    def count(self, by: int) -> int:
        session_state()["count"] = session_state().get("count", 0) + by
        return session_state()["count"]

    async def count_and_block(self, by: int) -> int:
        self.count(by)
        self.traces.add("counted")
        await self.traces.at_gate()
        return by


def tools_of(traces: Traces) -> list[Tool[Any]]:
    """The tools of the agents here."""
    it = Tools(traces)
    plain = [it.note, it.block, it.ask, it.outside, it.broken, it.picture, it.fancy, it.count, it.count_and_block]
    again = Tool(it.block, name="block_again", metadata={"idempotent": True})
    approved = [Tool(function, requires_approval=True) for function in (it.send, it.send_slowly)]
    return [*map(Tool, plain), Tool(it.flaky, max_retries=5), again, *approved]
