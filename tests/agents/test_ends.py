"""How a run ends: a stop interrupts it, an error fails it, and only who cancels it ends it for good."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel
from pydantic_ai import TextOutput, Tool, ToolOutput
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from tests.agents.resume_tools import wait_until

from sessile import Agent, SqliteStorage, Team
from sessile.errors import NotResumableError

Kind = Literal["agent", "team"]


def worker(log: Path, hang: Callable[[], Any] = lambda: None, **options: Any) -> Agent[str]:
    """Works twice, leaving a line each time, and then does what `hang` says before it answers."""

    async def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        if sum(isinstance(message, ModelResponse) for message in messages) < 2:
            return ModelResponse(parts=[ToolCallPart("work", {})])
        found = hang()
        if asyncio.iscoroutine(found):
            await found
        return ModelResponse(parts=[TextPart("done")])

    def work() -> str:
        """Work."""
        with log.open("a") as file:
            file.write("worked\n")
        return "worked"

    return Agent(FunctionModel(answer), name="worker", tools=[work], durability="step", **options)


def make(kind: Kind, log: Path, storage: SqliteStorage, hang: Callable[[], Any] = lambda: None) -> Agent[str]:
    if kind == "agent":
        return worker(log, hang, storage=storage)
    joins = FunctionModel(lambda _, __: ModelResponse(parts=[TextPart("joined")]))
    return Team([worker(log, hang)], joins, name="team", mode="collaborate", storage=storage, durability="step")


CHILD = """
import asyncio, sys
from pathlib import Path
from tests.agents.test_ends import make
from sessile import SqliteStorage

async def hang():
    Path(sys.argv[3] + ".hangs").touch()
    await asyncio.Event().wait()

storage = SqliteStorage(sys.argv[2], lease=0.3)
make(sys.argv[1], Path(sys.argv[3]), storage, hang).run("go", session_id="s")
"""


@pytest.mark.parametrize("kind", ["agent", "team"])
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL])
def test_a_process_that_is_stopped(path: Path, tmp_path: Path, kind: Kind, sent: signal.Signals) -> None:
    log = tmp_path / "log"
    process = subprocess.Popen([sys.executable, "-c", CHILD, kind, str(path), str(log)], stderr=subprocess.DEVNULL)
    wait_until(Path(f"{log}.hangs").exists)
    process.send_signal(sent)
    assert process.wait() == (143 if sent == signal.SIGTERM else -9)
    with SqliteStorage(path) as storage:
        wait_until(lambda: storage.runs("s")[0].status == "interrupted")
        assert [child.status for child in storage.runs("s")[0].children] == ["interrupted"] * (kind == "team")
        result = make(kind, log, storage).resume("s")
        assert (result.status, result.output) == ("completed", "done" if kind == "agent" else "joined")
    assert log.read_text() == "worked\n" * 2


@pytest.mark.parametrize("kind", ["agent", "team"])
def test_a_provider_that_fails(storage: SqliteStorage, tmp_path: Path, kind: Kind) -> None:
    def fails() -> None:
        raise ConnectionError("503")

    log = tmp_path / "log"
    agent = make(kind, log, storage, fails)
    if kind == "agent":
        with pytest.raises(ConnectionError):
            agent.run("go", session_id="s")
        assert storage.get_session("s").status == "failed"  # type: ignore[union-attr]
        assert make(kind, log, storage).resume("s").output == "done"
    else:  # a leader hears of it, and goes on without the member
        assert agent.run("go", session_id="s").output == "joined"
    assert log.read_text() == "worked\n" * 2


async def test_a_task_that_is_cancelled(storage: SqliteStorage, tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def hang() -> None:
        begun.set()
        await asyncio.Event().wait()

    log = tmp_path / "log"
    task = asyncio.ensure_future(make("agent", log, storage, hang).arun("go", session_id="s"))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await storage.aruns("s"))[0].status == "interrupted"
    assert (await make("agent", log, storage).aresume("s")).output == "done"
    assert log.read_text() == "worked\n" * 2


async def test_a_request_that_comes_again_after_a_stop(storage: SqliteStorage) -> None:
    """Also where no steps are stored: nobody has said that the work is not to be done."""
    begun, stopped = asyncio.Event(), [True]

    async def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        if stopped:
            begun.set()
            await asyncio.Event().wait()
        return ModelResponse(parts=[TextPart("done")])

    agent = Agent(FunctionModel(answer), name="a", storage=storage)
    task = asyncio.ensure_future(agent.arun("go", session_id="s", run_id="request-1"))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    stopped.clear()
    result = await agent.arun("go", session_id="s", run_id="request-1")
    assert (result.output, result.number) == ("done", 1)


# ---------------------------------------------------------------- cancelled for good


def cashier(storage: SqliteStorage, *tools: Any, name: str = "cashier", **options: Any) -> Agent[str]:
    def says(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        last = messages[-1].parts[-1]
        if last.part_kind == "user-prompt":
            return ModelResponse(parts=[ToolCallPart("pay", {}, tool_call_id="c")])
        return ModelResponse(parts=[TextPart(str(getattr(last, "content", "")))])

    return Agent(FunctionModel(says), name=name, storage=storage, tools=tools, **options)


def pay() -> str:
    """Pay."""
    return "paid"


PAY = Tool(pay, requires_approval=True)


def test_who_waits_can_be_cancelled(storage: SqliteStorage) -> None:
    agent = cashier(storage, PAY)
    agent.run("go", session_id="s")
    assert storage.cancel_run("s") is True
    (run,) = storage.runs("s")
    assert (run.status, storage.get_session("s").status) == ("cancelled", "cancelled")  # type: ignore[union-attr]
    with pytest.raises(NotResumableError, match="no run that waits"):
        agent.resume("s", approvals={"c": True})
    assert storage.cancel_run("s") is False
    agent.run("go on", session_id="s")
    assert storage.cancel_run("s", 1) is False
    assert storage.cancel_run("s", 2) is True


def test_members_of_who_is_cancelled_while_it_waits(storage: SqliteStorage) -> None:
    asks = FunctionModel(lambda _, __: ModelResponse(parts=[ToolCallPart("delegate_task", {"member": "cashier"})]))
    Team([cashier(storage, PAY)], asks, name="team", storage=storage).run("go", session_id="s")
    assert storage.cancel_run("s") is True
    (run,) = storage.runs("s")
    assert (run.status, [child.status for child in run.children]) == ("cancelled", ["cancelled"])


def test_a_failed_run_is_only_cancelled_by_its_number(storage: SqliteStorage, tmp_path: Path) -> None:
    def fails() -> None:
        raise ConnectionError("503")

    agent = make("agent", tmp_path / "log", storage, fails)
    with pytest.raises(ConnectionError):
        agent.run("go", session_id="s")
    assert storage.cancel_run("s") is False
    assert storage.cancel_run("s", 1) is True
    with pytest.raises(NotResumableError, match="no run that waits"):
        agent.resume("s")


# ---------------------------------------------------------------- decisions that cannot be carried out


def test_a_decision_without_its_tool(storage: SqliteStorage) -> None:
    cashier(storage, PAY).run("go", session_id="s")
    for approval in (True, False):
        with pytest.raises(NotResumableError, match="'cashier' has no tool 'pay', which the decision is about"):
            cashier(storage).resume("s", approvals={"c": approval}, adopt=True)
    assert storage.runs("s")[0].status == "paused"
    assert cashier(storage, PAY).resume("s", approvals={"c": True}).output == "paid"


def test_a_tool_that_is_only_made_when_it_runs(storage: SqliteStorage) -> None:
    """Toolsets that do not show their tools are asked for them, before anything is written."""
    from pydantic_ai.toolsets import FunctionToolset

    there = [True]

    def made(_: Any) -> FunctionToolset[Any] | None:
        return FunctionToolset([PAY]) if there else None

    agent = cashier(storage, toolsets=[made])
    agent.run("go", session_id="s")
    there.clear()
    with pytest.raises(NotResumableError, match="no tool 'pay'"):
        agent.resume("s", approvals={"c": True})
    there.append(True)
    assert agent.resume("s", approvals={"c": True}).output == "paid"


def test_a_tool_behind_a_prefix(storage: SqliteStorage) -> None:
    from pydantic_ai.toolsets import FunctionToolset

    def says(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        if messages[-1].parts[-1].part_kind == "user-prompt":
            return ModelResponse(parts=[ToolCallPart("shop_pay", {}, tool_call_id="c")])
        return ModelResponse(parts=[TextPart("done")])

    agent = Agent(FunctionModel(says), name="a", storage=storage, toolsets=[FunctionToolset([PAY]).prefixed("shop")])
    agent.run("go", session_id="s")
    assert agent.resume("s", approvals={"c": True}).output == "done"


def test_the_run_of_another(storage: SqliteStorage) -> None:
    cashier(storage, PAY).run("go", session_id="s")
    renamed = cashier(storage, PAY, name="till")
    with pytest.raises(NotResumableError, match="Run 1 of session 's' is one of 'cashier'; this is 'till'"):
        renamed.resume("s", approvals={"c": True})
    assert storage.runs("s")[0].status == "paused"
    assert renamed.resume("s", approvals={"c": True}, adopt=True).output == "paid"


def test_a_team_and_its_members(storage: SqliteStorage) -> None:
    def asks(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        if messages[-1].parts[-1].part_kind == "user-prompt":
            return ModelResponse(parts=[ToolCallPart("delegate_task", {"member": "cashier"}, tool_call_id="d")])
        return ModelResponse(parts=[TextPart("done")])

    def team(member: Agent[str]) -> Team[str]:
        return Team([member], FunctionModel(asks), name="shop", storage=storage)

    team(cashier(storage, PAY)).run("go", session_id="s")
    with pytest.raises(NotResumableError, match="is one of a team; 'shop' is an agent"):
        cashier(storage, PAY, name="shop").resume("s", approvals={"c": True})
    with pytest.raises(NotResumableError, match="'shop' has no member 'cashier'"):
        team(cashier(storage, PAY, name="till")).resume("s", approvals={"c": True})
    with pytest.raises(NotResumableError, match="'cashier' has no tool 'pay'"):
        team(cashier(storage)).resume("s", approvals={"c": True})
    (run,) = storage.runs("s")
    assert (run.status, run.children[0].status) == ("paused", "paused")
    assert team(cashier(storage, PAY)).resume("s", approvals={"c": True}).output == "done"


# ---------------------------------------------------------------- functions that make the output


class Receipt(BaseModel):
    amount: int


def booking(how: str, log: Path, storage: SqliteStorage, die: Callable[[], Any] = lambda: None) -> Agent[Any]:
    """An agent whose output a function makes, which leaves a line, and dies then if it is told to."""

    def book(receipt: Receipt) -> str:
        """Book."""
        with log.open("a") as file:
            file.write("booked\n")
        die()
        return f"booked {receipt.amount}"

    def book_text(text: str) -> str:
        return book(Receipt(amount=int(text)))

    def says(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        if info.output_tools:
            return ModelResponse(parts=[ToolCallPart(info.output_tools[0].name, {"amount": 7}, tool_call_id="o")])
        return ModelResponse(parts=[TextPart("7")])

    output: Any = ToolOutput(book) if how == "tool" else TextOutput(book_text)
    return Agent(FunctionModel(says), name="a", storage=storage, output_type=output, durability="step")


BOOKING = """
import os, sys
from pathlib import Path
from tests.agents.resume_helpers import die_at_commit
from tests.agents.test_ends import booking
from sessile import SqliteStorage

how, when, path, log = sys.argv[1:]
storage = SqliteStorage(path, lease=0.3)
if when == "after":
    die_at_commit([storage], None, "before", "run.ended", 1)
agent = booking(how, Path(log), storage, lambda: when == "inside" and os._exit(-9))
agent.run("go", session_id="s")
"""


@pytest.mark.parametrize("how", ["tool", "text"])
def test_an_output_function_is_not_called_twice(path: Path, tmp_path: Path, how: str) -> None:
    log = tmp_path / "log"
    for when in ("after", "inside"):
        log.write_text("")
        subprocess.run([sys.executable, "-c", BOOKING, how, when, str(path), str(log)], check=False)
        with SqliteStorage(path) as storage:
            wait_until(lambda: storage.runs("s")[-1].status == "interrupted")
            agent = booking(how, log, storage)
            result = agent.resume("s")
            if when == "inside":  # nobody knows whether it had booked
                assert result.pending is not None
                (call,) = result.pending.approvals
                assert log.read_text() == "booked\n"
                result = agent.resume("s", approvals={call.tool_call_id: True})
            assert (result.status, result.output) == ("completed", "booked 7")
        assert log.read_text() == "booked\n" * (1 if when == "after" else 2)


def test_an_output_function_that_is_not_to_be_called_again(path: Path, tmp_path: Path) -> None:
    """The run then ends with what the model has said."""
    log = tmp_path / "log"
    subprocess.run([sys.executable, "-c", BOOKING, "text", "inside", str(path), str(log)], check=False)
    with SqliteStorage(path) as storage:
        wait_until(lambda: storage.runs("s")[-1].status == "interrupted")
        agent = booking("text", log, storage)
        asked = agent.resume("s").pending
        assert asked is not None
        assert agent.resume("s", approvals={asked.approvals[0].tool_call_id: False}).output == "7"
    assert log.read_text() == "booked\n"


@pytest.mark.parametrize("finished", [0, 1])
async def test_a_run_that_is_stopped_in_its_tool_calls_loses_none(storage: SqliteStorage, finished: int) -> None:
    """Pydantic AI leaves a request with what has returned by then, perhaps nothing: the calls are not over."""
    done: list[str] = []
    first, at_work = [True], asyncio.Event()

    async def work(name: str) -> str:
        if first[0] and int(name) >= finished:
            at_work.set()
            await asyncio.sleep(60)
        done.append(name)
        return f"did {name}"

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        if any(isinstance(part, ToolReturnPart) for part in messages[-1].parts):
            return ModelResponse(parts=[TextPart("ok")])
        return ModelResponse(parts=[ToolCallPart("work", {"name": name}, tool_call_id=f"c{name}") for name in "01"])

    tool = Tool(work, metadata={"idempotent": True})
    agent = Agent(FunctionModel(answer), name="a", storage=storage, tools=[tool], durability="step")
    task = asyncio.create_task(agent.arun("q", session_id="s"))
    await at_work.wait()

    def ended() -> bool:
        return sum(step.kind == "tool.ended" for step in storage.get_run("s", 1).steps) == finished

    await asyncio.to_thread(wait_until, ended)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    first[0] = False
    result = await agent.aresume("s")
    assert (result.output, sorted(done)) == ("ok", ["0", "1"])
    run = await storage.aget_run("s", 1)
    said = [[part["part_kind"] for part in message.data["parts"]] for message in run.messages]
    assert said == [["user-prompt"], ["tool-call"] * 2, ["tool-return"] * 2, ["text"]]
