"""The same semantics in this process's memory, for tests and examples. Nothing survives the process."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, ClassVar, Self

from ..errors import InvalidInputError
from ..storage.driver import (
    Append,
    Capabilities,
    CommitRow,
    Deadline,
    Driver,
    HeadRow,
    ListQuery,
    Loaded,
    Span,
)
from ..storage.matching import matches, place_of
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
    capabilities = Capabilities(durable=False, multi_process=False, commits_per_append=1000)

    def __init__(self) -> None:
        self._sessions: dict[str, _Session] = {}
        self._lock = threading.Lock()

    def _find(self, session_id: str, incarnation: str) -> _Session | None:
        found = self._sessions.get(session_id)
        return found if found is not None and found.head.incarnation == incarnation else None

    async def setup(self, deadline: Deadline) -> None:
        """Nothing to do."""

    async def load(self, session_id: str, newest: int, deadline: Deadline) -> Loaded | None:
        with self._lock:
            found = self._sessions.get(session_id)
            if found is None:
                return None
            return Loaded(found.head, found.log[-newest:] if newest else [], time.time_ns() // 1000)

    async def append(self, write: Append, deadline: Deadline) -> bool:
        with self._lock:
            if write.expected == 0:
                if write.session_id in self._sessions:
                    return False
                self._sessions[write.session_id] = _Session(write.head, list(write.commits))
                return True
            found = self._find(write.session_id, write.incarnation)
            if found is None or found.head.revision != write.expected:
                return False
            found.log.extend(write.commits)
            found.head = write.head
            return True

    async def entries(self, session_id: str, incarnation: str, span: Span, deadline: Deadline) -> list[CommitRow]:
        with self._lock:
            found = self._find(session_id, incarnation)
            rows = [] if found is None else found.log[span.first - 1 : span.last]
        if span.newest_first:
            rows.reverse()
        return list(islice((row for row in rows if _in_runs(row, span.runs)), span.limit))

    async def list(self, query: ListQuery, deadline: Deadline) -> list[HeadRow]:
        rows = sorted(self._matching(query), key=lambda row: place_of(row, query), reverse=True)
        return [row for row in rows if query.after is None or place_of(row, query) < query.after][: query.limit]

    async def count(self, query: ListQuery, deadline: Deadline) -> int:
        return sum(1 for _ in self._matching(query))

    def _matching(self, query: ListQuery) -> Iterator[HeadRow]:
        with self._lock:
            heads = [session.head for session in self._sessions.values()]
        return (head for head in heads if matches(head, query))

    async def delete(self, session_id: str, incarnation: str, deadline: Deadline) -> None:
        with self._lock:
            if self._find(session_id, incarnation) is not None:
                del self._sessions[session_id]

    async def get_record(self, session_id: str, incarnation: str, key: str, deadline: Deadline) -> bytes | None:
        with self._lock:
            found = self._find(session_id, incarnation)
            return None if found is None else found.records.get(key)

    async def put_record(
        self, session_id: str, incarnation: str, key: str, value: bytes | None, deadline: Deadline
    ) -> bool:
        with self._lock:
            found = self._find(session_id, incarnation)
            if value is None:
                if found is not None:
                    found.records.pop(key, None)
                return True
            if found is not None:
                found.records[key] = value
            return found is not None

    async def close(self) -> None:
        """Nothing to do; the sessions go with the object."""

    def before_fork(self) -> None:
        self._lock.acquire()

    def after_fork_in_parent(self) -> None:
        self._lock.release()

    def after_fork(self) -> None:
        self._lock = threading.Lock()


def _in_runs(row: CommitRow, runs: tuple[int, int] | None) -> bool:
    return runs is None or (row.run > 0 and runs[0] <= row.run <= runs[1])
