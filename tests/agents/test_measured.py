"""Histories by what providers count, and without what is large in them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.usage import RequestUsage

from sessile import Agent, Auto, Budget, RollingSummary, Shortened, SqliteStorage, Storage, Team
from sessile.agents.history.measured import correction
from sessile.agents.messages.tokens import estimate_tokens
from sessile.errors import InvalidInputError

PAGE = "p" * 4_000  # about a thousand tokens


def counting(seen: list[list[ModelMessage]], rate: float = 1.0) -> FunctionModel:
    """A model that calls its tool once in each run, and whose provider counts `rate` times what the estimate says."""

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        seen.append(list(messages))
        returned = any(isinstance(part, ToolReturnPart) for part in messages[-1].parts)
        call = ToolCallPart("read", {}, tool_call_id=f"c{len(seen)}")
        said = ModelResponse([TextPart("done") if returned or not info.function_tools else call])
        counted = 500 + round(rate * estimate_tokens(messages))
        return ModelResponse(said.parts, usage=RequestUsage(input_tokens=counted, output_tokens=5))

    return FunctionModel(answer)


def read() -> str:
    """Read a page."""
    return PAGE


def questions(messages: list[ModelMessage]) -> list[str]:
    return [str(part.content) for one in messages for part in one.parts if part.part_kind == "user-prompt"]


@pytest.mark.parametrize(("rate", "kept"), [(1.0, 4), (2.0, 2), (0.5, 8)])
def test_tokens_count_as_the_provider_has_counted(storage: SqliteStorage, rate: float, kept: int) -> None:
    seen: list[list[ModelMessage]] = []
    agent = Agent(counting(seen, rate), storage=storage, tools=[read], history=Budget(tokens=4_200))
    for number in range(10):
        agent.run(f"Question {number}", session_id="s")
    assert questions(seen[-1]) == [f"Question {number}" for number in range(9 - kept, 10)]
    plain: Agent[Any] = Agent(
        counting(seen, rate), storage=storage, tools=[read], history=Budget(tokens=4_200, calibrate=False)
    )
    plain.run("Last", session_id="s")
    assert len(questions(seen[-1])) == 5


def test_messages_and_calls_are_counted(storage: SqliteStorage) -> None:
    seen: list[list[ModelMessage]] = []

    def sent(**limits: Any) -> int:
        Agent(counting(seen), storage=storage, tools=[read], history=Budget(**limits)).run("?", session_id="s")
        return len(seen[-2])

    for _ in range(6):
        sent(messages=0)
    assert sent(messages=9) == 2 * 4 + 1
    assert sent(messages=3) == 2 + 1  # the newest run, as question and answer
    assert sent(tool_calls=3) == 3 * 4 + 1
    assert sent(tool_calls=5, messages=8) == 2 * 4 + 1
    for wrong in ({}, {"tokens": -1}, {"messages": 1.5}, {"tool_calls": True}):
        with pytest.raises(InvalidInputError):
            Budget(**wrong)


def test_a_count_that_cannot_be_right_changes_little() -> None:
    def run(*counted: int) -> list[ModelMessage]:
        messages: list[ModelMessage] = []
        for tokens in counted:
            messages.append(ModelRequest.user_text_prompt("q" * 800))
            messages.append(ModelResponse([TextPart("a" * 800)], usage=RequestUsage(input_tokens=tokens)))
        return messages

    assert correction([run(500, 900)], estimate_tokens) == pytest.approx(1.0)
    assert correction([run(500, 10**9)], estimate_tokens) == 4.0
    assert correction([run(500, 501)], estimate_tokens) == 0.25
    assert correction([run(900, 500)], estimate_tokens) == 1.0  # a cache, or another model: nothing is known
    assert correction([run(0, 0)], estimate_tokens) == 1.0
    assert correction([], estimate_tokens) == 1.0


def test_a_share_of_what_the_model_takes(storage: SqliteStorage) -> None:
    seen: list[list[ModelMessage]] = []
    told: list[str] = []

    def sum_up(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        told.append(str(messages[-1].parts[-1]))
        return ModelResponse([TextPart("All so far.")])

    model = counting(seen)
    model._profile = {"context_window": 20_000}  # type: ignore[attr-defined]
    assert model.context_window == 20_000
    history = Auto(share=0.25, tokens=100, model=FunctionModel(sum_up))
    agent = Agent(model, storage=storage, tools=[read], history=history)
    for number in range(4):
        agent.run(f"Question {number}", session_id="s")
    assert told == []
    for number in range(4, 8):
        agent.run(f"Question {number}", session_id="s")
    assert len(told) == 1
    assert "All so far." in str(seen[-1][0])
    with pytest.raises(InvalidInputError):
        Auto(share=2)


def test_large_results_are_left_out_and_read_again(storage: Storage) -> None:
    seen: list[list[ModelMessage]] = []

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        seen.append(list(messages))
        last = messages[-1].parts[-1]
        if isinstance(last, ToolReturnPart):
            return ModelResponse([TextPart(f"It has {len(str(last.content))}.")])
        asked = str(getattr(last, "content", ""))
        given = {"name": asked.split()[-1]} if asked.startswith("Again") else {}
        return ModelResponse([ToolCallPart("read_tool_result" if given else "read", given)])

    agent = Agent(FunctionModel(answer), storage=storage, tools=[read], history=Shortened(5, tokens=500))
    assert agent.run("Read.", session_id="s", user_id="ada").output == "It has 4000."
    assert agent.run("Again 1/1", session_id="s", user_id="ada").output == "It has 4000."
    (result,) = [part for one in seen[-1] for part in one.parts if getattr(part, "tool_name", "") == "read"][1:]
    assert result.content.startswith("p" * 200 + "… (left out; 4,000 characters")  # type: ignore[union-attr]
    for wrong in ("9/1", "1/9", "x", "1/", "../1", "99999999999999999999/1"):
        said = agent.run(f"Again {wrong}", session_id="s", user_id="ada")
        assert "no" in str(seen[-1][-1].parts[0]), said  # type: ignore[union-attr]
    agent.run("Read.", session_id="t", user_id="eve")
    assert agent.run("Again 2/1", session_id="t", user_id="eve").output != "It has 4000."
    assert storage.verify("s", user_id="ada")


def test_what_is_no_shortened_history(storage: Storage) -> None:
    for make in (lambda: Shortened(3, tokens=-1), lambda: Shortened(Shortened(3))):
        with pytest.raises(InvalidInputError):
            make()
    writer: Agent[Any] = Agent("test", name="writer", history=Shortened(RollingSummary()))
    with pytest.raises(InvalidInputError, match="RollingSummary"):
        Team([writer], "test", storage=storage)
