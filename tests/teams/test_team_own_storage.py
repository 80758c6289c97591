"""Members with a storage of their own: what happens in either session when they fail, or their process is killed."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openai")

from tests.agents.resume_helpers import LEASE, Nursery, World, a_nursery, a_world, call, ids, storage_in, then
from tests.model_server import ModelServer
from tests.teams.helpers import FRANCE, ask, member, own_session, team_of, tree

from sessile import ANY_USER, MemoryStorage, Run, SqliteStorage
from sessile.insight import Index

OWN = "own.db"
TASK = then(call("note", text="a"), call("count", by=1))
SEND = call("send", to="Ada")


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with a_nursery() as made:
        yield made


@pytest.fixture
def world(tmp_path: Path, nursery: Nursery) -> Iterator[World]:
    with a_world(tmp_path, nursery) as made:
        yield made


@pytest.fixture
def own(world: World) -> Iterator[SqliteStorage]:
    """The storage of the writer's own."""
    with storage_in(world.folder, OWN, lease=2 * LEASE) as made:
        yield made


def killed(world: World, do: str, *args: Any, **job: Any) -> None:
    assert world.start(do, *args, team=True, own=OWN, **job).wait() == -signal.SIGKILL
    world.interrupted()


def both(world: World, own: SqliteStorage) -> tuple[Run, Run]:
    """The member's run in the team's log, and in its own session."""
    (child,) = world.run().children
    (run,) = own.runs(own_session(own, "s/writer"))
    assert own.verify(own_session(own, "s/writer"))
    return child, run


@pytest.mark.parametrize(
    ("kind", "which"),
    [
        ("run.started", 2),  # in the team's log; in its own session it has not begun
        ("run.started", 3),
        ("tool.started", 2),
        ("tool.ended", 2),
        ("run.ended", 1),  # in its own session; the team's log does not know
        ("run.ended", 2),
    ],
)
def test_killed_while_the_member_works(world: World, own: SqliteStorage, kind: str, which: int) -> None:
    """It goes on where it was, and what has ended is not repeated."""
    killed(world, "run", ask("writer", TASK), die=["after", kind, which])
    team = world.team(own=own)
    result = team.resume("s")
    if kind == "tool.started":
        assert (result.status, list(ids(result.pending))) == ("paused", ["note"])
        result = team.resume("s", approvals=dict.fromkeys(ids(result.pending).values(), True))
    assert result.output == "Tool results: delegate_task=Tool results: note=noted a; count=1"
    child, run = both(world, own)
    assert (child.run_id, child.status, run.status) == (run.run_id, "completed", "completed")
    assert own.get_session(own_session(own, "s/writer")).state == {"count": 1}  # type: ignore[union-attr]
    assert world.traces.lines == ["note a"]
    assert run.usage == child.usage == result.members[0].usage
    assert world.run().usage == result.usage == world.storage.get_session("s").usage  # type: ignore[union-attr]
    assert result.usage.requests == len(world.server.requests) == 5


@pytest.mark.parametrize(("kind", "which"), [("run.taken", 1), ("run.taken", 2), ("run.taken", 3), ("run.ended", 1)])
def test_killed_after_the_decision(world: World, own: SqliteStorage, kind: str, which: int) -> None:
    """The decision was written down, in the team's log, before anything else happened."""
    paused = world.team(own=own).run(ask("writer", SEND), session_id="s")
    decided = dict.fromkeys(ids(paused.pending).values(), True)
    killed(world, "resume", approvals=decided, die=["after", kind, which])
    result = world.team(own=own).resume("s")
    assert result.output == "Tool results: delegate_task=Tool results: send=sent to Ada"
    assert [run.status for run in both(world, own)] == ["completed"] * 2
    assert world.traces.lines == ["send Ada"]
    assert world.run().usage == result.usage
    assert result.usage.requests == len(world.server.requests)


def test_a_pause_that_the_team_has_not_heard_of(world: World, own: SqliteStorage) -> None:
    killed(world, "run", ask("writer", SEND), die=["after", "run.ended", 1])
    assert own.get_session(own_session(own, "s/writer")).status == "paused"  # type: ignore[union-attr]
    team = world.team(own=own)
    paused = team.resume("s")
    assert (paused.status, paused.members[0].status, list(ids(paused.pending))) == ("paused", "paused", ["send"])
    assert paused.members[0].pending == paused.pending
    result = team.resume("s", approvals=dict.fromkeys(ids(paused.pending).values(), True))
    assert result.output == "Tool results: delegate_task=Tool results: send=sent to Ada"
    assert world.traces.lines == ["send Ada"]


def test_what_a_member_has_used_that_failed(server: ModelServer, storage: SqliteStorage) -> None:
    def explode() -> None:
        raise ValueError("no luck")

    with MemoryStorage() as other:
        bad = member(server, "bad", storage=other, tools=[explode])
        result = team_of(server, bad, storage=storage).run(ask("bad", call("explode")), session_id="s1")
        (run,), (own,) = storage.runs("s1"), other.runs(own_session(other, "s1/bad"))
        assert (tree(run), own.status) == ([("bad", "failed", None)], "failed")
        assert run.children[0].usage == own.usage == result.members[0].usage
        assert (run.usage, own.usage.requests, run.usage.requests) == (result.usage, 1, 3)


def test_what_a_member_of_the_same_database_has_used_is_counted_once(server: ModelServer, tmp_path: Path) -> None:
    """Its storage is another object, on the same database or another one."""
    team_path = tmp_path / "team.db"
    with (
        SqliteStorage(team_path) as storage,
        SqliteStorage(team_path) as same,
        SqliteStorage(tmp_path / "far.db") as far,
        Index(storage) as index,
    ):
        here, away = member(server, "here", storage=same), member(server, "away", storage=far)
        result = team_of(server, here, away, storage=storage).run(
            ask("here", FRANCE) + "\n" + ask("away", FRANCE), session_id="s1"
        )
        (run,) = storage.runs("s1")
        assert {child.agent: child.counted_there for child in run.children} == {"here": True, "away": False}
        assert run.usage == result.usage
        for erased in (False, True):
            if erased:
                storage.erase_run("s1", 1)
            total = index.usage(user_id=ANY_USER).total
            assert total.usage.input_tokens == result.usage.input_tokens > run.own_usage.input_tokens
            assert index.usage(user_id=ANY_USER, by="session").total.usage == total.usage
            assert sum(row.runs for row in index.usage(user_id=ANY_USER, by="agent").rows) == 3  # nobody's twice


async def test_a_member_that_is_cancelled_with_its_team(server: ModelServer, storage: SqliteStorage) -> None:
    async with MemoryStorage() as other:
        team = team_of(server, member(server, "poet", storage=other), storage=storage, session_id="s1")
        server.plan("ok", "hang")
        task = asyncio.ensure_future(team.arun(ask("poet", FRANCE)))
        await asyncio.to_thread(server.wait_for_hanging, 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        (run,), (own,) = await storage.aruns("s1"), await other.aruns(own_session(other, "s1/poet"))
        assert (run.status, tree(run), own.status) == ("interrupted", [("poet", "interrupted", None)], "interrupted")
