"""Commits of several tasks of one event loop are one transaction, with `SqliteStorage(on_loop=True)`."""

from __future__ import annotations

import asyncio
import gc
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from sessile import Session, SqliteStorage
from sessile.drivers import sqlite
from sessile.drivers.sqlite import SqliteDriver
from sessile.errors import ReadOnlyError, StorageError, StorageUnavailableError
from sessile.storage import on_loop, pace
from sessile.storage.lanes import WRITERS
from sessile.storage.rows import Append

from .helpers import Tapped

TASKS = 20


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow disk is taken for a quick one: else it would decide what is tested here."""
    monkeypatch.setattr(on_loop, "QUICK", 60.0)
    monkeypatch.setattr(on_loop, "OTHERS", 60.0)
    monkeypatch.setattr(on_loop, "ROUND", 60.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s.db"


@pytest.fixture
def storage(path: Path) -> Iterator[SqliteStorage]:
    with SqliteStorage(path, on_loop=True) as storage:
        for number in range(TASKS):
            storage.create_session(f"s{number}")
        yield storage


def writes(storage: SqliteStorage, before: Callable[[Sequence[Append]], object] = len) -> list[int]:
    """How many commits each transaction has; `before` is called before each."""
    core = storage._core
    assert core is not None
    driver = core.driver
    assert isinstance(driver, SqliteDriver)
    written, sizes = driver._written, list[int]()

    def counted(writes: Sequence[Append], *args: Any) -> Collection[str]:
        before(writes)
        sizes.append(len(writes))
        return written(writes, *args)

    driver._written = counted  # type: ignore[method-assign]
    return sizes


async def together(storage: SqliteStorage, names: Collection[str], what: str = "Hello") -> list[Any]:
    """A run added to each session, by a task each; what came of them."""
    return await asyncio.gather(*(storage.aadd_run(name, input=what) for name in names), return_exceptions=True)


NAMES = [f"s{number}" for number in range(TASKS)]


def inputs(storage: SqliteStorage, name: str) -> list[Any]:
    return [run.input for run in storage.runs(name)]


def test_commits_of_tasks_are_one_transaction(storage: SqliteStorage) -> None:
    sizes = writes(storage)
    runs = asyncio.run(together(storage, NAMES))
    assert [run.number for run in runs] == [1] * TASKS
    assert sum(sizes) == TASKS
    assert len(sizes) <= 3, "the first may go alone: nobody has come yet"
    assert [inputs(storage, name) for name in NAMES] == [["Hello"]] * TASKS


def test_a_lone_task_waits_for_nobody(storage: SqliteStorage) -> None:
    """What comes before its answer: not one turn of another callback."""
    turns: list[int] = []

    async def main() -> None:
        asyncio.get_running_loop().call_soon(turns.append, 1)
        await storage.aadd_run("s0", input="Hello")
        assert not turns

    asyncio.run(main())


def test_two_tasks_of_one_session_both_write(storage: SqliteStorage) -> None:
    runs = asyncio.run(together(storage, ["s0", "s1", "s0", "s2", "s0"]))
    assert not [run for run in runs if isinstance(run, BaseException)]
    assert [run.input for run in storage.runs("s0")] == ["Hello"] * 3
    assert sorted(run.number for run in storage.runs("s0")) == [1, 2, 3]


def test_who_loses_a_race_tries_again_and_the_others_have_won(storage: SqliteStorage, path: Path) -> None:
    with SqliteStorage(path) as other:
        for name in NAMES:
            assert asyncio.run(storage.aget_session(name)) is not None  # remembered, and now out of date
        other.add_run("s3", input="between")
        runs = asyncio.run(together(storage, NAMES))
    assert not [run for run in runs if isinstance(run, BaseException)]
    assert inputs(storage, "s3") == ["between", "Hello"]
    assert inputs(storage, "s4") == ["Hello"]


def test_while_another_process_writes_they_wait_in_threads(storage: SqliteStorage, path: Path) -> None:
    asyncio.run(together(storage, NAMES, "first"))
    holder = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN IMMEDIATE")

    async def main() -> list[Any]:
        waiting = asyncio.create_task(together(storage, NAMES))
        for _ in range(20):  # the loop goes on
            await asyncio.sleep(0.005)
        assert not waiting.done()
        holder.execute("ROLLBACK")
        return await waiting

    try:
        assert not [run for run in asyncio.run(main()) if isinstance(run, BaseException)]
    finally:
        holder.close()
    assert [inputs(storage, name) for name in NAMES] == [["first", "Hello"]] * TASKS


@pytest.mark.parametrize("written", ["before", "after"])
def test_a_lost_answer_is_nobodys_lost_run(
    storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    """Of a transaction whose end nobody has heard of: each looks whether its commit is there."""
    fails, commit = [True], sqlite.commit

    def cut(connection: sqlite3.Connection) -> None:
        if written == "after" or not fails:
            commit(connection)
        if fails:
            fails.clear()
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise StorageUnavailableError("The disk has not answered.", written="unknown")

    asyncio.run(together(storage, NAMES, "first"))
    monkeypatch.setattr(sqlite, "commit", cut)
    runs = asyncio.run(together(storage, NAMES))
    assert not [run for run in runs if isinstance(run, BaseException)]
    assert [inputs(storage, name) for name in NAMES] == [["first", "Hello"]] * TASKS


def test_what_is_refused_is_refused_to_each_by_itself(storage: SqliteStorage) -> None:
    """The session of one of them cannot be written; the others' can."""

    def refuse(writes: Sequence[Append]) -> None:
        if any(write.session_id == "s5" for write in writes):
            raise ReadOnlyError("This one is not to be written.", written="no")

    writes(storage, refuse)
    runs = asyncio.run(together(storage, NAMES))
    assert [name for name, run in zip(NAMES, runs, strict=True) if isinstance(run, ReadOnlyError)] == ["s5"]
    assert len([run for run in runs if isinstance(run, StorageError)]) == 1
    assert inputs(storage, "s6") == ["Hello"]


def test_a_cancelled_task_hears_of_it_when_its_commit_is_there(storage: SqliteStorage) -> None:
    tasks: list[asyncio.Task[Any]] = []

    def cancel(writes: Sequence[Append]) -> None:
        while tasks and len(writes) > 1:  # the first goes alone, before the others have begun
            tasks.pop().cancel()

    async def main() -> None:
        every = [asyncio.create_task(storage.aadd_run(name, input="Hello")) for name in NAMES]
        tasks.extend(every[2::2])
        ends = await asyncio.gather(*every, return_exceptions=True)
        assert {type(end) for end in ends[2::2]} == {asyncio.CancelledError}
        assert not [end for end in ends[1::2] if isinstance(end, BaseException)]

    writes(storage, cancel)
    asyncio.run(main())
    assert [inputs(storage, name) for name in NAMES] == [["Hello"]] * TASKS


def test_what_is_cancelled_while_another_process_writes_is_not_done(storage: SqliteStorage, path: Path) -> None:
    asyncio.run(together(storage, NAMES, "first"))
    holder = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN IMMEDIATE")

    async def main() -> int:
        tasks = [asyncio.create_task(storage.aadd_run(name, input="Hello")) for name in NAMES]
        await asyncio.sleep(0.1)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=0.5)
        ended = [task for task in tasks if task.done()]
        holder.execute("ROLLBACK")
        await asyncio.gather(*tasks, return_exceptions=True)
        return len(ended)

    try:
        ended = asyncio.run(main())
    finally:
        holder.close()
    assert ended >= TASKS - WRITERS, "what threads have not begun with is withdrawn"
    written = [name for name in NAMES if inputs(storage, name) == ["first", "Hello"]]
    assert len(written) <= TASKS - ended


class StruckError(Exception):
    """What a handler raises."""


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no signals here")
def test_a_handler_that_raises_keeps_nobody_waiting(storage: SqliteStorage) -> None:
    """In the middle of a transaction of many, and before it has begun."""

    def strike(number: int, frame: object) -> None:
        raise StruckError

    def shoot(writes: Sequence[Append]) -> None:
        if len(writes) > 1 and not shot:
            shot.append(1)
            signal.raise_signal(signal.SIGUSR1)

    shot: list[int] = []
    writes(storage, shoot)
    before = signal.signal(signal.SIGUSR1, strike)
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)
    try:
        runs = loop.run_until_complete(together(storage, NAMES))
    finally:
        signal.signal(signal.SIGUSR1, before)
        loop.close()
    assert shot
    assert not [run for run in runs if isinstance(run, BaseException)]
    assert [inputs(storage, name) for name in NAMES] == [["Hello"]] * TASKS


def test_a_slow_disk_is_left_to_threads(storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many commits wait for it together."""
    monkeypatch.setattr(on_loop, "QUICK", 0.002)
    monkeypatch.setattr(pace, "PAUSE", 60.0)
    loops: list[bool] = []

    def slow(writes: Sequence[Append]) -> None:
        loops.append(threading.current_thread() is threading.main_thread())
        time.sleep(0.02)

    writes(storage, slow)

    async def main() -> None:
        for number in range(20):
            await together(storage, NAMES[:4], str(number))

    asyncio.run(main())
    assert loops[0]
    assert not any(loops[40:])


def test_an_event_loop_after_another_one_begins_anew(storage: SqliteStorage) -> None:
    loop = asyncio.new_event_loop()
    task = loop.create_task(together(storage, NAMES, "lost with its loop"))
    loop.call_soon(lambda: loop.call_soon(loop.stop))
    loop.run_forever()
    task.cancel()
    loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
    loop.close()
    runs = asyncio.run(together(storage, NAMES))
    assert not [run for run in runs if isinstance(run, BaseException)]


def test_a_call_in_the_middle_of_another_one_goes_alone(storage: SqliteStorage) -> None:
    """As in a finalizer, which may run at any moment, also while an operation is on the event loop."""
    core = storage._core
    assert core is not None
    core.driver = tapped = Tapped(core.driver)
    inside: list[int] = []

    class Ring:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            inside.append(storage.add_run("s0", input="inside").number)

    def call(*_: Any) -> None:
        tapped.before.clear()
        Ring()
        gc.collect()

    async def main() -> list[Any]:
        await together(storage, NAMES[5:10])  # others use the storage at this moment
        tapped.before["append"] = call
        return await together(storage, NAMES[10:])

    assert not [run for run in asyncio.run(main()) if isinstance(run, BaseException)]
    assert inside == [1]
    assert inputs(storage, "s0") == ["inside"]


def test_sessions_that_are_made_go_alone(storage: SqliteStorage) -> None:
    runs = asyncio.run(together(storage, [f"new {number}" for number in range(TASKS)]))
    assert not [run for run in runs if isinstance(run, BaseException)]
    assert all(isinstance(storage.get_session(f"new {number}"), Session) for number in range(TASKS))
