"""What a run was given holds when it is resumed, or is asked for; and limits hold for a whole tree of runs."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import Tool, UsageLimits
from pydantic_ai.exceptions import UsageLimitExceeded
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from sessile import Agent, SqliteStorage, Team
from sessile.errors import InvalidInputError


class City(BaseModel):
    name: str


def pays(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """Pays, and says under which instructions and settings; as a city, if that is what is asked for."""
    if messages[-1].parts[0].part_kind != "tool-return":
        return ModelResponse(parts=[ToolCallPart("pay", {}, tool_call_id="c")])
    if info.output_tools:
        return ModelResponse(parts=[ToolCallPart(info.output_tools[0].name, {"name": "Paris"})])
    return ModelResponse(parts=[TextPart(f"{info.instructions} {dict(info.model_settings or {})}")])


def cashier(storage: SqliteStorage) -> Agent[Any]:
    def pay() -> str:
        """Pay."""
        return "paid"

    return Agent(FunctionModel(pays), name="a", storage=storage, tools=[Tool(pay, requires_approval=True)])


def test_what_can_be_stored_holds(storage: SqliteStorage) -> None:
    agent = cashier(storage)
    agent.run("x", session_id="s", instructions="Only French.", model_settings={"temperature": 0.5})
    assert agent.resume("s", approvals={"c": True}).output == "Only French. {'temperature': 0.5}"
    agent.run("x", session_id="s", instructions="Only French.")
    assert agent.resume("s", approvals={"c": True}, instructions="Only Greek.").output == "Only Greek. {}"


def test_limits_hold(storage: SqliteStorage) -> None:
    agent = cashier(storage)
    agent.run("x", session_id="s", usage_limits=UsageLimits(request_limit=1))
    with pytest.raises(UsageLimitExceeded, match="request_limit of 1"):
        agent.resume("s", approvals={"c": True})


def test_what_cannot_be_stored_is_asked_for(storage: SqliteStorage) -> None:
    agent = cashier(storage)
    agent.run("x", session_id="s", output_type=City, deps=object())
    with pytest.raises(InvalidInputError, match="was given deps, output_type when it began"):
        agent.resume("s", approvals={"c": True})
    with pytest.raises(InvalidInputError, match="was given deps when it began"):
        agent.resume("s", approvals={"c": True}, output_type=City)
    assert storage.runs("s")[0].status == "paused"
    assert agent.resume("s", approvals={"c": True}, output_type=City, deps=None).output == City(name="Paris")


def test_a_run_that_was_given_nothing_stores_nothing_of_it(storage: SqliteStorage) -> None:
    cashier(storage).run("x", session_id="s", event_stream_handler=None)
    assert all("given" not in entry.data for entry in storage.entries("s") if entry.kind == "run.started")


# ---------------------------------------------------------------- limits of a tree


def busy(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """Works ten times before it answers."""
    if sum(isinstance(message, ModelResponse) for message in messages) < 10:
        return ModelResponse(parts=[ToolCallPart("work", {})])
    return ModelResponse(parts=[TextPart("done")])


async def work() -> str:
    """Work."""
    return "worked"


@pytest.mark.parametrize("elsewhere", [False, True])
def test_all_members_count_for_the_limits_of_a_team(storage: SqliteStorage, tmp_path: Any, elsewhere: bool) -> None:
    """They work at the same time, and each sees what the others use."""
    asked: list[int] = []

    def counted(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        asked.append(1)
        return busy(messages, info)

    with SqliteStorage(tmp_path / "members.db") as other:
        own = other if elsewhere else None
        members = [Agent(FunctionModel(counted), name=f"m{n}", tools=[work], storage=own) for n in range(4)]
        joins = FunctionModel(lambda _, __: ModelResponse(parts=[TextPart("joined")]))
        team: Team[str] = Team(members, joins, name="t", mode="collaborate", storage=storage)
        with pytest.raises(UsageLimitExceeded, match="request_limit of 8"):
            team.run("x", session_id="s", usage_limits=UsageLimits(request_limit=8))
        assert len(asked) == 8
        assert storage.runs("s")[0].usage.requests == 8

        asked.clear()
        result = team.run("x", session_id="t", usage_limits=UsageLimits(request_limit=None, tool_calls_limit=10))
        assert {(one.error or {})["type"] for one in result.members} == {"UsageLimitExceeded"}
        assert result.usage.tool_calls <= 10
        asked.clear()
        assert team.run("x", session_id="u", usage_limits=UsageLimits(request_limit=45)).output == "joined"
        assert len(asked) == 44


def test_tokens_of_a_tree(storage: SqliteStorage) -> None:
    members = [Agent(FunctionModel(busy), name=f"m{n}", tools=[work]) for n in range(2)]
    joins = FunctionModel(lambda _, __: ModelResponse(parts=[TextPart("joined")]))
    team: Team[str] = Team(members, joins, name="t", mode="collaborate", storage=storage)
    used = team.run("x", session_id="s").usage
    with pytest.raises(UsageLimitExceeded, match="total_tokens_limit"):
        team.run(
            "x",
            session_id="s2",
            usage_limits=UsageLimits(total_tokens_limit=(used.input_tokens + used.output_tokens) // 2),
        )
