"""The state that a team and its members share: written at once by many, and nothing of it lost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from tests.model_server import ModelServer
from tests.teams.helpers import ask, call, member, team_of

import sessile
from sessile import Agent, MemoryStorage, SqliteStorage, Storage, Team, app_state, current_session, session_state
from sessile.agents import Members
from sessile.errors import ConflictError, InvalidStateError

SERVERS = ("postgres", "mysql", "redis", "mongodb", "dynamodb")
MEMBERS = 8
WRITES = 4


@pytest.fixture(params=["memory", "sqlite", *SERVERS])
def storages(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Storage, Storage]]:
    """Two storages over one database."""
    if request.param in SERVERS:
        url = request.getfixturevalue(f"{request.param}_url")
    else:
        url = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path / 'team.db'}"}[request.param]
    with sessile.open(url) as one, sessile.open(url) as two:
        yield one, (one if request.param == "memory" else two)


def scribbler(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """A model that calls its tool four times, one after the other, and then is done."""
    done = sum(isinstance(message, ModelResponse) for message in messages)
    return ModelResponse(parts=[ToolCallPart("scribble", {"n": done}) if done < WRITES else TextPart("done")])


def scribblers(storage: Storage, prefix: str, durability: Any) -> Team[Any]:
    """A team whose members all write into the state at the same time: keys of their own, and a list of all."""

    def of(name: str) -> Agent[Any]:
        async def scribble(n: int) -> int:
            state = session_state()
            state.setdefault(name, {})[f"w{n}"] = n
            state.setdefault(prefix, []).append(name)
            await asyncio.sleep(0)
            state.setdefault("latest", {})[name] = n
            return n

        return Agent(FunctionModel(scribbler), name=name, tools=[scribble], history=None)

    async def together(task: str, members: Members) -> int:
        return len(await asyncio.gather(*(one.run(task) for one in members.values())))

    members = [of(f"{prefix}{number}") for number in range(MEMBERS)]
    return Team(members, mode=together, storage=storage, session_id="s1", durability=durability)


def test_members_that_write_at_once_lose_nothing(storages: tuple[Storage, Storage]) -> None:
    """Two teams of eight members work on one session at the same time: every change of every member is there."""
    database = storages[0]
    teams = [scribblers(storage, prefix, "run") for storage, prefix in zip(storages, ("a", "b"), strict=True)]
    threads = [threading.Thread(target=team.run, args=("Write",)) for team in teams]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    names = [f"{prefix}{number}" for prefix in ("a", "b") for number in range(MEMBERS)]
    head = database.get_session("s1")
    assert head is not None
    for name in names:
        assert head.state[name] == {f"w{n}": n for n in range(WRITES)}
    for prefix in ("a", "b"):  # lists are values: of one team, whose members share one object, nothing is lost
        assert sorted(head.state[prefix]) == sorted(name for name in names if name[0] == prefix for _ in range(WRITES))
    assert head.state["latest"] == dict.fromkeys(names, WRITES - 1)
    runs = database.runs("s1")
    assert [len(run.children) for run in runs] == [MEMBERS, MEMBERS]
    assert {child.status for run in runs for child in run.children} == {"completed"}
    assert database.verify("s1")


@pytest.mark.parametrize("durability", ["step", "exit"])
def test_members_that_write_at_once_in_other_durabilities(storage: SqliteStorage, durability: Any) -> None:
    result = scribblers(storage, "a", durability).run("Write")
    head = storage.get_session("s1")
    assert head is not None
    assert head.state == result.state
    assert len(head.state["a"]) == MEMBERS * WRITES
    assert {child.status for child in storage.runs("s1")[0].children} == {"completed"}
    assert storage.verify("s1") == (1 if durability == "exit" else storage.get_session("s1").revision)  # type: ignore[union-attr]


# ---------------------------------------------------------------- one handle


def put(key: str, value: Any) -> str:
    session_state()[key] = value
    return f"put {key}"


def look(key: str) -> Any:
    return session_state().get(key)


def test_members_and_leader_see_each_others_changes(server: ModelServer, storage: SqliteStorage) -> None:
    geographer = member(server, "geographer", tools=[put], instructions="The town is {town}.", state={"town": "Rome"})
    desk = team_of(server, member(server, "clerk", tools=[look, put]), name="desk", state={"desk": 1, "town": "Oslo"})
    team = team_of(server, geographer, desk, storage=storage, session_id="s1", tools=[put], state={"town": "Paris"})
    clerk = ask("clerk", call("look", key="town") + "\n" + call("put", key="deep", value=[1]))
    result = team.run(
        f"{ask('geographer', 'Show your instructions')}\n"
        f"then {ask('geographer', call('put', key='town', value='Bonn'))}\n"
        f"then {ask('desk', clerk)}\n"
        f"then {call('put', key='last', value=None)}"
    )
    assert "The town is Paris." in result.output
    assert "look=Bonn; put=put deep" in result.output
    assert result.state == {"town": "Bonn", "desk": 1, "deep": [1], "last": None}
    assert storage.get_session("s1").state == result.state  # type: ignore[union-attr]
    assert storage.rewind("s1", at=0).state == {"town": "Paris", "desk": 1}


def test_changes_are_saved_when_a_member_has_ended(server: ModelServer, storage: SqliteStorage) -> None:
    """Others see them before the team's run has ended; also those of a member that fails."""

    def explode() -> None:
        session_state()["exploded"] = True
        raise ValueError("no")

    seen: list[Any] = []

    def peek() -> None:
        seen.append(storage.get_session("s1").state)  # type: ignore[union-attr]

    team = team_of(server, member(server, "one", tools=[explode]), storage=storage, session_id="s1", tools=[peek])
    team.run(f"{ask('one', call('explode'))}\nthen {call('peek')}")
    assert seen == [{"exploded": True}]


def test_replacing_the_whole_state(server: ModelServer, storage: SqliteStorage) -> None:
    def replace() -> None:
        current_session().state = {"new": True}

    team = team_of(server, member(server, "one", tools=[replace]), storage=storage, state={"old": True})
    assert team.run(ask("one", call("replace")), session_id="s1").state == {"new": True}
    assert storage.get_session("s1").state == {"new": True}  # type: ignore[union-attr]


def test_state_that_is_no_json_is_refused_at_the_end(server: ModelServer, storage: SqliteStorage) -> None:
    def spoil() -> None:
        session_state()["bad"] = {1, 2}

    team = team_of(server, member(server, "one", tools=[spoil]), storage=storage, session_id="s1")
    with pytest.raises(InvalidStateError) as caught:
        team.run(ask("one", call("spoil")))
    assert caught.value.result.output == "Tool results: delegate_task=Tool results: spoil="
    (run,) = storage.runs("s1")
    assert (run.status, run.children[0].status, storage.get_session("s1").state) == ("completed", "completed", {})  # type: ignore[union-attr]


def test_conflicts_are_refused_for_the_whole_team(server: ModelServer, storage: SqliteStorage) -> None:
    def race(key: str) -> None:
        session_state()[key] = "ours"
        storage.update_state("s1", {"theirs": "theirs"})

    one = member(server, "one", tools=[race])
    team = team_of(server, one, "two", storage=storage, session_id="s1", on_state_conflict="error", state={"theirs": 0})
    assert team.run(ask("one", call("race", key="mine"))).state["mine"] == "ours"
    storage.update_state("s1", {"theirs": 0})
    with pytest.raises(ConflictError, match="theirs"):
        team.run(f"{ask('one', call('race', key='theirs'))}\nthen {ask('two', 'Hello')}")
    head, run = storage.get_session("s1"), storage.get_run("s1", 2)
    assert head is not None
    assert head.state == {"theirs": "theirs", "mine": "ours"}
    assert [run.status, *(child.status for child in run.children)] == ["completed"] * 3


def test_the_state_of_a_team_that_fails(server: ModelServer, storage: SqliteStorage) -> None:
    team = team_of(server, member(server, "one", tools=[put]), storage=storage, session_id="s1")
    server.plan("ok", "ok", "ok", "500")
    with pytest.raises(ModelHTTPError):
        team.run(ask("one", call("put", key="kept", value=1)))
    assert storage.get_session("s1").state == {"kept": 1}  # type: ignore[union-attr]


async def test_two_members_in_one_event_loop_over_memory() -> None:
    async with MemoryStorage() as storage:
        await scribblers(storage, "a", "run").arun("Write")
        head = await storage.aget_session("s1")
        assert head is not None
        assert len(head.state["a"]) == MEMBERS * WRITES


# ---------------------------------------------------------------- across sessions


def noters(storage: Storage, prefix: str) -> Team[Any]:
    """A team whose members all note what they do for all sessions of the team, at the same time."""

    def of(name: str) -> Agent[Any]:
        async def scribble(n: int) -> int:
            app_state()[f"{prefix}.{name}.{n}"] = n
            app_state().setdefault("by", {})[f"{prefix}.{name}"] = n + 1
            await asyncio.sleep(0)
            return n

        return Agent(FunctionModel(scribbler), name=name, tools=[scribble], history=None, scopes=["app:crew"])

    async def together(task: str, members: Members) -> int:
        return len(await asyncio.gather(*(one.run(task) for one in members.values())))

    return Team([of(f"m{n}") for n in range(4)], mode=together, name="crew", storage=storage)


def test_teams_of_many_sessions_share_the_state_of_their_application(storages: tuple[Storage, Storage]) -> None:
    """Four sessions of four members each, over two storages: no write of anybody is lost, and each session sees all."""
    one, two = storages
    runs = [
        threading.Thread(target=noters(storage, str(number)).run, args=("Work.",), kwargs={"session_id": f"s{number}"})
        for number, storage in enumerate((one, two, one, two))
    ]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    state = one.scope(app="crew").state()
    keys = {f"{prefix}.m{member}" for prefix in range(4) for member in range(4)}
    assert state.pop("by") == dict.fromkeys(keys, WRITES)
    assert state == {f"{key}.{n}": n for key in keys for n in range(WRITES)}
    assert one.scope(app="other").state() == {}
    seen: list[Any] = []
    reader: Agent[Any] = Agent(
        FunctionModel(lambda messages, info: ModelResponse([TextPart(str(info.instructions))])),
        name="reader",
        instructions="So far: {app:by}",
        scopes=["app:crew"],
    )

    async def ask_reader(task: str, members: Members) -> str:
        seen.append((await members["reader"].run(task)).output)
        return "read"

    Team([reader], mode=ask_reader, name="crew", storage=two).run("Tell.", session_id="later")
    assert all(key in seen[0] for key in keys)
