"""The one core above every driver: a consistent look at a session, and the commit loop.

Everything here awaits nothing but the driver, so that it can be stepped synchronously over a driver that blocks.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from ..errors import AlreadyExistsError, SessionNotFoundError, StorageError, StorageFullError, UserRequiredError
from ..records import MICROSECOND, Entry, Head
from .driver import Append, CommitRow, Deadline, Driver, Loaded, Span
from .encoding import check_size, decode_commit, decode_head, encode_commit, encode_head
from .fold import DELETED, fold, roll_forward
from .ids import check_id, check_optional_id, uuid7

ABANDONED = 3600 * MICROSECOND
"""After how long a fork in the making is taken for abandoned, in microseconds."""

LAG = 2 * MICROSECOND
"""After how long a head that lags behind its log is taken for left by a crash, in microseconds."""

RACE_PAGE = 8
"""How many commits a look after a lost race reads. With one read more before it, the next attempt may lose as well."""

LAG_PAGE = 8
"""How many commits a look reads at least where a head may lag behind its log."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a storage was made with. Times in seconds, sizes in bytes."""

    timeout: float = 30.0
    require_user: bool = False
    ttl: float | None = None
    lease: float = 30.0
    max_commit_bytes: int = 16 * 1024 * 1024
    max_state_bytes: int = 256 * 1024
    max_metadata_bytes: int = 16 * 1024
    inline_media_bytes: int = 4 * 1024
    max_media_bytes: int = 64 * 1024 * 1024


@dataclass(slots=True)
class Snapshot:
    """One consistent look at a session: its head (None: absent), its newest commits (ascending), the clock.

    `stale` is the incarnation of an expired or half-deleted session that stands where a new one would be made.
    `found` is the head that stands there, also one that is hidden or expired and therefore absent.
    """

    head: Head | None
    rows: list[CommitRow]
    now: int
    stale: str | None = None
    found: Head | None = None


@dataclass(slots=True)
class Draft:
    """What a writer wants to append: the entries of one commit, and the number of the run they belong to."""

    entries: list[Entry]
    run: int = 0


@dataclass(slots=True)
class Committed:
    """An acknowledged commit: the head after it (or after later ones too), and its entries with `seq` and `time`."""

    head: Head
    entries: list[Entry]


Change = Callable[[Snapshot], Awaitable[Draft | None]]
"""Makes a draft for the session as it is; called again after each lost race; None: there is nothing to write."""


@dataclass(slots=True)
class Core:
    """One driver with the settings of its storage."""

    driver: Driver
    settings: Settings
    ready: bool = field(default=False)

    # ------------------------------------------------------------ beginning

    def deadline(self) -> Deadline:
        """The deadline of an operation that begins now."""
        return Deadline(self.settings.timeout)

    async def prepare(self, deadline: Deadline) -> None:
        """Set the database up at first use."""
        if not self.ready:
            await self.driver.setup(deadline)
            self.ready = True

    def check_access(self, session_id: str, user_id: str | None) -> None:
        """Refuse bad ids, and a missing user where one is required, before any I/O."""
        check_id(session_id, "session_id")
        self.check_user(user_id)

    def check_user(self, user_id: str | None) -> None:
        """Refuse a bad user id, and a missing one where one is required."""
        check_optional_id(user_id, "user_id")
        if user_id is None and self.settings.require_user:
            raise UserRequiredError("This storage needs a user_id for every operation on sessions.")

    # ------------------------------------------------------------ reading

    async def look(self, session_id: str, deadline: Deadline, *, newest: int = 0) -> Snapshot:
        """The session as it is now, with its `newest` newest commits; hidden and expired ones are absent."""
        await self.prepare(deadline)
        lagging = not self.driver.capabilities.transactional_head
        loaded = await self.driver.load(session_id, max(newest, LAG_PAGE) if lagging else newest, deadline)
        if loaded is None:
            return Snapshot(None, [], now_micros())
        head = decode_head(loaded.head)
        if lagging and loaded.commits and loaded.commits[-1].seq > head.revision:
            head = await self._caught_up(head, loaded, deadline)
        expired = head.expires_at is not None and head.expires_at <= loaded.now
        if head.hidden is not None or expired:
            building = head.hidden == "building" and not expired and loaded.now - head.updated_at < ABANDONED
            stale = None if building else head.incarnation
            return Snapshot(None, [], loaded.now, stale, head)
        return Snapshot(head, loaded.commits, loaded.now, None, head)

    async def _caught_up(self, head: Head, loaded: Loaded, deadline: Deadline) -> Head:
        """A head that lags, rolled forward over the commits that the log has beyond it.

        It is also written down, unless its writer may just be about to do that. That it cannot be is no matter here.
        """
        rows = loaded.commits
        if rows[0].seq > head.revision + 1:
            rows = await self.all_rows(head, Span(first=head.revision + 1), deadline)
        rolled = roll_forward(head, rows)
        if rolled is None:
            return head
        if rolled.updated_at < loaded.now - LAG:
            row = encode_head(rolled, max_state=sys.maxsize, max_metadata=sys.maxsize)  # it is committed already
            with suppress(StorageError):
                await self.driver.catch_up(row, deadline)
        return rolled

    async def all_rows(self, head: Head, span: Span, deadline: Deadline) -> list[CommitRow]:
        """All commits of a span, page by page, in the span's direction."""
        rows: list[CommitRow] = []
        while True:
            page = await self.driver.entries(head.session_id, head.incarnation, span, deadline)
            rows.extend(page)
            if len(page) < span.limit:
                return rows
            edge = page[-1].seq
            span = span._replace(last=edge - 1) if span.newest_first else span._replace(first=edge + 1)

    async def head_of(self, session_id: str, user_id: str | None, deadline: Deadline) -> Head:
        """The head of a session that must be there and be this user's."""
        snapshot = await self.look(session_id, deadline)
        return owned(snapshot.head, session_id, user_id)

    # ------------------------------------------------------------ writing

    async def commit(
        self,
        session_id: str,
        change: Change,
        deadline: Deadline,
        *,
        known: Snapshot | None = None,
        commit_id: str | None = None,
    ) -> Committed | None:
        """Append what `change` drafts, exactly once, however many writers there are and whatever answers are lost.

        `known` is the session as the caller last saw it: if it is out of date, that costs one lost race. After a
        lost race or an unknown answer the log is searched for this commit's own id, and only when it is not there
        is the change drafted anew. A caller who repeats a commit that failed passes the same `known` and
        `commit_id`. Returns None if there was nothing to write.
        """
        commit_id = uuid7() if commit_id is None else commit_id
        attempt, unknown = 0, False
        snapshot = known or await self.look(session_id, deadline)
        while True:
            draft = await change(snapshot)
            if draft is None:
                return None
            check_not_building(snapshot, session_id)
            await self.remove_stale(session_id, snapshot, deadline)
            committed, write = self._encode(snapshot, session_id, commit_id, draft)
            try:
                if await self.driver.append(write, deadline):
                    return committed
            except StorageError as error:
                unknown = unknown or error.written != "no"
                if not error.retry or isinstance(error, StorageFullError) or deadline.remaining() <= 0:
                    _told(error, unknown=unknown)
                    raise
            attempt += 1
            await self._pause(attempt, deadline, unknown=unknown)
            snapshot, arrived = await self._look_again(session_id, snapshot, commit_id, deadline, unknown=unknown)
            if arrived is not None:
                return arrived

    def _encode(self, snapshot: Snapshot, session_id: str, commit_id: str, draft: Draft) -> tuple[Committed, Append]:
        """The draft as a commit that follows the snapshot's head."""
        before = snapshot.head
        seq = 1 if before is None else before.revision + 1
        moment = max(now_micros(), 0 if before is None else before.updated_at)
        body = encode_commit(draft.entries)
        check_size(body, self.settings.max_commit_bytes, "The commit")
        head = fold(before, seq, moment, draft.entries)
        for entry in draft.entries:
            entry.seq, entry.time = seq, moment
        row = encode_head(head, max_state=self.settings.max_state_bytes, max_metadata=self.settings.max_metadata_bytes)
        commit = CommitRow(seq, commit_id, draft.run, moment, body)
        return Committed(head, draft.entries), Append(session_id, head.incarnation, seq - 1, (commit,), row)

    async def remove_stale(self, session_id: str, snapshot: Snapshot, deadline: Deadline) -> None:
        """Make room for a new session where an expired or half-deleted one stands, unless somebody revives it."""
        if snapshot.stale is None or snapshot.found is None:
            return
        if await self.bury(snapshot.found, deadline):
            await self.driver.delete(session_id, snapshot.stale, deadline)

    async def bury(self, head: Head, deadline: Deadline) -> bool:
        """Commit that a session is deleted, if nobody has committed to it since this head; then it can be removed.

        So that a commit which prolongs an expired session at the last moment is not removed with it.
        """
        _, write = self._encode(Snapshot(head, [], 0), head.session_id, uuid7(), Draft([Entry(DELETED)]))
        while head.hidden != "deleted":
            try:
                return await self.driver.append(write, deadline)
            except StorageError as error:
                if not error.retry or isinstance(error, StorageFullError) or deadline.remaining() <= 0:
                    raise
            await self._pause(2, deadline, unknown=True)
            found = (await self.look(head.session_id, deadline)).found
            if found is None or found.incarnation != head.incarnation:
                return True
            if found.revision != head.revision and found.hidden != "deleted":
                return False
            head = found
        return True

    async def _look_again(
        self, session_id: str, before: Snapshot, commit_id: str, deadline: Deadline, *, unknown: bool
    ) -> tuple[Snapshot, Committed | None]:
        """Another look after an attempt whose answer may have been lost, and the commit if it is in the log after all.

        Patient as long as there is time.
        """
        while True:
            try:
                snapshot = await self.look(session_id, deadline, newest=RACE_PAGE)
                return snapshot, await self._arrived(before, snapshot, commit_id, deadline)
            except StorageError as error:
                if not error.retry or deadline.remaining() <= 0:
                    _told(error, unknown=unknown)
                    raise
                await self._pause(2, deadline, unknown=unknown)

    async def _arrived(self, before: Snapshot, now: Snapshot, commit_id: str, deadline: Deadline) -> Committed | None:
        """The commit, if it is in the log after all, though its race seemed lost or its answer was.

        It can only stand after the revision that it expected, which is that of the look before. The commit may itself
        have hidden the session or let it expire. The newest commits mostly have all that came since.
        """
        head = now.found
        if head is None:
            return None
        same = before.head is not None and before.head.incarnation == head.incarnation
        span = Span(first=before.head.revision + 1 if same and before.head else 1, last=head.revision)
        seen = bool(now.rows) and now.rows[0].seq <= span.first
        rows = now.rows if seen else await self.all_rows(head, span, deadline)
        found = [row for row in rows if row.seq >= span.first and row.commit_id == commit_id]
        return Committed(head, rows_to_entries(found)) if found else None

    async def _pause(self, attempt: int, deadline: Deadline, *, unknown: bool) -> None:
        """Wait a random, growing moment (full jitter), so that writers who collide do not collide again."""
        deadline.check("Appending to a session", written="unknown" if unknown else "no")
        if attempt > 1:
            import random  # not needed until writers collide, and slow to import

            await self.driver.pause(random.uniform(0, min(0.1, 0.001 * 2**attempt)))

    async def append_batch(
        self, head: Head | None, session_id: str, drafts: Sequence[Draft], deadline: Deadline
    ) -> Head:
        """Append several commits to a session that nobody else writes to (a fork in the making)."""
        per_append = max(1, self.driver.capabilities.commits_per_append)
        for start in range(0, len(drafts), per_append):
            rows: list[CommitRow] = []
            writes: list[Append] = []
            for draft in drafts[start : start + per_append]:
                committed, write = self._encode(Snapshot(head, [], 0), session_id, uuid7(), draft)
                head = committed.head
                rows.extend(write.commits)
                writes.append(write)
            whole = writes[-1]._replace(expected=writes[0].expected, commits=tuple(rows))
            await self._append_once(whole, deadline)
        assert head is not None, "a batch has at least one draft"
        return head

    async def _append_once(self, write: Append, deadline: Deadline) -> None:
        """Append to a session that nobody else writes to, exactly once, whatever answers are lost."""
        last = write.commits[-1]
        while True:
            try:
                won = await self.driver.append(write, deadline)
            except StorageError as error:
                if not error.retry or isinstance(error, StorageFullError) or deadline.remaining() <= 0:
                    raise
                won = None
                await self._pause(2, deadline, unknown=error.written != "no")
            span = Span(first=last.seq, last=last.seq)
            rows = [] if won else await self.driver.entries(write.session_id, write.incarnation, span, deadline)
            if won or (rows and rows[0].commit_id == last.commit_id):
                return
            if won is False and write.expected == 0:
                raise AlreadyExistsError(f"There is a session {write.session_id!r} already.")
            if won is False:
                raise StorageError(f"Session {write.session_id!r} was changed while it was being made.", retry=True)


def check_not_building(snapshot: Snapshot, session_id: str) -> None:
    """Raise `AlreadyExistsError` where a fork is making a session of this id."""
    if snapshot.head is None and snapshot.stale is None and snapshot.found is not None:
        raise AlreadyExistsError(
            f"A fork is making session {session_id!r}.",
            hint="Try again when it is there, or choose another session_id.",
            retry=True,
        )


def owned(head: Head | None, session_id: str, user_id: str | None) -> Head:
    """The head, if it is there and not another user's; else `SessionNotFoundError`, the same for both."""
    if head is None or (user_id is not None and head.user_id != user_id):
        raise SessionNotFoundError(f"There is no session {session_id!r}.")
    return head


def visible(head: Head | None, user_id: str | None) -> Head | None:
    """The head, if it is there and not another user's; else None."""
    return None if head is None or (user_id is not None and head.user_id != user_id) else head


def _told(error: StorageError, *, unknown: bool) -> None:
    """Let an error say what is known of the commit, not only of the operation that failed last."""
    error.written = "unknown" if unknown else "no"
    if unknown:
        error.retry = False
        error.hint = "Look whether it is there before you repeat it."


def now_micros() -> int:
    """This machine's clock, in microseconds UTC."""
    return time.time_ns() // 1000


def rows_to_entries(rows: Sequence[CommitRow]) -> list[Entry]:
    """The entries of commit rows in the order of their `seq`."""
    return [entry for row in sorted(rows, key=lambda row: row.seq) for entry in decode_commit(row)]
