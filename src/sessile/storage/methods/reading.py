"""Reading one session: itself, its runs, its messages, its log."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Collection, Iterator
from typing import TYPE_CHECKING

from ...errors import SessionNotFoundError
from ...later import Later
from ...records import Branch, Entry, Message, PartialList, Run, Session, Status, UserId
from .. import reads
from ..checks import check_count, check_seconds
from .base import Operated

if TYPE_CHECKING:
    from .. import media as keeping
    from .. import tailing
    from ..tailing import Tail
else:
    keeping = Later("sessile.storage.media")
    tailing = Later("sessile.storage.tailing")


class Reading(Operated):
    """What can be read of one session. A read that fails is raised, never taken for "no such session"."""

    def get_session(self, session_id: str, *, last_runs: int = 0, user_id: UserId = None) -> Session | None:
        """A session as it is now: state, name, status, counters, and its last runs where they are asked for.

        One round trip; one indexed read more where the runs are not among the newest commits.

        ```python
        session = storage.get_session("s1", last_runs=3, user_id="ada")
        session.state, session.status, [run.output for run in session.runs]
        ```

        Args:
            session_id: which session.
            last_runs: how many of the newest runs of its current branch come along, as `Session.runs`; fewer where they
                are larger than `max_read_bytes`, as from `runs`.
            user_id: whose session it is; None: nobody's; `ANY_USER`: whoever's.

        Returns:
            The session, or None if there is none, or if it is another user's.

        Raises:
            InvalidInputError: an argument is wrong, or names no user where the storage requires one.
            StorageError: the database could not be read.
        """
        return self._run(reads.get_session, session_id, last_runs=last_runs, user_id=user_id)

    async def aget_session(self, session_id: str, *, last_runs: int = 0, user_id: UserId = None) -> Session | None:
        """As `get_session`, for asynchronous callers."""
        return await self._arun(reads.get_session, session_id, last_runs=last_runs, user_id=user_id)

    def runs(
        self,
        session_id: str,
        *,
        last: int | None = None,
        from_run: int | None = None,
        to_run: int | None = None,
        status: Status | Collection[Status] | None = None,
        user_id: UserId = None,
    ) -> PartialList[Run]:
        """Runs of the current branch, oldest first, with their messages and the runs of members below them.

        Args:
            session_id: which session.
            last: at most so many, the newest (of that status). Default: 100, or all from `from_run` on. Where they are
                larger together than the storage's `max_read_bytes`, fewer come, but one at least: continue with
                `to_run=runs[0].number - 1`.
            from_run: the number of the first run.
            to_run: the number of the last run, which is included.
            status: only runs of this status, or of one of these.
            user_id: whose session it is; None: nobody's; `ANY_USER`: whoever's.

        Returns:
            The runs; an empty list if there is no such session, or if it is another user's. `unreadable` of it names
            runs that this version cannot read, by their numbers, and why.

        Raises:
            InvalidInputError: an argument is wrong, or names no user where the storage requires one.
            StorageError: the database could not be read.
        """
        return self._run(
            reads.runs, session_id, last=last, from_run=from_run, to_run=to_run, status=status, user_id=user_id
        )

    async def aruns(
        self,
        session_id: str,
        *,
        last: int | None = None,
        from_run: int | None = None,
        to_run: int | None = None,
        status: Status | Collection[Status] | None = None,
        user_id: UserId = None,
    ) -> PartialList[Run]:
        """As `runs`, for asynchronous callers."""
        return await self._arun(
            reads.runs, session_id, last=last, from_run=from_run, to_run=to_run, status=status, user_id=user_id
        )

    def get_run(self, session_id: str, run_number: int, *, user_id: UserId = None) -> Run:
        """One run by its number, on whatever branch it lies.

        Args:
            session_id: which session.
            run_number: 1, 2, 3 … in the session: `Run.number`.
            user_id: whose session it is; None: nobody's; `ANY_USER`: whoever's.

        Raises:
            SessionNotFoundError: there is no such session, or it is another user's.
            RunNotFoundError: the session has no run of that number.
            InvalidInputError: an argument is wrong, or names no user where the storage requires one.
            StorageError: the database could not be read.
        """
        return self._run(reads.get_run, session_id, run_number, user_id=user_id)

    async def aget_run(self, session_id: str, run_number: int, *, user_id: UserId = None) -> Run:
        """As `get_run`, for asynchronous callers."""
        return await self._arun(reads.get_run, session_id, run_number, user_id=user_id)

    def messages(
        self,
        session_id: str,
        *,
        last_runs: int | None = None,
        from_run: int | None = None,
        to_run: int | None = None,
        user_id: UserId = None,
    ) -> PartialList[Message]:
        """The messages of runs of the current branch, flat, oldest first, each run's messages together.

        Args:
            session_id: which session.
            last_runs: of at most so many runs, the newest. Default: 100, or all from `from_run` on; of fewer where they
                are larger than `max_read_bytes`, as in `runs`.
            from_run: the number of the first run.
            to_run: the number of the last run, which is included.
            user_id: whose session it is; None: nobody's; `ANY_USER`: whoever's.

        Returns:
            The messages; an empty list if there is no such session, or if it is another user's. `unreadable` of it
            names runs that this version cannot read, by their numbers, and why.

        Raises:
            InvalidInputError: an argument is wrong, or names no user where the storage requires one.
            StorageError: the database could not be read.
        """
        return self._run(
            reads.messages, session_id, last_runs=last_runs, from_run=from_run, to_run=to_run, user_id=user_id
        )

    async def amessages(
        self,
        session_id: str,
        *,
        last_runs: int | None = None,
        from_run: int | None = None,
        to_run: int | None = None,
        user_id: UserId = None,
    ) -> PartialList[Message]:
        """As `messages`, for asynchronous callers."""
        return await self._arun(
            reads.messages, session_id, last_runs=last_runs, from_run=from_run, to_run=to_run, user_id=user_id
        )

    def branches(self, session_id: str, *, user_id: UserId = None) -> list[Branch]:
        """The branches of a session, each named by its last run: the current one, and those that `rewind` has left.

        `rewind` to the last run of a branch returns to it.

        Args:
            session_id: which session.
            user_id: whose session it is; None: nobody's; `ANY_USER`: whoever's.

        Raises:
            SessionNotFoundError: there is no such session, or it is another user's.
            InvalidInputError: an argument is wrong, or names no user where the storage requires one.
            StorageError: the database could not be read.
        """
        return self._run(reads.branches, session_id, user_id=user_id)

    async def abranches(self, session_id: str, *, user_id: UserId = None) -> list[Branch]:
        """As `branches`, for asynchronous callers."""
        return await self._arun(reads.branches, session_id, user_id=user_id)

    def entries(
        self, session_id: str, *, after: int = 0, limit: int = 1000, user_id: UserId = None
    ) -> PartialList[Entry]:
        """The log itself: everything that was ever committed, on all branches, in the order of the commits.

        Args:
            session_id: which session.
            after: only commits after this revision; the last entry's `seq` is the next call's `after`.
            limit: at most so many commits. Fewer come where they are larger than the storage's `max_read_bytes`,
                but at least one: so an empty list that names nothing unreadable means that there are no more.
            user_id: whose session it is; None: nobody's; `ANY_USER`: whoever's.

        Returns:
            The entries. `unreadable` of it names commits that this version cannot read, by revision, and why.

        Raises:
            SessionNotFoundError: there is no such session, or it is another user's.
            InvalidInputError: an argument is wrong, or names no user where the storage requires one.
            StorageError: the database could not be read.
        """
        return self._run(reads.entries, session_id, after=after, limit=limit, user_id=user_id)

    async def aentries(
        self, session_id: str, *, after: int = 0, limit: int = 1000, user_id: UserId = None
    ) -> PartialList[Entry]:
        """As `entries`, for asynchronous callers."""
        return await self._arun(reads.entries, session_id, after=after, limit=limit, user_id=user_id)

    def tail(
        self,
        session_id: str,
        count: int = 20,
        *,
        kinds: Collection[str] = (),
        before: int | None = None,
        user_id: UserId = None,
    ) -> Tail | None:
        """The newest entries of the log, of all branches, newest first, and the session in the same look.

        One round trip, if they are among the newest commits; it looks at no more than 1,000 commits, and reads no more
        than `max_read_bytes`. So there may be fewer than `count`, and even none, although `Tail.before` says that there
        are older ones.

        Args:
            session_id: which session.
            count: how many; a commit is never split, so there may be a few more.
            kinds: only entries of these kinds (`message`, `run.ended`, …). Default: of all.
            before: only commits before this revision: `Tail.before` of the call before.
            user_id: whose session it is; None: nobody's; `ANY_USER`: whoever's.

        Returns:
            None if there is no such session, or if it is another user's.

        Raises:
            InvalidInputError: an argument is wrong, or names no user where the storage requires one.
            StorageError: the database could not be read.
        """
        return self._run(tailing.tail, session_id, count, kinds=kinds, before=before, user_id=user_id)

    async def atail(
        self,
        session_id: str,
        count: int = 20,
        *,
        kinds: Collection[str] = (),
        before: int | None = None,
        user_id: UserId = None,
    ) -> Tail | None:
        """As `tail`, for asynchronous callers."""
        return await self._arun(tailing.tail, session_id, count, kinds=kinds, before=before, user_id=user_id)

    def follow(self, session_id: str, *, after: int = 0, poll: float = 0.5, user_id: UserId = None) -> Iterator[Entry]:
        """The entries of the log after a revision, and then new ones as they are committed, without end.

        Ends when the session is deleted, also if another one is made under its id.

        Args:
            session_id: which session.
            after: only commits after this revision: `Session.revision` for those that are still to come.
            poll: how long to wait between looks, in seconds, where the database cannot push.
            user_id: whose session it is; None: nobody's; `ANY_USER`: whoever's.

        Raises:
            SessionNotFoundError: there is no such session to begin with, or it is another user's.
            InvalidInputError: an argument is wrong, or names no user where the storage requires one.
            StorageError: the database could not be read.
        """
        _check_follow(after, poll)
        incarnation = None
        while True:
            news = self._run(reads.wait_entries, session_id, after, user_id, incarnation)
            if news is None:
                _check_gone(session_id, incarnation)
                return
            incarnation = news.incarnation
            yield from news.entries
            moved, after = news.after > after, news.after
            if not moved and not news.waited:
                time.sleep(poll)

    async def afollow(
        self, session_id: str, *, after: int = 0, poll: float = 0.5, user_id: UserId = None
    ) -> AsyncIterator[Entry]:
        """As `follow`, for asynchronous callers: `async for entry in storage.afollow(…)`."""
        import asyncio

        _check_follow(after, poll)
        incarnation = None
        while True:
            news = await self._arun(reads.wait_entries, session_id, after, user_id, incarnation)
            if news is None:
                _check_gone(session_id, incarnation)
                return
            incarnation = news.incarnation
            for entry in news.entries:
                yield entry
            moved, after = news.after > after, news.after
            if not moved and not news.waited:
                await asyncio.sleep(poll)

    def media(self, session_id: str, digest: str, *, user_id: UserId = None) -> bytes:
        """An image, a file or a large result, which messages of the session refer to as `{"$blob": digest}`.

        Args:
            session_id: which session.
            digest: the content's SHA-256 hash, 64 hexadecimal digits.
            user_id: whose session it is; None: nobody's; `ANY_USER`: whoever's.

        Raises:
            SessionNotFoundError: there is no such session, or it is another user's.
            CorruptDataError: the session has no such content, or it is damaged.
            InvalidInputError: an argument is wrong, or names no user where the storage requires one.
            StorageError: the database could not be read.
        """
        return self._run(keeping.media, session_id, digest, user_id=user_id)

    async def amedia(self, session_id: str, digest: str, *, user_id: UserId = None) -> bytes:
        """As `media`, for asynchronous callers."""
        return await self._arun(keeping.media, session_id, digest, user_id=user_id)


def _check_follow(after: int, poll: float) -> None:
    check_count(after, "after", least=0)
    check_seconds(poll, "poll")


def _check_gone(session_id: str, incarnation: str | None) -> None:
    if incarnation is None:
        raise SessionNotFoundError(f"There is no session {session_id!r}.")
