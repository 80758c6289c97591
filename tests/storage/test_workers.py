"""The threads and the background loop behind the two faces."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from sessile import MemoryStorage, Storage
from sessile.drivers.memory import MemoryDriver
from sessile.errors import SessileError, StorageError
from sessile.storage.faces import Worker, background, step

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
        assert (await storage.arun("s", 1)).input == "kept"

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
        task = asyncio.create_task(storage.asession("s"))
        await asyncio.get_running_loop().run_in_executor(None, inside.wait)
        task.cancel()
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await storage.asession("s") is None

    with Storage(driver) as storage:
        asyncio.run(main(storage))


def test_a_sync_call_that_would_wait_for_itself_is_refused() -> None:
    storage, _ = suspending()

    async def inside() -> None:
        with pytest.raises(SessileError, match="Await the method's twin"):
            storage.session("s")
        assert await storage.asession("s") is None

    with storage:
        background.run(inside())


def test_stepping() -> None:
    async def plain() -> int:
        return 42

    assert step(plain()) == 42
