"""Agents, and what is run like them, as steps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic_ai
import pytest
from pydantic import BaseModel
from pydantic_ai import UsageLimits
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.test import TestModel
from pydantic_ai.usage import RequestUsage

from sessile import (
    ANY_USER,
    Agent,
    Context,
    MemoryStorage,
    Retry,
    SqliteStorage,
    Step,
    SyncContext,
    Team,
    session_state,
    workflow,
)
from sessile.agents import Members
from sessile.errors import InvalidInputError, StepFailedError
from sessile.insight import Index


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
    run = storage.get_run("s", 1)
    assert [(child.agent, child.status, child.input) for child in run.children] == [
        ("writer", "completed", "rain"),
        ("shouter", "completed", "Rain 3"),
    ]
    assert [len(child.messages) for child in run.children] == [3, 2]
    assert run.children[0].output == {"title": "Rain", "words": 3}
    assert run.usage == result.usage == run.children[0].usage + run.children[1].usage
    assert (run.usage.requests, run.children[0].usage.requests) == (2, 1)
    head = storage.get_session("s")
    assert head is not None
    assert (head.usage, head.revision, head.run_count) == (run.usage, 4, 1)
    assert flow.journal("s")[0].output == Post(title="Rain", words=3)


def test_a_bare_agent_in_a_plain_function(storage: SqliteStorage) -> None:
    bare = pydantic_ai.Agent(FunctionModel(echo), name="bare")

    @workflow(storage=storage)
    def flow(ctx: SyncContext) -> str:
        return ctx.step(bare, "hello")

    assert flow.run(session_id="s").output == "hello!"
    assert storage.get_run("s", 1).children[0].agent == "bare"


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
    assert storage.get_session("s").state == {"plan": "a"}  # type: ignore[union-attr]


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
    children = storage.get_run("s", 1, user_id="ada").children  # told and counted here; the messages are there
    assert [(child.agent, child.input, child.output, child.messages) for child in children] == [
        ("chat", "one", "ok", []),
        ("chat", "two", "ok", []),
    ]
    assert [child.metadata["session_id"] for child in children] == ["chat", "chat"]
    assert storage.get_run("s", 1, user_id="ada").usage.requests == 2


@pytest.mark.parametrize("another", [False, True])
@pytest.mark.parametrize("user", [None, "ada"])
def test_what_a_step_has_used_in_a_session_of_its_own_is_counted_once(
    tmp_path: Path, user: str | None, *, another: bool
) -> None:
    storage = SqliteStorage(tmp_path / "s.db")
    (tmp_path / "link.db").symlink_to(tmp_path / "s.db")

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        return ModelResponse(parts=[TextPart("ok")], usage=RequestUsage(input_tokens=10))

    same = SqliteStorage(tmp_path / "link.db") if another else storage  # another object on the same database
    with MemoryStorage() as far, same:
        chat = Agent(FunctionModel(answer), name="chat", storage=same)
        away = Agent(FunctionModel(answer), name="away", storage=far)
        alone = Team([Agent(FunctionModel(answer), name="one")], FunctionModel(answer), name="alone")

        @workflow(storage=storage)
        async def flow(ctx: Context) -> None:
            await ctx.step(chat, "q")
            await ctx.step(chat, "q", session_id="chat")
            await ctx.step(away, "q", session_id="away")
            await ctx.step(alone, "q")

        result = flow.run(session_id="s", user_id=user)
        run = storage.get_run("s", 1, user_id=user)
        assert run.usage.input_tokens == result.usage.input_tokens == 40, "with what its steps have used"
        assert run.own_usage.input_tokens == 0
        assert storage.get_run("chat", 1, user_id=user).usage.input_tokens == 10
        with Index(storage) as index, Index(far) as there:
            assert index.usage(user_id=ANY_USER).total.usage.input_tokens == 40
            by_agent = {row.group[0]: (row.runs, row.usage.input_tokens) for row in
                        index.usage(user_id=ANY_USER, by="agent").rows}  # fmt: skip
            assert by_agent == {"flow": (1, 0), "chat": (2, 20), "away": (1, 10), "alone": (1, 10)}
            assert there.usage(user_id=ANY_USER).total.usage.input_tokens == 10
            storage.erase_run("s", 1, user_id=user)
            assert index.usage(user_id=ANY_USER).total.usage.input_tokens == 40, "erasing changes no figures"


@pytest.mark.parametrize("where", ["here", "far", "nowhere", "team"])
def test_what_a_step_has_used_in_a_session_of_its_own_that_fails(storage: SqliteStorage, where: str) -> None:
    """Also if it is tried again, and goes on there where it had failed."""
    tried: list[int] = []

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        usage = RequestUsage(input_tokens=10)
        if len(messages) == 1:
            tool = info.function_tools[0]
            args = {"member": "one", "task": "q"} if tool.name == "delegate_task" else {}
            return ModelResponse(parts=[ToolCallPart(tool.name, args)], usage=usage)
        tried.append(1)
        if len(tried) < 3:
            raise ValueError("no luck")
        return ModelResponse(parts=[TextPart("ok")], usage=usage)

    def tool() -> str:
        return "x"

    with MemoryStorage() as far:
        own = {"here": storage, "far": far}.get(where)
        agent = Agent(FunctionModel(answer), name="bad", storage=own, tools=[tool], durability="step")
        if where == "team":
            said = ModelResponse(parts=[TextPart("ok")], usage=RequestUsage(input_tokens=10))
            one = Agent(FunctionModel(lambda m, i: said), name="one")
            agent = Team([one], FunctionModel(answer), name="bad")

        @workflow(storage=storage)
        async def flow(ctx: Context) -> str:
            again = Step(agent, retry=Retry(on=ValueError, attempts=2, wait_max=0))
            return await ctx.step(again, "q", session_id="own")

        with pytest.raises(StepFailedError):
            flow.run(session_id="s")
        kept = own is not None  # what has no storage begins again with each attempt
        before = storage.get_run("s", 1)
        expected = {"nowhere": 20, "team": 40}.get(where, 10)
        assert (before.status, before.usage.input_tokens) == ("failed", expected)
        result = flow.resume("s")
        assert result.output == "ok"
        run = storage.get_run("s", 1)
        assert run.usage == result.usage
        assert run.own_usage.input_tokens == 0
        if kept:
            assert run.usage == own.runs("own")[0].usage  # type: ignore[union-attr]
            assert [child.status for child in run.children] == ["failed", "failed", "completed"]
            with Index(storage) as index:
                assert index.usage(user_id=ANY_USER).total.usage.input_tokens == 20


def _slow(then: Callable[[], None]) -> Agent[str]:
    """An agent that calls a tool which does not end; `then` is called when the tool works."""

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        return ModelResponse(parts=[ToolCallPart("wait", {})], usage=RequestUsage(input_tokens=1000))

    async def wait() -> str:
        then()
        await asyncio.Event().wait()
        return "x"

    return Agent(FunctionModel(answer), name="slow", tools=[wait])


def test_what_an_agent_has_used_before_its_time_was_up(storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    def an_hour_passes() -> None:
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "time", lambda: time.monotonic() + 3600)

    @workflow(storage=storage)
    async def flow(ctx: Context) -> str:
        try:
            return await ctx.step(Step(_slow(an_hour_passes), timeout=600), "go")
        except StepFailedError:
            monkeypatch.undo()
            return "too late"

    result = flow.run(session_id="s")
    head = storage.get_session("s")
    assert head is not None
    assert (result.output, result.usage.input_tokens, head.usage.input_tokens) == ("too late", 1000, 1000)
    (child,) = storage.get_run("s", 1).children
    assert (child.status, len(child.messages), child.usage.input_tokens) == ("cancelled", 3, 1000)


async def test_what_an_agent_has_used_in_a_run_that_was_interrupted(storage: SqliteStorage) -> None:
    @workflow(storage=storage)
    async def flow(ctx: Context) -> str:
        return await ctx.step(_slow(at_work.set), "go")

    at_work = asyncio.Event()
    task = asyncio.create_task(flow.arun(session_id="s"))
    await at_work.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    head = await storage.aget_session("s")
    assert head is not None
    assert (head.status, head.usage.input_tokens) == ("interrupted", 1000)


def test_what_an_agent_has_used_for_what_is_too_large(tmp_path: Path) -> None:
    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        return ModelResponse(parts=[TextPart("x" * 100_000)], usage=RequestUsage(input_tokens=1000))

    agent = Agent(FunctionModel(answer), name="large")
    with SqliteStorage(tmp_path / "s.db", max_commit_bytes=50_000) as storage:

        @workflow(storage=storage)
        async def flow(ctx: Context) -> str:
            try:
                return await ctx.step(agent, "go")
            except StepFailedError:
                return "too large"

        assert flow.run(session_id="s").output == "too large"
        head = storage.get_session("s")
        assert head is not None
        assert head.usage.input_tokens == 1000
        (child,) = storage.get_run("s", 1).children
        assert (child.status, child.messages) == ("failed", [])


def test_a_kept_result_belongs_to_the_state_that_its_instructions_show(storage: SqliteStorage) -> None:
    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        return ModelResponse(parts=[TextPart(info.instructions or "")])

    planner = Agent(FunctionModel(answer), name="planner", instructions="Plan {plan}")

    @workflow(storage=storage)
    async def flow(ctx: Context, plan: str, note: str) -> str:
        ctx.state["plan"], ctx.state["note"] = plan, note
        return await ctx.step(Step(planner, cache=60), "hello")

    said = [flow.run(plan, note, user_id="ada").output for plan, note in (("free", "a"), ("pro", "b"), ("free", "c"))]
    assert said == ["Plan free", "Plan pro", "Plan free"]
    assert storage.get_session("s") is None
    assert sum(head.usage.requests for head in storage.sessions(user_id="ada")) == 2


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
    failed, done = storage.get_run("s", 1).children
    assert (failed.status, failed.error["message"], len(failed.messages)) == ("failed", "overloaded", 3)  # type: ignore[index]
    assert done.status == "completed"
    assert storage.get_run("s", 1).usage.requests >= 3


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
    sessions = [head.session_id for head in storage.sessions(kind="team", user_id=ANY_USER)]
    assert len(sessions) == kept
    for session_id in sessions:
        assert [child.output for child in storage.runs(session_id)[0].children] == ["hello!"]
