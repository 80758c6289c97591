"""Drivers for tests of the conformance suite: right ones of other kinds, and wrong ones that it must catch."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

from sessile.drivers.memory import MemoryDriver
from sessile.errors import StorageError, StorageUnavailableError
from sessile.storage import (
    Append,
    Capabilities,
    CommitRow,
    Deadline,
    HeadRow,
    Listing,
    ListQuery,
    Loaded,
    Span,
    Storage,
)
from sessile.storage.matching import listing, place_of

# ---------------------------------------------------------------- right, of other kinds


class SuspendingDriver(MemoryDriver):
    """Gives way at every call, like a driver over an asynchronous client; several share one set of data."""

    suspends: ClassVar[bool] = True

    def __init__(self, shared: MemoryDriver) -> None:
        super().__init__()
        self._sessions, self._lock = shared._sessions, shared._lock


def _suspending(name: str) -> Callable[..., Any]:
    async def method(self: SuspendingDriver, *args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(0)
        try:
            return await getattr(super(SuspendingDriver, self), name)(*args, **kwargs)
        finally:
            await asyncio.sleep(0)

    return method


for _name in ("load", "append", "entries", "list", "count", "delete", "get_record", "put_record", "record_keys"):
    setattr(SuspendingDriver, _name, _suspending(_name))


def suspending_storage(*, sync_driver: bool) -> Storage:
    """A storage whose asynchronous callers await the driver; the synchronous ones have their own, or the loop."""
    shared = MemoryDriver()
    return Storage(shared if sync_driver else None, async_driver=lambda: SuspendingDriver(shared))


class LaggingDriver(MemoryDriver):
    """Its heads are checkpoints, every third commit, as where head and log are not written together."""

    capabilities = Capabilities(durable=False, multi_process=False, transactional_head=False, commits_per_append=5)

    def __init__(self) -> None:
        super().__init__()
        self._checkpoints: dict[tuple[str, str], HeadRow] = {}

    async def append(self, write: Append, deadline: Deadline) -> bool:
        won = await super().append(write, deadline)
        if won and (write.expected == 0 or write.head.revision % 3 == 0):
            self._checkpoints[write.session_id, write.incarnation] = write.head
        return won

    async def load(self, session_id: str, newest: int, deadline: Deadline) -> Loaded | None:
        loaded = await super().load(session_id, newest, deadline)
        if loaded is None:
            return None
        return loaded._replace(head=self._checkpoints[session_id, loaded.head.incarnation])


# ---------------------------------------------------------------- wrong


class IgnoresRevision(MemoryDriver):
    async def append(self, write: Append, deadline: Deadline) -> bool:
        found = self._find(write.session_id, write.incarnation)
        if found is not None and write.expected:
            write = write._replace(expected=found.head.revision)
        return await super().append(write, deadline)


class IgnoresIncarnation(MemoryDriver):
    async def append(self, write: Append, deadline: Deadline) -> bool:
        found = self._sessions.get(write.session_id)
        if found is not None and write.expected:
            write = write._replace(incarnation=found.head.incarnation)
        return await super().append(write, deadline)


class DeletesAnyIncarnation(MemoryDriver):
    async def delete(self, session_id: str, incarnation: str, deadline: Deadline) -> None:
        self._sessions.pop(session_id, None)


class CreatesOver(MemoryDriver):
    async def append(self, write: Append, deadline: Deadline) -> bool:
        if write.expected == 0:
            self._sessions.pop(write.session_id, None)
        return await super().append(write, deadline)


class ChecksThenActs(MemoryDriver):
    """Compares and sets in two steps, so that two writers can both win."""

    async def append(self, write: Append, deadline: Deadline) -> bool:
        found = self._find(write.session_id, write.incarnation)
        if (0 if found is None else found.head.revision) != write.expected:
            return False
        time.sleep(0.01)  # noqa: ASYNC251 (it blocks, as it says)
        if found is None:
            self._sessions.pop(write.session_id, None)
            return await super().append(write, deadline)
        found.log.extend(write.commits)
        found.head = write.head
        return True


class HalfBatches(MemoryDriver):
    """Writes the commits that fit before it sees that the race is lost."""

    async def append(self, write: Append, deadline: Deadline) -> bool:
        won = await super().append(write, deadline)
        found = self._find(write.session_id, write.incarnation)
        if not won and found is not None:
            free = [row for row in write.commits if row.seq > found.head.revision]
            found.log.extend(free)
        return won


class FirstOfBatch(MemoryDriver):
    async def append(self, write: Append, deadline: Deadline) -> bool:
        return await super().append(write._replace(commits=write.commits[:1]), deadline)


class Unordered(MemoryDriver):
    async def list(self, query: ListQuery, deadline: Deadline) -> Listing:
        rows = (await super().list(replace(query, limit=10_000), deadline)).rows
        return listing(rows[::-1][: query.limit], query)


class TiesByChance(MemoryDriver):
    """Orders by time alone."""

    async def list(self, query: ListQuery, deadline: Deadline) -> Listing:
        page = await super().list(query, deadline)
        page.rows.sort(key=lambda row: row.session_id)
        page.rows.sort(key=lambda row: row.updated_at, reverse=True)
        return page


class PagesByTime(MemoryDriver):
    """A page begins after the time of the last row, and so skips what has the same time."""

    async def list(self, query: ListQuery, deadline: Deadline) -> Listing:
        if query.after is not None:
            query = replace(query, after=(query.after[0], ""))
        return await super().list(query, deadline)


class CountsAPage(MemoryDriver):
    async def count(self, query: ListQuery, deadline: Deadline) -> int:
        return min(await super().count(query, deadline), query.limit)


class ListsOldNames(MemoryDriver):
    """Its lists are not refreshed when a session is renamed."""

    def __init__(self) -> None:
        super().__init__()
        self._names: dict[tuple[str, str], str | None] = {}

    async def append(self, write: Append, deadline: Deadline) -> bool:
        self._names.setdefault((write.session_id, write.incarnation), write.head.name)
        return await super().append(write, deadline)

    async def list(self, query: ListQuery, deadline: Deadline) -> Listing:
        page = await super().list(query, deadline)
        return page._replace(
            rows=[row._replace(name=self._names[row.session_id, row.incarnation]) for row in page.rows]
        )


class ShowsHidden(MemoryDriver):
    async def list(self, query: ListQuery, deadline: Deadline) -> Listing:
        return await super().list(replace(query, hidden=None), deadline)


class ShowsExpired(MemoryDriver):
    async def list(self, query: ListQuery, deadline: Deadline) -> Listing:
        return await super().list(replace(query, now=None), deadline)


class LooseMetadata(MemoryDriver):
    """`true` is 1."""

    async def list(self, query: ListQuery, deadline: Deadline) -> Listing:
        rows = (await super().list(replace(query, metadata={}, limit=10_000), deadline)).rows
        found = [
            row
            for row in rows
            if all(json.loads(row.metadata).get(key) == value for key, value in query.metadata.items())
        ]
        return listing(found[: query.limit], query)


class AnyCase(MemoryDriver):
    """Ids of any case are the same, as with the default collation of some databases."""

    async def load(self, session_id: str, newest: int, deadline: Deadline) -> Loaded | None:
        return await super().load(session_id.lower(), newest, deadline)

    async def append(self, write: Append, deadline: Deadline) -> bool:
        return await super().append(write._replace(session_id=write.session_id.lower()), deadline)


class RewritesJson(MemoryDriver):
    """Keeps JSON as values, as a `jsonb` column does."""

    async def append(self, write: Append, deadline: Deadline) -> bool:
        commits = tuple(row._replace(body=json.dumps(json.loads(row.body))) for row in write.commits)
        return await super().append(write._replace(commits=commits), deadline)


class IgnoresLimit(MemoryDriver):
    async def entries(self, session_id: str, incarnation: str, span: Span, deadline: Deadline) -> list[CommitRow]:
        return await super().entries(session_id, incarnation, span._replace(limit=10_000), deadline)


class IgnoresDirection(MemoryDriver):
    async def entries(self, session_id: str, incarnation: str, span: Span, deadline: Deadline) -> list[CommitRow]:
        return await super().entries(session_id, incarnation, span._replace(newest_first=False), deadline)


class NewestFirstAlways(MemoryDriver):
    async def load(self, session_id: str, newest: int, deadline: Deadline) -> Loaded | None:
        loaded = await super().load(session_id, newest, deadline)
        return None if loaded is None else loaded._replace(commits=loaded.commits[::-1])


class LeavesRecords(MemoryDriver):
    def __init__(self) -> None:
        super().__init__()
        self._left: dict[tuple[str, str, str], bytes] = {}

    async def put_record(
        self, session_id: str, incarnation: str, key: str, value: bytes | None, deadline: Deadline
    ) -> bool:
        if value is not None:
            self._left[session_id, incarnation, key] = value
        else:
            self._left.pop((session_id, incarnation, key), None)
        return await super().put_record(session_id, incarnation, key, value, deadline)

    async def get_record(self, session_id: str, incarnation: str, key: str, deadline: Deadline) -> bytes | None:
        return self._left.get((session_id, incarnation, key))


class LeavesLog(MemoryDriver):
    """Deletes the head only."""

    def __init__(self) -> None:
        super().__init__()
        self._left: dict[tuple[str, str], list[CommitRow]] = {}

    async def append(self, write: Append, deadline: Deadline) -> bool:
        won = await super().append(write, deadline)
        if won:
            self._left.setdefault((write.session_id, write.incarnation), []).extend(write.commits)
        return won

    async def entries(self, session_id: str, incarnation: str, span: Span, deadline: Deadline) -> list[CommitRow]:
        return self._left.get((session_id, incarnation), [])[: span.limit]


class Breakable(MemoryDriver):
    """A database that can be made to fail."""

    broken = False

    def _find(self, session_id: str, incarnation: str) -> Any:
        self._check()
        return super()._find(session_id, incarnation)

    def _matching(self, query: ListQuery, deadline: Deadline) -> Any:
        self._check()
        return super()._matching(query, deadline)

    async def load(self, session_id: str, newest: int, deadline: Deadline) -> Loaded | None:
        self._check()
        return await super().load(session_id, newest, deadline)

    async def append(self, write: Append, deadline: Deadline) -> bool:
        self._check()
        return await super().append(write, deadline)

    def _check(self) -> None:
        if self.broken:
            raise StorageUnavailableError("The database is broken.")


class AbsentOnError(Breakable):
    """Takes a read that fails for "no such session"."""

    async def load(self, session_id: str, newest: int, deadline: Deadline) -> Loaded | None:
        try:
            return await super().load(session_id, newest, deadline)
        except StorageError:
            return None


class OrdersByUtf16(MemoryDriver):
    """Ids of the same moment in the order of UTF-16's units, as Java and JavaScript compare text."""

    async def list(self, query: ListQuery, deadline: Deadline) -> Listing:
        page = await super().list(query, deadline)
        moments = {row.session_id: place_of(row, query)[0] for row in page.rows}
        page.rows.sort(key=lambda row: (moments[row.session_id], row.session_id.encode("utf-16-be")), reverse=True)
        return page


class CutsCommitIds(MemoryDriver):
    """A column that is too short, in a database that cuts without a word."""

    async def append(self, write: Append, deadline: Deadline) -> bool:
        commits = tuple(row._replace(commit_id=row.commit_id[:64]) for row in write.commits)
        return await super().append(write._replace(commits=commits), deadline)


class IgnoresDeadline(MemoryDriver):
    """Its `load` waits as long as it takes."""

    async def load(self, session_id: str, newest: int, deadline: Deadline) -> Loaded | None:
        return await super().load(session_id, newest, Deadline(60))


class DamagesLargeBodies(MemoryDriver):
    """Keeps eight megabytes of a body."""

    async def append(self, write: Append, deadline: Deadline) -> bool:
        commits = tuple(row._replace(body=row.body[: 8 * 2**20]) for row in write.commits)
        return await super().append(write._replace(commits=commits), deadline)


class SaysDurable(MemoryDriver):
    """Promises what it cannot keep."""

    capabilities = Capabilities(durable=True, multi_process=True)


class SaysDurableStorage(Storage):
    def __init__(self, **options: Any) -> None:
        super().__init__(SaysDurable(), **options)
