"""What happens to the others, and to the team, when a member fails, is cancelled, or cannot be stored."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai.exceptions import ModelHTTPError, RunCancelled
from tests.agents.helpers import Appends, script, tool_results
from tests.model_server import ModelServer
from tests.teams.helpers import FRANCE, PARIS, ask, call, member, team_of, tree

from sessile import MemoryStorage, SqliteStorage, Team, session_state
from sessile.errors import NotStoredError, StorageError, TooLargeError
from sessile.testing import faults

BOTH = f"{ask('geographer', FRANCE)}\n{ask('poet', 'Hello')}"


@pytest.mark.parametrize("durability", ["run", "step", "exit"])
def test_a_member_that_fails_does_not_lose_the_others_work(
    server: ModelServer, storage: SqliteStorage, durability: Any
) -> None:
    def explode() -> None:
        raise ValueError("no luck")

    bad = member(server, "bad", tools=[explode])
    team = team_of(server, bad, "geographer", storage=storage, session_id="s1", durability=durability)
    result = team.run(f"{ask('bad', call('explode'))}\n{ask('geographer', FRANCE)}")
    assert result.status == "completed"
    assert "The member 'bad' has failed: ValueError: no luck" in result.output
    assert PARIS in result.output
    (run,) = storage.runs("s1")
    assert run.status == "completed"
    assert tree(run) == [("bad", "failed", None), ("geographer", "completed", PARIS)]
    assert run.children[0].error == result.members[0].error == {"type": "ValueError", "message": "no luck"}
    assert [message.data["kind"] for message in run.children[0].messages][:2] == ["request", "response"]
    assert run.usage.requests == result.usage.requests == 4
    assert [turn.text for turn in tool_results(server)][1] == PARIS
    assert storage.verify("s1")


def test_a_member_of_a_member_that_fails(server: ModelServer, storage: SqliteStorage) -> None:
    desk = team_of(server, "clerk", name="desk")
    team = team_of(server, desk, storage=storage, session_id="s1")
    server.plan("ok", "ok", "500")
    result = team.run(ask("desk", ask("clerk", FRANCE)))
    assert "The member 'clerk' has failed: ModelServerError" in result.output
    (run,) = storage.runs("s1")
    assert [(name, status) for name, status, *_ in tree(run)] == [("desk", "completed")]
    assert tree(run.children[0]) == [("clerk", "failed", None)]


def test_a_leader_that_fails_keeps_what_members_have_done(server: ModelServer, storage: SqliteStorage) -> None:
    team = team_of(server, "geographer", storage=storage, session_id="s1")
    server.plan("ok", "ok", "500")
    with pytest.raises(ModelHTTPError):
        team.run(ask("geographer", FRANCE))
    (run,) = storage.runs("s1")
    assert (run.status, tree(run)) == ("failed", [("geographer", "completed", PARIS)])
    assert run.usage.requests == 2
    assert team.run(ask("geographer", "What was my last question?")).members[0].output.endswith(FRANCE)


# ---------------------------------------------------------------- cancelling


async def test_cancelling_the_teams_task_interrupts_its_members(server: ModelServer, storage: SqliteStorage) -> None:
    desk = team_of(server, "clerk", name="desk")
    team = team_of(server, desk, "poet", "geographer", storage=storage, session_id="s1")
    server.plan("ok", "ok", "ok", "hang", "hang")
    prompt = f"{ask('geographer', FRANCE)}\nthen {ask('poet', 'Hello')}\n{ask('desk', ask('clerk', FRANCE))}"
    task = asyncio.ensure_future(team.arun(prompt))
    await asyncio.to_thread(server.wait_for_hanging, 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (run,) = storage.runs("s1")
    assert run.status == "interrupted"
    assert tree(run)[0] == ("geographer", "completed", PARIS)
    assert sorted(tree(run)[1:]) == [("desk", "interrupted", None), ("poet", "interrupted", None)]
    assert storage.verify("s1")
    assert (await team.arun(ask("geographer", FRANCE))).status == "completed"


@pytest.mark.parametrize("mode", ["collaborate", "nested"])
def test_cancelling_from_elsewhere(server: ModelServer, path: Path, mode: str) -> None:
    with SqliteStorage(path, lease=0.3) as storage:
        members: list[Any] = ["one", "two"]
        if mode == "nested":
            members = [team_of(server, *members, name="desk", mode="collaborate")]
        team = team_of(server, *members, mode="collaborate", storage=storage, session_id="s1")
        server.plan("hang", "hang")
        caught: list[BaseException] = []

        def run() -> None:
            try:
                team.run(FRANCE)
            except RunCancelled as error:
                caught.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        server.wait_for_hanging(2)
        assert storage.cancel_run("s1")
        thread.join()
        assert len(caught) == 1
        (left,) = storage.runs("s1")
        assert left.status == "cancelled"
        everyone = left.children if mode == "collaborate" else [*left.children, *left.children[0].children]
        assert [one.status for one in everyone] == ["cancelled"] * len(everyone)
        assert storage.verify("s1")


def test_sigterm(server: ModelServer, tmp_path: Path, path: Path) -> None:
    body = """
from sessile import Team
members = [Agent(model, name="geographer"), Agent(model, name="poet")]
Team(members, model, storage=storage, session_id="s1", mode="collaborate").run("Hello")
"""
    server.plan("ok", "hang")
    process = script(tmp_path, body, server, path)
    server.wait_for_hanging()
    with SqliteStorage(path) as storage:
        while "completed" not in str(tree(storage.runs("s1")[0])):
            pass
        process.send_signal(signal.SIGTERM)
        process.communicate()
        assert process.returncode == 143
        (run,) = storage.runs("s1")
        assert (run.status, sorted(one.status for one in run.children)) == ("interrupted", ["completed", "interrupted"])


# ---------------------------------------------------------------- storing fails


def test_a_member_whose_end_cannot_be_stored_yet(
    server: ModelServer, storage: SqliteStorage, caplog: pytest.LogCaptureFixture
) -> None:
    """Its answer goes on to the leader; the next commit, that of the team's end, has its run as well."""
    team = team_of(server, "geographer", storage=storage, session_id="s1")
    faults.inject(storage, Appends({3: faults.REFUSE}))  # after the starts of the team and of the member
    with caplog.at_level(logging.WARNING, "sessile"):
        result = team.run(ask("geographer", FRANCE))
    assert "member geographer could not be stored yet" in caplog.text
    assert PARIS in result.output
    (run,) = storage.runs("s1")
    assert (run.status, tree(run)) == ("completed", [("geographer", "completed", PARIS)])
    assert len(run.children[0].messages) == 2
    assert run.usage == result.usage
    assert storage.verify("s1")


def test_a_member_of_which_nobody_knows_whether_it_was_stored(server: ModelServer, storage: SqliteStorage) -> None:
    team = team_of(server, "geographer", storage=storage, session_id="s1")
    faults.inject(storage, Appends({3: faults.Fault("after", retryable=False)}))
    with pytest.raises(StorageError) as caught:
        team.run(ask("geographer", FRANCE))
    assert caught.value.written == "unknown"
    assert len(server.requests) == 2
    (run,) = storage.runs("s1")
    assert (run.status, run.error["type"]) == ("failed", type(caught.value).__name__)  # type: ignore[index]
    assert tree(run) == [("geographer", "completed", PARIS)]


@pytest.mark.parametrize("durability", ["run", "step", "exit"])
def test_a_team_whose_end_cannot_be_stored(server: ModelServer, storage: SqliteStorage, durability: Any) -> None:
    team = team_of(server, "geographer", storage=storage, session_id="s1", durability=durability)
    appends = Appends({})
    faults.inject(storage, appends)
    team.run(ask("geographer", FRANCE), session_id="s2")
    faults.heal(storage)
    faults.inject(storage, Appends({appends.count: faults.REFUSE}))
    with pytest.raises(NotStoredError) as caught:
        team.run(ask("geographer", FRANCE))
    assert PARIS in caught.value.result.output
    result = caught.value.retry_commit()
    assert result.members[0].output == PARIS
    (run,) = storage.runs("s1")
    assert (run.output, tree(run)) == (result.output, [("geographer", "completed", PARIS)])
    assert run.usage == result.usage


def test_a_member_that_cannot_begin(server: ModelServer, storage: SqliteStorage) -> None:
    team: Team[Any] = team_of(server, "geographer", storage=storage, session_id="s1")
    faults.inject(storage, Appends({2: faults.REFUSE}))
    with pytest.raises(StorageError):
        team.run(ask("geographer", FRANCE))
    assert len(server.requests) == 1
    (run,) = storage.runs("s1")
    assert (run.status, run.children) == ("failed", [])


@pytest.mark.parametrize("durability", ["run", "exit"])
def test_members_that_say_more_than_fits_into_one_commit(server: ModelServer, durability: Any) -> None:
    def read(size: int) -> str:
        return "x" * size

    with MemoryStorage(max_commit_bytes=20_000) as storage:
        reader = member(server, "reader", tools=[read], history=None)
        team = team_of(server, reader, storage=storage, session_id="s1", durability=durability)
        result = team.run(ask("reader", "\nthen ".join([call("read", size=9_000)] * 4) + "\noutput {}"))
        (run,) = storage.runs("s1")
        assert (run.status, run.usage) == ("completed", result.usage)
        assert [(child.status, len(child.messages)) for child in run.children] == [("completed", 10)]
        assert storage.verify("s1") > 3


def test_a_state_that_has_grown_too_large_is_refused_at_the_end(server: ModelServer) -> None:
    def grow() -> None:
        session_state()["much"] = "x" * 2_000

    with MemoryStorage(max_state_bytes=1_000) as storage:
        team = team_of(server, member(server, "one", tools=[grow]), "two", storage=storage, session_id="s1")
        with pytest.raises(TooLargeError) as caught:
            team.run(f"{ask('one', call('grow'))}\nthen {ask('two', FRANCE)}")
        assert PARIS in caught.value.result.output
        (run,) = storage.runs("s1")
        assert [run.status, *(child.status for child in run.children)] == ["completed"] * 3
        assert storage.get_session("s1").state == {}  # type: ignore[union-attr]
