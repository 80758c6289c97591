"""What a run has used, and what it has said, as its result and its session tell: all of it, once."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic_ai import FunctionToolset, Tool, capture_run_messages
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import (
    BinaryContent,
    DocumentUrl,
    ImageUrl,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    NativeToolReturnPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.test import TestModel
from pydantic_ai.usage import RequestUsage, UsageLimits

from sessile import Agent, RollingSummary, SqliteStorage, TokenBudget, session_state
from sessile.agents.history.sendable import question_and_answer
from sessile.agents.messages.tokens import IMAGE, PAGE, estimate_tokens
from sessile.agents.resume.tools import Tools


def _said(text: str, tokens: int = 0) -> ModelResponse:
    return ModelResponse(parts=[TextPart(text)], usage=RequestUsage(input_tokens=tokens))


def _asks_for_summary(info: AgentInfo) -> bool:
    return "ummarize" in (info.instructions or "")


# ---------------------------------------------------------------- summaries


def test_what_summarising_uses_is_counted(storage: SqliteStorage) -> None:
    asked: list[bool] = []

    def model(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        asked.append(_asks_for_summary(info))
        return _said("ok", 500)

    agent = Agent(FunctionModel(model), storage=storage, history=RollingSummary(keep=1, every=1), session_id="s")
    results = [agent.run(f"question {number}", usage_limits=UsageLimits(request_limit=1)) for number in range(5)]
    assert sum(asked) == 3
    assert [result.usage.requests for result in results] == [1, 1, 2, 2, 2]
    head = storage.get_session("s")
    assert head is not None
    assert (head.usage.requests, head.usage.input_tokens) == (len(asked), 500 * len(asked))
    assert [run.usage for run in storage.runs("s")] == [result.usage for result in results]


def test_what_summarising_uses_is_counted_for_a_run_that_fails(storage: SqliteStorage) -> None:
    def model(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        if "fail" in str(messages[-1].parts[-1]):
            raise ModelHTTPError(500, "test")
        return _said("ok")

    agent = Agent(FunctionModel(model), storage=storage, history=RollingSummary(keep=0, every=1), session_id="s")
    agent.run("one")
    with pytest.raises(ModelHTTPError):
        agent.run("fail")
    assert [run.usage.requests for run in storage.runs("s")] == [1, 1]


def test_a_run_that_ends_after_a_summary_has_passed_it_is_told_by_the_next_one(storage: SqliteStorage) -> None:
    sent: list[str] = []
    summarised: list[str] = []

    def refund() -> str:
        return "paid, code XK42"

    def model(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        (summarised if _asks_for_summary(info) else sent).append(str(messages))
        if "money" in str(messages[-1].parts[-1]) and not _asks_for_summary(info):
            return ModelResponse(parts=[ToolCallPart("refund", tool_call_id="c1")])
        return _said("ok")

    window = RollingSummary(keep=1, every=2)
    agent = Agent(
        FunctionModel(model),
        storage=storage,
        history=window,
        session_id="s",
        tools=[Tool(refund, requires_approval=True)],
    )
    agent.run("hello")
    agent.run("my money")
    for number in range(12):
        agent.run(f"question {number}")
    head = storage.get_session("s")
    assert head is not None
    assert head.summary is not None
    assert (head.summary["upto"] > 2, head.summary["unfinished"]) == (True, [2])
    agent.resume(approvals={"c1": True})
    copy = storage.fork("s", session_id="copy")
    assert copy.summary is not None
    assert copy.summary["unfinished"] == [2]
    for one in ("s", "copy"):
        sent.clear()
        summarised.clear()
        for number in range(4):
            agent.run(f"after {number}", session_id=one)
        assert sum("XK42" in text for text in summarised) == 1
        head = storage.get_session(one)
        assert head is not None
        assert head.summary is not None
        assert "unfinished" not in head.summary


def test_what_is_too_long_for_the_summariser_is_summarised_in_parts(storage: SqliteStorage) -> None:
    limit, refused, told = 6_000, [0], list[str]()

    def summariser(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        text = str(_contents(messages)[-1])
        if len(text) > limit:
            refused[0] += 1
            raise ModelHTTPError(400, "small", {"error": "context_length_exceeded"})
        told.append(text)
        return _said(f"summary {len(told)}")

    window = RollingSummary(keep=0, every=4, model=FunctionModel(summariser))
    agent = Agent(FunctionModel(lambda m, i: _said("ok")), storage=storage, history=window, session_id="s")
    for number in range(3):
        agent.run(f"question {number} " + "x" * 2500)
    agent.run("long " + "y" * 20_000 + " end")
    agent.run("next")
    assert refused[0] > 2
    assert all(f"question {number}" in "".join(told) for number in range(3))
    assert "User: long" in told[-1]
    assert "… (left out) …" in told[-1]
    assert " end" in told[-1]
    assert agent.session("s").summary() == f"summary {len(told)}"


def test_an_override_of_the_model_reaches_summaries(storage: SqliteStorage) -> None:
    def never(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        raise AssertionError("a test would have asked a real model")

    window = RollingSummary(keep=0, every=1, model=FunctionModel(never))
    agent = Agent(FunctionModel(never), storage=storage, history=window, session_id="s")
    with agent.pydantic_agent.override(model=TestModel(custom_output_text="tested")):
        for _ in range(3):
            assert agent.run("Hello").output == "tested"
    assert agent.session("s").summary() == "tested"


# ---------------------------------------------------------------- runs that failed, were resumed, or stand alone


@pytest.mark.parametrize("durability", ["run", "step"])
def test_the_tool_calls_of_a_failed_run(storage: SqliteStorage, durability: Any) -> None:
    asked: list[int] = []

    def model(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        asked.append(1)
        if len(asked) == 3:
            raise RuntimeError("boom")
        return ModelResponse(parts=[ToolCallPart("look"), ToolCallPart("look")])

    def look() -> str:
        return "x"

    agent = Agent(FunctionModel(model), storage=storage, tools=[look], durability=durability)
    with pytest.raises(RuntimeError):
        agent.run("x", session_id="s")
    usage = storage.runs("s")[0].usage
    assert (usage.requests, usage.tool_calls) == (2, 4)


@pytest.mark.parametrize("durability", ["run", "step"])
def test_the_messages_of_a_resumed_run_are_all_of_it(storage: SqliteStorage, durability: Any) -> None:
    def refund() -> str:
        return "PAID"

    def model(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        return ModelResponse(parts=[ToolCallPart("refund")]) if "money" in str(messages[-1].parts[-1]) else _said("ok")

    tools = [Tool(refund, requires_approval=True)]
    agent = Agent(FunctionModel(model), storage=storage, tools=tools, session_id="s", durability=durability)
    agent.run("before")
    paused = agent.run("money")
    assert paused.pending is not None
    result = agent.resume(approvals={paused.pending.approvals[0].tool_call_id: True})
    kinds = [part.part_kind for message in result.new_messages() for part in message.parts]
    assert kinds == ["user-prompt", "tool-call", "tool-return", "text"]
    assert [message.kind for message in result.new_messages()] == [
        m.data["kind"] for m in storage.runs("s")[1].messages
    ]
    assert len(result.all_messages()) == 2 + 4


def test_an_agent_without_a_storage_has_a_state_too() -> None:
    seen: list[str | None] = []

    def model(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        seen.append(info.instructions)
        if isinstance(messages[-1].parts[-1], UserPromptPart):
            return ModelResponse(parts=[ToolCallPart("upgrade")])
        return _said("done")

    def upgrade() -> str:
        state = session_state()
        before, state["plan"] = state["plan"], "pro"
        return before

    agent = Agent(FunctionModel(model), instructions="The plan is {plan}.", state={"plan": "free"}, tools=[upgrade])
    for _ in range(2):  # each run stands alone
        result = agent.run("Hello", session_id="s")
        assert (result.state, result.number, result.session_id) == ({"plan": "pro"}, 0, "s")
    assert seen == ["The plan is free.", "The plan is pro."] * 2


async def test_captured_messages_are_those_of_the_run(storage: SqliteStorage) -> None:
    window = RollingSummary(keep=0, every=1)
    agent = Agent(TestModel(), storage=storage, session_id="s", history=window)
    await agent.arun("one")
    with capture_run_messages() as messages:
        await agent.arun("two")
        await agent.arun("three")  # of several runs the first is captured, as Pydantic AI says
    assert "two" in str(messages[-2])
    with capture_run_messages() as messages, pytest.raises(ModelHTTPError):
        await agent.arun("four", model=FunctionModel(_fails))
    assert "four" in str(messages[-1])


def test_captured_messages_of_a_synchronous_run(storage: SqliteStorage) -> None:
    with capture_run_messages() as messages:
        Agent(TestModel(), storage=storage).run("one", session_id="s")
    assert [message.kind for message in messages] == ["request", "response"]


def _fails(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    raise ModelHTTPError(500, "test")


def _prefixed(tools: FunctionToolset[Any]) -> Any:
    return tools.prefixed("shop")


def _filtered(tools: FunctionToolset[Any]) -> Any:
    return tools.filtered(lambda context, tool: True).prefixed("shop")


def _renamed(tools: FunctionToolset[Any]) -> Any:
    return tools.renamed({"shop_pay": "pay"})


@pytest.mark.parametrize("wrap", [_prefixed, _filtered, _renamed])
def test_idempotent_tools_are_found_behind_wrappers(wrap: Any) -> None:
    def pay() -> str:
        return "paid"

    def send() -> str:
        return "sent"

    tools = FunctionToolset[Any]([Tool(pay, metadata={"idempotent": True}), send])
    job = Agent(TestModel(), toolsets=[wrap(tools)])._job({})
    assert Tools(job).idempotent == {"shop_pay"}
    said = FunctionToolset[Any]([send]).with_metadata(idempotent=True)
    assert Tools(Agent(TestModel(), toolsets=[said])._job({})).idempotent == {"send"}


def test_a_system_prompt_that_is_registered_later_is_sent_with_every_run(storage: SqliteStorage) -> None:
    sent: list[int] = []

    def model(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        sent.append(sum(part.part_kind == "system-prompt" for message in messages for part in message.parts))
        return _said("ok")

    agent = Agent(FunctionModel(model), storage=storage, history=1, session_id="s")
    inner: Any = agent.pydantic_agent

    @inner.system_prompt
    def rules() -> str:  # pyright: ignore[reportUnusedFunction]
        return "Be kind."

    for number in range(4):
        agent.run(f"question {number}")
    assert sent == [1] * 4


# ---------------------------------------------------------------- estimates


@pytest.mark.parametrize(
    ("part", "tokens"),
    [
        (UserPromptPart("x" * 4000), 1000),
        (UserPromptPart("字" * 400), 300),
        (ThinkingPart("x" * 4000), 1000),
        (NativeToolReturnPart("web_search", [{"content": "x" * 4000}], "w1"), 1005),
        (ToolReturnPart("fetch", {"page": "x" * 4000}, "c1"), 1004),
        (UserPromptPart(["x" * 4000, BinaryContent(b"0" * 10, media_type="image/png")]), 1000 + IMAGE),
        (
            UserPromptPart([BinaryContent(b"/Type /Page\n/Type /Pages\n/Type/Page", media_type="application/pdf")]),
            2 * PAGE,
        ),
        (UserPromptPart([BinaryContent(b"0" * 1_000_000, media_type="application/pdf")]), 21 * PAGE),
        (UserPromptPart([BinaryContent(b"0" * 500_000, media_type="audio/mpeg")]), 1001),
        (UserPromptPart([BinaryContent(b"0" * 400_000, media_type="video/mp4")]), 1001),
        (UserPromptPart([BinaryContent(b"0" * 4_000, media_type="text/csv")]), 1001),
        (UserPromptPart([ImageUrl("https://example.org/a.png")]), IMAGE),
        (UserPromptPart([DocumentUrl("https://example.org/a.pdf")]), 10 * PAGE),
        (ToolReturnPart("look", BinaryContent(b"0" * 10, media_type="image/png"), "c1"), IMAGE + 1),
    ],
)
def test_estimates_count_what_is_sent(part: Any, tokens: int) -> None:
    assert abs(estimate_tokens([ModelRequest(parts=[part])]) - tokens) <= 2


def test_a_budget_holds_for_thinking_and_media(storage: SqliteStorage) -> None:
    sent: list[int] = []

    def model(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        sent.append(len(messages))
        return ModelResponse(parts=[ThinkingPart("t" * 100_000), TextPart("ok")])

    agent = Agent(FunctionModel(model), storage=storage, history=TokenBudget(1000), session_id="s")
    for _ in range(3):
        agent.run("look")
    assert sent == [1, 3, 3]  # of the newest run question and answer


def test_question_and_answer_of_any_run() -> None:
    asked = ModelRequest(parts=[UserPromptPart("q")])
    texts = [asked, ModelResponse(parts=[TextPart("The answer is "), TextPart("42"), TextPart(".")])]
    call = ToolCallPart("final_result", {"name": "Paris"}, tool_call_id="c1")
    taken = ModelRequest(parts=[ToolReturnPart("final_result", "Final result processed.", "c1")])
    structured = [asked, ModelResponse(parts=[call]), taken]
    assert _contents(question_and_answer(texts)) == ["q", "The answer is 42."]
    assert _contents(question_and_answer(structured)) == ["q", '{"name":"Paris"}']
    assert len(question_and_answer([asked, ModelResponse(parts=[call])])) == 1  # a tool's call is no answer


def _contents(messages: list[ModelMessage]) -> list[Any]:
    parts: list[Any] = [part for message in messages for part in message.parts]
    return [part.content for part in parts]
