"""A run that goes on with another model than the one that began it, or with other settings of it."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import Any

import pytest
from pydantic_ai import Tool
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import BinaryContent, ModelMessage, ModelResponse, TextPart, ThinkingPart, ToolCallPart
from pydantic_ai.models.bedrock import BedrockConverseModel
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.providers.bedrock import BedrockProvider

from sessile import Agent, Context, SqliteStorage, Team, Workflow

pytest.importorskip("anthropic")

from tests.agents.claude import THOUGHTS, Claude, blocks_of, calls, mode_of, says, thinks

BOTO: Any = pytest.importorskip("boto3")

pytestmark = pytest.mark.filterwarnings("ignore:The model .* is deprecated:DeprecationWarning")

BUDGET: Any = {"anthropic_thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 4096}
WITH_A_BUDGET: list[Any] = [
    BUDGET,
    {"thinking": "low"},
    {"extra_body": {"thinking": {"type": "enabled", "budget_tokens": 1024}}, "max_tokens": 4096},
]
WITHOUT: list[Any] = [{}, {"thinking": False}, {"anthropic_thinking": {"type": "disabled"}}]
TOOLS = [Tool(lambda: "paid", name="pay", requires_approval=True), Tool(lambda: "seen", name="look")]


def agent(model: Any, storage: SqliteStorage, settings: Any = None, **options: Any) -> Agent[Any]:
    return Agent(model, name="a", storage=storage, tools=TOOLS, model_settings=settings, **options)


def begun_elsewhere(thought: ThinkingPart | None = None) -> FunctionModel:
    """A model of another provider that wants to pay."""
    parts: list[Any] = [ToolCallPart("pay", {}, tool_call_id="toolu_0")]
    return FunctionModel(lambda m, i: ModelResponse(parts=[*([thought] if thought else []), *parts]))


def thoughts(body: dict[str, Any]) -> list[int]:
    """How many blocks of thinking each message of the assistant has that was sent."""
    return [len(blocks_of(message, *THOUGHTS)) for message in body["messages"] if message["role"] == "assistant"]


@pytest.mark.parametrize("durability", ["run", "step"])
@pytest.mark.parametrize("settings", WITH_A_BUDGET)
@pytest.mark.parametrize("thought", [None, ThinkingPart("hm", signature="s", provider_name="openai")])
def test_a_run_begun_without_thinking_goes_on_with_claude_that_thinks(
    storage: SqliteStorage, settings: Any, thought: ThinkingPart | None, durability: Any
) -> None:
    """It does not think to the end of this run, and thinks in the next one."""
    assert agent(begun_elsewhere(thought), storage, durability=durability).run("pay", session_id="s").pending
    claude = Claude([[calls("look")], [says("done")], [thinks(), calls("look", "toolu_2")], [thinks(), says("fine")]])
    thinking = agent(claude.model(), storage, settings, durability=durability)
    assert thinking.resume("s", approvals={"toolu_0": True}).output == "done"
    assert thinking.run("And now?", session_id="s").output == "fine"
    assert claude.refused == []
    assert [mode_of(body) for body in claude.taken] == ["disabled", "disabled", "enabled", "enabled"]
    assert blocks_of(claude.taken[0]["messages"][-1], "tool_result")  # they are told as what they are


@pytest.mark.parametrize("settings", WITHOUT)
@pytest.mark.parametrize("durability", ["run", "step"])
def test_a_run_begun_with_thinking_goes_on_without(storage: SqliteStorage, settings: Any, durability: Any) -> None:
    begun = Claude([[thinks(), says("I look."), calls("look")], [thinks(), calls("pay", "toolu_2")]])
    assert agent(begun.model(), storage, BUDGET, durability=durability).run("pay", session_id="s").pending
    claude = Claude([[calls("look", "toolu_3")], [says("done")], [says("fine")]])
    plain = agent(claude.model(), storage, settings, durability=durability)
    assert plain.resume("s", approvals={"toolu_2": True}).output == "done"
    assert plain.run("And now?", session_id="s").output == "fine"
    assert begun.refused == claude.refused == []
    assert [thoughts(body) for body in claude.taken[:2]] == [[0, 0], [0, 0, 0]]
    kinds = [part["part_kind"] for message in storage.get_run("s", 1).messages for part in message.data["parts"]]
    assert kinds.count("thinking") == 2  # in the log they stay


def test_a_run_that_thinks_keeps_its_thinking(storage: SqliteStorage) -> None:
    claude = Claude([[thinks(), calls("look")], [calls("pay", "toolu_2")], [says("done")]])
    thinking = agent(claude.model(), storage, BUDGET)
    assert thinking.run("pay", session_id="s").pending
    assert thinking.resume("s", approvals={"toolu_2": True}).output == "done"
    assert claude.refused == []
    assert [thoughts(body) for body in claude.taken] == [[], [1], [1, 0]]
    assert claude.taken[-1]["thinking"]["type"] == "enabled"


@pytest.mark.parametrize("settings", [{"thinking": "low"}, {"anthropic_thinking": {"type": "adaptive"}}])
def test_adaptive_thinking_is_left_as_it_is(storage: SqliteStorage, settings: Any) -> None:
    agent(begun_elsewhere(), storage).run("pay", session_id="s")
    claude = Claude([[thinks(), says("done")]])
    opus = agent(claude.model("claude-opus-4-6"), storage, settings)
    assert opus.resume("s", approvals={"toolu_0": True}).output == "done"
    assert claude.taken[0]["thinking"]["type"] == "adaptive"


def test_members_of_a_team_go_on_so_too(storage: SqliteStorage) -> None:
    def lead(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        if len(messages) > 1:
            return ModelResponse(parts=[TextPart("done")])
        return ModelResponse(parts=[ToolCallPart(info.function_tools[0].name, {"member": "a", "task": "pay"})])

    def team(model: Any, settings: Any = None) -> Team[Any]:
        member = Agent(model, name="a", tools=TOOLS, model_settings=settings)
        return Team([member], FunctionModel(lead), name="t", storage=storage)

    assert team(begun_elsewhere()).run("pay", session_id="s").pending
    claude = Claude([[says("paid")]])
    assert team(claude.model(), BUDGET).resume("s", approvals={"toolu_0": True}).output == "done"
    assert (claude.refused, len(claude.taken)) == ([], 1)


@pytest.mark.parametrize("thinking", [True, False])
@pytest.mark.parametrize("begun_with_thinking", [True, False])
def test_claude_on_bedrock_goes_on_so_too(storage: SqliteStorage, thinking: bool, begun_with_thinking: bool) -> None:
    sent: list[dict[str, Any]] = []

    class Client:
        """What Bedrock is asked by, with an answer at hand."""

        meta: Any = BOTO.client("bedrock-runtime", "eu-west-1", aws_access_key_id="x", aws_secret_access_key="x").meta

        def converse(self, **request: Any) -> dict[str, Any]:
            sent.append(request)
            message = {"role": "assistant", "content": [{"text": "done"}]}
            usage = {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2}
            return {"output": {"message": message}, "stopReason": "end_turn", "usage": usage, "ResponseMetadata": {}}

    thought = ThinkingPart("hm", signature="s", provider_name="bedrock") if begun_with_thinking else None
    agent(begun_elsewhere(thought), storage).run("pay", session_id="s")
    provider = BedrockProvider(bedrock_client=Client())  # pyright: ignore[reportArgumentType] (what is used of one)
    model = BedrockConverseModel("us.anthropic.claude-sonnet-4-5-20250929-v1:0", provider=provider)
    mode = {"type": "enabled", "budget_tokens": 1024}
    settings: Any = {"bedrock_additional_model_requests_fields": {"thinking": mode}} if thinking else {}
    settings["max_tokens"] = 4096  # without it Pydantic AI streams
    assert agent(model, storage, settings).resume("s", approvals={"toolu_0": True}).output == "done"
    ((request, asked),) = [(one["messages"][1]["content"], one.get("additionalModelRequestFields", {})) for one in sent]
    assert [next(iter(block)) for block in request][:1] == ["reasoningContent" if thinking and thought else "toolUse"]
    assert (mode_of(asked) == "enabled") == (thinking and begun_with_thinking)


def test_agents_in_steps_go_on_so_too(storage: SqliteStorage) -> None:
    def shop(model: Any, settings: Any = None) -> Workflow[str]:
        clerk = Agent(model, name="a", tools=TOOLS, model_settings=settings)

        async def flow(ctx: Context) -> str:
            return await ctx.step(clerk, "pay")

        return Workflow(flow, name="shop", storage=storage)

    begun = FunctionModel(lambda m, i: ModelResponse(parts=[ToolCallPart("pay", {}, tool_call_id="functions.pay:0")]))
    assert shop(begun).run(session_id="s").status == "paused"
    claude = Claude([[says("paid")]])
    assert shop(claude.model(), BUDGET).resume("s", approvals={"functions.pay:0": True}).output == "paid"
    assert (claude.refused, len(claude.taken)) == ([], 1)
    (block,) = blocks_of(claude.taken[0]["messages"][1], "tool_use")
    assert re.fullmatch("[a-zA-Z0-9_-]+", block["id"])


async def test_a_model_that_gives_the_same_ids_to_all_its_calls(storage: SqliteStorage) -> None:
    """What a tool had returned before the interruption answers that call, and none that is made later."""
    seen: list[str] = []
    stops = [True]

    def look(what: str) -> str:
        seen.append(what)
        return f"{what} seen"

    async def halt() -> str:
        if stops:
            stops.clear()
            raise asyncio.CancelledError
        return "halted"

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        count = sum(isinstance(message, ModelResponse) for message in messages)
        if count == 2:
            return ModelResponse(parts=[TextPart("done")])
        halts = [ToolCallPart("halt", {}, tool_call_id="call_1")] if count == 0 else []
        return ModelResponse(parts=[ToolCallPart("look", {"what": "ab"[count]}, tool_call_id="call_0"), *halts])

    tools = [Tool(look, sequential=True), Tool(halt, sequential=True, metadata={"idempotent": True})]
    same = Agent(FunctionModel(answer), storage=storage, tools=tools, durability="step")
    with pytest.raises(asyncio.CancelledError):
        await same.arun("look", session_id="s")
    assert (await same.aresume("s")).output == "done"
    assert seen == ["a", "b"]


# ---------------------------------------------------------------- what no rule knows


@pytest.mark.parametrize("durability", ["run", "step"])
def test_a_run_that_is_refused_as_it_is_goes_on_in_words(
    storage: SqliteStorage, durability: Any, caplog: pytest.LogCaptureFixture
) -> None:
    agent(begun_elsewhere(), storage, durability=durability).run("pay", session_id="s")
    claude = Claude([[calls("look")], [says("done")]], refuses="pay")
    other = agent(claude.model(), storage, durability=durability, instructions="Be brief.")
    with caplog.at_level(logging.WARNING, "sessile"):
        assert other.resume("s", approvals={"toolu_0": True}).output == "done"
    assert claude.refused == ["this server takes no pay"]  # once: what has been told in words stays so
    assert caplog.text.count("told in words") == 1
    first, last = claude.taken
    told = "pay\n\nWhat you have done about it so far:\n\n(You have called pay with {})\n\n(pay has returned: paid)"
    assert [[block["text"] for block in blocks_of(m, "text")] for m in first["messages"]] == [[told]]
    assert [len(blocks_of(message, "tool_use", "tool_result")) for message in last["messages"]] == [0, 1, 1]
    assert "Be brief." in str(first["system"])
    assert storage.verify("s")
    (run,) = storage.runs("s")
    kinds = [part["part_kind"] for message in run.messages for part in message.data["parts"]]
    assert kinds == ["user-prompt", "tool-call", "tool-return", "tool-call", "tool-return", "text"]
    assert run.usage.requests == 3


async def test_an_interrupted_run_is_streamed_in_words_too(storage: SqliteStorage) -> None:
    def begin(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        if len(messages) > 1:
            raise asyncio.CancelledError
        return ModelResponse(parts=[ToolCallPart("look", {}, tool_call_id="toolu_0")])

    with pytest.raises(asyncio.CancelledError):
        await agent(FunctionModel(begin), storage, durability="step").arun("look", session_id="s", run_id="r")
    claude = Claude([[calls("pay")]], refuses="look")
    other = agent(claude.model(), storage, durability="step")
    async with other.astream("look", session_id="s", run_id="r") as stream:
        assert [piece async for piece in stream] == []
    assert stream.result.status == "paused"
    assert claude.refused == ["this server takes no look"]
    assert "look has returned: seen" in str(claude.taken[0]["messages"])


def test_what_is_refused_in_words_too_fails(storage: SqliteStorage) -> None:
    def refuse(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        asked.append(len(messages))
        raise ModelHTTPError(400, "strict")

    asked: list[int] = []
    agent(begun_elsewhere(), storage, durability="step").run("pay", session_id="s")
    with pytest.raises(ModelHTTPError):
        agent(FunctionModel(refuse), storage, durability="step").resume("s", approvals={"toolu_0": True})
    assert asked == [3, 1]
    done = FunctionModel(lambda m, i: ModelResponse(parts=[TextPart("done")]))
    assert agent(done, storage, durability="step").resume("s").output == "done"


@pytest.mark.parametrize("durability", ["run", "step"])
def test_what_was_approved_is_not_done_again_for_a_history_that_is_refused(
    storage: SqliteStorage, durability: Any
) -> None:
    def refuse(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        raise ModelHTTPError(400, "strict")

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        called = ToolCallPart("pay", {}, tool_call_id="1")
        return ModelResponse(parts=[called if "pay" in str(messages[-1].parts[-1]) else TextPart("fine")])

    paid: list[int] = []
    tools = [Tool(lambda: paid.append(1), name="pay", requires_approval=True)]
    begun = Agent(FunctionModel(answer), storage=storage, tools=tools, durability=durability)
    for prompt in ("hello", "pay"):
        begun.run(prompt, session_id="s")
    strict = Agent(FunctionModel(refuse), storage=storage, tools=tools, durability=durability)
    with pytest.raises(ModelHTTPError):
        strict.resume("s", approvals={"1": True})
    assert paid == [1]


def test_a_picture_that_a_tool_has_returned_and_the_next_model_does_not_take(storage: SqliteStorage) -> None:
    picture = BinaryContent(b"\x89PNG" + b"0" * 500, media_type="image/png")
    tools = [Tool(lambda: picture, name="draw"), TOOLS[0]]

    def begin(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        name = "draw" if len(messages) == 1 else "pay"
        return ModelResponse(parts=[ToolCallPart(name, {}, tool_call_id=name)])

    def blind(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        if "BinaryContent" in repr(messages):
            raise ModelHTTPError(400, "blind", {"message": "no images"})
        return ModelResponse(parts=[TextPart("done")])

    Agent(FunctionModel(begin), storage=storage, tools=tools).run("draw and pay", session_id="s")
    result = Agent(FunctionModel(blind), storage=storage, tools=tools).resume("s", approvals={"pay": True})
    assert result.output == "done"
