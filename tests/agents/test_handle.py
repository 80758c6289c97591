"""A handle of one session: what `Agent` and `Storage` offer, without naming the session each time."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic_ai import Tool
from pydantic_ai.models.openai import OpenAIChatModel

from sessile import ANY_USER, Agent, RollingSummary, SqliteStorage
from sessile.agents import AgentSession
from sessile.errors import SessionNotFoundError

LAST = "What was my last question?"


def pay(amount: int) -> str:
    return f"paid {amount}"


@pytest.fixture
def agent(model: OpenAIChatModel, storage: SqliteStorage) -> Agent[Any]:
    return Agent(
        model, storage=storage, tools=[Tool(pay, requires_approval=True)], history=RollingSummary(keep=1, every=1)
    )


def test_before_its_first_run_there_is_no_session(agent: Agent[Any], storage: SqliteStorage) -> None:
    handle = agent.session("s1", user_id="ada")
    assert (handle.session_id, handle.user_id) == ("s1", "ada")
    assert handle.get_session() is None
    assert (handle.state(), handle.runs(), handle.messages(), handle.pending()) == ({}, [], [], {})
    assert handle.summary() is None
    assert not handle.delete()
    with pytest.raises(SessionNotFoundError):
        handle.rename("No")
    assert len(storage.sessions(user_id=ANY_USER)) == 0


def test_a_handle_from_the_agents_own_ids(model: OpenAIChatModel, storage: SqliteStorage) -> None:
    assert Agent(model, storage=storage, session_id="s", user_id="u").session().session_id == "s"
    assert Agent(model, storage=storage, session_id="s", user_id="u").session("t").user_id == "u"
    handle = Agent(model, storage=storage).session()
    assert handle.run("Hello").session_id == handle.session_id
    assert handle.run(LAST).output == "Your last question was: Hello"
    assert Agent(model, storage=storage).session().session_id != handle.session_id


def test_a_session_by_its_handle(agent: Agent[Any]) -> None:
    handle = agent.session("s1", user_id="ada")
    assert handle.run("One").number == 1
    assert "".join(handle.stream(LAST)) == "Your last question was: One"
    paused = handle.run('call pay {"amount": 5}')
    assert paused.status == "paused"
    ((number, requests),) = handle.pending().items()
    (waiting,) = requests.approvals
    assert (number, waiting.tool_name) == (3, "pay")
    assert handle.resume(approvals={waiting.tool_call_id: True}).output == "Tool results: pay=paid 5"
    assert handle.pending() == {}
    assert [run.number for run in handle.runs()] == [1, 2, 3]
    assert [run.number for run in handle.runs(last=1)] == [3]
    assert len(handle.messages(last_runs=2)) == 6
    assert "One" in str(handle.summary())
    assert handle.update_state({"a": 1}).state == handle.state() == {"a": 1}
    assert handle.rename("Name").name == "Name"
    fork = handle.fork(at=1, session_id="s2")
    assert isinstance(fork, AgentSession)
    assert (fork.session_id, fork.user_id) == ("s2", "ada")
    assert [run.input for run in fork.runs()] == ["One"]
    assert fork.run("Two").number == 2
    assert handle.rewind(at=1).tip == 1
    assert [(branch.tip, branch.current) for branch in handle.branches()] == [(1, True), (3, False)]
    assert not handle.cancel()
    head = handle.get_session()
    assert head is not None
    assert head.run_count == 3
    assert handle.delete()
    assert handle.get_session() is None
    assert fork.get_session() is not None


async def test_a_session_by_its_handle_asynchronously(agent: Agent[Any]) -> None:
    handle = agent.session("s1", user_id="ada")
    assert (await handle.arun("One")).number == 1
    assert "".join([piece async for piece in handle.astream(LAST)]) == "Your last question was: One"
    assert (await handle.arun('call pay {"amount": 5}')).status == "paused"
    ((number, requests),) = (await handle.apending()).items()
    (waiting,) = requests.approvals
    resumed = await handle.aresume(run_number=number, approvals={waiting.tool_call_id: False})
    assert resumed.status == "completed"
    assert await handle.apending() == {}
    assert [run.number for run in await handle.aruns(last=2)] == [2, 3]
    assert len(await handle.amessages(last_runs=1)) == 4
    assert "One" in str(await handle.asummary())
    assert (await handle.aupdate_state({"a": 1})).state == await handle.astate() == {"a": 1}
    assert (await handle.arename("Name")).name == "Name"
    fork = await handle.afork(at=1)
    assert (await fork.arun("Two")).number == 2
    assert (await handle.arewind(at=2)).tip == 2
    assert [branch.tip for branch in await handle.abranches()] == [2, 3]
    assert not await handle.acancel(run_number=2)
    head = await handle.aget_session()
    assert head is not None
    assert head.name == "Name"
    assert await handle.adelete()
    assert await handle.aget_session() is None
