"""What can be read of sessions. Every function is offered by `Storage`, synchronously and as an `a…` coroutine.

All of them are bounded by default, and raise what the database raises: a read that fails is never taken for
"no such session".
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Collection, Mapping
from typing import Any, Literal, NamedTuple, cast, get_args

from ..errors import CorruptDataError, InvalidInputError, NewerVersionError, RunNotFoundError
from ..records import Branch, Entry, Head, Message, Page, Run, SessionView, Status
from . import fold
from .core import Core, Snapshot, now_micros, owned, rows_to_entries, visible
from .driver import CommitRow, Deadline, HeadRow, Json, ListQuery, Span
from .encoding import decode_head
from .ids import check_id, check_optional_id
from .runs import build_runs, read_runs, shown_head, with_status

DEFAULT_RUNS = 100
"""How many runs `runs` and `messages` read when the caller does not say."""

MAX_PAGE = 1000
"""The largest page of a list."""

PUSH_SECONDS = 30.0
"""How long a follower waits for a push before it looks again, for sessions that expire meanwhile."""

STATUSES: tuple[str, ...] = get_args(Status)

LARGEST = 2**53
"""The largest number that a caller may name: every database and every JSON reader takes it."""


async def session(core: Core, session_id: str, *, user_id: str | None = None) -> Head | None:
    """The head of a session: state, name, counters, revision; None if there is none, or if it is another user's."""
    core.check_access(session_id, user_id)
    deadline = core.deadline()
    snapshot = await core.look(session_id, deadline)
    return visible(await shown_head(core, snapshot, deadline), user_id)


async def load_session(
    core: Core, session_id: str, *, last_runs: int = 3, user_id: str | None = None
) -> SessionView | None:
    """Head and last runs of the current branch in one look; None as for `session`.

    One round trip, and one indexed read more when the runs are not among the newest commits.
    """
    core.check_access(session_id, user_id)
    check_count(last_runs, "last_runs", least=0)
    deadline = core.deadline()
    snapshot = await core.look(session_id, deadline, newest=page_for(last_runs))
    if visible(snapshot.head, user_id) is None or snapshot.head is None:
        return None
    runs = await read_runs(core, snapshot, snapshot.head.last_on_path(last_runs), deadline)
    await shown_head(core, snapshot, deadline)
    return SessionView(snapshot.head, runs)


async def sessions(
    core: Core,
    *,
    kind: str | None = None,
    owner: str | None = None,
    user_id: str | None = None,
    name_prefix: str | None = None,
    status: Status | None = None,
    since: int | None = None,
    until: int | None = None,
    metadata: Mapping[str, Json] | None = None,
    metadata_keys: Collection[str] = (),
    order: Literal["updated", "created"] = "updated",
    limit: int = 20,
    cursor: str | None = None,
) -> Page[Head]:
    """A page of sessions, newest first.

    Sessions that this version cannot read, damaged or written by a newer one, are named in `Page.unreadable`.

    Args:
        kind, owner, user_id, status: exact matches. `status` is the newest run's; runs whose process is gone are found
            as `interrupted` when the session was written to since, or `sweep` has noted it.
        name_prefix: how the name begins; case matters.
        since, until: `since <= time < until`, microseconds UTC, of the last change (or creation, see `order`).
        metadata: top-level keys with exactly these scalar values.
        metadata_keys: top-level keys that must be there, whatever their value.
        order: `"updated"` lists by the last change, so a session that changes while you page may be seen twice or
            be moved to a page you have passed; `"created"` never moves.
        limit: 1 to 1,000.
        cursor: `next_cursor` of the page before. A page may hold fewer sessions than `limit`.
    """
    core.check_user(user_id)
    check_count(limit, "limit", least=1, most=MAX_PAGE)
    query = _query(
        kind, owner, user_id, name_prefix, status, since, until, metadata, metadata_keys, order, cursor, limit + 1
    )
    deadline = core.deadline()
    await core.prepare(deadline)
    rows = await core.driver.list(query, deadline)
    page: Page[Head] = Page([], _cursor(rows[limit - 1], order) if len(rows) > limit else None)
    for row in rows[:limit]:
        try:
            head = decode_head(row)
        except (NewerVersionError, CorruptDataError) as error:
            page.unreadable[row.session_id] = error
            continue
        await shown_head(core, Snapshot(head, [], now_micros()), deadline)
        if status is None or head.status == status:
            page.items.append(head)
    return page


async def count_sessions(
    core: Core,
    *,
    kind: str | None = None,
    owner: str | None = None,
    user_id: str | None = None,
    name_prefix: str | None = None,
    status: Status | None = None,
    since: int | None = None,
    until: int | None = None,
    metadata: Mapping[str, Json] | None = None,
    metadata_keys: Collection[str] = (),
    order: Literal["updated", "created"] = "updated",
) -> int:
    """How many sessions match; the filters of `sessions`."""
    core.check_user(user_id)
    query = _query(kind, owner, user_id, name_prefix, status, since, until, metadata, metadata_keys, order, None, 1)
    deadline = core.deadline()
    await core.prepare(deadline)
    return await core.driver.count(query, deadline)


async def runs(
    core: Core,
    session_id: str,
    *,
    last: int | None = None,
    from_run: int | None = None,
    to_run: int | None = None,
    status: Status | Collection[Status] | None = None,
    user_id: str | None = None,
) -> list[Run]:
    """Runs of the current branch, oldest first; an empty list if there is no such session.

    Args:
        last: at most so many, the newest (of that status). Default: 100, or all from `from_run` on.
        from_run, to_run: numbers, inclusive.
        status: only runs of this status, or of one of these.
    """
    core.check_access(session_id, user_id)
    for value, what in ((last, "last"), (from_run, "from_run"), (to_run, "to_run")):
        if value is not None:
            check_count(value, what, least=0)
    for one in () if status is None else [status] if isinstance(status, str) else status:
        check_choice(one, "status", STATUSES)
    deadline = core.deadline()
    count = DEFAULT_RUNS if last is None and from_run is None else last
    narrow = from_run is None and to_run is None and status is None and count is not None
    snapshot = await core.look(session_id, deadline, newest=page_for(count) if narrow and count else 0)
    if visible(snapshot.head, user_id) is None:
        return []
    return await _select(core, snapshot, count, from_run or 1, to_run, status, deadline)


async def _select(
    core: Core,
    snapshot: Snapshot,
    count: int | None,
    from_run: int,
    to_run: int | None,
    status: Status | Collection[Status] | None,
    deadline: Deadline,
) -> list[Run]:
    """The newest `count` runs of that status between two numbers, read backwards a page at a time."""
    head = snapshot.head
    found: list[Run] = []
    below = None if to_run is None else to_run + 1
    while head is not None and (count is None or len(found) < count):
        size = DEFAULT_RUNS if count is None or status is not None else min(count - len(found), DEFAULT_RUNS)
        numbers = [number for number in head.last_on_path(size, below=below) if number >= from_run]
        if not numbers:
            break
        found = with_status(await read_runs(core, snapshot, numbers, deadline), status) + found
        below = numbers[0]
    return found if count is None else found[len(found) - min(count, len(found)) :]


async def run(core: Core, session_id: str, number: int, *, user_id: str | None = None) -> Run:
    """One run by its number, on whatever branch it lies.

    Raises `SessionNotFoundError` or `RunNotFoundError`.
    """
    core.check_access(session_id, user_id)
    check_count(number, "number", least=1)
    deadline = core.deadline()
    snapshot = await core.look(session_id, deadline)
    owned(snapshot.head, session_id, user_id)
    found = await read_runs(core, snapshot, [number], deadline)
    if not found:
        raise RunNotFoundError(f"Session {session_id!r} has no run {number}.")
    return found[0]


async def messages(
    core: Core,
    session_id: str,
    *,
    last_runs: int | None = None,
    from_run: int | None = None,
    to_run: int | None = None,
    user_id: str | None = None,
) -> list[Message]:
    """The messages of the runs that `runs` would give, flat, in order, each run's messages together."""
    found = await runs(core, session_id, last=last_runs, from_run=from_run, to_run=to_run, user_id=user_id)
    return [message for item in found for message in item.messages]


async def branches(core: Core, session_id: str, *, user_id: str | None = None) -> list[Branch]:
    """The branches of a session: the current one, and what rewinding has left. Return to one with `rewind`."""
    core.check_access(session_id, user_id)
    return (await core.head_of(session_id, user_id, core.deadline())).branches()


async def entries(
    core: Core, session_id: str, *, after: int = 0, limit: int = 1000, user_id: str | None = None
) -> list[Entry]:
    """The entries of the commits after revision `after`, in the order of the log: everything, on all branches.

    At most `limit` commits; the last entry's `seq` is the next call's `after`.
    """
    core.check_access(session_id, user_id)
    check_count(after, "after", least=0)
    check_count(limit, "limit", least=1)
    deadline = core.deadline()
    head = await core.head_of(session_id, user_id, deadline)
    return rows_to_entries(await _rows_after(core, head, after, limit, deadline))


class News(NamedTuple):
    """What one look of a follower brought: which session it is, new entries, whether the driver has waited."""

    incarnation: str
    entries: list[Entry]
    waited: bool


async def wait_entries(
    core: Core,
    session_id: str,
    after: int,
    user_id: str | None = None,
    incarnation: str | None = None,
) -> News | None:
    """New entries after a revision, if need be after one wait for a push.

    None if the session is not there, or is another one than `incarnation`.
    """
    core.check_access(session_id, user_id)
    deadline = core.deadline()
    snapshot = await core.look(session_id, deadline)
    head = visible(snapshot.head, user_id)
    if head is None or incarnation not in (None, head.incarnation):
        return None
    if head.revision > after:
        rows = await _rows_after(core, head, after, 1000, deadline)
        return News(head.incarnation, rows_to_entries(rows), False)
    push = core.driver.capabilities.push
    if push:
        await core.driver.wait(session_id, head.incarnation, after, Deadline(PUSH_SECONDS))
    return News(head.incarnation, [], push)


async def _rows_after(core: Core, head: Head, after: int, limit: int, deadline: Deadline) -> list[CommitRow]:
    span = Span(first=after + 1, last=head.revision, limit=limit)
    return await core.driver.entries(head.session_id, head.incarnation, span, deadline)


async def verify(core: Core, session_id: str, *, user_id: str | None = None) -> int:
    """Fold the whole log and compare it with the head; returns the number of commits.

    Raises `CorruptDataError` if they differ or the log has a gap. Reads the whole session.
    """
    core.check_access(session_id, user_id)
    deadline = core.deadline()
    head = await core.head_of(session_id, user_id, deadline)
    rows = await core.all_rows(head, Span(last=head.revision), deadline)
    folded = fold.roll_forward(None, rows)
    if folded != head:
        await core.head_of(session_id, user_id, deadline)  # it may have been deleted meanwhile
        raise CorruptDataError(f"The head of session {session_id!r} is not what its log folds to.")
    build_runs(rows_to_entries(rows))
    return len(rows)


# ---------------------------------------------------------------- helpers


def page_for(runs: int, *, each: int = 2) -> int:
    """How many of the newest commits hold so many runs when each took so many commits, and one other.

    Only a guess: a run that the page does not hold is read by its number.
    """
    return each * runs + 1 if runs else 0


def check_count(value: Any, what: str, *, least: int, most: int = LARGEST) -> None:
    """Refuse what is not a whole number of the range."""
    if type(value) is not int or not least <= value <= most:
        bounds = f"from {least} to {most}"
        raise InvalidInputError(f"{what} must be a whole number, {bounds}; it is {value!r}.")


def check_seconds(value: Any, what: str) -> None:
    """Refuse what is not a number of seconds above 0 that a clock can count."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 1e9:
        raise InvalidInputError(f"{what} must be a number of seconds above 0, up to 1e9; it is {value!r}.")


def check_choice(value: Any, what: str, choices: Collection[str]) -> None:
    """Refuse what is none of the choices."""
    if value not in choices:
        raise InvalidInputError(f"{what} must be one of {', '.join(map(repr, choices))}; it is {value!r}.")


def _query(
    kind: str | None,
    owner: str | None,
    user_id: str | None,
    name_prefix: str | None,
    status: str | None,
    since: int | None,
    until: int | None,
    metadata: Mapping[str, Json] | None,
    metadata_keys: Collection[str],
    order: Literal["updated", "created"],
    cursor: str | None,
    limit: int,
) -> ListQuery:
    for value, what in ((kind, "kind"), (owner, "owner"), (user_id, "user_id"), (name_prefix, "name_prefix")):
        check_optional_id(value, what)
    for moment, what in ((since, "since"), (until, "until")):
        if moment is not None:
            check_count(moment, what, least=-LARGEST)
    if status is not None:
        check_choice(status, "status", STATUSES)
    _check_filters(metadata, metadata_keys)
    for key in metadata_keys:
        check_id(key, "a key of metadata_keys")
    check_choice(order, "order", ("updated", "created"))
    return ListQuery(
        kind=kind,
        owner=owner,
        user_id=user_id,
        name_prefix=name_prefix,
        status=status,
        since=since,
        until=until,
        metadata=dict(metadata or {}),
        metadata_keys=tuple(metadata_keys),
        now=now_micros(),
        order=order,
        after=None if cursor is None else _parse_cursor(cursor),
        limit=limit,
    )


def _check_filters(metadata: Any, keys: Any) -> None:
    if not isinstance(metadata or {}, Mapping) or not isinstance(keys, (list, tuple, set, frozenset)):
        raise InvalidInputError("metadata must be a dict, and metadata_keys a list of keys.")
    for key, value in cast("Mapping[Any, Any]", metadata or {}).items():
        _check_filter(key, value)


def _check_filter(key: Any, value: Any) -> None:
    check_id(key, "a key of metadata")
    if isinstance(value, str) and value:
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidInputError("A metadata filter cannot hold a lone surrogate.") from None
        if "\0" in value:
            raise InvalidInputError("A metadata filter cannot hold NUL.")
    elif value is not None and not isinstance(value, (str, bool, int, float)):
        raise InvalidInputError(f"metadata filters compare scalar values, not {type(value).__name__}.")
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise InvalidInputError("A metadata filter cannot hold an integer of more than 64 bits.")


def _cursor(row: HeadRow, order: Literal["updated", "created"]) -> str:
    time = row.created_at if order == "created" else row.updated_at
    return base64.urlsafe_b64encode(json.dumps([time, row.session_id]).encode()).decode()


def _parse_cursor(cursor: str) -> tuple[int, str]:
    try:
        time, session_id = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        check_count(time, "the time", least=-LARGEST)
        return time, check_id(session_id, "session_id")
    except (ValueError, TypeError, AttributeError, binascii.Error):
        raise InvalidInputError("This is not a cursor of `sessions`.", hint="Pass next_cursor as it came.") from None
