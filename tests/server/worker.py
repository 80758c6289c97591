"""A server process of the tests: `python worker.py FD URL`, with a slow agent whose steps are stored."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

from pydantic_ai.messages import ModelMessage
from pydantic_ai.models.function import AgentInfo, FunctionModel

import sessile
from sessile import Agent
from sessile.server import Limits, create_app
from sessile.server.uvicorned import serve_app

WORDS = 30


async def stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
    for number in range(WORDS):
        await asyncio.sleep(0.05)
        yield f"word{number} "


def main() -> None:
    fd, url = int(sys.argv[1]), sys.argv[2]
    storage = sessile.open(url, lease=3.0)
    agent = Agent(FunctionModel(stream_function=stream), name="slow", storage=storage, durability="step")
    storage.setup()
    print("ready", flush=True)
    limits = Limits(runs=1000, runs_per_user=1000, stop_seconds=1)
    serve_app(create_app([agent], hosts=None, limits=limits, resume_every=0.5), "127.0.0.1", 0, fd=fd)


if __name__ == "__main__":
    main()
