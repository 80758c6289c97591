"""Leases: interrupted runs, renewing, cancelling, and taking a run over."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sessile import MemoryStorage, SqliteStorage, Storage
from sessile.drivers.memory import MemoryDriver
from sessile.errors import LeaseLostError, NotResumableError, RunNotFoundError, SessionNotFoundError
from sessile.records import Entry, Run
from sessile.storage import turns
from sessile.storage.extending import operate
from sessile.storage.turns import Turn
from sessile.storage.vocabulary import RunEnded

from .helpers import Tapped, append, crash, end, say, start, take, texts, wait_until

LONG, SHORT = 1000.0, 0.001


def renew(storage: Storage, turn: Turn) -> bool:
    return operate(storage, turns.renew_turn, turn)


@pytest.fixture(params=["memory", "sqlite"])
def processes(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """Makes storages over the same data, one per "process", each with a lease of its own."""
    driver = MemoryDriver()

    def process(lease: float) -> Storage:
        return (
            Storage(driver, lease=lease) if request.param == "memory" else SqliteStorage(tmp_path / "s.db", lease=lease)
        )

    made: list[Storage] = []

    def remembered(lease: float) -> Storage:
        made.append(process(lease))
        return made[-1]

    yield remembered
    for storage in made:
        storage.close()


# ---------------------------------------------------------------- leases


def test_a_run_whose_process_is_gone_is_interrupted_on_every_read(processes: Callable[[float], Storage]) -> None:
    storage = processes(SHORT)
    turn = crash(storage)
    head = storage.get_session("s")
    view = storage.get_session("s", last_runs=3)
    assert head is not None
    assert view is not None
    assert head.status == view.status == view.runs[0].status == storage.runs("s")[0].status == "interrupted"
    assert storage.runs("s", status="running") == []
    end(storage, turn, "it was only slow")
    assert storage.get_run("s", 1).status == "completed"


def test_member_runs_are_interrupted_with_the_run_above() -> None:
    with MemoryStorage(lease=SHORT) as storage:
        turn = start(storage)
        for member, ended in (("m1", True), ("m2", False)):
            entries = [Entry("run.started", {}, member, 1, "r")]
            if ended:
                entries.append(Entry("run.ended", {"status": "completed"}, member, 1, "r"))
            operate(storage, turns.append_to_turn, turn, entries)
        wait_until(lambda: storage.get_run("s", 1).status == "interrupted")
        assert [child.status for child in storage.get_run("s", 1).children] == ["completed", "interrupted"]


def test_renewing_keeps_a_run_alive_and_changes_no_revision(processes: Callable[[float], Storage]) -> None:
    short, long = processes(SHORT), processes(LONG)
    turn = crash(short)
    revision = storage_revision(long)
    assert renew(long, turn) is False
    assert long.get_run("s", 1).status == "running"
    assert storage_revision(long) == revision
    end(long, turn, "done")
    assert long.get_run("s", 1).status == "completed"


def storage_revision(storage: Storage) -> int:
    head = storage.get_session("s")
    assert head is not None
    return head.revision


def test_renewing_for_a_session_that_was_deleted(storage: Storage) -> None:
    turn = start(storage)
    storage.delete("s")
    with pytest.raises(LeaseLostError):
        renew(storage, turn)
    storage.create_session("s")
    with pytest.raises(LeaseLostError):
        renew(storage, turn)
    assert storage.verify("s") == 1


# ---------------------------------------------------------------- cancelling


def test_a_request_to_cancel_arrives_with_the_next_renewal(storage: Storage) -> None:
    one, two = start(storage, run_id="one"), start(storage, run_id="two")
    assert storage.cancel_run("s") is True
    assert (renew(storage, one), renew(storage, two)) == (False, True)
    assert storage.cancel_run("s", 1) is True
    assert renew(storage, one) is True
    end(storage, one, status="cancelled")
    assert storage.cancel_run("s", 1) is False
    assert storage.cancel_run("s", 99) is False
    end(storage, two)
    assert storage.cancel_run("s") is False
    with pytest.raises(SessionNotFoundError):
        storage.cancel_run("absent")


def test_a_request_to_cancel_is_not_for_who_takes_the_run_over(processes: Callable[[float], Storage]) -> None:
    short, long = processes(SHORT), processes(LONG)
    turn = start(long)
    assert long.cancel_run("s")
    end(long, turn, status="paused")
    taken, _ = take(long)
    assert renew(long, taken) is False
    assert short.cancel_run("s") is True
    assert renew(long, taken) is True


# ---------------------------------------------------------------- taking over


def test_taking_over_what_another_process_left(processes: Callable[[float], Storage]) -> None:
    short, long = processes(SHORT), processes(LONG)
    old = start(short, agent="bot")
    append(short, old, "first")
    wait_until(lambda: short.get_run("s", 1).status == "interrupted")
    turn, run = take(long)
    assert (turn.number, turn.epoch, turn.spec.run_id) == (1, 2, "r")
    assert (run.input, texts(run.messages)) == ("input of r", ["first"])
    assert long.get_run("s", 1).status == "running"
    for late in (lambda: append(short, old, "late"), lambda: end(short, old, "late"), lambda: renew(short, old)):
        with pytest.raises(LeaseLostError, match="Run 1 of session 's' was taken over"):
            late()
    end(long, turn, "second")
    assert texts(long.messages("s")) == ["first", "second"]
    for late in (lambda: append(short, old, "late"), lambda: end(short, old, "late")):
        with pytest.raises(LeaseLostError):
            late()
    assert texts(long.messages("s")) == ["first", "second"]
    long.verify("s")


def test_a_paused_run_is_taken_with_what_it_waits_for(storage: Storage) -> None:
    turn = start(storage)
    operate(storage, turns.end_turn, turn, [say(turn, "may I?")], RunEnded(status="paused", pending={"ask": 1}), [])
    assert (storage.get_run("s", 1).status, storage.get_run("s", 1).pending) == ("paused", {"ask": 1})
    assert storage.get_run("s", 1).ended_at is None
    taken, run = take(storage, 1)
    assert (taken.epoch, run.status, texts(run.messages)) == (2, "paused", ["may I?"])
    end(storage, taken, "thanks")
    run = storage.get_run("s", 1)
    assert (run.status, run.pending, texts(run.messages)) == ("completed", None, ["may I?", "thanks"])


def test_the_newest_run_that_can_be_taken(processes: Callable[[float], Storage]) -> None:
    short, long = processes(SHORT), processes(LONG)
    end(long, start(long, run_id="paused"), status="paused")
    crash(short, run_id="gone")
    start(long, run_id="working")
    assert take(long)[0].spec.run_id == "gone"
    assert take(long)[0].spec.run_id == "paused"
    with pytest.raises(NotResumableError, match="Run 3 of session 's' is being worked on"):
        take(long)


def test_what_cannot_be_taken(storage: Storage) -> None:
    with pytest.raises(SessionNotFoundError):
        take(storage)
    storage.add_run("s")
    start(storage, run_id="working")
    with pytest.raises(NotResumableError, match="has run 1, which has ended"):
        take(storage, 1)
    with pytest.raises(NotResumableError, match="Run 2 of session 's' is being worked on"):
        take(storage, 2)
    with pytest.raises(RunNotFoundError, match="no run 3"):
        take(storage, 3)


def test_who_takes_a_run_may_refuse_it_before_anything_is_written(storage: Storage) -> None:
    end(storage, start(storage), status="paused")

    def refuse(turn: Turn, run: Run) -> list[Entry]:
        raise NotResumableError(f"Run {run.number} is not for us.")

    with pytest.raises(NotResumableError, match="Run 1 is not for us"):
        take(storage, check=refuse)
    assert storage.verify("s") == 2
    assert take(storage)[0].epoch == 2


def test_of_eight_threads_that_take_a_run_over_one_succeeds(processes: Callable[[float], Storage]) -> None:
    crash(processes(SHORT))
    storages = [processes(LONG) for _ in range(8)]
    barrier = threading.Barrier(8)
    outcomes: list[str] = []

    def rival(storage: Storage) -> None:
        barrier.wait()
        try:
            take(storage)
            outcomes.append("taken")
        except NotResumableError:
            outcomes.append("refused")

    threads = [threading.Thread(target=rival, args=(storage,)) for storage in storages]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["refused"] * 7 + ["taken"]
    assert [entry.kind for entry in storages[0].entries("s")].count("run.taken") == 1


def test_a_session_deleted_while_a_run_is_taken() -> None:
    driver = Tapped(MemoryDriver())
    with Storage(driver, lease=SHORT) as storage:
        crash(storage)

        def vanish(*args: Any) -> None:
            driver.before.clear()
            storage.delete("s")

        driver.before["append"] = vanish
        with pytest.raises(SessionNotFoundError):
            take(storage)
