"""Places where two features meet: branches and running turns, folders and files, forks in the making, closing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from sessile import MemoryStorage, SqliteStorage, Storage
from sessile.errors import AlreadyExistsError, InvalidInputError, NotResumableError
from sessile.records import Entry
from sessile.storage import fold, media, taking, turns, vocabulary
from sessile.storage.core import Core
from sessile.storage.extending import operate
from sessile.storage.faces import step
from sessile.storage.snapshots import Draft
from sessile.storage.turns import TurnSpec
from sessile.storage.vocabulary import RunEnded
from sessile.storage.writes import creation

from .helpers import driver_of, end, start


def change_state(storage: Storage, turn: turns.Turn, patch: list[Any]) -> None:
    operate(storage, turns.end_turn, turn, [], RunEnded(status="completed"), patch)


def test_two_runs_that_add_to_the_same_empty_object_both_win() -> None:
    from sessile.storage.patch import diff

    with MemoryStorage() as storage:
        storage.create_session("s", state={"cart": {}})
        one, two = start(storage, run_id="one"), start(storage, run_id="two")
        change_state(storage, one, diff({"cart": {}}, {"cart": {"apple": 1}}))
        change_state(storage, two, diff({"cart": {}}, {"cart": {"pear": 2}}))
        assert storage.get_session("s").state == {"cart": {"apple": 1, "pear": 2}}


def test_a_run_that_a_rewind_has_left_does_not_change_the_branch_that_goes_on() -> None:
    with MemoryStorage() as storage:
        storage.add_run("s", state={"topic": "one"})
        left = start(storage, run_id="left")
        storage.rewind("s", at=1)
        change_state(storage, left, [["set", ["topic"], "left behind"]])
        assert storage.get_session("s").state == {"topic": "one"}
        assert storage.get_run("s", 2).status == "completed"
        assert storage.fork("s", at=1).state == {"topic": "one"}


def test_resuming_takes_no_run_of_a_branch_that_was_left() -> None:
    with MemoryStorage() as storage:
        storage.add_run("s")
        paused = start(storage, run_id="paused")
        operate(storage, turns.end_turn, paused, [], RunEnded(status="paused", pending={}), [])
        storage.rewind("s", at=1)
        with pytest.raises(NotResumableError):
            operate(storage, taking.take_turn, TurnSpec("s", "x", None), None, 3, lambda turn, run: [])
        operate(storage, taking.take_turn, TurnSpec("s", "x", None), 2, 3, lambda turn, run: [])


def test_a_fork_copies_finished_runs_only_also_beside_notes_of_interrupted_ones(tmp_path: Path) -> None:
    with SqliteStorage(tmp_path / "s.db", lease=0.001) as storage:
        storage.add_run("s")
        slow = start(storage, run_id="slow")
        storage.rewind("s", at=1)
        quick = start(storage, run_id="quick")  # notes that the slow one's process is gone
        end(storage, quick)
        end(storage, slow)
        copy = storage.fork("s", session_id="copy")
        assert [run.run_id for run in storage.runs("copy")][1:] == ["quick"]
        assert copy.run_count == 2
        storage.verify("copy")


def test_runs_are_found_by_an_index_however_long_the_session_is(tmp_path: Path) -> None:
    with SqliteStorage(tmp_path / "s.db") as storage:
        storage.add_run("s")
        connection = driver_of(storage)._writer
        statements: list[str] = []
        connection.set_trace_callback(statements.append)
        storage.get_run("s", 1)
        connection.set_trace_callback(None)
        (asked,) = (text for text in statements if "FROM sessile_commits" in text)
        plan = " ".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {asked}"))
        assert "sessile_commits_run (session_id=? AND incarnation=? AND run=? AND seq>? AND seq<?)" in plan
        assert "B-TREE" not in plan  # a long run is not sorted anew for each page of it


def test_a_process_that_changes_its_folder_stays_with_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with SqliteStorage("s.db") as storage:
        storage.add_run("s")
        monkeypatch.chdir(tmp_path / "elsewhere")
        assert storage.sessions().items[0].session_id == "s"
    assert os.listdir(tmp_path / "elsewhere") == []


@pytest.mark.parametrize("path", [None, 5, b"x.db", ""])
def test_a_path_is_text_or_a_path(path: Any) -> None:
    with pytest.raises(InvalidInputError):
        SqliteStorage(path)


CLOSE_WHILE_READING = """
import sys, threading
from sessile import SqliteStorage
from sessile.errors import ClosedError

storage = SqliteStorage(sys.argv[1])
for number in range(20):
    storage.add_run("s", output="x" * 2000)
reading = threading.Barrier(7)

def read():
    reading.wait()
    try:
        while True:
            storage.runs("s")
            storage.count_sessions(metadata={"a": 1})
    except ClosedError:
        pass

threads = [threading.Thread(target=read) for _ in range(6)]
for thread in threads:
    thread.start()
reading.wait()
storage.close()
for thread in threads:
    thread.join()
print("closed")
"""


def test_closing_while_other_threads_read(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CLOSE_WHILE_READING, str(tmp_path / "s.db")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "closed"), done.stderr


def test_an_id_that_a_fork_is_making_is_told_at_once() -> None:
    with MemoryStorage() as storage:
        storage.create_session("other")
        core: Core = storage._core
        made = creation(core, "taken", user_id=None, agent=None, hidden="building")
        step(core.append_batch(None, "taken", [Draft([made()])], core.deadline()))
        for write in (storage.create_session, storage.add_run, lambda key: storage.fork("other", session_id=key)):
            with pytest.raises(AlreadyExistsError, match="A fork is making"):
                write("taken")
        assert storage.get_session("taken") is None


def test_the_arguments_of_a_tool_call_are_never_taken_for_media() -> None:
    arguments = {"kind": "binary", "media_type": "x/y", "data": "aGVsbG8="}
    call = {"part_kind": "tool-call", "args": arguments}

    async def read(digest: str) -> bytes:
        raise AssertionError(digest)

    assert media.put_aside({"parts": [call]}, 0) == ({"parts": [call]}, {})
    assert step(media.put_back({"parts": [call]}, read)) == {"parts": [call]}


def test_a_run_whose_session_expires_meanwhile_brings_it_back(monkeypatch: pytest.MonkeyPatch) -> None:
    with MemoryStorage(ttl=1) as storage:
        turn = start(storage, run_id="long")
        while storage.get_session("s") is not None:
            time.sleep(0.01)
        end(storage, turn)
        assert [run.run_id for run in storage.runs("s")] == ["long"]


def test_a_head_keeps_only_the_newest_paused_and_interrupted_runs() -> None:
    head = fold.fold(None, 1, 1, [Entry("session.created", {"session_id": "s", "incarnation": "i", "kind": "agent"})])
    for number in range(1, 201):
        status = "paused" if number % 2 else "interrupted"
        common: dict[str, Any] = {"run_id": f"r{number}", "run": number}
        entries = [Entry("run.started", {}, **common), Entry("run.ended", {"status": status}, **common)]
        head = fold.fold(head, number + 1, number, entries)
    kept = [run.status for run in head.open_runs.values()]
    assert (kept.count("paused"), kept.count("interrupted")) == (vocabulary.KEPT_PAUSED, vocabulary.KEPT_INTERRUPTED)
    assert head.open_runs.keys() >= {199, 200}
