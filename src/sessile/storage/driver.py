"""The contract between Sessile and one database.

A driver keeps four things, all of them below one `session_id`:

* the **head row**: the small current summary of the session, replaced at every commit;
* the **log**: commit rows with `seq` dense from 1, written once and never changed;
* **records**: small binary values beside the log under a key (leases, cancel requests, media);
* nothing else. All meaning (folding, patches, windows, branches, leases, retries) is written once, above.

A driver is a subclass of `Driver`. Its methods are `async def`. A driver over a blocking client simply never
awaits anything inside them and leaves `suspends` False: Sessile steps it for synchronous callers and moves the
whole operation to a worker thread for asynchronous ones. A driver over an asynchronous client sets `suspends`.

Errors: a driver raises `sessile.errors.StorageError` and its subclasses only, translated from its client's
errors, with `written="unknown"` whenever a write may have arrived, and never returns "absent" for a read that
failed. `sessile.testing` has the conformance suite that decides whether a driver is right.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, NamedTuple

from ..errors import DeadlineError, UnsupportedError

Json = str | int | float | bool | None
"""A scalar JSON value."""


class HeadRow(NamedTuple):
    """The head as a driver sees it: opaque `body`, and native copies of what lists filter by.

    Times are microseconds UTC. `hidden` heads (a fork in the making, a deletion under way) are left out of lists.
    `metadata` is JSON text of an object: a copy for filters, never the source of truth.
    """

    session_id: str
    incarnation: str
    revision: int
    kind: str
    owner: str | None
    user_id: str | None
    name: str | None
    status: str | None
    created_at: int
    updated_at: int
    expires_at: int | None
    hidden: bool
    metadata: str
    body: str


class CommitRow(NamedTuple):
    """One commit of the log.

    `run` is the number of the run it belongs to, 0 if it belongs to none. `commit_id` is, like all ids, text of 1 to
    255 bytes of UTF-8.
    """

    seq: int
    commit_id: str
    run: int
    time: int
    body: str


class Append(NamedTuple):
    """A compare-and-set append: `commits` follow revision `expected`, and `head` is the head after them.

    `commits` has at least one row and at most `Capabilities.commits_per_append`; their `seq` are
    `expected + 1`, `expected + 2`, … and `head.revision` is the last of them. `expected == 0` creates the session.
    """

    session_id: str
    incarnation: str
    expected: int
    commits: tuple[CommitRow, ...]
    head: HeadRow


class Loaded(NamedTuple):
    """What one `load` brings: the head, the newest commits (oldest of them first) and the database's clock."""

    head: HeadRow
    commits: list[CommitRow]
    now: int


class Span(NamedTuple):
    """Which commits `entries` returns: those with `first <= seq <= last` (`last=None` is open).

    With `runs=(a, b)` only commits with `a <= run <= b`; those that belong to no run (`run == 0`) never match
    then. At most `limit` commits come back, by ascending `seq`, or descending (`newest_first`).
    """

    first: int = 1
    last: int | None = None
    runs: tuple[int, int] | None = None
    limit: int = 500
    newest_first: bool = False


@dataclass(frozen=True, slots=True)
class ListQuery:
    """What `list` filters by; a filter that is None matches everything.

    `since <= updated_at < until`, both in microseconds (`created_at` when `order="created"`). `metadata`
    matches heads whose metadata has each key with exactly that scalar value (`true` is not `1`).
    `metadata_keys` matches heads whose metadata has each key, whatever its value. `now` hides heads with
    `expires_at <= now`; None shows them. `expired_before` is for sweeping: only heads with
    `expires_at <= expired_before`. `hidden`: False shows only heads that are not hidden, True only those that are,
    None both. `after` is the `(time, session_id)` of the last row of the page before.
    """

    kind: str | None = None
    owner: str | None = None
    user_id: str | None = None
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
    after: tuple[int, str] | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine does, declared; the conformance suite tests what is declared.

    Attributes:
        durable: an acknowledged append survives the end of the process.
        multi_process: several processes may work on the same data at once.
        exact_order: lists reflect every acknowledged append at once (False: they may lag).
        transactional_head: head and log change together, so a head never lags behind its log.
        commits_per_append: how many commits one `append` may carry.
        max_record_bytes: the largest value of `put_record`; larger ones are split above.
        push: `wait` returns as soon as a session has changed, without polling.
        forks: a storage that was used goes on working in a forked child of its process (False: an error there).
    """

    durable: bool = True
    multi_process: bool = True
    exact_order: bool = True
    transactional_head: bool = True
    commits_per_append: int = 1
    max_record_bytes: int = 256 * 1024
    push: bool = False
    forks: bool = True


class Deadline:
    """The moment by which an operation must have ended, on the monotonic clock."""

    __slots__ = ("_at", "timeout")

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self._at = time.monotonic() + timeout

    def remaining(self) -> float:
        """Seconds left, 0 when it has passed."""
        return max(0.0, self._at - time.monotonic())

    def check(self, what: str, *, written: Literal["no", "unknown"] = "no") -> None:
        """Raise `DeadlineError` if the deadline has passed."""
        if self.remaining() <= 0:
            raise DeadlineError(
                f"{what} did not end within {self.timeout:g} s.", written=written, retry=written == "no"
            )


class Driver(ABC):
    """One database. See the module's text for the rules that all methods share."""

    name: ClassVar[str]
    suspends: bool = False
    """True if methods really await (an asynchronous client); False if they block."""

    capabilities: Capabilities = Capabilities()

    @abstractmethod
    async def setup(self, deadline: Deadline) -> None:
        """Create or migrate the schema. Idempotent, and safe when many processes start at once.

        Raises `NewerVersionError` if the data was made by a newer version. Called once before first use.
        """

    async def migrate(self, deadline: Deadline, *, finish: bool = False, dry_run: bool = False) -> list[str]:
        """Do what `setup` does, also where the driver was told to leave the schema alone; returns what was run.

        With `finish` also what makes the database unusable for programs of the version before. With `dry_run`
        nothing is run, and what would be is returned. For databases that have no schema: nothing.
        """
        return []

    @abstractmethod
    async def load(self, session_id: str, newest: int, deadline: Deadline) -> Loaded | None:
        """The head and its `newest` (>= 0) newest commits, read in one consistent look; None if there is no head.

        Hidden and expired heads are returned as well: the core decides. The commits are contiguous and reach
        to the head's revision or (without `transactional_head`) beyond it.
        """

    @abstractmethod
    async def append(self, write: Append, deadline: Deadline) -> bool:
        """Append the commits and replace the head, whole or not at all; False if the race was lost.

        The race is lost if there is no head of that `incarnation` at revision `expected`, or, for
        `expected == 0`, if there is any head of that `session_id`. True means: acknowledged, as durable as
        `capabilities.durable` says. After an exception with `written="unknown"` either outcome is possible.
        """

    @abstractmethod
    async def entries(self, session_id: str, incarnation: str, span: Span, deadline: Deadline) -> list[CommitRow]:
        """The commits of a span; empty if there are none or no such incarnation."""

    @abstractmethod
    async def list(self, query: ListQuery, deadline: Deadline) -> list[HeadRow]:
        """Heads by filter, newest first by `(updated_at or created_at, session_id)`, both descending."""

    @abstractmethod
    async def delete(self, session_id: str, incarnation: str, deadline: Deadline) -> None:
        """Remove head, log and records of that incarnation, if they are there; another incarnation is untouched.

        May be interrupted half-way without harm: the head goes last, or all at once.
        """

    @abstractmethod
    async def get_record(self, session_id: str, incarnation: str, key: str, deadline: Deadline) -> bytes | None:
        """The record of that key, or None."""

    @abstractmethod
    async def put_record(
        self, session_id: str, incarnation: str, key: str, value: bytes | None, deadline: Deadline
    ) -> bool:
        """Write (or, with None, remove) a record; the last write wins. False if the incarnation has no head."""

    @abstractmethod
    async def close(self) -> None:
        """Release what the driver opened itself. Idempotent."""

    async def count(self, query: ListQuery, deadline: Deadline) -> int:
        """How many heads match, `after` and `limit` aside. Generic form: pages of `list`."""
        total, after = 0, None
        while True:
            page = await self.list(replace(query, after=after, limit=500), deadline)
            total += len(page)
            if len(page) < 500:
                return total
            last = page[-1]
            after = (last.created_at if query.order == "created" else last.updated_at, last.session_id)

    async def catch_up(self, head: HeadRow, deadline: Deadline) -> None:
        """Replace a head that lags after a crash by this one, rolled forward over the log; never by an earlier one.

        Called where heads may lag (without `transactional_head`), so that lists become right. Generic form: nothing,
        for drivers whose heads lag by design.
        """

    def warnings(self) -> Sequence[str]:
        """What may be lost with the database as it is set up, and what to do about it; one sentence or two each.

        Known after `setup`. Generic form: none.
        """
        return ()

    async def sweep(self, before: int, deadline: Deadline) -> None:
        """Remove what crashes have left that no session refers to, of before that moment (microseconds UTC).

        Generic form: nothing, for drivers that leave nothing.
        """

    async def wait(self, session_id: str, incarnation: str, revision: int, deadline: Deadline) -> None:
        """Return when the session has passed `revision`, or the deadline is over (capability `push`).

        May return sooner, and does after a poll's time where pushing is not possible for the moment.
        """
        raise UnsupportedError(f"The driver {self.name!r} cannot push changes.")

    async def pause(self, seconds: float) -> None:
        """Wait between two attempts, in the way of this driver: suspended or blocking."""
        if self.suspends:
            import asyncio  # takes half of the import time of this package, and blocking drivers do not need it

            await asyncio.sleep(seconds)
        else:
            time.sleep(seconds)  # noqa: ASYNC251 (a driver that blocks is stepped, or runs in a worker thread)

    def before_fork(self) -> None:
        """Called before a fork, in the thread that forks: bring what the child will inherit to rest.

        What is locked here stays locked until `after_fork_in_parent`, and until `after_fork` in the child.
        """

    def after_fork_in_parent(self) -> None:
        """Called in the parent after a fork."""

    def after_fork(self) -> None:
        """Called in a forked child: forget (never close) inherited handles, so that all is opened anew."""
