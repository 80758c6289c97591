"""Doing something with each session that a query finds: what is wrong with one costs no other, and is named."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from ..errors import ClosedError, CorruptDataError, HeldError, NewerVersionError, StorageError
from .core import Core
from .driver import HeadRow, ListQuery

IN_A_ROW = 20
"""After how many sessions in a row that the database refuses to change it is not asked for the rest."""


async def for_each(
    core: Core, query: ListQuery, action: Callable[[HeadRow], Awaitable[bool]]
) -> tuple[int, dict[str, StorageError]]:
    """Act on each session that the query finds: how often that was successful, and why others were refused, by id.

    What is wrong with one costs no other. What may be wrong with the database, and would come again with each, ends it.
    """
    done, in_a_row = 0, 0
    refused: dict[str, StorageError] = {}
    while True:
        page = await core.driver.list(query, core.deadline())
        refused |= page.unreadable
        for row in page.rows:
            try:
                done += await action(row)
                in_a_row = 0
            except StorageError as error:
                of_it_alone = isinstance(error, (NewerVersionError, CorruptDataError, HeldError))
                in_a_row += not of_it_alone
                if error.retryable or isinstance(error, ClosedError) or in_a_row > IN_A_ROW:
                    raise
                refused[row.session_id] = error
        if page.after is None:
            return done, refused
        query = replace(query, after=page.after)


NAMED = 10
"""Of how many sessions an error has the ids."""


def raise_refused(refused: Mapping[str, StorageError], more: str) -> None:
    """Raise the first of these errors, which also names the other sessions."""
    if refused:
        error, *_ = refused.values()
        _, *others = refused
        if others:
            rest = f" and {len(others) - NAMED} others" if len(others) > NAMED else ""
            error.message += f" Others were refused, too: {', '.join(map(repr, others[:NAMED]))}{rest}."
        error.message += f" {more}"
        raise error
