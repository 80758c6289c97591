"""What an application does with Pydantic AI's conversation stores: `python pydantic_ai_work.py together …`."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import sys

from pydantic_ai import Agent
from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import ConversationConflict, ConversationStore
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.usage import UsageLimits

import sessile
from sessile.integrations.pydantic_ai import SessileConversationStore


def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    return ModelResponse([TextPart(f"{len(messages)} messages")])


agent = Agent(FunctionModel(answer))

ENDLESS = UsageLimits(request_limit=None)
"""The requests of a whole conversation count, and 50 are the most if nothing is said."""

LAST = 8
"""How many messages a turn sees. Each save makes the others' turns vain, so that many writers who read all of a long
conversation each time do little else."""


async def say(store: ConversationStore, conversation_id: str, prompt: str) -> str:
    """One turn; whoever is too late waits a moment, loads again and tries again, as an application does."""
    for attempt in itertools.count(1):
        conversation = await store.load(conversation_id, limit=LAST) or Conversation(conversation_id=conversation_id)
        result = await agent.run(prompt, conversation=conversation, usage_limits=ENDLESS)
        with contextlib.suppress(ConversationConflict):
            await store.save(result)
            return result.output
        await asyncio.sleep(random.uniform(0, min(1.0, 0.01 * 2**attempt)))
    raise AssertionError("it counts for ever")


async def together(store: ConversationStore, writers: int, runs: int, name: str) -> None:
    """Many writers at once on one conversation; each turn that was saved is told."""

    async def work(writer: int) -> None:
        for number in range(runs):
            said = f"{name}-{writer}-{number}"
            await say(store, "many", said)
            print(said, flush=True)

    await asyncio.gather(*(work(writer) for writer in range(writers)))


if __name__ == "__main__":
    with sessile.open(os.environ["SESSILE_URL"]) as storage:
        together_arguments = (int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
        asyncio.run(together(SessileConversationStore(storage), *together_arguments))
