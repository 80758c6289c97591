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
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeVar

from ..errors import StorageError, StorageUnavailableError
from ..storage.core import Core
from ..storage.driver import Deadline, Driver
from ..storage.storage import Storage, aoperate, operate
from ..storage.wrapping import READS, WRITES, WrappedDriver

T = TypeVar("T")


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
        retryable: whether the error says that trying again may help.
        seconds: how long a delay is.
    """

    kind: Literal["before", "after", "crash_before", "crash_after", "delay"]
    retryable: bool = True
    seconds: float = 0.0


FAIL = Fault("before")
REFUSE = Fault("before", retryable=False)
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


class FaultyDriver(WrappedDriver):
    """A driver over another one, whose calls go as a plan says."""

    def __init__(self, inner: Driver, plan: Plan) -> None:
        super().__init__(inner)
        self.plan = plan
        self._dead = False

    async def around(self, operation: str, deadline: Deadline, call: Callable[[], Awaitable[T]]) -> T:
        """Do what the plan says for this call."""
        if self._dead:
            raise SimulatedCrash
        fault = self.plan(operation)
        if fault is None:
            return await call()
        if fault.kind == "delay":
            await self.inner.pause(min(fault.seconds, deadline.remaining()))
            return await call()
        if fault.kind in ("after", "crash_after"):
            await call()
        if fault.kind in ("crash_before", "crash_after"):
            self._dead = True
            raise SimulatedCrash
        written = "unknown" if fault.kind == "after" and operation in WRITES else "no"
        kind = StorageUnavailableError if fault.retryable else StorageError
        raise kind(f"An injected fault: {operation} failed.", retryable=fault.retryable, written=written)


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
    operate(storage, wrap, plan)


def heal(storage: Storage) -> None:
    """Undo `inject`."""
    operate(storage, unwrap)


async def ainject(storage: Storage, plan: Plan) -> None:
    """`inject` for the asynchronous face, in the running event loop."""
    await aoperate(storage, wrap, plan)


async def aheal(storage: Storage) -> None:
    """Undo `ainject`."""
    await aoperate(storage, unwrap)
