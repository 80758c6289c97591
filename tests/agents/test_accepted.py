"""What is sent along is accepted by the strictest provider, whatever the earlier runs have come to."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_ai import Tool
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import (
    BinaryContent,
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    ModelResponsePart,
    NativeToolCallPart,
    NativeToolReturnPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel
from tests.agents.strict import Strict, violations

from sessile import Agent, RollingSummary, SqliteStorage, Storage, Team, TokenBudget
from sessile.agents.history.accepted import accepted, plain
from sessile.drivers.memory import MemoryDriver

PICTURE = BinaryContent(b"\x89PNG" + b"0" * 5000, media_type="image/png")

SUMMARY = RollingSummary(keep=1, every=1)

# ---------------------------------------------------------------- whatever has happened

_text = st.sampled_from(["", " \n", "Hello.", "Wörter", "a\nb"])
_names = st.sampled_from(["add", "mcp.server:tool", "9lives", "x" * 90, "ärger", "send-it"])
_ids = st.sampled_from(["1", "1", "call_1", "functions.add:0", "i" * 60, ""])
_arguments = st.sampled_from(['{"a": 1}', '{"a": ', "", "[1]", None])


def _calls() -> st.SearchStrategy[ToolCallPart]:
    def call(name: str, args: str | None, id: str) -> ToolCallPart:
        return ToolCallPart(name, args, tool_call_id=id)

    return st.builds(call, _names, _arguments, _ids)


_parts: st.SearchStrategy[ModelResponsePart] = st.one_of(
    _text.map(TextPart),
    st.sampled_from([ThinkingPart("hm", signature="s")]),
    _calls(),
    st.sampled_from(["n1", "n2"]).map(lambda id: NativeToolCallPart("web_search", {"q": "x"}, tool_call_id=id)),
)
_prompts = st.one_of(_text, st.lists(st.one_of(_text, st.just(PICTURE)), max_size=3)).map(UserPromptPart)


@st.composite
def _runs(draw: st.DrawFn) -> tuple[str, list[ModelMessage]]:
    """The messages of a run, and what became of it."""
    status = draw(st.sampled_from(["completed", "failed", "cancelled"]))
    messages: list[ModelMessage] = [ModelRequest(parts=draw(st.lists(_prompts, max_size=2)))]
    for _ in range(draw(st.integers(0, 3))):
        cut = status == "cancelled" and draw(st.booleans())
        parts = draw(st.lists(_parts, max_size=4))
        if cut:
            parts = [ThinkingPart("h") if isinstance(part, ThinkingPart) else part for part in parts]
        messages.append(ModelResponse(parts=parts, state="interrupted" if cut else "complete"))
        calls = [part for part in parts if isinstance(part, ToolCallPart)]
        results: list[ModelRequestPart] = [
            ToolReturnPart(call.tool_name, draw(_text), tool_call_id=call.tool_call_id)
            for call in calls
            if draw(st.integers(0, 4))
        ]
        if draw(st.integers(0, 6)) == 0:
            results.append(ToolReturnPart("lost", "x", tool_call_id="lost"))
        if results:
            messages.append(ModelRequest(parts=results))
    return status, messages


@settings(max_examples=60, deadline=None)
@given(
    st.lists(_runs(), max_size=4),
    st.sampled_from([3, "all", TokenBudget(400), TokenBudget(5), SUMMARY]),
    st.sampled_from(["", "mistral", "claude"]),
)
def test_windows_are_accepted(runs: list[tuple[str, list[ModelMessage]]], history: Any, whose: str) -> None:
    strict = Strict(thinks=True, whose=whose)
    with Storage(MemoryDriver()) as storage:
        for status, messages in runs:
            data = ModelMessagesTypeAdapter.dump_python(messages, mode="json")
            storage.add_run("s", input="Hello", messages=data, status=status, format="pydantic-ai/2")  # pyright: ignore[reportArgumentType]
        Agent(strict.model, storage=storage, history=history).run("And now?", session_id="s")
    assert strict.refused == []
    assert len(strict.sent) == 1 or history is SUMMARY


@settings(max_examples=30, deadline=None)
@given(st.lists(_runs(), max_size=3), st.sampled_from(["coordinate", "collaborate", "route"]), st.booleans())
def test_what_teams_and_their_members_are_sent_is_accepted(
    runs: list[tuple[str, list[ModelMessage]]], mode: Any, summing_up: bool
) -> None:
    def lead(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        thought = ThinkingPart("hm", signature="s")
        if any(isinstance(part, ToolReturnPart) for part in messages[-1].parts) or not info.function_tools:
            return _said(thought, TextPart("fine"))
        return _said(thought, ToolCallPart(info.function_tools[0].name, {"member": "ada", "task": "Look."}))

    leader, member = Strict(thinks=True, answer=lead), Strict(thinks=True)
    with Storage(MemoryDriver()) as storage:
        for status, messages in runs:
            data = ModelMessagesTypeAdapter.dump_python(messages, mode="json")
            storage.add_run("s", input="Hello", messages=data, status=status, format="pydantic-ai/2")  # pyright: ignore[reportArgumentType]
        ada = Agent(member.model, name="ada")
        window: Any = SUMMARY if summing_up else 3
        team = Team([ada], leader.model, mode=mode, storage=storage, history=window, member_history="team")
        for prompt in ("And now?", "And then?"):
            team.run(prompt, session_id="s")
    assert leader.refused == member.refused == []
    assert member.sent


@settings(max_examples=30, deadline=None)
@given(st.lists(_runs(), max_size=3), st.sampled_from([3, TokenBudget(400), SUMMARY]))
def test_what_a_resumed_run_is_sent_is_accepted(runs: list[tuple[str, list[ModelMessage]]], history: Any) -> None:
    """One that waited for a decision, and one that failed after a tool call, behind whatever has happened before."""
    fails: list[bool] = []

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        if any(isinstance(part, ToolReturnPart) for part in messages[-1].parts):
            if fails and fails.pop():
                raise RuntimeError("no luck")
            return _said(TextPart("fine"))
        if not any(isinstance(part, UserPromptPart) and "pay" in str(part.content) for part in messages[-1].parts):
            return _said(TextPart("fine"))
        return _said(ThinkingPart("hm", signature="s"), ToolCallPart("pay", {}, tool_call_id="1"))

    strict = Strict(thinks=True, answer=answer)
    with Storage(MemoryDriver()) as storage:
        for status, messages in runs:
            data = ModelMessagesTypeAdapter.dump_python(messages, mode="json")
            storage.add_run("s", input="Hello", messages=data, status=status, format="pydantic-ai/2")  # pyright: ignore[reportArgumentType]
        pay = Tool(lambda: "paid", name="pay", requires_approval=True)
        agent = Agent(strict.model, storage=storage, tools=[pay], history=history, durability="step")
        assert agent.run("pay", session_id="s").status == "paused"
        assert agent.run("And now?", session_id="s").output == "fine"
        fails[:] = [True]
        with pytest.raises(RuntimeError):
            agent.resume("s", approvals={"1": True})
        assert agent.run("And now?", session_id="s").output == "fine"
        assert agent.resume("s").output == "fine"
        assert agent.run("And then?", session_id="s").output == "fine"
    assert strict.refused == []


@pytest.mark.parametrize("whose", ["mistral", "claude"])
@pytest.mark.parametrize("durability", ["run", "step"])
@pytest.mark.parametrize("call_id", ["functions.pay:0", "call_1"])
async def test_a_run_that_goes_on_with_a_model_of_another_provider(
    storage: SqliteStorage, whose: str, durability: Any, call_id: str
) -> None:
    """Its calls keep their ids for who decides and in the log, and have such as it takes in what the model is sent."""
    tools = [Tool(lambda: "paid", name="pay", requires_approval=True), Tool(lambda: "seen", name="look")]

    def begin(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        return _said(ToolCallPart("look", {}, tool_call_id="l" * 60), ToolCallPart("pay", {}, tool_call_id=call_id))

    def go_on(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        returned = [part for m in messages for part in m.parts if isinstance(part, ToolReturnPart)]
        if len(returned) == 2:
            return _said(ToolCallPart("look", {}, tool_call_id="abcdefghi"))
        return _said(TextPart("fine"))

    def agent(model: Any) -> Agent[Any]:
        return Agent(model, name="a", storage=storage, tools=tools, durability=durability)

    assert agent(FunctionModel(begin)).run("pay", session_id="s").status == "paused"
    strict = Strict(answer=go_on, whose=whose)
    result = await agent(strict.model).aresume("s", approvals={call_id: True})
    assert (result.output, strict.refused) == ("fine", [])
    parts: list[Any] = [part for m in strict.sent[-1] for part in m.parts]
    assert [part.content for part in parts if isinstance(part, ToolReturnPart)] == ["seen", "paid", "seen"]
    stored = [part.get("tool_call_id") for message in storage.messages("s") for part in message.data["parts"]]
    assert [one for one in stored if one] == ["l" * 60, call_id] * 2 + ["abcdefghi"] * 2
    assert agent(strict.model).run("And then?", session_id="s").output == "fine"
    assert strict.refused == []


@settings(max_examples=60, deadline=None)
@given(st.lists(_runs(), max_size=4))
def test_what_is_accepted_is_left_as_it_is(runs: list[tuple[str, list[ModelMessage]]]) -> None:
    """So that a provider's cache of the beginning of a conversation holds."""
    once = accepted([message for _, messages in runs for message in messages])
    assert accepted(once) == once
    for form in (once, plain([message for _, messages in runs for message in messages])):
        assert list(violations(form, sees=form is once)) == [] or not form


def test_messages_that_any_provider_takes_are_not_touched() -> None:
    history: list[ModelMessage] = [
        ModelRequest(parts=[UserPromptPart("Add.")]),
        ModelResponse(parts=[ThinkingPart("hm", signature="s"), ToolCallPart("add", {"a": 1}, tool_call_id="c1")]),
        ModelRequest(parts=[ToolReturnPart("add", 2, tool_call_id="c1")]),
        ModelResponse(parts=[TextPart("Two.")]),
    ]
    assert all(one is other for one, other in zip(accepted(history), history, strict=True))


def test_names_are_those_of_the_provider_at_hand() -> None:
    def history() -> list[ModelMessage]:
        return [
            ModelRequest(parts=[UserPromptPart("Add.")]),
            ModelResponse(parts=[ToolCallPart("server.add", {}, tool_call_id="functions.add:0")]),
            ModelRequest(parts=[ToolReturnPart("server.add", 2, tool_call_id="functions.add:0")]),
            ModelResponse(parts=[TextPart("Two.")]),
        ]

    def named(model: str) -> tuple[str, str]:
        call, result = accepted(history(), model)[1].parts[0], accepted(history(), model)[2].parts[0]
        assert isinstance(call, ToolCallPart)
        assert isinstance(result, ToolReturnPart)
        assert (call.tool_name, call.tool_call_id) == (result.tool_name, result.tool_call_id)
        return call.tool_name, call.tool_call_id

    for mistral in ("mistral:mistral-large-latest", "openai:mistralai/Mistral-7B-Instruct-v0.3"):
        name, id = named(mistral)
        assert name == "server_add"
        assert id.isalnum()
        assert len(id) == 9
    assert named("google:gemini-3-pro") == ("server.add", "functions.add:0")
    assert named("openai:gpt-5-mini") == ("server_add", "functions.add:0")
    name, id = named("anthropic:claude-sonnet-4-5")
    assert name == "server_add"
    assert id.startswith("call_")


# ---------------------------------------------------------------- one kind after the other


@pytest.fixture
def store(storage: SqliteStorage) -> Any:
    """Adds a run of these messages to session `s`."""

    def add(*messages: ModelMessage, status: Any = "completed", error: Any = None) -> None:
        data = ModelMessagesTypeAdapter.dump_python(list(messages), mode="json")
        storage.add_run("s", input="Hello", messages=data, status=status, error=error, format="pydantic-ai/2")

    return add


def _asked(text: str = "Hello") -> ModelRequest:
    return ModelRequest(parts=[UserPromptPart(text)])


def _said(*parts: ModelResponsePart, **rest: Any) -> ModelResponse:
    return ModelResponse(parts=list(parts), **rest)


def _sent(strict: Strict) -> list[str]:
    return [f"{message.kind}: {_content(message)}" for message in strict.sent[-1]]


def _content(message: ModelMessage) -> str:
    return " | ".join(str(getattr(part, "content", part.part_kind)) for part in message.parts)


@pytest.mark.parametrize("parts", [[], [TextPart("")], [ThinkingPart("hm")]])
def test_a_run_in_which_nothing_was_said_is_not_sent(
    storage: SqliteStorage, store: Any, parts: Sequence[ModelResponsePart]
) -> None:
    store(_asked("first"), _said(*parts, state="interrupted"), status="cancelled")
    strict = Strict()
    Agent(strict.model, storage=storage).run("second", session_id="s")
    assert _sent(strict) == ["request: second"]


def test_what_a_content_filter_has_blocked_is_not_sent_again(storage: SqliteStorage) -> None:
    def provider(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        forbidden = any("FORBIDDEN" in str(part) for message in messages for part in message.parts)
        if isinstance(messages[-1].parts[-1], UserPromptPart) and "fetch" in str(messages[-1].parts[-1].content):
            return _said(ToolCallPart("fetch"))
        return _said(finish_reason="content_filter") if forbidden else _said(TextPart("fine"))

    def fetch() -> str:
        return "FORBIDDEN"

    agent = Agent(FunctionModel(provider), storage=storage, tools=[fetch], history="all")
    for prompt in ("FORBIDDEN", "fetch"):  # in what the user says, and in what a tool returns
        with pytest.raises(Exception, match=r"[Cc]ontent filter"):
            agent.run(prompt, session_id="s")
        assert agent.run("hello?", session_id="s").output == "fine"


def test_built_in_tools_without_a_result_are_left_out(storage: SqliteStorage, store: Any) -> None:
    store(_asked(), _said(TextPart("Wait."), NativeToolCallPart("web_search", {}, tool_call_id="w1")))
    call, result = (
        NativeToolCallPart("web_search", {}, tool_call_id="w2"),
        NativeToolReturnPart("web_search", "x", "w2"),
    )
    store(_asked(), _said(call, result, TextPart("Found.")))
    strict = Strict()
    Agent(strict.model, storage=storage).run("Next", session_id="s")
    assert strict.refused == []
    kinds = [part.part_kind for part in strict.sent[0][3].parts]
    assert kinds == ["builtin-tool-call", "builtin-tool-return", "text"]


def test_a_question_about_a_call_that_waits_is_asked_with_it(storage: SqliteStorage) -> None:
    def pay(order: int) -> str:
        return "paid"

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        if "refund" in _content(messages[-1]):
            return _said(ToolCallPart("pay", {"order": 5}, tool_call_id="c"))
        return _said(TextPart("ok"))

    strict = Strict(answer=answer)
    agent = Agent(strict.model, storage=storage, tools=[Tool(pay, requires_approval=True)])
    agent.run("refund order 5", session_id="s")
    agent.run("no, wait: make it order 6", session_id="s")
    assert "request: refund order 5" in _sent(strict)
    assert any("waits for a decision" in line for line in _sent(strict))
    assert agent.resume("s", approvals={"c": True}).output == "ok"
    assert _sent(strict) == ["request: refund order 5", "response: tool-call", "request: paid"]
    agent.run("thanks", session_id="s")
    assert not any("waits" in line for line in _sent(strict))
    assert strict.refused == []


def test_a_teams_leader_that_thinks_is_told_what_its_members_say(storage: SqliteStorage) -> None:
    def member(name: str) -> Agent[str]:
        return Agent(FunctionModel(lambda messages, info: _said(TextPart(f"{name} speaks"))), name=name)

    strict = Strict(thinks=True)
    team = Team([member("ada"), member("bob")], strict.model, mode="collaborate", storage=storage)
    for _ in range(2):
        assert team.run("question", session_id="s").output == "fine"
    assert strict.refused == []
    told = "question\n\nWhat the members of your team say:\n\nada: ada speaks\n\nbob: bob speaks"
    assert _sent(strict) == [f"request: {told}", "response: hm | fine", f"request: {told}"]
    assert [len(run.messages) for run in storage.runs("s")] == [4, 4]  # in the log they are calls and results


# ---------------------------------------------------------------- what no rule could know


def test_a_history_that_is_refused_is_sent_in_plain_words(
    storage: SqliteStorage, caplog: pytest.LogCaptureFixture
) -> None:
    Agent(FunctionModel(lambda m, i: _said(TextPart("a cat"))), storage=storage).run(["What?", PICTURE], session_id="s")
    blind = Strict(sees=False)
    agent = Agent(blind.model, storage=storage)
    with caplog.at_level(logging.WARNING, "sessile"):
        assert agent.run("Its colour?", session_id="s").output == "fine"
    assert "image input" in caplog.text
    assert _sent(blind) == ["request: What? [binary]", "response: a cat", "request: Its colour?"]
    _, run = storage.runs("s")
    assert (run.usage.requests, [message.data["kind"] for message in run.messages]) == (1, ["request", "response"])
    with pytest.raises(ModelHTTPError):  # what is refused for itself is not made acceptable
        agent.run(["And this?", PICTURE], session_id="s")
    assert agent.run("Never mind.", session_id="s").output == "fine"


@pytest.mark.parametrize("durability", ["run", "step", "exit"])
def test_a_run_that_was_tried_again_is_stored_once(storage: SqliteStorage, durability: Any) -> None:
    Agent(FunctionModel(lambda m, i: _said(TextPart("a cat"))), storage=storage).run(["What?", PICTURE], session_id="s")
    blind = Strict(sees=False)
    result = Agent(blind.model, storage=storage, durability=durability).run("Its colour?", session_id="s")
    _, run = storage.runs("s")
    said = ["request", "response"]
    assert [message.data["kind"] for message in run.messages] == said == [m.kind for m in result.new_messages()]
    assert run.usage.requests == result.usage.requests == 1
    assert storage.verify("s")


def test_a_run_that_has_called_tools_is_not_made_again(storage: SqliteStorage) -> None:
    calls: list[int] = []

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        if any(isinstance(part, ToolReturnPart) for part in messages[-1].parts):
            raise ModelHTTPError(400, "strict")
        return _said(ToolCallPart("count") if "count" in _content(messages[-1]) else TextPart("ok"))

    def count() -> int:
        calls.append(1)
        return len(calls)

    agent = Agent(FunctionModel(answer), storage=storage, tools=[count])
    agent.run("hello", session_id="s")
    with pytest.raises(ModelHTTPError):
        agent.run("count", session_id="s")
    assert calls == [1]


def test_summaries_alternate_too(storage: SqliteStorage) -> None:
    strict = Strict()
    agent = Agent(strict.model, storage=storage, history=RollingSummary(keep=0, every=1))
    for number in range(4):
        agent.run(f"question {number}", session_id="s")
    assert strict.refused == []
