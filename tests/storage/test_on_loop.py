"""`SqliteStorage(on_loop=True)`: what is quick is done on the event loop, and nothing waits there."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import sessile
from sessile import SqliteStorage, Storage
from sessile.drivers.sql import batches
from sessile.errors import DeadlineError, InvalidInputError, SessionNotFoundError
from sessile.storage import on_loop, pace
from sessile.storage.core import Core
from sessile.storage.deferring import deferred
from sessile.storage.storage import aoperate, operate

from .helpers import Tapped

PATIENT = 60.0


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow disk is taken for a quick one: else it would decide what is tested here."""
    monkeypatch.setattr(on_loop, "QUICK", PATIENT)


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[SqliteStorage]:
    with SqliteStorage(tmp_path / "s.db", on_loop=True) as storage:
        storage.create_session("s")
        yield storage


def tap(storage: Storage) -> Tapped:
    """Hooks around the calls of a storage's driver."""
    core = storage._core
    assert core is not None
    core.driver = tapped = Tapped(core.driver)
    return tapped


class Places:
    """Says of each call of a driver in which thread it was."""

    def __init__(self, storage: Storage) -> None:
        self.seen: list[tuple[str, bool]] = []
        tapped = tap(storage)
        for name in ("load", "append", "entries", "list", "get_record", "put_record"):
            tapped.after[name] = lambda result, *_, name=name: self.seen.append((name, _on_loop()))

    def take(self) -> set[tuple[str, bool]]:
        """The calls so far, each with whether it ended in the thread of an event loop."""
        seen = set(self.seen)
        self.seen.clear()
        return seen


def _on_loop() -> bool:
    try:
        return asyncio.get_running_loop() is not None
    except RuntimeError:
        return False


@asynccontextmanager
async def ticking() -> AsyncIterator[list[float]]:
    """Another task of the event loop, which notes when it had its turn."""
    ticks: list[float] = []

    async def tick() -> None:
        while True:
            ticks.append(time.monotonic())
            await asyncio.sleep(0.001)

    task = asyncio.create_task(tick())
    try:
        yield ticks
    finally:
        task.cancel()


async def some(ticks: list[float]) -> None:
    """Wait until another task has had several turns."""
    before = len(ticks)
    while len(ticks) < before + 5:  # noqa: ASYNC110 (the turns are what is waited for)
        await asyncio.sleep(0.001)


def test_reads_and_commits_are_done_on_the_event_loop(storage: SqliteStorage) -> None:
    places = Places(storage)

    async def main() -> None:
        await storage.aadd_run("s", input="Hello", output="Hi")
        assert places.take() == {("append", True)}
        view = await storage.aget_session("s", last_runs=3)
        assert view is not None
        assert [run.output for run in view.runs] == ["Hi"]
        assert places.take() == {("load", True)}
        with pytest.raises(SessionNotFoundError):
            await storage.arename("nobody", "x")

    asyncio.run(main())


def test_what_is_long_is_done_in_threads(storage: SqliteStorage) -> None:
    for number in range(40):
        storage.add_run("s", input=number)
    places = Places(storage)

    async def main() -> None:
        await storage.aadd_run("s", input="x" * 300_000)
        assert ("append", False) in places.take()
        await storage.asessions()
        assert places.take() == {("list", False)}
        await storage.aget_session("s", last_runs=40)
        assert ("entries", False) in places.take()

    asyncio.run(main())


def test_what_a_redaction_takes_is_not_taken_from_the_event_loop(tmp_path: Path) -> None:
    places: list[bool] = []

    def redact(text: str) -> str:
        places.append(_on_loop())
        return text.replace("secret", "…")

    async def main() -> None:
        async with SqliteStorage(tmp_path / "s.db", on_loop=True, redact=redact) as storage:
            await storage.acreate_session("s")
            await storage.aadd_run("s", input="secret")
            assert (await storage.aruns("s", last=1))[0].input == "…"

    asyncio.run(main())
    assert places
    assert not any(places)


def test_without_the_option_nothing_is_done_there(tmp_path: Path) -> None:
    async def main() -> None:
        async with SqliteStorage(tmp_path / "s.db") as storage:
            await storage.acreate_session("s")
            places = Places(storage)
            await storage.aadd_run("s", input="Hello")
            assert places.take() == {("append", False)}

    asyncio.run(main())


def test_the_option_in_a_url(tmp_path: Path) -> None:
    for text, there in (("true", True), ("false", False)):
        with sessile.open(f"sqlite:///{tmp_path}/s.db?on_loop={text}") as storage:
            storage.setup()
            places = Places(storage)
            asyncio.run(storage.aadd_run("s", input="Hello"))
            assert ("append", there) in places.take()
    with pytest.raises(InvalidInputError, match="true or false"):
        sessile.open(f"sqlite:///{tmp_path}/s.db?on_loop=1")
    with pytest.raises(InvalidInputError, match="True or False"):
        SqliteStorage(tmp_path / "s.db", on_loop="yes")  # type: ignore[arg-type]


def test_another_process_that_writes_does_not_hold_up_the_loop(storage: SqliteStorage, tmp_path: Path) -> None:
    """As one does that holds SQLite's lock: the write waits for it in a thread, and is made once."""
    other = sqlite3.connect(tmp_path / "s.db", isolation_level=None)

    async def main() -> None:
        async with ticking() as ticks:
            other.execute("BEGIN IMMEDIATE")
            adding = asyncio.create_task(storage.aadd_run("s", input="Hello"))
            await some(ticks)
            assert (await storage.aget_session("s")) is not None  # who reads waits for nobody
            assert not adding.done()
            other.execute("ROLLBACK")
            await adding

    asyncio.run(main())
    other.close()
    assert [run.input for run in storage.runs("s")] == ["Hello"]
    assert storage.verify("s") == 2


def test_nobody_waits_on_the_loop_for_others_that_wait_in_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second write would go with those that wait for the first one, which waits for another process."""
    monkeypatch.setattr(batches, "PATIENCE", PATIENT)
    other = sqlite3.connect(tmp_path / "s.db", isolation_level=None)

    async def main() -> None:
        async with SqliteStorage(tmp_path / "s.db", on_loop=True, timeout=5) as storage, ticking() as ticks:
            for name in "abc":
                await storage.acreate_session(name)
            other.execute("BEGIN IMMEDIATE")
            adding = [asyncio.create_task(storage.aadd_run("a", input="Hello"))]
            await some(ticks)
            adding += [asyncio.create_task(storage.aadd_run(name, input="Hello")) for name in "bc"]
            await some(ticks)
            other.execute("ROLLBACK")
            await asyncio.gather(*adding)

    asyncio.run(main())
    other.close()


def test_another_thread_that_writes_does_not_hold_up_the_loop(storage: SqliteStorage) -> None:
    held, free = threading.Event(), threading.Event()

    async def hold(core: Core) -> None:
        with core.driver._writing(core.deadline()):  # type: ignore[attr-defined]
            held.set()
            free.wait()

    async def main() -> None:
        async with ticking() as ticks:
            adding = asyncio.create_task(storage.aadd_run("s", input="Hello"))
            await some(ticks)
            assert (await storage.aget_session("s")) is not None
            assert not adding.done()
            free.set()
            await adding

    holder = threading.Thread(target=operate, args=(storage, hold))
    holder.start()
    held.wait()
    asyncio.run(main())
    holder.join()
    assert storage.verify("s") == 2


def test_who_waits_for_others_has_the_timeout(storage: SqliteStorage, tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "s.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with SqliteStorage(tmp_path / "s.db", on_loop=True, timeout=0.3) as impatient:
        impatient.get_session("s")
        with pytest.raises((DeadlineError, sessile.errors.StorageUnavailableError)):
            asyncio.run(impatient.aadd_run("s", input="Hello"))
    other.close()
    assert storage.verify("s") == 1


def test_what_was_begun_on_the_loop_is_not_done_twice(storage: SqliteStorage, tmp_path: Path) -> None:
    """Of an operation of two commits the second one waits: the first is not made again."""
    other = sqlite3.connect(tmp_path / "s.db", isolation_level=None)
    began: list[bool] = []

    async def twice(core: Core) -> bool:
        from sessile.storage import writes

        began.append(_on_loop())
        await writes.rename(core, "s", "first", user_id=None)
        other.execute("BEGIN IMMEDIATE")
        await writes.rename(core, "s", "second", user_id=None)
        return _on_loop()

    async def main() -> None:
        async with ticking() as ticks:
            task = asyncio.create_task(aoperate(storage, twice))
            await some(ticks)
            assert began == [True]
            task.cancel()  # which does not leave it half-way
            await some(ticks)
            other.execute("ROLLBACK")
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    other.close()
    head = storage.get_session("s")
    assert head is not None
    assert (head.name, head.revision) == ("second", 3)


def test_a_disk_that_is_slow_is_left_to_threads(storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until a second has passed: then it is tried again."""
    monkeypatch.setattr(on_loop, "QUICK", 0.001)
    monkeypatch.setattr(pace, "MOST", 1e6)
    monkeypatch.setattr(pace, "PAUSE", 60.0)
    tap(storage).before["append"] = lambda *_: time.sleep(0.05)
    places = Places(storage)

    async def main() -> None:
        for number in range(3):
            await storage.aadd_run("s", input=number)
        assert places.seen[0] == ("append", True)
        assert places.seen[-1] == ("append", False)
        assert (await storage.aget_session("s")) is not None
        assert places.seen[-1] == ("load", True)  # reads are as quick as ever
        async with ticking() as ticks:
            await storage.aadd_run("s", input="slow")
            assert len(ticks) > 5
        later = time.monotonic() + 61
        monkeypatch.setattr(on_loop.time, "monotonic", lambda: later)
        places.take()
        await storage.aadd_run("s", input="again")
        assert places.take() == {("append", True)}

    asyncio.run(main())


def test_one_slow_write_among_many_changes_nothing() -> None:
    writes = pace.Pace()
    for number in range(200):
        writes.took(0.05 if number % 100 == 50 else 0.0005, number, 0.002)
        assert writes.is_quick(number)
    for number in range(200, 260):
        writes.took(0.004, number, 0.002)
    assert not writes.is_quick(259.5)
    assert writes.is_quick(261)


def test_others_have_their_turn_whoever_has_operations(storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks that begin at once (Python 3.12's eager ones) follow each other without the event loop."""
    tasks = iter(range(10**9))

    async def main() -> int:
        async with ticking() as ticks:
            await some(ticks)
            monkeypatch.setattr(asyncio, "current_task", lambda: next(tasks))
            before, until = len(ticks), time.monotonic() + 0.2
            while time.monotonic() < until:
                await storage.aget_session("s")
            return len(ticks) - before

    assert asyncio.run(main()) > 3


def test_others_have_their_turn_while_operations_follow_each_other(storage: SqliteStorage) -> None:
    async def main() -> int:
        async with ticking() as ticks:
            await some(ticks)
            before = len(ticks)
            for _ in range(3000):
                await storage.aget_session("s")
            return len(ticks) - before

    assert asyncio.run(main()) > 10


def test_a_time_limit_ends_what_never_waits(storage: SqliteStorage) -> None:
    async def main() -> None:
        async with asyncio.timeout(0.1):
            while True:
                await storage.aget_session("s")

    with pytest.raises(TimeoutError):
        asyncio.run(main())


def test_event_loops_of_several_threads_write_at_once(storage: SqliteStorage) -> None:
    def work(name: str) -> None:
        async def main() -> None:
            for number in range(25):
                await storage.aadd_run("s", input=f"{name} {number}")
                await storage.aget_session("s", last_runs=1)

        asyncio.run(main())

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({run.input for run in storage.runs("s", last=200)}) == 100
    assert storage.verify("s") == 101


def test_closing_while_others_write(tmp_path: Path) -> None:
    async def main() -> int:
        storage = SqliteStorage(tmp_path / "s.db", on_loop=True)
        await storage.acreate_session("s")
        written = 0

        async def write() -> None:
            nonlocal written
            while True:
                await storage.aadd_run("s", input=written)
                written += 1

        tasks = [asyncio.create_task(write()) for _ in range(3)]
        await asyncio.sleep(0.05)
        await storage.aclose()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(outcome, sessile.errors.ClosedError)
        return written

    written = asyncio.run(main())
    with SqliteStorage(tmp_path / "s.db") as storage:
        assert len(storage.runs("s", last=10_000)) == written


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
def test_a_forked_child_goes_on(storage: SqliteStorage) -> None:
    async def write(name: str) -> None:
        for number in range(10):
            await storage.aadd_run("s", input=f"{name} {number}")

    asyncio.run(write("before"))
    child = os.fork()
    if child == 0:
        code = 1
        try:
            asyncio.run(write("child"))
            code = 0
        finally:
            os._exit(code)
    asyncio.run(write("parent"))
    assert os.waitpid(child, 0)[1] == 0
    assert storage.verify("s") == 31


# ---------------------------------------------------------------- signals


class Alarm(BaseException):
    """Raised by handlers."""


@pytest.fixture
def handlers() -> Iterator[None]:
    """Puts those of these tests back."""
    numbers = (signal.SIGUSR1, signal.SIGUSR2)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.no_cover
@pytest.mark.usefixtures("handlers")
def test_what_a_handler_raises_is_raised_when_the_operation_has_ended(storage: SqliteStorage) -> None:
    """Each handler is called, in the order of the signals; what an operation has written stays."""
    heard: list[str] = []

    def raising(number: int, frame: FrameType | None) -> None:
        heard.append("raising")
        raise Alarm

    def writing(number: int, frame: FrameType | None) -> None:
        heard.append(storage.rename("s", "by the handler").name or "")

    async def interrupted(core: Core) -> None:
        signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGUSR2)
        heard.append("working")

    async def main() -> None:
        signal.signal(signal.SIGUSR1, raising)
        signal.signal(signal.SIGUSR2, writing)
        with pytest.raises(Alarm):
            await aoperate(storage, interrupted)
        assert heard == ["working", "raising", "by the handler"]
        assert signal.getsignal(signal.SIGUSR1) is raising
        assert signal.getsignal(signal.SIGUSR2) is writing
        assert (await storage.arename("s", "later")).name == "later"

    asyncio.run(main())


@pytest.mark.no_cover
@pytest.mark.usefixtures("handlers")
def test_an_operation_that_has_left_is_ended_though_a_handler_raises(storage: SqliteStorage, tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "s.db", isolation_level=None, check_same_thread=False)

    def raising(number: int, frame: FrameType | None) -> None:
        raise Alarm

    async def interrupted(core: Core) -> None:
        from sessile.storage import writes

        signal.raise_signal(signal.SIGUSR1)
        await writes.rename(core, "s", "kept", user_id=None)

    async def main() -> None:
        signal.signal(signal.SIGUSR1, raising)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Alarm):
            await aoperate(storage, interrupted)
        other.execute("ROLLBACK")
        while (await storage.aget_session("s")).name != "kept":  # type: ignore[union-attr]  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    asyncio.run(main())
    other.close()


@pytest.mark.no_cover
@pytest.mark.usefixtures("handlers")
def test_a_stand_in_that_is_left_hands_on_and_goes() -> None:
    """As when a handler raises before all of them are back in their places."""
    heard: list[str] = []
    left: list[Any] = []

    def first(number: int, frame: FrameType | None) -> None:
        heard.append("first")

    signal.signal(signal.SIGUSR1, first)
    deferred(lambda: left.append(signal.getsignal(signal.SIGUSR1)))
    assert signal.getsignal(signal.SIGUSR1) is first
    signal.signal(signal.SIGUSR1, left[0])
    assert deferred(lambda: (signal.raise_signal(signal.SIGUSR1), list(heard))[1]) == []
    assert heard == ["first"]
    assert signal.getsignal(signal.SIGUSR1) is first
    signal.signal(signal.SIGUSR1, left[0])
    signal.raise_signal(signal.SIGUSR1)
    assert heard == ["first", "first"]
    assert signal.getsignal(signal.SIGUSR1) is first


def test_handlers_of_an_event_loop_are_heard(storage: SqliteStorage) -> None:
    async def main() -> None:
        heard = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, heard.set)
        mine = signal.getsignal(signal.SIGUSR1)

        async def interrupted(core: Core) -> Any:
            signal.raise_signal(signal.SIGUSR1)
            return signal.getsignal(signal.SIGUSR1)

        assert await aoperate(storage, interrupted) is mine  # it does nothing, and stays
        await heard.wait()
        asyncio.get_running_loop().remove_signal_handler(signal.SIGUSR1)

    asyncio.run(main())


def test_ctrl_c_cancels_the_main_task_of_asyncio(storage: SqliteStorage) -> None:
    """As `asyncio.run` does it: the operation ends, and the task is told at its next turn."""

    async def interrupted(core: Core) -> int:
        signal.raise_signal(signal.SIGINT)
        return 1

    ended: list[int] = []

    async def main() -> None:
        ended.append(await aoperate(storage, interrupted))
        await asyncio.sleep(60)

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    assert ended == [1]


def test_a_view_of_one_user(storage: SqliteStorage) -> None:
    places = Places(storage)
    asyncio.run(storage.for_user("ada").aadd_run("s", input="Hello"))
    assert ("append", True) in places.take()
