"""Sessions of the OpenAI Agents SDK that another program has changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from spoiled import SECRET, Calls, attack

from sessile import MemoryStorage
from sessile.integrations.openai_agents import SessileSession


def make(storage: MemoryStorage, name: str) -> None:
    session = SessileSession(name, storage)
    for number in range(3):
        said = [
            {"role": "user", "content": f"{SECRET} {number}"},
            {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": SECRET},
            {"role": "assistant", "content": [{"type": "output_text", "text": SECRET}]},
        ]
        asyncio.run(session.add_items(said))
    call = {"part_kind": "tool-call", "tool_name": "x", "args": {"a": 1}}
    messages = [
        {"kind": "request", "parts": [{"part_kind": "user-prompt", "content": SECRET}]},
        {"kind": "response", "parts": [{"part_kind": "text", "content": SECRET}, call]},
    ]
    storage.add_run(session.stored_id, input=SECRET, messages=messages, format="pydantic-ai/2")


def calls(storage: MemoryStorage, name: str) -> Calls:
    session = SessileSession(name, storage)

    def of(call: Callable[[], Any]) -> Callable[[], Any]:
        return lambda: asyncio.run(call())

    async def compact() -> None:
        snapshot = await session._get_compaction_snapshot(2)
        if snapshot is not None:
            await snapshot.replace_suffix(0, [{"role": "user", "content": SECRET}])

    return {
        "all": of(session.get_items),
        "newest": of(lambda: session.get_items(2)),
        "add": of(lambda: session.add_items([{"role": "user", "content": SECRET}])),
        "go on": of(lambda: session.add_items([{"role": "assistant", "content": SECRET}])),
        "pop": of(session.pop_item),
        "pop again": of(session.pop_item),
        "compact": of(compact),
        "clear": of(session.clear_session),
    }


def others(storage: MemoryStorage) -> list[str]:
    found = asyncio.run(SessileSession("sound", storage).get_items())
    return ["sound"] if found else []


def main(seeds: int) -> list[Any]:
    return attack(make, calls, others, seeds=seeds)
