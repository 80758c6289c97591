"""What the test model server refuses, as OpenAI does, and the server as a program."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent
from pydantic_ai.exceptions import ModelHTTPError
from tests.model_server import ModelServer
from tests.test_model_server import model_at, run, talk


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer() as running:
        yield running


# What OpenAI refuses


def refusal(server: ModelServer, path: str, body: dict[str, Any]) -> str:
    """The message of the 400 that a body gets."""
    request = urllib.request.Request(server.base_url + path, json.dumps(body).encode(), method="POST")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with pytest.raises(urllib.error.HTTPError) as caught:
        opener.open(request)
    assert caught.value.code == 400
    with caught.value as answer:
        return str(json.loads(answer.read())["error"]["message"])


CALLING = {"role": "assistant", "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": "{}"}}]}
USER = {"role": "user", "content": "Hi"}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "1"}


@pytest.mark.parametrize(
    ("messages", "part"),
    [
        ([], "empty array"),
        ([USER, CALLING, USER], "did not have response messages: c1"),
        ([USER, CALLING], "did not have response messages: c1"),
        ([RESULT, USER], "must be a response to a preceding message"),
        ([USER, CALLING, RESULT, RESULT], "must be a response to a preceding message"),
        ([{"role": "nobody"}], "no role"),
        ([{"role": "assistant", "tool_calls": [{}]}], "Invalid request"),
    ],
)
def test_chat_refuses_broken_histories(server: ModelServer, messages: list[Any], part: str) -> None:
    assert part in refusal(server, "/chat/completions", {"messages": messages})


@pytest.mark.parametrize(
    ("body", "part"),
    [
        ({}, "Missing required parameter"),
        ({"input": "Hi", "previous_response_id": "resp_1"}, "not found"),
        (
            {"input": [{"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}]},
            "No tool output found for function call c1",
        ),
        (
            {"input": [{"type": "function_call_output", "call_id": "c1", "output": "1"}]},
            "No tool call found for function call output with call_id c1",
        ),
        ({"input": [{**USER, "id": "msg_1"}, {**USER, "id": "msg_1"}]}, "Duplicate item found with id msg_1"),
    ],
)
def test_responses_refuses_broken_histories(server: ModelServer, body: dict[str, Any], part: str) -> None:
    assert part in refusal(server, "/responses", body)


# As a program


def test_as_a_program() -> None:
    root = Path(__file__).resolve().parent.parent
    command = [sys.executable, "-m", "tests.model_server"]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as program:
        try:
            assert program.stdout is not None
            url = program.stdout.readline().strip()
            control(url, "plan", {"items": ["500"]})
            with pytest.raises(ModelHTTPError):
                run(talk(Agent(model_at(url, "chat")), "Hello"))
            (request,) = control(url, "requests")["requests"]
            assert request["body"]["messages"][-1]["content"] == "Hello"
            control(url, "reset", {})
            assert control(url, "requests") == {"requests": []}
        finally:
            program.terminate()


def control(url: str, command: str, body: dict[str, Any] | None = None) -> Any:
    """Send a command to a server in another process; without a body it is a question."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    data = None if body is None else json.dumps(body).encode()
    with opener.open(f"{url.removesuffix('/v1')}/control/{command}", data) as answer:
        return json.loads(answer.read())
