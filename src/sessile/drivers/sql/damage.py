"""What one damaged head costs: itself. A list names it and goes on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from itertools import product
from typing import Any

from ...errors import CorruptDataError, StorageError
from ...storage.driver import HeadRow, Listing, ListQuery
from ...storage.matching import as_asked
from ...storage.rows import uncounted

TAKEN = "The database has rows that no head knows of: remove them, or delete the session."
"""What to do where a commit or a head has no place, because a row stands there that is not Sessile's."""

_NUMBERS = ("revision", "created_at", "updated_at")
_TEXTS = ("session_id", "incarnation", "kind", "metadata", "body")
_MAYBE_TEXTS = ("agent", "user_id", "name", "status")


def check(head: HeadRow) -> None:
    """Raise `CorruptDataError` for a row that no program of ours has written: a column of another type, or empty.

    Tables that somebody has altered may have such rows, and in SQLite every column takes every type.
    """
    values: dict[str, Any] = head._asdict()
    for name in _TEXTS:
        _expect(head, name, isinstance(values[name], str))
    for name in _MAYBE_TEXTS:
        _expect(head, name, values[name] is None or isinstance(values[name], str))
    for name in _NUMBERS:
        _expect(head, name, isinstance(values[name], int))
    _expect(head, "expires_at", type(values["expires_at"]) in (int, type(None)))
    _expect(head, "hidden", head.hidden in (0, 1))


_USUAL = frozenset(
    product(
        *(
            {str} if name in _TEXTS else {str, type(None)} if name in _MAYBE_TEXTS else {int}
            for name in HeadRow._fields[:10]
        ),
        {int, type(None)},
        {int, bool},
        {str},
        {str},
    )
)
"""The types of the columns of nearly every row, in their order."""


def loaded_head(row: Sequence[Any]) -> HeadRow:
    """As `head_of`, for what is done most often: what is hidden may be said by a number."""
    if (*map(type, row),) in _USUAL:
        return uncounted(HeadRow, row)
    head = HeadRow._make(row)
    check(head)
    return head


def head_of(row: Sequence[Any]) -> HeadRow:
    """A head out of its columns; raises `CorruptDataError` for what no head can have in them."""
    head = loaded_head(row)
    if type(head.hidden) is bool:
        return head
    if head.hidden not in (0, 1):
        check(head)  # which refuses it
    return head._replace(hidden=bool(head.hidden))


def _expect(head: HeadRow, column: str, right: bool) -> None:
    if not right:
        found: Any = getattr(head, column)
        raise CorruptDataError(
            f"Session {head.session_id!r} cannot be read: its column {column} holds {type(found).__name__}."
        )


async def page_of(
    places: Sequence[tuple[Any, ...]], read: Callable[[str], Awaitable[HeadRow | None]], query: ListQuery
) -> Listing:
    """The page of these places, `(moment, session_id)`, each head read by itself.

    Args:
        places: those of a whole page, in order.
        read: brings a head, or None if it has gone meanwhile; raises `CorruptDataError` for what is damaged.
        query: what the page is of.
    """
    rows: list[HeadRow] = []
    unreadable: dict[str, StorageError] = {}
    for _, session_id in places:
        try:
            head = await read(session_id)
        except CorruptDataError as error:
            unreadable[session_id] = error
            continue
        if head is not None:
            rows.append(as_asked(head, query))
    more = 0 < len(places) >= query.limit
    return Listing(rows, unreadable, (places[-1][0], places[-1][1]) if more else None)
