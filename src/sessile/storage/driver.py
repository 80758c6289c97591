"""The contract between Sessile and one database.

A driver keeps four things, all of them below one `session_id`:

* the **head row**: the small current summary of the session, replaced at every commit;
* the **log**: commit rows with `seq` dense from 1, written once (only `rewrite` changes the body of one);
* **records**: small binary values beside the log under a key (leases, cancel requests, media);
* nothing else. All meaning (folding, patches, windows, branches, leases, retries) is written once, above.

A driver is a subclass of `Driver`. Its methods are `async def`. A driver over a blocking client simply never
awaits anything inside them and leaves `suspends` False: Sessile steps it for synchronous callers and moves the
whole operation to a worker thread for asynchronous ones. A driver over an asynchronous client sets `suspends`.

Deadlines: an operation on data whose deadline has passed before it begins raises `DeadlineError` and does nothing, and
one that is under way ends soon after its deadline, with an error that says whether the write happened.

Errors: a driver raises `sessile.errors.StorageError` and its subclasses only, translated from its client's
errors, with `written="unknown"` whenever a write may have arrived, and never returns "absent" for a read that
failed. `sessile.testing` has the conformance suite that decides whether a driver is right.

What goes in and out (rows, spans, queries) stands in `rows`.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, ClassVar, Literal, Protocol, TypeVar

from ..errors import DeadlineError, UnsupportedError
from .leaving import about_to_wait, leave
from .rows import Append, CommitRow, HeadRow, Listing, ListQuery, Loaded, RecordName, Span
from .stats import Stats
from .threads import NOTICE_SECONDS, hurry

T = TypeVar("T")


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
        rewrites: `rewrite` replaces the bodies of commits.
        bounded_pages: `entries` heeds `Span.max_bytes`, and `load` what it may bring, `LOADED_BYTES`.
        finds_names, finds_metadata: `list` and `count` filter by names, and by metadata (False: `UnsupportedError`).
        checks_body: `append` heeds `Append.was_body` and `was_updated_at`; needs `transactional_head`.
    """

    durable: bool = True
    multi_process: bool = True
    exact_order: bool = True
    transactional_head: bool = True
    commits_per_append: int = 1
    max_record_bytes: int = 256 * 1024
    push: bool = False
    forks: bool = True
    rewrites: bool = False
    bounded_pages: bool = False
    finds_names: bool = True
    finds_metadata: bool = True
    checks_body: bool = False


class AnyLock(Protocol):
    """A lock of threads."""

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take it; tells whether it came free in time."""
        ...


class Deadline:
    """The moment by which an operation must have ended, on the monotonic clock."""

    __slots__ = ("_at", "_hurry", "timeout")

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self._at = time.monotonic() + timeout
        self._hurry = hurry.get()

    def remaining(self) -> float:
        """Seconds left, 0 when it has passed, or when the caller was interrupted."""
        if self._hurry is not None and self._hurry.now:
            return 0.0
        return max(0.0, self._at - time.monotonic())

    def for_answer(self) -> float:
        """Seconds for which the answer to what was sent is waited for; longer than `remaining` after an interruption.

        So what is quick ends as if nothing had happened, and is not cut off half-way.
        """
        now = time.monotonic()
        until = self._at if self._hurry is None or not self._hurry.now else min(self._at, self._hurry.until)
        return max(0.0, until - now)

    @property
    def may_be_hurried(self) -> bool:
        """Whether it may pass before its time, because the caller is interrupted."""
        return self._hurry is not None

    @property
    def is_hurried(self) -> bool:
        """Whether it has passed before its time."""
        return self._hurry is not None and self._hurry.now

    def check(self, what: str, *, written: Literal["no", "unknown"] = "no") -> None:
        """Raise `DeadlineError` if the deadline has passed."""
        if time.monotonic() >= self._at or (self._hurry is not None and self._hurry.now):
            raise DeadlineError(
                f"{what} did not end within {self.timeout:g} s.", written=written, retryable=written == "no"
            )

    def acquire(self, lock: AnyLock) -> bool:
        """Take a lock if it comes free in time; False if not. It is given up as soon as the caller is interrupted."""
        if lock.acquire(blocking=False):
            return True
        about_to_wait()
        while (left := self.remaining()) > 0:
            if lock.acquire(timeout=min(left, NOTICE_SECONDS)):
                return True
        return False


Dialect = Literal["sqlite", "postgres", "mysql"]
"""Whose SQL the database speaks; MariaDB speaks MySQL's."""

Values = Mapping[str, Any]
"""Parameters by name; in statements they are written `:name`."""

Row = tuple[Any, ...]

RunStatement = Callable[[str, Values | Sequence[Sequence[Any]] | bytes | None], Awaitable[list[Row]]]
"""Runs a statement within a transaction; returns its rows, none for statements that have none.

On SQLite it is also given many rows of parameters, which are written `?`, and is run for each of them; on PostgreSQL
`COPY … FROM STDIN` and its data."""


class Beside(ABC):
    """A way to tables of others in the same SQL database as a driver's own; nothing of the log goes through it."""

    dialect: Dialect
    where: str
    """Names the database in messages."""
    index_prefix: str
    """What the names of indexes begin with, which some databases keep in one room with those of tables."""
    may_create: bool
    """Whether tables may be made on first use; else only `storage.migrate` may."""

    @abstractmethod
    def table(self, name: str) -> str:
        """A table's name as it stands in SQL, with the prefix and the schema of the driver's own."""

    @abstractmethod
    async def has_table(self, name: str, deadline: Deadline) -> bool:
        """Whether there is a table of that name (`table`)."""

    @abstractmethod
    async def read(self, what: str, sql: str, values: Values, deadline: Deadline) -> list[Row]:
        """The rows of a statement that changes nothing, as of one moment; stopped at its deadline."""

    async def sign(self, deadline: Deadline) -> object:
        """What equals an earlier one only if nothing was committed in the database in between; None: nobody can say."""
        return None

    @abstractmethod
    def transaction(self, what: str, deadline: Deadline) -> AbstractAsyncContextManager[RunStatement]:
        """A transaction of several statements, rolled back if its body raises.

        On SQLite it has the lock for writing from its beginning. Elsewhere it is READ COMMITTED or above; on MySQL
        statements that change the schema end it.
        """


class Driver(ABC):
    """One database. See the module's text for the rules that all methods share."""

    name: ClassVar[str]
    suspends: bool = False
    """True if methods really await (an asynchronous client); False if they block."""

    in_callers_thread: bool = False
    """True if operations of synchronous callers run in their own thread, as what belongs to the application must:
    its transaction, its connection, its engine. Otherwise those of the main thread run in another one, while it waits:
    where no signal handler interrupts them."""

    ends_promptly: bool = False
    """True if every operation ends within moments of its deadline, whatever happens, and within moments of
    `Deadline.for_answer` if its caller is interrupted: it waits for networks and locks in short steps only, and does
    what may hang otherwise by `threads.unless_interrupted`. Then those of the main thread run there where nothing but
    Ctrl-C can come, which waits for their end."""

    on_loop: bool = False
    """True if operations of asynchronous callers are begun on their event loop, though the driver blocks. Then what may
    wait or take long says so before it does (`leaving`)."""

    takes_turns: bool = False
    """True if threads that work at once are in each other's way, so that each begins when it has its turn. Then what
    may wait or take long gives way to others before it does (`turnstile`)."""

    seals: bool = False
    """True if what it gives to the driver below it is encrypted."""

    as_stored: bool = True
    """True if commits come as they lie in the database, where they may also be read by SQL (`beside`)."""

    capabilities: Capabilities = Capabilities()

    @cached_property
    def stats(self) -> Stats:
        """What has happened to this driver beside its work; `storage.stats()` shows it."""
        return Stats()

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

    async def now(self, deadline: Deadline) -> int:
        """The database's clock, microseconds UTC; asked once before first use, later `load` brings it.

        Generic form: this machine's clock, for databases that have none of their own.
        """
        return time.time_ns() // 1000

    @abstractmethod
    async def load(self, session_id: str, newest: int, deadline: Deadline) -> Loaded | None:
        """The head and its `newest` (>= 0) newest commits, read in one consistent look; None if there is no head.

        Hidden and expired heads are returned as well: the core decides. The commits are contiguous and reach
        to the head's revision or (without `transactional_head`) beyond it. With the capability `bounded_pages` they
        may be fewer than `newest`, but are one at least: the bodies of more than 8 have together no more than
        `LOADED_BYTES` and the largest one's; commits of at most `LOADED_BYTES / newest` each are never kept back.
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
    async def list(self, query: ListQuery, deadline: Deadline) -> Listing:
        """Heads by filter, newest first by `(updated_at or created_at, session_id)`, both descending.

        At most `query.limit` rows. What cannot be read is named in the listing, and never ends it with an error.
        """

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
    async def record_keys(
        self, session_id: str, incarnation: str, prefix: str, deadline: Deadline, *, after: str = "", limit: int = 500
    ) -> list[str]:
        """The keys of the records that begin with `prefix` and follow `after`, ascending by code point.

        At most `limit`; the last one is the next call's `after`. Empty if there are none or no such incarnation.
        """

    @abstractmethod
    async def close(self) -> None:
        """Release what the driver opened itself. Idempotent."""

    # ------------------------------------------------------------ what has a generic form

    async def get_records(self, names: Sequence[RecordName], deadline: Deadline) -> list[bytes | None]:
        """Several records, of one session or of many, in the order of their names; None for each that is not there.

        So that the leases of a page of sessions are one round trip. Generic form: `get_record` of each of them.
        """
        return await self._gather(partial(self.get_record, *name, deadline) for name in names)

    async def newest(
        self, sessions: Sequence[tuple[str, str]], count: int, deadline: Deadline
    ) -> list[list[CommitRow]]:
        """The `count` newest commits of each of several sessions, `(session_id, incarnation)`, oldest of them first.

        Up to the newest of each log, in the order of the sessions; an empty list where there is no such incarnation.
        Generic form: `entries` of each of them.
        """
        span = Span(limit=count, newest_first=True)
        found = await self._gather(partial(self.entries, *session, span, deadline) for session in sessions)
        return [rows[::-1] for rows in found]

    async def _gather(self, work: Iterable[Callable[[], Coroutine[Any, Any, T]]]) -> list[T]:
        """The results of several pieces of work, in their order. Generic form: done one after the other."""
        return [await piece() for piece in work]

    async def rewrite(
        self, session_id: str, incarnation: str, commits: Sequence[CommitRow], deadline: Deadline
    ) -> bool:
        """Replace the bodies and keys of commits that are in the log (capability `rewrites`); the old ones are gone.

        For erasing, redaction and new encryption keys; `seq`, `commit_id`, `run` and `time` are those that are there,
        and the head is left alone. Each commit changes whole or not at all; after an error some may have changed, and
        the call is repeated. False, and nothing changed, if there is no such incarnation, or one of the commits is not
        in its log.
        """
        raise UnsupportedError(f"The driver {self.name!r} cannot rewrite commits.")

    async def count(self, query: ListQuery, deadline: Deadline) -> int:
        """How many heads match, `after` and `limit` aside. Generic form: pages of `list`."""
        total, after = 0, None
        while True:
            page = await self.list(replace(query, after=after, limit=500), deadline)
            total += len(page.rows)
            if page.after is None:
                return total
            after = page.after

    async def catch_up(self, head: HeadRow, deadline: Deadline) -> None:
        """Replace a head that lags after a crash by this one, rolled forward over the log; never by an earlier one.

        Called where heads may lag (without `transactional_head`), so that lists become right. Generic form: nothing,
        for drivers whose heads lag by design.
        """

    async def discard(self, session_id: str, deadline: Deadline) -> bool:
        """Remove whatever stands where a session would, without reading it; False if there is nothing to remove.

        For what `load` cannot make out, so that not even its incarnation is known. Generic form: nothing is removed.
        """
        return False

    def stored_id(self, session_id: str) -> str:
        """Under which id a session is stored that is called this above the driver. Generic form: the same."""
        return session_id

    def beside(self) -> Beside | None:
        """A way to tables of others in the same SQL database, where an index may lie.

        Generic form: None, there is none.
        """
        return None

    def sealed(self) -> bool:
        """Whether what was said must not be put anywhere else as it is, as in an index. Generic form: no."""
        return False

    def warnings(self) -> Sequence[str]:
        """What may be lost with the database as it is set up, and what to do about it; one sentence or two each.

        Known after `setup`. Generic form: none.
        """
        return ()

    async def settings_warnings(self, deadline: Deadline) -> Sequence[str]:
        """As `warnings`, of what must be asked for: settings of the database that let acknowledged commits be lost.

        Called after `setup`, by who wants to know. Generic form: none.
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
            await leave()
            time.sleep(seconds)  # noqa: ASYNC251 (a driver that blocks is stepped, or runs in a worker thread)

    def before_fork(self) -> None:
        """Called before a fork, in the thread that forks: bring what the child will inherit to rest.

        What is locked here stays locked until `after_fork_in_parent`, and until `after_fork` in the child. If a
        signal's handler interrupts it, it is undone by `after_fork_in_parent`, and called again.
        """

    def after_fork_in_parent(self) -> None:
        """Called in the parent after a fork; also if `before_fork` was interrupted half-way, or twice."""

    def after_fork(self) -> None:
        """Called in a forked child: forget (never close) inherited handles, so that all is opened anew."""
