"""Waiting for what must not be left half-way.

`Task.cancel` first asks what the task waits for to be cancelled. A future that declines: the task is then told of its
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
    """A task that is not cancelled when the event loop ends, which then waits for it.

    While the loop runs it is an ordinary one: `asyncio.timeout` inside it, the limit of a database's answer, works by
    cancelling the task that it is in. So it is not to be awaited by itself, but through an `UninterruptedFuture`.
    """

    def cancel(self, msg: Any = None) -> bool:
        """Decline where no loop runs: `asyncio.Runner.close` cancels all tasks that are left between two runs."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return False
        return super().cancel(msg)
