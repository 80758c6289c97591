"""Copying sessions from any storage into any other, while writers go on.

A session is copied as it stands: ids, incarnation, commits, times, media, records. So a copy can be continued, and who
begins again, after a crash or a day, copies only what has come since.

Who moves for good has the writers stopped for the last passes. Only the caller can do that: a lock in the source would
let them go on there when it is released, and what they write then is in no copy.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Unpack

from ..errors import (
    AlreadyExistsError,
    ConflictError,
    CorruptDataError,
    DeadlineError,
    NewerVersionError,
    SessileError,
    SessionNotFoundError,
    StorageError,
)
from ..records import MICROSECOND, Session
from ..storage import Storage
from ..storage.checks import check_count, check_seconds
from ..storage.clock import AHEAD
from ..storage.driver import Deadline, HeadRow, ListQuery
from ..storage.storage import operate
from ..times import datetime_of
from . import checking, placing, reading
from .filters import SessionChoice, query_of_choice

ATTEMPTS = 20
"""How often bringing a session is tried that somebody else is putting there, too: each time one has come further."""

PASSES = 8
"""How often at most what has changed meanwhile is copied, before a storage that is written to all the time is left."""

LAST_PASSES = 4
"""How often at most what has changed is copied behind a stop, before it is said that somebody has not stopped."""

LISTED_AFTER = 2.0
"""For how many seconds lists may lack what was written, where a database's lists lag (DynamoDB, S3, MongoDB)."""

STOP_SECONDS = 300.0
"""How long the last passes may take, if nothing else is said."""


@dataclass(slots=True)
class Copied:
    """What was copied.

    Attributes:
        sessions: how many sessions were made or brought up to date.
        commits, records: how many of their commits, and media and other values beside their logs.
        unchanged: how many sessions stood there already as they are.
        removed: how many were removed, because they were deleted where they came from.
        skipped: sessions that could not be copied, by id, and why. All others were.
        complete_until: all that had changed before that has been copied: `since=` of a later copy. None if nothing is
            known, because no pass has ended.
    """

    sessions: int = 0
    commits: int = 0
    records: int = 0
    unchanged: int = 0
    removed: int = 0
    skipped: dict[str, SessileError] = field(default_factory=dict[str, SessileError])
    complete_until: datetime | None = None


Progress = Callable[[Copied], None]
"""Is told what was copied so far, after each session."""

Stop = Callable[[Copied], object]
"""Stops all that writes to the source; is given what was copied so far."""


def copy(
    source: Storage,
    target: Storage,
    *,
    verify: bool = True,
    mirror: bool = False,
    workers: int = 4,
    commits_per_second: float | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
    stop_seconds: float = STOP_SECONDS,
    **choice: Unpack[SessionChoice],
) -> Copied:
    """Copy sessions into another storage, as they are: logs, media, records, kept results, ids and times.

    Both storages may be in use. What changes meanwhile is copied in further passes, until one finds nothing, or there
    were eight. Each session is copied whole or not at all: a new one is hidden until it is complete. After a crash call
    it again: what is there already is not copied again. A session that was continued in the target is left alone and
    named in `skipped`, as is one that cannot be read.

    To move for good give `stop`: it is called behind those passes, and what has come in between is copied, until a look
    at all sessions finds nothing more. What was acknowledged before `stop` returned is in the target when `copy`
    returns, unless it stands in `skipped`.

    Runs that are running in the source are copied as far as they are, and show as interrupted in the target when their
    lease has run out. Leases and requests to cancel are not copied.

    ```python
    copied = copy(SqliteStorage("sessions.db"), PostgresStorage("postgresql://…"))
    copied.sessions, copied.skipped
    ```

    Args:
        source: where the sessions are; nothing is written there.
        target: where they come.
        verify: read back each session that was copied, and compare it with the source, commit by commit, and its head
            with what its log adds up to; a new one that does not stand that is removed again, and named in `skipped`.
            Sees, too, what was erased in the source since it was copied, and erases it.
        mirror: remove sessions from the target that match the filters and are not in the source. Without it only those
            are removed that this call has copied, and that were deleted in the source meanwhile.
        workers: how many sessions are copied at once.
        commits_per_second: copy no faster than that, but for what comes behind a stop. Default: as fast as it goes.
        progress: is called after each session, from any of the threads, one at a time.
        stop: stops all that writes to the source, and returns when nobody does any more; what it raises ends the copy.
            It is not called if the passes before it fail. Nothing here starts the writers again: with the target if
            `copy` returns, else with the source, in which nothing was changed. Open a source whose lists come from a
            replica without that.
        stop_seconds: how long it may take behind the stop; looked at after each piece of a session.
        **choice: which sessions; see `SessionChoice`.

    Raises:
        InvalidInputError: an argument is wrong.
        ConflictError: somebody goes on writing to the source, though `stop` has returned.
        DeadlineError: behind the stop it took longer than `stop_seconds`.
        StorageError: one of the databases failed; call it again.
    """
    check_count(workers, "workers", least=1)
    check_seconds(stop_seconds, "stop_seconds")
    if commits_per_second is not None:
        check_seconds(commits_per_second, "commits_per_second")
    whole = query = query_of_choice(choice)
    work = _Copying(source, target, verify, _Pace(commits_per_second), progress)
    for _ in range(PASSES):
        if not work.one_pass(query, workers):
            break
        query = replace(query, since=work.until)
    if stop is not None:
        stop(work.copied)
        work.last_passes(whole, workers, stop_seconds)
    work.remove_deleted(whole, mirror=mirror)
    return work.copied


def copy_one(source: Storage, target: Storage, session_id: str) -> None:
    """Copy one session as it stands, and compare what has come; raises what stands in the way."""
    work = _Copying(source, target, True, _Pace(None), None)
    found = operate(source, reading.find, session_id)
    if found is None or found.deleted or found.head.hidden == "building":
        raise SessionNotFoundError(f"There is no session {session_id!r}.")
    work.bring(found.head)


class _Pace:
    """Lets no more commits through than so many a second."""

    def __init__(self, per_second: float | None) -> None:
        self._per_second = per_second
        self._lock = threading.Lock()
        self._next = time.monotonic()

    def wait(self, commits: int) -> None:
        if self._per_second is None:
            return
        with self._lock:
            now = time.monotonic()
            begin = max(now, self._next)
            self._next = begin + commits / self._per_second
        if begin > now:
            time.sleep(begin - now)


class _Copying:
    """One call of `copy`."""

    def __init__(self, source: Storage, target: Storage, verify: bool, pace: _Pace, progress: Progress | None) -> None:
        self._source, self._target = source, target
        self._verify, self._pace, self._progress = verify, pace, progress
        self._lock = threading.Lock()
        self._touched: set[int] = set()
        self._alike: set[int] = set()
        self._in_source: set[int] = set()
        self._deadline: Deadline | None = None
        self._changed: set[str] = set()
        self._first = True
        self.copied = Copied()
        self.until: int = 0

    # ------------------------------------------------------------ passes

    def one_pass(self, query: ListQuery, workers: int) -> bool:
        """Copy all sessions of a query that are not there as they are; whether there were any."""
        self._changed = set()
        with ThreadPoolExecutor(workers, thread_name_prefix="sessile-copy") as threads:
            running: set[Future[None]] = set()
            try:
                for row in self._listed(query):
                    if self._stands(row):
                        continue
                    running.add(threads.submit(self._one, row.session_id))
                    if len(running) >= 2 * workers:
                        done, running = wait(running, return_when=FIRST_COMPLETED)
                        _raise_first(done)
                _raise_first(wait(running).done)
            except BaseException:
                for future in running:
                    future.cancel()
                raise
        self._first = False
        self.copied.complete_until = datetime_of(self.until)
        return bool(self._changed)

    def last_passes(self, query: ListQuery, workers: int, seconds: float) -> None:
        """Copy what has come before the writers were stopped, until a look at all sessions finds nothing more.

        All of them, because a writer with another time limit may have had a commit on its way for longer than the
        passes before look back. Of those that were seen at the same revision before nothing but the head is read.
        """
        self._deadline = Deadline(seconds)
        self._pace = _Pace(None)
        query = replace(query, with_state=False)
        for _ in range(LAST_PASSES):
            if not self._source.capabilities.exact_order:
                time.sleep(LISTED_AFTER)
            self._in_source = set()
            if not self.one_pass(query, workers):
                return
        raise ConflictError(
            f"Somebody goes on writing to the source: session {min(self._changed)!r} has changed since the stop.",
            hint="Stop all that writes there, and call it again.",
        )

    def _stands(self, row: HeadRow) -> bool:
        """Whether a session is known to stand in the target as it is: asked only behind a stop."""
        if self._deadline is None:
            return False
        self._check_time()
        self._in_source.add(_mark(row.session_id, row.incarnation))
        exact = self._source.capabilities.transactional_head  # else the head in a list may lag
        return exact and _mark(row.session_id, row.incarnation, row.revision) in self._alike

    def _check_time(self) -> None:
        if self._deadline is not None and self._deadline.remaining() <= 0:
            raise DeadlineError(
                f"Copying what has come before the stop did not end within {self._deadline.timeout:g} s.",
                hint="What was stopped can continue with the source, which is as it was. Call it again with more time.",
            )

    def _listed(self, query: ListQuery) -> Iterator[HeadRow]:
        """The sessions of a pass. What time it was before that is noted, for the next one."""
        until: int | None = None
        while True:
            page, now = operate(self._source, reading.list_sessions, query)
            if until is None:
                on_the_way = int(self._source.settings.timeout * MICROSECOND) + AHEAD
                until = max(query.since or 0, now - on_the_way)
            for session_id, error in page.unreadable.items():
                self._skip(session_id, error)
            yield from page.rows
            if page.after is None:
                self.until = until
                return
            query = replace(query, after=page.after)

    # ------------------------------------------------------------ one session

    def _one(self, session_id: str) -> None:
        """Bring one session up to date in the target. What is wrong with it alone is noted, and stops no others."""
        try:
            for left in range(ATTEMPTS, 0, -1):
                try:
                    return self._one_try(session_id)
                except AlreadyExistsError as error:  # retryable: of two that put it there at once the later one
                    if left == 1 or not error.retryable:
                        raise
        except SessionNotFoundError:
            return  # deleted meanwhile, which `remove_deleted` sees
        except (AlreadyExistsError, CorruptDataError) as error:
            self._skip(session_id, error)
        except SessileError as error:
            if isinstance(error, StorageError) and error.retryable:
                raise  # the database, and not the session
            self._skip(session_id, error)

    def _one_try(self, session_id: str) -> None:
        found = operate(self._source, reading.find, session_id)
        if found is None or found.deleted or found.head.hidden == "building":
            return
        try:
            self.bring(found.head)
        except SessionNotFoundError:  # it was deleted meanwhile, and may stand in the target as a whole
            with self._lock:
                self._touched.add(_mark(session_id, found.head.incarnation))
            raise

    def bring(self, head: Session) -> None:
        """Bring one session up to date in the target; raises what stands in the way."""
        target = self._target
        standing = operate(target, placing.make_room, head.session_id, head.incarnation, head.revision)
        if standing is not None:
            if standing.revision > head.revision:  # another copy may have brought what has come since
                head = self._newer(head)
            self._check_same_log(head, standing)
        if standing is not None and placing.complete(head, standing):
            lost: list[str] = []
            if head.revision == 1:  # it was there before its records: somebody may have been broken off between them
                there = set(operate(target, reading.record_names, standing))
                lost = [name for name in operate(self._source, reading.record_names, head) if name not in there]
                self._put(head, lost)
            if self._verify and head.session_id in self.copied.skipped:  # it did not stand the comparison before
                self._compare(head, new=False)
            self._note(head, 0, len(lost))
            return
        records = missing = self._missing(head, standing)
        at, commits = standing, 0
        for page in checking.pages(self._source, head, 1 if standing is None else standing.revision + 1):
            self._pace.wait(len(page))
            self._check_time()
            commits += len(page)
            if records and page[-1].seq == head.revision:  # what it names is there before it is complete
                if len(page) > 1:
                    at = operate(target, placing.append, at, page[:-1], head)
                if at is not None:
                    self._put(head, records)
                    records = []
                page = page[-1:]
            at = operate(target, placing.append, at, page, head)
        self._put(head, records)
        if self._verify:
            self._compare(head, new=standing is None)
        self._note(head, commits, len(missing))

    def _newer(self, head: Session) -> Session:
        now = operate(self._source, reading.find, head.session_id)
        if now is None or now.deleted or now.head.incarnation != head.incarnation:
            raise SessionNotFoundError(f"Session {head.session_id!r} was deleted while it was being copied.")
        return now.head

    def _compare(self, head: Session, *, new: bool) -> None:
        """Compare a session that was copied. A new one that does not stand it goes again: nobody takes it for good."""
        try:
            checking.compare(self._source, self._target, head)
        except CorruptDataError:
            if new:
                operate(self._target, placing.remove, head.session_id, head.incarnation)
            raise

    def _check_same_log(self, head: Session, standing: Session) -> None:
        """Raise `AlreadyExistsError` if what stands there has gone other ways than the source."""
        here = operate(self._target, reading.read_commits, standing, standing.revision)
        there = [] if standing.revision > head.revision else self._commit(head, standing.revision)
        if [row.commit_id for row in here] != [row.commit_id for row in there]:
            raise AlreadyExistsError(
                f"Session {head.session_id!r} was continued in the target, apart from the source.",
                hint="Delete one of them, or copy into a storage of its own.",
            )

    def _commit(self, head: Session, seq: int) -> list[reading.CommitRow]:
        return operate(self._source, reading.read_commits, replace(head, revision=seq), seq)

    def _missing(self, head: Session, standing: Session | None) -> list[str]:
        """The records that the session has in the source, and not in the target."""
        names = operate(self._source, reading.record_names, head)
        if standing is None or not names:
            return names
        there = set(operate(self._target, reading.record_names, standing))
        return [name for name in names if name not in there or not name.startswith(reading.MEDIA)]

    def _put(self, head: Session, names: list[str]) -> None:
        for name in names:
            record = operate(self._source, reading.read_record, head, name)
            if record is not None:
                operate(self._target, placing.put_record, head, record)

    # ------------------------------------------------------------ what was deleted

    def remove_deleted(self, query: ListQuery, *, mirror: bool) -> None:
        """Remove from the target what the source does not have any more."""
        touched = self._touched
        if not mirror and not touched:
            return
        while True:
            page, _ = operate(self._target, reading.list_sessions, query)
            marked = [(row, _mark(row.session_id, row.incarnation)) for row in page.rows]
            known = [row for row, mark in marked if (mirror or mark in touched) and mark not in self._in_source]
            for row in known:
                self._check_time()
                with suppress(CorruptDataError, NewerVersionError):
                    found = operate(self._source, reading.find, row.session_id)
                    if found is None or found.deleted or found.head.incarnation != row.incarnation:
                        removed = operate(self._target, placing.remove, row.session_id, row.incarnation)
                        self.copied.removed += removed
                        if removed and found is not None:  # there is room for the one that the source has
                            self._one(row.session_id)
            if page.after is None:
                return
            query = replace(query, after=page.after)

    # ------------------------------------------------------------ the report

    def _note(self, head: Session, commits: int, records: int) -> None:
        with self._lock:
            mark = _mark(head.session_id, head.incarnation)
            self._alike.add(_mark(head.session_id, head.incarnation, head.revision))
            if commits:
                self.copied.sessions += mark not in self._touched
                self._touched.add(mark)
                self._changed.add(head.session_id)
            else:
                self.copied.unchanged += self._first
            self.copied.commits += commits
            self.copied.records += records
            self.copied.skipped.pop(head.session_id, None)
            if self._progress is not None:
                self._progress(self.copied)

    def _skip(self, session_id: str, error: SessileError) -> None:
        with self._lock:
            self.copied.skipped[session_id] = error
            if self._progress is not None:
                self._progress(self.copied)


def _mark(session_id: str, incarnation: str, revision: int = 0) -> int:
    """A number by which a session, or one revision of it, is known again, so that a million of them are few bytes."""
    return hash((session_id, incarnation, revision))


def _raise_first(done: set[Future[None]]) -> None:
    for future in done:
        future.result()
