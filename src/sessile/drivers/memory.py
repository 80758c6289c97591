"""The same semantics in this process's memory, for tests and examples. Nothing survives the process."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from ..errors import InvalidInputError
from ..storage.driver import Capabilities, Deadline, Driver
from ..storage.matching import follows, listing, matches, newest_of, page_of, place_of
from ..storage.rows import Append, CommitRow, HeadRow, Listing, ListQuery, Loaded, Span
from ..storage.storage import Storage


class MemoryStorage(Storage):
    """Sessions in memory; each object has its own. `options` are the keyword arguments of `Storage`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(MemoryDriver(), **options)

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Self:
        """`memory://`."""
        if url.partition("://")[2]:
            raise InvalidInputError("The URL has more than memory://.", hint="Give options as keyword arguments.")
        return cls(**options)


@dataclass(slots=True)
class _Session:
    head: HeadRow
    log: list[CommitRow] = field(default_factory=list[CommitRow])
    records: dict[str, bytes] = field(default_factory=dict[str, bytes])


class MemoryDriver(Driver):
    """The driver behind `MemoryStorage`: a dictionary under a lock."""

    name: ClassVar[str] = "memory"
    ends_promptly = True
    capabilities = Capabilities(
        durable=False,
        multi_process=False,
        commits_per_append=1000,
        rewrites=True,
        bounded_pages=True,
        checks_body=True,
    )

    def __init__(self) -> None:
        self._sessions: dict[str, _Session] = {}
        self._lock = threading.RLock()  # several storages may have this driver, and a fork locks it for each of them

    def _find(self, session_id: str, incarnation: str) -> _Session | None:
        found = self._sessions.get(session_id)
        return found if found is not None and found.head.incarnation == incarnation else None

    def _held(self, deadline: Deadline) -> AbstractContextManager[object]:
        """The lock that every operation takes, for moments only; refused when its time is over."""
        deadline.check("An operation in memory")
        return self._lock

    async def setup(self, deadline: Deadline) -> None:
        """Nothing to do."""

    async def load(self, session_id: str, newest: int, deadline: Deadline) -> Loaded | None:
        with self._held(deadline):
            found = self._sessions.get(session_id)
            if found is None:
                return None
            return Loaded(found.head, newest_of(reversed(found.log), newest), time.time_ns() // 1000)

    async def append(self, write: Append, deadline: Deadline) -> bool:
        with self._held(deadline):
            if write.expected == 0:
                if write.session_id in self._sessions:
                    return False
                self._sessions[write.session_id] = _Session(write.head, list(write.commits))
                return True
            found = self._find(write.session_id, write.incarnation)
            if found is None or found.head.revision != write.expected:
                return False
            if write.was_body not in (None, found.head.body):
                return False
            if write.was_updated_at not in (None, found.head.updated_at):
                return False
            found.log.extend(write.commits)
            found.head = write.head
            return True

    async def entries(self, session_id: str, incarnation: str, span: Span, deadline: Deadline) -> list[CommitRow]:
        with self._held(deadline):
            found = self._find(session_id, incarnation)
            rows = [] if found is None else found.log[span.first - 1 : span.last]
        if span.newest_first:
            rows.reverse()
        return page_of((row for row in rows if _in_span(row, span)), span)

    async def list(self, query: ListQuery, deadline: Deadline) -> Listing:
        rows = [row for row in self._matching(query, deadline) if follows(row, query)]
        rows.sort(key=lambda row: place_of(row, query), reverse=not query.ascending)
        return listing(rows[: query.limit], query)

    async def count(self, query: ListQuery, deadline: Deadline) -> int:
        return sum(1 for _ in self._matching(query, deadline))

    def _matching(self, query: ListQuery, deadline: Deadline) -> Iterator[HeadRow]:
        with self._held(deadline):
            heads = [session.head for session in self._sessions.values()]
        return (head for head in heads if matches(head, query))

    async def delete(self, session_id: str, incarnation: str, deadline: Deadline) -> None:
        with self._held(deadline):
            if self._find(session_id, incarnation) is not None:
                del self._sessions[session_id]

    async def get_record(self, session_id: str, incarnation: str, key: str, deadline: Deadline) -> bytes | None:
        with self._held(deadline):
            found = self._find(session_id, incarnation)
            return None if found is None else found.records.get(key)

    async def put_record(
        self, session_id: str, incarnation: str, key: str, value: bytes | None, deadline: Deadline
    ) -> bool:
        with self._held(deadline):
            found = self._find(session_id, incarnation)
            if value is None:
                if found is not None:
                    found.records.pop(key, None)
                return True
            if found is not None:
                found.records[key] = value
            return found is not None

    async def record_keys(
        self, session_id: str, incarnation: str, prefix: str, deadline: Deadline, *, after: str = "", limit: int = 500
    ) -> list[str]:
        with self._held(deadline):
            found = self._find(session_id, incarnation)
            keys = sorted(() if found is None else found.records)
        return [key for key in keys if key.startswith(prefix) and key > after][:limit]

    async def rewrite(
        self, session_id: str, incarnation: str, commits: Sequence[CommitRow], deadline: Deadline
    ) -> bool:
        with self._held(deadline):
            found = self._find(session_id, incarnation)
            if found is None or any(not _same_commit(found.log, row) for row in commits):
                return False
            for row in commits:
                found.log[row.seq - 1] = row
            return True

    async def close(self) -> None:
        """Nothing to do; the sessions go with the object."""

    def before_fork(self) -> None:
        self._lock.acquire()

    def after_fork_in_parent(self) -> None:
        with suppress(RuntimeError):  # it is not ours: `before_fork` was interrupted before it
            self._lock.release()

    def after_fork(self) -> None:
        self._lock = threading.RLock()


def _in_span(row: CommitRow, span: Span) -> bool:
    runs = span.runs
    in_runs = runs is None or (row.run > 0 and runs[0] <= row.run <= runs[1])
    return in_runs and (span.key is None or row.key == span.key)


def _same_commit(log: Sequence[CommitRow], row: CommitRow) -> bool:
    """Whether a commit stands in the log, whatever its body."""
    if not 1 <= row.seq <= len(log):
        return False
    there = log[row.seq - 1]
    return (there.commit_id, there.run, there.time) == (row.commit_id, row.run, row.time)
