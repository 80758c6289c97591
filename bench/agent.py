"""What Sessile adds to a whole `agent.run`: the same Pydantic AI run with storage and without.

The model is a function that answers at once, so that nothing but the framework and the storage takes time.
The run without storage gets the same 3 runs of history as ready objects; Sessile loads, decodes and stores
them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic_ai import Agent as PydanticAgent
from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter, ModelResponse, TextPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from sessile import Agent, SqliteStorage

from .measure import Stats, interleave, ms, timed
from .payload import exchange, messages
from .tables import Table, verdict
from .turn import USER, add

BATCH = 2
LIMIT = 0.0009
PROMPT, ANSWER = exchange(1).user, exchange(1).answer
FACES = {
    "sync": "sync",
    "async": "async",
    "on_loop": "async, on_loop=True",
    "exit": 'async, on_loop=True, durability="exit": one commit, nothing is seen of the run while it runs',
}


def answer(history: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """The model: answers at once, to a request after 3 runs of history."""
    assert len(history) == 7
    return ModelResponse(parts=[TextPart(ANSWER)])


async def aanswer(history: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """`answer` without the worker thread that Pydantic AI gives to plain functions."""
    return answer(history, info)


def run(sizes: Sequence[int], rounds: int, data: Path) -> Table:
    """Measure sessions of the first and of the last size."""
    sizes = sorted({sizes[0], sizes[-1]})
    threads, on_loop = SqliteStorage(data / "agent.db"), SqliteStorage(data / "agent-loop.db", on_loop=True)
    storages = {"sync": threads, "async": threads, "on_loop": on_loop, "exit": on_loop}
    model = FunctionModel(aanswer)
    bare: PydanticAgent[None, str] = PydanticAgent(model)
    agents: dict[str, Any] = {
        face: Agent(model, storage=storage, history=3, durability="exit" if face == "exit" else "run")
        for face, storage in storages.items()
    }
    history = ModelMessagesTypeAdapter.validate_python(
        [message for number in (1, 2, 3) for message in messages(exchange(number))]
    )
    for size in sizes:
        for face, storage in storages.items():
            for number in range(1, size + 1):
                add(storage, f"{face}-{size}", exchange(number))
    loop = asyncio.new_event_loop()

    async def abare() -> float:
        start = time.perf_counter()
        await bare.run(PROMPT, message_history=history)
        return time.perf_counter() - start

    async def aours(face: str, size: int) -> float:
        start = time.perf_counter()
        await agents[face].arun(PROMPT, session_id=f"{face}-{size}", user_id=USER)
        return time.perf_counter() - start

    contenders = {
        "bare sync": lambda: timed(lambda: bare.run_sync(PROMPT, message_history=history)),
        "bare async": lambda: loop.run_until_complete(abare()),
    }
    for size in sizes:
        contenders[f"sync {size}"] = lambda s=f"sync-{size}": timed(
            lambda: agents["sync"].run(PROMPT, session_id=s, user_id=USER)
        )
        for face in ("async", "on_loop", "exit"):
            contenders[f"{face} {size}"] = lambda f=face, s=size: loop.run_until_complete(aours(f, s))
    interleave(contenders, 5, BATCH)
    stats = {name: Stats.of(times) for name, times in interleave(contenders, rounds, BATCH).items()}
    threads.close()
    on_loop.close()
    loop.close()
    table = Table(
        f"A whole agent.run, with Sessile and without storage (ms, median and p95 of {rounds * BATCH})",
        ["runs in session", "face", "without storage", "with Sessile", "difference", "wanted"],
    )
    for size in sizes:
        for face, said in FACES.items():
            before, after = stats["bare sync" if face == "sync" else "bare async"], stats[f"{face} {size}"]
            difference = after.median - before.median
            wanted = "-" if face == "exit" else f"<= {LIMIT * 1000:g} {verdict(difference, LIMIT)}"
            table.rows.append(
                [
                    f"{size:,}",
                    said,
                    f"{ms(before.median)} ({ms(before.p95)})",
                    f"{ms(after.median)} ({ms(after.p95)})",
                    ms(difference),
                    wanted,
                ]
            )
    alone = 'with durability="exit" it is the second one alone.'
    table.notes.append(f"A run is two durable commits: when it starts and when it ends; {alone}")
    return table
