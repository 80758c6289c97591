"""Heads that were seen last: a writer begins with one of them, instead of a look at the database.

That is a guess. An append that follows one says which head it means, not only by its revision (`Append.was_body`), and
loses its race if the database has another one; then the session is looked at. Nothing else is decided by a guess.
"""

from __future__ import annotations

from .driver import HeadRow

MOST, LARGEST = 256, 16 * 1024
"""How many heads are remembered, and up to which size: 4 MB together at most."""


class Remembered:
    """The rows of heads by session. May be used by several threads.

    They are rows and not sessions, so that no caller has an object of which they are made. Sessions that expire are not
    among them, and those that are hidden.
    """

    __slots__ = ("_rows",)

    def __init__(self) -> None:
        self._rows: dict[str, HeadRow] = {}

    def get(self, session_id: str) -> HeadRow | None:
        """The head as it was last seen."""
        return self._rows.get(session_id)

    def put(self, row: HeadRow) -> None:
        """Remember a head that was read, or is acknowledged; forget what was seen longest ago."""
        rows = self._rows
        rows.pop(row.session_id, None)
        if row.hidden or row.expires_at is not None or len(row.body) + len(row.metadata) > LARGEST:
            return
        rows[row.session_id] = row
        if len(rows) > MOST:
            try:
                rows.pop(next(iter(rows)), None)
            except (RuntimeError, StopIteration):  # another thread has changed it at this moment, and sees to it
                return

    def forget(self, session_id: str) -> None:
        """Forget one: it was changed, or is gone."""
        self._rows.pop(session_id, None)
