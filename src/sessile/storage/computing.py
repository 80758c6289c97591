"""Computing on an event loop: what would take long is done in another thread, so that the loop serves others.

Operations over a driver that blocks are in a worker thread anyway. Those over one that suspends are awaited on the
caller's event loop, and so is all that agents do.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

from .driver import CommitRow, Driver
from .leaving import leave
from .threads import elsewhere

R = TypeVar("R")

LARGE = 512
"""What weighs as much is done in another thread: some 0.3 to 1 ms of computing, where a hop takes 0.04 ms."""

IN_TEXT = 200
"""How many characters of text weigh as much as one value of its own: to check, copy and write one takes about 1 µs."""

IN_JSON = 128
"""How many characters of JSON text weigh as much: it is read, and made into entries and runs, in about 1 µs."""

_LIGHT = frozenset((type(None), bool, int, float))
_kind_of: Callable[[Any], Any] = type


def weight(*values: Any) -> int:
    """About how many values these hold, text counted by its length; counted up to `LARGE`, in 30 µs at most."""
    total = 0
    todo: list[Iterable[Any]] = [values]  # of what holds others, what it holds
    while todo and total < LARGE:
        for item in todo.pop():  # most of it is small, and need not be looked at again
            kind = _kind_of(item)
            if kind is str:
                if len(item) >= IN_TEXT:
                    total += len(item) // IN_TEXT
            elif kind is dict:
                if item:
                    total += len(item)
                    todo.append(item.values())
            elif kind not in _LIGHT:
                size, items = _parts(item)
                total += size
                todo.append(items)
    return total


def _parts(value: Any) -> tuple[int, Iterable[Any]]:
    """What a value weighs without its parts, and these."""
    if isinstance(value, (list, tuple)):
        items = cast("list[Any]", value)
        return len(items), items
    if isinstance(value, dict):
        named = cast("dict[Any, Any]", value)
        return len(named), named.values()
    if isinstance(value, (str, bytes, bytearray)):
        return len(value) // IN_TEXT, ()
    fields = getattr(value, "__dict__", None)
    if type(fields) is not dict:
        return 0, ()
    named = cast("dict[Any, Any]", fields)
    return len(named), named.values()


async def computed(work: Callable[[], R], *values: Any, size: int = 0) -> R:
    """On an event loop: what `work` returns, done in another thread if the values that it works on are large.

    `size` is what others weigh. Nothing else may change them meanwhile. A cancellation is raised when it has ended.
    Where no event loop runs, nobody else waits, and it is done at once.
    """
    large = size >= LARGE or size + weight(*values) >= LARGE
    return await elsewhere(work) if large and _on_a_loop() else work()


def _on_a_loop() -> bool:
    asyncio = sys.modules.get("asyncio")  # who has a loop has loaded it
    return asyncio is not None and asyncio._get_running_loop() is not None


async def compute(
    driver: Driver, work: Callable[[], R], *values: Any, rows: Iterable[CommitRow] = (), text: int = 0
) -> R:
    """As `computed`, for operations of storages: over a driver that blocks it is done where the operation is.

    `rows` are commits that it reads, and `text` is how many characters of JSON it reads beside them.
    """
    if driver.suspends or driver.on_loop:
        size = text // IN_JSON + sum(len(row.body) for row in rows) // IN_JSON
        if size >= LARGE or size + weight(*values) >= LARGE:
            if driver.suspends:
                return await elsewhere(work)
            await leave()
    return work()
