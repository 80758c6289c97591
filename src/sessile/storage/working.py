"""Which runs work on a storage: a storage that is closed lets them store what they have.

A web server that is told to stop cancels its requests, and in the same moment ends the application, which closes its
storage: the runs of those requests have not stored their end by then.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

logger = logging.getLogger("sessile")

ROOM = 1.0
"""For how many seconds runs may still end by themselves; then they are interrupted."""

LONGEST = 10.0
"""How many seconds it is waited until what they have is stored."""

_Tasks = weakref.WeakKeyDictionary["asyncio.Task[object]", int]
"""How many runs each task is in the middle of. Weak: a task that its loop has left behind is nobody's to keep."""

_working: weakref.WeakKeyDictionary[object, _Tasks] = weakref.WeakKeyDictionary()


@contextmanager
def at_work(storage: object) -> Generator[None]:
    """A run works on the storage while the block does, in the current task."""
    import asyncio  # not with the storage: synchronous programs do without

    task = asyncio.current_task()
    tasks = _working.get(storage)
    if tasks is None:
        tasks = _working.setdefault(storage, weakref.WeakKeyDictionary())
    if task is None:
        yield
        return
    tasks[task] = tasks.get(task, 0) + 1
    try:
        yield
    finally:
        tasks[task] -= 1
        if not tasks[task]:
            del tasks[task]


async def ended(storage: object) -> None:
    """Wait until the runs that work on the storage, in this event loop, are stored; interrupt those that go on.

    A run that closes its own storage, in a tool, is not waited for.
    """
    import asyncio

    loop, current = asyncio.get_running_loop(), asyncio.current_task()
    runs = [task for task in [*_working.get(storage, ())] if task.get_loop() is loop and task is not current]
    if not runs:
        return
    _, late = await asyncio.wait(runs, timeout=ROOM)
    for task in late:
        if not task.cancelling():
            task.cancel()
    if late:
        _, late = await asyncio.wait(late, timeout=LONGEST)
    if late:
        logger.warning("A storage is closed with %d runs in progress, which have not ended when told to.", len(late))
