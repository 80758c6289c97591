"""What of earlier runs a run is sent along with, seen on the wire. The server refuses broken histories with 400."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pydantic_ai
import pytest
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import (
    BinaryContent,
    ModelMessage,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.models.test import TestModel
from tests.agents.helpers import model_at, output, prompts, script, sent, tool_results, turns
from tests.model_server import ModelServer
from tests.storage.helpers import Tapped

from sessile import Agent, LastRuns, MemoryStorage, RollingSummary, SqliteStorage, Storage, TokenBudget, session_state
from sessile.agents import AllRuns, Window
from sessile.drivers.memory import MemoryDriver
from sessile.errors import ConflictError, InvalidInputError, UnknownFormatError

ADD = 'call add {{"a": {0}, "b": 1}}'


def add(a: int, b: int) -> int:
    return a + b


@pytest.fixture
def asked(server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage) -> Any:
    """Asks an agent with these settings something in session `s1`; returns the prompts that arrived."""

    def ask(text: str, **settings: Any) -> list[str]:
        Agent(model, storage=storage, tools=[add], **settings).run(text, session_id="s1")
        return prompts(server)

    return ask


# ---------------------------------------------------------------- numbers of runs, budgets


def test_three_runs_are_the_default(asked: Any) -> None:
    for number in range(1, 6):
        arrived = asked(f"Question {number}")
    assert arrived == ["Question 2", "Question 3", "Question 4", "Question 5"]


@pytest.mark.parametrize(
    ("history", "count"),
    [(0, 0), (None, 0), (1, 1), (LastRuns(2), 2), (9, 5), ("all", 5), (AllRuns(), 5)],
)
def test_a_number_of_runs(asked: Any, history: Any, count: int) -> None:
    texts = [f"Question {number}" for number in range(6)]
    for text in texts:
        arrived = asked(text, history=history)
    assert arrived == texts[5 - count :]


def test_all_runs_of_a_long_session(server: ModelServer, storage: SqliteStorage, asked: Any) -> None:
    for number in range(230):
        storage.add_run("s1", input=f"Question {number}", output=f"Answer {number}")
    assert asked("Last", history="all") == [*(f"Question {number}" for number in range(230)), "Last"]
    assert asked("Again", history=120)[0] == "Question 111"


@pytest.mark.parametrize("history", ["all", TokenBudget(10**9)])
def test_a_history_ends_where_one_call_ends(
    server: ModelServer, model: OpenAIChatModel, caplog: pytest.LogCaptureFixture, history: Any
) -> None:
    """What a user has written, in runs as large as they may be, is not read whole for the next question."""
    with MemoryStorage(max_read_bytes=300_000) as storage:
        for number in range(30):
            Agent(model, storage=storage, history=0).run(f"{number} {'x' * 30_000}", session_id="s1")
        Agent(model, storage=storage, history=history).run("Last", session_id="s1")
    arrived = prompts(server)
    assert 3 <= len(arrived) - 1 <= 15
    assert [text.split()[0] for text in arrived] == [*map(str, range(31 - len(arrived), 30)), "Last"]
    assert any("ends at max_read_bytes" in record.getMessage() for record in caplog.records)


def test_a_history_of_few_large_runs_ends_there_as_well(server: ModelServer, model: OpenAIChatModel) -> None:
    """These come with the session."""
    with MemoryStorage(max_read_bytes=100_000) as storage:
        for number in range(4):
            Agent(model, storage=storage, history=0).run(f"{number} {'x' * 30_000}", session_id="s1")
        Agent(model, storage=storage, history=3).run("Last", session_id="s1")
    arrived = [text.split()[0] for text in prompts(server)]
    assert arrived in (["3", "Last"], ["2", "3", "Last"])


def test_a_window_never_separates_a_tool_call_from_its_result(
    server: ModelServer, storage: SqliteStorage, asked: Any
) -> None:
    for number in range(5):
        asked(ADD.format(number) + f'\ncall add {{"a": {number}, "b": 2}}', history=2)
    # Two runs of four messages with two results each, and the run at hand.
    assert [role for role, _ in turns(server)] == ["user", "assistant", "tool", "tool", "assistant"] * 2 + [
        "user",
        "assistant",
        "tool",
        "tool",
    ]
    for tokens in range(0, 200, 7):
        asked(ADD.format(tokens), history=TokenBudget(tokens))
    assert {run.status for run in storage.runs("s1")} == {"completed"}


def test_a_token_budget_takes_whole_runs_from_the_newest_on(asked: Any) -> None:
    def count(messages: Sequence[ModelMessage]) -> int:
        return 10

    for number in range(12):
        arrived = asked(f"Question {number}", history=TokenBudget(100, count=count))
    assert arrived == [f"Question {number}" for number in range(1, 12)]
    assert asked("Next", history=TokenBudget(35, count=count)) == ["Question 9", "Question 10", "Question 11", "Next"]
    assert asked("None", history=TokenBudget(9, count=count)) == ["None"]


def test_a_token_budget_by_estimate(asked: Any) -> None:
    asked("x" * 4000)
    asked("short", system_prompt="A system prompt does not count, however long it is. " * 100)
    assert asked("Next", history=TokenBudget(100)) == ["short", "Next"]
    assert asked("Next", history=TokenBudget(0)) == ["Next"]


def test_a_newest_run_that_is_too_large_is_reduced_to_question_and_answer(server: ModelServer, asked: Any) -> None:
    question = ADD.format(1) + "\nthen " + ADD.format(2)
    asked(question)
    asked("Next", history=TokenBudget(2, count=len))
    assert turns(server) == [("user", question), ("assistant", "Tool results: add=2; add=3"), ("user", "Next")]
    assert asked("None", history=TokenBudget(1, count=len)) == ["None"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: LastRuns(-1),
        lambda: TokenBudget(-1),
        lambda: TokenBudget(1.5),  # pyright: ignore[reportArgumentType]
        lambda: RollingSummary(keep=-1),
        lambda: RollingSummary(every=0),
    ],
)
def test_windows_that_make_no_sense(make: Any) -> None:
    with pytest.raises(InvalidInputError):
        make()


def test_a_window_of_your_own(asked: Any) -> None:
    class First(Window):
        async def select(self, past: Any) -> list[ModelMessage]:
            (run,) = await past.runs(past.numbers(99)[:1])
            return await past.messages(run)

    for number in range(6):
        asked(f"Question {number}")
    assert asked("Last", history=First()) == ["Question 0", "Last"]


# ---------------------------------------------------------------- what is not sent


def test_a_failed_run_without_an_answer_is_not_sent(
    server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage, asked: Any
) -> None:
    asked("First")
    for _ in range(4):
        with pytest.raises(ModelHTTPError):
            asked("[500] Broken")
    assert asked("Second") == ["First", "Second"]  # also past more failures than the window is long


@pytest.mark.parametrize("history", [3, TokenBudget(10_000), RollingSummary()])
def test_many_runs_that_failed_are_not_all_read(history: Any) -> None:
    """However many failed in a row (a provider that was down for a night), a turn reads few runs, in few reads."""
    read: list[int] = []
    driver = Tapped(MemoryDriver())
    driver.after["load"] = lambda found, *_: read.append(len(found.commits)) if found else None
    driver.after["entries"] = lambda rows, *_: read.append(len(rows))
    with Storage(driver) as storage:
        storage.add_run("s1", input="Hello", output="Hi")
        for number in range(500):
            storage.add_run("s1", input=f"Question {number}", status="failed")
        read.clear()
        Agent(TestModel(), storage=storage, history=history).run("Hello", session_id="s1")
    assert sum(read) < 250
    assert len(read) < 10


def test_the_runs_before_some_that_failed_are_found(asked: Any, storage: SqliteStorage) -> None:
    for number in range(6):
        asked(f"Question {number}", history=0)
    for _ in range(20):
        storage.add_run("s1", input="Hello", status="failed")
    for history in (3, TokenBudget(45)):
        assert asked("Now", history=history)[-4:-1] == ["Question 3", "Question 4", "Question 5"]
        storage.rewind("s1", at=26)


def test_a_run_that_failed_after_tools_is_sent_with_what_it_has(server: ModelServer, asked: Any) -> None:
    server.plan("ok", "500")
    with pytest.raises(ModelHTTPError):
        asked(ADD.format(1))
    asked("Next")
    assert [role for role, _ in turns(server)][:3] == ["user", "assistant", "tool"]
    assert tool_results(server)[0].text == "2"


@pytest.mark.parametrize(
    ("value", "sent_again"),
    [
        ("a\ud800", "a?"),
        ({"page": "x" * 100_000}, '{"page": "xxx'),
        (BinaryContent(b"\x89PNG" * 2000, media_type="image/png"), "[image/png]"),
    ],
)
def test_what_a_model_refuses_does_not_make_every_later_run_fail(
    storage: SqliteStorage, value: Any, sent_again: str
) -> None:
    refused: list[Any] = []

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        if isinstance(messages[-1].parts[-1], UserPromptPart) and messages[-1].parts[-1].content == "Fetch":
            return ModelResponse(parts=[ToolCallPart("fetch")])
        results = [part.content for m in messages for part in m.parts if isinstance(part, ToolReturnPart)]
        if not all(isinstance(result, str) and len(result) < 10_000 and "\ud800" not in result for result in results):
            refused.append(results)
            raise ModelHTTPError(400, "test")
        return ModelResponse(parts=[TextPart(results[0])])

    def fetch() -> Any:
        return value

    agent = Agent(FunctionModel(answer), storage=storage, session_id="s1", tools=[fetch])
    with pytest.raises(ModelHTTPError):
        agent.run("Fetch")
    output = agent.run("Next").output
    assert sent_again in output
    assert len(output) < 2100
    assert len(refused) == 1
    assert len(str(storage.get_run("s1", 1).messages[2].data)) > len(output)  # what is stored stays whole


async def test_a_run_that_was_cancelled_in_a_tool_is_sent_with_its_call_closed(
    server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage
) -> None:
    started = asyncio.Event()

    async def wait() -> str:
        started.set()
        await asyncio.Event().wait()
        return "never"

    agent = Agent(model, storage=storage, session_id="s1", tools=[wait])
    task = asyncio.create_task(agent.arun("call wait {}"))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await storage.aruns("s1"))[0].status == "interrupted"
    await agent.arun("Next")
    assert [role for role, _ in turns(server)] == ["user", "assistant", "tool", "assistant", "user"]


def test_runs_of_other_branches_are_not_sent(storage: SqliteStorage, asked: Any) -> None:
    for text in ("One", "Two", "Three"):
        asked(text)
    storage.rewind("s1", at=1)
    assert asked("Other two", history="all") == ["One", "Other two"]
    assert asked("Other three") == ["One", "Other two", "Other three"]
    storage.rewind("s1", at=3)
    assert asked("Four") == ["One", "Two", "Three", "Four"]


def test_a_fork_goes_on_by_itself(
    model: OpenAIChatModel, storage: SqliteStorage, server: ModelServer, asked: Any
) -> None:
    for text in ("One", "Two", "Three"):
        asked(text)
    storage.fork("s1", at=2, session_id="s2")
    Agent(model, storage=storage).run("Fork", session_id="s2")
    assert prompts(server) == ["One", "Two", "Fork"]
    assert asked("Four") == ["One", "Two", "Three", "Four"]


async def test_messages_of_runs_at_the_same_time_stay_together(
    server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage
) -> None:
    agent = Agent(model, storage=storage, session_id="s1", tools=[add], durability="step", history="all")
    runs = [agent.arun(ADD.format(number) + "\nthen " + ADD.format(number + 50)) for number in range(10)]
    await asyncio.gather(*runs)
    await agent.arun("Next")
    arrived = turns(server)[:-1]
    assert len(arrived) == 60
    for start in range(0, 60, 6):
        texts = [text for _, text in arrived[start : start + 6]]
        number = int(texts[2]) - 1
        assert texts[0] == ADD.format(number) + "\nthen " + ADD.format(number + 50)
        assert texts[4] == str(number + 51)
    numbers = [run.input for run in await storage.aruns("s1")]
    assert [text for role, text in arrived if role == "user"] == numbers[:-1]


# ---------------------------------------------------------------- system prompt, instructions


def test_the_system_prompt_is_sent_however_far_the_window_reaches(
    server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage
) -> None:
    ready = pydantic_ai.Agent(model, system_prompt="Be kind.")
    made = Agent(model, storage=storage, system_prompt=["Be kind."], session_id="s1", history=1)
    for agent in (made, Agent(ready, storage=storage, session_id="s2", history=1)):
        for number in range(5):
            agent.run(f"Question {number}")
            assert [text for role, text in turns(server) if role == "system"] == ["Be kind."]
            assert turns(server)[0][0] == "system"
        changed = Agent(model, storage=storage, system_prompt="Be brief.", session_id="s1")
    changed.run("Next")
    assert sent(server).system_text == "Be brief."
    assert [len(run.messages) for run in storage.runs("s1")] == [2] * 6


def test_instructions_are_sent_each_time_and_only_those_of_today(server: ModelServer, asked: Any) -> None:
    for number in range(3):
        asked("Hello", instructions=f"Rule {number}.")
        assert sent(server).system_text == f"Rule {number}."


# ---------------------------------------------------------------- rolling summary


def summarised(server: ModelServer, index: int = -1) -> str:
    """The summary that a request came with, if any."""
    first = prompts(server, index)[0]
    return first if first.startswith("Summary of our conversation") else ""


def test_older_runs_are_summarised_once_and_the_summary_is_kept(
    server: ModelServer, storage: SqliteStorage, asked: Any
) -> None:
    window = RollingSummary(keep=2, every=3)
    for number in range(1, 6):
        asked(f"Question {number}", history=window)
        assert not summarised(server)
    assert len(server.requests) == 5
    asked("Question 6", history=window)  # five runs before it: three are summarised, two are kept
    assert "ummarize" in sent(server, 5).system_text
    assert "Question 1" in prompts(server, 5)[0]
    assert "Question 4" not in prompts(server, 5)[0]
    assert len(server.requests) == 7
    assert "Question 1" in summarised(server)
    assert prompts(server)[1:] == ["Question 4", "Question 5", "Question 6"]
    head = storage.get_session("s1")
    assert head is not None
    assert head.summary is not None
    assert head.summary["upto"] == 3
    asked("Question 7", history=window)  # the summary is used again, and the model not asked for another
    assert len(server.requests) == 8
    assert summarised(server) == summarised(server, 6)
    asked("Question 8", history=window)
    asked("Question 9", history=window)
    before = prompts(server, -2)[0]
    assert before.startswith("The summary so far:")
    assert "Question 6" in before


def test_a_summary_is_used_by_another_process(
    server: ModelServer, tmp_path: Path, path: Path, storage: SqliteStorage, asked: Any
) -> None:
    for number in range(4):
        asked(f"Question {number}", history=RollingSummary(keep=1, every=2))
    assert summarised(server)
    body = """
from sessile import RollingSummary
agent = Agent(model, storage=storage, history=RollingSummary(keep=1, every=2))
agent.run("Elsewhere", session_id="s1")
print(agent.session("s1").summary())
"""
    text = output(script(tmp_path, body, server, path)).strip()
    assert text
    assert text in summarised(server)


def test_a_summary_by_another_model_with_other_instructions(server: ModelServer, asked: Any) -> None:
    window = RollingSummary(
        keep=0, every=1, model=model_at(server.base_url, name="small"), instructions="Summarise as a poem."
    )
    asked("Hello", history=window)
    asked("Again", history=window)
    assert [request.body["model"] for request in server.requests] == ["gpt-test", "small", "gpt-test"]
    assert sent(server, 1).system_text == "Summarise as a poem."


def test_a_summariser_that_fails_does_not_fail_the_run(
    server: ModelServer, storage: SqliteStorage, asked: Any, caplog: pytest.LogCaptureFixture
) -> None:
    window = RollingSummary(keep=1, every=2)
    for number in range(1, 4):
        asked(f"Question {number}", history=window)
    server.plan("500", "ok")
    with caplog.at_level(logging.WARNING, "sessile"):
        assert asked("Question 4", history=window) == [f"Question {number}" for number in range(1, 5)]
    assert "will be tried again" in caplog.text
    asked("Question 5", history=window)
    assert "Question 1" in summarised(server)
    assert prompts(server)[1:] == ["Question 4", "Question 5"]
    assert {run.status for run in storage.runs("s1")} == {"completed"}


def test_a_summary_of_what_a_rewind_has_left_is_not_used(
    server: ModelServer, storage: SqliteStorage, asked: Any
) -> None:
    window = RollingSummary(keep=1, every=2)
    for number in range(1, 5):
        asked(f"Question {number}", history=window)
    assert summarised(server)
    storage.rewind("s1", at=1)
    assert asked("Other", history=window) == ["Question 1", "Other"]


def test_runs_without_an_answer_are_not_summarised(server: ModelServer, asked: Any) -> None:
    window = RollingSummary(keep=0, every=2)
    for _ in range(2):
        with pytest.raises(ModelHTTPError):
            asked("[500] Broken", history=window)
    asked("Hello", history=window)
    assert len(server.requests) == 3
    assert prompts(server) == ["Hello"]


def test_a_conflict_is_seen_also_when_the_run_has_renewed_the_summary(
    server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage
) -> None:
    def set_state(value: int) -> None:
        session_state()["key"] = value

    def change_it_meanwhile() -> None:
        server.wait_for_hanging()
        storage.update_state("s1", {"key": 2})
        server.release()

    window = RollingSummary(keep=0, every=1)
    agent = Agent(model, storage=storage, session_id="s1", history=window, tools=[set_state], on_state_conflict="error")
    agent.run("Hello")
    server.plan("hang")
    thread = threading.Thread(target=change_it_meanwhile)
    thread.start()
    with pytest.raises(ConflictError):
        agent.run('call set_state {"value": 1}')
    thread.join()


# ---------------------------------------------------------------- messages that this version does not know


@pytest.mark.parametrize(
    ("message", "format"),
    [
        ({"kind": "request", "parts": [{"part_kind": "hologram", "content": "?"}]}, "pydantic-ai/2"),
    ],
)
def test_messages_that_cannot_be_sent_are_kept_and_refused(
    server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage, message: Any, format: str
) -> None:
    storage.add_run("s1", input="Hi", output="Ho", messages=[message], format=format)
    with pytest.raises(UnknownFormatError):
        Agent(model, storage=storage).run("Hello", session_id="s1")
    assert server.requests == []
    first, second = storage.runs("s1")
    assert first.messages[0].data == message
    assert (second.status, second.input, second.error and second.error["type"]) == (
        "failed", "Hello", "UnknownFormatError",
    )  # fmt: skip
    Agent(model, storage=storage, history=None).run("Hello", session_id="s1")


@pytest.mark.parametrize("status", ["completed", "failed"])
def test_a_message_that_is_none_is_refused_by_its_run(tmp_path: Path, status: str) -> None:
    """Somebody has changed the database by hand."""
    with SqliteStorage(tmp_path / "s.db") as storage:
        agent = Agent(TestModel(), storage=storage)
        agent.run("Hello", session_id="s")
        with sqlite3.connect(tmp_path / "s.db") as by_hand:
            for before, after in (('"data":{"parts":', '"data":7,"was":{"parts":'), ('"completed"', f'"{status}"')):
                by_hand.execute("UPDATE sessile_commits SET body = replace(body, ?, ?)", (before, after))
        by_hand.close()
        assert [message.data for message in storage.messages("s")] == [7, 7]
        with pytest.raises(UnknownFormatError, match=r"runs \[1\] cannot be read"):
            agent.run("Hello again", session_id="s")
