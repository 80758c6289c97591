"""Threads of one storage work one after the other, unless one of them waits or is held up."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sessile import SqliteStorage
from sessile.storage import pace
from sessile.storage import turnstile as turnstiles
from sessile.storage.storage import operate
from sessile.storage.turnstile import Turnstile, enter_again, give_way, in_turn

from .helpers import Tapped

pytestmark = pytest.mark.skipif(
    turnstiles.new_turnstile() is None, reason="this interpreter runs threads at the same time, and has no turnstiles"
)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow machine is taken for a quick one: else it would decide what is tested here."""
    monkeypatch.setattr(turnstiles, "SHORT", 60.0)


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[SqliteStorage]:
    with SqliteStorage(tmp_path / "s.db") as storage:
        yield storage


def tap(storage: SqliteStorage) -> Tapped:
    core = storage._core
    assert core is not None
    core.driver = tapped = Tapped(core.driver)
    return tapped


class Crowd:
    """Counts how many threads are in a part of an operation at once."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def __call__(self, *_: object) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        time.sleep(0.001)  # lets go of the interpreter, as a statement does
        self.now -= 1


def test_reads_of_many_threads_go_one_after_the_other(storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turnstiles, "LONGEST", 60.0)
    storage.add_run("s", input="Hello", output="Hi")
    crowd = Crowd()
    tap(storage).after["load"] = crowd
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: storage.get_session("s"), range(40)))
    assert all(found)
    assert crowd.most == 1


def test_where_reads_take_long_they_wait_at_the_same_time(
    storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a disk, of what no cache has."""
    monkeypatch.setattr(turnstiles, "SHORT", 0.0005)
    monkeypatch.setattr(pace, "PAUSE", 60.0)
    storage.add_run("s", input="Hello", output="Hi")
    crowd = Crowd()
    tap(storage).after["load"] = crowd
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: storage.get_session("s"), range(100)))
    assert crowd.most > 1


def test_who_waits_lets_others_in(storage: SqliteStorage) -> None:
    storage.add_run("s", input="Hello", output="Hi")
    begun, go_on = threading.Event(), threading.Event()

    async def waits(core: object) -> None:
        give_way()
        begun.set()
        assert go_on.wait(30)

    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(operate, storage, waits)
        assert begun.wait(30)
        assert storage.get_session("s") is not None
        assert not waiting.done()
        go_on.set()
        waiting.result()


def test_who_holds_others_up_is_passed_by(storage: SqliteStorage) -> None:
    """Somebody's hook, or a driver of another kind: it hangs in an operation and says nothing."""
    storage.add_run("s", input="Hello", output="Hi")
    begun, go_on = threading.Event(), threading.Event()

    async def hangs(core: object) -> None:
        begun.set()
        assert go_on.wait(30)

    with ThreadPoolExecutor(1) as threads:
        hanging = threads.submit(operate, storage, hangs)
        assert begun.wait(30)
        for number in range(3):
            storage.add_run("s", input=number)
        assert not hanging.done()
        go_on.set()
        hanging.result()
    session = storage.get_session("s")
    assert session is not None
    assert session.run_count == 4


def test_an_operation_within_another_one_needs_no_turn_of_its_own(storage: SqliteStorage) -> None:
    """As in a finalizer, or in a handler of signals."""
    storage.add_run("s", input="Hello", output="Hi")
    turnstile = Turnstile()
    assert in_turn(turnstile, lambda _: in_turn(turnstile, str, 1), None) == "1"

    async def nested(core: object) -> bool:
        return storage.get_session("s") is not None

    assert operate(storage, nested)


def test_a_turn_is_given_back_whatever_happens() -> None:
    turnstile = Turnstile()

    def fails(_: object) -> None:
        raise ValueError

    for _ in range(3):
        with pytest.raises(ValueError, match=r"^$"):
            in_turn(turnstile, fails, None)

    def leaves_and_comes_back(_: object) -> None:
        give_way()
        enter_again()

    in_turn(turnstile, leaves_and_comes_back, None)
    assert turnstile._turn is None
    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(in_turn, turnstile, str, 1).result() == "1"


def test_a_thread_that_was_struck_in_its_middle_holds_nobody_up() -> None:
    """Or that is not there any more, in a forked child."""
    turnstile = Turnstile()
    struck = turnstile._lock
    struck.acquire()
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(lambda number: in_turn(turnstile, str, number), range(40))) == [*map(str, range(40))]
    assert turnstile._lock is not struck
    assert not turnstile._lock.locked()


def test_there_are_none_where_threads_run_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    assert turnstiles.new_turnstile() is None
