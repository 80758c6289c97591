"""Conversations of Pydantic AI's store that another program has changed."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from typing import Any

from pydantic_ai import Agent
from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import ConversationConflict
from pydantic_ai.exceptions import UserError
from pydantic_ai.models.test import TestModel
from spoiled import SECRET, Calls, attack

from sessile import MemoryStorage
from sessile.drivers.memory import MemoryDriver
from sessile.integrations.pydantic_ai import SessileConversationStore

agent = Agent(TestModel(custom_output_text=SECRET))


async def say(store: SessileConversationStore, name: str) -> None:
    conversation = await store.load(name) or Conversation(conversation_id=name)
    result = await agent.run(f"say {SECRET}", conversation=conversation)
    await store.save(result)


def make(storage: MemoryStorage, name: str) -> None:
    store = SessileConversationStore(storage)
    for _ in range(3):
        asyncio.run(say(store, name))


def calls(storage: MemoryStorage, name: str) -> Calls:
    store = SessileConversationStore(storage)

    def of(call: Callable[[], Any]) -> Callable[[], Any]:
        return lambda: asyncio.run(call())

    async def newest(limit: int | None) -> None:
        record = await store.read_record(name)
        if record is not None and record.head_id is not None:
            await store.read_history(record.head_id, limit=limit)
            await store.read_entry(record.head_id)

    async def gone() -> None:
        record = await store.read_record(name)
        if record is not None:
            await store.delete_record(name, expected_revision=record.revision)

    return {
        "say": of(lambda: say(store, name)),
        "load": of(lambda: store.load(name)),
        "window": of(lambda: store.load(name, limit=2)),
        "history": of(lambda: newest(None)),
        "part": of(lambda: newest(1)),
        "absent": of(lambda: store.read_history("nowhere")),
        "gone": of(gone),
    }


def others(storage: MemoryStorage) -> list[str]:
    store = SessileConversationStore(storage)
    return [one.conversation_id for one in asyncio.run(store.read_records())]


def circle(driver: MemoryDriver, chance: random.Random) -> None:
    """The first entry follows the last one."""
    (session,) = driver._sessions.values()
    links = [(place, json.loads(row.body)) for place, row in enumerate(session.log)]
    found = [(place, body, entry) for place, body in links for entry in body["entries"] if
             entry["kind"] == "pydantic-ai.entries"]  # fmt: skip
    place, body, entry = found[0]
    entry["data"]["entries"][0][1] = found[-1][2]["data"]["entries"][-1][0]
    session.log[place] = session.log[place]._replace(body=json.dumps(body))


def main(seeds: int) -> list[Any]:
    allowed = (ConversationConflict, UserError, LookupError)
    return attack(make, calls, others, allowed, seeds=seeds, more={"circle": circle})
