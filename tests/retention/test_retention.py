"""What policies take and what they leave; and that what is gone stands in no file."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sessile import ANY_USER, JsonStorage, MemoryStorage, SqliteStorage, YamlStorage
from sessile.drivers.memory import MemoryDriver
from sessile.errors import HeldError, InvalidInputError, RunNotFoundError, UnsupportedError
from sessile.retention import Policy, erase_user, retain
from sessile.storage import Storage
from sessile.storage.cache import keep_result
from sessile.storage.extending import operate
from sessile.storage.vocabulary import ResultKept

SECRET = "walrus-7731"


@pytest.fixture
def storage() -> Any:
    with MemoryStorage() as one:
        yield one


def talk(storage: Storage, session_id: str, runs: int, **given: Any) -> None:
    for number in range(1, runs + 1):
        storage.add_run(
            session_id,
            input=f"{SECRET} in {number}",
            output=f"{SECRET} out {number}",
            messages=[{"role": "user", "content": f"{SECRET} said {number}"}],
            format="mine",
            **given,
        )


def aged(storage: Storage, seconds: float) -> None:
    """Let the storage's clock be ahead of what was written."""

    async def later(core: Any) -> None:
        driver, clock = core.driver, core.driver.now

        async def now(deadline: Any) -> int:
            return await clock(deadline) + int(seconds * 1_000_000)

        driver.now = now

    operate(storage, later)


def test_old_sessions_go(storage: Storage) -> None:
    talk(storage, "chat", 1, user_id="ada", agent="support")
    talk(storage, "rated", 1, user_id="ada", agent="support")
    talk(storage, "other", 1, agent="coder")
    storage.rate("rated", 1, score=1.0, label="spam", user_id="ada")
    aged(storage, 86400 * 91)
    policies = [Policy(keep="90d", agent="support", spare_rated=True)]
    planned = retain(storage, policies, dry_run=True)
    assert list(planned.deleted) == ["chat"]
    assert planned.dry_run
    assert storage.get_session("chat", user_id="ada") is not None
    done = retain(storage, policies)
    assert done.deleted == planned.deleted
    assert {one.session_id for one in storage.sessions(user_id=ANY_USER)} == {"rated", "other"}
    assert not retain(storage, policies).deleted
    assert list(retain(storage, [Policy(keep=timedelta(days=1), label="spam")]).deleted) == ["rated"]
    assert not retain(storage, [Policy(keep="2y"), Policy(keep="90d", user_id="ada")]).deleted
    assert list(retain(storage, [Policy(keep="90d", kind="agent")]).deleted) == ["other"]


def test_a_long_session_is_trimmed(storage: Storage) -> None:
    talk(storage, "chat", 5, state={"n": 1})
    storage.rate("chat", 2, score=1.0)
    policy = Policy(runs=2, spare_rated=True)
    assert retain(storage, [policy], dry_run=True).trimmed == {"chat": 3}
    assert len(storage.runs("chat")) == 5
    before = storage.get_session("chat")
    assert retain(storage, [policy]).trimmed == {"chat": 3}
    assert [run.number for run in storage.runs("chat")] == [4, 5]
    assert [message.run for message in storage.messages("chat")] == [4, 5]
    logged = json.dumps([entry.data for entry in storage.entries("chat")])
    assert f"{SECRET} said 1" not in logged
    assert f"{SECRET} in 3" not in logged
    assert f"{SECRET} said 2" in logged  # it was rated
    assert f"{SECRET} said 4" in logged
    storage.verify("chat")
    after = storage.get_session("chat")
    assert before is not None
    assert after is not None
    assert (before.trimmed, after.trimmed, after.state) == (0, 3, {"n": 1})
    assert not retain(storage, [policy]).trimmed
    for back in (lambda: storage.rewind("chat", at=2), lambda: storage.fork("chat", at=3)):
        with pytest.raises(RunNotFoundError, match="was removed"):
            back()
    talk(storage, "chat", 1)
    assert [run.number for run in storage.runs("chat")] == [4, 5, 6]
    forked = storage.fork("chat", session_id="copy")
    assert [run.input for run in storage.runs(forked.session_id)] == [f"{SECRET} in {number}" for number in (4, 5, 1)]
    assert storage.verify("copy")


def test_branches_that_were_left_go(storage: Storage) -> None:
    talk(storage, "chat", 3)
    storage.rewind("chat", at=1)
    talk(storage, "chat", 1)
    policy = Policy(branches=True)
    assert retain(storage, [policy], dry_run=True).branches == {"chat": [2, 3]}
    assert retain(storage, [policy]).branches == {"chat": [2, 3]}
    logged = json.dumps([entry.data for entry in storage.entries("chat")])
    assert f"{SECRET} said 3" not in logged
    assert logged.count(f"{SECRET} said 1") == 2
    assert not retain(storage, [policy]).branches
    storage.verify("chat")


def test_a_dry_run_says_what_the_policies_do_together(storage: Storage) -> None:
    """Whatever their order; and nothing twice, nor what is gone already."""
    for name in ("old", "chat"):
        talk(storage, name, 6, agent=name)
        storage.rewind(name, at=4)
        talk(storage, name, 1)  # run 7, after 4; 5 and 6 are left
    aged(storage, 86400 * 91)
    old = Policy(keep="90d", agent="old")
    policies = [Policy(branches=True), Policy(runs=3), Policy(runs=1), Policy(branches=True), old]
    before = {name: storage.entries(name, limit=1000) for name in ("old", "chat")}
    planned = retain(storage, policies, dry_run=True)
    assert {name: storage.entries(name, limit=1000) for name in ("old", "chat")} == before
    done = retain(storage, policies)
    assert list(planned.deleted) == list(done.deleted) == ["old"]
    assert planned.trimmed == done.trimmed == {"chat": 4}
    assert planned.branches == done.branches == {"chat": [5, 6]}
    again = retain(storage, policies, dry_run=True)
    assert (again.deleted, again.trimmed, again.branches) == ({}, {}, {})


def test_a_dry_run_says_what_cannot_be_done() -> None:
    driver = MemoryDriver()
    driver.capabilities = replace(driver.capabilities, rewrites=False)
    with Storage(driver) as storage:
        talk(storage, "long", 3)
        talk(storage, "left", 3)
        storage.rewind("left", at=1)
        policies = [Policy(runs=2), Policy(branches=True)]
        for dry_run in (True, False):
            done = retain(storage, policies, dry_run=dry_run)
            assert {name: type(error) for name, error in done.skipped.items()} == dict.fromkeys(
                ("long", "left"), UnsupportedError
            )
            assert (done.trimmed, done.branches) == ({}, {})


def test_what_outlives_sessions_goes_where_its_kind_is_named(storage: Storage) -> None:
    talk(storage, "chat", 1, user_id="ada")
    storage.scope(user_id="ada").update({"plan": "pro"})
    storage.memories(user_id="ada").add("likes tea")
    aged(storage, 86400 * 91)
    assert list(retain(storage, [Policy(keep="90d")]).deleted) == ["chat"]
    assert len(retain(storage, [Policy(keep="90d", kind="memories")], dry_run=True).deleted) == 1
    assert len(storage.memories(user_id="ada").all()) == 1
    assert len(retain(storage, [Policy(keep="90d", kind="memories")]).deleted) == 1
    assert storage.memories(user_id="ada").all() == []
    assert storage.scope(user_id="ada").state() == {"plan": "pro"}
    assert len(retain(storage, [Policy(keep="90d", kind="scope")]).deleted) == 1
    assert storage.scope(user_id="ada").state() == {}


def test_what_is_held_stays(storage: Storage) -> None:
    talk(storage, "chat", 3, user_id="ada")
    storage.set_ttl("chat", 60, user_id="ada")
    assert storage.hold("chat", "case 7", user_id="ada").hold == "case 7"
    aged(storage, 86400)
    done = retain(storage, [Policy(keep="1h", runs=1, branches=True)])
    assert done.held == {"chat": "case 7"}
    assert not done.deleted
    storage.sweep()
    for refused in (
        lambda: storage.delete("chat", user_id="ada"),
        lambda: storage.delete_user("ada"),
        lambda: storage.erase_run("chat", 1, user_id="ada"),
    ):
        with pytest.raises(HeldError, match="case 7"):
            refused()
    report = erase_user(storage, "ada")
    assert (report.complete, report.left, report.held) == (False, ["chat"], {"chat": "case 7"})
    talk(storage, "chat", 1, user_id="ada")
    storage.verify("chat", user_id="ada")
    assert storage.release("chat", user_id="ada").hold is None
    assert erase_user(storage, "ada").complete


async def test_asynchronous_callers(storage: Storage) -> None:
    await storage.aadd_run("chat", input="x")
    assert (await storage.ahold("chat", "case 7")).hold == "case 7"
    assert (await storage.arelease("chat")).hold is None


@pytest.mark.parametrize("wrong", [{}, {"keep": "soon"}, {"keep": -1}, {"runs": 0}, {"keep": "1d", "kind": ""}])
def test_wrong_policies(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        Policy(**wrong)


def test_no_policy(storage: Storage) -> None:
    with pytest.raises(InvalidInputError):
        retain(storage, [])


# ---------------------------------------------------------------- nothing is left


def on_disk(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


@pytest.mark.parametrize("kind", [SqliteStorage, JsonStorage, YamlStorage])
def test_a_user_that_was_erased_stands_in_no_file(tmp_path: Path, kind: type[Any]) -> None:
    path = tmp_path / ("sessions.db" if kind is SqliteStorage else "sessions")
    with kind(path) as storage:
        talk(storage, "chat", 3, user_id="ada", state={"word": SECRET})
        storage.rename("chat", SECRET, user_id="ada")
        storage.for_user("ada").add_run("own", input=SECRET)
        operate(storage, keep_result, "sessile:kept:1", ResultKept(name="step", output=SECRET), 3600.0, user_id="ada")
        talk(storage, "other", 1, user_id="bob")
        if kind is SqliteStorage:
            assert storage.index().search("walrus", user_id="ada")
        assert on_disk(tmp_path).count(SECRET.encode()) > 5
        report = erase_user(storage, "ada")
        assert report.complete
        assert sorted(one.kind for one in report.sessions) == ["agent", "agent", "cache"]
        assert json.loads(json.dumps(report.to_json()))["complete"] is True
        assert erase_user(storage, "bob").complete
        if kind is SqliteStorage:
            assert not storage.index().search("walrus", user_id=ANY_USER)
            storage.index().compact()
    if kind is SqliteStorage:
        assert "VACUUM" in report.compaction
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    found = on_disk(tmp_path)
    assert SECRET.encode() not in found
    assert b"walrus" not in found


@pytest.mark.parametrize("kind", [SqliteStorage, JsonStorage, YamlStorage])
def test_what_was_trimmed_or_erased_stands_in_no_file(tmp_path: Path, kind: type[Any]) -> None:
    path = tmp_path / ("sessions.db" if kind is SqliteStorage else "sessions")
    with kind(path) as storage:
        talk(storage, "chat", 4)
        retain(storage, [Policy(runs=2)])
        storage.erase_run("chat", 3)
        storage.verify("chat")
    if kind is SqliteStorage:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    found = on_disk(tmp_path)
    for number in (1, 2, 3):
        assert f"{SECRET} said {number}".encode() not in found
        assert f"{SECRET} out {number}".encode() not in found
    assert f"{SECRET} said 4".encode() in found
