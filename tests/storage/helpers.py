"""Parts that the storage tests share: drivers that fail on demand, drivers that suspend, runs in the making."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sessile import SqliteStorage, Storage
from sessile.drivers.memory import MemoryDriver
from sessile.drivers.sqlite import SqliteDriver
from sessile.records import MICROSECOND, Run, Status
from sessile.storage import taking, turns
from sessile.storage.driver import Capabilities, Deadline, Driver, Loaded
from sessile.storage.extending import operate
from sessile.storage.rows import CommitRow, RecordName
from sessile.storage.turns import Turn, TurnSpec
from sessile.storage.vocabulary import MessageAdded, RunEnded
from sessile.storage.wrapping import WrappedDriver

PORT = ("setup", "load", "append", "entries", "list", "delete", "get_record", "put_record", "count")


def hurry(storage: Storage, seconds: float) -> None:
    """Give each further operation this long.

    A test of a short deadline sets its database up with a long one: a busy machine takes its time for that.
    """
    storage._settings = settings = replace(storage._settings, timeout=seconds)
    for core in (storage._core, *storage._loop_cores.values()):
        if core is not None:
            core.settings = settings


class Tapped(WrappedDriver):
    """A driver that counts the calls of another one, and calls `before` and `after` hooks around them.

    A hook is called with the call's arguments (`after`: with the result before them) and may raise; what an
    `after` hook returns, if it is not None, is returned in place of the result.
    """

    def __init__(self, inner: Driver, **capabilities: Any) -> None:
        super().__init__(inner)
        self.declared = replace(inner.capabilities, **capabilities)
        self.before: dict[str, Callable[..., Any]] = {}
        self.after: dict[str, Callable[..., Any]] = {}
        self.calls: list[str] = []

    @property
    def capabilities(self) -> Capabilities:
        return self.declared

    async def _call(self, name: str, *args: Any) -> Any:
        self.calls.append(name)
        if name in self.before:
            self.before[name](*args)
        result = await getattr(self.inner, name)(*args)
        changed = self.after[name](result, *args) if name in self.after else None
        return result if changed is None else changed

    async def get_records(self, names: Sequence[RecordName], deadline: Deadline) -> list[bytes | None]:
        """One by one, so that hooks of `get_record` see each."""
        return await Driver.get_records(self, names, deadline)

    async def newest(
        self, sessions: Sequence[tuple[str, str]], count: int, deadline: Deadline
    ) -> list[list[CommitRow]]:
        """One by one, so that hooks of `entries` see each."""
        return await Driver.newest(self, sessions, count, deadline)


def _forwarded(name: str) -> Any:
    async def method(self: Tapped, *args: Any) -> Any:
        return await self._call(name, *args)

    return method


for _name in PORT:
    setattr(Tapped, _name, _forwarded(_name))


class Lagging(Tapped):
    """A driver whose heads are written `behind` appends late, as on a database without transactions."""

    def __init__(self, inner: MemoryDriver, behind: int = 1) -> None:
        super().__init__(inner, transactional_head=False)
        self.old: dict[str, list[Any]] = {}
        self.behind = behind
        self.after["append"] = self._remember
        self.after["load"] = self._lag

    def _remember(self, done: bool, write: Any, deadline: Any) -> None:
        if done:
            self.old.setdefault(write.session_id, []).append(write.head)

    def _lag(self, loaded: Any, session_id: str, newest: int, deadline: Any) -> Any:
        heads = self.old.get(session_id, [])
        if loaded is None or len(heads) <= self.behind:
            return loaded
        return loaded._replace(head=heads[-1 - self.behind])


class Suspending(MemoryDriver):
    """A driver over an "asynchronous client", which belongs to the event loop that it was first used in."""

    suspends = True

    def __init__(self, data: MemoryDriver | None = None) -> None:
        super().__init__()
        if data is not None:
            self._sessions, self._lock = data._sessions, data._lock
        self.loop: asyncio.AbstractEventLoop | None = None
        self.closed = False

    async def setup(self, deadline: Any) -> None:
        await self._here()

    async def load(self, *args: Any) -> Any:
        await self._here()
        return await super().load(*args)

    async def append(self, *args: Any) -> Any:
        await self._here()
        return await super().append(*args)

    async def _here(self) -> None:
        loop = asyncio.get_running_loop()
        self.loop = self.loop or loop
        assert self.loop is loop, "a client was used in another event loop"
        await asyncio.sleep(0)

    async def close(self) -> None:
        await self._here()
        self.closed = True


def suspending(**settings: Any) -> tuple[Storage, list[Suspending]]:
    """A storage over an "asynchronous client", and the clients that it has made."""
    made: list[Suspending] = []
    data = MemoryDriver()

    def make() -> Suspending:
        made.append(Suspending(data))
        return made[-1]

    return Storage(None, async_driver=make, **settings), made


async def longest_stall(work: Awaitable[Any]) -> float:
    """For how long the event loop did one thing at most while this was at work, in seconds of its thread's own time.

    What other threads and processes get of the machine meanwhile does not count.
    """
    longest, over = 0.0, False

    async def beat() -> None:
        nonlocal longest
        last = time.thread_time()
        while not over:
            await asyncio.sleep(0)
            now = time.thread_time()
            longest, last = max(longest, now - last), now

    beating = asyncio.create_task(beat())
    await asyncio.sleep(0)
    await work
    over = True
    await beating
    return longest


def start(storage: Storage, session_id: str = "s", run_id: str = "r", **spec: Any) -> Turn:
    """A run that has been started, as an agent would."""
    turn = open_turn(storage, session_id, run_id, **spec)
    operate(storage, turns.start_turn, turn)
    return turn


def open_turn(storage: Storage, session_id: str = "s", run_id: str = "r", *, last_runs: int = 3, **spec: Any) -> Turn:
    """A run that has not been started."""
    given = TurnSpec(session_id, run_id, **{"input": f"input of {run_id}", **spec})
    return operate(storage, turns.open_turn, given, last_runs)


def say(turn: Turn, text: str) -> Any:
    """A message entry of a run."""
    return turn.entry(MessageAdded({"text": text}), "test/1")


def end(
    storage: Storage, turn: Turn, *texts: str, status: Status = "completed", state: Any = (), **options: Any
) -> None:
    """End a run, with these messages."""
    ended = RunEnded(status=status, output=f"output of {turn.spec.run_id}")
    entries = [say(turn, text) for text in texts]
    operate(storage, turns.end_turn, turn, entries, ended, list(state), **options)


def crash(storage: Storage, session_id: str = "s", run_id: str = "crashed") -> Turn:
    """A run whose process is gone: started, and its lease has run out."""
    turn = start(storage, session_id, run_id)
    wait_until(lambda: storage.get_run(session_id, turn.number).status == "interrupted")
    return turn


def take(storage: Storage, number: int | None = None, check: Any = lambda *args: [], **spec: Any) -> tuple[Turn, Run]:
    return operate(storage, taking.take_turn, TurnSpec("s", "ignored", None, **spec), number, 3, check)


def append(storage: Storage, turn: Turn, *said: str) -> None:
    operate(storage, turns.append_to_turn, turn, [say(turn, text) for text in said])


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for a condition; a condition that never comes is shown by the test runner's fault handler."""
    while not condition():
        time.sleep(0.001)


def texts(messages: list[Any]) -> list[str]:
    return [message.data["text"] for message in messages]


def child(code: str, *args: str | Path) -> subprocess.Popen[str]:
    """A Python process that runs `code`, with `args` in `sys.argv[1:]`."""
    command = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for a child, and return what it printed."""
    out, err = process.communicate()
    assert process.returncode == 0, err
    return out


def driver_of(storage: SqliteStorage) -> SqliteDriver:
    assert storage._core is not None
    assert isinstance(storage._core.driver, SqliteDriver)
    return storage._core.driver


class Dated(WrappedDriver):
    """A driver whose database has a clock of its own, which `ahead` (seconds) sets before or after the true time.

    It goes by this machine's monotonic clock, as that of another machine would: nothing moves it from here.
    """

    def __init__(self, inner: Driver, ahead: float = 0.0) -> None:
        super().__init__(inner)
        self.ahead = ahead
        self._began = 1_800_000_000.0 - time.monotonic()

    @property
    def time(self) -> int:
        """The database's time, microseconds UTC."""
        return int((self._began + self.ahead + time.monotonic()) * MICROSECOND)

    async def now(self, deadline: Deadline) -> int:
        await super().now(deadline)
        return self.time

    async def load(self, session_id: str, newest: int, deadline: Deadline) -> Loaded | None:
        loaded = await super().load(session_id, newest, deadline)
        return None if loaded is None else loaded._replace(now=self.time)


class Counted(WrappedDriver):
    """A driver that counts calls, and the commits that reads bring."""

    def __init__(self, inner: Driver) -> None:
        super().__init__(inner)
        self.calls: Counter[str] = Counter()
        self.rows = 0

    async def around(self, operation: str, deadline: Deadline, call: Callable[[], Awaitable[Any]]) -> Any:
        self.calls[operation] += 1
        result = await call()
        if isinstance(result, Loaded):
            self.rows += len(result.commits)
        elif operation == "entries":
            self.rows += len(result)
        return result

    def reset(self) -> None:
        """Count from here on."""
        self.calls.clear()
        self.rows = 0
