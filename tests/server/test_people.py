"""People over HTTP: forms that are filled, answers that are reviewed before they are given."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

pytest.importorskip("fastapi")

from fastapi import FastAPI
from pydantic import BaseModel, Field
from pydantic_ai import RunContext, Tool
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from starlette.testclient import TestClient
from tests.server.conftest import AUTH, Pace, asking, asking_stream, frames, headers, slow_model

from sessile import ANY_USER, Agent, Context, Storage, Workflow, ask_person
from sessile.server import Limits, create_app


class Account(BaseModel):
    owner: str = Field(min_length=1)
    number: str = Field(pattern=r"^\d{4}$")


def refund(ctx: RunContext[Any], amount: int) -> str:
    account = ask_person(ctx, Account, "Where to?")
    return f"{amount} to {account.owner}, {account.number}"


async def ship(ctx: Context, item: str) -> str:
    return f"{item}: {(await ctx.wait_for_event('account', form=Account)).owner}"


@pytest.fixture
def app(storage: Storage, pace: Pace) -> FastAPI:
    pace.seconds = 0
    served: list[Any] = [
        Agent(FunctionModel(asking, stream_function=asking_stream), name="teller", storage=storage, tools=[refund]),
        Agent(slow_model(pace), name="writer", storage=storage, review=True, durability="step"),
        Workflow(ship, name="ship", storage=storage),
    ]
    return create_app(served, auth=AUTH, limits=Limits(stop_seconds=0.1), resume_every=None)


@pytest.fixture
def ask(app: FastAPI) -> Iterator[Callable[[str | None], TestClient]]:
    with ExitStack() as stack:
        first = stack.enter_context(TestClient(app, raise_server_exceptions=False))

        def client(who: str | None) -> TestClient:
            made = TestClient(app, headers=headers(who), raise_server_exceptions=False)
            made.portal = first.portal
            return made

        yield client


def run(client: TestClient, agent: str, given: Any, **more: Any) -> Any:
    return client.post(f"/agents/{agent}/runs", json={"input": given, "session_id": "s1", **more})


GOOD = {"owner": "Ada", "number": "1234"}


@pytest.mark.parametrize("where", ["resume", "decisions"])
def test_a_form_is_filled(ask: Any, where: str) -> None:
    ada = ask("ada")
    [asked] = run(ada, "teller", "Refund!").json()["pending"]
    assert (asked["kind"], asked["question"], asked["schema"]["required"]) == ("form", "Where to?", ["owner", "number"])
    address = f"/sessions/s1/runs/1/{where}"
    wrong = ada.post(address, json={"results": {"call-1": {"owner": "Ada", "number": "12"}}})
    assert (wrong.status_code, "number: it does not match" in wrong.text) == (422, True)
    assert ada.post(address, json={"approvals": {"call-1": True}}).status_code == 422
    assert ask("bob").post(address, json={"results": {"call-1": GOOD}}).status_code == 404
    assert ada.get("/sessions/s1/runs/1").json()["status"] == "paused"
    assert ada.post(address, json={"results": {"call-1": GOOD}}).status_code in (200, 201)
    if where == "decisions":
        assert ada.post("/sessions/s1/runs/1/resume", json={}).status_code == 200
    assert ada.get("/sessions/s1/runs/1").json()["output"] == "Done: 5 to Ada, 1234"
    decided = [one for one in ada.get("/sessions/s1/entries").json()["items"] if one["kind"] == "run.decided"]
    assert decided[0]["data"]["metadata"] == {"call-1": {"sessile_form": GOOD}}


def test_an_event_fills_a_form(ask: Any) -> None:
    ada = ask("ada")
    [asked] = run(ada, "ship", {"item": "Tea"}).json()["pending"]
    assert asked["schema"]["title"] == "Account"
    assert ada.post("/sessions/s1/events", json={"name": "account", "value": {"owner": "Ada"}}).status_code == 422
    assert ada.post("/sessions/s1/events", json={"name": "account", "value": GOOD}).status_code == 202
    sent = [one for one in ada.get("/sessions/s1/entries").json()["items"] if one["kind"] == "event.sent"]
    assert [one["data"]["by"] for one in sent] == ["ada"]


@pytest.mark.parametrize("where", ["resume", "decisions"])
def test_answers_are_reviewed_by_administrators_alone(ask: Any, storage: Storage, where: str) -> None:
    ada, root = ask("ada"), ask("root")
    told = frames(run(ada, "writer", "Go", stream=True).text)
    assert "text" not in {one["event"] for one in told}
    outcome = json.loads(told[-1]["data"])
    assert (outcome["status"], outcome["output"], outcome["pending"][0]["kind"]) == ("paused", None, "review")
    call = outcome["pending"][0]["tool_call_id"]
    for said in (True, {"approved": True, "args": {"output": "Mine"}}, False):
        refused = ada.post(f"/sessions/s1/runs/1/{where}", json={"approvals": {call: said}})
        assert refused.status_code == 403
    assert ask("bob").post(f"/sessions/s1/runs/1/{where}", json={"approvals": {call: True}}).status_code == 404
    [waits] = root.get("/waiting").json()["items"]
    address = f"/sessions/{waits['session_id']}/runs/1"
    wrong = {"approvals": {call: {"approved": True, "args": {"output": 3}}}}
    assert root.post(f"{address}/{where}", json=wrong).status_code == 422
    changed = {"approvals": {call: {"approved": True, "args": {"output": "Better"}}}}
    assert root.post(f"{address}/{where}", json=changed).status_code in (200, 201)
    if where == "decisions":
        root.post(f"{address}/resume", json={})
    shown = ada.get("/sessions/s1/runs/1").json()
    assert (shown["status"], shown["output"]) == ("completed", "Better")
    read = frames(ada.get("/sessions/s1/runs/1/events").text)
    assert "".join(json.loads(one["data"])["text"] for one in read if one["event"] == "text") == "Better"
    assert storage.get_run(waits["session_id"], 1, user_id=ANY_USER).usage.requests == 1


def test_an_answer_is_sent_back_and_waits_again(ask: Any) -> None:
    ada, root = ask("ada"), ask("root")
    run(ada, "writer", "Go")
    [waits] = root.get("/waiting").json()["items"]
    address, call = f"/sessions/{waits['session_id']}/runs/1/resume", waits["asked"][0]["tool_call_id"]
    back = {"approvals": {call: {"approved": False, "message": "Shorter."}}}
    again = root.post(address, json=back).json()
    assert again["status"] == "paused"
    assert again["pending"][0]["tool_call_id"] != call
    assert root.post(address, json={"approvals": {again["pending"][0]["tool_call_id"]: True}}).json()["status"] == (
        "completed"
    )
    assert "Shorter." in ada.get("/sessions/s1/runs/1").text


def pay(to: str) -> str:
    return f"paid {to}"


def paying(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """Asks twice, under the same id."""
    said = sum(isinstance(one, ModelResponse) for one in messages)
    whom = ("Curie", "Mallory")[said:][:1]
    return ModelResponse([ToolCallPart("pay", {"to": to}, "call-1") for to in whom] or [TextPart("Done.")])


async def paying_stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
    [part] = paying(messages, info).parts
    if isinstance(part, ToolCallPart):
        yield {0: DeltaToolCall(part.tool_name, part.args_as_json_str(), tool_call_id=part.tool_call_id)}
    else:
        yield "Done."


@pytest.mark.parametrize("where", ["resume", "decisions"])
def test_what_is_said_of_an_earlier_question_is_refused(storage: Storage, where: str) -> None:
    """Two look at the same question; one is quicker, and what the other one approves is what comes after that."""
    tools = [Tool(pay, requires_approval=True)]
    model = FunctionModel(paying, stream_function=paying_stream)
    agent = Agent(model, name="payer", storage=storage, tools=tools, durability="step")
    yes = {"approvals": {"call-1": True}}
    with TestClient(create_app([agent], auth=AUTH, resume_every=None), headers=headers("ada")) as ada:
        run(ada, "payer", "Pay them")
        [first] = ada.get("/waiting").json()["items"]
        address = "/sessions/s1/runs/1"
        assert ada.post(f"{address}/resume", json={**yes, "epoch": first["epoch"]}).json()["status"] == "paused"
        [again] = ada.get("/waiting").json()["items"]
        assert "Mallory" in str(again["asked"][0]["args"])
        assert again["epoch"] == ada.get(address).json()["epoch"] > first["epoch"]
        late = ada.post(f"{address}/{where}", json={**yes, "epoch": first["epoch"]})
        assert (late.status_code, late.json()["type"].split(":")[-1], late.json()["written"]) == (
            409, "run-went-on", "no")  # fmt: skip
        assert ada.get("/waiting").json()["items"] == [again]
        assert ada.post(f"{address}/{where}", json={**yes, "epoch": again["epoch"]}).status_code in (200, 201)
