"""Heads that were seen last: a writer begins with one of them, instead of a look at the database.

That is a guess. An append that follows one says which head it means, not only by its revision (`Append.was_body`), and
loses its race if the database has another one; then the session is looked at. Nothing else is decided by a guess, but
for how many commits are asked for at first.
"""

from __future__ import annotations

from ..records import Session
from .driver import HeadRow

MOST, LARGEST = 256, 16 * 1024
"""How many heads are remembered, and up to which size: 4 MB together at most."""


class Remembered:
    """The rows of heads by session. May be used by several threads.

    They are rows and not sessions, so that no caller has an object of which they are made. Sessions that expire are not
    among them, and those that are hidden.
    """

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: dict[str, tuple[HeadRow, int]] = {}

    def get(self, session_id: str) -> HeadRow | None:
        """The head as it was last seen."""
        seen = self._seen.get(session_id)
        return None if seen is None else seen[0]

    def commits_each(self, session_id: str) -> int:
        """In how many commits the newest runs were written, each: two, as agents do; one where all commits are runs."""
        seen = self._seen.get(session_id)
        return 2 if seen is None else seen[1]

    def put(self, row: HeadRow, head: Session) -> None:
        """Remember a head that was read, or is acknowledged; forget what was seen longest ago."""
        seen = self._seen
        seen.pop(row.session_id, None)
        if row.hidden or row.expires_at is not None or len(row.body) + len(row.metadata) > LARGEST:
            return
        others = head.revision - head.run_count  # the commit that makes the session may be one of its own
        seen[row.session_id] = row, 1 if others <= 1 else 2
        if len(seen) > MOST:
            try:
                seen.pop(next(iter(seen)), None)
            except (RuntimeError, StopIteration):  # another thread has changed it at this moment, and sees to it
                return

    def forget(self, session_id: str) -> None:
        """Forget one: it was changed, or is gone."""
        self._seen.pop(session_id, None)
