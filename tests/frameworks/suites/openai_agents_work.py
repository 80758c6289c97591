"""What an application does with the OpenAI Agents SDK, without a model: `python openai_agents_work.py WHAT …`."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

from agents import Agent, ModelResponse, RunConfig, Runner, function_tool
from agents.models.interface import Model
from agents.usage import Usage
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

import sessile
from sessile.integrations.openai_agents import SessileSession
from sessile.storage.extending import Deadline, WrappedDriver, wrap


class Scripted(Model):
    """Calls the tool first, and then says what has come out; without tools it says how many items it has seen."""

    async def get_response(self, **given: Any) -> Any:  # type: ignore[override]
        input, tools = given["input"], given["tools"]
        items = input if isinstance(input, list) else [{"role": "user", "content": input}]
        if tools and items[-1].get("role") == "user":
            called = ResponseFunctionToolCall(
                arguments='{"city": "Paris"}', call_id=f"call_{len(items)}", name="weather", type="function_call"
            )
            output: list[Any] = [called]
        else:
            said = ResponseOutputText(text=f"{len(items)} items", type="output_text", annotations=[])
            output = [
                ResponseOutputMessage(
                    id=f"msg_{len(items)}", content=[said], role="assistant", status="completed", type="message"
                )
            ]
        usage = Usage(requests=1, input_tokens=10, output_tokens=2, total_tokens=12)
        return ModelResponse(output=output, usage=usage, response_id=None)

    def stream_response(self, *args: Any, **more: Any) -> Any:
        raise NotImplementedError


@function_tool
def weather(city: str) -> str:
    """Say what the weather is."""
    return f"Sun in {city}."


OFFLINE = RunConfig(tracing_disabled=True)


async def talk(storage: sessile.Storage, session_id: str, prompts: list[str]) -> list[str]:
    """Runs of an agent with a tool, one after the other."""
    agent = Agent(name="guide", model=Scripted(), tools=[weather])
    session = SessileSession(session_id, storage)
    return [(await Runner.run(agent, prompt, session=session, run_config=OFFLINE)).final_output for prompt in prompts]


async def together(storage: sessile.Storage, writers: int, runs: int, name: str) -> None:
    """Many runs at once on one session; each that has ended is told."""
    agent = Agent(name="guide", model=Scripted(), tools=[weather])

    async def work(writer: int) -> None:
        for number in range(runs):
            said = f"{name}-{writer}-{number}"
            await Runner.run(agent, said, session=SessileSession("many", storage), run_config=OFFLINE)
            print(said, flush=True)

    await asyncio.gather(*(work(writer) for writer in range(writers)))


async def pops(storage: sessile.Storage, writers: int) -> int:
    """Items that writers take away at once: how many different ones."""
    whole = SessileSession("popped", storage)
    await whole.add_items([{"role": "user", "content": str(number)} for number in range(writers * 2)])
    taken = await asyncio.gather(*(SessileSession("popped", storage).pop_item() for _ in range(writers)))
    return len({str(item) for item in taken})


class Counting(WrappedDriver):
    """Counts how often commits are asked for beyond those that come with a look."""

    asked = 0

    async def around(self, operation: str, deadline: Deadline, call: Any) -> Any:
        type(self).asked += operation in ("entries", "newest")
        return await call()


async def long(storage: sessile.Storage) -> list[int]:
    """A conversation of 6 MB, read twice, with something added in between: items, and how often more was asked for."""
    wrap(storage, Counting)
    session = SessileSession("long", storage)
    for number in range(300):
        await session.add_items([{"role": "user", "content": f"{number} " + "x" * 20_000}])
    found = [len(await session.get_items())]
    first = Counting.asked
    await session.add_items([{"role": "user", "content": "and one more"}])
    found.append(len(await SessileSession("long", storage).get_items()))
    return [*found, first > 0, Counting.asked - first]


def main(what: str, *arguments: str) -> None:
    with sessile.open(os.environ["SESSILE_URL"]) as storage:
        if what == "talk":
            print(json.dumps(asyncio.run(talk(storage, arguments[0], list(arguments[1:])))))
        elif what == "together":
            asyncio.run(together(storage, int(arguments[0]), int(arguments[1]), arguments[2]))
        elif what == "pops":
            print(asyncio.run(pops(storage, int(arguments[0]))))
        elif what == "long":
            print(json.dumps(asyncio.run(long(storage))))
        elif what == "items":
            items = asyncio.run(SessileSession(arguments[0], storage).get_items())
            print(json.dumps(items))


if __name__ == "__main__":
    main(*sys.argv[1:])
