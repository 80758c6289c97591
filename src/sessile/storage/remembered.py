"""Heads that were seen last: a writer begins with one of them, instead of a look at the database.

That is a guess. An append that follows one says which head it means, not only by its revision (`Append.was_body`), and
loses its race if the database has another one; then the session is looked at. Nothing else is decided by a guess, but
for how many commits are asked for at first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from .. import usage
from ..records import OpenRun, PartialList, Session
from . import fold
from .driver import HeadRow
from .encoding import copied, decode, encode_body

MOST, LARGEST = 256, 16 * 1024
"""How many heads are remembered, and up to which size: 4 MB of text together at most."""

SMALL = 2 * 1024
"""Up to which size they are also kept as sessions: to copy a larger one takes as long as to decode its row."""


class _Seen(NamedTuple):
    row: HeadRow
    session: Session | None
    others: int
    """How many commits there are beside one for each run: those of other kinds, and second ones of runs."""


class Remembered:
    """The heads of sessions, by their ids. May be used by several threads.

    No caller has an object of which they are made: what goes in and out is copied. Sessions that expire are not among
    them, and those that are hidden.
    """

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}

    def get(self, session_id: str) -> HeadRow | None:
        """The head as it was last seen."""
        seen = self._seen.get(session_id)
        return None if seen is None else seen.row

    def session(self, row: HeadRow) -> Session | None:
        """What a row says, if it is the one that is remembered, and was made out."""
        seen = self._seen.get(row.session_id)
        return None if seen is None or seen.session is None or seen.row != row else own(seen.session)

    def page_for(self, session_id: str, runs: int, *, each: int = 2) -> int:
        """How many of the newest commits hold so many of the newest runs, as far as is known; `each`: see below."""
        seen = self._seen.get(session_id)
        newest = page_for(runs, each=each)
        return newest if seen is None else min(newest, runs + seen.others)

    def put(self, row: HeadRow, head: Session) -> None:
        """Remember a head that was read, or is acknowledged; forget what was seen longest ago."""
        seen = self._seen
        seen.pop(row.session_id, None)
        size = len(row.body) + len(row.metadata)
        if row.hidden or row.expires_at is not None or size > LARGEST:
            return
        ready = size <= SMALL and head.status != "running" and _is_plain(row, head)
        kept = own(head, _as_read) if ready else None  # what runs writes again, and begins with what it has itself
        seen[row.session_id] = _Seen(row, kept, head.revision - head.run_count)
        if len(seen) > MOST:
            try:
                seen.pop(next(iter(seen)), None)
            except (RuntimeError, StopIteration):  # another thread has changed it at this moment, and sees to it
                return

    def again(self, session_id: str) -> None:
        """Forget this one later than the others: it was seen as it is remembered."""
        seen = self._seen.pop(session_id, None)
        if seen is not None:
            self._seen[session_id] = seen

    def forget(self, session_id: str) -> None:
        """Forget one: it was changed, or is gone."""
        self._seen.pop(session_id, None)


def page_for(runs: int, *, each: int = 2) -> int:
    """How many of the newest commits hold so many runs when each took so many commits, and one other.

    Only a guess: a run that the page does not hold is read by its number.
    """
    return each * runs + 1 if runs else 0


def own(head: Session, copy: Callable[[Any], Any] = copied) -> Session:
    """A copy of a head, without runs, that shares nothing with it which could be changed; `copy` is that of JSON."""
    made = fold.copy_of(head)
    made.usage, made.runs = usage.copy_of(made.usage), PartialList()
    made.state = copy(made.state) if made.state else {}
    made.metadata = copy(made.metadata) if made.metadata else {}
    made.segments = made.segments.copy()
    made.open_runs = {number: _own(run) for number, run in made.open_runs.items()} if made.open_runs else {}
    made.scope_ids, made.handoffs = made.scope_ids.copy(), made.handoffs.copy()
    if made.forked_from is not None or made.summary is not None or made.more is not None:
        made.forked_from, made.summary, made.more = copy([made.forked_from, made.summary, made.more])
    return made


def _as_read(value: Any) -> Any:
    """JSON as the next one who reads it has it: a writer may have had tuples in it."""
    return decode(encode_body(value))


_TEXTS = frozenset((str, type(None)))


def _is_plain(row: HeadRow, head: Session) -> bool:
    """Whether ids and names that callers have given are text and nothing more, as the next one who reads has them."""
    given = (row.session_id, row.kind, row.agent, row.user_id, row.name, head.hold)
    return _TEXTS.issuperset(map(type, given)) and all(type(run.run_id) is str for run in head.open_runs.values())


def _own(run: OpenRun) -> OpenRun:
    return OpenRun(run.run_id, run.status, run.epoch, run.until_us, copied(run.more) if run.more else ())
