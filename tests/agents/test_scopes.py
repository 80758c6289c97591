"""State that outlives a session: a user's and an application's, in tools, instructions, teams and workflows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent as PydanticAgent
from pydantic_ai.models.openai import OpenAIChatModel
from tests.agents.helpers import turns
from tests.model_server import ModelServer
from tests.storage.helpers import Tapped

import sessile
from sessile import (
    ANY_USER,
    Agent,
    MemoryStorage,
    SessionCapability,
    SqliteStorage,
    Storage,
    Team,
    app_state,
    session_state,
    temp_state,
    user_state,
    workflow,
)
from sessile.drivers.memory import MemoryDriver
from sessile.drivers.sqlite import SqliteDriver
from sessile.errors import InvalidInputError, SessileError, StorageUnavailableError, TooLargeError
from sessile.redaction import Patterns
from sessile.transfer import copy, export_archive, import_archive

BOTH = ("user", "app")


def put(key: str, value: Any) -> str:
    """Set a key of the user's state."""
    user_state()[key] = value
    return "done"


def put_app(key: str, value: Any) -> str:
    """Set a key of the application's state."""
    app_state()[key] = value
    return "done"


def count() -> int:
    """Count up in the user's state."""
    user_state()["n"] = user_state().get("n", 0) + 1
    return user_state()["n"]


def test_a_users_state_is_the_same_in_all_sessions(
    model: OpenAIChatModel, storage: SqliteStorage, server: ModelServer
) -> None:
    agent = Agent(
        model,
        storage=storage,
        scopes=BOTH,
        tools=[put, put_app, count],
        instructions="Plan {user:plan}; theme {app:theme.name}; {user:unknown} stays.",
    )
    agent.run('call put {"key": "plan", "value": "pro"}\nthen call count {}', session_id="s1", user_id="ada")
    agent.run('call put_app {"key": "theme", "value": {"name": "dark"}}', session_id="s2", user_id="bob")
    agent.run("Hello", session_id="s3", user_id="ada")
    assert turns(server)[0][1] == "Plan pro; theme dark; {user:unknown} stays."
    assert agent.run("call count {}", session_id="s3", user_id="ada").output == "Tool results: count=2"
    assert storage.scope(user_id="ada").state() == {"plan": "pro", "n": 2}
    assert storage.scope(user_id="bob").state() == {}
    assert storage.scope().state() == {"theme": {"name": "dark"}}
    assert [one.state for one in storage.sessions(user_id="ada", with_state=True)] == [{}, {}]
    for name in ("s1", "s2", "s3"):
        assert storage.verify(name, user_id=ANY_USER)
    for one in storage.scopes():
        assert storage.verify(one.session_id, user_id=ANY_USER)


def test_it_stands_among_the_sessions_state(model: OpenAIChatModel, storage: SqliteStorage) -> None:
    def change() -> None:
        state = session_state()
        state["user:plan"], state["own"] = "pro", 1
        mine = user_state()
        assert dict(mine) == {"plan": "pro"}
        assert "plan" in mine
        assert len(mine) == 1
        mine["draft"] = {"a": [1]}
        mine["draft"]["a"].append(2)
        mine.pop("plan")
        with pytest.raises(KeyError):
            mine["plan"]

    agent = Agent(model, storage=storage, scopes="user", tools=[change])
    result = agent.run("call change {}", session_id="s", user_id="ada")
    assert result.state == {"user:draft": {"a": [1, 2]}, "own": 1}
    assert storage.scope(user_id="ada").state() == {"draft": {"a": [1, 2]}}


def test_temporary_state_is_not_stored(model: OpenAIChatModel, storage: SqliteStorage, server: ModelServer) -> None:
    def first() -> None:
        temp_state()["handle"] = object()
        temp_state()["word"] = "blue"

    def second() -> str:
        return type(temp_state()["handle"]).__name__

    agent = Agent(model, storage=storage, instructions="It is {temp:word}.", tools=[first, second], durability="step")
    result = agent.run("call first {}\nthen call second {}", session_id="s")
    assert "second=object" in result.output
    assert turns(server)[0][1] == "It is blue."
    assert result.state == {}
    assert "blue" not in "".join(str(entry.data) for entry in storage.entries("s"))
    agent.run("Hello", session_id="s")
    assert turns(server)[0][1] == "It is {temp:word}."


def test_members_share_it_with_their_team(model: OpenAIChatModel, storage: SqliteStorage) -> None:
    writer = Agent(model, name="writer", tools=[put], scopes=["user"])
    team = Team([writer], model=model, storage=storage, mode="route")
    team.run('call delegate_task {"member": "writer", "task": "call put {\\"key\\": \\"k\\", \\"value\\": 1}"}',
             session_id="s", user_id="ada")  # fmt: skip
    assert storage.scope(user_id="ada").state() == {"k": 1}


def test_a_capability_has_it(model: OpenAIChatModel, storage: SqliteStorage) -> None:
    agent = PydanticAgent(model, tools=[put], capabilities=[SessionCapability(storage, user_id="ada", scopes=["user"])])
    agent.run_sync('call put {"key": "k", "value": 1}', conversation_id="s")
    assert storage.scope(user_id="ada").state() == {"k": 1}


def test_steps_of_workflows_keep_it_with_their_results(storage: SqliteStorage) -> None:
    calls: list[str] = []

    def add(name: str) -> int:
        calls.append(name)
        user_state()["n"] = user_state().get("n", 0) + 1
        user_state().setdefault("first", name)
        return user_state()["n"]

    @workflow(storage=storage, scopes=BOTH)
    def twice(ctx: Any) -> list[int]:
        first = ctx.step(add, "a")
        approved = ctx.wait_for_event("go")
        return [first, ctx.step(add, approved)]

    paused = twice.run(session_id="w", user_id="ada")
    assert paused.status == "paused"
    assert storage.scope(user_id="ada").state() == {"n": 1, "first": "a"}
    storage.scope(user_id="ada").update({"other": 1, "first": "changed"})
    done = twice.send_event("w", "go", "b", user_id="ada")
    assert (done.output, calls) == ([1, 2], ["a", "b"])
    assert storage.scope(user_id="ada").state() == {"n": 2, "other": 1, "first": "changed"}


def test_a_paused_run_goes_on_with_it(model: OpenAIChatModel, storage: SqliteStorage) -> None:
    from pydantic_ai import Tool

    agent = Agent(model, storage=storage, scopes=BOTH, tools=[count, Tool(put, requires_approval=True)])
    run = agent.run('call count {}\nthen call put {"key": "k", "value": 1}', session_id="s", user_id="ada")
    assert run.status == "paused"
    assert storage.scope(user_id="ada").state() == {"n": 1}
    storage.scope(user_id="ada").update({"meanwhile": True})
    assert run.pending is not None
    agent.resume("s", user_id="ada", approvals={call.tool_call_id: True for call in run.pending.approvals})
    assert storage.scope(user_id="ada").state() == {"n": 1, "meanwhile": True, "k": 1}


# ---------------------------------------------------------------- crashes and races


def test_a_crash_between_the_two_commits_loses_nothing_and_does_nothing_twice(model: OpenAIChatModel) -> None:
    driver = Tapped(MemoryDriver())
    storage = Storage(driver)
    agent = Agent(model, storage=storage, scopes=BOTH, tools=[count, put_app])

    def down(write: Any, *_: Any) -> None:
        if write.session_id.startswith("sessile:scope:"):
            raise StorageUnavailableError("Down.", written="no", retryable=False)

    driver.before["append"] = down
    agent.run('call count {}\nthen call put_app {"key": "k", "value": 1}', session_id="s", user_id="ada")
    assert storage.scope(user_id="ada").state() == {}
    del driver.before["append"]
    assert len(storage.get_session("s", user_id="ada").scope_ids) == 1  # pyright: ignore[reportOptionalMemberAccess]
    agent.run("call count {}", session_id="other", user_id="ada")
    agent.run("Hello", session_id="s", user_id="ada")
    assert storage.scope(user_id="ada").state() == {"n": 1}, "the older change is written when its session is opened"
    assert storage.scope().state() == {"k": 1}
    storage.scope(user_id="ada").update({"n": 7})
    agent.run("Hello", session_id="s", user_id="ada")
    assert storage.scope(user_id="ada").state() == {"n": 7}
    assert storage.get_session("s", user_id="ada").scope_ids == []  # pyright: ignore[reportOptionalMemberAccess]


@pytest.mark.parametrize("view", [False, True])
def test_what_a_deleted_user_has_changed_is_not_written_again(
    model: OpenAIChatModel, tmp_path: Path, view: bool
) -> None:
    """The user is deleted after a run's own commit, and before what it has changed is written to the user's state."""
    driver = Tapped(SqliteDriver(str(tmp_path / "s.db"), "FULL"))
    with Storage(driver) as storage, SqliteStorage(tmp_path / "s.db") as other:
        agent = Agent(model, storage=storage, scopes=BOTH, tools=[count, put_app])
        agent = agent.for_user("ada") if view else agent
        deleted: list[int] = []

        def leave(write: Any, *_: Any) -> None:
            if write.session_id.startswith("sessile:scope:user") and not deleted:
                deleted.append(other.delete_user("ada"))

        driver.before["append"] = leave
        agent.run('call count {}\nthen call put_app {"key": "k", "value": 1}', session_id="s", user_id="ada")
        assert deleted == [1]
        assert not list(storage.scopes(user_id="ada"))
        assert other.delete_user("ada") == 0
        assert storage.scope().state() == {"k": 1}, "what is the application's stays"
        agent.run("call count {}", session_id="s", user_id="ada")
        assert storage.scope(user_id="ada").state() == {"n": 1}, "who comes again begins anew"


@pytest.mark.parametrize("lost", ["user", "app"])
def test_an_answer_that_is_lost_is_not_written_twice(model: OpenAIChatModel, lost: str) -> None:
    driver = Tapped(MemoryDriver())
    storage = Storage(driver)
    agent = Agent(model, storage=storage, scopes=BOTH, tools=[count, put_app])

    def lose(_: Any, write: Any, *__: Any) -> None:
        if write.session_id.startswith(f"sessile:scope:{lost}"):
            driver.after.pop("append")
            raise StorageUnavailableError("The answer is lost.", written="unknown")

    driver.after["append"] = lose
    agent.run('call count {}\nthen call put_app {"key": "k", "value": 1}', session_id="s", user_id="ada")
    agent.run("call count {}", session_id="s", user_id="ada")
    assert storage.scope(user_id="ada").state() == {"n": 2}
    ids = [entry.data["id"] for entry in _log(storage, "ada") if entry.kind == "scope.written"]
    assert len(ids) == len(set(ids)) == 2


def _log(storage: Storage, user_id: str | None) -> list[Any]:
    (one,) = storage.scopes(user_id=user_id)
    return list(storage.entries(one.session_id, user_id=ANY_USER))


WRITER = """
import sys
from sessile.storage import turns
from sessile.storage.extending import operate
from sessile.storage.turns import TurnSpec
from sessile.storage.vocabulary import RunEnded
import sessile, threading
storage = sessile.open(sys.argv[1])

def work(name):
    for number in range(4):
        async def turn(core):
            spec = TurnSpec(f"s{name}", f"{name}-{number}", "x", user_id="ada", scopes=("user",))
            turn = await turns.begin_turn(core, spec, 1)
            change = [["set", [f"user:{name}-{number}"], number]]
            await turns.end_turn(core, turn, [], RunEnded(status="completed"), change)
        operate(storage, turn)

threads = [threading.Thread(target=work, args=(f"{sys.argv[2]}.{one}",)) for one in range(4)]
[one.start() for one in threads]
[one.join() for one in threads]
"""


def test_many_writers_lose_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 's.db'}"
    sessile.open(url).setup()
    children = [subprocess.Popen([sys.executable, "-c", WRITER, url, str(number)]) for number in range(4)]
    assert [child.wait() for child in children] == [0] * 4
    with sessile.open(url) as storage:
        assert len(storage.scope(user_id="ada").state()) == 4 * 4 * 4


# ---------------------------------------------------------------- whose it is


def test_what_is_not_there_says_so(model: OpenAIChatModel, storage: SqliteStorage) -> None:
    errors: list[str] = []

    def look() -> None:
        for state in (user_state, app_state):
            try:
                state()
            except SessileError as error:
                errors.append(str(error))

    Agent(model, storage=storage, tools=[look]).run("call look {}", session_id="s", user_id="ada")
    assert 'scopes=["user"]' in errors[0]
    assert 'scopes=["app"]' in errors[1]
    errors.clear()
    Agent(model, storage=storage, tools=[look], scopes=["user"]).run("call look {}", session_id="t")
    assert "Pass user_id=" in errors[0]
    with pytest.raises(SessileError, match="There is no session here"):
        user_state()
    for wrong in (["users"], ["app:"], ["app", "app:x"], [3]):
        with pytest.raises(InvalidInputError):
            Agent(model, storage=storage, scopes=wrong)  # pyright: ignore[reportArgumentType]


def test_users_and_applications_are_kept_apart(model: OpenAIChatModel, storage: SqliteStorage) -> None:
    shop = Agent(model, storage=storage, scopes=["user", "app:shop"], tools=[put, put_app])
    shop.run('call put_app {"key": "k", "value": 1}', session_id="s", user_id="ada")
    shop.for_user("ada").run('call put {"key": "mine", "value": 1}', session_id="s")
    assert storage.scope(app="shop").state() == {"k": 1}
    assert storage.scope().state() == {}
    own = storage.for_user("ada")
    assert own.scope().state() == own.scope(user_id="ada").state() == {"mine": 1}
    assert [one.user_id for one in own.scopes()] == ["ada"]
    assert storage.for_user("bob").scope().state() == {}
    for call in (lambda: own.scope(app="shop").state(), lambda: own.scope(user_id="bob").state()):
        with pytest.raises(InvalidInputError):
            call()
    (scope,) = storage.scopes(user_id="ada")
    with pytest.raises(SessileError):
        storage.get_session(scope.session_id, user_id="ada")
    with pytest.raises(SessileError):
        storage.create_session("sessile:scope:user:x", user_id="ada")


def test_what_becomes_too_large_is_refused_and_the_run_is_kept(model: OpenAIChatModel) -> None:
    with MemoryStorage(max_state_bytes=100) as storage:
        agent = Agent(model, storage=storage, scopes=["user"], tools=[put])
        with pytest.raises(TooLargeError, match="The state of the user 'ada'"):
            agent.run(f'call put {{"key": "k", "value": "{"x" * 200}"}}', session_id="s", user_id="ada")
        assert [run.status for run in storage.runs("s", user_id="ada")] == ["completed"]
        with pytest.raises(TooLargeError):
            storage.scope(user_id="ada").update({"k": "x" * 200})
        assert storage.scope(user_id="ada").state() == {}


# ---------------------------------------------------------------- forks, copies, deletion


def test_forks_and_rewinds_do_not_change_it(model: OpenAIChatModel, storage: SqliteStorage) -> None:
    agent = Agent(model, storage=storage, scopes=["user"], tools=[count])
    agent.run("call count {}", session_id="s", user_id="ada")
    agent.run("call count {}", session_id="s", user_id="ada")
    storage.fork("s", session_id="f", user_id="ada")
    storage.rewind("s", at=1, user_id="ada")
    agent.run("call count {}", session_id="f", user_id="ada")
    assert storage.scope(user_id="ada").state() == {"n": 3}
    assert storage.verify("f", user_id="ada")


def test_it_is_copied_archived_and_deleted(model: OpenAIChatModel, storage: SqliteStorage, tmp_path: Path) -> None:
    agent = Agent(model, storage=storage, scopes=BOTH, tools=[count, put_app])
    agent.run('call count {}\nthen call put_app {"key": "k", "value": 1}', session_id="s", user_id="ada")
    archive = tmp_path / "all.jsonl.gz"
    export_archive(storage, archive)
    with MemoryStorage() as copied, MemoryStorage() as read:
        copy(storage, copied)
        import_archive(archive, read)
        for one in (copied, read):
            assert one.scope(user_id="ada").state() == {"n": 1}
            assert one.scope().state() == {"k": 1}
    assert storage.sweep() == 0
    assert storage.scope(user_id="ada").state() == {"n": 1}
    assert storage.delete_user("ada") == 2
    assert storage.scope(user_id="ada").state() == {}
    assert storage.scope().delete() is True
    assert storage.scope().delete() is False
    assert not list(storage.scopes())


def test_secrets_are_redacted_in_it(model: OpenAIChatModel) -> None:
    with MemoryStorage(redact=Patterns("mail", "key")) as storage:
        agent = Agent(model, storage=storage, scopes=["user"], tools=[put])
        agent.run('call put {"key": "k", "value": "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789ABCD"}',
                  session_id="s", user_id="ada")  # fmt: skip
        storage.scope(user_id="ada").update({"mail": "ada@example.com"})
        (scope,) = storage.scopes()
        said = [*storage.entries("s", user_id="ada"), *storage.entries(scope.session_id, user_id=ANY_USER)]
        for secret in ("abcdefghijklmnop", "ada@example"):
            assert not [entry for entry in said if secret in str(entry.data)]
            assert secret not in str(storage.scope(user_id="ada").state())
