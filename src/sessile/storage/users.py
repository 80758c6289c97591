"""What one user sees of a storage: a space of ids of the user's own, and nothing else.

The session that the user calls `s1` is stored as `sessile:user:HASH:s1`, where HASH are the first 32 hexadecimal
digits of the SHA-256 hash of the user's id. No caller can name such an id (`ids.RESERVED`), so two users can use one id
without meeting, and what one has made is in nobody's way. Above the driver ids are as the user says them; below, as
they are stored. The log has what the user said.
"""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from ..errors import InvalidIdError, InvalidInputError, StorageError
from .core import Core
from .driver import Append, CommitRow, Deadline, Driver, HeadRow, Listing, ListQuery, Loaded, RecordName, Span
from .ids import RESERVED
from .matching import place_of
from .wrapping import WrappedDriver

OWN = f"{RESERVED}user:"
"""What the stored ids of users' own sessions begin with."""

PAGE = 100
"""How many sessions are looked through at a time at least, where not all of a page are the user's own."""

MAX_OWN_ID_BYTES = 200
"""How long the ids may be that users give their own sessions: with what stands before them, all databases take them."""


@lru_cache(maxsize=1024)
def space_of(user_id: str) -> str:
    """What the stored ids of this user's own sessions begin with."""
    import hashlib  # loads OpenSSL, which most programs do not need for this

    return f"{OWN}{hashlib.sha256(user_id.encode()).hexdigest()[:32]}:"


def said_id(stored: str, user_id: str | None) -> str:
    """The id that was given to a session which is stored under this one."""
    return stored if user_id is None else stored.removeprefix(space_of(user_id))


def core_of(core: Core, user_id: str) -> Core:
    """The core as one user sees it."""
    return replace(core, driver=UsersDriver(core.driver, user_id), user=user_id)


class UsersDriver(WrappedDriver):
    """A driver as one user sees it: other ids, and no other user's sessions."""

    def __init__(self, inner: Driver, user_id: str) -> None:
        super().__init__(inner)
        self.user_id = user_id
        self.space = space_of(user_id)

    # ------------------------------------------------------------ ids

    def _stored(self, session_id: str) -> str:
        size = len(session_id.encode())
        if size > MAX_OWN_ID_BYTES:
            raise InvalidIdError(
                f"session_id has {size} bytes of UTF-8; of a user's own sessions it may have {MAX_OWN_ID_BYTES}.",
                hint="Use a shorter id.",
            )
        return f"{self.space}{session_id}"

    def stored_id(self, session_id: str) -> str:
        return self._stored(session_id)

    def _row(self, head: HeadRow) -> HeadRow:
        return head._replace(session_id=self._stored(head.session_id))

    def _said(self, head: HeadRow) -> HeadRow:
        return head._replace(session_id=head.session_id.removeprefix(self.space))

    # ------------------------------------------------------------ one session

    async def load(self, session_id: str, newest: int, deadline: Deadline) -> Loaded | None:
        loaded = await super().load(self._stored(session_id), newest, deadline)
        return None if loaded is None else loaded._replace(head=self._said(loaded.head))

    async def append(self, write: Append, deadline: Deadline) -> bool:
        if write.head.user_id != self.user_id:
            raise InvalidInputError(f"Sessions of {self.user_id!r} are to be made here, and of nobody else.")
        own = write._replace(session_id=self._stored(write.session_id), head=self._row(write.head))
        return await super().append(own, deadline)

    async def entries(self, session_id: str, incarnation: str, span: Span, deadline: Deadline) -> list[CommitRow]:
        return await super().entries(self._stored(session_id), incarnation, span, deadline)

    async def newest(
        self, sessions: Sequence[tuple[str, str]], count: int, deadline: Deadline
    ) -> list[list[CommitRow]]:
        own = [(self._stored(session_id), incarnation) for session_id, incarnation in sessions]
        return await super().newest(own, count, deadline)

    async def rewrite(
        self, session_id: str, incarnation: str, commits: Sequence[CommitRow], deadline: Deadline
    ) -> bool:
        return await super().rewrite(self._stored(session_id), incarnation, commits, deadline)

    async def delete(self, session_id: str, incarnation: str, deadline: Deadline) -> None:
        await super().delete(self._stored(session_id), incarnation, deadline)

    async def discard(self, session_id: str, deadline: Deadline) -> bool:
        """Nothing: of what cannot be read nobody can say whose it is."""
        return False

    async def catch_up(self, head: HeadRow, deadline: Deadline) -> None:
        await super().catch_up(self._row(head), deadline)

    async def wait(self, session_id: str, incarnation: str, revision: int, deadline: Deadline) -> None:
        await super().wait(self._stored(session_id), incarnation, revision, deadline)

    # ------------------------------------------------------------ records

    async def get_record(self, session_id: str, incarnation: str, key: str, deadline: Deadline) -> bytes | None:
        return await super().get_record(self._stored(session_id), incarnation, key, deadline)

    async def get_records(self, names: Sequence[RecordName], deadline: Deadline) -> builtins.list[bytes | None]:
        own = [name._replace(session_id=self._stored(name.session_id)) for name in names]
        return await super().get_records(own, deadline)

    async def put_record(
        self, session_id: str, incarnation: str, key: str, value: bytes | None, deadline: Deadline
    ) -> bool:
        return await super().put_record(self._stored(session_id), incarnation, key, value, deadline)

    async def record_keys(
        self, session_id: str, incarnation: str, prefix: str, deadline: Deadline, *, after: str = "", limit: int = 500
    ) -> builtins.list[str]:
        stored = self._stored(session_id)
        return await super().record_keys(stored, incarnation, prefix, deadline, after=after, limit=limit)

    # ------------------------------------------------------------ lists

    async def list(self, query: ListQuery, deadline: Deadline) -> Listing:
        """The user's own sessions; those that the user has beside them, under ids of all users, are passed over."""
        after = None if query.after is None else (query.after[0], self._stored(query.after[1]))
        asked = replace(query, user_id=self.user_id, after=after)
        rows: list[HeadRow] = []
        unreadable: dict[str, StorageError] = {}
        more = True
        while more and len(rows) < query.limit:
            page = await super().list(asked, deadline)
            rows += [self._said(row) for row in page.rows if row.session_id.startswith(self.space)]
            for name, error in page.unreadable.items():
                if name.startswith(self.space):
                    unreadable[name.removeprefix(self.space)] = error
            more = page.after is not None
            asked = replace(asked, after=page.after, limit=max(query.limit, PAGE))
        more = more or len(rows) > query.limit
        rows = rows[: query.limit]
        return Listing(rows, unreadable, place_of(rows[-1], query) if more else None)

    async def count(self, query: ListQuery, deadline: Deadline) -> int:
        return await Driver.count(self, query, deadline)
