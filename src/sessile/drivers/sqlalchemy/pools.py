"""What is watched of an engine's pool: its connections' age, and what happens to them beside the work."""

from __future__ import annotations

import logging
import time
from typing import Any

from sqlalchemy import Engine, Pool, QueuePool, event

from ...storage.stats import Stats
from ..sql.pool import jittered

logger = logging.getLogger("sessile")

_UNTIL = "sessile_until"
"""Under this name the pool notes, for each of its places, when the connection there will be too old."""


def watch(engine: Engine, max_age: float, stats: Stats) -> None:
    """Replace connections of that age, a tenth more or less, when they come back; count those that are rebuilt."""

    @event.listens_for(engine, "connect")
    def made(_: Any, place: Any) -> None:  # pyright: ignore[reportUnusedFunction] (the engine calls it)
        replaces = _UNTIL in place.record_info
        place.record_info[_UNTIL] = time.monotonic() + jittered(max_age)
        if replaces:
            stats.count("reconnects")
            logger.info("A connection was made in place of one that was cut or had grown old.")

    @event.listens_for(engine, "checkin")
    def came_back(connection: Any, place: Any) -> None:  # pyright: ignore[reportUnusedFunction]
        if connection is not None and time.monotonic() >= place.record_info[_UNTIL]:
            place.invalidate(soft=True)


def count_wait(pool: Pool, stats: Stats) -> None:
    """Count and log if whoever asks the pool now must wait."""
    if not isinstance(pool, QueuePool):
        return
    most: int = pool._max_overflow  # pyright: ignore[reportPrivateUsage] (it says so nowhere else)
    if most >= 0 and pool.checkedin() <= 0 and pool.overflow() >= most:
        stats.count("pool_waits")
        logger.info("All connections of the pool are in use; waiting for one.")
