"""What agents, teams and workflows leave in a stored database, so that their programs can go on with it later.

`fill` is run with the version whose database is stored, `check` with every later one: it reads what is there, and goes
on with what was paused or interrupted. `python -m tests.schemas.programs URL` is the program that is killed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from pydantic_ai import Tool

import sessile
from sessile import Agent, Context, Retry, Step, Storage, Team, Workflow, session_state
from sessile.agents.offline import OfflineModel

CALL = 'Please call {} {{"order": 7}}.'
CRASHED = "crashed"
tried: list[str] = []


def refund(order: int) -> str:
    """Pay money back."""
    session_state()["refunded"] = order
    return f"refunded order {order}"


def crash(order: int) -> str:
    """Ends the process when it is called for the first time."""
    if os.environ.get("SESSILE_CRASH"):
        os._exit(9)
    return f"sent order {order}"


def model() -> OfflineModel:
    return OfflineModel(introduce=False)


def chat(storage: Storage) -> Agent[Any]:
    return Agent(model(), name="chat", storage=storage, tools=[refund], durability="step", state={"tier": "gold"})


def clerk(storage: Storage) -> Agent[Any]:
    return Agent(model(), name="clerk", storage=storage, tools=[Tool(refund, requires_approval=True)])


def sender(storage: Storage) -> Agent[Any]:
    tool = Tool(crash, metadata={"idempotent": True})
    return Agent(model(), name="sender", storage=storage, tools=[tool], durability="step")


def crew(storage: Storage) -> Team[Any]:
    return Team([Agent(model(), name="geographer")], model(), name="crew", storage=storage, durability="step")


def flaky() -> int:
    tried.append("flaky")
    if len(tried) == 1:
        raise ConnectionError("not yet")
    return 3


def order(storage: Storage) -> Workflow[Any]:
    async def order(ctx: Context, item: str) -> str:
        counts = ctx.patched("with counting")
        ctx.state["count"] = (
            await ctx.step(Step(flaky, "count", retry=Retry(on=ConnectionError, wait_max=0))) if counts else 0
        )
        where = await ctx.step(
            Step(Agent(model(), name="porter"), "where", cache=3600), "What is the capital of Italy?"
        )
        said = await ctx.wait_for_event("approval")
        return f"{ctx.state['count']} {item} to {where} {said}"

    return Workflow(order, storage=storage, name="order", state={"began": True})


def fill(storage: Storage, url: str) -> None:
    """Store it."""
    agent = chat(storage)
    agent.run("What is the capital of France?", session_id="chat")
    agent.run(CALL.format("refund"), session_id="chat")
    agent.run("What was my last question?", session_id="chat")
    storage.rewind("chat", at=2)
    storage.fork("chat", session_id="copy")
    clerk(storage).run(CALL.format("refund"), session_id="clerk")
    crew(storage).run(
        'call delegate_task {"member": "geographer", "task": "What is the capital of Italy?"}', session_id="crew"
    )
    order(storage).run("books", session_id="order")
    order(storage).send_event("order", "something else", {"n": 1})
    subprocess.run([sys.executable, "-m", "tests.schemas.programs", url], env={**os.environ, "SESSILE_CRASH": "1"})


def check(storage: Storage) -> None:
    """Assert that all of it can be read, and gone on with."""
    first, second = storage.runs("chat")
    assert (first.output, first.agent) == ("The capital of France is Paris.", "chat")
    assert [step.kind for step in second.steps] == ["tool.started", "tool.ended", "state.patched"]
    assert [branch.tip for branch in storage.branches("chat")] == [2, 3]
    head = storage.get_session("chat")
    assert head is not None
    assert head.state == {"tier": "gold", "refunded": 7}
    assert head.usage.requests == 4
    agent = chat(storage)
    assert agent.run("What was my first question?", session_id="chat").number == 4
    assert "What is the capital of France?" in agent.run("What was my first question?", session_id="copy").output

    (paused,) = storage.runs("clerk", status="paused")
    (call,) = paused.pending["requests"]["approvals"]
    answer = clerk(storage).resume("clerk", approvals={call["tool_call_id"]: True})
    assert (answer.status, answer.state) == ("completed", {"refunded": 7})

    team = storage.get_run("crew", 1)
    assert [(child.agent, child.output) for child in team.children] == [("geographer", "The capital of Italy is Rome.")]
    assert crew(storage).run("What was my last question?", session_id="crew").status == "completed"

    steps = order(storage).journal("order")
    assert [(step.name, step.status) for step in steps] == [
        ("count", "retrying"),
        ("count", "finished"),
        ("where", "finished"),
    ]
    result = order(storage).send_event("order", "approval", "now")
    assert result.output == "3 books to The capital of Italy is Rome. now"

    interrupted = storage.get_run(CRASHED, 1)
    assert (interrupted.status, [step.kind for step in interrupted.steps]) == ("interrupted", ["tool.started"])
    assert sender(storage).resume(CRASHED).status == "completed"
    for session_id in ("chat", "copy", "clerk", "crew", "order", CRASHED):
        storage.verify(session_id)


if __name__ == "__main__":
    with sessile.open(sys.argv[1]) as opened:
        sender(opened).run(CALL.format("crash"), session_id=CRASHED)
