"""What goes between Sessile and a driver: rows of the log, heads, and what is asked for.

Plain data. What a driver does with it says `driver`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from ..errors import CorruptDataError, StorageError
from ..records import ANY_USER, UserId

uncounted: Callable[[Any, Iterable[Any]], Any] = tuple.__new__  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
"""A named tuple of these fields, as from `_make`, which takes five times as long because it counts them."""

Json = str | int | float | bool | None
"""A scalar JSON value."""


class HeadRow(NamedTuple):
    """The head as a driver sees it: opaque `body`, and native copies of what lists filter by.

    Times are microseconds UTC. `hidden` heads (a fork in the making, a deletion under way) are left out of lists.
    Everything but ids, incarnation and `created_at` may change with an append, also `kind`, `agent` and `user_id`.
    `metadata` is JSON text of an object: a copy for filters, never the source of truth.
    """

    session_id: str
    incarnation: str
    revision: int
    kind: str
    agent: str | None
    user_id: str | None
    name: str | None
    status: str | None
    created_at: int
    updated_at: int
    expires_at: int | None
    hidden: bool
    metadata: str
    body: str


HEAD_TYPES: Mapping[str, tuple[type, ...]] = {
    "session_id": (str,),
    "incarnation": (str,),
    "revision": (int,),
    "kind": (str,),
    "agent": (str, type(None)),
    "user_id": (str, type(None)),
    "name": (str, type(None)),
    "status": (str, type(None)),
    "created_at": (int,),
    "updated_at": (int,),
    "expires_at": (int, type(None)),
    "hidden": (bool,),
}
"""Of which types the columns of a head are, for drivers whose databases do not see to that."""


class CommitRow(NamedTuple):
    """One commit of the log.

    `run` is the number of the run it belongs to, 0 if it belongs to none. `commit_id` is, like all ids, text of 1 to
    255 bytes of UTF-8. `key`, an id as well, is a name by which commits are found again (`Span.key`): a commit has one
    or none, and many commits of a session may have the same one.
    """

    seq: int
    commit_id: str
    run: int
    time: int
    body: str
    key: str | None = None

    @classmethod
    def stored(cls, fields: Iterable[Any]) -> CommitRow:
        """A row as a database has it that takes values of any type; `CorruptDataError` if one is of another type.

        Bytes in the place of the body are left to whoever decodes it: they cost that commit alone.
        """
        row: CommitRow = uncounted(cls, fields)
        if (*map(type, row),) in _COMMITS:
            return row
        if not all(map(isinstance, cls._make(row), _TYPES)):
            raise CorruptDataError("A commit has columns of other types than any version of ours has written.")
        return row


def stored_rows(rows: Sequence[Sequence[Any]]) -> list[CommitRow]:
    """As `CommitRow.stored` of each of them."""
    if _COMMITS.issuperset([(*map(type, row),) for row in rows]):
        return [uncounted(CommitRow, row) for row in rows]
    return [CommitRow.stored(row) for row in rows]


_COMMITS = frozenset(product({int}, {str}, {int}, {int}, {str, bytes}, {str, type(None)}))
"""The types of the columns of nearly every row, in their order; clients have subtypes of them, too."""

_TYPES = (int, str, int, int, (str, bytes), (str, type(None)))


class Append(NamedTuple):
    """A compare-and-set append: `commits` follow revision `expected`, and `head` is the head after them.

    `commits` has at least one row and at most `Capabilities.commits_per_append`; their `seq` are
    `expected + 1`, `expected + 2`, … and `head.revision` is the last of them. `expected == 0` creates the session.
    With `was_body` and `was_updated_at`, which only drivers with the capability `checks_body` are given, the append
    also loses its race where the head's `body` or `updated_at` is another one: it follows a head that was seen a while
    ago, and in a database that was restored another one may have reached its revision. The body alone does not tell:
    names and metadata are not in it. After one that `erases` nothing may be left of heads from before.
    """

    session_id: str
    incarnation: str
    expected: int
    commits: tuple[CommitRow, ...]
    head: HeadRow
    was_body: str | None = None
    was_updated_at: int | None = None
    erases: bool = False


LOADED_BYTES = 4 * 1024 * 1024
"""With how many bytes of bodies the commits end that one `load` brings, however many were asked for."""

FEW = 8
"""So many commits one `load` brings whatever size they have: those of a short history. To look at sizes takes longer
than to read them."""


class Loaded(NamedTuple):
    """What one `load` brings: the head, the newest commits (oldest of them first) and the database's clock."""

    head: HeadRow
    commits: list[CommitRow]
    now: int


class Span(NamedTuple):
    """Which commits `entries` returns: those with `first <= seq <= last` (`last=None` is open).

    With `runs=(a, b)` only commits with `a <= run <= b`; those that belong to no run (`run == 0`) never match
    then. With `key` only commits that carry exactly this key, found in a number of requests that does not grow with the
    session. At most `limit` commits come back, by ascending `seq`, or descending (`newest_first`). With `max_bytes` a
    driver with the capability `bounded_pages` ends the page with the commit by which its bodies have reached so
    many bytes of UTF-8, and has little more than that in memory.
    """

    first: int = 1
    last: int | None = None
    runs: tuple[int, int] | None = None
    limit: int = 500
    newest_first: bool = False
    key: str | None = None
    max_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class ListQuery:
    """What `list` filters by; a filter that is None matches everything, but for `user_id`.

    `user_id=None` matches only heads that have no user; `ANY_USER` matches all.
    `since <= updated_at < until`, both in microseconds (`created_at` when `order="created"`). `metadata`
    matches heads whose metadata has each key with exactly that scalar value (`true` is not `1`).
    `metadata_keys` matches heads whose metadata has each key, whatever its value. `now` hides heads with
    `expires_at <= now`; None shows them. `expired_before` is for sweeping: only heads with
    `expires_at <= expired_before`. `hidden`: False shows only heads that are not hidden, True only those that are,
    None both. `ascending` lists the oldest first: what has changed since a moment. `after` is the `(time, session_id)`
    behind which the page begins, in the direction of the list: `Listing.after` of the page before. Without `with_state`
    the bodies come without the states in them (`states.without_state`), which need not be read then, nor sent.
    """

    kind: str | None = None
    agent: str | None = None
    user_id: UserId = ANY_USER
    name_prefix: str | None = None
    status: str | None = None
    since: int | None = None
    until: int | None = None
    metadata: Mapping[str, Json] = field(default_factory=dict[str, Json])
    metadata_keys: tuple[str, ...] = ()
    now: int | None = None
    expired_before: int | None = None
    hidden: bool | None = False
    order: Literal["updated", "created"] = "updated"
    ascending: bool = False
    after: tuple[int, str] | None = None
    limit: int = 50
    with_state: bool = True


class Listing(NamedTuple):
    """One page of heads, in order, and beside it what belongs on the page and cannot be read.

    `unreadable` has the ids of sessions (or, where not even an id can be read, the names of their places) whose heads
    the driver could not make out, and why: one damaged thing costs only itself. `after` is where the next page begins
    (`ListQuery.after`), None when there is no more.
    """

    rows: list[HeadRow]
    unreadable: Mapping[str, StorageError] = MappingProxyType({})
    after: tuple[int, str] | None = None


class RecordName(NamedTuple):
    """Which record: the session's id and incarnation, and the record's key."""

    session_id: str
    incarnation: str
    key: str
