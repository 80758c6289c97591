"""A fork leaves parent and child sound, whatever other threads, other storages and signals do at that moment."""

from __future__ import annotations

import gc
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, cast

import pytest
from tests.alarms import untraced
from tests.campaigns import TORTURE
from tests.forking import EXIT, in_child

from sessile import JsonStorage, MemoryStorage, SqliteStorage
from sessile.drivers.memory import MemoryDriver
from sessile.live import sigterm
from sessile.storage import Storage, forking, hearing
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


@pytest.fixture(autouse=True)
def no_garbage_is_collected() -> Iterator[None]:
    """What a signal's handler raises while other libraries are told of garbage is thrown away by Python."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


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
        hearing.listen(("s", 1), heard.set)
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

    def heard() -> None:
        told.append(1)

    hearing.listen(("s", 1), heard)
    try:
        assert in_child(lambda: hearing.tell(("s", 1)) or (told and os._exit(3))) == 0
        hearing.tell(("s", 1))
    finally:
        hearing.unlisten(("s", 1), heard)
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


def fork_late(question: int) -> None:
    """Fork, and let the alarm ring meanwhile; the child says its process id."""
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    if os.fork() == 0:
        os.write(question, str(os.getpid()).encode())
        EXIT(0)


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
    answer, question = os.pipe()
    try:
        with pytest.raises(Alarm):  # when the process has forked
            fork_late(question)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
    os.waitpid(int(os.read(answer, 20)), 0)
    os.close(answer)
    os.close(question)
    assert over.is_set(), "it has waited for the other thread all the same"
    thread.join()
    elsewhere: list[int] = []
    writer = threading.Thread(target=lambda: elsewhere.append(storage.add_run("s", input=1).number))
    writer.start()
    writer.join()
    assert elsewhere == [2]
    assert in_child(lambda: storage.add_run("mine", input="child")) == 0
    assert storage.add_run("s", input=2).number == 3


PENDING = """
import _thread, functools, logging, os, random, signal, sys, threading
armed = []
strike = functools.partial(max, armed, key=_thread.interrupt_main, default=None)  # as the C part of a signal's handler
where, path = sys.argv[1:]
if where != "before":
    os.register_at_fork(**{where: strike})
from sessile import SqliteStorage
if where == "before":
    os.register_at_fork(before=strike)
storage = SqliteStorage(path)
storage.add_run("s", input=1)
armed.append(signal.SIGINT)
parent, raised = os.getpid(), False
try:
    os.fork()
    for _ in range(10):
        pass
except KeyboardInterrupt:
    raised = True
armed.clear()
if os.getpid() == parent:
    os.wait()
thread = threading.Thread(target=storage.add_run, args=("s",), daemon=True)
thread.start()
thread.join(60)
print("parent" if os.getpid() == parent else "child", raised, not thread.is_alive(), flush=True)
os._exit(0)
"""


@pytest.mark.parametrize(
    ("where", "told"),
    [("before", "parent"), ("after_in_parent", "parent"), ("after_in_child", "child")],
)
def test_a_signal_that_is_pending_when_a_hook_begins_is_raised_in_the_code_that_forked(
    tmp_path: Path, where: str, told: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PENDING, where, str(tmp_path / "s.db")], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    lines = [f"{one} {one == told} True" for one in ("child", "parent")]
    assert done.stdout.splitlines() == lines


class Alarm(BaseException):
    """Raised by a signal's handler."""


def strike(number: int, frame: FrameType | None) -> None:
    raise Alarm


@contextmanager
def struck_at(line: int, *modules: Any) -> Generator[list[int]]:
    """Have `strike` called at the n-th line that is run of these modules; the list holds how many are left."""
    files = {module.__file__ for module in modules}
    left, before = [line], sys.gettrace()

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename not in files:
            return None
        if event == "line":
            left[0] -= 1
            if left[0] == 0:
                strike(0, frame)
        return trace

    handler = signal.signal(signal.SIGUSR1, strike)
    sys.settrace(trace)
    try:
        yield left
    finally:
        sys.settrace(before)
        signal.signal(signal.SIGUSR1, handler)


MANY = 2**40


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_fork_that_is_interrupted_at_any_line(storage: Storage) -> None:
    """Everything of the parent is free afterwards, and the child inherits nothing; mostly the exception is raised."""
    with struck_at(MANY, forking, module_of(storage)) as left:
        child = os.fork()
        if child == 0:
            EXIT(0)
    os.waitpid(child, 0)
    # The more storages are alive in this process, the more lines there are.
    step = 1 if TORTURE else max(3, (MANY - left[0]) // 30)
    runs, told, line = 0, 0, 0
    left = [0]
    while left[0] <= 0:
        line += step
        parent = os.getpid()
        answer, question = os.pipe()
        try:
            with struck_at(line, forking, module_of(storage)) as left:
                try:
                    os.fork()
                    _ = [None for _ in range(3)]
                finally:
                    if os.getpid() != parent:
                        sys.settrace(None)
                        os.write(question, f"{os.getpid()} ".encode())
        except Alarm:
            told += os.getpid() == parent
        if os.getpid() != parent:
            code = 1
            try:
                storage.add_run(f"of {line}", input="child")
                code = 0
            finally:
                EXIT(code)
        child = int(os.read(answer, 20).split()[0])
        os.close(answer)
        os.close(question)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, line
        thread = threading.Thread(target=storage.add_run, args=("s",), daemon=True)
        thread.start()
        thread.join(60)
        assert not thread.is_alive(), line
        runs += 1
    assert storage.verify("s") == runs > 10
    assert told > runs / 2


def module_of(storage: Storage) -> Any:
    """The module of a storage's driver."""
    assert storage._core is not None
    return sys.modules[type(storage._core.driver).__module__]


@untraced()  # coverage has a lock of its own, which is not
def test_a_lock_is_free_after_a_handler_has_raised_anywhere() -> None:
    lock = forking.Lock()
    handler = signal.signal(signal.SIGALRM, strike)
    try:
        for _ in range(300):
            with suppress(Alarm):
                signal.setitimer(signal.ITIMER_REAL, 0.0002)
                while True:
                    with lock:
                        pass
            assert not cast(Any, lock._lock).locked()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)


def test_a_run_that_is_interrupted_as_it_begins_leaves_no_handler_behind() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)  # that of whoever measures
    try:
        inside, line = False, 0
        while not inside:
            line += 1
            with suppress(Alarm), struck_at(line, sigterm) as left, sigterm.stored_on_sigterm(waiting=True):
                inside, left[0] = True, 0
            gc.collect()
            assert (sigterm._active, sigterm._waiting) == (set(), set()), line
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        assert line > 5
    finally:
        signal.signal(signal.SIGTERM, before)
