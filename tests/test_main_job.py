"""The main job on every database: an agent answers a question about the conversation that an earlier process had."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.campaigns import sampled
from tests.model_server import ModelServer

PROCESS = """\
import asyncio, sys
from openai import AsyncOpenAI
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
import sessile

model_url, database, face, question = sys.argv[1:]
client = AsyncOpenAI(base_url=model_url, api_key="test")
model = OpenAIChatModel("gpt-test", provider=OpenAIProvider(openai_client=client))
storage = sessile.open(database)
agent = sessile.Agent(model, storage=storage)


async def main():
    print((await agent.arun(question, session_id="s", user_id="ada")).output)
    await storage.aclose()


if face == "async":
    asyncio.run(main())
else:
    print(agent.run(question, session_id="s", user_id="ada").output)
    storage.close()
"""


@pytest.fixture(
    params=[
        "sqlite",
        "json",
        "yaml",
        "postgres_url",
        "mysql_url",
        "mysql_itself_url",
        "mongodb_url",
        "redis_url",
        "dynamodb_url",
        "s3_url",
        "gcs_url",
        "sqlalchemy",
    ]
)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    if request.param.endswith("_url"):
        return request.getfixturevalue(request.param)
    if request.param in ("json", "yaml"):
        return f"{request.param}:///{tmp_path}/sessions"
    return f"{'sqlalchemy+' if request.param == 'sqlalchemy' else ''}sqlite:///{tmp_path}/s.db"


def test_another_process_picks_up_where_the_first_one_left_off(database: str) -> None:
    """One process works through the synchronous face, the other one through the asynchronous: the seed says which."""
    first = next(sampled(2))
    faces = ("sync", "async") if first == 1 else ("async", "sync")
    questions = ("What is the capital of France?", "What was my last question?")
    answers: list[str] = []
    with ModelServer() as server:
        for face, question in zip(faces, questions, strict=True):
            command = [sys.executable, "-c", PROCESS, server.base_url, database, face, question]
            done = subprocess.run(command, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            assert done.stderr == ""
            answers.append(done.stdout)
    assert "Paris" in answers[0]
    assert questions[0] in answers[1]
