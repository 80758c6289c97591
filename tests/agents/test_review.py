"""Outputs that a person looks at before they are given: accepted, changed, or sent back with a remark."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import DeferredToolRequests, ModelMessage, ModelResponse, TextPart, ToolApproved, ToolCallPart
from pydantic_ai.messages import FunctionToolCallEvent, ModelRequest, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from tests.agents.resume_helpers import Nursery, World, a_nursery, a_world, call

from sessile import Agent, Context, MemoryStorage, Storage, Team, Workflow
from sessile.agents.offline import OfflineModel
from sessile.errors import InvalidInputError, NotResumableError, SessionNotFoundError
from sessile.storage.vocabulary import RunDecided


class Offer(BaseModel):
    price: int
    text: str = ""


def said_in(messages: list[ModelMessage]) -> list[str]:
    parts = [part for message in messages if isinstance(message, ModelRequest) for part in message.parts]
    return [str(part.content) for part in parts if isinstance(part, UserPromptPart)]


def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    said = " | ".join(said_in(messages))
    if "tool" in said and not any(isinstance(part, ToolReturnPart) for one in messages for part in one.parts):
        return ModelResponse(parts=[ToolCallPart("look", {}, tool_call_id="c1")])
    if info.output_tools:
        price = 10 * sum(isinstance(message, ModelResponse) for message in messages)
        return ModelResponse(parts=[ToolCallPart(info.output_tools[0].name, {"price": price})])
    return ModelResponse(parts=[TextPart(f"Re: {said}")])


async def streamed(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
    for part in answer(messages, info).parts:
        if isinstance(part, TextPart):
            for word in part.content.split():
                yield f"{word} "
        elif isinstance(part, ToolCallPart):
            yield {0: DeltaToolCall(part.tool_name, part.args_as_json_str(), tool_call_id=part.tool_call_id)}


looked: list[int] = []


def look() -> str:
    looked.append(1)
    return "seen"


@pytest.fixture
def storage() -> Iterator[Storage]:
    looked.clear()
    with MemoryStorage() as storage:
        yield storage


def clerk(storage: Storage | None, **options: Any) -> Agent[Any]:
    model = FunctionModel(answer, stream_function=streamed)
    return Agent(model, name="clerk", storage=storage, tools=[look], review=True, **options)


def waiting(storage: Storage, session_id: str = "s") -> tuple[str, Any]:
    """The id by which the output is decided about, and the output."""
    [asked] = next(one for one in storage.waiting() if one.session.session_id == session_id).asked
    assert asked["kind"] == "review"
    return asked["tool_call_id"], asked["args"]["output"]


def remarked(storage: Storage, remark: str) -> None:
    storage.decide("s", approvals={waiting(storage)[0]: remark}, by="bob")


@pytest.mark.parametrize("durability", ["run", "step", "exit"])
def test_an_answer_is_given_when_somebody_has_accepted_it(storage: Storage, durability: Any) -> None:
    agent = clerk(storage, durability=durability)
    result = agent.run("Hello", session_id="s")
    assert result.status == "paused"
    assert isinstance(result.output, DeferredToolRequests)
    assert storage.get_run("s", 1).output is None
    call, output = waiting(storage)
    assert output == "Re: Hello"
    with pytest.raises(NotResumableError):
        agent.resume("s")
    storage.decide("s", approvals={call: True}, by="bob")
    result = agent.resume("s")
    assert (result.status, result.output, result.usage.requests) == ("completed", "Re: Hello", 1)
    run = storage.get_run("s", 1)
    assert (run.status, run.output, run.usage.requests) == ("completed", "Re: Hello", 1)
    assert agent.run("Again", session_id="s").pending is not None
    assert waiting(storage)[1] == "Re: Hello | Again"


def test_an_answer_is_changed_and_later_runs_know_that(storage: Storage) -> None:
    agent = clerk(storage)
    agent.run("Hello", session_id="s")
    storage.decide("s", approvals={waiting(storage)[0]: {"output": "Dear you"}}, by="bob")
    assert agent.resume("s").output == "Dear you"
    agent.run("Again", session_id="s")
    assert "a person has changed it. What was given is:\n\nDear you" in waiting(storage)[1]


def test_an_answer_is_sent_back_until_it_is_right(storage: Storage) -> None:
    agent = clerk(storage)
    agent.run("tool", session_id="s")
    remarked(storage, "Be kinder.")
    assert agent.resume("s").status == "paused"
    assert "Be kinder." in waiting(storage)[1]
    result = agent.resume("s", approvals={waiting(storage)[0]: False}, by="eve")
    assert result.status == "paused"
    assert waiting(storage)[1].endswith("Answer again.")
    result = agent.resume("s", approvals={waiting(storage)[0]: True})
    assert (result.status, result.usage.requests, looked) == ("completed", 4, [1])
    assert storage.get_run("s", 1).usage == result.usage
    decided = [said for one in storage.entries("s") if (said := RunDecided.read(one)) is not None]
    assert [(one.reviewed or {}).get("remark") for one in decided] == ["Be kinder.", "", None]
    assert [one.by for one in decided] == [None, "eve", None]


def test_objects_are_reviewed_as_what_they_are(storage: Storage) -> None:
    agent = clerk(storage, output_type=Offer)
    agent.run("Hello", session_id="s")
    remarked(storage, "More!")
    agent.resume("s")
    call, output = waiting(storage)
    assert output == {"price": 10, "text": ""}
    for wrong in ({"price": 3}, {"output": {"price": "much"}}, {"output": 3}):
        with pytest.raises(InvalidInputError):
            storage.decide("s", approvals={call: wrong})
        with pytest.raises(InvalidInputError):
            agent.resume("s", approvals={call: ToolApproved(override_args=wrong)})
    result = agent.resume("s", approvals={call: ToolApproved(override_args={"output": {"price": 5}})})
    assert (result.output, storage.get_run("s", 1).output) == (Offer(price=5), {"price": 5})


def test_streams_tell_tools_and_nothing_of_the_answer(storage: Storage) -> None:
    agent = clerk(storage)
    with agent.stream("tool", session_id="s") as stream:
        assert list(stream) == []
    assert stream.result.status == "paused"
    with agent.stream("tool", session_id="t", events=True) as told:
        events = list(told)
    assert isinstance(events[0], FunctionToolCallEvent)
    assert "Re:" not in repr(events)
    with agent.stream_resume("s", approvals={waiting(storage)[0]: True}) as stream:
        assert list(stream) == ["Re: tool"]


def test_no_result_has_what_nobody_has_accepted(storage: Storage) -> None:
    """Not by Pydantic AI's own result either, and not where a request comes again."""
    agent = clerk(storage)
    result = agent.run("Hello", session_id="s", run_id="r1")
    assert result.agent_result is not None
    assert isinstance(result.agent_result.output, DeferredToolRequests)
    assert agent.run("Hello", session_id="s", run_id="r1").status == "paused"
    storage.decide("s", approvals={waiting(storage)[0]: True})
    agent.resume("s")
    assert agent.run("Hello", session_id="s", run_id="r1").output == "Re: Hello"


def test_a_team_is_reviewed_and_its_members_are_not(storage: Storage) -> None:
    with pytest.raises(InvalidInputError, match="review=True"):
        Team([clerk(None)], OfflineModel(), name="team", storage=storage)
    offline = OfflineModel(introduce=False)
    team = Team([Agent(offline, name="one")], offline, name="team", storage=storage, review=True)
    asked = call("delegate_task", member="one", task="Hello")
    team.run(asked, session_id="s")
    with pytest.raises(SessionNotFoundError):
        storage.decide("s", approvals={waiting(storage)[0]: True}, user_id="eve")
    output = waiting(storage)[1]
    result = team.resume("s", approvals={waiting(storage)[0]: True})
    assert (result.output, [one.agent for one in result.members or storage.get_run("s", 1).children]) == (
        output,
        ["one"],
    )


def test_where_nobody_could_look_it_is_refused(storage: Storage) -> None:
    with pytest.raises(InvalidInputError, match="review"):
        clerk(None).run("Hello")

    async def one_step(ctx: Context) -> str:
        return str(await ctx.step(clerk(storage), "Hello"))

    with pytest.raises(Exception, match="Nobody could review"):
        Workflow(one_step, storage=storage).run(session_id="w")


def test_a_step_with_a_session_of_its_own_waits_for_the_review(storage: Storage) -> None:
    async def one_step(ctx: Context) -> str:
        return str(await ctx.step(clerk(storage), "Hello", session_id="own"))

    flow = Workflow(one_step, storage=storage)
    assert flow.run(session_id="w").status == "paused"
    call, output = waiting(storage, "w")
    assert output == "Re: Hello"
    assert flow.resume("w", approvals={call: True}).output == "Re: Hello"
    assert storage.get_run("own", 1).output == "Re: Hello"


# ---------------------------------------------------------------- processes that are killed

REVIEWED = {"agent": {"review": True}}


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    pytest.importorskip("openai")
    with a_nursery() as made:
        yield made


def decided(world: World, said: Any) -> None:
    world.storage.decide("s", approvals={waiting(world.storage)[0]: said}, by="bob")


@pytest.mark.parametrize(
    ("when", "said"),
    [("before", True), ("after", {"output": "Changed"}), ("before", "Say more."), ("after", "Say more.")],
)
def test_killed_at_any_commit(nursery: Nursery, tmp_path: Path, when: str, said: Any) -> None:
    """Wherever its process dies, what was decided is carried out, once, and no tool is called again."""
    for which in range(1, 9):
        folder = tmp_path / str(which)
        folder.mkdir()
        with a_world(folder, nursery) as world:
            assert world.start("run", call("note", text="a"), **REVIEWED).result()["status"] == "paused"
            draft = waiting(world.storage)[1]
            decided(world, said)
            child = world.start("resume", die=[when, "any", which], **REVIEWED)
            if child.wait() != -signal.SIGKILL:
                assert which > 1
                return
            agent = world.agent(review=True)
            if world.run().status == "running":
                world.interrupted()
            if world.run().status == "interrupted" or not said_again(world, said):
                agent.resume("s")
            if isinstance(said, str):
                assert said in str(world.server.requests[-1].body)
                decided(world, True)
                agent.resume("s")
            run = world.run()
            assert run.status == "completed"
            assert said == "Say more." or run.output == ("Changed" if said is not True else draft)
            assert world.traces.lines == ["note a"]
            assert world.parts.count("user") == (1 if said is True else 2)
    raise AssertionError("more commits than expected")


def said_again(world: World, said: Any) -> bool:
    """Whether the process had come to the end of what it was resumed for, before it was killed."""
    if isinstance(said, str):
        return world.run().status == "paused" and len(world.server.requests) > 2
    return world.run().status == "completed"
