"""What Google's ADK itself stores, whichever release is here: `python google_adk_written.py FOLDER [POSTGRES_URL]`.

Each of its two services over SQLite, or the one over PostgreSQL: a turn, one with a tool that changes states, one whose
tool raises; then it goes back to before the second, and says something else.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from google.adk.agents import LlmAgent
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_response import LlmResponse
from google.adk.runners import Runner
from google.adk.sessions import DatabaseSessionService
from google.adk.sessions.sqlite_session_service import SqliteSessionService
from google.genai import types


class Offline(BaseLlm):
    """Calls a tool where it is asked to, answers else."""

    async def generate_content_async(self, llm_request: Any, stream: bool = False) -> Any:
        last = llm_request.contents[-1].parts[-1]
        text = last.text or str(last.function_response.response)
        if "look up" in text:
            part = types.Part(function_call=types.FunctionCall(name="lookup", args={"city": "Rome"}))
        elif "break" in text:
            part = types.Part(function_call=types.FunctionCall(name="broken", args={}))
        else:
            part = types.Part(text=f"answer to {text[:40]}")
        counts = {"prompt_token_count": 10, "candidates_token_count": 3, "total_token_count": 13}
        usage = types.GenerateContentResponseUsageMetadata(**counts)
        yield LlmResponse(content=types.Content(role="model", parts=[part]), usage_metadata=usage)


def lookup(city: str, tool_context: Any) -> str:
    """Look a city up."""
    tool_context.state["seen"] = city
    tool_context.state["user:home"] = city
    tool_context.state["app:n"] = 1
    return f"{city} is a city"


def broken() -> str:
    """Fails."""
    raise RuntimeError("the tool is broken")


async def main(folder: Path, url: str | None = None) -> None:
    services = (
        [
            DatabaseSessionService(f"sqlite+aiosqlite:///{folder}/database.db"),
            SqliteSessionService(f"{folder}/sqlite.db"),
        ]
        if url is None
        else [DatabaseSessionService(url)]
    )
    for service in services:
        agent = LlmAgent(name="guide", model=Offline(model="offline"), tools=[lookup, broken])
        runner = Runner(agent=agent, app_name="weather", session_service=service)
        state = {"plan": None, "n": 1}
        await service.create_session(app_name="weather", user_id="ada", session_id="s1", state=state)
        seen: list[str] = []
        for prompt in ("Paris?", "look up Rome", "break it"):
            with suppress(RuntimeError):
                seen += [event.invocation_id async for event in run(runner, prompt)]
        second = next(one for one in seen if one != seen[0])
        await runner.rewind_async(user_id="ada", session_id="s1", rewind_before_invocation_id=second)
        async for _ in run(runner, "again"):
            pass


def run(runner: Runner, prompt: str) -> Any:
    said = types.Content(role="user", parts=[types.Part(text=prompt)])
    return runner.run_async(user_id="ada", session_id="s1", new_message=said)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:]))
