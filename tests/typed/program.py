"""What a type checker makes of a user's program. `make types` checks it; it is never run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, assert_type

from pydantic_ai import RunContext
from pydantic_ai.messages import AgentStreamEvent

from sessile import (
    ANY_USER,
    Agent,
    AgentSession,
    Context,
    Message,
    Page,
    Parallel,
    PartialList,
    PostgresStorage,
    Retry,
    Run,
    RunResult,
    Session,
    SqliteStorage,
    Step,
    SyncContext,
    Team,
    Usage,
    Workflow,
    ask_person,
    step,
    workflow,
)
from sessile.agents import TeamEvent
from sessile.records import Entry
from sessile.workflows import WorkflowEvent


@dataclass
class City:
    """A type of answers."""

    name: str


storage = SqliteStorage("sessions.db")
writer = Agent("openai:gpt-5-mini", name="writer", storage=storage, history=3)
finder = Agent("openai:gpt-5-mini", name="finder", output_type=City)
team = Team([writer, finder], "openai:gpt-5-mini", storage=storage)


async def use_storage() -> None:
    assert_type(storage.get_session("s1"), Session | None)
    assert_type(await storage.aget_session("s1"), Session | None)
    assert_type(storage.sessions(user_id="ada"), Page[Session])
    assert_type(await storage.aruns("s1", last=3), PartialList[Run])
    assert_type(PostgresStorage("postgresql://host/db").messages("s1"), PartialList[Message])
    async for entry in storage.afollow("s1"):
        assert_type(entry, Entry)
        assert_type(entry.time, datetime)
    page = storage.sessions(user_id=ANY_USER, since=datetime.now(UTC), status="failed", metadata={"tenant": "acme"})
    for session in page:
        assert_type(session.ttl, timedelta | None)
        assert_type(session.updated_at, datetime)
        assert_type(session.usage.cost, Decimal | None)
    assert_type(storage.count_sessions(kind="team"), int)
    assert_type(storage.update_state("s1", {"a": 1}, set={"b": None}, remove=["c"]), Session)
    assert_type(storage.set_ttl("s1", timedelta(days=1)), Session)
    assert_type(storage.add_run("s1", usage=Usage(requests=1, cost=Decimal("0.1"))), Run)


async def use_agents() -> None:
    assert_type(writer.run("Hello"), RunResult[str])
    assert_type((await finder.arun("Paris")).output, City)
    assert_type(team.run("Hello").output, str)
    assert_type(writer.print_response("Hello", run_metadata={"request": 1}), RunResult[str])
    assert_type(finder.session("s1").run("Paris", run_metadata={"request": 1}).output, City)
    assert_type(finder.session("s1"), AgentSession[City])
    async for text in writer.astream("Hello"):
        assert_type(text, str)
    for city in finder.stream("Paris", session_id="s1"):
        assert_type(city, City)
    assert_type(finder.stream("Paris").result, RunResult[City])
    for event in finder.stream("Paris", events=True):
        assert_type(event, AgentStreamEvent)
    with team.stream("Hello", events=True) as events:
        assert_type(list(events), list[TeamEvent])
    assert_type(list(team.stream("Hello")), list[str])
    assert_type(list(finder.session("s1").stream("Paris")), list[City])
    assert_type(list(post.stream("Rain")), list[WorkflowEvent])
    assert_type((await post.arun("Rain", session_id="s1")).output, City)
    await plain.arun(3)  # pyright: ignore[reportCallIssue, reportArgumentType]


def ask(ctx: RunContext[None]) -> str:
    """A tool that asks a person."""
    assert_type(ask_person(ctx, City, "Where?"), City)
    assert_type(ask_person(ctx, {"type": "string"}), Any)
    return "asked"


def count(text: str) -> int:
    """A plain function as a step."""
    return len(text)


@step
async def polish(text: str) -> str:
    """A step without options."""
    return text


@step(retry=Retry(on=TimeoutError), timeout=5)
async def shorten(text: str) -> str:
    """A step with options."""
    return text


slow = Step(writer, timeout=60)


@workflow(storage=storage)
async def post(ctx: Context, topic: str) -> City:
    """A workflow that awaits."""
    assert_type(await ctx.step(writer, topic), str)
    assert_type(await ctx.step(finder, topic), City)
    assert_type(await ctx.step(polish, topic), str)
    assert_type(await ctx.step(shorten, topic), str)
    assert_type(await ctx.step(count, topic), int)
    assert_type(await ctx.step(slow, topic), Any)
    assert_type(await ctx.wait_for_event("city", form=City, question="Which?"), City)
    assert_type(await ctx.wait_for_event("anything"), Any)
    return City(topic)


@workflow
def plain(ctx: SyncContext, topic: str) -> int:
    """A workflow that does not."""
    assert_type(ctx.step(post, topic), City)
    assert_type(ctx.step(shorten, topic), str)
    assert_type(ctx.wait_for_event("city", form=City), City)
    return ctx.step(count, topic)


def use_workflows() -> None:
    assert_type(post.run("Rain").output, City)
    assert_type(plain.run("Rain").output, int)
    assert_type(post.run("Rain", session_id="s1", user_id="ada").output, City)
    assert_type(post.run(topic="Rain", user_id="ada").output, City)
    assert_type(post.for_user("ada").run("Rain", run_id="r1").output, City)
    post.run(3)  # pyright: ignore[reportCallIssue, reportArgumentType]
    post.run("Rain", bogus=1)  # pyright: ignore[reportCallIssue]
    post.run()  # pyright: ignore[reportCallIssue]
    writer.run("Hello", bogus=1)  # pyright: ignore[reportCallIssue]
    assert_type(Workflow(steps=[polish, Parallel(shorten)]).run("Rain").output, Any)
