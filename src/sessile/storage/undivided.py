"""Commits of what runs agents and workflows: they are not left half-way, over whatever kind of client."""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

from .storage import Storage, suspends
from .uninterrupted import in_place, to_the_end

R = TypeVar("R")


def kept_whole(storage: Storage, work: Coroutine[Any, Any, R]) -> Awaitable[R]:
    """Await what writes to a storage; cancellations that arrive meanwhile are raised when it is done.

    It may await nothing but operations of this storage, locks, and what is computed in threads.
    """
    return to_the_end(work) if suspends(storage) else in_place(work)
