"""How indexes hear of sessions that are removed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from ..errors import StorageError
from .driver import Deadline, Driver

logger = logging.getLogger(__name__)

GONE = "index_gone"
"""The table of an index in which it is noted which sessions were removed."""


async def tell_indexes(
    driver: Driver, heard: Iterable[Callable[[str, str], None]], session: tuple[str, str], deadline: Deadline
) -> None:
    """Let indexes know that a session is gone, by its id and incarnation; an empty incarnation stands for any.

    An index in the same database has a table for that; others in this process are called. An index that cannot be told
    is no reason not to remove a session.
    """
    stored, incarnation = driver.stored_id(session[0]), session[1]
    try:
        beside = driver.beside()
        if beside is not None and await beside.has_table(GONE, deadline):
            key = {"session_id": stored, "incarnation": incarnation}
            columns = "(session_id, incarnation) VALUES (:session_id, :incarnation)"
            sql = f"INSERT INTO {beside.table(GONE)} {columns}"
            async with beside.transaction("Telling the index of a deletion", deadline) as run:
                await run(sql, key)
    except StorageError as error:  # it knows already; or else it finds that out when it is next compared
        logger.info("The index was not told that session %r is deleted: %s", session[0], error)
    for one in list(heard):
        one(stored, incarnation)
