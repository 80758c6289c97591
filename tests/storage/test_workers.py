"""The threads and the background loop behind the two faces."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sessile import MemoryStorage, SqliteStorage, Storage
from sessile.drivers.memory import MemoryDriver
from sessile.errors import SessileError, StorageError, StorageUnavailableError
from sessile.storage.faces import background, step
from sessile.storage.threads import Job, Threads, Worker

from .helpers import Tapped, suspending


def test_cancelling_a_caller_does_not_stop_what_was_begun(memory: MemoryStorage) -> None:
    driver = Tapped(MemoryDriver())
    inside, go = threading.Event(), threading.Event()

    def slowly(*args: Any) -> None:
        inside.set()
        go.wait()

    async def main(storage: Storage) -> None:
        driver.before["append"] = slowly
        task = asyncio.create_task(storage.aadd_run("s", input="kept"))
        await asyncio.get_running_loop().run_in_executor(None, inside.wait)
        driver.before.clear()
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done(), "what was begun is waited for"
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await storage.aget_run("s", 1)).input == "kept"

    with Storage(driver) as storage:
        asyncio.run(main(storage))


def test_a_caller_whose_loop_is_gone_and_one_who_gave_up_on_an_error() -> None:
    worker = Worker()
    inside, go, done = threading.Event(), threading.Event(), threading.Event()

    def fail() -> None:
        inside.set()
        go.wait()
        done.set()
        raise StorageError("nobody hears this")

    async def give_up() -> None:
        task = asyncio.create_task(worker.run(fail))
        await asyncio.get_running_loop().run_in_executor(None, inside.wait)
        task.cancel()
        go.set()

    async def answer() -> int:
        return await worker.run(lambda: 42)

    asyncio.run(give_up())
    go.set()
    done.wait()
    assert asyncio.run(answer()) == 42
    worker.close()


def test_a_caller_who_gave_up_on_what_then_fails(memory: MemoryStorage) -> None:
    inside, go = threading.Event(), threading.Event()
    driver = Tapped(MemoryDriver())

    def fail(*args: Any) -> None:
        driver.before.clear()
        inside.set()
        go.wait()
        raise StorageError("Nobody hears this.")

    async def main(storage: Storage) -> None:
        driver.before["load"] = fail
        task = asyncio.create_task(storage.aget_session("s"))
        await asyncio.get_running_loop().run_in_executor(None, inside.wait)
        task.cancel()
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await storage.aget_session("s") is None

    with Storage(driver) as storage:
        asyncio.run(main(storage))


def test_a_sync_call_that_would_wait_for_itself_is_refused() -> None:
    storage, _ = suspending()

    async def inside() -> None:
        with pytest.raises(SessileError, match="Await the method whose name begins"):
            storage.get_session("s")
        assert await storage.aget_session("s") is None

    with storage:
        background.run(inside())


def test_stepping() -> None:
    async def plain() -> int:
        return 42

    assert step(plain()) == 42


# ---------------------------------------------------------------- threads


def test_threads_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a container has reached its limit: an operation says so at once, and when there is room, all goes on."""
    start = threading.Thread.start

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def main(storage: Storage) -> None:
        monkeypatch.setattr(threading.Thread, "start", refuse)
        for _ in range(6):
            with pytest.raises(StorageUnavailableError, match="No thread can be started") as caught:
                await storage.aget_session("s")
            assert caught.value.written == "no"
        monkeypatch.setattr(threading.Thread, "start", start)
        await storage.acreate_session("s")
        monkeypatch.setattr(threading.Thread, "start", refuse)
        heads = await asyncio.gather(*(storage.aget_session("s") for _ in range(8)))  # by the one that there is
        assert all(head is not None for head in heads)
        names = await asyncio.gather(*(storage.arename("s", str(number)) for number in range(8)))
        assert len({head.name for head in names}) == 8
        monkeypatch.setattr(threading.Thread, "start", start)

    with MemoryStorage() as storage:
        asyncio.run(main(storage))


def test_a_call_that_has_not_begun_can_be_cancelled() -> None:
    worker, go, ran = Worker(threads=1), threading.Event(), []

    async def main() -> None:
        first = asyncio.create_task(worker.run(go.wait))
        second = asyncio.create_task(worker.run(lambda: ran.append("second")))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await second
        go.set()
        await first

    asyncio.run(main())
    worker.close()
    assert ran == []


def test_what_a_call_returned_is_gone_with_its_last_user() -> None:
    """Without the garbage collector: a thousand sessions that were loaded would wait for it."""

    class Result:
        pass

    async def main() -> None:
        result = await worker.run(Result)
        gone = weakref.ref(result)
        del result
        await worker.run(lambda: None)  # the thread, too, has let go of it
        assert gone() is None

    worker = Worker(threads=1)
    gc.disable()
    try:
        asyncio.run(main())
    finally:
        gc.enable()
        worker.close()


def test_every_job_is_done_once_and_no_more_at_once_than_may_be() -> None:
    """Of several workers with shared threads, from several threads at once."""
    shared = Threads()
    workers = [Worker(threads, shared) for threads in (1, 2, 3)]
    ran: deque[tuple[int, int]] = deque()
    at_work, most = [deque[None]() for _ in workers], [0, 0, 0]
    all_done = threading.Semaphore(0)

    def job(which: int, number: int) -> Job:
        def work() -> Callable[[], None]:
            at_work[which].append(None)
            most[which] = max(most[which], len(at_work[which]))
            ran.append((which, number))
            if number % 7 == 0:
                time.sleep(0.0005)
            at_work[which].pop()
            return all_done.release

        return work

    def leave(first: int) -> None:
        for number in range(first, 1200, 3):
            workers[number % 3 if number % 2 else 0].submit(job(number % 3 if number % 2 else 0, number))

    leaving = [threading.Thread(target=leave, args=(first,)) for first in range(3)]
    for thread in leaving:
        thread.start()
    for _ in range(1200):
        assert all_done.acquire(timeout=60)
    for thread in leaving:
        thread.join()
    assert sorted(number for _, number in ran) == list(range(1200))
    assert all(found <= threads for found, threads in zip(most, (1, 2, 3), strict=True))
    shared.close()


def test_writers_that_wait_hold_up_no_readers(tmp_path: Path) -> None:
    """Four writers wait for SQLite's lock, which somebody else holds; readers are answered meanwhile."""
    by_hand = sqlite3.connect(tmp_path / "s.db", isolation_level=None, check_same_thread=False)

    async def main(storage: Storage) -> None:
        await storage.acreate_session("s")
        by_hand.execute("BEGIN IMMEDIATE")
        writers = [asyncio.create_task(storage.arename("s", str(number))) for number in range(8)]
        forks = [asyncio.create_task(storage.afork("s", session_id=f"f{number}")) for number in range(8)]
        await asyncio.sleep(0.05)
        for _ in range(5):
            assert await storage.aget_session("s") is not None
            assert await storage.aruns("s") == []
        assert not any(task.done() for task in (*writers, *forks))
        by_hand.execute("ROLLBACK")
        await asyncio.gather(*writers, *forks)

    with SqliteStorage(tmp_path / "s.db") as storage:
        asyncio.run(main(storage))
    by_hand.close()


def test_what_is_left_after_the_threads_were_told_to_end_is_done() -> None:
    """As at the end of a process, when runs still store what they have."""

    async def main() -> list[str]:
        worker = Worker(2)
        done = [await worker.run(lambda: threading.current_thread().name)]
        ended = [thread for thread in threading.enumerate() if thread.name == done[0]]
        worker.close()
        for thread in ended:
            await asyncio.to_thread(thread.join, 1)
        return [*done, await worker.run(lambda: "more"), await worker.run(lambda: "and more")]

    assert asyncio.run(main())[1:] == ["more", "and more"]


def test_threads_go_on_until_the_process_has_stored_what_it_has(tmp_path: Path) -> None:
    """Handlers of the end of a process that run before ours do not take the threads away from runs that still end."""
    path = tmp_path / "s.db"
    program = f"""
import asyncio, atexit
from sessile import SqliteStorage
atexit.register(lambda: asyncio.run(storage.aadd_run("s", input="late", output="stored")))  # called last
storage = SqliteStorage({str(path)!r})
asyncio.run(storage.aadd_run("s", input="early", output="stored"))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    with SqliteStorage(path) as storage:
        assert [run.input for run in storage.runs("s")] == ["early", "late"]
