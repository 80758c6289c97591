"""Few-shot examples out of good runs."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic_ai import Tool
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.test import TestModel

from sessile import ANY_USER, Agent, SqliteStorage
from sessile.errors import InvalidInputError
from sessile.insight import Examples, Index, ToolUse, examples

ASKED = (
    "Where is my parcel?",
    "Where is my parcel ?",
    "How do I cancel the subscription?",
    "Can I pay by invoice?",
    "Where is the parcel that I ordered on Monday?",
)


@pytest.fixture
def rated(sqlite: SqliteStorage) -> Index:
    for number, question in enumerate(ASKED):
        sqlite.add_run("s", input=question, output=f"answer {number}", user_id="ada", agent="support")
        sqlite.rate("s", number + 1, score=1, user_id="ada")
    sqlite.add_run("s", input="Bad question", output="bad answer", user_id="ada", agent="support")
    sqlite.rate("s", 6, score=0, user_id="ada")
    sqlite.add_run("s", input="Not rated", output="?", user_id="ada", agent="support")
    return Index(sqlite)


def test_only_good_ones_and_none_twice(rated: Index) -> None:
    found = rated.examples(user_id="ada", min_score=1, limit=10)
    assert sorted(one.number for one in found) == [2, 3, 4, 5]  # the first one was asked again
    assert len(rated.examples(user_id="ada", min_score=1, limit=2)) == 2
    assert len(rated.examples(user_id="bob", min_score=1)) == 0
    assert len(rated.examples(user_id=ANY_USER, agent="sales", min_score=1)) == 0


def test_those_that_fit_come_last(rated: Index) -> None:
    found = rated.examples(user_id="ada", min_score=1, like="cancel my subscription", limit=2)
    assert found[-1].question == ASKED[2]
    found = rated.examples(user_id="ada", min_score=1, like="parcel", limit=1)
    assert "parcel" in found[0].question


def test_tokens(rated: Index) -> None:
    found = rated.examples(user_id="ada", min_score=1, limit=10, tokens=40)
    assert 0 < sum(one.tokens for one in found) <= 40


def test_a_corrected_answer_takes_the_place_of_the_old_one(rated: Index) -> None:
    rated._storage.rate("s", 6, correction="a better answer", label="corrected", source="editor", user_id="ada")
    (one,) = rated.examples(user_id="ada", label="corrected")
    assert (one.question, one.answer, one.corrected) == ("Bad question", "a better answer", True)


def test_forms(rated: Index) -> None:
    found = rated.examples(
        user_id="ada", min_score=1, like="invoice", limit=1, redact=lambda text: text.replace("pay", "…")
    )
    assert found.openai() == [
        {"role": "user", "content": "Can I … by invoice?"},
        {"role": "assistant", "content": "answer 3"},
    ]
    request, response = found.pydantic_ai()
    assert isinstance(request, ModelRequest)
    assert isinstance(response, ModelResponse)
    assert "<example>\nQuestion: Can I … by invoice?\nAnswer: answer 3\n</example>" in found.prompt()
    assert rated.examples(user_id="bob").prompt() == ""


def test_wrong_arguments(rated: Index) -> None:
    with pytest.raises(InvalidInputError):
        rated.examples(user_id="ada", limit=0)
    with pytest.raises(InvalidInputError):
        rated.examples(user_id="ada", tokens=0)
    with pytest.raises(InvalidInputError):
        rated.examples(user_id="ada", like=3)  # type: ignore[arg-type] (what is tested)


async def test_asynchronous_callers(rated: Index) -> None:
    assert len(await rated.aexamples(user_id="ada", min_score=1, limit=3)) == 3


# ---------------------------------------------------------------- with tools, and shown to an agent


CALLED = [
    {"kind": "request", "parts": [{"part_kind": "user-prompt", "content": "Where is ORD-7?"}]},
    {
        "kind": "response",
        "parts": [
            {"part_kind": "tool-call", "tool_name": "look_up", "tool_call_id": "c", "args": '{"order": "Ada 7"}'}
        ],
    },
    {
        "kind": "request",
        "parts": [{"part_kind": "tool-return", "tool_name": "look_up", "tool_call_id": "c", "content": {"at": "Ada"}}],
    },
    {"kind": "response", "parts": [{"part_kind": "text", "content": "It is with Ada."}]},
]


@pytest.fixture
def with_tools(sqlite: SqliteStorage) -> SqliteStorage:
    sqlite.add_run(
        "t", input="Where is ORD-7?", output="It is with Ada.", messages=CALLED, format="pydantic-ai/2", agent="support"
    )
    sqlite.rate("t", 1, score=1, label="good")
    return sqlite


def test_with_the_calls_of_tools(with_tools: SqliteStorage) -> None:
    def redact(text: str) -> str:
        return text.replace("Ada", "X")

    found = examples(with_tools, label="good", tools=True, redact=redact)
    assert found[0].tools == ((ToolUse("look_up", {"order": "X 7"}, {"at": "X"}),),)
    assert 'Tool look_up {"order": "X 7"} returned: {"at": "X"}\nAnswer: It is with X.' in found.prompt()
    user, calls, returned, answer = found.openai()
    assert (user["role"], answer) == ("user", {"role": "assistant", "content": "It is with X."})
    assert calls["tool_calls"][0]["function"] == {"name": "look_up", "arguments": '{"order": "X 7"}'}
    assert returned == {"role": "tool", "tool_call_id": calls["tool_calls"][0]["id"], "content": '{"at": "X"}'}
    messages = found.pydantic_ai()
    assert [len(message.parts) for message in messages] == [1, 1, 1, 1]
    assert messages[1].parts[0].tool_call_id == messages[2].parts[0].tool_call_id
    assert examples(with_tools, label="good")[0].tools == ()
    assert (
        examples(with_tools, label="good", tools=True, limit=3)[0].tokens > examples(with_tools, label="good")[0].tokens
    )


def test_an_answer_that_is_no_text_has_no_tool_for_it(sqlite: SqliteStorage) -> None:
    agent = Agent("test", name="a", storage=sqlite, output_type=dict[str, int])
    agent.run("How many?", session_id="s")
    (one,) = examples(sqlite, agent="a", tools=True)
    assert one.tools == ()
    assert one.answer.startswith("{")


def test_an_agent_is_shown_them_before_the_history(with_tools: SqliteStorage) -> None:
    seen: list[list[ModelMessage]] = []

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        seen.append(messages)
        return ModelResponse(parts=[TextPart("ok")])

    agent = Agent(
        FunctionModel(answer),
        name="taught",
        storage=with_tools,
        examples=examples(with_tools, label="good", tools=True),
        instructions="Be kind.",
    )
    agent.run("first", session_id="s")
    result = agent.run("second", session_id="s")
    assert [texts(message) for message in seen[1]] == [
        ["Where is ORD-7?"], ["look_up"], [{"at": "Ada"}], ["It is with Ada."], ["first"], ["ok"], ["second"],
    ]  # fmt: skip
    assert [texts(message) for message in result.new_messages()] == [["second"], ["ok"]]
    runs = with_tools.runs("s")
    assert [len(run.messages) for run in runs] == [2, 2]
    assert runs[1].examples == [{"session_id": "t", "run": 1, "run_id": with_tools.get_run("t", 1).run_id}]
    assert with_tools.get_run("t", 1).examples == []


def texts(message: ModelMessage) -> list[Any]:
    return [getattr(part, "content", None) or getattr(part, "tool_name", None) for part in message.parts]


async def test_chosen_by_the_question(with_tools: SqliteStorage) -> None:
    asked: list[str] = []
    index = Index(with_tools)

    async def pick(question: str) -> Examples:
        asked.append(question)
        return await index.aexamples(label="good", like=question)

    agent = Agent(TestModel(), storage=with_tools, examples=pick)
    await agent.arun("Where is my parcel?", session_id="s")
    assert asked == ["Where is my parcel?"]
    assert len((await with_tools.aget_run("s", 1)).examples) == 1
    other = Agent(TestModel(), storage=with_tools, examples=lambda question: [])
    await other.arun("x", session_id="s")
    assert (await with_tools.aget_run("s", 2)).examples == []
    with pytest.raises(InvalidInputError, match="examples must be"):
        Agent(TestModel(), examples="good ones")  # type: ignore[arg-type] (what is tested)


def test_a_run_that_is_resumed_is_shown_them_again(with_tools: SqliteStorage) -> None:
    seen: list[list[ModelMessage]] = []

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        seen.append(messages)
        done = any(part.part_kind == "tool-return" for part in messages[-1].parts)
        return ModelResponse(parts=[TextPart("paid") if done else ToolCallPart("pay", {}, tool_call_id="p")])

    def pay() -> str:
        return "paid"

    agent = Agent(
        FunctionModel(answer),
        name="clerk",
        storage=with_tools,
        tools=[Tool(pay, requires_approval=True)],
        examples=lambda question: examples(with_tools, label="good", like=question),
    )
    agent.run("pay", session_id="p")
    with_tools.decide("p", approvals={"p": True})
    agent.resume("p")
    assert [texts(message) for message in seen[1]][:3] == [["Where is ORD-7?"], ["It is with Ada."], ["pay"]]
    (run,) = with_tools.runs("p")
    assert [message.data["kind"] for message in run.messages] == ["request", "response", "request", "response"]
