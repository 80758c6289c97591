"""A fork leaves parent and child sound, whatever other threads, other storages and signals do at that moment."""

from __future__ import annotations

import gc
import logging
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest
from tests.forking import EXIT, in_child

from sessile import JsonStorage, MemoryStorage, SqliteStorage
from sessile.drivers.memory import MemoryDriver
from sessile.storage import Storage, hearing
from sessile.storage.threads import collecting

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


class OddDriver(MemoryDriver):
    """Cannot do what a fork asks for."""

    def before_fork(self) -> None:
        raise RuntimeError("not now")

    def after_fork_in_parent(self) -> None:
        raise RuntimeError("not now")

    def after_fork(self) -> None:
        raise RuntimeError("not now")


KINDS: dict[str, Callable[[Path], Storage]] = {
    "memory": lambda folder: MemoryStorage(),
    "sqlite": lambda folder: SqliteStorage(folder / "s.db"),
    "json": lambda folder: JsonStorage(folder / "json"),
}


@pytest.fixture(params=KINDS)
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return KINDS[request.param](tmp_path)


def test_two_storages_of_one_driver(storage: Storage) -> None:
    """Each brings its driver to rest before, and both have the same one."""
    assert storage._core is not None
    with storage as one, Storage(storage._core.driver) as two:
        one.add_run("s", input=1)
        two.add_run("s", input=2)
        assert in_child(lambda: (one.add_run("mine", input=1), two.add_run("mine", input=2))) == 0
        assert one.add_run("s", input=3).number == two.verify("s") == 3


def test_a_storage_that_cannot_does_not_spoil_the_others(caplog: pytest.LogCaptureFixture) -> None:
    before, after = MemoryStorage(), MemoryStorage()
    with caplog.at_level(logging.ERROR, logger="sessile"), Storage(OddDriver()) as odd:
        for _ in range(2):  # also another time: nothing is left locked
            for one in (before, odd, after):
                assert in_child(lambda one=one: one.add_run("s", input="child")) == 0
                one.add_run("s", input="parent")
    assert "has failed" in caplog.text
    assert [before.verify("s"), after.verify("s")] == [2, 2]


def test_what_another_thread_held_is_free_in_the_child() -> None:
    held, over = threading.Event(), threading.Event()

    def hold() -> None:
        with hearing._lock:
            held.set()
            over.wait()

    def work() -> None:
        with hearing.listening(("s", 1), heard.set):
            hearing.tell(("s", 1))
        assert heard.is_set()

    heard = threading.Event()
    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    try:
        assert in_child(work) == 0
    finally:
        over.set()
        thread.join()


def test_the_runs_of_the_parent_are_not_told_in_the_child() -> None:
    told: list[int] = []
    with hearing.listening(("s", 1), lambda: told.append(1)):
        assert in_child(lambda: hearing.tell(("s", 1)) or (told and os._exit(3))) == 0
        hearing.tell(("s", 1))
    assert told == [1]


class Finalized:
    """Part of a circle, so that the garbage collector finalizes it; it waits there."""

    def __init__(self, begun: threading.Event, over: threading.Event, seen: list[bool]) -> None:
        self.itself, self.begun, self.over, self.seen = self, begun, over, seen

    def __del__(self) -> None:
        self.seen.append(collecting.here())
        self.begun.set()
        self.over.wait()


def test_a_collection_is_that_of_one_thread_and_not_of_a_child() -> None:
    begun, over = threading.Event(), threading.Event()
    seen: list[bool] = []

    def collect() -> None:
        Finalized(begun, over, seen)
        gc.collect()
        seen.append(collecting.here())

    gc.collect()
    thread = threading.Thread(target=collect)
    thread.start()
    begun.wait()
    try:
        assert not collecting.here()
        assert in_child(lambda: collecting.here() and os._exit(3)) == 0
    finally:
        over.set()
        thread.join()
    assert seen == [True, False]


def test_an_interrupted_fork_leaves_no_lock_held(storage: Storage) -> None:
    """Another thread is writing when the process forks, and a signal's handler raises while the fork waits for it."""

    class Alarm(BaseException):
        pass

    def ring(number: int, frame: FrameType | None) -> None:
        raise Alarm

    assert storage._core is not None
    driver = storage._core.driver
    storage.add_run("s", input=0)
    held, over = threading.Event(), threading.Event()

    def hold() -> None:
        driver.before_fork()  # takes whatever writers hold
        held.set()
        over.wait()
        driver.after_fork_in_parent()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    handler = signal.signal(signal.SIGALRM, ring)
    threading.Timer(0.3, over.set).start()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        child = os.fork()
        if child == 0:
            EXIT(0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
    os.waitpid(child, 0)
    thread.join()
    elsewhere: list[int] = []
    writer = threading.Thread(target=lambda: elsewhere.append(storage.add_run("s", input=1).number))
    writer.start()
    writer.join()
    assert elsewhere == [2]
    assert in_child(lambda: storage.add_run("mine", input="child")) == 0
    assert storage.add_run("s", input=2).number == 3
