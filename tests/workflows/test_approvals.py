"""Agents in steps that wait for a decision: the workflow pauses, and goes on with what was decided."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent as PydanticAgent
from pydantic_ai import DeferredToolRequests, Tool, ToolDenied
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from tests.agents.resume_tools import wait_until

from sessile import Agent, Context, Retry, SqliteStorage, Step, Team, Workflow, workflow
from sessile.errors import InvalidInputError, NotResumableError, StepFailedError


def cashier_says(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """Pays once, with a call that has the same id in each conversation, and says what came of it."""
    last = messages[-1].parts[-1]
    if last.part_kind == "user-prompt":
        return ModelResponse(parts=[ToolCallPart("pay", {"amount": 7}, tool_call_id="c1")])
    return ModelResponse(parts=[TextPart(str(getattr(last, "content", "")))])


def cashier(paid: list[int], storage: SqliteStorage | None = None, **options: Any) -> Agent[str]:
    def pay(amount: int) -> str:
        """Pay."""
        paid.append(amount)
        return f"paid {amount}"

    tools = [Tool(pay, requires_approval=True)]
    return Agent(FunctionModel(cashier_says), name="cashier", storage=storage, tools=tools, **options)


def shop(storage: SqliteStorage, agent: Any, seen: list[str], **where: str) -> Workflow[list[str]]:
    """Asks the agent twice, and cleans up at the end, whatever happens."""

    def clean_up() -> None:
        seen.append("cleaned up")

    @workflow(storage=storage, name="shop")
    async def flow(ctx: Context) -> list[str]:
        try:
            return [await ctx.step(agent, "the first", **where), await ctx.step(agent, "the second", **where)]
        finally:
            await ctx.step(clean_up)

    return flow


@pytest.mark.parametrize("own_session", [False, True])
def test_each_decision_is_about_one_call(storage: SqliteStorage, own_session: bool) -> None:
    """What was approved in one step says nothing about the next one, although the model calls them the same."""
    paid: list[int] = []
    seen: list[str] = []
    where = {"session_id": "till"} if own_session else {}
    flow = shop(storage, cashier(paid, storage if own_session else None), seen, **where)

    first = flow.run(session_id="s")
    assert (first.status, paid, seen) == ("paused", [], [])
    assert first.pending is not None
    assert [(call.tool_name, call.args) for call in first.pending.approvals] == [("pay", {"amount": 7})]
    with pytest.raises(NotResumableError, match=r"waits for a decision about c1 \(pay\)"):
        flow.resume("s")
    with pytest.raises(InvalidInputError, match="does not wait for other"):
        flow.resume("s", approvals={"other": True})

    second = flow.resume("s", approvals={"c1": True})
    assert (second.status, paid, seen) == ("paused", [7], [])
    last = flow.resume("s", approvals={"c1": ToolDenied("not again")})
    assert (last.status, last.output, paid) == ("completed", ["paid 7", "not again"], [7])
    assert seen == ["cleaned up"]
    if own_session:
        assert [(run.status, run.output) for run in storage.runs("till")] == [
            ("completed", "paid 7"),
            ("completed", "not again"),
        ]
    else:
        children = storage.runs("s")[0].children
        assert [(run.status, run.output, len(run.messages)) for run in children] == [
            ("completed", "paid 7", 4),
            ("completed", "not again", 4),
        ]


def test_in_parallel_one_after_the_other(storage: SqliteStorage) -> None:
    def says(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        last = messages[-1].parts[-1]
        if last.part_kind == "user-prompt":
            name = str(last.content)
            return ModelResponse(parts=[ToolCallPart("pay", {"name": name}, tool_call_id=f"call of {name}")])
        return ModelResponse(parts=[TextPart(str(getattr(last, "content", "")))])

    paid: list[str] = []

    def pay(name: str) -> str:
        """Pay."""
        paid.append(name)
        return f"paid {name}"

    agent = Agent(FunctionModel(says), name="cashier", tools=[Tool(pay, requires_approval=True)])

    @workflow(storage=storage)
    async def flow(ctx: Context) -> list[str]:
        return await ctx.gather(ctx.step(agent, "ada"), ctx.step(agent, "bob"), ctx.wait_for_event("go"))

    paused = flow.run(session_id="s")
    assert paused.pending is not None
    assert (len(paused.pending.approvals), paused.waiting_for) == (2, ("go",))
    paused = flow.resume("s", approvals={"call of bob": True})
    assert paused.pending is not None
    assert ([call.tool_call_id for call in paused.pending.approvals], paid) == (["call of ada"], ["bob"])
    paused = flow.send_event("s", "go", "gone")
    assert (paused.status, paused.waiting_for) == ("paused", ())
    assert flow.resume("s", approvals={"call of ada": True}).output == ["paid ada", "paid bob", "gone"]
    assert paid == ["bob", "ada"]


def test_a_team(storage: SqliteStorage) -> None:
    paid: list[int] = []

    def leads(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        last = messages[-1].parts[-1]
        if last.part_kind == "user-prompt":
            return ModelResponse(parts=[ToolCallPart("delegate_task", {"member": "cashier"})])
        return ModelResponse(parts=[TextPart(f"The cashier: {getattr(last, 'content', '')}")])

    team: Team[str] = Team([cashier(paid)], FunctionModel(leads), name="office", storage=storage)
    flow = shop(storage, team, [])
    assert flow.run(session_id="s").status == "paused"
    assert flow.resume("s", approvals={"c1": True}).status == "paused"
    assert flow.resume("s", approvals={"c1": True}).output == ["The cashier: paid 7", "The cashier: paid 7"]
    assert paid == [7, 7]


def test_what_nobody_keeps_cannot_wait(storage: SqliteStorage) -> None:
    flow = shop(storage, cashier([]), [], session_id="nowhere")
    with pytest.raises(StepFailedError, match="nothing is kept of its session"):
        flow.run(session_id="s")


def test_a_ready_agent(storage: SqliteStorage) -> None:
    paid: list[int] = []

    def pay(amount: int) -> str:
        """Pay."""
        paid.append(amount)
        return "paid"

    ready = PydanticAgent(
        FunctionModel(cashier_says),
        name="ready",
        tools=[Tool(pay, requires_approval=True)],
        output_type=[str, DeferredToolRequests],
    )

    @workflow(storage=storage)
    async def flow(ctx: Context) -> Any:
        return await ctx.step(ready, "go")

    assert flow.run(session_id="s").status == "paused"
    assert (flow.resume("s", approvals={"c1": True}).output, paid) == ("paid", [7])


DYING = """
import os, sys
from tests.workflows.test_approvals import FunctionModel, cashier_says, shop
from sessile import Agent, SqliteStorage
from pydantic_ai import Tool

def pay(amount: int) -> str:
    os._exit(9)

agent = Agent(FunctionModel(cashier_says), name="cashier", tools=[Tool(pay, requires_approval=True)])
shop(SqliteStorage(sys.argv[1], lease=0.3), agent, []).resume("s", approvals={"c1": True})
"""


def test_a_decision_outlives_its_process(path: Path, storage: SqliteStorage) -> None:
    """It is in the log before anything is done with it: a process that dies then leaves it to the next one."""
    paid: list[int] = []
    flow = shop(storage, cashier(paid), [])
    flow.run(session_id="s")
    died = subprocess.run([sys.executable, "-c", DYING, str(path)], check=False)
    assert died.returncode == 9
    wait_until(lambda: storage.runs("s")[0].status == "interrupted")
    assert (flow.resume("s").status, paid) == ("paused", [7])


# ---------------------------------------------------------------- steps in sessions of their own

ONCE = """
import sys
from pathlib import Path
from tests.agents.resume_helpers import die_at_commit
from tests.workflows.test_approvals import chatting
from sessile import SqliteStorage

kind, when, path, log = sys.argv[1:]
storage = SqliteStorage(path, lease=0.3)
die_at_commit([storage], None, "before", when, 1)
chatting(kind, storage, Path(log)).run("q", session_id="w")
"""


def chatting(kind: str, storage: SqliteStorage, log: Path) -> Workflow[str]:
    """Asks an agent or a team that has a session of its own. Each request to the model leaves a line."""

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        with log.open("a") as file:
            file.write("asked\n")
        return ModelResponse(parts=[TextPart("answer")])

    agent: Agent[Any] = Agent(FunctionModel(answer), name="chat", storage=storage, durability="step")
    if kind == "team":
        model = FunctionModel(answer)
        members = [Agent(model, name="member")]
        agent = Team(members, model, name="chat", mode="collaborate", storage=storage, durability="step")

    @workflow(storage=storage, name="chatting")
    async def flow(ctx: Context, question: str) -> str:
        return await ctx.step(agent, question, session_id="chat-1")

    return flow


@pytest.mark.parametrize("kind", ["agent", "team"])
@pytest.mark.parametrize("when", ["step.finished", "run.ended"])
def test_a_crash_between_two_logs(path: Path, tmp_path: Path, kind: str, when: str) -> None:
    """The agent's own session has the answer already, or a part of it; nobody is asked twice."""
    log = tmp_path / "log"
    died = subprocess.run([sys.executable, "-c", ONCE, kind, when, str(path), str(log)], check=False)
    assert died.returncode == -9
    with SqliteStorage(path) as storage:
        wait_until(lambda: storage.runs("w")[0].status == "interrupted")
        assert chatting(kind, storage, log).resume("w").output == "answer"
        assert [(run.status, run.input) for run in storage.runs("chat-1")] == [("completed", "q")]
    assert log.read_text() == "asked\n" * (1 if kind == "agent" else 2)


def test_an_attempt_that_has_failed_leaves_room_for_the_next(storage: SqliteStorage) -> None:
    down = [True]

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        if down:
            down.clear()
            raise ConnectionError
        return ModelResponse(parts=[TextPart("answer")])

    agent = Agent(FunctionModel(answer), name="chat", storage=storage)
    trying = Step(agent, retry=Retry(on=ConnectionError, wait_max=0))

    @workflow(storage=storage)
    async def flow(ctx: Context) -> str:
        return await ctx.step(trying, "q", session_id="chat-1")

    assert flow.run(session_id="w").output == "answer"
    assert [run.status for run in storage.runs("chat-1")] == ["failed", "completed"]


@pytest.mark.parametrize("where", ["in the step", "in a session of its own", "in a team"])
def test_a_decision_that_the_program_cannot_carry_out_is_not_used_up(storage: SqliteStorage, where: str) -> None:
    """After a deploy that has renamed the tool, or the member, the run still waits."""
    paid: list[int] = []

    def pay(amount: int) -> str:
        paid.append(amount)
        return f"paid {amount}"

    def shop_of(tool: str, member: str) -> Workflow[str]:
        kept: dict[str, Any] = {} if where == "in the step" else {"storage": storage, "durability": "step"}
        tools = [Tool(pay, name=tool, requires_approval=True)]
        if where == "in a team":
            answers = FunctionModel(cashier_says)
            runner: Any = Team([Agent(answers, name=member, tools=tools)], name="till", mode=first_of(member), **kept)
        else:
            runner = Agent(FunctionModel(cashier_says), name="till", tools=tools, **kept)

        async def flow(ctx: Context) -> str:
            own = {} if where == "in the step" else {"session_id": "own"}
            return await ctx.step(runner, "Pay.", **own)

        return Workflow(flow, name="shop", storage=storage)

    assert shop_of("pay", "ada").run(session_id="s").status == "paused"
    changed = shop_of("pay", "bob") if where == "in a team" else shop_of("pay_it", "ada")
    for decision in (False, True):
        with pytest.raises(NotResumableError, match=r"has no (tool|member).*waits as before"):
            changed.resume("s", approvals={"c1": decision})
        assert storage.get_run("s", 1).status == "paused"
        asked = [one.asked for one in storage.waiting() if one.session.session_id == "s"]
        assert [said["tool_call_id"] for one in asked for said in one] == ["c1"]
    done = shop_of("pay", "ada").resume("s")  # with the last decision
    assert (done.status, paid) == ("completed", [7])
    assert "paid 7" in str(done.output)
    assert storage.verify("s")


def first_of(member: str) -> Any:
    async def mode(prompt: Any, members: Any) -> Any:
        return (await members[member].run(prompt)).output

    return mode
