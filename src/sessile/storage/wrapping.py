"""A driver over another one: the base of wrappers (encryption, tracing, statistics, limits, faults in tests)."""

from __future__ import annotations

import builtins
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from .driver import Beside, Capabilities, Deadline, Driver
from .rows import Append, CommitRow, HeadRow, Listing, ListQuery, Loaded, RecordName, Span

T = TypeVar("T")

READS = frozenset({"now", "load", "entries", "newest", "list", "count", "get_record", "get_records", "record_keys"})
"""The operations of a driver that read."""

WRITES = frozenset({"append", "delete", "discard", "put_record", "rewrite"})
"""The operations of a driver that write."""


class WrappedDriver(Driver):
    """Does what `inner` does, and declares what it declares; a subclass changes what it must.

    Every operation goes through `around`. What is changed of an operation's arguments or result is changed in its own
    method, which then calls `super()`'s.
    """

    as_stored = False  # a subclass may change them

    def __init__(self, inner: Driver) -> None:
        self.inner = inner
        self.name = inner.name  # pyright: ignore[reportAttributeAccessIssue] (it wears the other's name)
        self.suspends = inner.suspends
        self.in_callers_thread = inner.in_callers_thread
        self.ends_promptly = inner.ends_promptly
        self.on_loop = inner.on_loop
        self.takes_turns = inner.takes_turns
        self.stats = inner.stats

    @property
    def capabilities(self) -> Capabilities:  # pyright: ignore[reportIncompatibleVariableOverride] (inner's, at any time)
        """What the wrapped driver declares."""
        return self.inner.capabilities

    async def around(self, operation: str, deadline: Deadline, call: Callable[[], Awaitable[T]]) -> T:
        """What happens around a call of an operation, named as its method: here nothing but the call itself."""
        return await call()

    async def setup(self, deadline: Deadline) -> None:
        await self.around("setup", deadline, lambda: self.inner.setup(deadline))

    async def migrate(self, deadline: Deadline, *, finish: bool = False, dry_run: bool = False) -> list[str]:
        return await self.around(
            "migrate", deadline, lambda: self.inner.migrate(deadline, finish=finish, dry_run=dry_run)
        )

    async def now(self, deadline: Deadline) -> int:
        return await self.around("now", deadline, lambda: self.inner.now(deadline))

    async def load(self, session_id: str, newest: int, deadline: Deadline) -> Loaded | None:
        return await self.around("load", deadline, lambda: self.inner.load(session_id, newest, deadline))

    async def append(self, write: Append, deadline: Deadline) -> bool:
        return await self.around("append", deadline, lambda: self.inner.append(write, deadline))

    async def entries(self, session_id: str, incarnation: str, span: Span, deadline: Deadline) -> list[CommitRow]:
        return await self.around(
            "entries", deadline, lambda: self.inner.entries(session_id, incarnation, span, deadline)
        )

    async def newest(
        self, sessions: Sequence[tuple[str, str]], count: int, deadline: Deadline
    ) -> list[list[CommitRow]]:
        return await self.around("newest", deadline, lambda: self.inner.newest(sessions, count, deadline))

    async def rewrite(
        self, session_id: str, incarnation: str, commits: Sequence[CommitRow], deadline: Deadline
    ) -> bool:
        return await self.around(
            "rewrite", deadline, lambda: self.inner.rewrite(session_id, incarnation, commits, deadline)
        )

    async def list(self, query: ListQuery, deadline: Deadline) -> Listing:
        return await self.around("list", deadline, lambda: self.inner.list(query, deadline))

    async def count(self, query: ListQuery, deadline: Deadline) -> int:
        return await self.around("count", deadline, lambda: self.inner.count(query, deadline))

    async def delete(self, session_id: str, incarnation: str, deadline: Deadline) -> None:
        await self.around("delete", deadline, lambda: self.inner.delete(session_id, incarnation, deadline))

    async def get_record(self, session_id: str, incarnation: str, key: str, deadline: Deadline) -> bytes | None:
        return await self.around(
            "get_record", deadline, lambda: self.inner.get_record(session_id, incarnation, key, deadline)
        )

    async def get_records(self, names: Sequence[RecordName], deadline: Deadline) -> builtins.list[bytes | None]:
        return await self.around("get_records", deadline, lambda: self.inner.get_records(names, deadline))

    async def record_keys(
        self, session_id: str, incarnation: str, prefix: str, deadline: Deadline, *, after: str = "", limit: int = 500
    ) -> builtins.list[str]:
        return await self.around(
            "record_keys",
            deadline,
            lambda: self.inner.record_keys(session_id, incarnation, prefix, deadline, after=after, limit=limit),
        )

    async def put_record(
        self, session_id: str, incarnation: str, key: str, value: bytes | None, deadline: Deadline
    ) -> bool:
        return await self.around(
            "put_record", deadline, lambda: self.inner.put_record(session_id, incarnation, key, value, deadline)
        )

    async def catch_up(self, head: HeadRow, deadline: Deadline) -> None:
        await self.around("catch_up", deadline, lambda: self.inner.catch_up(head, deadline))

    async def discard(self, session_id: str, deadline: Deadline) -> bool:
        return await self.around("discard", deadline, lambda: self.inner.discard(session_id, deadline))

    def stored_id(self, session_id: str) -> str:
        return self.inner.stored_id(session_id)

    def beside(self) -> Beside | None:
        return self.inner.beside()

    def sealed(self) -> bool:
        return self.inner.sealed()

    def warnings(self) -> Sequence[str]:
        return self.inner.warnings()

    async def settings_warnings(self, deadline: Deadline) -> Sequence[str]:
        return await self.around("settings_warnings", deadline, lambda: self.inner.settings_warnings(deadline))

    async def sweep(self, before: int, deadline: Deadline) -> None:
        await self.around("sweep", deadline, lambda: self.inner.sweep(before, deadline))

    async def wait(self, session_id: str, incarnation: str, revision: int, deadline: Deadline) -> None:
        await self.around("wait", deadline, lambda: self.inner.wait(session_id, incarnation, revision, deadline))

    async def pause(self, seconds: float) -> None:
        await self.inner.pause(seconds)

    async def close(self) -> None:
        await self.inner.close()

    def before_fork(self) -> None:
        self.inner.before_fork()

    def after_fork_in_parent(self) -> None:
        self.inner.after_fork_in_parent()

    def after_fork(self) -> None:
        self.inner.after_fork()
