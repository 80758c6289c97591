"""What a type checker makes of a user's program. `make types` checks it; it is never run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, assert_type

from sessile import (
    Agent,
    Context,
    Head,
    Message,
    Page,
    Parallel,
    PostgresStorage,
    Retry,
    Run,
    RunResult,
    SqliteStorage,
    Step,
    SyncContext,
    Team,
    Workflow,
    step,
    workflow,
)
from sessile.agents import SessionHandle
from sessile.records import Entry


@dataclass
class City:
    """A type of answers."""

    name: str


storage = SqliteStorage("sessions.db")
writer = Agent("openai:gpt-5-mini", name="writer", storage=storage, history=3)
finder = Agent("openai:gpt-5-mini", name="finder", output_type=City)
team = Team([writer, finder], "openai:gpt-5-mini", storage=storage)


async def use_storage() -> None:
    assert_type(storage.session("s1"), Head | None)
    assert_type(await storage.asession("s1"), Head | None)
    assert_type(storage.sessions(user_id="ada"), Page[Head])
    assert_type(await storage.aruns("s1", last=3), list[Run])
    assert_type(PostgresStorage("postgresql://host/db").messages("s1"), list[Message])
    async for entry in storage.afollow("s1"):
        assert_type(entry, Entry)


async def use_agents() -> None:
    assert_type(writer.run("Hello"), RunResult[str])
    assert_type((await finder.arun("Paris")).output, City)
    assert_type(team.run("Hello").output, str)
    assert_type(writer.print_response("Hello", run_metadata={"request": 1}), RunResult[str])
    assert_type(finder.session("s1").run("Paris", run_metadata={"request": 1}).output, City)
    assert_type(finder.session("s1"), SessionHandle[City])
    async for text in writer.astream("Hello"):
        assert_type(text, Any)


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
    return City(topic)


@workflow
def plain(ctx: SyncContext, topic: str) -> int:
    """A workflow that does not."""
    assert_type(ctx.step(post, topic), City)
    assert_type(ctx.step(shorten, topic), str)
    return ctx.step(count, topic)


def use_workflows() -> None:
    assert_type(post.run("Rain").output, City)
    assert_type(plain.run("Rain").output, int)
    assert_type(Workflow(steps=[polish, Parallel(shorten)]).run("Rain").output, Any)
