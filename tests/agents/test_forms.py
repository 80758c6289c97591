"""Forms: a tool, or a workflow, asks a person; what does not fill the form is refused, and the run goes on waiting."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field, field_validator
from pydantic_ai import DeferredToolResults, ModelMessage, ModelResponse, RunContext, TextPart, ToolCallPart
from pydantic_ai.messages import ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from sessile import Agent, Context, MemoryStorage, SqliteStorage, Storage, SyncContext, Team, Workflow, ask_person
from sessile.errors import InvalidInputError, NotResumableError, SessionNotFoundError
from sessile.storage.vocabulary import DecisionSent, EventSent


class Traveller(BaseModel):
    name: str
    seats: int = Field(ge=1, le=9)
    born: date | None = None
    meal: Literal["any", "vegan"] = "any"

    @field_validator("name")
    @classmethod
    def is_somebody(cls, name: str) -> str:
        if name == "Nobody":
            raise ValueError("nobody does not travel")
        return name


ADA = {"name": "Ada", "seats": 2, "born": "1815-12-10"}
GIVEN = "2 seats to Oslo for Ada, born in 1815, any"


def book(ctx: RunContext[Any], city: str) -> str:
    who = ask_person(ctx, Traveller, f"Who travels to {city}?")
    return f"{who.seats} seats to {city} for {who.name}, born in {who.born and who.born.year}, {who.meal}"


def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    returned = [str(part.content) for part in messages[-1].parts if isinstance(part, ToolReturnPart)]
    if returned:
        return ModelResponse(parts=[TextPart("; ".join(returned))])
    return ModelResponse(parts=[ToolCallPart("book", {"city": "Oslo"}, tool_call_id="c1")])


def delegating(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    returned = [str(part.content) for part in messages[-1].parts if isinstance(part, ToolReturnPart)]
    if returned:
        return ModelResponse(parts=[TextPart("; ".join(returned))])
    return ModelResponse(parts=[ToolCallPart("delegate_task", {"member": "clerk", "task": "Book"}, tool_call_id="d1")])


def clerk(storage: Storage | None = None, **options: Any) -> Agent[Any]:
    return Agent(FunctionModel(answer), name="clerk", storage=storage, tools=[book], history=None, **options)


@pytest.fixture
def storage() -> Iterator[Storage]:
    with MemoryStorage() as storage:
        yield storage


@pytest.mark.parametrize("durability", ["run", "step"])
def test_the_tool_goes_on_with_what_was_filled_in(storage: Storage, durability: Any) -> None:
    agent = clerk(storage, durability=durability)
    assert agent.run("Book", session_id="s").status == "paused"
    [asked] = storage.waiting().items[0].asked
    assert (asked["kind"], asked["question"], asked["tool_call_id"]) == ("form", "Who travels to Oslo?", "c1")
    assert asked["schema"]["properties"]["seats"]["maximum"] == 9
    assert storage.decide("s", results={"c1": ADA}, by="bob").is_decided
    result = agent.resume("s")
    assert (result.status, result.output, result.usage.requests) == ("completed", GIVEN, 2)
    [sent] = [one for one in storage.entries("s") if (said := DecisionSent.read(one)) and said.by == "bob"]
    assert sent.time_us >= storage.get_run("s", 1).started_us
    assert storage.waiting().items == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"name": "Ada"}, "seats: it is missing"),
        ({**ADA, "seats": 12}, "seats: it must be at most 9"),
        ({**ADA, "seats": "two"}, "seats: it must be a whole number, not text"),
        ({**ADA, "meal": "meat"}, "meal: it must be one of 'any', 'vegan'"),
        ({**ADA, "born": "yesterday"}, "born: it is no date"),
        ("Ada", "it must be an object, not text"),
    ],
)
def test_a_wrong_answer_is_refused_wherever_it_is_given(storage: Storage, wrong: Any, said: str) -> None:
    agent = clerk(storage)
    agent.run("Book", session_id="s")
    revision = storage.get_session("s").revision  # type: ignore[union-attr]
    with pytest.raises(InvalidInputError, match=said):
        storage.decide("s", results={"c1": wrong})
    with pytest.raises(InvalidInputError, match=said):
        agent.resume("s", results=DeferredToolResults(calls={"c1": wrong}))
    assert storage.get_session("s").revision == revision  # type: ignore[union-attr]
    assert agent.resume("s", results=DeferredToolResults(calls={"c1": ADA})).output == GIVEN


def test_a_form_is_not_approved_but_may_be_denied(storage: Storage) -> None:
    agent = clerk(storage)
    agent.run("Book", session_id="s")
    with pytest.raises(InvalidInputError, match="form that is filled"):
        storage.decide("s", approvals={"c1": True})
    with pytest.raises(InvalidInputError, match="form that is filled"):
        agent.resume("s", approvals={"c1": True})
    with pytest.raises(NotResumableError):
        agent.resume("s")
    storage.decide("s", approvals={"c1": "Nobody travels."})
    assert agent.resume("s").output == "Nobody travels."


def test_approvals_for_later_calls_fill_no_form(storage: Storage) -> None:
    agent = clerk(storage)
    agent.run("Book", session_id="s", user_id=None)
    with pytest.raises(InvalidInputError, match="form that is filled"):
        storage.decide("s", approvals={"c1": True}, always="session")
    storage.grant("book", "clerk", "s")
    assert agent.run("Book", session_id="s").status == "paused"


def test_what_only_the_type_refuses_is_asked_again(storage: Storage) -> None:
    agent = clerk(storage)
    agent.run("Book", session_id="s")
    storage.decide("s", results={"c1": {**ADA, "name": "Nobody"}})
    assert agent.resume("s").status == "paused"
    [waits] = storage.waiting().items
    assert (waits.decided, waits.asked[0]["problem"]) == ({}, "name: Value error, nobody does not travel")
    storage.decide("s", results={"c1": ADA})
    assert agent.resume("s").output == GIVEN


def test_a_member_of_a_team_asks(storage: Storage) -> None:
    team = Team([clerk()], FunctionModel(delegating), name="team", storage=storage)
    assert team.run("Book", session_id="s").status == "paused"
    with pytest.raises(InvalidInputError, match="seats: it is missing"):
        storage.decide("s", results={"c1": {"name": "Ada"}})
    storage.decide("s", results={"c1": ADA})
    assert team.resume("s").output == GIVEN


def test_an_agent_in_a_step_asks(storage: Storage) -> None:
    async def travel(ctx: Context) -> str:
        return str(await ctx.step(clerk(), "Book"))

    flow = Workflow(travel, storage=storage)
    assert flow.run(session_id="w").status == "paused"
    with pytest.raises(InvalidInputError, match="seats: it is missing"):
        storage.decide("w", results={"c1": {"name": "Ada"}})
    with pytest.raises(InvalidInputError, match="form that is filled"):
        flow.resume("w", approvals={"c1": True})
    storage.decide("w", results={"c1": ADA})
    assert flow.resume("w").output == GIVEN


def test_another_process_goes_on(tmp_path: Path) -> None:
    with SqliteStorage(tmp_path / "s.db") as storage:
        clerk(storage, durability="step").run("Book", session_id="s", user_id="ada")
    with SqliteStorage(tmp_path / "s.db") as storage:
        for stranger in ("eve", None):
            with pytest.raises(SessionNotFoundError):
                storage.decide("s", results={"c1": ADA}, user_id=stranger)
        storage.decide("s", results={"c1": ADA}, user_id="ada")
        assert clerk(storage, durability="step").resume("s", user_id="ada").output == GIVEN


@pytest.mark.parametrize(("schema", "value"), [({"type": "string", "minLength": 2}, "yes"), (list[int], [1, 2])])
def test_any_schema_or_type_is_asked_for(storage: Storage, schema: Any, value: Any) -> None:
    def book(ctx: RunContext[Any], city: str) -> str:
        return f"{ask_person(ctx, schema)!r}"

    agent = Agent(FunctionModel(answer), name="clerk", storage=storage, tools=[book])
    agent.run("Book", session_id="s")
    storage.decide("s", results={"c1": value})
    assert agent.resume("s").output == repr(value)


def test_a_schema_that_cannot_be_checked_is_refused_where_it_is_written(storage: Storage) -> None:
    def book(ctx: RunContext[Any], city: str) -> Any:
        return ask_person(ctx, {"type": "object", "patternProperties": {"^x": {}}})

    agent = Agent(FunctionModel(answer), name="clerk", storage=storage, tools=[book])
    with pytest.raises(InvalidInputError, match="patternProperties"):
        agent.run("Book", session_id="s")


# ---------------------------------------------------------------- workflows


async def ordered(ctx: Context, item: str) -> str:
    who = await ctx.wait_for_event("who", form=Traveller, question="For whom?")
    return f"{item} for {who.name}, born in {who.born and who.born.year}"


def ordered_in_a_thread(ctx: SyncContext, item: str) -> str:
    who = ctx.wait_for_event("who", form=Traveller, question="For whom?")
    ctx.wait_for_event("sent")
    return f"{item} for {who.name}, born in {who.born and who.born.year}"


def test_a_workflow_waits_for_a_form(storage: Storage) -> None:
    flow = Workflow(ordered, storage=storage)
    assert flow.run("Tea", session_id="w").status == "paused"
    [asked] = storage.waiting().items[0].asked
    assert (asked["kind"], asked["name"], asked["question"]) == ("event", "who", "For whom?")
    with pytest.raises(InvalidInputError, match="seats: it is missing"):
        flow.send_event("w", "who", {"name": "Ada"})
    again = flow.send_event("w", "who", {**ADA, "name": "Nobody"}, by="bob")
    assert again.status == "paused"
    assert "nobody does not travel" in storage.waiting().items[0].asked[0]["problem"]
    assert flow.send_event("w", "who", ADA, by="bob").output == "Tea for Ada, born in 1815"
    assert {said.by for one in storage.entries("w") if (said := EventSent.read(one)) is not None} == {"bob"}


def test_what_was_sent_too_early_and_does_not_fit_is_passed_over(storage: Storage) -> None:
    async def late(ctx: Context) -> str:
        await ctx.wait_for_event("go")
        return str((await ctx.wait_for_event("who", form=Traveller)).name)

    flow = Workflow(late, storage=storage)
    flow.run(session_id="w")
    flow.send_event("w", "who", "Ada", resume=False)
    assert flow.send_event("w", "go").status == "paused"
    assert flow.send_event("w", "who", ADA).output == "Ada"


def test_a_form_is_filled_with_an_object_of_its_type_and_replayed(storage: Storage) -> None:
    flow = Workflow(ordered_in_a_thread, storage=storage)
    flow.run("Tea", session_id="w")
    flow.send_event("w", "who", Traveller(name="Ada", seats=1, born=date(1815, 12, 10)))
    assert flow.send_event("w", "sent").output == "Tea for Ada, born in 1815"
