"""Faults at will: a driver over any other that loses answers, fails, waits, or is dead from some call on.

```python
from sessile import MemoryStorage
from sessile.testing import faults

storage = MemoryStorage()
plan = faults.Script("append", [faults.LOSE_ANSWER])
faults.inject(storage, plan)
storage.add_run("s1", input="Hello")     # written, its answer lost, found again: once in the log
```
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar

from ..errors import StorageError, StorageUnavailableError
from ..storage.core import Core
from ..storage.driver import Append, Capabilities, CommitRow, Deadline, Driver, HeadRow, ListQuery, Loaded, Span
from ..storage.storage import Storage

T = TypeVar("T")

READS = frozenset({"load", "entries", "list", "count", "get_record"})
"""The operations of a driver that read."""

WRITES = frozenset({"append", "delete", "put_record"})
"""The operations of a driver that write."""


class SimulatedCrash(BaseException):
    """The process is gone: nothing that this driver is asked to do happens any more.

    Not an `Exception`, because no code of a process that is gone handles it.
    """


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to one call.

    Attributes:
        kind: `before`: it fails and nothing is done. `after`: it is done, and then fails (a lost answer).
            `crash_before`, `crash_after`: as these, and the process is gone. `delay`: it is done later.
        retry: whether the error says that trying again may help.
        seconds: how long a delay is.
    """

    kind: Literal["before", "after", "crash_before", "crash_after", "delay"]
    retry: bool = True
    seconds: float = 0.0


FAIL = Fault("before")
REFUSE = Fault("before", retry=False)
LOSE_ANSWER = Fault("after")
CRASH_BEFORE = Fault("crash_before")
CRASH_AFTER = Fault("crash_after")


class Plan(Protocol):
    """Decides what happens to each call of a driver."""

    def __call__(self, operation: str) -> Fault | None:
        """The fault of the next call of an operation, None for none. Called from any thread."""
        ...


@dataclass(slots=True)
class Script:
    """Faults for the first calls of an operation (`"reads"` and `"writes"`: of any of these), one after the other.

    `calls` counts the calls of the operation.
    """

    operation: str
    faults: Sequence[Fault | None]
    calls: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, operation: str) -> Fault | None:
        if not _matches(self.operation, operation):
            return None
        with self._lock:
            self.calls += 1
            return self.faults[self.calls - 1] if self.calls <= len(self.faults) else None


@dataclass(slots=True)
class Always:
    """The same fault for every call of an operation (`"reads"`, `"writes"`: of any of these)."""

    operation: str
    fault: Fault

    def __call__(self, operation: str) -> Fault | None:
        return self.fault if _matches(self.operation, operation) else None


@dataclass(slots=True)
class Random:
    """Faults of appends by chance, repeatable by their seed.

    `lost` and `failed` are the probabilities that an append's answer is lost, and that it fails before it happens.
    """

    seed: int
    lost: float = 0.2
    failed: float = 0.2
    _random: random.Random = field(init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def __call__(self, operation: str) -> Fault | None:
        if operation != "append":
            return None
        with self._lock:
            chance = self._random.random()
        if chance < self.lost:
            return LOSE_ANSWER
        return FAIL if chance < self.lost + self.failed else None


def _matches(wanted: str, operation: str) -> bool:
    if wanted == "reads":
        return operation in READS
    return operation in WRITES if wanted == "writes" else operation == wanted


class FaultyDriver(Driver):
    """A driver over another one, whose calls go as a plan says. `inner` is the other one."""

    def __init__(self, inner: Driver, plan: Plan) -> None:
        self.inner = inner
        self.plan = plan
        self.name = inner.name  # pyright: ignore[reportAttributeAccessIssue] (it wears the other's name and way)
        self.suspends = inner.suspends  # pyright: ignore[reportAttributeAccessIssue]
        self.capabilities: Capabilities = inner.capabilities
        self._dead = False

    async def _call(self, operation: str, deadline: Deadline, action: Callable[[], Coroutine[Any, Any, T]]) -> T:
        if self._dead:
            raise SimulatedCrash
        fault = self.plan(operation)
        if fault is None:
            return await action()
        if fault.kind == "delay":
            await self.inner.pause(min(fault.seconds, deadline.remaining()))
            return await action()
        if fault.kind in ("after", "crash_after"):
            await action()
        if fault.kind in ("crash_before", "crash_after"):
            self._dead = True
            raise SimulatedCrash
        written = "unknown" if fault.kind == "after" and operation in WRITES else "no"
        kind = StorageUnavailableError if fault.retry else StorageError
        raise kind(f"An injected fault: {operation} failed.", retry=fault.retry, written=written)

    async def setup(self, deadline: Deadline) -> None:
        await self._call("setup", deadline, lambda: self.inner.setup(deadline))

    async def load(self, session_id: str, newest: int, deadline: Deadline) -> Loaded | None:
        return await self._call("load", deadline, lambda: self.inner.load(session_id, newest, deadline))

    async def append(self, write: Append, deadline: Deadline) -> bool:
        return await self._call("append", deadline, lambda: self.inner.append(write, deadline))

    async def entries(self, session_id: str, incarnation: str, span: Span, deadline: Deadline) -> list[CommitRow]:
        return await self._call(
            "entries", deadline, lambda: self.inner.entries(session_id, incarnation, span, deadline)
        )

    async def list(self, query: ListQuery, deadline: Deadline) -> list[HeadRow]:
        return await self._call("list", deadline, lambda: self.inner.list(query, deadline))

    async def count(self, query: ListQuery, deadline: Deadline) -> int:
        return await self._call("count", deadline, lambda: self.inner.count(query, deadline))

    async def delete(self, session_id: str, incarnation: str, deadline: Deadline) -> None:
        await self._call("delete", deadline, lambda: self.inner.delete(session_id, incarnation, deadline))

    async def get_record(self, session_id: str, incarnation: str, key: str, deadline: Deadline) -> bytes | None:
        return await self._call(
            "get_record", deadline, lambda: self.inner.get_record(session_id, incarnation, key, deadline)
        )

    async def put_record(
        self, session_id: str, incarnation: str, key: str, value: bytes | None, deadline: Deadline
    ) -> bool:
        return await self._call(
            "put_record", deadline, lambda: self.inner.put_record(session_id, incarnation, key, value, deadline)
        )

    async def catch_up(self, head: HeadRow, deadline: Deadline) -> None:
        await self._call("catch_up", deadline, lambda: self.inner.catch_up(head, deadline))

    async def sweep(self, before: int, deadline: Deadline) -> None:
        await self._call("sweep", deadline, lambda: self.inner.sweep(before, deadline))

    async def wait(self, session_id: str, incarnation: str, revision: int, deadline: Deadline) -> None:
        await self._call("wait", deadline, lambda: self.inner.wait(session_id, incarnation, revision, deadline))

    async def pause(self, seconds: float) -> None:
        await self.inner.pause(seconds)

    async def close(self) -> None:
        await self.inner.close()

    def after_fork(self) -> None:
        self.inner.after_fork()


async def wrap(core: Core, plan: Plan) -> None:
    """Put the plan before the driver of a core, in place of any plan that was there."""
    await core.prepare(core.deadline())
    core.driver = FaultyDriver(_innermost(core.driver), plan)


async def unwrap(core: Core) -> None:
    """Take the plan away again; a process that was gone is there again."""
    core.driver = _innermost(core.driver)


def _innermost(driver: Driver) -> Driver:
    return driver.inner if isinstance(driver, FaultyDriver) else driver


def inject(storage: Storage, plan: Plan) -> None:
    """Let the plan decide about all calls that the storage's synchronous face makes from now on."""
    storage.run_operation(wrap, plan)


def heal(storage: Storage) -> None:
    """Undo `inject`."""
    storage.run_operation(unwrap)


async def ainject(storage: Storage, plan: Plan) -> None:
    """`inject` for the asynchronous face, in the running event loop."""
    await storage.arun_operation(wrap, plan)


async def aheal(storage: Storage) -> None:
    """Undo `ainject`."""
    await storage.arun_operation(unwrap)
