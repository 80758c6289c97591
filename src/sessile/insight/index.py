"""`Index`: what people ask about many sessions, answered from tables that are projected from the log."""

from __future__ import annotations

import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import replace
from datetime import tzinfo
from typing import TypeVar, Unpack

from ..errors import InvalidInputError, StorageError
from ..records import Session, UserId
from ..storage import Storage
from ..storage.checks import check_choice, check_count
from ..storage.core import Core
from ..storage.filters import SessionFilters, page_query, query_of
from ..storage.storage import UserStorage, operate, removals_of
from ..storage.threads import Worker
from ..storage.users import space_of
from . import runs, search, sessions, usage
from .catching_up import QUICK, CatchingUp, Pace, Progress
from .choices import COLUMNS, Field, choices
from .damage import tells_damage
from .fewshot import LOOKED_AT, Examples, Redaction, pick
from .filters import RunFilters, Whose
from .found import FoundPage, FoundRun, Hit
from .meaning import Embed, Meaning
from .place import Place, place_for
from .sums import sum_up
from .usage import Group, UsageTable

R = TypeVar("R")

CHECKED = 300.0
"""Seconds after which an index in a database of its own is compared with the sessions that there are, which other
processes may have deleted."""


class Index:
    """Answers questions about the runs and sessions of a storage: lists, search, usage.

    It is made of the log, which it never changes, and is brought up to date before each answer: what was committed
    before is in it. Several processes may use one index at once; it may be dropped and built again at any time.

    Every question comes twice: `index.runs(…)`, and `await index.aruns(…)`, which is answered in a worker thread.

    Args:
        storage: whose sessions. Of a user's own view (`storage.for_user`) it is the index of the whole storage, and
            every question is about that user's sessions there, under the user's own ids.
        into: the URL of the database that the index lies in. Default: tables beside the log, where that lies in SQLite,
            PostgreSQL, MySQL or MariaDB. Any of these will do: `"sqlite:///index.db"` is a file.
        embed: makes vectors of texts, to search by meaning: a function from a list of texts to a vector for each, or
            Pydantic AI's `Embedder`.
        text: whether it has the words of what was said. Without them an index takes a fraction of the time and of the
            room, holds no text of a conversation, and answers everything but `search`. It is decided when an index is
            made. Default: as the one that is there, else with words; the first question to one that is otherwise
            raises a `StorageError`.

    Raises:
        InvalidInputError: the log lies in no such database, and no other one is named.
    """

    def __init__(
        self, storage: Storage, into: str | None = None, *, embed: Embed | None = None, text: bool | None = None
    ) -> None:
        self._asked = storage
        self._storage = storage.whole if isinstance(storage, UserStorage) else storage
        self._place: Place = place_for(self._storage, into, words=text)
        self._into = into
        self._meaning = None if embed is None else Meaning(embed)
        self._worker = Worker(2)
        self._gone: deque[tuple[str, str]] = deque()
        self._checked = 0.0
        self._listen()

    def _listen(self) -> None:
        """Hear what this process deletes; in the database of the log, deletions are noted for all indexes."""
        if self._place.shared:
            return
        gone, heard = self._gone, removals_of(self._storage)

        def removed(session_id: str, incarnation: str) -> None:
            gone.append((session_id, incarnation))

        heard.append(removed)
        weakref.finalize(self, lambda: heard.remove(removed))

    def for_user(self, user_id: str) -> Index:
        """The same index, asked about the user's own sessions (`Storage.for_user`) alone. No I/O; closing it is no use.

        Args:
            user_id: whose sessions.

        Raises:
            InvalidInputError: the id is wrong.
        """
        own = copy(self)
        own._asked = self._storage.for_user(user_id)
        return own

    # ------------------------------------------------------------ taking care of it

    @tells_damage
    def update(self, progress: Progress | None = None) -> int:
        """Bring it up to date. Every question does that by itself; the first time takes a while.

        Args:
            progress: is called with the number of sessions that were read so far, now and then.

        Returns:
            Up to when it is complete, microseconds UTC.

        Raises:
            NewerVersionError: a newer version of Sessile has made the index; it is left alone.
            StorageError: one of the databases failed; what was done so far stays.
        """
        return self._updated(progress)

    def _updated(self, progress: Progress | None = None, pace: Pace = QUICK) -> int:
        complete = self._caught_up(progress, pace)
        sum_up(self._place, complete)
        return complete

    def _caught_up(self, progress: Progress | None = None, pace: Pace = QUICK) -> int:
        self._place.prepare()
        gone = list(self._gone)
        look = CatchingUp(self._storage, self._place, progress, gone, pace)
        try:
            complete = look.run()
        except StorageError:
            if not self._place.is_gone():
                raise
            self._place.prepare()  # another process has dropped it
            complete = look.run()
        for one in gone:  # taken out; what breaks off before leaves them for the next look
            with suppress(ValueError):
                self._gone.remove(one)
        if not self._place.shared and time.monotonic() - self._checked > CHECKED:
            look.check()
            self._checked = time.monotonic()
        return complete

    @tells_damage
    def check(self) -> int:
        """Compare it with all sessions that there are, and take out those that are not there any more.

        Only needed after sessions were removed past Sessile, or by a version that did not know of the index; an index
        in a database of its own does it every few minutes by itself.

        Returns:
            How many had to be taken out.
        """
        self._place.prepare()
        return CatchingUp(self._storage, self._place).check()

    def exists(self) -> bool:
        """Whether its tables have been made, beside a log that outlasts this process.

        Raises:
            NewerVersionError: a newer version of Sessile has made them.
            StorageError: the database failed.
        """
        return self._place.shared and self._place.is_there()

    async def aexists(self) -> bool:
        """As `exists`, for asynchronous callers."""
        return await self._in_thread(self.exists)

    def migrate(self, *, dry_run: bool = False) -> list[str]:
        """Make its tables where they are not there, also where a storage was told to leave the schema alone.

        Args:
            dry_run: change nothing, and return what would be run.

        Returns:
            The statements that were run; none if there is nothing to do.

        Raises:
            NewerVersionError: a newer version of Sessile has made the index; it is left alone.
            StorageError: the database failed, or its user may not make tables.
        """
        return self._place.migrate(dry_run=dry_run)

    @tells_damage
    def rebuild(self, progress: Progress | None = None) -> int:
        """Drop it and build it again, as `update` does; with words or without, as it was, unless `text` says it."""
        self._place.rebuild()
        return self.update(progress)

    @tells_damage
    def compact(self, progress: Progress | None = None) -> int:
        """Bring it up to date, as `update` does, and take out the words that deleted sessions have left in it.

        Deleted words are found by nobody, but stand in the index until the engine merges it. Takes time in proportion
        to the index. What it frees is the database's to overwrite (`VACUUM`).
        """
        complete = self.update(progress)
        self._place.compact()
        return complete

    def drop(self) -> None:
        """Remove its tables. The log is left as it is, and the next question builds the index again."""
        self._place.drop()

    def close(self) -> None:
        """Close what it has opened itself."""
        self._worker.close()
        if not self._place.shared:
            self._place.storage.close()

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------ questions

    @tells_damage
    def sessions(
        self,
        *,
        user_id: UserId = None,
        limit: int = 20,
        cursor: str | None = None,
        ascending: bool = False,
        with_state: bool = False,
        **filters: Unpack[SessionFilters],
    ) -> FoundPage[Session]:
        """A page of sessions as `Storage.sessions` lists them, read by the index, whatever is filtered by.

        The storage's own list is as fast for those of a user or of an agent, newest first, and needs no index. Other
        filters, and several at once, it holds against one session after the other; the index looks them up.

        ```python
        index.sessions(user_id=ANY_USER, agent="support", status="failed", metadata={"tenant": "acme"})
        ```

        Args:
            user_id: whose sessions; None: those without a user; `ANY_USER`: all.
            limit: 1 to 1,000. A page may hold fewer sessions though there are more.
            cursor: `next_cursor` of the page before, with the same filters and the same direction.
            ascending: the oldest first.
            with_state: whether the sessions come with their states.
            **filters: which ones, as in `Storage.sessions`.

        Raises:
            InvalidInputError: an argument is wrong.
            StorageError: one of the databases failed.
        """
        query = page_query(user_id, limit, cursor, filters, with_state=with_state)
        whose = self._whose(user_id)
        now = self._caught_up()
        page = operate(self._asked, sessions.sessions, replace(query, ascending=ascending), self._place)
        unreadable = {**page.unreadable, **runs.problems(self._place, whose)}
        return FoundPage(page.items, page.next_cursor, unreadable, now)

    async def asessions(
        self,
        *,
        user_id: UserId = None,
        limit: int = 20,
        cursor: str | None = None,
        ascending: bool = False,
        with_state: bool = False,
        **filters: Unpack[SessionFilters],
    ) -> FoundPage[Session]:
        """As `sessions`, for asynchronous callers."""
        return await self._in_thread(
            lambda: self.sessions(
                user_id=user_id, limit=limit, cursor=cursor, ascending=ascending, with_state=with_state, **filters
            )
        )

    @tells_damage
    def count_sessions(self, *, user_id: UserId = None, **filters: Unpack[SessionFilters]) -> int:
        """How many sessions match, as `Storage.count_sessions` says, read by the index.

        Raises:
            InvalidInputError: an argument is wrong.
            StorageError: one of the databases failed.
        """
        query = query_of(user_id, **filters)
        self._caught_up()
        return operate(self._asked, sessions.count, query, self._place)

    async def acount_sessions(self, *, user_id: UserId = None, **filters: Unpack[SessionFilters]) -> int:
        """As `count_sessions`, for asynchronous callers."""
        return await self._in_thread(lambda: self.count_sessions(user_id=user_id, **filters))

    @tells_damage
    def runs(
        self,
        *,
        user_id: UserId = None,
        limit: int = 20,
        cursor: str | None = None,
        ascending: bool = False,
        **filters: Unpack[RunFilters],
    ) -> FoundPage[FoundRun]:
        """Runs of all sessions, newest first, a page at a time.

        ```python
        page = index.runs(user_id=ANY_USER, agent="support", status="failed", since=yesterday)
        ```

        Args:
            user_id: whose runs; None: those of sessions without a user; `ANY_USER`: all.
            limit: 1 to 1,000.
            cursor: `next_cursor` of the page before, with the same filters and the same direction.
            ascending: oldest first.
            **filters: which ones; all that are given must match.

                * `session_id`, `kind` (of the session: `agent`, `team`, `workflow`), `agent`: exact matches; `model`,
                  `tool`: a model that was used, a tool that was called.
                * `status`: one or several.
                * `since`, `until`: `since <= started_at < until`; datetimes that name their time zone.
                * `error`: the type of the error; True: any, False: none.
                * `label`, `min_score`, `max_score`, `source`: the newest rating of one source has that label, and a
                  score in that range; `rated`: whether there is any rating (of that source).
                * `min_duration`, `max_duration`: of runs that are over; seconds or a `timedelta`.
                * `min_cost`, `max_cost`: dollars, with all runs below it; runs of unknown cost match neither.
                * `metadata`, `metadata_keys`: of its session, as `sessions` takes them.
                * `on_branch`: whether it lies on its session's current branch, or was left by a rewind.
                * `members`: True also lists the runs of a team's members, and others below a run.

        Raises:
            InvalidInputError: an argument is wrong, or there is no such filter.
            StorageError: one of the databases failed.
        """
        whose = self._whose(user_id)
        now = self._caught_up()
        return runs.runs(
            self._storage,
            self._place,
            now,
            whose=whose,
            limit=limit,
            cursor=cursor,
            ascending=ascending,
            filters=filters,
        )

    async def aruns(
        self,
        *,
        user_id: UserId = None,
        limit: int = 20,
        cursor: str | None = None,
        ascending: bool = False,
        **filters: Unpack[RunFilters],
    ) -> FoundPage[FoundRun]:
        """As `runs`, for asynchronous callers."""
        return await self._in_thread(
            lambda: self.runs(user_id=user_id, limit=limit, cursor=cursor, ascending=ascending, **filters)
        )

    @tells_damage
    def search(
        self,
        text: str,
        *,
        user_id: UserId = None,
        limit: int = 20,
        cursor: str | None = None,
        order: search.Order = "newest",
        **filters: Unpack[RunFilters],
    ) -> FoundPage[Hit]:
        """Runs, and sessions by their names and metadata, that have all of these words.

        It looks through inputs, outputs, messages, arguments and results of tools, errors, comments of ratings, names
        and metadata, and finds the same on every database. Case and accents do not matter. `customer_id` and `ORD-7781`
        are found as they are, and by their parts; what stands between quotation marks stands together. Nothing else in
        the text is syntax.

        ```python
        index.search('refund "order 7781"', user_id="ada")
        ```

        Args:
            text: what is searched for.
            user_id: whose; None: sessions without a user; `ANY_USER`: all.
            limit: 1 to 100. A page may hold fewer hits though there are more.
            cursor: `next_cursor` of the page before, with all else as it was.
            order: `"newest"`; `"best"`: among the newest 1,000 hits those that have the words most often; or
                `"meaning"`: among the newest 20,000 runs those whose question and answer are nearest to the text,
                whether they have its words or not. That needs `embed`, which is called for runs without a vector.
            **filters: as in `runs`; but runs of members are found too, unless `members` is False.

        Raises:
            InvalidInputError: an argument is wrong, the text has no words, or there is no such filter.
            StorageError: one of the databases failed.
        """
        whose = self._whose(user_id)
        now = self._caught_up()
        return search.search(
            self._storage,
            self._place,
            now,
            text,
            whose=whose,
            limit=limit,
            cursor=cursor,
            order=order,
            filters=filters,
            by_meaning=self._meaning,
        )

    async def asearch(
        self,
        text: str,
        *,
        user_id: UserId = None,
        limit: int = 20,
        cursor: str | None = None,
        order: search.Order = "newest",
        **filters: Unpack[RunFilters],
    ) -> FoundPage[Hit]:
        """As `search`, for asynchronous callers."""
        return await self._in_thread(
            lambda: self.search(text, user_id=user_id, limit=limit, cursor=cursor, order=order, **filters)
        )

    def examples(
        self,
        *,
        user_id: UserId = None,
        like: str | None = None,
        limit: int = 5,
        tokens: int | None = None,
        redact: Redaction | None = None,
        tools: bool = False,
        **filters: Unpack[RunFilters],
    ) -> Examples:
        """Good runs as few-shot examples: none like another, and those first that fit a question.

        They are picked among the newest 300 completed runs that match; the best one comes last, next to the question.
        An answer that a rating corrects (`storage.rate(…, correction=…)`) is the corrected one.

        ```python
        examples = index.examples(user_id=ANY_USER, agent="support", min_score=1, like=question, tokens=1000)
        agent = Agent("openai:gpt-5-mini", instructions=examples.prompt())
        ```

        Args:
            user_id: whose runs; None: those of sessions without a user; `ANY_USER`: all.
            like: a question; runs that were asked similar ones are preferred, by their words.
            limit: how many at most.
            tokens: about how many tokens they may have together.
            redact: takes out of each text what must not be passed on, such as names.
            tools: with the calls of tools that were made for the answer, or only question and answer.
            **filters: what makes a run a good one, as in `runs`: `min_score`, `label`, `source`, `agent`, `model`, ….

        Raises:
            InvalidInputError: an argument is wrong, or there is no such filter.
            StorageError: one of the databases failed.
        """
        good: RunFilters = {"status": "completed", "on_branch": True, **filters}

        def candidates() -> Iterator[FoundRun]:
            seen, cursor = 0, None
            while seen < LOOKED_AT:
                page = self.runs(user_id=user_id, limit=100, cursor=cursor, **good)
                yield from page
                seen, cursor = seen + len(page), page.next_cursor
                if cursor is None:
                    return

        return pick(self._asked, candidates(), like=like, limit=limit, tokens=tokens, redact=redact, tools=tools)

    async def aexamples(
        self,
        *,
        user_id: UserId = None,
        like: str | None = None,
        limit: int = 5,
        tokens: int | None = None,
        redact: Redaction | None = None,
        tools: bool = False,
        **filters: Unpack[RunFilters],
    ) -> Examples:
        """As `examples`, for asynchronous callers."""
        return await self._in_thread(
            lambda: self.examples(
                user_id=user_id, like=like, limit=limit, tokens=tokens, redact=redact, tools=tools, **filters
            )
        )

    @tells_damage
    def usage(
        self,
        *,
        user_id: UserId = None,
        by: Group | Sequence[Group] = (),
        zone: str | tzinfo = "UTC",
        **filters: Unpack[RunFilters],
    ) -> UsageTable:
        """What was used: runs, errors, tokens, cost, how long runs took, and until the first part of an answer came.

        Of all that was committed before, on all branches. Cost is what each response cost when it was made; where the
        price of any is not known, it is None, and `known_cost` says what is known.

        ```python
        index.usage(user_id="ada", since=first_of_month).total.cost
        index.usage(user_id=ANY_USER, by=("day", "model"), zone="Europe/Berlin").rows
        ```

        Args:
            user_id: whose; None: sessions without a user; `ANY_USER`: all.
            by: what it is told by: `hour`, `day`, `week` (from Monday) or `month`, in which runs began; `agent` (of
                the run, or of a member's), `model` or `tool`, `user`, `session`, `status`; or several of these.
            zone: the time zone of days and weeks, by name or as a `tzinfo`.
            **filters: which runs, as in `runs`; those of members are always counted, once.

        Raises:
            InvalidInputError: an argument is wrong, or there is no such filter, group or zone.
            StorageError: one of the databases failed.
        """
        whose = self._whose(user_id)
        now = self._caught_up()
        return usage.usage(self._place, now, by=by, zone=zone, whose=whose, filters=filters)

    async def ausage(
        self,
        *,
        user_id: UserId = None,
        by: Group | Sequence[Group] = (),
        zone: str | tzinfo = "UTC",
        **filters: Unpack[RunFilters],
    ) -> UsageTable:
        """As `usage`, for asynchronous callers."""
        return await self._in_thread(lambda: self.usage(user_id=user_id, by=by, zone=zone, **filters))

    @tells_damage
    def choices(self, field: Field, prefix: str = "", *, limit: int = 20, user_id: UserId = None) -> list[str]:
        """What a filter can be set to, as one types: values that begin with a prefix, in order.

        Args:
            field: `user`, `agent`, `model`, `tool`, `label`, `error` or `kind`.
            prefix: how they begin; case matters.
            limit: 1 to 100.
            user_id: of whose runs; None: those without a user; `ANY_USER`: all. Of one user's, what the newest 300
                runs have.

        Raises:
            InvalidInputError: an argument is wrong.
            StorageError: one of the databases failed.
        """
        check_choice(field, "field", tuple(COLUMNS))
        check_count(limit, "limit", least=1, most=100)
        whose = self._whose(user_id)
        self._caught_up()
        return choices(self._place, field, prefix, limit, whose)

    async def achoices(self, field: Field, prefix: str = "", *, limit: int = 20, user_id: UserId = None) -> list[str]:
        """As `choices`, for asynchronous callers."""
        return await self._in_thread(lambda: self.choices(field, prefix, limit=limit, user_id=user_id))

    def _whose(self, user_id: UserId) -> Whose:
        """Whom a question means; refuses a bad user id, and a missing one where the storage requires one."""
        meant = operate(self._asked, _meant, user_id)
        if isinstance(self._asked, UserStorage):
            return Whose(self._asked.user_id, space_of(self._asked.user_id))
        return Whose(meant)

    async def _in_thread(self, question: Callable[[], R]) -> R:
        return await self._worker.run(question)


@tells_damage
def update_beside(index: Index, pace: Pace) -> int:
    """As `index.update()`, at the pace of a process that serves others meanwhile."""
    return index._updated(pace=pace)  # pyright: ignore[reportPrivateUsage] (of the same module)


async def existing_index(storage: Storage) -> Index | None:
    """The index beside the log of a storage, if somebody has made one with words; whoever takes it closes it."""
    try:
        index = Index(storage)
    except InvalidInputError:  # the log lies in no SQL database
        return None
    try:
        there = await index._in_thread(lambda: index.exists() and index._place.is_worded())  # pyright: ignore[reportPrivateUsage] (of the same module)
    except BaseException:
        index.close()
        raise
    if not there:
        index.close()
        return None
    return index


async def _meant(core: Core, user_id: UserId) -> UserId:
    return core.check_user(user_id)
