"""Histories that are chosen by size and by what is asked."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.openai import OpenAIChatModel
from tests.agents.helpers import prompts
from tests.model_server import ModelServer

from sessile import Agent, Auto, Relevant, SqliteStorage, Team
from sessile.errors import InvalidInputError

LONG = "x" * 400  # about a hundred tokens


def summarising(told: list[str]) -> FunctionModel:
    """A model whose summary says how many it has made."""

    def sum_up(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        told.append(str(messages[-1].parts[-1]))
        return ModelResponse([TextPart(f"Summary {len(told)}.")])

    return FunctionModel(sum_up)


def test_what_is_too_much_is_summarised_down_to_half(
    model: OpenAIChatModel, storage: SqliteStorage, server: ModelServer
) -> None:
    told: list[str] = []
    agent = Agent(model, storage=storage, history=Auto(tokens=1_000, model=summarising(told)))
    for number in range(1, 13):
        agent.run(f"Question {number} {LONG}", session_id="s")
        sent = "\n".join(prompts(server))
        assert len(sent) < 6_000
        assert all(f"Question {one} " in sent for one in range(max(1, number - 2), number + 1))
    assert 1 <= len(told) <= 4
    assert sum(f"Question 1 {LONG}" in one for one in told) == 1
    assert f"Summary {len(told)}." in "\n".join(prompts(server))
    assert storage.verify("s")


def test_a_failing_summary_sends_what_fits(model: OpenAIChatModel, storage: SqliteStorage, server: ModelServer) -> None:
    def fail(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        raise RuntimeError("no")

    agent = Agent(model, storage=storage, history=Auto(tokens=500, model=FunctionModel(fail)))
    for number in range(1, 8):
        agent.run(f"Question {number} {LONG}", session_id="s")
    assert "Question 6" in prompts(server)[-2]
    assert "Question 1" not in "\n".join(prompts(server))


def test_what_is_asked_brings_its_runs(model: OpenAIChatModel, storage: SqliteStorage, server: ModelServer) -> None:
    agent = Agent(model, storage=storage, history=Relevant(tokens=300, keep=1))
    agent.run("The lamp is called Lucy.", session_id="s")
    for number in range(20):
        agent.run(f"Something about tides, number {number}.", session_id="s")
    agent.run("What is the lamp called?", session_id="s")
    assert prompts(server)[0] == "The lamp is called Lucy."
    assert prompts(server)[-2] == "Something about tides, number 19."
    assert len(prompts(server)) <= 6
    agent.run("Zebra?", session_id="s")
    assert prompts(server) == ["What is the lamp called?", "Zebra?"]


def test_a_member_is_asked_by_its_team(model: OpenAIChatModel, storage: SqliteStorage, server: ModelServer) -> None:
    writer = Agent(model, name="writer", history=Relevant(keep=0))
    team = Team([writer], model=model, storage=storage, mode="route")
    for task in ("Describe Lucy the lamp", "Describe the sea", "More of lamp"):
        team.run(f'call delegate_task {{"member": "writer", "task": "{task}"}}', session_id="s")
    sent = "\n".join(prompts(server))
    assert "Lucy" in sent
    assert "sea" not in sent


@pytest.mark.parametrize("make", [lambda: Auto(tokens=0), lambda: Relevant(tokens=-1), lambda: Relevant(keep=True)])
def test_what_is_no_window(make: Any) -> None:
    with pytest.raises(InvalidInputError):
        make()
