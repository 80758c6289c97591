"""One operation, two faces: from scripts, threads, event loops one after the other and at once."""

from __future__ import annotations

import asyncio
import copy
import gc
import inspect
import pickle
import signal
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest

from sessile import MemoryStorage, SqliteStorage, Storage
from sessile.drivers.memory import MemoryDriver
from sessile.errors import (
    ClosedError,
    InvalidInputError,
    SessionNotFoundError,
    UnsupportedError,
)
from sessile.storage import Deadline, Driver, ListQuery
from sessile.storage.faces import BackgroundTask, background, step

from .helpers import Suspending, Tapped, suspending


@pytest.fixture(params=["memory", "sqlite", "suspending"])
def any_storage(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "suspending":
        storage: Storage = suspending()[0]
    else:
        storage = MemoryStorage() if request.param == "memory" else SqliteStorage(tmp_path / "s.db")
    yield storage
    storage.close()


# ---------------------------------------------------------------- the two faces


WITHOUT_IO = {"capabilities", "files", "for_user", "index", "memories", "scope", "settings", "stats"}


def test_every_method_that_does_io_comes_twice() -> None:
    names = [name for name in dir(Storage) if not name.startswith("_")]
    for name in names:
        value = inspect.getattr_static(Storage, name)
        if name in WITHOUT_IO or f"a{name}" in names:
            continue
        assert name.startswith("a"), f"{name} has no asynchronous twin"
        assert name[1:] in names
        assert inspect.iscoroutinefunction(value) or inspect.isasyncgenfunction(value), name
        twin = inspect.getattr_static(Storage, name[1:])
        assert inspect.signature(value).parameters == inspect.signature(twin).parameters


async def test_everything_in_async_code(any_storage: Storage) -> None:
    storage = any_storage
    await storage.asetup()
    await storage.acreate_session("s", name="N")
    await storage.aadd_run("s", format="test/1", messages=[{"text": "x"}], user_id=None)
    await storage.arename("s", "M")
    await storage.aset_metadata("s", {"m": 1})
    await storage.aupdate_state("s", {"a": 1})
    await storage.aset_ttl("s", 1000)
    head = await storage.aget_session("s")
    assert head is not None
    assert (head.name, head.metadata, head.state) == ("M", {"m": 1}, {"a": 1})
    assert len((await storage.asessions()).items) == await storage.acount_sessions() == 1
    assert (await storage.aget_run("s", 1)).number == 1
    assert len(await storage.aruns("s")) == len(await storage.amessages("s")) == 1
    assert await storage.averify("s") == 6
    assert len(await storage.aentries("s")) == 8
    assert (await storage.afork("s", session_id="f")).run_count == 1
    assert (await storage.arewind("s", at=0)).tip == 0
    assert len(await storage.abranches("s")) == 2
    assert await storage.acancel_run("s") is False
    view = await storage.aget_session("f", last_runs=3)
    assert view is not None
    assert [run.number for run in view.runs] == [1]
    with pytest.raises(SessionNotFoundError):
        await storage.amedia("absent", "0" * 64)
    assert await storage.adelete("s") is True
    assert await storage.adelete_user("nobody") == 0
    assert await storage.asweep() == 0
    await storage.aclose()
    with pytest.raises(ClosedError):
        await storage.aget_session("s")


def test_sync_calls_work_where_an_event_loop_runs(any_storage: Storage) -> None:
    async def notebook() -> None:
        any_storage.add_run("s", input="from a cell")  # a blocking call, as people write it in notebooks
        assert any_storage.get_run("s", 1).input == "from a cell"
        assert (await any_storage.aget_run("s", 1)).input == "from a cell"

    asyncio.run(notebook())


def test_several_event_loops_after_each_other_and_at_once(any_storage: Storage) -> None:
    async def work(name: str) -> None:
        await asyncio.gather(*(any_storage.aadd_run("s", input=f"{name}{number}") for number in range(5)))

    for name in "ab":
        asyncio.run(work(name))
    threads = [threading.Thread(target=lambda name=name: asyncio.run(work(name))) for name in "cdef"]
    for thread in threads:
        thread.start()
    for number in range(5):
        any_storage.add_run("s", input=f"g{number}")
    for thread in threads:
        thread.join()
    expected = {f"{name}{number}" for name in "abcdefg" for number in range(5)}
    assert {run.input for run in any_storage.runs("s")} == expected
    assert any_storage.verify("s") == 35


async def test_following_in_async_code(any_storage: Storage) -> None:
    await any_storage.acreate_session("s")
    seen: list[str] = []

    async def follow() -> None:
        async for entry in any_storage.afollow("s", poll=0.001):
            seen.append(entry.kind)
            if entry.kind == "session.created":
                await any_storage.arename("s", "x")
            elif entry.kind == "session.renamed":
                await any_storage.adelete("s")

    await follow()
    assert seen == ["session.created", "session.renamed"]
    with pytest.raises(SessionNotFoundError):
        async for _ in any_storage.afollow("s"):
            pass
    with pytest.raises(InvalidInputError):
        async for _ in any_storage.afollow("s", poll=0):
            pass


async def test_many_followers_do_not_keep_others_waiting(sqlite: SqliteStorage) -> None:
    """Waiting for news occupies no worker thread; there are few of them."""
    await sqlite.acreate_session("s")

    async def follow() -> None:
        async for _ in sqlite.afollow("s", poll=1e6):
            started.release()

    started = asyncio.Semaphore(0)
    tasks = [asyncio.create_task(follow()) for _ in range(20)]
    for _ in tasks:
        await started.acquire()
    for _ in range(20):
        await sqlite.arename("s", "still answers")
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def test_a_database_that_pushes_is_not_polled() -> None:
    class Pushing(MemoryDriver):
        waited: tuple[int, ...] = ()

        async def wait(self, session_id: str, incarnation: str, revision: int, deadline: Deadline) -> None:
            self.waited += (revision,)
            storage.rename("s", "pushed")

    driver = Pushing()
    driver.capabilities = Tapped(driver, push=True).capabilities
    with Storage(driver) as storage:
        storage.create_session("s")
        entries = storage.follow("s", after=1, poll=1e6)
        assert next(entries).kind == "session.renamed"
        assert driver.waited == (1,)


# ---------------------------------------------------------------- drivers that suspend


def test_each_event_loop_has_a_client_of_its_own() -> None:
    storage, made = suspending()
    assert storage.capabilities.durable is False

    async def work() -> None:
        await storage.aadd_run("s")
        await storage.aadd_run("s")
        await storage.aclose()

    storage.add_run("s")
    asyncio.run(work())
    assert len(made) == 2
    assert made[0].loop is background.loop()
    assert [driver.closed for driver in made] == [True, True]


def test_closing_from_sync_code_closes_the_client_of_the_background_loop() -> None:
    storage, made = suspending()
    with storage:
        storage.add_run("s")
    assert [driver.closed for driver in made] == [True]
    with suspending()[0] as never_used:
        never_used.close()


def test_errors_come_through_the_background_loop() -> None:
    storage, _ = suspending()
    with storage, pytest.raises(SessionNotFoundError):
        storage.rename("absent", "x")


def test_a_driver_with_both_faces() -> None:
    data = MemoryDriver()
    made: list[Suspending] = []

    def make() -> Suspending:
        made.append(Suspending(data))
        return made[-1]

    with Storage(data, async_driver=make) as storage:
        storage.add_run("s")
        assert made == []

        async def work() -> int:
            return (await storage.aadd_run("s")).number

        assert asyncio.run(work()) == 2
        assert len(made) == 1


def test_clients_of_event_loops_that_are_closed_are_let_go_of() -> None:
    storage, made = suspending()
    for _ in range(3):
        asyncio.run(storage.asessions())
    ours = [weakref.ref(driver) for driver in made]
    made.clear()
    gc.collect()
    assert [driver() is None for driver in ours] == [True, True, True]


def test_a_client_that_event_loops_share_is_closed_with_the_last_of_them() -> None:
    """One that the application has handed over: a loop that ends must not take it from another one's running work."""

    class Shared(MemoryDriver):
        suspends, closed = True, 0

        async def close(self) -> None:
            self.closed += 1

    driver = Shared()
    storage = Storage(None, async_driver=lambda: driver)
    with asyncio.Runner() as runner:
        runner.run(storage.aadd_run("s", input=1))
        assert asyncio.run(storage.aadd_run("s", input=2)).number == 2
        assert driver.closed == 0
        assert [run.input for run in runner.run(storage.aruns("s"))] == [1, 2]
    assert driver.closed == 1


def test_an_interrupt_cancels_what_runs_in_the_background_and_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    stored: list[str] = []
    begun = threading.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            stored.append("what there is")
            raise

    class Interrupted(threading.Event):
        first = True

        def wait(self, timeout: float | None = None) -> bool:
            if self.first:
                self.first = False
                begun.wait()
                raise KeyboardInterrupt
            return super().wait(timeout)

    loop = background.loop()
    monkeypatch.setattr("sessile.storage.faces.threading.Event", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        background.run(work())
    assert stored == ["what there is"]
    assert background.loop() is loop


@pytest.mark.parametrize("begins", [True, False])
def test_an_interrupt_while_work_is_started(monkeypatch: pytest.MonkeyPatch, begins: bool) -> None:
    """Just after the background has got it, or just before: nothing goes on without a caller, nothing hangs."""
    start, seen = BackgroundTask.start, []

    async def work() -> None:
        seen.append("begun")
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("stored")

    def interrupted(task: BackgroundTask[Any]) -> None:
        if begins:
            start(task)
            while not seen:
                pass
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(BackgroundTask, "start", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            background.run(work())
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == (["begun", "stored"] if begins else [])


def test_a_driver_that_says_it_blocks_and_suspends_is_told_so() -> None:
    class Lying(MemoryDriver):
        async def load(self, *args: Any) -> Any:
            future: asyncio.Future[None] = asyncio.Future(loop=asyncio.new_event_loop())
            try:
                await future
            finally:
                future.get_loop().close()

    with Storage(Lying()) as storage, pytest.raises(RuntimeError, match="declares suspends=False has awaited"):
        storage.get_session("s")


# ---------------------------------------------------------------- closing, and bad arguments


def test_closing_twice_and_using_it_afterwards(any_storage: Storage) -> None:
    any_storage.add_run("s")
    any_storage.close()
    any_storage.close()
    for call in (lambda: any_storage.get_session("s"), lambda: any_storage.add_run("s"), any_storage.setup):
        with pytest.raises(ClosedError, match="Make a new storage object"):
            call()


async def test_as_an_async_context_manager(any_storage: Storage) -> None:
    async with any_storage as storage:
        await storage.aadd_run("s")
    await storage.aclose()
    with pytest.raises(ClosedError):
        await storage.aadd_run("s")


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), 1e10, "5", None, True])
def test_bad_times(value: Any) -> None:
    for option in ("timeout", "lease"):
        with pytest.raises(InvalidInputError, match=f"{option} must be a number of seconds"):
            MemoryStorage(**{option: value})


def test_a_storage_needs_a_driver() -> None:
    with pytest.raises(InvalidInputError, match="needs a driver"):
        Storage(None)


def test_what_drivers_need_not_write_themselves() -> None:
    class Plain(Tapped):
        count = Driver.count  # the generic form

    driver = Plain(MemoryDriver())
    with Storage(driver) as storage:
        for number in range(501):
            storage.create_session(f"s{number}", kind="team" if number else "agent")
        assert storage.count_sessions() == 501
        assert storage.count_sessions(kind="team", order="created") == 500
        assert driver.calls.count("list") == 4
        with pytest.raises(UnsupportedError, match="cannot push"):
            step(driver.wait("s", "i", 1, Deadline(1)))
        assert step(driver.list(ListQuery(limit=1), Deadline(1))).rows[0].kind == "team"
        assert asyncio.run(driver.pause(0)) is None
        assert asyncio.run(Suspending().pause(0)) is None
        for hook in (driver.before_fork, driver.after_fork_in_parent, driver.after_fork):
            assert hook() is None


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_storage_is_not_copied(any_storage: Storage, copied: Any) -> None:
    """A copy would share connections that only one of them knows to close, and to give up in a fork."""
    with pytest.raises(UnsupportedError, match="in each other process"):
        copied(any_storage)
