"""Streams of teams, whose events say who speaks; and what stands in the terminal."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import Tool
from pydantic_ai.messages import FinalResultEvent, FunctionToolCallEvent
from tests.model_server import ModelServer
from tests.teams.helpers import FRANCE, ITALY, PARIS, ROME, ask, call, member, own_session, team_of, tree

from sessile import MemoryStorage, SqliteStorage, Team
from sessile.agents import MemberEnded, Members, MemberStarted, TeamEvent
from sessile.errors import InvalidInputError
from sessile.live.streams import text_delta


def texts(events: list[TeamEvent], *, answering: bool = False) -> dict[tuple[str, ...], str]:
    """What each speaker said, by path."""
    said: dict[tuple[str, ...], str] = {}
    for item in events:
        if not isinstance(item.event, (MemberStarted, MemberEnded)) and item.answering >= answering:
            said[item.path] = said.get(item.path, "") + text_delta(item.event)
    return {path: text for path, text in said.items() if text}


def nested(server: ModelServer, storage: SqliteStorage, **options: Any) -> Team[Any]:
    desk = team_of(server, "geographer", "historian", name="desk", mode="collaborate")
    return team_of(server, desk, "poet", name="paper", storage=storage, session_id="s1", **options)


def test_events_say_who_speaks(server: ModelServer, storage: SqliteStorage) -> None:
    team = nested(server, storage)
    with team.stream(f"{ask('desk', FRANCE)}\nthen {ask('poet', 'Hello')}", events=True) as stream:
        events = list(stream)
    answer = f"Tool results: delegate_task={PARIS}; delegate_task=You said: Hello"
    assert stream.result.output == answer
    assert texts(events) == {
        (): answer,
        ("desk",): PARIS,
        ("desk", "geographer"): PARIS,
        ("desk", "historian"): PARIS,
        ("poet",): "You said: Hello",
    }
    assert texts(events, answering=True) == {(): answer}
    assert {item.member for item in events} == {"paper", "desk", "geographer", "historian", "poet"}
    (run,) = storage.runs("s1")
    by_path = {item.path: (item.run_id, item.parent_run_id) for item in events}
    assert by_path[()] == (run.run_id, None)
    assert by_path["desk", "geographer"][1] == by_path["desk",][0] == run.children[0].run_id
    started = {item.path: item.event.task for item in events if isinstance(item.event, MemberStarted)}
    assert started == {
        ("desk",): FRANCE, ("desk", "geographer"): FRANCE, ("desk", "historian"): FRANCE, ("poet",): "Hello",
    }  # fmt: skip
    ended = [(item.member, item.event) for item in events if isinstance(item.event, MemberEnded)]
    assert [name for name, _ in ended][2:] == ["desk", "poet"]
    assert ended[-1][1] == MemberEnded("completed", "You said: Hello", None, run.children[1].usage)
    assert sum(isinstance(item.event, FunctionToolCallEvent) for item in events) == 4
    assert sum(isinstance(item.event, FinalResultEvent) for item in events) == 5


def test_events_of_a_team_with_a_session_of_its_own(server: ModelServer, storage: SqliteStorage) -> None:
    with MemoryStorage() as own:
        desk = team_of(server, "clerk", name="desk", storage=own)
        team = team_of(server, desk, storage=storage, session_id="s1")
        with team.stream(ask("desk", ask("clerk", FRANCE)), events=True) as stream:
            where = {(item.path, item.run_id, item.parent_run_id) for item in stream}
        (run,), (below,) = storage.runs("s1"), own.runs(own_session(own, "s1/desk"))
        assert where == {
            ((), run.run_id, None),
            (("desk",), below.run_id, run.run_id),
            (("desk", "clerk"), below.children[0].run_id, below.run_id),
        }


@pytest.mark.parametrize("mode", ["coordinate", "route", "collaborate"])
def test_text_is_the_teams_answer(server: ModelServer, storage: SqliteStorage, mode: Any) -> None:
    team = team_of(server, "geographer", "poet", mode=mode, storage=storage, session_id="s1")
    prompt = FRANCE if mode == "collaborate" else ask("geographer", FRANCE)
    with team.stream(prompt) as stream:
        pieces = list(stream)
    assert len(pieces) > 3
    assert "".join(pieces) == stream.result.output == storage.runs("s1")[0].output


async def test_text_of_a_function_and_of_nested_routes(server: ModelServer, storage: SqliteStorage) -> None:
    async def relay(task: str, members: Members) -> str:
        return (await members["geographer"].run(task)).output

    team = Team([member(server, "geographer")], mode=relay, storage=storage)
    assert "".join([piece async for piece in team.astream(FRANCE)]) == PARIS
    inner = team_of(server, "geographer", name="inner", mode="route")
    outer = team_of(server, inner, mode="route", storage=storage)
    assert "".join([piece async for piece in outer.astream(ask("inner", ask("geographer", ITALY)))]) == ROME


def test_a_stream_that_is_closed_interrupts_members(server: ModelServer, storage: SqliteStorage) -> None:
    team = nested(server, storage)
    server.plan("ok", "ok", "ok", "hang-stream")
    with team.stream(f"{ask('poet', 'Hello')}\nthen {ask('desk', FRANCE)}", events=True) as stream:
        for item in stream:
            if isinstance(item.event, MemberEnded) and item.member == "poet":
                server.wait_for_hanging()
                break
    (run,) = storage.runs("s1")
    assert run.status == "interrupted"
    below = {name: rest for name, *rest in tree(run)}
    assert below["poet"] == ["completed", "You said: Hello"]
    assert below["desk"][0] == "interrupted"
    assert "running" not in str(tree(run))
    assert storage.verify("s1")


def test_a_handler_of_ones_own(server: ModelServer, storage: SqliteStorage) -> None:
    seen: list[Any] = []

    async def handler(context: Any, events: Any) -> None:
        seen.extend([event async for event in events])

    team = team_of(server, "geographer", storage=storage)
    team.run(ask("geographer", FRANCE), event_stream_handler=handler)
    assert any(isinstance(event, FunctionToolCallEvent) for event in seen)
    with pytest.raises(InvalidInputError, match="event_stream_handler"):
        team.stream(FRANCE, event_stream_handler=handler)


def test_streams_at_once(server: ModelServer, storage: SqliteStorage) -> None:
    team = team_of(server, "geographer", mode="route", storage=storage)
    said: dict[str, str] = {}

    def read(session: str, prompt: str) -> None:
        said[session] = "".join(team.stream(ask("geographer", prompt), session_id=session))

    threads = [threading.Thread(target=read, args=pair) for pair in (("a", FRANCE), ("b", ITALY))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == {"a": PARIS, "b": ROME}


# ---------------------------------------------------------------- in the terminal


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rich")
    monkeypatch.setenv("COLUMNS", "200")


@pytest.mark.usefixtures("wide")
def test_members_are_shown_as_a_tree(
    server: ModelServer, storage: SqliteStorage, capsys: pytest.CaptureFixture[str]
) -> None:
    result = nested(server, storage).print_response(f"{ask('desk', FRANCE)}\nthen {ask('poet', '[b]Hello[/b]')}")
    shown = capsys.readouterr().out
    lines = [line.rstrip() for line in shown[shown.index("\npaper") :].splitlines()]
    assert lines[2] == f"├── desk: {FRANCE}"
    assert f"│   ├── geographer: {FRANCE}" in lines
    assert f"│   │   ├── {PARIS}" in lines
    assert "└── poet: [b]Hello[/b]" in lines
    assert f"    └── completed, 1 request, {_tokens(storage)} tokens" in lines
    assert shown.index("Answer") > shown.index("└── poet")
    assert "Tool results" in shown[shown.index("Answer") :]
    assert result.status == "completed"


def _tokens(storage: SqliteStorage) -> int:
    usage = storage.runs("s1")[0].children[-1].usage
    return usage.input_tokens + usage.output_tokens


@pytest.mark.usefixtures("wide")
async def test_failures_and_pauses_are_shown(
    server: ModelServer, storage: SqliteStorage, capsys: pytest.CaptureFixture[str]
) -> None:
    def pay(amount: int) -> int:
        return amount

    clerk = member(server, "clerk", tools=[Tool(pay, requires_approval=True)])
    team = team_of(server, clerk, "poet", storage=storage)
    server.plan("ok", "500", "ok", "ok")
    await team.aprint_response(f"{ask('poet', 'Hello')}\nthen {ask('clerk', call('pay', amount=3))}")
    shown = capsys.readouterr().out
    assert "failed (ModelServerError: " in shown
    assert "paused, 1 request" in shown
    assert "Waits for a decision about: pay" in shown


@pytest.mark.usefixtures("wide")
def test_what_a_function_answers_is_shown_once(server: ModelServer, capsys: pytest.CaptureFixture[str]) -> None:
    async def structured(task: str, members: Members) -> Any:
        return {"capital": "Paris"}

    team = Team([member(server, "geographer")], mode=structured)
    assert list(team.stream(FRANCE)) == []
    team.print_response(FRANCE)
    shown = capsys.readouterr().out
    assert shown.count("Paris") == 1
    assert "{'capital': 'Paris'}" in shown


def test_a_leader_that_answers_with_an_object_shows_it_as_it_grows(server: ModelServer, storage: SqliteStorage) -> None:
    class Trip(BaseModel):
        places: list[str]

    team = team_of(server, "geographer", storage=storage, output_type=Trip)
    stream = team.stream(f"[slow 0.1]\n{ask('geographer', FRANCE)}\n" + 'output {"places": ["Paris", "Rome", "Oslo"]}')
    trips = list(stream)
    assert len(trips) > 1
    assert all(isinstance(trip, Trip) for trip in trips)
    assert trips[-1] == stream.result.output == Trip(places=["Paris", "Rome", "Oslo"])
    assert trips[0] != trips[-1]
