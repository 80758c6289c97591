"""Agents, and what is run like them, as steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pydantic_ai
import pytest
from pydantic import BaseModel
from pydantic_ai import Tool, UsageLimits
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.test import TestModel

from sessile import Agent, Context, SqliteStorage, Step, SyncContext, Team, session_state, workflow
from sessile.agents import Members
from sessile.errors import InvalidInputError, StepFailedError


class Post(BaseModel):
    title: str
    words: int


def echo(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    text = getattr(messages[-1].parts[-1], "content", "")
    return ModelResponse(parts=[TextPart(f"{info.instructions or ''}{text}!")])


def test_an_agent(storage: SqliteStorage) -> None:
    """Its messages and its usage are kept in the workflow's run, in the commit of the step."""
    writer = Agent(TestModel(custom_output_args={"title": "Rain", "words": 3}), name="writer", output_type=Post)
    shouter = Agent(FunctionModel(echo), name="shouter", storage=storage, history="all")

    @workflow(storage=storage)
    async def flow(ctx: Context, topic: str) -> str:
        post: Post = await ctx.step(writer, topic)
        return await ctx.step(shouter, f"{post.title} {post.words}")

    result = flow.run("rain", session_id="s")
    assert result.output == "Rain 3!"
    run = storage.run("s", 1)
    assert [(child.owner, child.status, child.input) for child in run.children] == [
        ("writer", "completed", "rain"),
        ("shouter", "completed", "Rain 3"),
    ]
    assert [len(child.messages) for child in run.children] == [3, 2]
    assert run.children[0].output == {"title": "Rain", "words": 3}
    assert run.usage == result.usage == run.children[0].usage + run.children[1].usage
    assert (run.usage.requests, run.children[0].usage.requests) == (2, 1)
    head = storage.session("s")
    assert head is not None
    assert (head.usage, head.revision, head.run_count) == (run.usage, 4, 1)
    assert flow.journal("s")[0].output == Post(title="Rain", words=3)


def test_a_bare_agent_in_a_plain_function(storage: SqliteStorage) -> None:
    bare = pydantic_ai.Agent(FunctionModel(echo), name="bare")

    @workflow(storage=storage)
    def flow(ctx: SyncContext) -> str:
        return ctx.step(bare, "hello")

    assert flow.run(session_id="s").output == "hello!"
    assert storage.run("s", 1).children[0].owner == "bare"


def test_the_state(storage: SqliteStorage) -> None:
    """Tools change the workflow's state, and placeholders show it."""

    def choose(plan: str) -> str:
        """Choose a plan."""
        session_state()["plan"] = plan
        return "done"

    chooser = Agent(TestModel(), name="chooser", tools=[choose])
    speaker = Agent(FunctionModel(echo), name="speaker", instructions="Plan {plan}:")

    @workflow(storage=storage, state={"plan": "free"})
    async def flow(ctx: Context) -> str:
        before = await ctx.step(speaker, "x")
        await ctx.step(chooser, "please")
        return before + await ctx.step(speaker, "y")

    assert flow.run(session_id="s").output == "Plan free:x!Plan a:y!"
    assert storage.session("s").state == {"plan": "a"}  # type: ignore[union-attr]


def test_a_session_of_its_own(storage: SqliteStorage) -> None:
    seen: list[int] = []

    def count(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        seen.append(len(messages))
        return ModelResponse(parts=[TextPart("ok")])

    chat = Agent(FunctionModel(count), name="chat", storage=storage)

    @workflow(storage=storage)
    async def flow(ctx: Context) -> str:
        await ctx.step(chat, "one", session_id="chat")
        return await ctx.step(chat, "two", session_id="chat")

    assert flow.run(session_id="s", user_id="ada").output == "ok"
    assert seen == [1, 3]
    assert len(storage.runs("chat", user_id="ada")) == 2
    assert storage.run("s", 1).children == []


def test_an_agent_that_fails(storage: SqliteStorage) -> None:
    """What it has said and used is kept as well, and counted."""
    fail = [True]

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        if len(messages) == 1:
            return ModelResponse(parts=[ToolCallPart("look", {})])
        if fail:
            raise RuntimeError("overloaded")
        return ModelResponse(parts=[TextPart("seen")])

    def look() -> str:
        """Look."""
        return "a house"

    agent = Agent(FunctionModel(answer), name="looker", tools=[look])

    @workflow(storage=storage)
    async def flow(ctx: Context) -> str:
        return await ctx.step(agent, "go", usage_limits=UsageLimits(request_limit=5))

    with pytest.raises(StepFailedError, match="RuntimeError: overloaded"):
        flow.run(session_id="s")
    fail.clear()
    assert flow.resume("s").output == "seen"
    failed, done = storage.run("s", 1).children
    assert (failed.status, failed.error["message"], len(failed.messages)) == ("failed", "overloaded", 3)  # type: ignore[index]
    assert done.status == "completed"
    assert storage.run("s", 1).usage.requests >= 3


def test_an_agent_that_waits_for_approval(storage: SqliteStorage) -> None:
    def pay() -> str:
        """Pay."""
        return "paid"

    agent = Agent(TestModel(), name="cashier", tools=[Tool(pay, requires_approval=True)])

    @workflow(storage=storage)
    async def flow(ctx: Context) -> Any:
        return await ctx.step(agent, "go")

    with pytest.raises(StepFailedError, match="waits for a decision about a tool call"):
        flow.run(session_id="s")


@dataclass
class Answer:
    output: str


class Crew:
    """Something that is run like an agent."""

    name = "crew"

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    async def arun(self, prompt: str, **options: Any) -> Answer:
        self.seen.append(options)
        return Answer(f"did {prompt}")


def test_what_is_run_like_an_agent(storage: SqliteStorage) -> None:
    crew = Crew()

    @workflow(storage=storage)
    async def flow(ctx: Context) -> list[Any]:
        return [await ctx.step(crew, "it"), await ctx.step(Step(crew, "again"), "more", session_id="own")]

    result = flow.run(session_id="s", user_id="ada")
    assert result.output == ["did it", "did more"]
    assert crew.seen == [
        {"session_id": f"{result.run_id}/1", "user_id": "ada"},
        {"session_id": "own", "user_id": "ada"},
    ]
    with pytest.raises(TypeError, match="is no function"):
        Step(crew)()
    with pytest.raises(InvalidInputError, match="function, an agent"):
        Step({"no": "step"})


@pytest.mark.parametrize("kept", [False, True])
def test_a_team(storage: SqliteStorage, kept: bool) -> None:
    """It answers in a session of its own, the same one whenever this step is executed."""
    member = Agent(FunctionModel(echo), name="member")

    async def ask(task: Any, members: Members) -> str:
        return (await members["member"].run(task)).output

    team: Team[str] = Team([member], mode=ask, name="team", storage=storage if kept else None)

    @workflow(storage=storage)
    async def flow(ctx: Context) -> str:
        return await ctx.step(team, "hello")

    assert flow.run(session_id="s").output == "hello!"
    (run,) = storage.runs("s")
    assert run.status == "completed"
    sessions = [head.session_id for head in storage.sessions(kind="team")]
    assert len(sessions) == kept
    for session_id in sessions:
        assert [child.output for child in storage.runs(session_id)[0].children] == ["hello!"]
