"""Waiting for what must not be left half-way.

`Task.cancel` first asks what the task waits for to be cancelled. These decline: the task is then told of its
cancellation when what it waits for is done, and not before, however often it is cancelled.
"""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

R = TypeVar("R")


class UninterruptedFuture(asyncio.Future[R]):
    """A future that is not cancelled with the task that awaits it."""

    def cancel(self, msg: Any = None) -> bool:
        """Decline."""
        return False


class UninterruptedTask(asyncio.Task[R]):
    """A task that is not cancelled with the task that awaits it, nor when the event loop ends, which waits for it."""

    def cancel(self, msg: Any = None) -> bool:
        """Decline."""
        return False
