"""What the OpenAI Agents SDK itself stores: `python openai_agents_written.py FOLDER KEY [POSTGRES_URL]`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from agents import Agent, ModelResponse, Runner, SQLiteSession, Usage, function_tool
from agents.extensions.memory import AdvancedSQLiteSession, EncryptedSession, SQLAlchemySession
from agents.models.interface import Model
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText


class Offline(Model):
    """Calls a tool where it is asked to, answers else."""

    async def get_response(self, *args: Any, **given: Any) -> ModelResponse:
        items = given.get("input") or args[1]
        last = items[-1] if isinstance(items, list) else {"content": items}
        text = str(last.get("content") or last.get("output"))
        if "look up" in text:
            made: Any = ResponseFunctionToolCall(
                arguments='{"city": "Rome"}', call_id="call_1", name="lookup", type="function_call"
            )
        else:
            said = ResponseOutputText(text=f"answer to {text[:40]}", type="output_text", annotations=[])
            made = ResponseOutputMessage(
                id="__fake_id__", role="assistant", status="completed", type="message", content=[said]
            )
        usage = Usage(requests=1, input_tokens=10, output_tokens=3, total_tokens=13)
        return ModelResponse(output=[made], usage=usage, response_id=None)

    def stream_response(self, *args: Any, **given: Any) -> Any:
        raise NotImplementedError


@function_tool
def lookup(city: str) -> str:
    """Look a city up."""
    return f"{city} is a city"


async def main(folder: Path, key: str, url: str | None = None) -> None:
    agent = Agent(name="guide", model=Offline(), tools=[lookup])
    if url is not None:
        for prompt in ("Paris?", "look up Rome"):
            await Runner.run(agent, prompt, session=SQLAlchemySession.from_url("s1", url=url, create_tables=True))
        return
    plain = SQLiteSession("s1", str(folder / "plain.db"))
    for prompt in ("Paris?", "look up Rome"):
        await Runner.run(agent, prompt, session=plain)
    branched = AdvancedSQLiteSession(session_id="b1", db_path=str(folder / "advanced.db"), create_tables=True)
    for prompt in ("one", "two", "three"):
        await branched.store_run_usage(await Runner.run(agent, prompt, session=branched))
    await branched.create_branch_from_turn(2, "other")
    await Runner.run(agent, "two again", session=branched)
    await branched.switch_to_branch("main")
    await Runner.run(agent, "four", session=branched)
    below = SQLiteSession("e1", str(folder / "encrypted.db"))
    await Runner.run(agent, "hidden", session=EncryptedSession("e1", below, key, ttl=3600))
    url = f"sqlite+aiosqlite:///{folder}/sqlalchemy.db"
    await Runner.run(agent, "in SQLAlchemy", session=SQLAlchemySession.from_url("q1", url=url, create_tables=True))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:]))
