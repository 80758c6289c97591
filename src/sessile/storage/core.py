"""The one core above every driver: a consistent look at a session, and the commit loop.

Everything here awaits nothing but the driver, so that it can be stepped synchronously over a driver that blocks.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from ..errors import (
    AlreadyExistsError,
    ConstraintError,
    CorruptDataError,
    InvalidInputError,
    NewerVersionError,
    SessileError,
    StorageError,
    StorageFullError,
    TooLargeError,
    UserRequiredError,
)
from ..records import ANY_USER, MICROSECOND, Entry, Session, UserId
from .absence import as_row, hidden_because, is_building, is_expired, tombstone
from .clock import Clock
from .computing import compute
from .driver import Append, CommitRow, Deadline, Driver, HeadRow, Loaded, Span
from .encoding import check_size, decode_head, encode_commit, encode_head, moved_row, size_of
from .fold import fold, roll_forward
from .ids import check_id, check_optional_id, check_session_id, uuid7
from .leaving import leave
from .loading import load
from .readable import read_entries
from .redacting import redact_draft
from .remembered import Remembered
from .removals import tell_indexes
from .retrying import Attempts
from .rows import uncounted
from .settings import Settings
from .snapshots import Attempt, Change, Committed, Draft, Snapshot, check_not_building, owned
from .vocabulary import ERASING, FOLDING, SCOPE, SessionDeleted, StatePatched

logger = logging.getLogger(__name__)

LAG = 2 * MICROSECOND
"""After how long a head that lags behind its log is taken for left by a crash, in microseconds."""

MOST_TOLD = 10_000
"""How many things that cannot be read are logged at most, so that what is remembered of it does not grow."""

RACE_PAGE = 8
"""How many commits a look after a lost race reads: those that a history mostly consists of, and a commit whose answer
was lost."""

LAG_PAGE = 8
"""How many commits a look reads at least where a head may lag behind its log."""


@dataclass(slots=True)
class Core:
    """One driver with the settings of its storage.

    With `user` it serves that user alone: calls that name none mean this one, and calls that name another are refused.
    """

    driver: Driver
    settings: Settings
    ready: bool = field(default=False)
    clock: Clock = field(default_factory=Clock)
    user: str | None = None
    removals: list[Callable[[str, str], None]] = field(default_factory=list)
    """Hear of each session that this process removes: the id that it is stored under, and its incarnation."""
    remembered: Remembered = field(default_factory=Remembered, init=False)
    """Heads by the ids that this core's callers say: the core of one user has its own."""
    _told: set[str] = field(default_factory=set)

    # ------------------------------------------------------------ beginning

    def deadline(self) -> Deadline:
        """The deadline of an operation that begins now."""
        return Deadline(self.settings.timeout)

    async def prepare(self, deadline: Deadline) -> None:
        """Set the database up at first use, and take over its time."""
        if not self.ready:
            await self.driver.setup(deadline)
            await self.set_clock(deadline)
            self.ready = True

    async def set_clock(self, deadline: Deadline) -> None:
        """Ask the database what time it is; mostly that comes along with what is loaded."""
        self.clock.set(await self.driver.now(deadline))

    def skipped(self, session_id: str, what: str, error: SessileError) -> None:
        """Log, once for each thing, that it was left out because it cannot be read."""
        told = f"{session_id}\0{what}"
        if told not in self._told and len(self._told) < MOST_TOLD:
            self._told.add(told)
            logger.warning("%s of session %r is left out: %s", what, session_id, error)

    def check_access(self, session_id: str, user_id: UserId) -> UserId:
        """Refuse bad ids, and a missing user where one is required, before any I/O; returns whom the call means.

        An id that Sessile has made for itself is refused, too, unless `ANY_USER` says that it may be anybody's.
        """
        if user_id is ANY_USER:
            check_id(session_id, "session_id")
        else:
            check_session_id(session_id)
        return self.check_user(user_id)

    def check_user(self, user_id: UserId) -> UserId:
        """Refuse a bad user id, and a missing one where one is required; returns whom the call means."""
        if user_id is ANY_USER:
            return user_id
        check_optional_id(user_id, "user_id")
        if self.user is not None:
            if user_id not in (None, self.user):
                raise InvalidInputError(f"This storage serves the user {self.user!r} alone.")
            return self.user
        if user_id is None and self.settings.require_user:
            raise UserRequiredError("This storage needs a user_id for every operation on sessions.")
        return user_id

    # ------------------------------------------------------------ reading

    async def look(self, session_id: str, deadline: Deadline, *, newest: int = 0) -> Snapshot:
        """The session as it is now, with its `newest` newest commits; hidden and expired ones are absent."""
        if not self.ready:
            await self.prepare(deadline)
        lagging = not self.driver.capabilities.transactional_head
        loaded = await load(self.driver, session_id, max(newest, LAG_PAGE) if lagging else newest, deadline)
        if loaded is None:
            self.remembered.forget(session_id)
            return Snapshot(None, [], self.clock.now())
        self.clock.set(loaded.now)
        row = loaded.head
        head = self.remembered.session(row)
        if head is not None:
            self.remembered.again(session_id)
        else:
            row, head = await self._made_out(loaded, lagging, deadline)
            self._remember(row, head)
        if (row.hidden and (head is None or head.hidden != SCOPE)) or is_expired(row, loaded.now):
            building = is_building(row, loaded.now)
            return Snapshot(None, [], loaded.now, None if building else row, head, building)
        return Snapshot(head, loaded.commits, loaded.now, None, head)

    async def _made_out(self, loaded: Loaded, lagging: bool, deadline: Deadline) -> tuple[HeadRow, Session | None]:
        """A head that was loaded, and its row; None: it is absent, and cannot be read, so nobody need know."""
        row = loaded.head
        try:
            sound = self.remembered.get(row.session_id) == row
            head = await compute(self.driver, lambda: decode_head(row, sound=sound), text=len(row.body))
            if lagging and loaded.commits and loaded.commits[-1].seq > head.revision:
                head = await self._caught_up(head, loaded, deadline)
                row = as_row(head)
        except (NewerVersionError, CorruptDataError):
            if not is_expired(row, loaded.now) and (not row.hidden or hidden_because(row) == SCOPE):
                raise  # what is absent is absent for programs, too, that could not read it
            return row, None
        return row, head

    async def _caught_up(self, head: Session, loaded: Loaded, deadline: Deadline) -> Session:
        """A head that lags, rolled forward over the commits that the log has beyond it.

        It is also written down, unless its writer may just be about to do that. That it cannot be is no matter here.
        """
        rows = loaded.commits
        if rows[0].seq > head.revision + 1:
            rows = await self.all_rows(head, Span(first=head.revision + 1), deadline)
        rolled = await compute(self.driver, lambda: roll_forward(head, rows), rows=rows)
        if rolled is None:
            return head
        if rolled.updated_us < loaded.now - LAG:
            self.driver.stats.count("catch_ups")
            logger.info("The head of session %r lags behind its log since a crash", head.session_id)
            with suppress(StorageError):
                await self.driver.catch_up(as_row(rolled), deadline)
        return rolled

    async def all_rows(self, head: Session, span: Span, deadline: Deadline) -> list[CommitRow]:
        """All commits of a span, page by page, in the span's direction."""
        rows: list[CommitRow] = []
        while True:
            page = await self.driver.entries(head.session_id, head.incarnation, span, deadline)
            rows.extend(page)
            if len(page) < span.limit:
                return rows
            edge = page[-1].seq
            span = span._replace(last=edge - 1) if span.newest_first else span._replace(first=edge + 1)

    async def find(
        self,
        head: Session,
        key: str,
        deadline: Deadline,
        *,
        after: int = 0,
        limit: int = 500,
        newest_first: bool = False,
    ) -> list[CommitRow]:
        """The commits of a session that carry this key and come after a revision; one round trip, at most `limit`."""
        span = Span(first=after + 1, limit=limit, newest_first=newest_first, key=key)
        return await self.driver.entries(head.session_id, head.incarnation, span, deadline)

    async def head_of(self, session_id: str, user_id: UserId, deadline: Deadline) -> Session:
        """The head of a session that must be there and be this user's."""
        snapshot = await self.look(session_id, deadline)
        return owned(snapshot.head, session_id, user_id)

    # ------------------------------------------------------------ writing

    async def commit(
        self,
        session_id: str,
        user_id: UserId,
        change: Change,
        deadline: Deadline,
        *,
        known: Snapshot | None = None,
        attempt: Attempt | None = None,
    ) -> Committed | None:
        """Append what `change` drafts, exactly once, however many writers there are and whatever answers are lost.

        Every writer comes through here, and `change` never sees a session that the user does not reach: where one
        stands, or was made there meanwhile, `SessionNotFoundError` is raised.
        `known` is the session as the caller last saw it: if it is out of date, that costs one lost race. Without it the
        head that this core saw last serves as a guess, which refuses nothing. After an
        unknown answer the core looks for this commit where it may stand, which is one row, and only when it is not
        there is the change drafted anew. A caller who repeats a commit that failed passes the same `attempt`. Returns
        None if there was nothing to write.
        """
        attempt = Attempt() if attempt is None else attempt
        tries = Attempts(self.driver, deadline, "Appending to a session", unknown=bool(attempt.places))
        arrived, snapshot = None, known
        guess = self.remembered.get(session_id) if snapshot is None and not attempt.places else None
        if guess is not None:
            snapshot = await self._guessed(guess, deadline)
        if snapshot is None or attempt.places:
            snapshot, arrived = await self._look_again(session_id, attempt, tries, deadline)
        while arrived is None:
            drafted = None
            try:
                drafted = await self._drafted(session_id, user_id, change, snapshot, attempt, deadline)
            except SessileError as error:
                if tries.unknown and isinstance(error, StorageError):
                    tries.tell(error)
                if guess is None:
                    raise
            if drafted is not None:
                committed, write = drafted
                if guess is not None:
                    write = uncounted(Append, (*write[:5], guess.body, guess.updated_at, write.erases))
                if await self._try(write, attempt, tries, deadline, guessed=guess is not None):
                    self._remember(write.head, committed.head)
                    return committed
                await tries.pause()
            elif guess is None:
                return None
            if guess is not None:  # whatever came of it: now it counts what the database has
                guess = None
                self.remembered.forget(session_id)
            snapshot, arrived = await self._look_again(session_id, attempt, tries, deadline)
        return arrived

    async def _guessed(self, row: HeadRow, deadline: Deadline) -> Snapshot:
        """A session as it was seen last."""
        if not self.ready:
            await self.prepare(deadline)
        head = self.remembered.session(row) or decode_head(row, sound=True)
        return Snapshot(head, [], self.clock.now(), None, head)

    async def _drafted(
        self,
        session_id: str,
        user_id: UserId,
        change: Change,
        snapshot: Snapshot,
        attempt: Attempt,
        deadline: Deadline,
    ) -> tuple[Committed, Append] | None:
        """What is to be appended to the session as the snapshot has it; None: nothing."""
        if snapshot.head is not None:
            owned(snapshot.head, session_id, user_id)
        draft = await change(snapshot)
        if draft is None:
            return None
        check_not_building(snapshot, session_id)
        if snapshot.stale is not None:
            await self.remove_stale(session_id, snapshot, deadline)
        return await self._encoded(snapshot, session_id, attempt.commit_id, draft)

    def _remember(self, row: HeadRow, head: Session | None) -> None:
        if head is None:
            self.remembered.forget(row.session_id)
        elif self.driver.capabilities.checks_body:
            self.remembered.put(row, head)

    async def _try(
        self, write: Append, attempt: Attempt, tries: Attempts, deadline: Deadline, *, guessed: bool = False
    ) -> bool:
        """Append; False if it is to be tried again, be it that the race was lost or that there was an error.

        The place is noted before anything is sent, so that also a call that is broken off leaves it noted.
        """
        place = (write.incarnation, write.expected + 1)
        first = place not in attempt.places
        attempt.places.add(place)
        try:
            won = await self.driver.append(write, deadline)
        except StorageError as error:
            if first and error.written == "no":
                attempt.places.discard(place)
            tries.failed(error)
            return False
        if not won:
            if not guessed:
                tries.lost()
            attempt.lost = place
            if first:
                attempt.places.discard(place)
        return won

    async def _encoded(
        self, snapshot: Snapshot, session_id: str, commit_id: str, draft: Draft
    ) -> tuple[Committed, Append]:
        """As `_encode`; on an event loop, what is large is encoded beside it."""
        if self.settings.redact is not None:
            await redact_draft(self.driver, self.settings.redact, draft.entries)
        if not self.driver.suspends and not self.driver.on_loop:
            return self._encode(snapshot, session_id, commit_id, draft)
        state = None if snapshot.head is None or _moved(snapshot, draft) else snapshot.head.state
        data = [entry.data for entry in draft.entries]
        return await compute(self.driver, lambda: self._encode(snapshot, session_id, commit_id, draft), state, *data)

    def _encode(self, snapshot: Snapshot, session_id: str, commit_id: str, draft: Draft) -> tuple[Committed, Append]:
        """The draft as a commit that follows the snapshot's head."""
        before = snapshot.head
        seq = 1 if before is None else before.revision + 1
        moment = self.clock.next(0 if before is None else before.updated_us)
        body = encode_commit(draft.entries)
        if not draft.free:
            self._check_commit(body, draft.entries)
        head = fold(before, seq, moment, draft.entries)
        for entry in draft.entries:
            entry.seq, entry.time_us = seq, moment
        moved = _moved(snapshot, draft)
        row = self._encode_head(before, head, free=draft.free) if moved is None else moved_row(moved, head)
        commit = CommitRow(seq, commit_id, draft.run, moment, body, draft.key)
        erases = not ERASING.isdisjoint([entry.kind for entry in draft.entries])
        write = Append(session_id, head.incarnation, seq - 1, (commit,), row, erases=erases)
        return Committed(head, draft.entries, row), write

    async def check_draft(self, snapshot: Snapshot, session_id: str, draft: Draft) -> None:
        """Raise `TooLargeError` if this could not be committed for its size; writes nothing."""
        await self._encoded(snapshot, session_id, "", draft)

    def _check_commit(self, body: str, entries: Sequence[Entry]) -> None:
        """Refuse a commit that is too large; what it takes away, and keeps for rewinding, does not count."""
        try:
            check_size(body, self.settings.max_commit_bytes, "The commit")
        except TooLargeError:
            undone = [entry for entry in entries if StatePatched.read(entry)]
            if not undone:
                raise
            without = sum(size_of(StatePatched.of(entry.data).undo) for entry in undone)
            check_size(body[: len(body) - without], self.settings.max_commit_bytes, "The commit")

    def _encode_head(self, before: Session | None, head: Session, *, free: bool) -> HeadRow:
        """The head's row. State and metadata that are over their limits are refused where they have grown."""
        settings = self.settings
        if free:
            return as_row(head)
        try:
            return encode_head(head, max_state=settings.max_state_bytes, max_metadata=settings.max_metadata_bytes)
        except TooLargeError:
            if before is None:
                raise
            state = max(settings.max_state_bytes, size_of(before.state))
            metadata = max(settings.max_metadata_bytes, size_of(before.metadata))
            return encode_head(head, max_state=state, max_metadata=metadata)

    async def remove_stale(self, session_id: str, snapshot: Snapshot, deadline: Deadline) -> None:
        """Make room for a new session where an expired or half-deleted one stands, unless somebody revives it."""
        if snapshot.stale is not None and await self.bury(snapshot.stale, deadline):
            await self.remove(session_id, snapshot.stale.incarnation, deadline)

    async def remove(self, session_id: str, incarnation: str, deadline: Deadline) -> None:
        """Remove a session that is absent for everybody already, and let indexes know.

        They hear of it first: what comes between leaves a session that is removed later.
        """
        await leave()
        await self.tell_indexes(session_id, incarnation, deadline)
        await self.driver.delete(session_id, incarnation, deadline)

    async def tell_indexes(self, session_id: str, incarnation: str, deadline: Deadline) -> None:
        """Let indexes know that a session is gone; without an incarnation: whichever it was."""
        await tell_indexes(self.driver, self.removals, (session_id, incarnation), deadline)

    async def bury(self, row: HeadRow, deadline: Deadline) -> bool:
        """Commit that a session is deleted, if nobody has committed to it since this head; then it can be removed.

        So that a commit which prolongs an expired session at the last moment is not removed with it. Nothing of the
        session is understood for that, be it damaged or newer. Where there is no room for it, or no place because
        somebody has put a row there, it is not committed.
        """
        no_place = (CorruptDataError, ConstraintError) if self.driver.capabilities.transactional_head else ()
        tries = Attempts(self.driver, deadline, "Deleting a session")
        write = await self._burial(row, deadline)
        while hidden_because(row) != "deleted":
            try:
                return await self.driver.append(write, deadline)
            except StorageError as error:
                full = isinstance(error, StorageFullError) and error.written == "no"
                taken = isinstance(error, no_place) and error.written == "no"
                if not full and not taken:
                    tries.failed(error)
            await tries.pause()
            loaded = await self.driver.load(row.session_id, 0 if taken else 1, deadline)
            if loaded is None or loaded.head.incarnation != row.incarnation:
                return True
            if taken and loaded.head.revision == write.expected:
                return True
            newest = max(loaded.head.revision, *(commit.seq for commit in loaded.commits), 0)
            if newest >= write.expected + 1:
                return any(commit.commit_id == write.commits[-1].commit_id for commit in loaded.commits) or (
                    hidden_because(loaded.head) == "deleted"
                )
            if full:
                return True
        return True

    async def _burial(self, row: HeadRow, deadline: Deadline) -> Append:
        """The append that marks a session as deleted."""
        draft = Draft([SessionDeleted().entry()], free=True)
        try:
            head = await compute(self.driver, lambda: decode_head(row), text=len(row.body))
            return (await self._encoded(Snapshot(head, [], 0), row.session_id, uuid7(), draft))[1]
        except (NewerVersionError, CorruptDataError):
            expected = row.revision
            if not self.driver.capabilities.transactional_head:  # nobody here can roll it forward
                loaded = await self.driver.load(row.session_id, 1, deadline)
                if loaded is not None and loaded.head == row and loaded.commits:
                    expected = max(expected, loaded.commits[-1].seq)
            moment = self.clock.next(row.updated_at)
            commit = CommitRow(expected + 1, uuid7(), 0, moment, encode_commit(draft.entries))
            return Append(row.session_id, row.incarnation, expected, (commit,), tombstone(row, expected + 1, moment))

    async def _look_again(
        self, session_id: str, attempt: Attempt, tries: Attempts, deadline: Deadline
    ) -> tuple[Snapshot, Committed | None]:
        """A look before another attempt, and the commit if it is in the log after all.

        Where an answer may have been lost, it is patient as long as there is time.
        """
        newest = RACE_PAGE if tries.made or attempt.places or attempt.lost else 0
        while True:
            try:
                snapshot = await self.look(session_id, deadline, newest=newest)
                arrived = await self._arrived(attempt, snapshot, deadline)
                tries.unknown = bool(attempt.places)
                return snapshot, arrived
            except StorageError as error:
                if not tries.made and not attempt.places:
                    raise
                tries.failed(error)
            await tries.pause()

    async def _arrived(self, attempt: Attempt, now: Snapshot, deadline: Deadline) -> Committed | None:
        """The commit, if it is in the log after all, though its answer was lost.

        The commit may itself have hidden the session or let it expire. A place that another commit has is settled: ours
        can never be made there.
        """
        head = now.found
        if head is None:
            return None
        for place in sorted(attempt.places if attempt.lost is None else {*attempt.places, attempt.lost}):
            incarnation, seq = place
            if incarnation != head.incarnation or seq > head.revision:
                continue
            rows = [row for row in now.rows if row.seq == seq]
            if not rows and place in attempt.places:
                span = Span(first=seq, last=seq, limit=1)
                rows = await self.driver.entries(head.session_id, incarnation, span, deadline)
            if rows and rows[0].commit_id == attempt.commit_id:
                return Committed(head, await read_entries(self.driver, rows))
            if rows:
                attempt.places.discard(place)
        return None

    async def append_batch(
        self, head: Session | None, session_id: str, drafts: Sequence[Draft], deadline: Deadline
    ) -> Session:
        """Append several commits to a session that nobody else writes to (a fork in the making)."""
        per_append = max(1, self.driver.capabilities.commits_per_append)
        for start in range(0, len(drafts), per_append):
            rows: list[CommitRow] = []
            writes: list[Append] = []
            for draft in drafts[start : start + per_append]:
                committed, write = await self._encoded(Snapshot(head, [], 0), session_id, uuid7(), draft)
                head = committed.head
                rows.extend(write.commits)
                writes.append(write)
            whole = writes[-1]._replace(expected=writes[0].expected, commits=tuple(rows))
            if not await self.append_once(whole, deadline):
                if whole.expected == 0:
                    raise AlreadyExistsError(f"There is a session {session_id!r} already.")
                raise StorageError(f"Session {session_id!r} was changed while it was being made.", retryable=True)
        assert head is not None, "a batch has at least one draft"
        return head

    async def append_once(self, write: Append, deadline: Deadline) -> bool:
        """Append to a session that nobody else writes to, exactly once, whatever answers are lost; False if one did."""
        tries = Attempts(self.driver, deadline, "Appending to a session")
        while True:
            try:
                if tries.unknown and await self._stands(write, deadline):
                    return True
                won = await self.driver.append(write, deadline)
                return won or (tries.unknown and await self._stands(write, deadline))
            except StorageError as error:
                tries.failed(error)
            await tries.pause()

    async def _stands(self, write: Append, deadline: Deadline) -> bool:
        """Whether what was to be appended is in the log."""
        last = write.commits[-1]
        span = Span(first=last.seq, last=last.seq, limit=1)
        rows = await self.driver.entries(write.session_id, write.incarnation, span, deadline)
        return bool(rows) and rows[0].commit_id == last.commit_id


def _moved(snapshot: Snapshot, draft: Draft) -> HeadRow | None:
    """The row that the head was written as last, if nothing of the draft changes more of it than revision and times."""
    row = snapshot.row
    return None if row is None or not FOLDING.keys().isdisjoint([entry.kind for entry in draft.entries]) else row
