"""Backups put back, and files removed, while runs are at work: nothing is acknowledged that is lost."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Tool
from pydantic_ai.models.test import TestModel

from sessile import Agent, Context, MemoryStorage, SqliteStorage, Storage, Team, session_state, workflow
from sessile.drivers import sqlite
from sessile.errors import CorruptDataError, NotStoredError, StepFailedError, StorageError
from sessile.storage import turns
from sessile.storage.extending import operate
from sessile.storage.snapshots import Draft
from sessile.storage.vocabulary import RunEnded

from .helpers import end, start, texts


def backup(storage: Storage) -> Any:
    """What puts the storage back to what it is now."""
    driver: Any = storage._core.driver  # type: ignore[union-attr]
    before = {name: (one.head, list(one.log)) for name, one in driver._sessions.items()}

    def put_back() -> None:
        for name, (head, log) in before.items():
            driver._sessions[name].head, driver._sessions[name].log[:] = head, log

    return put_back


@pytest.mark.parametrize("others", [0, 1, 3])
def test_a_run_whose_start_is_gone_is_stored_whole_under_a_new_number(
    others: int, caplog: pytest.LogCaptureFixture
) -> None:
    with MemoryStorage() as storage:
        storage.add_run("s", output="before")
        put_back = backup(storage)
        storage.rename("s", "a commit, so that revisions differ")
        turn = start(storage)
        put_back()
        for number in range(others):
            storage.add_run("s", output=f"after {number}")
        with pytest.raises(turns.StartLostError):
            end(storage, turn, "answer", state=[["set", ["k"], 1]])
        end(storage, turn, "answer", state=[["set", ["k"], 1]])
        run = storage.get_run("s", 2 + others)
        assert (run.run_id, run.status, run.input, texts(run.messages)) == ("r", "completed", "input of r", ["answer"])
        assert run.started_us < storage.entries("s")[-1].time_us
        assert storage.get_session("s").state == {"k": 1}  # type: ignore[union-attr]
        assert turn.number == 2 + others
        assert storage.verify("s")
    assert "stored whole, under a new number" in caplog.text


def test_a_run_that_others_have_forgotten_is_not_taken_for_lost() -> None:
    """The head remembers only the newest interrupted runs; the log has all of them."""
    with MemoryStorage(lease=0.001) as storage:
        turn = start(storage)
        for number in range(20):
            start(storage, run_id=f"crashed {number}")
        end(storage, turn, "late answer")
        assert texts(storage.get_run("s", 1).messages) == ["late answer"]


@pytest.mark.parametrize("durability", ["run", "step"])
def test_an_agent_reports_no_run_that_is_stored_nowhere(durability: Any) -> None:
    def spoil() -> str:
        "spoil"
        session_state()["kept"] = True
        put_back()
        return "spoiled"

    with MemoryStorage() as storage:
        Agent(TestModel(call_tools=[]), storage=storage, session_id="s").run("before")
        put_back = backup(storage)
        agent = Agent(TestModel(), storage=storage, session_id="s", tools=[spoil], durability=durability, history=None)
        result = agent.run("now")
        stored = storage.get_run("s", result.number)
        assert (stored.status, stored.input, stored.output) == ("completed", "now", result.output)
        assert [message.data["kind"] for message in stored.messages] == ["request", "response"] * 2
        assert storage.get_session("s").state == {"kept": True}  # type: ignore[union-attr]
        assert storage.verify("s")


@pytest.mark.parametrize("by", ["member", "leader"])
@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.parametrize("durability", ["run", "step", "exit"])
def test_a_teams_run_is_stored_whole_with_its_members(durability: Any, before: int, by: str) -> None:
    """Those that had ended, and those that were at work."""

    async def work() -> str:
        session_state()["worked"] = True
        if by == "member":
            put_back()
        return "worked"

    async def spoil() -> str:
        if by == "leader":
            put_back()
        return "spoiled"

    with MemoryStorage() as storage:
        storage.create_session("s", kind="team")
        for _ in range(before):
            storage.add_run("s", output="before")
        put_back = backup(storage)
        team = Team(
            [Agent(TestModel(), name="worker", tools=[work])],
            TestModel(),
            name="team",
            tools=[spoil],
            storage=storage,
            durability=durability,
            history=None,
        )
        result = team.run("now", session_id="s")
        stored = storage.get_run("s", result.number)
        assert (stored.number, stored.status, stored.input, stored.output) == (
            before + 1,
            "completed",
            "now",
            result.output,
        )
        (member,) = stored.children
        assert (member.agent, member.status, member.output) == ("worker", "completed", '{"work":"worked"}')
        assert [message.data["kind"] for message in member.messages] == ["request", "response"] * 2
        assert [message.data["kind"] for message in stored.messages] == ["request", "response"] * 2
        assert storage.get_session("s").state == {"worked": True}  # type: ignore[union-attr]
        assert storage.verify("s")


@pytest.mark.parametrize("durability", ["run", "step"])
def test_a_run_that_was_taken_over_is_stored_whole_with_what_it_had_said(durability: Any) -> None:
    def pay() -> str:
        put_back()
        return "paid"

    with MemoryStorage() as storage:
        storage.create_session("s")
        put_back = backup(storage)
        tool = Tool(pay, requires_approval=True)
        agent = Agent(TestModel(), storage=storage, session_id="s", tools=[tool], durability=durability)
        paused = agent.run("please", run_metadata={"ticket": 7})
        assert paused.pending is not None
        result = agent.resume(approvals={paused.pending.approvals[0].tool_call_id: True})
        run = storage.get_run("s", result.number)
        assert (run.status, run.input, run.output) == ("completed", "please", '{"pay":"paid"}')
        assert run.metadata == {"ticket": 7}
        assert [message.data["kind"] for message in run.messages] == ["request", "response"] * 2
        assert run.usage == result.usage
        assert run.usage.requests == 2  # that of before the pause, too
        assert storage.verify("s")


def test_what_became_of_calls_is_stored_again_so_that_none_is_executed_twice() -> None:
    with MemoryStorage() as storage:
        storage.create_session("s")
        put_back = backup(storage)

        def first() -> str:
            return "one"

        def second() -> str:
            put_back()
            return "two"

        tools = [Tool(first, sequential=True), Tool(second, sequential=True)]
        agent = Agent(TestModel(), storage=storage, session_id="s", tools=tools, durability="step")
        result = agent.run("please")
        run = storage.get_run("s", result.number)
        response = next(message.seq for message in run.messages if message.data["kind"] == "response")
        calls = [(step.kind, step.data["tool_name"]) for step in run.steps if step.kind.startswith("tool.")]
        kinds = ("tool.started", "tool.ended")
        assert calls == [(kind, name) for name in ("first", "second") for kind in kinds]
        assert all(step.seq >= response for step in run.steps)


@pytest.mark.parametrize("at_the_end", [False, True])
def test_a_workflows_run_is_stored_whole_with_its_steps(at_the_end: bool) -> None:
    """Also those of an earlier attempt; what has finished is not done again."""
    done: list[str] = []

    def first() -> int:
        done.append("first")
        return 1

    def second() -> int:
        done.append("second")
        if done.count("second") == 1:
            raise ValueError("not yet")
        if not at_the_end:
            put_back()
        return 2

    with MemoryStorage() as storage:
        storage.create_session("s", kind="workflow")
        put_back = backup(storage)
        helper = Agent(TestModel(custom_output_text="said"), name="helper")

        @workflow(storage=storage)
        async def work(ctx: Context, n: int) -> int:
            total = await ctx.step(first) + await ctx.step(second)
            ctx.state["asked"] = await ctx.step(helper, "hello")
            if at_the_end:
                put_back()
            return total + n

        with pytest.raises(StepFailedError, match="not yet"):
            work.run(3, session_id="s")
        storage.rename("s", "a commit, so that revisions differ")
        result = work.resume("s")
        assert (result.output, done) == (6, ["first", "second", "second"])
        run = storage.get_run("s", result.number)
        assert (run.status, run.input, run.output) == ("completed", {"n": 3}, 6)
        (child,) = run.children
        assert (child.agent, child.output, len(child.messages)) == ("helper", "said", 2)
        assert [entry.data["name"] for entry in run.steps if entry.kind == "step.finished"] == [
            "first",
            "second",
            "helper",
        ]
        assert storage.get_session("s").state == {"asked": "said"}  # type: ignore[union-attr]
        assert storage.verify("s")


def test_verify_names_an_end_without_a_start(memory: MemoryStorage) -> None:
    memory.add_run("s")
    turn = start(memory)
    turn.number, turn.spec.run_id = 7, "never begun"

    async def stray(core: Any) -> None:
        async def change(snapshot: Any) -> Any:
            return Draft([turn.entry(RunEnded(status="completed"))], 7)

        await core.commit("s", None, change, core.deadline())

    operate(memory, stray)
    with pytest.raises(CorruptDataError, match="Commit 3 ends run 7, whose start is not in the log"):
        memory.verify("s")


# ---------------------------------------------------------------- SQLite's file


def copy_of(path: Path) -> Path:
    """A backup of a database in use."""
    copy = path.with_name("backup.db")
    copy.unlink(missing_ok=True)
    with sqlite3.connect(path) as connection:
        connection.execute("VACUUM INTO ?", (str(copy),))
    return copy


def remove(path: Path) -> None:
    for name in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        name.unlink(missing_ok=True)


def test_a_removed_file_takes_no_more_runs(path: Path) -> None:
    with SqliteStorage(path) as storage:
        storage.add_run("s", output="before")
        copy = copy_of(path)
        remove(path)
        for write in (lambda: storage.add_run("s"), lambda: storage.rename("s", "x"), lambda: storage.delete("s")):
            with pytest.raises(StorageError, match="is gone"):
                write()
        assert not path.exists(), "nothing is made in its place"
        shutil.move(copy, path)
        assert storage.add_run("s", output="after").number == 2
    with SqliteStorage(path) as again:
        assert [run.output for run in again.runs("s")] == ["before", "after"]


def test_a_replaced_file_has_all_that_is_acknowledged(path: Path) -> None:
    with SqliteStorage(path) as storage:
        storage.add_run("s", output="before")
        copy = copy_of(path)
        storage.add_run("s", output="lost with the backup that was put back")
        os.replace(copy, path)
        for suffix in ("-wal", "-shm"):
            Path(f"{path}{suffix}").unlink(missing_ok=True)
        assert storage.add_run("s", output="after").number == 2
        assert [run.output for run in storage.runs("s")] == ["before", "after"]
        assert storage.stats()["reconnects"] == 1
    with SqliteStorage(path) as again:
        assert [run.output for run in again.runs("s")] == ["before", "after"]


def test_a_file_that_is_replaced_during_a_commit(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with SqliteStorage(path) as storage:
        storage.add_run("s", output="before")
        copy = copy_of(path)

        commit = sqlite.commit

        def replacing(connection: sqlite3.Connection) -> None:
            commit(connection)
            if copy.exists():
                os.replace(copy, path)
                for suffix in ("-wal", "-shm"):
                    Path(f"{path}{suffix}").unlink(missing_ok=True)

        monkeypatch.setattr(sqlite, "commit", replacing)
        assert storage.add_run("s", output="after").number == 2
    with SqliteStorage(path) as again:
        assert [run.output for run in again.runs("s")] == ["before", "after"]


def test_a_turn_over_a_backup_that_is_put_back(path: Path) -> None:
    def spoil() -> str:
        "spoil"
        remove(path)
        shutil.copy(copy, path)
        return "spoiled"

    with SqliteStorage(path) as storage:
        storage.add_run("s", output="before")
        copy = copy_of(path)
        result = Agent(TestModel(), storage=storage, session_id="s", tools=[spoil]).run("now")
        assert storage.get_run("s", result.number).output == result.output
        assert storage.verify("s")


def test_a_session_that_a_backup_does_not_have(path: Path) -> None:
    with SqliteStorage(path) as storage:
        storage.setup()
        copy = copy_of(path)

        def spoil() -> str:
            "spoil"
            remove(path)
            shutil.copy(copy, path)
            return "spoiled"

        with pytest.raises(NotStoredError) as caught:
            Agent(TestModel(), storage=storage, session_id="s", tools=[spoil]).run("now")
        assert "spoiled" in caught.value.result.output
