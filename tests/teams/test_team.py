"""What a user of `Team` sees first: the modes, the one session, and the process that goes on with it."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pydantic_ai
import pytest
from pydantic import BaseModel
from pydantic_ai import BinaryContent, DeferredToolRequests, RunContext
from pydantic_ai.exceptions import UsageLimitExceeded
from pydantic_ai.usage import UsageLimits
from tests.agents.helpers import model_at, output, prompts, script, sent, tool_results, turns
from tests.model_server import ModelServer
from tests.teams.helpers import FRANCE, ITALY, LAST, PARIS, ROME, ask, call, member, own_session, team_of, tree

from sessile import ANY_USER, Agent, MemoryStorage, RollingSummary, SqliteStorage, Team, current_session, session_state
from sessile.agents import Members
from sessile.errors import InvalidInputError, MemberFailedError, SessionNotFoundError
from sessile.records import Usage


class City(BaseModel):
    """A structured answer."""

    name: str


# ---------------------------------------------------------------- one session


def test_the_second_process_knows_what_a_member_said_in_the_first(
    server: ModelServer, tmp_path: Path, path: Path
) -> None:
    body = """
from sessile import Team
members = [Agent(model, name="geographer"), Agent(model, name="historian")]
team = Team(members, model, name="crew", storage=storage, session_id="s1", user_id="ada")
for prompt in sys.argv[3:]:
    print(team.run(prompt).output)
"""
    first = output(script(tmp_path, body, server, path, ask("geographer", FRANCE)))
    assert first == f"Tool results: delegate_task={PARIS}\n"
    questions = ["What did the geographer say?", ask("geographer", LAST), ask("historian", LAST)]
    _, second, third = output(script(tmp_path, body, server, path, *questions)).splitlines()
    assert [turn.text for turn in tool_results(server, 3)] == [PARIS]
    assert second == f"Tool results: delegate_task=Your last question was: {FRANCE}"
    assert third == "Tool results: delegate_task=You have not asked anything before."
    with SqliteStorage(path) as storage:
        runs = storage.runs("s1", user_id="ada")
        assert [tree(run) for run in runs][:2] == [[("geographer", "completed", PARIS)], []]
        assert storage.verify("s1", user_id="ada")


def test_one_load_shows_who_did_what(server: ModelServer, storage: SqliteStorage) -> None:
    team = team_of(server, "geographer", "historian", storage=storage)
    result = team.run(f"{ask('geographer', FRANCE)}\n{ask('historian', ITALY)}", session_id="s1", user_id="ada")
    assert result.output == f"Tool results: delegate_task={PARIS}; delegate_task={ROME}"
    assert [(one.agent, one.output, one.status) for one in result.members] == [
        ("geographer", PARIS, "completed"),
        ("historian", ROME, "completed"),
    ]
    view = storage.get_session("s1", last_runs=3, user_id="ada")
    assert view is not None
    head = view
    assert (head.kind, head.agent, head.user_id, head.run_count, head.status) == ("team", "crew", "ada", 1, "completed")
    (run,) = view.runs
    assert (run.run_id, run.agent, run.output) == (result.run_id, "crew", result.output)
    assert tree(run) == [("geographer", "completed", PARIS), ("historian", "completed", ROME)]
    for child, one in zip(run.children, result.members, strict=True):
        assert (child.run_id, child.parent_run_id, child.number) == (one.run_id, run.run_id, 1)
        assert [message.data["kind"] for message in child.messages] == ["request", "response"]
        assert child.ended_at is not None
    assert run.children[0].input == FRANCE
    assert len(run.messages) == 4
    assert storage.sessions(kind="team", agent="crew", user_id="ada", with_state=True).items == [head]


def test_usage_is_the_sum_and_shown_for_each(server: ModelServer, storage: SqliteStorage) -> None:
    members = [Agent(model_at(server.base_url, name="gpt-4o"), name=name) for name in ("geographer", "historian")]
    team = Team(members, model_at(server.base_url, name="gpt-4o"), storage=storage)
    result = team.run(f"{ask('geographer', FRANCE)}\n{ask('historian', ITALY)}", session_id="s1")
    (run,) = storage.runs("s1")
    each = [run.own_usage, *(child.usage for child in run.children)]
    assert [usage.requests for usage in each] == [2, 1, 1]
    assert [usage.cost > 0 for usage in each] == [True, True, True]
    assert run.usage == result.usage == sum(each, Usage())
    assert [result.own_usage, *(one.usage for one in result.members)] == each
    assert storage.get_session("s1").usage == run.usage  # type: ignore[union-attr]
    assert storage.get_session(storage.fork("s1").session_id).usage == Usage()  # type: ignore[union-attr]


def test_members_remember_their_own_work(server: ModelServer, storage: SqliteStorage) -> None:
    team = team_of(server, member(server, "geographer", history=2), "historian", storage=storage, session_id="s1")
    team.run(ask("geographer", FRANCE))
    team.run(ask("historian", "My name is Ada."))
    team.run(f"{ask('geographer', ITALY)}\nthen {ask('geographer', 'How many messages do you see?')}")
    assert turns(server, -2)[:-1] == [("user", FRANCE), ("assistant", PARIS), ("user", ITALY), ("assistant", ROME)]
    team.run(ask("geographer", LAST))
    assert prompts(server, -2) == [ITALY, "How many messages do you see?", LAST]
    team.run(ask("historian", "What is my name?"))
    assert prompts(server, -2) == ["My name is Ada.", "What is my name?"]


@pytest.mark.parametrize("durability", ["run", "step", "exit"])
def test_members_may_be_sent_the_conversation_with_the_team(
    server: ModelServer, storage: SqliteStorage, durability: Any
) -> None:
    team = team_of(
        server,
        "geographer",
        "historian",
        storage=storage,
        session_id="s1",
        member_history="team",
        durability=durability,
    )
    team.run("My name is Ada.")
    team.run(ask("geographer", FRANCE))
    assert turns(server, -2) == [
        ("user", "My name is Ada."),
        ("assistant", "You said: My name is Ada."),
        ("user", FRANCE),
    ]
    assert team.run(ask("historian", "What is my name?")).output == "Tool results: delegate_task=Your name is Ada."
    assert turns(server, -2)[2:4] == [
        ("user", ask("geographer", FRANCE)),
        ("assistant", f"Tool results: delegate_task={PARIS}"),
    ]
    assert storage.verify("s1")


def test_a_rewound_team_forgets_what_members_did(server: ModelServer, storage: SqliteStorage) -> None:
    team = team_of(server, "geographer", storage=storage, session_id="s1")
    team.run(ask("geographer", FRANCE))
    team.run(ask("geographer", ITALY))
    session = team.session()
    session.rewind(at=1)
    assert (
        session.run(ask("geographer", LAST)).output == f"Tool results: delegate_task=Your last question was: {FRANCE}"
    )
    copy = session.fork(at=3)
    assert tree(copy.runs()[-1]) == [("geographer", "completed", f"Your last question was: {FRANCE}")]
    copy.run(ask("geographer", "Hello"))
    assert prompts(server, -2) == [FRANCE, LAST, "Hello"]


# ---------------------------------------------------------------- modes


def test_route_returns_the_answer_of_the_one_that_was_picked(server: ModelServer, storage: SqliteStorage) -> None:
    team = team_of(
        server,
        member(server, "geographer", output_type=City),
        "historian",
        mode="route",
        storage=storage,
        session_id="s1",
    )
    result = team.run(ask("geographer", 'A city\noutput {"name": "Paris"}'))
    assert result.output == City(name="Paris")
    assert (result.own_usage.requests, result.usage.requests) == (1, 2)
    (run,) = storage.runs("s1")
    assert (run.output, tree(run)) == ({"name": "Paris"}, [("geographer", "completed", {"name": "Paris"})])
    assert team.run(f"{ask('historian', FRANCE)}\n{ask('geographer', ITALY)}").output == PARIS
    assert team.run("How many messages do you see?").output == "I see 10 messages: 3 user, 4 assistant, 3 tool."
    assert turns(server)[-2] == ("assistant", PARIS)


def test_route_picks_another_when_the_first_fails(server: ModelServer, storage: SqliteStorage) -> None:
    team = team_of(server, "geographer", "historian", mode="route", storage=storage, session_id="s1")
    server.plan("ok", "500", "ok")
    result = team.run(f"{ask('geographer', FRANCE)}\nthen {ask('historian', ITALY)}")
    assert result.output == ROME
    assert [(one.agent, one.status) for one in result.members] == [("geographer", "failed"), ("historian", "completed")]


def test_collaborate_lets_all_work_at_the_same_time(server: ModelServer, storage: SqliteStorage) -> None:
    team = team_of(server, "geographer", "historian", "poet", mode="collaborate", storage=storage, session_id="s1")
    server.plan("hang", "hang", "hang")
    done: list[Any] = []
    thread = threading.Thread(target=lambda: done.append(team.run(FRANCE)))
    thread.start()
    server.wait_for_hanging(3)
    (run,) = storage.runs("s1")
    assert tree(run) == [(name, "running", None) for name in ("geographer", "historian", "poet")]
    server.release()
    thread.join()
    assert [one.output for one in done[0].members] == [PARIS] * 3
    # The leader has not called them itself, and is told in words, which any model accepts.
    said = [f"{name}: {PARIS}" for name in ("geographer", "historian", "poet")]
    assert prompts(server) == ["\n\n".join([FRANCE, "What the members of your team say:", *said])]
    assert tool_results(server) == []
    assert (done[0].own_usage.requests, done[0].usage.requests) == (1, 4)
    assert team.run("How many messages do you see?").output.startswith("I see 3 messages: 2 user")


def test_collaborate_on_an_image(server: ModelServer, storage: SqliteStorage) -> None:
    team = team_of(server, "geographer", mode="collaborate", storage=storage, session_id="s1")
    picture = BinaryContent(b"\x89PNG" + bytes(5000), media_type="image/png")
    team.run(["What is this?", picture])
    assert turns(server, 0)[-1] == ("user", "What is this?\n[image_url]")
    (child,) = storage.runs("s1")[0].children
    assert child.input[0] == "What is this?"
    assert "$blob" in str(child.input[1])


def test_a_function_of_the_members(server: ModelServer, storage: SqliteStorage) -> None:
    async def debate(task: str, members: Members) -> dict[str, Any]:
        said = await asyncio.gather(*(one.run(task) for one in members.values()))
        session_state()["said"] = len(said)
        last = await members["poet"].run(LAST)
        return {"said": [one.output for one in said], "last": last.output}

    team = Team([member(server, "geographer"), member(server, "poet")], mode=debate, storage=storage, session_id="s1")
    result = team.run(FRANCE)
    assert result.output == {"said": [PARIS, PARIS], "last": f"Your last question was: {FRANCE}"}
    assert (result.own_usage.requests, result.usage.requests, result.state) == (0, 3, {"said": 2})
    (run,) = storage.runs("s1")
    assert (run.output, run.own_usage.requests, len(run.children)) == (result.output, 0, 3)
    assert team.run(ITALY).output["last"] == f"Your last question was: {ITALY}"


def test_a_function_that_handles_a_failure_and_one_that_does_not(server: ModelServer, storage: SqliteStorage) -> None:
    async def careful(task: str, members: Members) -> str:
        try:
            return (await members["geographer"].run(task)).output
        except MemberFailedError as error:
            return f"Sorry: {error.result.error['type']}"

    async def careless(task: str, members: Members) -> str:
        return (await members["geographer"].run(task)).output

    for mode in (careful, careless):
        team = Team([member(server, "geographer")], mode=mode, storage=storage, session_id=mode.__name__)
        server.plan("500")
        if mode is careful:
            assert team.run(FRANCE).output == "Sorry: ModelServerError"
        else:
            with pytest.raises(MemberFailedError, match="geographer"):
                team.run(FRANCE)
        (run,) = storage.runs(mode.__name__)
        assert (run.status, tree(run)) == (
            "completed" if mode is careful else "failed",
            [("geographer", "failed", None)],
        )


def test_what_a_function_leaves_at_work_is_cancelled(server: ModelServer, storage: SqliteStorage) -> None:
    begun = asyncio.Event()

    async def ponder() -> None:
        begun.set()
        await asyncio.Event().wait()

    async def impatient(task: str, members: Members) -> str:
        left = asyncio.ensure_future(members["poet"].run(call("ponder")))
        await begun.wait()
        answer = await members["geographer"].run(task)
        left.add_done_callback(lambda task: task.cancelled() or task.exception())
        return answer.output

    poet = member(server, "poet", tools=[ponder])
    team = Team([member(server, "geographer"), poet], mode=impatient, storage=storage)
    assert team.run(FRANCE, session_id="s1").output == PARIS
    (run,) = storage.runs("s1")
    assert sorted(tree(run)) == [("geographer", "completed", PARIS), ("poet", "cancelled", None)]


# ---------------------------------------------------------------- teams in teams


def test_nested_teams(server: ModelServer, storage: SqliteStorage) -> None:
    desk = team_of(server, "geographer", "historian", name="desk", mode="collaborate", description="Looks things up.")
    paper = team_of(server, desk, "poet", name="paper", storage=storage, session_id="s1")
    result = paper.run(f"{ask('desk', FRANCE)}\n{ask('poet', 'Hello')}")
    assert result.output == f"Tool results: delegate_task={PARIS}; delegate_task=You said: Hello"
    assert "- desk: Looks things up.\n- poet" in sent(server, 0).system_text
    (run,) = storage.runs("s1")
    below = [("geographer", "completed", PARIS), ("historian", "completed", PARIS)]
    assert tree(run) == [("desk", "completed", PARIS, below), ("poet", "completed", "You said: Hello")]
    assert [one.agent for one in result.members[0].members] == ["geographer", "historian"]
    assert run.usage == result.usage
    assert (run.own_usage.requests, run.children[0].own_usage.requests, run.children[0].usage.requests) == (2, 1, 3)
    paper.run(ask("desk", LAST))
    assert [prompts(server, index) for index in (-4, -3)] == [[FRANCE, LAST]] * 2
    told, last = prompts(server, -2)  # what the leader of the desk was told then, and its question now
    assert told.startswith(f"{FRANCE}\n\n")
    assert last.startswith(f"{LAST}\n\n")
    assert storage.verify("s1")


def test_nested_routes_return_the_innermost_answer(server: ModelServer, storage: SqliteStorage) -> None:
    inner = team_of(server, member(server, "geographer", output_type=City), name="inner", mode="route")
    outer = team_of(server, inner, mode="route", storage=storage)
    task = ask("geographer", 'A city\noutput {"name": "Paris"}')
    assert outer.run(ask("inner", task)).output == City(name="Paris")
    with outer.stream(ask("inner", task.replace("A city", "Capital"))) as stream:
        list(stream)
    assert stream.result.output == City(name="Paris")


# ---------------------------------------------------------------- sessions, users, storages


def test_two_users_in_two_sessions_at_once(server: ModelServer, storage: SqliteStorage) -> None:
    team = team_of(server, "geographer", "historian", mode="collaborate", storage=storage)

    def talk(user: str) -> None:
        team.run(f"My name is {user}.", session_id=user, user_id=user)
        for _ in range(3):
            team.run("What is my name?", session_id=user, user_id=user)

    threads = [threading.Thread(target=talk, args=(user,)) for user in ("Ada", "Bob")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for user in ("Ada", "Bob"):
        runs = storage.runs(user, user_id=user)
        assert [tree(run) for run in runs[1:]] == [
            [(name, "completed", f"Your name is {user}.") for name in ("geographer", "historian")]
        ] * 3
        assert storage.verify(user, user_id=user)
    with pytest.raises(SessionNotFoundError):
        team.run("Hello", session_id="Ada", user_id="Bob")


def test_a_member_with_a_storage_of_its_own(server: ModelServer, storage: SqliteStorage) -> None:
    def note(text: str) -> str:
        session = current_session()
        assert session.team is not None
        session.team.state["noted"] = text
        session_state()["noted"] = f"own {text}"
        return f"{session.session_id} in {session.team.session_id}"

    with MemoryStorage() as other:
        scribe = member(server, "scribe", storage=other, tools=[note])
        team = team_of(server, scribe, "geographer", storage=storage, session_id="s1", user_id="ada")
        result = team.run(ask("scribe", call("note", text="x")))
        place = own_session(other, "s1/scribe")
        assert result.output == f"Tool results: delegate_task=Tool results: note={place} in s1"
        (run,) = storage.runs("s1", user_id="ada")
        (child,) = run.children
        (own,) = other.runs(place, user_id="ada")
        assert (child.run_id, child.output, child.usage) == (own.run_id, own.output, own.usage)
        assert (child.messages, child.metadata, len(own.messages)) == ([], {"session_id": place}, 4)
        above = storage.get_session("s1", user_id="ada")
        below = other.get_session(place, user_id="ada")
        assert (run.usage, above.state) == (result.usage, {"noted": "x"})  # type: ignore[union-attr]
        assert below.state == {"noted": "own x"}  # type: ignore[union-attr]
        team.run(ask("scribe", LAST))
        assert prompts(server, -2) == [call("note", text="x"), LAST]
        server.plan("ok", "500", "ok")
        assert team.run(ask("scribe", FRANCE)).members[0].status == "failed"
        assert [one.status for one in other.runs(place, user_id="ada")] == ["completed", "completed", "failed"]


def test_the_same_storage_is_not_one_of_its_own(server: ModelServer, storage: SqliteStorage) -> None:
    agent = member(server, "geographer", storage=storage, session_id="mine")
    assert agent.run(FRANCE).output == PARIS
    team_of(server, agent, storage=storage).run(ask("geographer", LAST), session_id="s1")
    assert prompts(server, -2) == [LAST]
    assert {head.session_id for head in storage.sessions(user_id=ANY_USER)} == {"mine", "s1"}


def test_without_a_storage(server: ModelServer) -> None:
    team = team_of(server, "geographer", mode="collaborate")
    result = team.run(FRANCE)
    assert (result.output, result.number, [one.number for one in result.members]) == (PARIS, 0, [0])
    assert team.run(LAST).members[0].output == "You have not asked anything before."


async def test_in_an_event_loop(server: ModelServer, storage: SqliteStorage) -> None:
    team = team_of(server, "geographer", storage=storage, session_id="s1")
    assert (await team.arun(ask("geographer", FRANCE))).members[0].output == PARIS
    assert team.run(ask("geographer", LAST)).members[0].output == f"Your last question was: {FRANCE}"
    assert (await team.session().arun(ask("geographer", ITALY))).members[0].output == ROME


def test_members_use_history_tools_of_the_teams_session(server: ModelServer, storage: SqliteStorage) -> None:
    reader = member(server, "reader", read_chat_history=True, history=None)
    team = team_of(server, reader, storage=storage, session_id="s1")
    team.run("My name is Ada.")
    answer = team.run(ask("reader", call("read_history"))).members[0].output
    assert "[1] User: My name is Ada." in answer
    assert "delegate_task" not in answer


def test_a_leader_of_ones_own_making_with_structured_output(server: ModelServer, storage: SqliteStorage) -> None:
    leader = pydantic_ai.Agent(model_at(server.base_url), output_type=[City, DeferredToolRequests])
    for model, options in ((leader, {}), (model_at(server.base_url), {"output_type": City})):
        team: Team[Any] = Team([member(server, "geographer")], model, storage=storage, **options)  # type: ignore[arg-type]
        result = team.run(f'{ask("geographer", FRANCE)}\noutput {{"name": "Paris"}}')
        assert result.output == City(name="Paris")
        assert storage.runs(result.session_id)[0].output == {"name": "Paris"}
        assert result.members[0].output == PARIS


def test_dependencies_are_there_for_members_too(server: ModelServer, storage: SqliteStorage) -> None:
    def tell(context: RunContext[str]) -> str:
        return f"It is {context.deps}."

    one = member(server, "one", tools=[tell], deps_type=str)
    desk = team_of(server, one, name="desk", deps_type=str)
    team = team_of(server, desk, storage=storage, deps_type=str)
    result = team.run(ask("desk", ask("one", call("tell"))), deps="Ada")
    assert result.members[0].members[0].output == "Tool results: tell=It is Ada."


# ---------------------------------------------------------------- limits and refusals


def test_usage_limits_hold_for_the_team_as_a_whole(server: ModelServer, storage: SqliteStorage) -> None:
    team = team_of(server, "geographer", storage=storage, session_id="s1")
    prompt = "\nthen ".join([ask("geographer", FRANCE)] * 3)
    with pytest.raises(UsageLimitExceeded):
        team.run(prompt, usage_limits=UsageLimits(request_limit=4))
    assert len(server.requests) == 4
    (run,) = storage.runs("s1")
    assert (run.status, run.usage.requests, run.own_usage.requests) == ("failed", 4, 2)
    assert team.run(prompt, usage_limits=UsageLimits(request_limit=7)).usage.requests == 7


def test_an_unknown_member_is_explained_to_the_leader(server: ModelServer, storage: SqliteStorage) -> None:
    team = team_of(server, "geographer", storage=storage, session_id="s1")
    team.run(f"{ask('nobody', FRANCE)}\nthen {ask('geographer', FRANCE)}")
    assert "There is no member 'nobody'. The members are: geographer." in tool_results(server)[0].text
    assert tree(storage.runs("s1")[0]) == [("geographer", "completed", PARIS)]


def test_refusals(server: ModelServer, storage: SqliteStorage) -> None:
    async def mode(task: str, members: Members) -> str:
        return task

    model = model_at(server.base_url)
    ada = Agent(model, name="ada")
    for members, options, said in [
        ([], {}, "needs members"),
        ([Agent(model)], {}, "needs a name"),
        ([ada, Agent(model, name="ada")], {}, "Two members are called 'ada'"),
        ([model], {}, "agents and teams"),
        ([ada], {"mode": "vote"}, "mode must be one of"),
        ([ada], {"mode": lambda task, members: task}, "async def"),
        ([ada], {"mode": "route", "output_type": int}, "no output_type"),
        ([ada], {"mode": mode, "output_type": int}, "no output_type"),
        ([ada], {"member_history": "all"}, "member_history must be one of"),
        ([Agent(model, name="ada", history=RollingSummary())], {}, "RollingSummary"),
    ]:
        with pytest.raises(InvalidInputError, match=said):
            Team(members, model, storage=storage, **options)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="takes no member_history"):
        team_of(server, ada).run("Hello", member_history="team")  # type: ignore[call-arg]


def test_a_rolling_summary_of_the_conversation_with_the_team(server: ModelServer, storage: SqliteStorage) -> None:
    window = RollingSummary(keep=1, every=2)
    agent = member(server, "geographer", history=window)
    team = team_of(server, agent, storage=storage, session_id="s1", history=window, member_history="team")
    for number in range(4):
        team.run(f"My number is {number}.")
    team.run(ask("geographer", "Hello"))
    assert prompts(server, -2)[0].startswith("Summary of our conversation before this point:")
