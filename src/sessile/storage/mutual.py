"""Who waits for whom, as other processes see it: records of the runs that wait, beside their sessions' logs.

A run that queues inside another one (an agent in a tool) says so, again and again while it waits; what is not said
again is not believed. So a chain of waiting runs can be followed from session to session, and found to lead back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..errors import SessionNotFoundError
from ..records import ANY_USER, MICROSECOND
from .core import Core
from .encoding import decode, encode
from .vocabulary import Waits

BELIEVED = 5 * MICROSECOND
"""For how long a wait is believed that is not said again."""

LONGEST = 100
"""How many runs of a chain are followed."""

Place = tuple[str, str]
"""A run: its session, and its id."""


async def say_waiting(core: Core, run: Place, others: Sequence[Place] | None) -> None:
    """Note that a run waits for others, or (None) that it does not wait any more."""
    deadline = core.deadline()
    try:
        head = await core.head_of(run[0], ANY_USER, deadline)
    except SessionNotFoundError:
        return
    value = None
    if others is not None:
        waits = Waits(others=[list(other) for other in others], until=core.clock.now() + BELIEVED)
        value = encode(waits.json).encode()
    await core.driver.put_record(head.session_id, head.incarnation, f"waits/{run[1]}", value, deadline)


async def waited_for(core: Core, runs: Iterable[Place]) -> set[str]:
    """The ids of these runs, and of all that they wait for, directly or through others."""
    seen: set[str] = set()
    queue = list(runs)
    while queue and len(seen) < LONGEST:
        session_id, run_id = queue.pop()
        if run_id not in seen:
            seen.add(run_id)
            queue += await _others(core, session_id, run_id)
    return seen


async def _others(core: Core, session_id: str, run_id: str) -> list[Place]:
    deadline = core.deadline()
    try:
        head = await core.head_of(session_id, ANY_USER, deadline)
    except SessionNotFoundError:
        return []
    value = await core.driver.get_record(head.session_id, head.incarnation, f"waits/{run_id}", deadline)
    waits = None if value is None else Waits.of(decode(value.decode()))
    if waits is None or waits.until < core.clock.now():
        return []
    return [(other[0], other[1]) for other in waits.others]
