"""Times as the index has them: ids of runs that are in the order of time, and the blocks of time that are summed up.

A block is an hour or a quarter of a day, in UTC. Blocks have numbers: hours those since 1970; quarters of a day theirs
since 1970 above `DAYS`, so that one number tells which of both it is.
"""

from __future__ import annotations

from collections.abc import Iterable

TICK = 16
"""Microseconds in one step of the ids of runs. A run's id is about when it began, so that the order of ids is the order
of time, and engines that list ids in their order list runs by time."""

SLACK = 1 << 20
"""By how much the id of a run may lie above the moment that it stands for, because the ids before were taken."""

HOUR = 3600 * 1_000_000
"""Microseconds."""

HOURS = 6
"""How many hours the larger blocks have."""

DAYS = 1 << 40
"""Where the numbers of the larger blocks begin."""


def first_id(moment: int) -> int:
    """The lowest id that a run may have that began at a moment or later."""
    return max(0, moment) // TICK


def last_id(moment: int) -> int:
    """What is above the ids of all runs that began before a moment."""
    return max(0, moment) // TICK + SLACK


def larger(hour: int) -> int:
    """The larger block in which an hour lies."""
    return DAYS + hour // HOURS


def hours_of(block: int) -> range:
    """The hours of a larger block."""
    first = (block - DAYS) * HOURS
    return range(first, first + HOURS)


def blocks_of_moments(moments: Iterable[int]) -> set[int]:
    """The blocks, of both lengths, in which moments lie."""
    return _both({moment // HOUR for moment in moments})


def blocks_of_ids(ids: Iterable[int]) -> set[int]:
    """The blocks in which runs with these ids may have begun."""
    size = HOUR // TICK
    return _both({place // size for one in ids for place in (one, max(0, one - SLACK))})


def _both(hours: set[int]) -> set[int]:
    return hours | {larger(hour) for hour in hours}
