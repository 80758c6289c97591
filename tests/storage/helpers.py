"""Parts that the storage tests share: drivers that fail on demand, drivers that suspend, runs in the making."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from sessile import SqliteStorage, Storage
from sessile.drivers.memory import MemoryDriver
from sessile.drivers.sqlite import SqliteDriver
from sessile.records import Run
from sessile.storage import turns
from sessile.storage.driver import Driver
from sessile.storage.turns import Turn, TurnSpec

PORT = ("setup", "load", "append", "entries", "list", "delete", "get_record", "put_record", "count")


class Tapped(Driver):
    """A driver that counts the calls of another one, and calls `before` and `after` hooks around them.

    A hook is called with the call's arguments (`after`: with the result before them) and may raise; what an
    `after` hook returns, if it is not None, is returned in place of the result.
    """

    name = "tapped"

    def __init__(self, inner: Driver, **capabilities: Any) -> None:
        self.inner = inner
        self.capabilities = replace(inner.capabilities, **capabilities)
        self.before: dict[str, Callable[..., Any]] = {}
        self.after: dict[str, Callable[..., Any]] = {}
        self.calls: list[str] = []

    async def _call(self, name: str, *args: Any) -> Any:
        self.calls.append(name)
        if name in self.before:
            self.before[name](*args)
        result = await getattr(self.inner, name)(*args)
        changed = self.after[name](result, *args) if name in self.after else None
        return result if changed is None else changed

    async def close(self) -> None:
        await self.inner.close()


def _forwarded(name: str) -> Any:
    async def method(self: Tapped, *args: Any) -> Any:
        return await self._call(name, *args)

    return method


for _name in PORT:
    setattr(Tapped, _name, _forwarded(_name))
Tapped.__abstractmethods__ = frozenset()


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


def suspending() -> tuple[Storage, list[Suspending]]:
    """A storage over an "asynchronous client", and the clients that it has made."""
    made: list[Suspending] = []
    data = MemoryDriver()

    def make() -> Suspending:
        made.append(Suspending(data))
        return made[-1]

    return Storage(None, async_driver=make), made


def start(storage: Storage, session_id: str = "s", run_id: str = "r", **spec: Any) -> Turn:
    """A run that has been started, as an agent would."""
    turn = open_turn(storage, session_id, run_id, **spec)
    storage.run_operation(turns.start_turn, turn)
    return turn


def open_turn(storage: Storage, session_id: str = "s", run_id: str = "r", *, last_runs: int = 3, **spec: Any) -> Turn:
    """A run that has not been started."""
    given = TurnSpec(session_id, run_id, **{"input": f"input of {run_id}", **spec})
    return storage.run_operation(turns.open_turn, given, last_runs)


def say(turn: Turn, text: str) -> Any:
    """A message entry of a run."""
    return turn.entry("message", {"text": text}, "test/1")


def end(storage: Storage, turn: Turn, *texts: str, status: str = "completed", state: Any = (), **options: Any) -> None:
    """End a run, with these messages."""
    ended = {"status": status, "output": f"output of {turn.spec.run_id}"}
    entries = [say(turn, text) for text in texts]
    storage.run_operation(turns.end_turn, turn, entries, ended, list(state), **options)


def crash(storage: Storage, session_id: str = "s", run_id: str = "crashed") -> Turn:
    """A run whose process is gone: started, and its lease has run out."""
    turn = start(storage, session_id, run_id)
    wait_until(lambda: storage.run(session_id, turn.number).status == "interrupted")
    return turn


def take(storage: Storage, number: int | None = None, check: Any = lambda *args: [], **spec: Any) -> tuple[Turn, Run]:
    return storage.run_operation(turns.take_turn, TurnSpec("s", "ignored", None, **spec), number, 3, check)


def append(storage: Storage, turn: Turn, *said: str) -> None:
    storage.run_operation(turns.append_to_turn, turn, [say(turn, text) for text in said])


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
