"""Servers of other libraries that run an agent over HTTP and keep its sessions in SQLite; the model answers at once.

`python -m bench.peers.serving KIND FD PATH` serves one of them in its own environment, on an open socket:
`agno_os` is agno's AgentOS, `google_adk` is what `adk api_server` serves. Histories are the last three runs where the
library lets one say so.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

os.environ.setdefault("AGNO_TELEMETRY", "false")

TEXT = "success (no tool calls)"


def agno_os(path: str) -> Any:
    """AgentOS with one agent; `POST /agents/bench/runs` (a form)."""
    from agno.agent import Agent
    from agno.db.sqlite import SqliteDb
    from agno.models.base import Model
    from agno.models.response import ModelResponse
    from agno.os import AgentOS

    class AtOnce(Model):
        def invoke(self, *args: Any, **kwargs: Any) -> ModelResponse:
            return ModelResponse(role="assistant", content=TEXT)

        async def ainvoke(self, *args: Any, **kwargs: Any) -> ModelResponse:
            return self.invoke()

        def invoke_stream(self, *args: Any, **kwargs: Any) -> Iterator[ModelResponse]:
            yield self.invoke()

        async def ainvoke_stream(self, *args: Any, **kwargs: Any) -> AsyncIterator[ModelResponse]:
            yield self.invoke()

        def _parse_provider_response(self, response: Any, **kwargs: Any) -> ModelResponse:
            return response

        def _parse_provider_response_delta(self, response: Any) -> ModelResponse:
            return response

    agent = Agent(
        id="bench",
        name="bench",
        model=AtOnce(id="at-once"),
        db=SqliteDb(db_file=path),
        add_history_to_context=True,
        num_history_runs=3,
        telemetry=False,
    )
    return AgentOS(agents=[agent], telemetry=False).get_app()


def google_adk(path: str) -> Any:
    """What `adk api_server` serves; `POST /run`."""
    from google.adk.agents import LlmAgent
    from google.adk.cli.fast_api import get_fast_api_app
    from google.adk.cli.utils.base_agent_loader import BaseAgentLoader
    from google.adk.models import BaseLlm, LlmResponse
    from google.genai import types

    class AtOnce(BaseLlm):
        async def generate_content_async(self, llm_request: Any, stream: bool = False) -> AsyncIterator[LlmResponse]:
            used = types.GenerateContentResponseUsageMetadata(prompt_token_count=51, candidates_token_count=4)
            said = types.Content(role="model", parts=[types.Part(text=TEXT)])
            yield LlmResponse(content=said, usage_metadata=used, turn_complete=True)

    class Loader(BaseAgentLoader):
        def load_agent(self, agent_name: str) -> Any:
            return agent

        def list_agents(self) -> list[str]:
            return ["bench"]

    agent = LlmAgent(name="bench", model=AtOnce(model="at-once"))
    return get_fast_api_app(
        agents_dir=os.path.dirname(path),
        agent_loader=Loader(),
        session_service_uri=f"sqlite+aiosqlite:///{path}",
        web=False,
        auto_create_session=True,
    )


def main() -> None:
    import uvicorn

    kind, fd, path = sys.argv[1:]
    app = {"agno_os": agno_os, "google_adk": google_adk}[kind](path)
    config = uvicorn.Config(app, log_level="error", access_log=False, timeout_keep_alive=600)
    uvicorn.Server(config).run([socket.socket(fileno=int(fd))])


if __name__ == "__main__":
    main()
