"""Agents, teams and workflows in processes that die at random moments, over any database, and a count of what they did.

Each tool and step writes a line to a file. A process is killed (SIGKILL) or told to stop (SIGTERM); the next one is
given the same request. Of a call of which nobody knows whether it happened it says no. In the end two come at once.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from tests.agents.resume_helpers import Nursery, serve
from tests.agents.resume_tools import Traces
from tests.workflows.crashing import Kills

import sessile
from sessile import Agent, Context, Team, Workflow
from sessile.errors import SessileError
from sessile.storage import Storage

MODULE = "tests.agents.dying"
LEASE = 0.25
KINDS = ("agent", "team", "workflow")
CALLS = 3


def _model(name: str) -> FunctionModel:
    """One that has its tool called a few times, one after the other, and twice at once in the end."""

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        done = sum(isinstance(part, ToolReturnPart) for message in messages for part in message.parts)
        if done > CALLS:
            return ModelResponse(parts=[TextPart("done")])
        calls = [done] if done < CALLS - 1 else [done, done + 1]
        return ModelResponse(parts=[_call("act", name, number) for number in calls])

    return FunctionModel(answer)


def _call(tool: str, name: str, number: int) -> ToolCallPart:
    return ToolCallPart(tool, {"what": f"{name}{number}"}, tool_call_id=f"{name}-{number}")


def _leads(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    if any(isinstance(part, ToolReturnPart) for part in messages[-1].parts):
        return ModelResponse(parts=[TextPart("done")])
    asked = [{"member": name, "task": "Go."} for name in ("x", "y")]
    return ModelResponse(
        parts=[ToolCallPart("delegate_task", one, tool_call_id=f"ask-{one['member']}") for one in asked]
    )


def make(kind: str, storage: Storage, traces: Traces, session: str) -> Any:
    """The agent, team or workflow."""

    def act(what: str) -> str:
        traces.add(what)
        time.sleep(random.uniform(0, 0.02))
        return f"did {what}"

    def agent(name: str, **options: Any) -> Agent[Any]:
        return Agent(_model(name), name=name, tools=[act], history=None, **options)

    stored: Any = {"storage": storage, "durability": "step"}
    if kind == "agent":
        return agent("a", **stored)
    if kind == "team":
        return Team([agent("x"), agent("y")], FunctionModel(_leads), name="t", history=None, **stored)

    async def flow(ctx: Context) -> str:
        for number in range(CALLS):
            await ctx.step(act, f"step{number}")
        inside = await ctx.step(agent("in", durability="step"), "Go.")
        own = await ctx.step(agent("own", **stored), "Go.", session_id=f"{session} step")
        return "done" if inside == own == "done" else f"{inside}, {own}"

    return Workflow(flow, name="w", storage=storage)


def _do(job: dict[str, Any]) -> None:
    try:
        _work(job)
    finally:
        os._exit(0)


def _work(job: dict[str, Any]) -> None:
    """Give the request, again and again, until it is done. Nothing is known here but the ids."""
    storage = sessile.open(job["url"], lease=LEASE)
    session = job["session"]
    runner = make(job["kind"], storage, Traces(Path(job["folder"])), session)
    request: list[Any] = [] if job["kind"] == "workflow" else ["Go."]
    while True:
        with suppress(SessileError):  # the other one is at work, or has decided
            result = runner.run(*request, session_id=session, run_id="r")
            while result.status == "paused":
                said = dict.fromkeys((call.tool_call_id for call in result.pending.approvals), False)
                result = runner.resume(session, approvals=said)
            return
        time.sleep(0.02)


def die_at_random(
    nursery: Nursery, folder: Path, url: str, kills: int, seed: int, kinds: Sequence[str] = KINDS
) -> Kills:
    """Kill and stop so many processes at random moments; each request comes to its end after three of them."""
    chance, done = random.Random(seed), Kills()
    with sessile.open(url) as storage:
        while done.kills < kills:
            done.runs += 1
            kind, session = kinds[done.runs % len(kinds)], f"{seed}-{done.runs}"
            place = folder / session
            place.mkdir()
            job = {"url": url, "kind": kind, "session": session}
            for _ in range(3):
                child = nursery.start_job(place, job)
                time.sleep(chance.uniform(0, 0.4))
                with suppress(ProcessLookupError):
                    os.kill(child.pid, chance.choice([signal.SIGKILL, signal.SIGTERM]))
                child.wait()
                done.kills += 1
            both = [nursery.start_job(place, job) for _ in range(2)]
            for child in both:
                child.wait()
            sessions = [session, f"{session} step"] if kind == "workflow" else [session]
            found = [one for each in sessions for one in _ended(storage, each)] + _again(Traces(place))
            done.problems += [f"{session}, {kind}: {one}" for one in found]
    return done


def _ended(storage: Storage, session: str) -> list[str]:
    """What is wrong with the run of a session that has come to its end."""
    storage.verify(session)
    runs = [(run.status, run.output) for run in storage.runs(session)]
    return [] if runs == [("completed", "done")] else [f"{session!r} has the runs {runs}"]


def _again(traces: Traces) -> list[str]:
    """What was done more often than it may be."""
    counts = Counter(traces.lines)
    found = [f"{what} ran again, {count} times" for what, count in counts.items() if count > _most(what)]
    missing = [f"step{number}" for number in range(CALLS) if "step0" in counts and f"step{number}" not in counts]
    return found + [f"{what} was left out" for what in missing]


def _most(what: str) -> int:
    """A step that had begun when its process died runs again, with the tools of an agent in it; else no tool does."""
    return 4 if what.startswith(("step", "in")) else 1


if __name__ == "__main__":
    serve(_do)
