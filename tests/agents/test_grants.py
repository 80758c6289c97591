"""Tools that are approved for good: for whom that holds, for how long, and what the log says of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent as PydanticAgent
from pydantic_ai import ApprovalRequired, DeferredToolRequests, RunContext, Tool
from pydantic_ai.agent import WrapperAgent
from pydantic_ai.capabilities import Toolset
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.toolsets import FunctionToolset

from sessile import ANY_USER, Agent, SessionCapability, Storage, Team, workflow
from sessile.errors import InvalidInputError, NotResumableError, SessionNotFoundError, StorageUnavailableError
from sessile.records import Entry
from sessile.storage import granting, open_storage

DONE: list[str] = []


def send(to: str) -> str:
    """Send a letter."""
    DONE.append(to)
    return f"sent to {to}"


def burn(to: str) -> str:
    """Burn a letter."""
    DONE.append(f"burnt {to}")
    return "burnt"


def asks(context: RunContext[Any], to: str) -> str:
    """Ask by itself."""
    if not context.tool_call_approved:
        raise ApprovalRequired
    DONE.append(f"asked {to}")
    return "asked"


def _obeys(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """Calls the tool that the user names, once; then says what came of it."""
    last = messages[-1].parts[-1]
    if isinstance(last, ToolReturnPart):
        return ModelResponse([TextPart(f"{last.content}")])
    words = str(getattr(last, "content", "")).split()
    tool, to = words if len(words) == 2 else ("send", "Ada")
    return ModelResponse([ToolCallPart(tool, {"to": to})])


def agent_in(storage: Storage, name: str | None = "post", **options: Any) -> Agent[str]:
    tools = [Tool(send, requires_approval=True), Tool(burn, requires_approval=True), Tool(asks)]
    return Agent(FunctionModel(_obeys), storage=storage, name=name, tools=tools, **options)


@pytest.fixture(params=["sqlite", "json", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    DONE.clear()
    urls = {"sqlite": f"sqlite:///{tmp_path}/s.db", "json": f"json:///{tmp_path}/logs", "memory": "memory://"}
    with open_storage(urls[request.param]) as made:
        yield made


def paused(agent: Agent[str], session_id: str, prompt: str = "send Ada", user_id: str | None = "ada") -> str:
    """The id of the call that a new run waits with."""
    result = agent.run(prompt, session_id=session_id, user_id=user_id)
    assert result.pending is not None, result.output
    return result.pending.approvals[0].tool_call_id


def entries(storage: Storage, session_id: str, kind: str) -> list[Entry]:
    return [one for one in storage.entries(session_id, user_id=ANY_USER) if one.kind == kind]


@pytest.mark.parametrize("durability", ["run", "step", "exit"])
def test_what_is_approved_for_a_session_asks_nobody_there_any_more(storage: Storage, durability: Any) -> None:
    agent = agent_in(storage, durability=durability)
    call = paused(agent, "s")
    storage.decide("s", approvals={call: True}, by="bob", always="session", user_id="ada")
    assert agent.resume("s", user_id="ada").output == "sent to Ada"
    result = agent.run("send Eve", session_id="s", user_id="ada")
    assert (result.status, result.output, DONE) == ("completed", "sent to Eve", ["Ada", "Eve"])
    (grant,) = storage.grants("s", user_id="ada")
    (said,) = entries(storage, "s", "call.approved")
    assert (said.run, said.data["tool_name"], said.data["by"], said.data["grant"], said.data["scope"]) == (
        2, "send", "bob", grant.grant_id, "session")  # fmt: skip
    assert (grant.tool, grant.agent, grant.session_id, grant.user_id, grant.by) == ("send", "post", "s", "ada", "bob")


def test_it_is_of_one_tool_one_agent_and_one_session(storage: Storage) -> None:
    agent = agent_in(storage)
    storage.decide("s", approvals={paused(agent, "s"): True}, always="session", user_id="ada")
    agent.resume("s", user_id="ada")
    paused(agent, "s", "burn Ada")  # another tool
    paused(agent, "other")  # another session of the same user
    paused(agent_in(storage, "parcel"), "s")  # another agent
    paused(agent_in(storage, None), "s")  # one without a name
    fork = storage.fork("s", at=1, user_id="ada")
    paused(agent, fork.session_id)
    assert storage.grants(fork.session_id, user_id="ada") == []
    assert DONE == ["Ada"]


def test_a_users_holds_in_all_sessions_of_the_user_and_of_nobody_else(storage: Storage) -> None:
    agent = agent_in(storage)
    call = paused(agent, "s")
    storage.decide("s", approvals={call: True}, by="ada", always="user", user_id="ada")
    assert agent.run("send Bob", session_id="new", user_id="ada").output == "sent to Bob"
    assert agent_in(storage.for_user("ada")).run("send Cleo", session_id="own").output == "sent to Cleo"
    paused(agent, "bobs", user_id="bob")
    paused(agent, "nobodys", user_id=None)
    paused(agent_in(storage.for_user("bob")), "own", user_id=None)
    assert [one.scope for one in storage.grants(user_id="ada")] == ["user"]
    assert storage.grants(user_id="bob") == storage.grants("nobodys") == []
    assert [one.scope for one in storage.for_user("ada").grants()] == ["user"]
    assert DONE == ["Bob", "Cleo"]
    listed = {one.session_id for one in storage.sessions(user_id="ada")}
    assert len(listed) == 3, "what holds for a user is in no list"
    storage.delete_user("ada")
    assert storage.grants(user_id="ada") == []
    paused(agent, "again", user_id="ada")


def test_one_that_is_revoked_or_has_expired_approves_nothing(storage: Storage) -> None:
    agent = agent_in(storage)
    agent.run("asks Ada", session_id="s", user_id="ada")
    whole = storage.grant("send", "post", user_id="ada", by="ada")
    short = storage.grant("asks", "post", "s", user_id="ada", ttl=timedelta(hours=1))
    assert agent.run("send Ada", session_id="s", user_id="ada").status == "completed"
    assert agent.run("asks Ada", session_id="s", user_id="ada").status == "completed"
    assert storage.grants("s", user_id="ada") == [short, whole]
    assert storage.revoke(whole.grant_id, user_id="bob") is False
    assert storage.revoke(whole.grant_id, "s", user_id="ada") is False  # it stands elsewhere
    assert storage.revoke(whole.grant_id, user_id="ada", by="ada") is True
    assert storage.revoke(whole.grant_id, user_id="ada") is False
    assert storage.revoke(short.grant_id, "s", user_id="ada") is True
    storage.grant("send", "post", "s", user_id="ada", ttl=0)
    assert storage.grants("s", user_id="ada") == []
    paused(agent, "s")
    paused(agent, "s", "asks Ada")


def test_nobody_grants_for_a_session_of_somebody_else(storage: Storage) -> None:
    agent = agent_in(storage)
    paused(agent, "s")
    wrong: Any
    for wrong in ({"user_id": "bob"}, {}):
        with pytest.raises(SessionNotFoundError):
            storage.grant("send", "post", "s", **wrong)
        with pytest.raises(SessionNotFoundError):
            storage.grants("s", **wrong)
        with pytest.raises(SessionNotFoundError):
            storage.revoke("x", "s", **wrong)
    with pytest.raises(InvalidInputError):
        storage.grant("send", "post")
    with pytest.raises(InvalidInputError):
        storage.grants(user_id=ANY_USER)
    with pytest.raises(InvalidInputError):
        storage.for_user("bob").grant("send", "post", user_id="ada")


def test_only_an_approval_as_it_is_can_hold_for_others(storage: Storage) -> None:
    agent = agent_in(storage)
    call = paused(agent, "s", user_id=None)
    for decision in (False, "No.", {"to": "Eve"}):
        with pytest.raises(InvalidInputError, match="always="):
            storage.decide("s", approvals={call: decision}, always="session")
    with pytest.raises(InvalidInputError, match="no user"):
        storage.decide("s", approvals={call: True}, always="user")
    nameless = agent_in(storage, None)
    with pytest.raises(InvalidInputError, match="which agent"):
        storage.decide("t", approvals={paused(nameless, "t", user_id=None): True}, always="session")
    assert not any(storage.get_run(one, 1).steps for one in ("s", "t"))


def test_a_decision_that_came_too_late_is_refused(storage: Storage) -> None:
    agent = agent_in(storage)
    call = paused(agent, "s")
    storage.decide("s", approvals={call: True}, by="old", user_id="ada")
    waits = storage.decide("s", approvals={call: True}, by="bob", ttl=0, user_id="ada")
    assert waits.run == 1
    with pytest.raises(NotResumableError, match=r"by bob.* holds no more"):
        agent.resume("s", user_id="ada")
    (waits,) = storage.waiting(user_id="ada")
    assert (waits.decided, waits.is_decided, DONE) == ({}, False, [])
    storage.decide("s", approvals={call: True}, by="bob", ttl=3600, user_id="ada")
    (waits,) = storage.waiting(user_id="ada")
    assert waits.is_decided
    assert agent.resume("s", user_id="ada").output == "sent to Ada"


def test_who_resumes_stands_in_the_log(storage: Storage) -> None:
    agent = agent_in(storage)
    call = paused(agent, "s")
    agent.resume("s", approvals={call: True}, by="bob", user_id="ada")
    (decided,) = entries(storage, "s", "run.decided")
    assert decided.data["by"] == "bob"


def test_a_teams_member_is_approved_for_itself(storage: Storage) -> None:
    def leads(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        last: Any = messages[-1].parts[-1]
        if isinstance(last, ToolReturnPart):
            return ModelResponse([TextPart(f"{last.content}")])
        return ModelResponse([ToolCallPart("delegate_task", {"member": "post", "task": str(last.content)})])

    member = agent_in(storage).pydantic_agent
    members = [Agent(member, name="post"), Agent(member, name="parcel")]
    team = Team(members, model=FunctionModel(leads), name="office", storage=storage)
    first = team.run("send Ada", session_id="s", user_id="ada")
    assert first.pending is not None
    (call,) = first.pending.approvals
    storage.decide("s", approvals={call.tool_call_id: True}, always="session", user_id="ada")
    (grant,) = storage.grants("s", user_id="ada")
    assert (grant.agent, grant.tool) == ("post", "send")
    assert team.resume("s", user_id="ada").output == "sent to Ada"
    assert team.run("send Eve", session_id="s", user_id="ada").output == "sent to Eve"
    (said,) = entries(storage, "s", "call.approved")
    assert said.agent == "post"
    storage.grant("delegate_task", "office", "s", user_id="ada")
    assert team.run("burn Eve", session_id="s", user_id="ada").status == "paused"  # it only waits for its member


def test_an_agent_in_a_workflow_is_approved_in_its_session(storage: Storage) -> None:
    post = Agent(agent_in(storage).pydantic_agent, name="post")

    @workflow(storage=storage)
    async def letters(ctx: Any, to: str) -> str:
        return await ctx.step(post, f"send {to}")

    first = letters.run("Ada", session_id="w", user_id="ada")
    assert first.status == "paused"
    (waits,) = storage.waiting(user_id="ada")
    call = waits.asked[0]["tool_call_id"]
    storage.decide("w", approvals={call: True}, always="session", by="bob", user_id="ada")
    assert letters.resume("w", user_id="ada", by="eve").output == "sent to Ada"
    assert letters.run("Eve", session_id="w", user_id="ada").output == "sent to Eve"
    assert [one.data["by"] for one in entries(storage, "w", "call.approved")] == ["bob"]


def test_a_bare_agent_of_pydantic_ai_has_it_too(storage: Storage) -> None:
    storage.grant("send", "post", user_id="ada")
    bare = PydanticAgent(
        FunctionModel(_obeys),
        name="post",
        tools=[Tool(send, requires_approval=True)],
        output_type=[str, DeferredToolRequests],
        capabilities=[SessionCapability(storage, session_id="s", user_id="ada")],
    )
    assert bare.run_sync("send Ada").output == "sent to Ada"


@pytest.mark.parametrize("way", ["registered", "dynamic", "overridden", "of the run", "of a capability", "wrapped"])
def test_it_holds_for_tools_that_come_after_the_agent(tmp_path: Path, way: str) -> None:
    DONE.clear()
    letters = FunctionToolset[None]([Tool(send, requires_approval=True)])
    options: dict[str, Any] = {"output_type": [str, DeferredToolRequests], "name": "post"}
    if way == "of a capability":
        options["capabilities"] = [Toolset(letters)]
    below = PydanticAgent(FunctionModel(_obeys), **options)
    if way == "registered":
        below.tool_plain(requires_approval=True)(send)
    if way == "dynamic":
        below.toolset(lambda _: letters)
    given: dict[str, Any] = {"toolsets": [letters]} if way in ("of the run", "wrapped") else {}
    overriding = below.override(toolsets=[letters]) if way == "overridden" else nullcontext()
    with open_storage(f"sqlite:///{tmp_path}/s.db") as storage, overriding:
        agent = Agent(WrapperAgent(below) if way == "wrapped" else below, storage=storage, name="post")
        storage.grant("send", "post", user_id="ada")
        result = agent.run("send Ada", session_id="s", user_id="ada", **given)
        assert (result.status, result.output, DONE) == ("completed", "sent to Ada", ["Ada"])


def test_what_cannot_be_read_approves_nothing(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = agent_in(storage)
    storage.grant("send", "post", user_id="ada")

    async def fails(*args: Any) -> Any:
        raise StorageUnavailableError("The database is away.")

    monkeypatch.setattr(granting, "standing", fails)
    paused(agent, "s")
    assert DONE == []
