"""Decisions that are written down without the agent, and take effect when somebody resumes the run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic_ai import DeferredToolRequests, ModelMessage, ModelResponse, TextPart, Tool, ToolCallPart
from pydantic_ai.exceptions import CallDeferred
from pydantic_ai.messages import ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from sessile import ANY_USER, Agent, Context, MemoryStorage, Storage, Workflow
from sessile.errors import (
    InvalidInputError,
    NotResumableError,
    RunNotFoundError,
    RunWentOnError,
    SessionNotFoundError,
)

paid: list[float] = []


@pytest.fixture
def storage() -> Iterator[Storage]:
    paid.clear()
    with MemoryStorage() as storage:
        yield storage


def pay(amount: float) -> str:
    paid.append(amount)
    return f"paid {amount}"


def ask_elsewhere(question: str) -> str:
    raise CallDeferred


def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    returned = [
        str(part.content) for message in messages[-1:] for part in message.parts if isinstance(part, ToolReturnPart)
    ]
    if returned:
        return ModelResponse(parts=[TextPart("; ".join(returned))])
    calls = [
        ToolCallPart("pay", {"amount": 5.0}, tool_call_id="c1"),
        ToolCallPart("pay", {"amount": 9.0}, tool_call_id="c2"),
    ]
    if "elsewhere" in str(messages[-1].parts[-1]):
        calls = [ToolCallPart("ask_elsewhere", {"question": "?"}, tool_call_id="c3")]
    return ModelResponse(parts=calls)


def agent_over(storage: Storage) -> Agent[Any]:
    tools = [Tool(pay, requires_approval=True), Tool(ask_elsewhere)]
    return Agent(FunctionModel(answer), name="clerk", storage=storage, tools=tools, history=None)


def test_the_run_goes_on_with_what_was_decided_before(storage: Storage) -> None:
    agent_over(storage).run("pay", session_id="s")
    waits = storage.decide("s", approvals={"c1": True}, by="bob")
    assert (waits.decided, waits.is_decided) == ({"c1": True}, False)
    with pytest.raises(NotResumableError, match="c2"):
        agent_over(storage).resume("s")
    waits = storage.decide("s", approvals={"c2": "Too much."})
    assert waits.is_decided
    (listed,) = storage.waiting()
    assert listed.is_decided
    assert listed.decided == {"c1": True, "c2": {"kind": "tool-denied", "message": "Too much."}}
    result = agent_over(storage).resume("s")
    assert (result.output, paid) == ("paid 5.0; Too much.", [5.0])
    assert not storage.waiting().items
    with pytest.raises(NotResumableError):
        storage.decide("s", approvals={"c1": True})


def test_the_newest_counts_and_what_resume_is_given_counts_more(storage: Storage) -> None:
    agent_over(storage).run("pay", session_id="s")
    storage.decide("s", approvals={"c1": True, "c2": True})
    storage.decide("s", approvals={"c1": {"amount": 1.5}})
    result = agent_over(storage).resume("s", approvals={"c2": False})
    assert paid == [1.5]
    assert result.output is not None
    assert str(result.output).startswith("paid 1.5; ")


def test_a_decision_is_about_one_pause_only(storage: Storage) -> None:
    agent = agent_over(storage)
    agent.run("pay", session_id="s")
    storage.decide("s", approvals={"c1": True, "c2": True})
    agent.resume("s")
    agent.run("pay", session_id="s")  # the model gives its calls the same ids
    with pytest.raises(NotResumableError):
        agent.resume("s")
    assert len(paid) == 2


def test_results_of_calls_that_are_executed_elsewhere(storage: Storage) -> None:
    result = agent_over(storage).run("elsewhere", session_id="s")
    assert isinstance(result.output, DeferredToolRequests)
    storage.decide("s", results={"c3": {"forty": 2}})
    assert "forty" in str(agent_over(storage).resume("s").output)


def test_what_is_not_asked_is_refused(storage: Storage) -> None:
    agent_over(storage).run("pay", session_id="s", user_id="ada")
    for wrong in ({"approvals": {"c9": True}}, {"results": {"c1": 1}}, {}, {"approvals": {"c1": 3}}):
        with pytest.raises(InvalidInputError):
            storage.decide("s", **wrong, user_id="ada")  # type: ignore[arg-type] (what is tested)
    with pytest.raises(SessionNotFoundError):
        storage.decide("s", approvals={"c1": True}, user_id="bob")
    with pytest.raises(RunNotFoundError):
        storage.decide("s", 7, approvals={"c1": True}, user_id=ANY_USER)
    assert storage.waiting(user_id="ada").items[0].decided == {}
    assert storage.verify("s", user_id="ada")


async def test_of_a_workflow_and_for_asynchronous_callers(storage: Storage) -> None:
    agent = Agent(FunctionModel(answer), name="clerk", tools=[Tool(pay, requires_approval=True)])

    async def refund(ctx: Context) -> str:
        return await ctx.step(agent, "pay")

    flow = Workflow(refund, name="refund", storage=storage)
    first = await flow.arun(session_id="w")
    assert first.status == "paused"
    await storage.adecide("w", approvals={"c1": True})
    await storage.adecide("w", approvals={"c2": False})
    result = await flow.aresume("w")
    assert (result.status, paid) == ("completed", [5.0])


def paying(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """First one payment, then a larger one: both calls have the same id."""
    turns = sum(isinstance(message, ModelResponse) for message in messages)
    if turns == 2:
        return ModelResponse(parts=[TextPart("done")])
    return ModelResponse(parts=[ToolCallPart("pay", {"amount": 10.0**turns}, tool_call_id="c")])


@pytest.mark.parametrize("within", ["an agent", "a workflow"])
def test_what_was_decided_about_an_earlier_question_is_refused(storage: Storage, within: str) -> None:
    """Who names the epoch decides about what they have looked at, and about nothing that came after it."""
    agent = Agent(FunctionModel(paying), name="clerk", storage=storage, tools=[Tool(pay, requires_approval=True)])

    async def refund(ctx: Context) -> Any:
        return await ctx.step(agent, "pay")

    flow = Workflow(refund, name="refund", storage=storage)
    runner: Any = agent if within == "an agent" else flow
    if runner is agent:
        agent.run("pay", session_id="s")
    else:
        flow.run(session_id="s")
    (seen,) = storage.waiting()
    yes: Any = {"approvals": {"c": True}, "epoch": seen.epoch}
    assert runner.resume("s", run_number=seen.run, **yes).status == "paused"
    (now,) = storage.waiting()
    assert now.epoch == storage.get_run("s", seen.run).epoch > seen.epoch
    with pytest.raises(RunWentOnError, match=f"epoch {seen.epoch}, .* it is at {now.epoch}") as caught:
        runner.resume("s", run_number=seen.run, **yes)
    assert caught.value.written == "no"
    with pytest.raises(RunWentOnError):
        storage.decide("s", seen.run, **yes)
    assert storage.waiting().items == [now]
    for call in (runner.resume, storage.decide):
        with pytest.raises(InvalidInputError, match="run_number"):
            call("s", **yes)
    storage.decide("s", seen.run, approvals={"c": True}, epoch=now.epoch)
    assert runner.resume("s", run_number=seen.run, epoch=now.epoch).status == "completed"
    assert paid == [1.0, 10.0]
