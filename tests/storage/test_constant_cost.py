"""What a commit reads when others have committed meanwhile: the same, however much that was."""

from __future__ import annotations

from typing import Any

import pytest

from sessile import Storage
from sessile.drivers.memory import MemoryDriver
from sessile.errors import LeaseLostError, StorageUnavailableError
from sessile.storage import turns
from sessile.storage.core import RACE_PAGE

from .helpers import Counted, Tapped, append, crash, end, start, take, texts, wait_until

OTHERS = 3000


@pytest.fixture
def counted() -> Any:
    driver = Counted(MemoryDriver())
    with Storage(driver, timeout=600) as storage:
        yield driver, storage


def others(storage: Storage) -> None:
    for number in range(OTHERS):
        storage.update_state("s", {"n": number})


def test_the_end_of_a_run_reads_nothing_of_what_others_committed(counted: Any) -> None:
    driver, storage = counted
    turn = start(storage)
    others(storage)
    driver.reset()
    end(storage, turn, "done")
    assert driver.rows <= RACE_PAGE
    assert driver.calls == {"append": 2, "load": 1}
    assert driver.stats.counts()["lost_races"] == 1


def test_a_lost_answer_costs_one_row(counted: Any) -> None:
    """The answer of the commit is lost, and others have gone on for long until it is looked for."""
    inner = Tapped(MemoryDriver())
    driver = Counted(inner)
    with Storage(driver, timeout=600) as storage:
        turn = start(storage)
        append(storage, turn, "before")

        def lost(*args: Any) -> None:
            inner.after.clear()
            others(storage)
            driver.reset()
            raise StorageUnavailableError("The connection is gone.", written="unknown")

        inner.after["append"] = lost
        append(storage, turn, "mine")
        assert driver.calls == {"load": 1, "entries": 1}
        assert driver.rows <= RACE_PAGE + 1
        assert driver.stats.counts()["unknown_answers"] == 1
        end(storage, turn)
        assert texts(storage.messages("s")) == ["before", "mine"]
        storage.verify("s")


def test_an_end_that_is_repeated_after_an_error_reads_one_row(counted: Any) -> None:
    inner = Tapped(MemoryDriver())
    driver = Counted(inner)
    with Storage(driver, timeout=600) as storage:
        turn = start(storage)

        def broken(*args: Any) -> None:
            raise StorageUnavailableError("Gone.", retryable=False, written="unknown")

        inner.after["append"] = broken
        with pytest.raises(StorageUnavailableError) as caught:
            end(storage, turn, "mine")
        assert caught.value.written == "unknown"
        inner.after.clear()
        others(storage)
        driver.reset()
        end(storage, turn, "mine")
        assert driver.calls["append"] == 0
        assert driver.rows <= RACE_PAGE + 1
        assert texts(storage.messages("s")) == ["mine"]


def test_an_end_that_never_arrived_is_written_when_it_is_repeated() -> None:
    driver = Tapped(MemoryDriver())
    with Storage(driver) as storage:
        turn = start(storage)

        def broken(*args: Any) -> None:
            raise StorageUnavailableError("Gone.", retryable=False, written="unknown")

        driver.before["append"] = broken
        with pytest.raises(StorageUnavailableError):
            end(storage, turn, "mine")
        driver.before.clear()
        storage.update_state("s", {"a": 1})
        end(storage, turn, "mine")
        end(storage, turn, "mine")
        assert texts(storage.messages("s")) == ["mine"]
        storage.verify("s")


def test_a_run_that_the_head_has_forgotten_is_looked_for_among_its_own_commits(counted: Any) -> None:
    """It was noted as interrupted, and so were many after it; then its process goes on after all."""
    driver, _ = counted
    with Storage(driver, lease=0.001) as hasty:
        forgotten = crash(hasty)
        for number in range(20):
            crash(hasty, run_id=f"r{number}")
        hasty.add_run("s")
        head = hasty.get_session("s")
        assert head is not None
        assert forgotten.number not in head.open_runs
        others(hasty)
        driver.reset()
        append(hasty, forgotten, "late")
        assert driver.rows <= RACE_PAGE + 1
        end(hasty, forgotten, "later")
        assert texts(hasty.get_run("s", forgotten.number).messages) == ["late", "later"]
        hasty.verify("s")


def test_a_run_that_was_taken_and_then_forgotten_is_lost(counted: Any) -> None:
    driver, _ = counted
    with Storage(driver, lease=0.001) as hasty:
        stale = crash(hasty)
        taken, _ = take(hasty, stale.number)
        for number in range(20):
            append(hasty, taken, f"step{number}")
        wait_until(lambda: hasty.get_run("s", stale.number).status == "interrupted")
        for number in range(20):
            crash(hasty, run_id=f"r{number}")
        hasty.add_run("s")
        driver.reset()
        with pytest.raises(LeaseLostError):
            append(hasty, stale, "late")
        assert driver.rows <= RACE_PAGE + turns.LOST_PAGE
        append(hasty, taken, "in time")
