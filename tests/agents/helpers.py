"""Parts that the tests of agents share: a real client, what arrived on the wire, processes, storages that fail."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

from openai import AsyncOpenAI
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from tests.model_server import ModelServer
from tests.model_server.wire import Conversation, Turn, parse_chat

from sessile.testing.faults import Fault


def model_at(base_url: str, max_retries: int = 0, name: str = "gpt-test") -> OpenAIChatModel:
    """A model behind the real client, which shows every failure at once unless it is told to try again.

    Every request has a connection of its own, so that one agent may be used in several event loops.
    """
    client = AsyncOpenAI(
        base_url=base_url,
        api_key="test",
        max_retries=max_retries,
        timeout=600,  # without the limit of 5 s for connecting, which a busy machine may not keep
        default_headers={"Connection": "close"},
    )
    return OpenAIChatModel(name, provider=OpenAIProvider(openai_client=client))


# ---------------------------------------------------------------- what arrived on the wire


def sent(server: ModelServer, index: int = -1) -> Conversation:
    """One of the requests that arrived at the model, the last by default."""
    return parse_chat(server.requests[index].body)


def turns(server: ModelServer, index: int = -1) -> list[tuple[str, str]]:
    """Role and text of each message of a request."""
    return [(turn.role, turn.text) for turn in sent(server, index).turns]


def prompts(server: ModelServer, index: int = -1) -> list[str]:
    """The user's messages in a request."""
    return sent(server, index).user_texts


def tool_results(server: ModelServer, index: int = -1) -> list[Turn]:
    """The tool results in a request."""
    return [turn for turn in sent(server, index).turns if turn.role == "tool"]


# ---------------------------------------------------------------- processes

SCRIPT_HEAD = """\
import asyncio, signal, sys
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from sessile import Agent, SqliteStorage, session_state

# What runs and measures these tests may have handlers of its own, which the program of a user would not have.
signal.signal(signal.SIGTERM, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
url, path = sys.argv[1:3]
model = OpenAIChatModel("gpt-test", provider=OpenAIProvider(base_url=url, api_key="test"))
storage = SqliteStorage(path)
"""


def script(tmp_path: Path, body: str, server: ModelServer, *args: str | Path) -> subprocess.Popen[str]:
    """A process of its own that runs a script with a `model` and a `storage`."""
    file = tmp_path / f"script{len(list(tmp_path.glob('script*.py')))}.py"
    file.write_text(SCRIPT_HEAD + body, encoding="utf-8")
    command = [sys.executable, str(file), server.base_url, *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def output(process: subprocess.Popen[str]) -> str:
    """Wait for a process that is to succeed; what it printed."""
    out, err = process.communicate()
    assert process.returncode == 0, err
    return out


# ---------------------------------------------------------------- storages that fail


class Appends:
    """A plan for `sessile.testing.faults`: decides about each append by its number, from 1 on."""

    def __init__(self, faults: dict[int, Fault]) -> None:
        self.faults = faults
        self.count = 0

    def __call__(self, operation: str) -> Fault | None:
        if operation != "append":
            return None
        self.count += 1
        return self.faults.get(self.count)


class Gate:
    """A plan that holds every append from number `first` on until it is opened, in the thread that makes it."""

    def __init__(self, first: int = 1) -> None:
        self.first = first
        self.count = 0
        self.reached = threading.Event()
        self.opened = threading.Event()

    def __call__(self, operation: str) -> Fault | None:
        if operation == "append":
            self.count += 1
            if self.count >= self.first:
                self.reached.set()
                self.opened.wait()
        return None
