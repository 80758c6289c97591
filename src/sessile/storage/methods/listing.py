"""Lists of sessions."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Unpack

from ...later import Later
from ...records import ChangedPage, Page, Session, UserId, Waiting
from .. import lists
from ..checks import moment_micros
from ..core import Core
from ..filters import SessionFilters, cursor_of, page_query, place_of_cursor, query_of
from .base import Operated

if TYPE_CHECKING:
    from .. import tailing
else:
    tailing = Later("sessile.storage.tailing")


class Listing(Operated):
    """Sessions by filters, in pages."""

    def sessions(
        self,
        *,
        user_id: UserId = None,
        limit: int = 20,
        cursor: str | None = None,
        with_state: bool = False,
        **filters: Unpack[SessionFilters],
    ) -> Page[Session]:
        """A page of sessions, newest first.

        Sessions that this version cannot read, damaged or written by a newer one, are named in `Page.unreadable`.

        ```python
        page = storage.sessions(user_id="ada", status="failed", metadata={"tenant": "acme"}, limit=50)
        more = storage.sessions(user_id="ada", status="failed", metadata={"tenant": "acme"}, cursor=page.next_cursor)
        ```

        Args:
            user_id: whose sessions; None: those without a user; `ANY_USER`: all.
            limit: 1 to 1,000. A page may hold fewer sessions though there are more.
            cursor: `next_cursor` of the page before, with the same filters.
            with_state: whether the sessions come with their states. Leave it out where states are large and not
                needed: looking into `Session.state` is an `InvalidInputError` then.
            **filters: which ones; all that are given must match.

                * `kind`, `agent`, `status`: exact matches. `status` is what the sessions of the list say of themselves
                  (`Session.status`): `paused` finds those with a run that waits for a decision, whatever followed it,
                  and `interrupted` those whose newest run has lost its process, whether anybody has noted it or not.
                * `name_prefix`: how the name begins; case matters.
                * `since`, `until`: `since <= time < until` of the last change (or creation, see `order`); datetimes
                  that name their time zone.
                * `metadata`: top-level keys with exactly these scalar values (`True` is not `1`).
                * `metadata_keys`: top-level keys that must be there, whatever their value.
                * `order`: `"updated"` (default) lists by the last change, so a session that changes while you page may
                  be seen twice or move to a page you have passed; `"created"` never moves.

        Raises:
            InvalidInputError: an argument is wrong, or names no user where the storage requires one.
            StorageError: the database could not be read.
        """
        return self._run(lists.sessions, page_query(user_id, limit, cursor, filters, with_state=with_state))

    async def asessions(
        self,
        *,
        user_id: UserId = None,
        limit: int = 20,
        cursor: str | None = None,
        with_state: bool = False,
        **filters: Unpack[SessionFilters],
    ) -> Page[Session]:
        """As `sessions`, for asynchronous callers."""
        return await self._arun(lists.sessions, page_query(user_id, limit, cursor, filters, with_state=with_state))

    def count_sessions(self, *, user_id: UserId = None, **filters: Unpack[SessionFilters]) -> int:
        """How many sessions match.

        Args:
            user_id: whose sessions; None: those without a user; `ANY_USER`: all.
            **filters: which ones, as in `sessions`.

        Raises:
            InvalidInputError: an argument is wrong, or names no user where the storage requires one.
            StorageError: the database could not be read.
        """
        return self._run(lists.count_sessions, query_of(user_id, **filters))

    async def acount_sessions(self, *, user_id: UserId = None, **filters: Unpack[SessionFilters]) -> int:
        """As `count_sessions`, for asynchronous callers."""
        return await self._arun(lists.count_sessions, query_of(user_id, **filters))

    def waiting(
        self,
        *,
        user_id: UserId = None,
        agent: str | None = None,
        kind: str | None = None,
        limit: int = 20,
        cursor: str | None = None,
    ) -> Page[Waiting]:
        """The paused runs of all sessions, on their current branches: what waits for people, or for events.

        The runs of the session that changed last come first. A run is listed also while another one is running in
        its session. Costs what `sessions` costs, and one read more for each run. The sessions come without their
        states.

        ```python
        for waits in storage.waiting(user_id=ANY_USER):
            print(waits.session.session_id, waits.run, waits.since, waits.asked)
        ```

        Args:
            user_id: whose sessions; None: those without a user; `ANY_USER`: all.
            agent: only sessions of this agent, team or workflow.
            kind: only sessions of this kind.
            limit: 1 to 1,000 sessions; one may have several runs that wait.
            cursor: `next_cursor` of the page before, with the same arguments.

        Raises:
            InvalidInputError: an argument is wrong, or names no user where the storage requires one.
            StorageError: the database could not be read.
        """
        return self._run(lists.waiting, page_query(user_id, limit, cursor, {"agent": agent, "kind": kind}))

    async def awaiting(
        self,
        *,
        user_id: UserId = None,
        agent: str | None = None,
        kind: str | None = None,
        limit: int = 20,
        cursor: str | None = None,
    ) -> Page[Waiting]:
        """As `waiting`, for asynchronous callers."""
        return await self._arun(lists.waiting, page_query(user_id, limit, cursor, {"agent": agent, "kind": kind}))

    def changed_sessions(
        self,
        since: datetime | None = None,
        *,
        user_id: UserId = None,
        limit: int = 100,
        cursor: str | None = None,
        with_state: bool = False,
    ) -> ChangedPage:
        """Which sessions have changed since a moment, oldest change first, each as it is now; for whoever keeps a copy.

        Shows also sessions that no other list shows: `Session.hidden` says whether one is being deleted, is a fork
        in the making, or a kept result of a step. An expired session is listed until `sweep` removes it; one
        that is gone is not. A session that changes while you read pages comes again, on a later page.

        ```python
        page = storage.changed_sessions(seen_until, user_id=ANY_USER)
        seen_until = page.complete_until    # of the first page, when the last one has been read
        ```

        Args:
            since: only sessions that have changed at that moment or later. Default: all.
            user_id: whose sessions; None: those without a user; `ANY_USER`: all.
            limit: 1 to 1,000.
            cursor: `next_cursor` of the page before, with the same `since`.
            with_state: whether the sessions come with their states, as in `sessions`.

        Raises:
            InvalidInputError: an argument is wrong, or names no user where the storage requires one.
            StorageError: the database could not be read.
        """
        return self._run(_changed, since, user_id, limit, cursor, with_state)

    async def achanged_sessions(
        self,
        since: datetime | None = None,
        *,
        user_id: UserId = None,
        limit: int = 100,
        cursor: str | None = None,
        with_state: bool = False,
    ) -> ChangedPage:
        """As `changed_sessions`, for asynchronous callers."""
        return await self._arun(_changed, since, user_id, limit, cursor, with_state)


async def _changed(
    core: Core, since: datetime | None, user_id: UserId, limit: int, cursor: str | None, with_state: bool
) -> ChangedPage:
    start = moment_micros(since, "since")
    after = None if cursor is None else place_of_cursor(cursor, "changed")
    found = await tailing.changed(
        core, 0 if start is None else start, after=after, limit=limit, user_id=user_id, with_state=with_state
    )
    return ChangedPage(found.sessions, cursor_of(found.after, "changed"), {**found.unreadable}, found.complete_until)
