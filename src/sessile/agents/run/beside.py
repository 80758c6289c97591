"""What a model does for a run beside the run's own work: its end is waited for a while, and never longer."""

from __future__ import annotations

import asyncio
from typing import TypeVar

T = TypeVar("T")


async def outcome(task: asyncio.Task[T], patience: float, error: BaseException | None) -> T | None:
    """What the task has returned, after `patience` seconds at most; None: it was cancelled.

    A run that ends with an error does not wait.
    """
    if error is None:
        await asyncio.wait([task], timeout=patience)
    if task.done() and not task.cancelled():
        return task.result()
    task.cancel()
    return None
