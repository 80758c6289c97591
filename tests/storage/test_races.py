"""Lost races, lost answers, heads that lag: every commit is made exactly once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from sessile import MemoryStorage, Storage
from sessile.drivers.memory import MemoryDriver
from sessile.errors import (
    DeadlineError,
    SessionNotFoundError,
    StorageError,
    StorageFullError,
    StorageUnavailableError,
)
from sessile.storage import Deadline

from .helpers import Lagging, Tapped, end, start, texts


def said(storage: Storage) -> list[str]:
    return texts(storage.messages("s", from_run=1))


def say(storage: Storage, text: str) -> None:
    storage.add_run("s", format="test/1", messages=[{"text": text}], state={text: 1})


@pytest.fixture
def tapped() -> Any:
    driver = Tapped(MemoryDriver())
    with Storage(driver, timeout=60) as storage:
        yield driver, storage


def once(driver: Tapped, where: dict[str, Callable[..., Any]], name: str, action: Callable[..., Any]) -> None:
    """Hook in an action that happens at the next call only."""

    def hook(*args: Any) -> Any:
        where.clear()
        return action(*args)

    where[name] = hook


def lose_answer(*args: Any) -> None:
    raise StorageUnavailableError("The connection is gone.", written="unknown")


# ---------------------------------------------------------------- races


def test_a_repeated_run_of_another_user_is_not_shown(tapped: Any) -> None:
    """Two users make the same session at once, with runs of the same id: the second is not given the first's."""
    driver, storage = tapped
    once(driver, driver.before, "append", lambda *_: storage.add_run("s", input="secret", user_id="ada", run_id="r"))
    with pytest.raises(SessionNotFoundError):
        storage.add_run("s", user_id="bob", run_id="r")


def test_writers_in_threads_lose_nothing(storage: Storage) -> None:
    def write(name: str) -> None:
        for number in range(10):
            say(storage, f"{name}{number}")
            storage.update_state("s", {name: {"upto": number}})

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcdefgh"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = said(storage)
    assert len(found) == 80
    for name in "abcdefgh":
        assert [text for text in found if text[0] == name] == [f"{name}{number}" for number in range(10)]
    head = storage.get_session("s")
    assert head is not None
    assert (head.run_count, head.revision) == (80, 160)
    assert {name: head.state[name] for name in "abcdefgh"} == {name: {"upto": 9} for name in "abcdefgh"}
    assert storage.verify("s") == 160


def test_a_lost_race_is_run_again_on_what_the_winner_left(tapped: tuple[Tapped, Storage]) -> None:
    driver, storage = tapped
    say(storage, "first")
    once(driver, driver.before, "append", lambda *args: say(storage, "winner"))
    say(storage, "loser")
    assert said(storage) == ["first", "winner", "loser"]
    assert storage.get_run("s", 3).number == 3
    storage.verify("s")


def test_a_race_for_a_new_session(tapped: tuple[Tapped, Storage]) -> None:
    driver, storage = tapped
    once(driver, driver.before, "append", lambda *args: say(storage, "winner"))
    say(storage, "loser")
    assert said(storage) == ["winner", "loser"]


def test_losing_many_races(tapped: tuple[Tapped, Storage]) -> None:
    driver, storage = tapped
    say(storage, "0")
    left = [10]

    def rival(*args: Any) -> None:
        if left[0] and "rival" not in str(args[0].commits[0].body):
            left[0] -= 1
            say(storage, f"rival{left[0]}")

    driver.before["append"] = rival
    say(storage, "patient")
    assert said(storage)[-1] == "patient"
    assert len(said(storage)) == 12


def test_a_loser_whose_session_is_deleted_and_made_again(tapped: tuple[Tapped, Storage]) -> None:
    driver, storage = tapped
    say(storage, "old")

    def again(*args: Any) -> None:
        storage.delete("s")
        say(storage, "new")

    once(driver, driver.before, "append", again)
    say(storage, "loser")
    assert said(storage) == ["new", "loser"]


# ---------------------------------------------------------------- answers that are lost


@pytest.mark.parametrize("first", [True, False], ids=["new", "old"])
@pytest.mark.parametrize("others", [0, 1, 3])
def test_a_commit_whose_answer_is_lost_is_found_in_the_log(
    tapped: tuple[Tapped, Storage], first: bool, others: int
) -> None:
    driver, storage = tapped
    if not first:
        say(storage, "before")

    def answer_lost(*args: Any) -> None:
        for number in range(others):
            say(storage, f"other{number}")
        lose_answer()

    once(driver, driver.after, "append", answer_lost)
    run = storage.add_run("s", format="test/1", messages=[{"text": "mine"}])
    assert said(storage).count("mine") == 1
    assert storage.get_run("s", run.number).run_id == run.run_id
    assert len(said(storage)) == others + (1 if first else 2)
    storage.verify("s")


def test_a_commit_that_did_not_arrive_is_made_again(tapped: tuple[Tapped, Storage]) -> None:
    driver, storage = tapped
    once(driver, driver.before, "append", lose_answer)
    say(storage, "mine")
    assert said(storage) == ["mine"]


def test_a_session_is_made_once_though_the_answer_is_lost(tapped: tuple[Tapped, Storage]) -> None:
    driver, storage = tapped
    once(driver, driver.after, "append", lose_answer)
    assert storage.create_session("s", name="N").name == "N"
    once(driver, driver.after, "append", lose_answer)
    assert storage.delete("s") is True
    assert storage.get_session("s") is None


def test_looking_for_a_lost_answer_is_patient(tapped: tuple[Tapped, Storage]) -> None:
    driver, storage = tapped
    say(storage, "before")
    down = [3]

    def outage(*args: Any) -> None:
        if down[0]:
            down[0] -= 1
            raise StorageUnavailableError("Still down.")

    def lost(*args: Any) -> None:
        driver.before["load"] = outage
        lose_answer()

    once(driver, driver.after, "append", lost)
    say(storage, "mine")
    assert down == [0]
    assert said(storage) == ["before", "mine"]


def test_what_is_raised_says_whether_the_write_happened(tapped: tuple[Tapped, Storage]) -> None:
    driver, storage = tapped
    say(storage, "before")

    def broken(*args: Any) -> None:
        raise StorageError("Broken for good.")

    for first, written in ((lose_answer, "unknown"), (broken, "no")):
        attempts = [0]

        def second(*args: Any, attempts: list[int] = attempts, first: Any = first) -> None:
            attempts[0] += 1
            (first if attempts[0] == 1 else broken)(*args)

        driver.before = {"append": second}
        with pytest.raises(StorageError, match="Broken for good") as caught:
            say(storage, "x")
        assert caught.value.written == written

    def then_broken(*args: Any) -> None:
        driver.before = {"load": broken}
        lose_answer()

    driver.before = {"append": then_broken}
    with pytest.raises(StorageError, match="Broken for good") as caught:
        say(storage, "x")
    assert caught.value.written == "unknown"


def test_a_full_disk_is_told_at_once_and_not_waited_for(tapped: tuple[Tapped, Storage]) -> None:
    driver, storage = tapped

    def full(*args: Any) -> None:
        raise StorageFullError("No space left.")

    driver.before["append"] = full
    with pytest.raises(StorageFullError, match="Free some space") as caught:
        say(storage, "x")
    assert caught.value.retryable
    assert driver.calls.count("append") == 1


@pytest.mark.parametrize("written", ["no", "unknown"])
def test_every_write_ends_at_its_deadline(written: Any) -> None:
    def down(write: Any, deadline: Deadline) -> None:
        if driver.calls.count("append") == 3:
            deadline._at = 0.0
        raise StorageUnavailableError("Down.", written=written)

    driver = Tapped(MemoryDriver())
    with Storage(driver) as storage:
        driver.before["append"] = down
        with pytest.raises((DeadlineError, StorageUnavailableError)) as caught:
            say(storage, "x")
        assert caught.value.retryable == (written == "no"), "what may have been written is not to be repeated blindly"
        assert caught.value.written == written


def test_a_deadline_while_looking_for_a_lost_answer() -> None:
    driver = Tapped(MemoryDriver())

    def unreachable(*args: Any) -> None:
        if driver.calls.count("load") == 4:
            args[-1]._at = 0.0
        raise StorageUnavailableError("Down.")

    def down(*args: Any) -> None:
        driver.before["load"] = unreachable
        lose_answer()

    with Storage(driver) as storage:
        driver.before["append"] = down
        with pytest.raises((DeadlineError, StorageUnavailableError)) as caught:
            say(storage, "x")
        assert caught.value.written == "unknown"


def test_what_happens_beside_the_work_is_counted_and_logged(
    tapped: tuple[Tapped, Storage], caplog: pytest.LogCaptureFixture
) -> None:
    driver, storage = tapped
    caplog.set_level("DEBUG", "sessile")
    say(storage, "first")
    assert (driver.stats.counts(), caplog.messages) == ({}, [])
    once(driver, driver.before, "append", lambda *args: say(storage, "winner"))
    assert storage._core is not None
    storage._core.remembered.forget("s")  # it looks first; a head that is merely out of date is no race
    say(storage, "loser")
    assert driver.stats.counts() == {"lost_races": 1}
    assert "lost a race" in caplog.messages[-1]
    once(driver, driver.after, "append", lose_answer)
    say(storage, "mine")
    assert driver.stats.counts() == {"lost_races": 1, "unknown_answers": 1, "retries": 1}
    assert "is tried again after: The connection is gone" in caplog.messages[-1]


# ---------------------------------------------------------------- heads that lag behind their log


@pytest.mark.parametrize("behind", [1, 5, 12])
def test_a_head_that_lags_is_rolled_forward(behind: int) -> None:
    driver = Lagging(MemoryDriver(), behind)
    with Storage(driver) as storage:
        for number in range(12):
            say(storage, str(number))
            storage.update_state("s", {"n": number})
        head = storage.get_session("s")
        assert head is not None
        assert (head.run_count, head.revision, head.state["n"]) == (12, 24, 11)
        assert said(storage) == [str(number) for number in range(12)]
        turn = start(storage)
        end(storage, turn, "last")
        assert said(storage)[-1] == "last"
        storage.verify("s")
        assert storage.delete("s")
        driver.old.clear()
        assert storage.get_session("s") is None


def test_a_long_log_is_read_page_by_page(memory: MemoryStorage) -> None:
    memory.create_session("s")
    for number in range(1100):
        memory.update_state("s", {"n": number})
    assert memory.verify("s") == 1101
    assert [entry.seq for entry in memory.entries("s", after=900)] == list(range(901, 1102))


def test_a_deadline_that_has_passed_says_how_long_it_was() -> None:
    deadline = Deadline(0.001)
    while deadline.remaining():
        pass
    with pytest.raises(DeadlineError, match=r"Looking did not end within 0\.001 s") as caught:
        deadline.check("Looking", written="unknown")
    assert caught.value.written == "unknown"
    Deadline(1000).check("Looking")
