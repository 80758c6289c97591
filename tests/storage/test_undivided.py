"""Commits that are not left half-way: cancellations that arrive meanwhile are raised when they are done."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import pytest

from sessile import MemoryStorage, Storage
from sessile.drivers.memory import MemoryDriver
from sessile.errors import InvalidInputError, SessionNotFoundError
from sessile.storage import writes
from sessile.storage.storage import aoperate
from sessile.storage.undivided import kept_whole
from sessile.storage.uninterrupted import in_place

from .helpers import Tapped, suspending

Cancel = Callable[["asyncio.Task[Any]"], Coroutine[Any, Any, None]]


async def once(task: asyncio.Task[Any]) -> None:
    task.cancel()


async def again_and_again(task: asyncio.Task[Any]) -> None:
    for _ in range(5):
        task.cancel()
        await asyncio.sleep(0)


@pytest.mark.parametrize("cancel", [once, again_and_again])
@pytest.mark.parametrize("suspends", [False, True])
async def test_two_commits_and_a_lock_are_gone_through(cancel: Cancel, suspends: bool) -> None:
    storage = suspending()[0] if suspends else MemoryStorage()
    lock, done = asyncio.Lock(), list[str]()

    async def work() -> None:
        async with lock:
            for name in ("first", "second"):
                await aoperate(storage, writes.add_run, "s", input=name)
                done.append(name)

    await lock.acquire()
    task = asyncio.create_task(_awaiting(storage, work()))
    await asyncio.sleep(0)  # it waits for the lock
    await cancel(task)
    assert not task.done()
    lock.release()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == ["first", "second"]
    assert [run.input for run in await storage.aruns("s")] == ["first", "second"]
    await storage.aclose()


async def test_what_no_thread_has_begun_with_is_done_all_the_same() -> None:
    """A thread's job that has not begun is taken back when its caller is cancelled; not one of these."""
    driver, held = Tapped(MemoryDriver()), threading.Event()
    driver.before["append"] = lambda *_: held.wait()
    with Storage(driver) as storage:
        others = [asyncio.create_task(storage.aadd_run(f"other {number}")) for number in range(4)]
        await asyncio.sleep(0.01)  # they have all four threads that write
        task = asyncio.create_task(_awaiting(storage, aoperate(storage, writes.add_run, "s", input="kept")))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        held.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await storage.aget_run("s", 1)).input == "kept"
        await asyncio.gather(*others)


async def test_a_failure_counts_for_more_than_the_cancellation() -> None:
    reached = asyncio.Event()

    async def work() -> None:
        await reached.wait()
        raise ValueError("it was refused")

    task = asyncio.create_task(_awaiting(MemoryStorage(), work()))
    await asyncio.sleep(0)
    task.cancel()
    reached.set()
    with pytest.raises(ValueError, match="it was refused"):
        await task


@pytest.mark.parametrize("cancelled", [False, True])
async def test_the_work_itself_handles_what_a_thread_has_raised(cancelled: bool) -> None:
    storage, heard, inside = MemoryStorage(), list[str](), asyncio.Event()

    async def work() -> str:
        inside.set()
        try:
            await aoperate(storage, writes.rename, "none", "a name")
        except SessionNotFoundError as error:
            heard.append(type(error).__name__)
        await aoperate(storage, writes.add_run, "s", input="instead")
        return "done"

    task = asyncio.create_task(_awaiting(storage, work()))
    await inside.wait()
    if cancelled:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    else:
        assert await task == "done"
    assert heard == ["SessionNotFoundError"]
    assert storage.get_run("s", 1).input == "instead"


async def test_a_scope_that_cancels_again_and_again() -> None:
    storage = MemoryStorage()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await kept_whole(storage, aoperate(storage, writes.add_run, "s", input="kept"))
    assert scope.cancelled_caught
    assert storage.get_run("s", 1).input == "kept"


async def test_what_lets_others_go_first() -> None:
    async def work() -> str:
        await asyncio.sleep(0)
        return "done"

    assert await in_place(work()) == "done"


async def test_a_failure_of_the_storage_is_the_works_own_to_handle() -> None:
    storage = MemoryStorage()

    async def work() -> str:
        try:
            await aoperate(storage, writes.add_run, "", input="refused")
        except InvalidInputError:
            await aoperate(storage, writes.add_run, "s", input="kept")
            return "handled"
        return "not refused"

    assert await kept_whole(storage, work()) == "handled"
    assert storage.get_run("s", 1).input == "kept"


def test_a_loop_that_ends_leaves_nothing_behind() -> None:
    ended = list[str]()

    async def work() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append("closed")

    loop = asyncio.new_event_loop()
    task = loop.create_task(_awaiting(MemoryStorage(), work()))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    del task
    gc.collect()
    assert ended == ["closed"]


async def _awaiting(storage: Storage, work: Coroutine[Any, Any, Any]) -> Any:
    return await kept_whole(storage, work)
