"""A session as one look has it, what a writer drafts for it, and what the core makes of that."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from ..errors import AlreadyExistsError, SessionNotFoundError
from ..records import ANY_USER, Entry, Session, UserId
from .driver import CommitRow, HeadRow
from .ids import uuid7


@dataclass(slots=True)
class Snapshot:
    """One consistent look at a session: its head (None: absent), its newest commits (ascending), the clock.

    `stale` is the row of an expired or half-deleted session that stands where a new one would be made.
    `found` is the head that stands there, also one that is hidden or expired and therefore absent; `building` says
    that a fork is making it. `row` is what the head was written as, if whoever looks has written it last.
    """

    head: Session | None
    rows: list[CommitRow]
    now: int
    stale: HeadRow | None = None
    found: Session | None = None
    building: bool = False
    row: HeadRow | None = None


@dataclass(slots=True)
class Draft:
    """What a writer wants to append: the entries of one commit, and the number of the run they belong to.

    With `key`, an id of 1 to 255 bytes, the commit is found again by `Core.find`, however many follow it. `free` ones
    are under no limit of size: a limit is a rule for what a caller adds, and never keeps a session from being deleted,
    renamed, rewound or noted as interrupted.
    """

    entries: list[Entry]
    run: int = 0
    key: str | None = None
    free: bool = False


@dataclass(slots=True)
class Committed:
    """An acknowledged commit: the head after it (or after later ones too), and its entries with `seq` and `time`.

    `row` is what the head was written as with it; None if it was there already.
    """

    head: Session
    entries: list[Entry]
    row: HeadRow | None = None


Place = tuple[str, int]
"""Where a commit stands: the incarnation, and its `seq`."""


@dataclass(slots=True)
class Attempt:
    """One commit, however often it is tried: its id, and the places where it may stand without our knowing.

    A commit that expected revision E can only stand at `seq` E + 1. Whoever repeats a commit that failed passes the
    same attempt.
    """

    commit_id: str = field(default_factory=uuid7)
    places: set[Place] = field(default_factory=set)
    lost: Place | None = None
    """Where it has lost its race last. A client that sends a request twice, unseen by its driver, may have lost it to
    itself: the commit is taken for ours if it happens to be at hand, but never read for that."""


Change = Callable[[Snapshot], Awaitable[Draft | None]]
"""Makes a draft for the session as it is; called again after each lost race; None: there is nothing to write."""


def check_not_building(snapshot: Snapshot, session_id: str) -> None:
    """Raise `AlreadyExistsError` where a fork is making a session of this id."""
    if snapshot.building:
        raise AlreadyExistsError(
            f"A fork is making session {session_id!r}.",
            hint="Try again when it is there, or choose another session_id.",
            retryable=True,
        )


def owned(head: Session | None, session_id: str, user_id: UserId) -> Session:
    """The head, if the user reaches it; else `SessionNotFoundError`, the same for one that is not there."""
    found = visible(head, user_id)
    if found is None:
        raise SessionNotFoundError(f"There is no session {session_id!r}.")
    return found


def visible(head: Session | None, user_id: UserId) -> Session | None:
    """The head, if it is there and the user reaches it; else None.

    A user reaches the own sessions, a call that names none (None) those that have no user, `ANY_USER` all.
    """
    return head if head is not None and user_id in (ANY_USER, head.user_id) else None
