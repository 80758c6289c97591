"""What fails is stored as failed and raised; what has been answered is not lost over a storage that fails."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import ToolReturn
from pydantic_ai.exceptions import ModelAPIError, ModelHTTPError
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.openai import OpenAIChatModel
from tests.agents.helpers import Appends, Gate, model_at, prompts
from tests.model_server import ModelServer

from sessile import Agent, MemoryStorage, SqliteStorage, session_state
from sessile.errors import ClosedError, NotStoredError, SessionNotFoundError, StorageError, TooLargeError
from sessile.testing import faults

LAST = "What was my last question?"
FRANCE = "What is the capital of France?"
PARIS = "The capital of France is Paris."


# ---------------------------------------------------------------- the model or a tool fails


@pytest.mark.parametrize(
    ("mark", "kind"), [("[429]", ModelHTTPError), ("[500]", ModelHTTPError), ("[cut]", ModelAPIError)]
)
@pytest.mark.parametrize("durability", ["run", "step", "exit"])
def test_a_model_that_fails(
    server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage, mark: str, kind: Any, durability: Any
) -> None:
    agent = Agent(model, storage=storage, session_id="s1", durability=durability)
    with pytest.raises(kind) as caught:
        agent.run(f"{mark} Hello")
    (run,) = storage.runs("s1")
    assert (run.status, run.input, run.output) == ("failed", f"{mark} Hello", None)
    assert run.error is not None
    assert run.error["type"] == type(caught.value).__name__
    assert run.error["message"] == str(caught.value)
    assert len(run.messages) == 1
    assert mark in str(run.messages[0].data)
    head = storage.get_session("s1")
    assert head is not None
    assert head.status == "failed"
    assert agent.run(FRANCE).output == PARIS
    assert prompts(server) == [FRANCE]
    assert storage.verify("s1")


def test_a_model_that_fails_after_tools_and_steps_leaves_what_it_has_made(
    server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage
) -> None:
    def add(a: int, b: int) -> int:
        return a + b

    server.plan("ok", "cut")
    agent = Agent(model, storage=storage, session_id="s1", tools=[add])
    with pytest.raises(ModelAPIError):
        agent.run('call add {"a": 1, "b": 2}')
    (run,) = storage.runs("s1")
    assert [message.data["kind"] for message in run.messages] == ["request", "response", "request"]
    assert (run.usage.requests, run.usage.output_tokens > 0) == (1, True)
    assert agent.run(LAST).output == 'Your last question was: call add {"a": 1, "b": 2}'


def test_the_client_tries_again_by_itself(server: ModelServer, storage: SqliteStorage) -> None:
    server.plan("[429 0.01]", "cut")
    agent = Agent(model_at(server.base_url, max_retries=2), storage=storage)
    assert agent.run(FRANCE, session_id="s1").output == PARIS
    assert [run.status for run in storage.runs("s1")] == ["completed"]


def test_a_tool_that_fails(model: OpenAIChatModel, storage: SqliteStorage) -> None:
    def explode() -> None:
        raise ZeroDivisionError("boom")

    with pytest.raises(ZeroDivisionError):
        Agent(model, storage=storage, session_id="s1", tools=[explode]).run("call explode {}")
    (run,) = storage.runs("s1")
    assert (run.status, run.error) == ("failed", {"type": "ZeroDivisionError", "message": "boom"})


def test_a_tool_result_that_has_no_json_form(model: OpenAIChatModel, storage: SqliteStorage) -> None:
    def handle() -> Any:
        return object()

    def with_handle() -> ToolReturn[str]:
        return ToolReturn("fine", metadata={"handle": object()})

    agent = Agent(model, storage=storage, session_id="s1", tools=[handle, with_handle])
    assert agent.run("call with_handle {}").output == "Tool results: with_handle=fine"
    with pytest.raises(ValueError, match="serializ"):
        agent.run("call handle {}")
    assert [run.status for run in storage.runs("s1")] == ["completed", "failed"]
    assert "<object object" in str(storage.runs("s1")[0].messages[2].data)
    assert agent.run(LAST).status == "completed"


class Odd:
    def __repr__(self) -> str:
        raise ValueError("no text either")


def cycle() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


def nested() -> Any:
    value: list[Any] = []
    for _ in range(500):
        value = [value]
    return value


@pytest.mark.parametrize("durability", ["run", "step"])
@pytest.mark.parametrize(
    "value", [Odd(), cycle(), nested(), {"deep": [cycle()]}, ToolReturn(cycle(), metadata=cycle())]
)
def test_a_run_that_fails_over_an_odd_tool_result_is_stored_all_the_same(
    model: OpenAIChatModel, storage: SqliteStorage, value: Any, durability: Any
) -> None:
    def handle() -> Any:
        return value

    agent = Agent(model, storage=storage, session_id="s1", tools=[handle], durability=durability)
    with pytest.raises(ValueError, match=r"(?i)serializ|JSON"):
        agent.run("call handle {}")
    (run,) = storage.runs("s1")
    assert run.status == "failed"
    assert len(run.messages) >= 2
    assert agent.run(LAST).status == "completed"


@pytest.mark.parametrize("durability", ["run", "step", "exit"])
def test_numbers_that_python_would_not_read_back(storage: SqliteStorage, durability: Any) -> None:
    """A commit with a number of over 4,300 digits cannot be read, nor the session that it is in."""
    googol = 10**5000

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        if len(messages) == 1:
            return ModelResponse(parts=[ToolCallPart("power", {"base": googol})])
        return ModelResponse(parts=[ToolCallPart(info.output_tools[0].name, {"response": googol})])

    def power(base: int) -> Any:
        return ToolReturn({"power": [base]}, metadata=base)

    agent = Agent(
        FunctionModel(answer), storage=storage, session_id="s1", output_type=int, tools=[power], durability=durability
    )
    assert agent.run("Count").output == googol
    (run,) = storage.runs("s1")
    assert run.output == "1" + "0" * 5000
    assert run.messages[2].data["parts"][0]["content"] == {"power": [run.output]}
    assert Agent(FunctionModel(echo), storage=storage, session_id="s1").run("Next").output == "Count|Next"
    assert storage.verify("s1")


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_bytes_that_a_tool_returns_are_kept_for_resuming(storage: SqliteStorage) -> None:
    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        return ModelResponse(parts=[ToolCallPart("read") if len(messages) == 1 else TextPart("done")])

    def read() -> bytes:
        return b"\xff\xfe"

    agent = Agent(FunctionModel(answer), storage=storage, session_id="s1", tools=[read], durability="step")
    assert agent.run("Go").output == "done"
    (run,) = storage.runs("s1")
    assert run.steps[1].data["value"] == run.messages[2].data["parts"][0]["content"] == "__4="


def test_an_error_with_a_long_text(model: OpenAIChatModel, storage: SqliteStorage) -> None:
    def explode() -> None:
        raise ValueError("x" * 1_000_000)

    with pytest.raises(ValueError, match="xxx"):
        Agent(model, storage=storage, session_id="s1", tools=[explode]).run("call explode {}")
    error = storage.runs("s1")[0].error
    assert error is not None
    assert 0 < len(error["message"]) <= 10_000


# ---------------------------------------------------------------- odd text, without a network


def echo(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """Answers with all that the user has said, history included."""
    texts = [str(part.content) for message in messages for part in message.parts if isinstance(part, UserPromptPart)]
    return ModelResponse(parts=[TextPart("|".join(texts))])


@pytest.mark.parametrize("durability", ["run", "step", "exit"])
@pytest.mark.parametrize("text", ["a\ud800b", "a\0b", "\U0001f600 \u2028 \x7f", "\udcff" * 3])
def test_odd_text_comes_back_as_it_went_in(storage: SqliteStorage, text: str, durability: Any) -> None:
    agent = Agent(FunctionModel(echo), storage=storage, session_id="s1", durability=durability)
    assert agent.run(text).output == text
    assert agent.run("Next").output == f"{text}|Next"
    first, second = storage.runs("s1")
    assert (first.input, first.output, second.output) == (text, text, f"{text}|Next")
    assert [run.status for run in (first, second)] == ["completed"] * 2
    assert storage.verify("s1")


def test_odd_text_on_the_wire(model: OpenAIChatModel, storage: SqliteStorage, server: ModelServer) -> None:
    agent = Agent(model, storage=storage, session_id="s1")
    assert agent.run("a\0b").output == "You said: a\0b"
    with pytest.raises(UnicodeEncodeError):  # the client cannot send what no UTF-8 text can hold
        agent.run("a\ud800b")
    assert [(run.status, run.input) for run in storage.runs("s1")] == [("completed", "a\0b"), ("failed", "a\ud800b")]
    assert agent.run(LAST).output == "Your last question was: a\0b"


# ---------------------------------------------------------------- the storage fails at the start


@pytest.mark.parametrize("fault", [faults.REFUSE, faults.Fault("after", retryable=False)])
def test_a_storage_that_fails_at_the_start(
    server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage, fault: Any
) -> None:
    agent = Agent(model, storage=storage, session_id="s1")
    faults.inject(storage, Appends({1: fault}))
    with pytest.raises(StorageError) as caught:
        agent.run("Hello")
    assert not isinstance(caught.value, NotStoredError)
    assert server.requests == []
    faults.heal(storage)
    assert agent.run("Hello").output == "You said: Hello"


def test_a_storage_that_cannot_be_read(server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage) -> None:
    agent = Agent(model, storage=storage, session_id="s1")
    faults.inject(storage, faults.Always("load", faults.REFUSE))
    with pytest.raises(StorageError):
        agent.run("Hello")
    with pytest.raises(StorageError):
        list(agent.stream("Hello"))
    assert server.requests == []


def test_a_path_that_is_no_database(server: ModelServer, model: OpenAIChatModel, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("This is not a database, but a text of some length. " * 50)
    with SqliteStorage(path) as storage, pytest.raises(StorageError):
        Agent(model, storage=storage).run("Hello")
    storage.close()
    with pytest.raises(ClosedError):
        Agent(model, storage=storage).run("Hello")
    assert server.requests == []


def test_a_history_that_cannot_be_read(server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage) -> None:
    agent = Agent(model, storage=storage, session_id="s1", history="all")
    for _ in range(12):
        agent.run("Hello")
    faults.inject(storage, faults.Script("entries", [faults.REFUSE]))
    with pytest.raises(StorageError):
        agent.run("Hello")
    assert len(server.requests) == 12
    assert [run.status for run in storage.runs("s1")][-1] == "failed"


# ---------------------------------------------------------------- the storage fails at the end


@pytest.mark.parametrize(
    "fault", [faults.REFUSE, faults.Fault("after", retryable=False)], ids=["refused", "answer-lost"]
)
@pytest.mark.parametrize(("durability", "last"), [("run", 2), ("exit", 1)])
def test_an_answer_is_not_lost_over_a_storage_that_fails(
    model: OpenAIChatModel, storage: SqliteStorage, fault: Any, durability: Any, last: int
) -> None:
    def mark() -> None:
        session_state()["marked"] = True

    agent = Agent(model, storage=storage, session_id="s1", durability=durability, tools=[mark])
    faults.inject(storage, Appends({last: fault, **({last + 1: fault} if fault.kind == "before" else {})}))
    with pytest.raises(NotStoredError) as caught:
        agent.run("call mark {}", user_id="ada")
    error = caught.value
    assert error.result.output == "Tool results: mark="
    assert error.written == ("unknown" if fault.kind == "after" else "no")
    assert isinstance(error.cause, StorageError)
    if fault.kind == "before":
        with pytest.raises(StorageError):
            error.retry_commit()
    result = error.retry_commit()
    assert result is error.result
    error.retry_commit()
    faults.heal(storage)
    (run,) = storage.runs("s1", user_id="ada")
    assert (run.status, run.output, run.run_id, run.number) == (
        "completed",
        result.output,
        result.run_id,
        result.number,
    )
    assert len(run.messages) == 4
    ends = [entry for entry in storage.entries("s1", user_id="ada") if entry.kind == "run.ended"]
    assert len(ends) == 1
    head = storage.get_session("s1", user_id="ada")
    assert head is not None
    assert (head.run_count, head.state, head.usage.requests) == (1, {"marked": True}, 2)
    assert storage.verify("s1", user_id="ada")


async def test_an_answer_is_stored_later_asynchronously(model: OpenAIChatModel, storage: SqliteStorage) -> None:
    faults.inject(storage, Appends({2: faults.REFUSE}))
    stream = Agent(model, storage=storage, session_id="s1").astream(FRANCE)
    with pytest.raises(NotStoredError) as caught:
        async for _ in stream:
            pass
    assert (await caught.value.aretry_commit()).output == PARIS
    assert [run.status for run in await storage.aruns("s1")] == ["completed"]


def test_faults_that_pass_are_not_noticed(model: OpenAIChatModel, storage: SqliteStorage) -> None:
    agent = Agent(model, storage=storage, session_id="s1")
    faults.inject(storage, Appends({1: faults.LOSE_ANSWER, 3: faults.FAIL, 4: faults.LOSE_ANSWER}))
    agent.run(FRANCE)
    assert agent.run(LAST).output == f"Your last question was: {FRANCE}"
    faults.heal(storage)
    kinds = [entry.kind for entry in storage.entries("s1")]
    assert (kinds.count("run.started"), kinds.count("run.ended"), kinds.count("message")) == (2, 2, 4)


def test_a_failed_run_that_cannot_be_stored(
    server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage
) -> None:
    faults.inject(storage, Appends({2: faults.REFUSE}))
    with pytest.raises(NotStoredError) as caught:
        Agent(model, storage=storage, session_id="s1").run("[500] Hello")
    assert caught.value.result is None
    assert "error.result" not in str(caught.value)
    assert "error.__cause__" in caught.value.hint
    assert isinstance(caught.value.__cause__, ModelHTTPError)
    assert caught.value.retry_commit() is None
    assert [run.status for run in storage.runs("s1")] == ["failed"]


def test_a_failed_run_with_odd_state_that_cannot_be_stored(
    server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage
) -> None:
    def put_odd() -> None:
        session_state()["odd"] = {1}

    agent = Agent(model, storage=storage, session_id="s1", tools=[put_odd])
    faults.inject(storage, Appends({2: faults.REFUSE, 4: faults.REFUSE}))
    server.plan("ok", "500")
    with pytest.raises(NotStoredError) as failed:
        agent.run("call put_odd {}")
    assert isinstance(failed.value.__cause__, ModelHTTPError)
    with pytest.raises(NotStoredError) as answered:
        agent.run("call put_odd {}")
    assert answered.value.result.output == "Tool results: put_odd="


async def test_a_cancelled_run_that_cannot_be_stored(
    server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage, caplog: pytest.LogCaptureFixture
) -> None:
    faults.inject(storage, Appends({2: faults.REFUSE}))
    task = asyncio.create_task(Agent(model, storage=storage, session_id="s1").arun("[hang] Hello"))
    await asyncio.to_thread(server.wait_for_hanging)
    task.cancel()
    with caplog.at_level(logging.ERROR, "sessile"), pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert "could not be stored" in caplog.text
    assert "could not be stored" in "".join(getattr(caught.value, "__notes__", ()))


async def test_an_answer_that_cannot_be_stored_counts_for_more_than_a_cancellation(
    model: OpenAIChatModel, storage: SqliteStorage
) -> None:
    gate = Gate(first=2)

    def plan(operation: str) -> faults.Fault | None:
        gate(operation)
        return faults.REFUSE if operation == "append" and gate.count == 2 else None

    faults.inject(storage, plan)
    task = asyncio.create_task(Agent(model, storage=storage, session_id="s1").arun(FRANCE))
    await asyncio.to_thread(gate.reached.wait)
    task.cancel()
    await asyncio.sleep(0)
    gate.opened.set()
    with pytest.raises(NotStoredError) as caught:
        await task
    assert caught.value.result.output == PARIS


def test_a_session_that_is_deleted_while_a_run_is_at_work(
    server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage
) -> None:
    def delete() -> None:
        storage.delete("s1")

    with pytest.raises(NotStoredError) as caught:
        Agent(model, storage=storage, session_id="s1", tools=[delete]).run("call delete {}")
    assert isinstance(caught.value.cause, SessionNotFoundError)
    assert caught.value.result.output == "Tool results: delete="
    assert storage.get_session("s1") is None


def test_a_run_that_is_larger_than_the_storage_takes(model: OpenAIChatModel) -> None:
    with MemoryStorage(max_commit_bytes=20_000) as storage:
        agent = Agent(model, storage=storage, session_id="s1")
        with pytest.raises(TooLargeError):
            agent.run("x" * 30_000)
        assert storage.get_session("s1") is None


@pytest.mark.parametrize("durability", ["run", "exit", "step"])
def test_what_is_larger_than_any_commit_is_left_out_by_name(model: OpenAIChatModel, durability: Any) -> None:
    with MemoryStorage(max_commit_bytes=20_000) as storage:
        agent = Agent(model, storage=storage, session_id="s1", tools=[much], durability=durability, history=3)
        with pytest.raises(TooLargeError) as caught:
            agent.run("call much {}")
        if durability != "step":  # which notices it before the model has answered
            result = caught.value.result
            assert caught.value.written == "yes"
            assert (result.status, result.output.endswith("xxx"), result.number) == ("failed", True, 1)
        (run,) = storage.runs("s1")
        assert (run.status, run.input, run.output) == ("failed", "call much {}", None)
        assert run.usage.requests == (1 if durability == "step" else 2)
        assert "a message (The commit has " in run.error["message"] or durability == "step"
        assert [message.data["kind"] for message in run.messages][:2] == ["request", "response"]
        assert agent.run("y").output  # the session goes on
        assert storage.verify("s1")


@pytest.mark.parametrize("durability", ["run", "exit"])
def test_a_run_that_is_larger_than_one_commit_takes_several(model: OpenAIChatModel, durability: Any) -> None:
    with MemoryStorage(max_commit_bytes=20_000) as storage:
        agent = Agent(model, storage=storage, session_id="s1", history=3, durability=durability)
        outputs = [agent.run("x" * 15_000).output, agent.run("y").output]
        assert len(outputs[0]) > 15_000
        runs = storage.runs("s1")
        assert [(run.status, run.output, len(run.messages)) for run in runs] == [
            ("completed", output, 2) for output in outputs
        ]
        assert storage.verify("s1") > 4


def much() -> str:
    return "x" * 30_000
