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
    storage, on_loop = SqliteStorage(data / "agent.db"), SqliteStorage(data / "agent-loop.db", on_loop=True)
    model = FunctionModel(aanswer)
    bare: PydanticAgent[None, str] = PydanticAgent(model)
    ours: Any = Agent(model, storage=storage, history=3)
    ours_on_loop: Any = Agent(model, storage=on_loop, history=3)
    history = ModelMessagesTypeAdapter.validate_python(
        [message for number in (1, 2, 3) for message in messages(exchange(number))]
    )
    for size in sizes:
        for kind, where in (("sync", storage), ("async", storage), ("async", on_loop)):
            for number in range(1, size + 1):
                add(where, f"{kind}-{size}", exchange(number))
    loop = asyncio.new_event_loop()

    async def abare() -> float:
        start = time.perf_counter()
        await bare.run(PROMPT, message_history=history)
        return time.perf_counter() - start

    async def aours(agent: Any, session_id: str) -> float:
        start = time.perf_counter()
        await agent.arun(PROMPT, session_id=session_id, user_id=USER)
        return time.perf_counter() - start

    contenders = {
        "bare sync": lambda: timed(lambda: bare.run_sync(PROMPT, message_history=history)),
        "bare async": lambda: loop.run_until_complete(abare()),
    }
    for size in sizes:
        contenders[f"sync {size}"] = lambda s=size: timed(
            lambda: ours.run(PROMPT, session_id=f"sync-{s}", user_id=USER)
        )
        contenders[f"async {size}"] = lambda s=size: loop.run_until_complete(aours(ours, f"async-{s}"))
        contenders[f"on_loop {size}"] = lambda s=size: loop.run_until_complete(aours(ours_on_loop, f"async-{s}"))
    interleave(contenders, 5, BATCH)
    stats = {name: Stats.of(times) for name, times in interleave(contenders, rounds, BATCH).items()}
    storage.close()
    on_loop.close()
    loop.close()
    table = Table(
        f"A whole agent.run, with Sessile and without storage (ms, median and p95 of {rounds * BATCH})",
        ["runs in session", "face", "without storage", "with Sessile", "difference", "wanted"],
    )
    for size in sizes:
        for kind, face in (("sync", "sync"), ("async", "async"), ("on_loop", "async, on_loop=True")):
            before, after = stats["bare sync" if kind == "sync" else "bare async"], stats[f"{kind} {size}"]
            difference = after.median - before.median
            table.rows.append(
                [
                    f"{size:,}",
                    face,
                    f"{ms(before.median)} ({ms(before.p95)})",
                    f"{ms(after.median)} ({ms(after.p95)})",
                    ms(difference),
                    f"<= {LIMIT * 1000:g} {verdict(difference, LIMIT)}",
                ]
            )
    table.notes.append("A run is two durable commits: when it starts and when it ends.")
    return table
