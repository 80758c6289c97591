"""How a change of the state is written down: as a patch, with what leads back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..records import Entry, JsonObject, Session
from . import patch
from .computing import compute
from .driver import Driver
from .vocabulary import StatePatched


async def state_entries(
    driver: Driver,
    head: Session,
    change: Callable[[JsonObject], patch.Patch],
    run_id: str | None = None,
    run: int | None = None,
    *,
    given: Any = None,
) -> list[Entry]:
    """The entry that patches a session's state, with what leads back, or none if nothing changes.

    `change` makes the operations for the state as it is, out of what is `given`.
    """
    return await compute(driver, lambda: patched(head, change(head.state), run_id, run), head.state, given)


def patched(head: Session, operations: patch.Patch, run_id: str | None = None, run: int | None = None) -> list[Entry]:
    """The entry for operations that are at hand."""
    effective = patch.diff(head.state, patch.apply(head.state, operations))
    if not effective:
        return []
    changed = StatePatched(patch=effective, undo=patch.undo(head.state, effective))
    return [changed.entry(run_id, run)]
