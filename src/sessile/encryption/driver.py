"""The wrapper: what goes into the database is sealed, and what comes out is unsealed."""

from __future__ import annotations

import builtins
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

from ..errors import SealedError, StorageError, UnsupportedError
from ..storage.absence import hidden_because
from ..storage.computing import compute
from ..storage.driver import Beside, Capabilities, Deadline, Driver
from ..storage.encoding import SEALED
from ..storage.leaving import leave
from ..storage.matching import bytes_of
from ..storage.rows import Append, CommitRow, HeadRow, Listing, ListQuery, Loaded, RecordName, Span
from ..storage.threads import elsewhere
from ..storage.wrapping import WrappedDriver
from . import rings
from .holding import PASSING, Keyring
from .rings import Ring

T = TypeVar("T")


class EncryptedDriver(WrappedDriver):
    """A driver that has what it is given encrypted.

    Of what cannot be unsealed the body says so (`encoding.SEALED`), and whoever decodes it gets a `SealedError`: a list
    names it and goes on, and it can be deleted.
    """

    seals = True

    def __init__(self, inner: Driver, keyring: Keyring, *, clear: frozenset[str], plain_index: bool) -> None:
        super().__init__(inner)
        self.keyring = keyring
        self._clear, self._plain_index = clear, plain_index
        self._declared: tuple[Capabilities, Capabilities] | None = None
        self.ends_promptly = inner.ends_promptly and not keyring.blocks

    @property
    def capabilities(self) -> Capabilities:  # pyright: ignore[reportIncompatibleVariableOverride] (inner's, at any time)
        """What the wrapped driver declares, but for what it cannot do with what it cannot read."""
        inner = self.inner.capabilities
        if self._declared is None or self._declared[0] is not inner:
            most = inner.max_record_bytes - rings.OVERHEAD
            mine = replace(
                inner,
                max_record_bytes=most,
                finds_names="name" in self._clear,
                finds_metadata="metadata" in self._clear,
            )
            self._declared = (inner, mine)
        return self._declared[1]

    def beside(self) -> Beside | None:
        """Nothing, because an index has the words of what was said; the inner driver's where the user wants one."""
        return self.inner.beside() if self._plain_index else None

    def sealed(self) -> bool:
        """Whether no index may be made."""
        return not self._plain_index

    # ------------------------------------------------------------ keys

    async def asked(self, work: Callable[[], T]) -> T:
        """What may wait for a key service or a key store, beside the event loop if there is one."""
        if self.keyring.blocks:
            if self.suspends:
                return await elsewhere(work)
            await leave()
        return work()

    async def ring(self, session_id: str, incarnation: str, deadline: Deadline, *, anew: bool = False) -> Ring | None:
        """The keys of a session; None if there is no such session. Raises `SealedError`."""
        ring = None if anew else self.keyring.held(session_id, incarnation)
        if ring is not None:
            return ring
        loaded = await self.inner.load(session_id, 0, deadline)
        if loaded is None or loaded.head.incarnation != incarnation:
            return None
        head = loaded.head
        known = None if anew else self.keyring.known(head)
        return known or await self.asked(lambda: self.keyring.read(head))

    async def newest_ring(self, session_id: str, incarnation: str, deadline: Deadline) -> Ring | None:
        """The keys of a session as its head names them at this moment; raises as `ring`.

        What is not held against a revision must ask for them: a key that was taken out of the head meanwhile, as one
        that nothing is encrypted with any more, would be of use to nobody.
        """
        loaded = await self.inner.load(session_id, 0, deadline)
        if loaded is None or loaded.head.incarnation != incarnation:
            return None
        head = loaded.head
        return self.keyring.known(head) or await self.asked(lambda: self.keyring.read(head))

    # ------------------------------------------------------------ one session

    async def load(self, session_id: str, newest: int, deadline: Deadline) -> Loaded | None:
        loaded = await super().load(session_id, newest, deadline)
        if loaded is None:
            return None
        head = await self._unsealed_head(loaded.head, seen=True)
        commits = loaded.commits
        if commits:
            commits = await self._unsealed(commits, session_id, head.incarnation, deadline)
        return Loaded(head, commits, loaded.now)

    async def _unsealed_head(self, row: HeadRow, *, seen: bool = False) -> HeadRow:
        known = self.keyring.known(row)
        try:
            if known is not None:
                with suppress(SealedError):  # its keys may have changed since they were read
                    return await self._opened_head(known, row, seen)
            return await self._opened_head(await self.asked(lambda: self.keyring.read(row)), row, seen)
        except SealedError as error:
            if row.hidden and rings.ring_text(row.body) is None and hidden_because(row) == "deleted":
                return row  # of a session whose key is gone: it says nothing but that
            return row._replace(body=_problem(error))

    async def _opened_head(self, ring: Ring, row: HeadRow, seen: bool) -> HeadRow:
        head = await compute(self.inner, lambda: rings.unseal_head(ring, row), text=len(row.body))
        if seen:
            ring.last = (head.body, row.body)
        return head

    async def _unsealed(
        self, rows: Sequence[CommitRow], session_id: str, incarnation: str, deadline: Deadline
    ) -> builtins.list[CommitRow]:
        try:
            ring = await self.ring(session_id, incarnation, deadline)
        except SealedError as error:
            return [row._replace(body=_problem(error)) for row in rows]
        if ring is None:
            return []  # the session was deleted meanwhile

        opened = await self._all_opened(ring, rows, session_id, incarnation)
        if any(row.body.startswith(PROBLEM) for row in opened):  # the keys may have changed since they were read
            again = await self.ring(session_id, incarnation, deadline, anew=True)
            if again is not None and again is not ring:
                opened = await self._all_opened(again, rows, session_id, incarnation)
        return opened

    async def _all_opened(
        self, ring: Ring, rows: Sequence[CommitRow], session_id: str, incarnation: str
    ) -> builtins.list[CommitRow]:
        def unseal() -> builtins.list[CommitRow]:
            return [_opened(ring, row, session_id, incarnation) for row in rows]

        return await compute(self.inner, unseal, rows=rows)

    async def append(self, write: Append, deadline: Deadline) -> bool:
        where = (write.session_id, write.incarnation)
        try:
            if write.expected == 0:
                ring = await self.asked(lambda: self.keyring.new(write.head))
            else:
                ring = await self.ring(*where, deadline)
        except SealedError:
            if not write.head.hidden or hidden_because(write.head) != "deleted":
                raise
            return await super().append(write, deadline)  # it says only that the session is deleted
        if ring is None:
            return False
        was = write.was_body
        if was is not None:
            if ring.last is None or ring.last[0] != was:
                return False  # what was seen is not what is known here: a look tells
            was = ring.last[1]

        def seal() -> Append:
            commits = tuple(rings.seal_commit(ring, row, *where) for row in write.commits)
            return write._replace(commits=commits, head=rings.seal_head(ring, write.head, self._clear), was_body=was)

        sealed = await compute(self.inner, seal, rows=write.commits, text=len(write.head.body))
        won = await super().append(sealed, deadline)
        if won:
            ring.last = (write.head.body, sealed.head.body)
            self.keyring.hold(write.head, ring)
            if self.keyring.kept_apart and ring.owner != write.head.user_id:
                await self._give(write.head, ring)
        return won

    async def _give(self, head: HeadRow, ring: Ring) -> None:
        try:
            await self.asked(lambda: self.keyring.give(head, ring))
        except StorageError as error:
            error.written = "yes"
            raise

    async def catch_up(self, head: HeadRow, deadline: Deadline) -> None:
        ring = await self.ring(head.session_id, head.incarnation, deadline)
        if ring is not None:
            await super().catch_up(rings.seal_head(ring, head, self._clear), deadline)

    async def entries(self, session_id: str, incarnation: str, span: Span, deadline: Deadline) -> list[CommitRow]:
        if span.max_bytes is not None and self.inner.capabilities.bounded_pages:
            return await self._entries_by_bytes(session_id, incarnation, span, deadline)
        rows = await super().entries(session_id, incarnation, span, deadline)
        return await self._unsealed(rows, session_id, incarnation, deadline) if rows else rows

    async def _entries_by_bytes(
        self, session_id: str, incarnation: str, span: Span, deadline: Deadline
    ) -> builtins.list[CommitRow]:
        """Pages of sealed bodies, which are larger, until the bodies have as many bytes as are asked for."""
        found: builtins.list[CommitRow] = []
        left = span.max_bytes or 0
        while True:
            most = left * 4 // 3 + 100
            asked = span._replace(max_bytes=most, limit=span.limit - len(found))
            rows = await super().entries(session_id, incarnation, asked, deadline)
            for row in await self._unsealed(rows, session_id, incarnation, deadline) if rows else rows:
                found.append(row)
                left -= bytes_of(row.body)
                if left <= 0:
                    return found
            if not rows or len(found) >= span.limit or sum(bytes_of(row.body) for row in rows) < most:
                return found
            edge = rows[-1].seq
            span = span._replace(last=edge - 1) if span.newest_first else span._replace(first=edge + 1)

    async def newest(
        self, sessions: Sequence[tuple[str, str]], count: int, deadline: Deadline
    ) -> list[list[CommitRow]]:
        pages = await super().newest(sessions, count, deadline)
        return [
            await self._unsealed(rows, *where, deadline) if rows else rows
            for where, rows in zip(sessions, pages, strict=True)
        ]

    async def rewrite(
        self, session_id: str, incarnation: str, commits: Sequence[CommitRow], deadline: Deadline
    ) -> bool:
        ring = await self.newest_ring(session_id, incarnation, deadline)
        if ring is None:
            return False

        def seal() -> builtins.list[CommitRow]:
            return [rings.seal_commit(ring, row, session_id, incarnation) for row in commits]

        return await super().rewrite(session_id, incarnation, await compute(self.inner, seal, rows=commits), deadline)

    async def delete(self, session_id: str, incarnation: str, deadline: Deadline) -> None:
        """The key goes first: what copies of the database have of the session is of no use to anybody then."""
        if self.keyring.kept_apart:
            await self.asked(lambda: self.keyring.destroy(session_id, incarnation))
        await super().delete(session_id, incarnation, deadline)
        self.keyring.forget(session_id, incarnation)

    # ------------------------------------------------------------ lists

    async def list(self, query: ListQuery, deadline: Deadline) -> Listing:
        self._check(query)
        found = await super().list(query, deadline)
        return found._replace(rows=[await self._unsealed_head(row) for row in found.rows])

    async def count(self, query: ListQuery, deadline: Deadline) -> int:
        self._check(query)
        return await super().count(query, deadline)

    def _check(self, query: ListQuery) -> None:
        asked = {"name": query.name_prefix is not None, "metadata": bool(query.metadata or query.metadata_keys)}
        for what, filtered in asked.items():
            if filtered and what not in self._clear:
                raise UnsupportedError(
                    f"Sessions cannot be found by their {what} here: it is encrypted.",
                    hint=f'Make the storage with clear=["{what}"] to leave it unencrypted from then on.',
                )

    # ------------------------------------------------------------ records

    async def get_record(self, session_id: str, incarnation: str, key: str, deadline: Deadline) -> bytes | None:
        return (await self.get_records([RecordName(session_id, incarnation, key)], deadline))[0]

    async def get_records(self, names: Sequence[RecordName], deadline: Deadline) -> builtins.list[bytes | None]:
        held = [await self.ring(name.session_id, name.incarnation, deadline) for name in names]
        stored = [
            name if ring is None else name._replace(key=ring.stored_name(name.key))
            for ring, name in zip(held, names, strict=True)
        ]
        if len(stored) == 1:
            values: Sequence[bytes | None] = [await super().get_record(*stored[0], deadline)]
        else:
            values = await super().get_records(stored, deadline)
        found: builtins.list[bytes | None] = []
        for ring, name, value in zip(held, names, values, strict=True):
            found.append(None if value is None or ring is None else await self._opened_record(ring, value, name))
        return found

    async def _opened_record(self, ring: Ring, value: bytes, name: RecordName) -> bytes:
        try:
            return await compute(self.inner, lambda: rings.unseal_record(ring, value, name), value)
        except SealedError as error:
            raise SealedError(f"A record of session {name.session_id!r} is encrypted: {error.message}.") from error

    async def put_record(
        self, session_id: str, incarnation: str, key: str, value: bytes | None, deadline: Deadline
    ) -> bool:
        passing = value is None or key.startswith(PASSING)
        find = self.ring if passing else self.newest_ring
        ring = await find(session_id, incarnation, deadline)
        if ring is None:
            return False
        sealed = value
        if value is not None:
            number = 0 if passing else ring.current
            place = (session_id, incarnation, key)
            sealed = await compute(self.inner, lambda: rings.seal_record(ring, value, place, number), value)
        return await super().put_record(session_id, incarnation, ring.stored_name(key), sealed, deadline)

    async def record_keys(
        self, session_id: str, incarnation: str, prefix: str, deadline: Deadline, *, after: str = "", limit: int = 500
    ) -> builtins.list[str]:
        """As the wrapped driver's; keys of media are ordered by what they are encrypted to."""
        ring = await self.ring(session_id, incarnation, deadline)
        if ring is None:
            return []
        stored, behind = ring.stored_name(prefix), ring.stored_name(after)
        keys = await super().record_keys(session_id, incarnation, stored, deadline, after=behind, limit=limit)
        return [ring.said_name(key) for key in keys]


def _opened(ring: Ring, row: CommitRow, session_id: str, incarnation: str) -> CommitRow:
    try:
        return rings.unseal_commit(ring, row, session_id, incarnation)
    except SealedError as error:
        return row._replace(body=_problem(error))


PROBLEM = f'{{"{SEALED}": 1, "problem"'
"""What the body of a row begins with that could not be unsealed."""


def _problem(error: StorageError) -> str:
    """A body that says why there is none."""
    return json.dumps({SEALED: 1, "problem": error.message.rstrip(".")})
