"""What PyMongo's pools tell of their connections, as counts of ours."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

from pymongo.common import MAX_POOL_SIZE
from pymongo.monitoring import ConnectionPoolListener

from ...storage.forking import Lock
from ...storage.stats import Stats

logger = logging.getLogger("sessile")

REPLACED = frozenset({"error", "stale", "idle"})
"""Why connections are closed that others may take the place of."""


class PoolCounts(ConnectionPoolListener):
    """Counts `reconnects` and `pool_waits` of one client of our own, which has a pool for each server.

    Args:
        stats: where they are counted.
        where: names the database in messages.
    """

    def __init__(self, stats: Stats, where: str) -> None:
        self._stats = stats
        self._where = where
        self._lock = Lock()
        self._sizes: dict[Any, float] = {}
        self._busy: Counter[Any] = Counter()
        self._lost = 0

    def pool_created(self, event: Any) -> None:
        """Keeps its size, which the event has unless it is PyMongo's own."""
        self._sizes[event.address] = event.options.get("maxPoolSize", MAX_POOL_SIZE)

    def connection_check_out_started(self, event: Any) -> None:
        """Somebody wants a connection."""
        size = self._sizes.get(event.address, 0)
        if size and size <= self._busy[event.address]:
            self._stats.count("pool_waits")
            logger.info("All %s connections to %s are in use; waiting for one.", size, self._where)

    def connection_checked_out(self, event: Any) -> None:
        """Somebody has one."""
        with self._lock:
            self._busy[event.address] += 1

    def connection_checked_in(self, event: Any) -> None:
        """Somebody has given one back."""
        with self._lock:
            self._busy[event.address] -= 1

    def connection_closed(self, event: Any) -> None:
        """One is gone."""
        with self._lock:
            self._lost += event.reason in REPLACED

    def connection_created(self, event: Any) -> None:
        """One is made, perhaps in place of another one."""
        with self._lock:
            again = self._lost > 0
            self._lost -= again
        if again:
            self._stats.count("reconnects")
            logger.info("A connection to %s was made in place of one that was lost or old.", self._where)

    def pool_ready(self, event: Any) -> None:
        """Nothing."""

    def pool_cleared(self, event: Any) -> None:
        """Nothing: it tells of each connection."""

    def pool_closed(self, event: Any) -> None:
        """Nothing."""

    def connection_ready(self, event: Any) -> None:
        """Nothing."""

    def connection_check_out_failed(self, event: Any) -> None:
        """Nothing: an error tells of it."""
