"""What changes, as it changes: one look at the database serves all streams of a process, one stream a whole page."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NamedTuple

from ..errors import SessileError
from ..records import ANY_USER, JsonObject, Session, datetime_of
from ..storage.core import Core
from ..storage.encoding import encode
from ..storage.storage import aoperate, removals_of
from ..storage.users import said_id, space_of
from .serving import Server, View
from .shown import session_shown
from .streams import POLL_SECONDS, run_frames
from .work import Place, cancelled

logger = logging.getLogger("sessile.server")

MOST = 500
"""After so many changes that one has missed, one looks at the list anew."""

MOST_RUNS = 20
"""How many runs of a session are told that have begun since one has looked."""

FIRST = 50
"""How many of the newest sessions a stream begins with."""

WATCHED = 200
"""Of how many sessions, those that it was told of last, a stream is told when another process has removed them."""

GONE_SECONDS = 5.0
"""How often is looked for those: what was removed is among no changes."""

AT_ONCE = 200
"""How many of those are looked for at once, in about; where there are very many pages, they have turns."""

ELSEWHERE = 10
"""How many at once where the database is no SQL database, and each may be a request of its own that costs money."""

LINGERS = 60.0
"""How long changes are still looked at when the last stream has ended: mostly it comes again."""


class Watched(NamedTuple):
    """A session that a page may show, and until when there is one, in microseconds UTC."""

    incarnation: str
    expires_us: int | None


@dataclass(eq=False)
class Reader:
    """One stream, and what it has not been told yet: of each session only how it is now, however slow the reader is.

    Attributes:
        changed: by their stored ids.
        gone: stored ids of sessions that were deleted.
        watched: the sessions that the page may show, by their stored ids.
        moment: up to when it knows everything, microseconds UTC.
        missed: whether so much has changed that it has to look anew.
    """

    changed: dict[str, Session] = field(default_factory=dict[str, Session])
    gone: set[str] = field(default_factory=set[str])
    watched: dict[str, Watched] = field(default_factory=dict[str, "Watched"])
    moment: int = 0
    missed: bool = False
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def lose(self, session_id: str, incarnation: str) -> None:
        """A session was removed, which another one of the same id may have followed."""
        changed, watched = self.changed.get(session_id), self.watched.get(session_id)
        if any(one is not None and incarnation not in ("", one.incarnation) for one in (changed, watched)):
            return
        self.changed.pop(session_id, None)
        self.watched.pop(session_id, None)
        self.gone.add(session_id)
        self.news.set()

    def watch(self, sessions: Iterable[tuple[str, Session]]) -> None:
        """The page shows these, too, by stored id: it is to hear when they are removed, or have expired."""
        for session_id, one in sessions:
            self.watched.pop(session_id, None)
            self.watched[session_id] = Watched(one.incarnation, one.expires_us)
        for session_id in list(self.watched)[:-WATCHED]:
            del self.watched[session_id]

    def tell(self, sessions: Sequence[Session], moment: int) -> None:
        """Something has changed."""
        for one in sessions:
            if one.hidden == "deleted":
                self.lose(one.session_id, one.incarnation)
            else:
                self.gone.discard(one.session_id)
                self.changed[one.session_id] = one
        if len(self.changed) + len(self.gone) > MOST:
            self.missed = True
            self.changed, self.gone = {}, set()
        self.moment = moment
        if sessions:
            self.news.set()


class Changes:
    """Looks at what has changed, as long as anybody wants to know."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._readers: set[Reader] = set()
        self._task: asyncio.Task[None] | None = None
        self._poked = asyncio.Event()
        self._seen: dict[tuple[str, str], tuple[int, int]] = {}
        self._moment = 0
        self._complete_from = 0
        self._gone: deque[tuple[int, str]] = deque(maxlen=MOST)
        self._left: dict[str, Watched] = {}
        self._left_at = self._looked_at = 0.0
        self._turn = self._looks = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    def _removed(self, session_id: str, incarnation: str) -> None:
        """This process has removed a session, from whatever thread; rows that are gone are among no changes."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._tell_gone, session_id, incarnation)

    def _tell_gone(self, session_id: str, incarnation: str) -> None:
        if len(self._gone) == self._gone.maxlen:
            self._complete_from = self._gone[0][0] + 1
        self._gone.append((self._moment, session_id))
        for reader in self._readers:
            reader.lose(session_id, incarnation)

    def gone_since(self, moment: int) -> list[str] | None:
        """The stored ids of sessions that were removed since then; None where that is not known any more."""
        if moment < self._complete_from:
            return None
        return [session_id for at, session_id in self._gone if at >= moment]

    def poke(self) -> None:
        """Look now: something has just changed here."""
        self._poked.set()

    async def join(self) -> Reader:
        """Be told of what changes from now on, until `leave`."""
        reader, self._loop = Reader(), asyncio.get_running_loop()
        if self._task is None or self._task.done():
            page = await self._server.storage.asessions(user_id=ANY_USER, limit=1)
            if self._task is None or self._task.done():
                self._moment, self._seen = page.items[0].updated_us if page.items else 0, {}
                self._complete_from = self._moment
                self._gone.clear()
                self._task = asyncio.create_task(self._look_on())
                removals_of(self._server.storage).append(self._removed)
        reader.moment = self._moment
        self._readers.add(reader)
        return reader

    def leave(self, reader: Reader) -> None:
        """Be told nothing more; what it was told of is watched on, until it comes again."""
        self._readers.discard(reader)
        self._left |= reader.watched
        for session_id in list(self._left)[:-AT_ONCE]:
            del self._left[session_id]
        self._left_at = time.monotonic()

    async def end(self) -> None:
        """Look no more."""
        if self._task is not None:
            await cancelled([self._task])

    async def _look_on(self) -> None:
        try:
            while not self._server.stopping and (self._readers or time.monotonic() - self._left_at < LINGERS):
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_SECONDS * 2):
                        await self._poked.wait()
                self._poked.clear()
                try:
                    await self._look()
                    await self._look_for_removed()
                except SessileError as error:
                    logger.warning("It could not be seen what has changed: %s", error)
        finally:
            self._task, self._left = None, {}
            with suppress(ValueError):
                removals_of(self._server.storage).remove(self._removed)

    async def _look_for_removed(self) -> None:
        """Other processes remove sessions, too, or let them expire: those that pages show are looked for."""
        if time.monotonic() - self._looked_at < GONE_SECONDS:
            return
        self._looked_at = time.monotonic()
        if time.monotonic() - self._left_at > LINGERS:
            self._left = {}
        watched, readers = dict(self._left), list(self._readers)
        first, self._turn = self._turn, self._turn + len(readers)
        for number in range(first, self._turn):
            watched |= readers[number % len(readers)].watched
            if len(watched) >= 2 * AT_ONCE:
                self._turn = number + 1
                break
        looked = self._looks = self._looks + 1
        for session_id in await aoperate(self._server.storage, _removed, watched, looked):
            self._left.pop(session_id, None)
            self._tell_gone(session_id, watched[session_id].incarnation)

    async def _look(self) -> None:
        sessions, moment = await changed_since(self._server, self._moment)
        news: list[Session] = []
        for one in sessions:
            key = (one.session_id, one.incarnation)
            if self._seen.get(key, (0, 0))[0] < one.revision:
                self._seen[key] = (one.revision, one.updated_us)
                news.append(one)
        self._moment = moment
        self._seen = {key: known for key, known in self._seen.items() if known[1] >= moment}
        for reader in self._readers:
            reader.tell(news, moment)


async def _removed(core: Core, watched: Mapping[str, Watched], look: int) -> list[str]:
    """Which of these are there no more: in one round trip, or, where that is not to be had, of some at each look."""
    await core.prepare(core.deadline())
    await core.set_clock(core.deadline())
    now = core.clock.now()
    living = [
        (name, one.incarnation) for name, one in watched.items() if one.expires_us is None or one.expires_us > now
    ]
    there = {session_id for session_id, _ in living}
    if len(living) > ELSEWHERE and core.driver.beside() is None:
        first = look * ELSEWHERE % len(living)
        living = (living + living)[first : first + ELSEWHERE]
    found = await core.driver.newest(living, 1, core.deadline()) if living else []
    there -= {session_id for (session_id, _), rows in zip(living, found, strict=True) if not rows}
    return [session_id for session_id in watched if session_id not in there]


async def changed_since(server: Server, moment: int, *, most: int | None = None) -> tuple[list[Session], int]:
    """Which sessions that lists have, or had, have changed since a moment; and up to when that is all.

    No more than about `most`, if that is given.
    """
    since: datetime = datetime_of(moment)
    found: list[Session] = []
    cursor, complete = None, moment
    while True:
        page = await server.storage.achanged_sessions(since, user_id=ANY_USER, limit=200, cursor=cursor)
        complete = page.complete_until_us if cursor is None else complete
        found += [one for one in page if one.hidden in (None, "deleted")]
        cursor = page.next_cursor
        if cursor is None or (most is not None and len(found) > most):
            return found, complete


# ---------------------------------------------------------------- streams


@dataclass(slots=True)
class Followed:
    """How far a page has read: up to which moment, and of the session that it shows which run, and how far in that."""

    moment: int = 0
    number: int = 0
    place: Place = field(default_factory=Place)

    @classmethod
    def of(cls, text: str | None) -> Followed:
        """What a `Last-Event-ID` of such a stream names; the beginning, if it names none."""
        moment, _, rest = (text or "").partition(".")
        number, _, place = rest.partition(".")
        if not all(one.isascii() and one.isdigit() and len(one) < 17 for one in (moment, number)):
            return cls()
        return cls(int(moment), int(number), Place.of(place))

    def __str__(self) -> str:
        return f"{self.moment}.{self.number}.{self.place}"


class Told(NamedTuple):
    """An event of a run of the session that the page shows, and how far one has read who has it."""

    number: int
    place: Place
    data: str


async def changes(
    view: View, user_id: str | None, session_id: str | None, at: Followed, *, once: bool
) -> AsyncGenerator[bytes]:
    """Server-sent events: `sessions` that have changed, and, as `run`, what the session tells that the page shows."""
    hub = hub_of(view.server)
    reader = await hub.join()
    told: asyncio.Queue[Told] = asyncio.Queue(16)
    following: asyncio.Task[None] | None = None
    try:
        if session_id is not None:
            await _begin_after(view, session_id, at)
        yield await _first(view, user_id, reader, at)
        if once:
            return
        moved = asyncio.Event()
        if session_id is not None:
            following = asyncio.create_task(_follow(view, session_id, replace(at), moved, told))
        while True:
            async for one in _next(reader, told):
                at.number, at.place = one.number, one.place
                yield f"id: {at}\nevent: run\ndata: {one.data}\n\n".encode("utf-8", "backslashreplace")
            if reader.news.is_set():
                reader.news.clear()
                moved.set()
                if (piece := await _news(view, user_id, reader, at)) is not None:
                    yield piece
    finally:
        hub.leave(reader)
        if following is not None:
            following.cancel()


async def _next(reader: Reader, told: asyncio.Queue[Told]) -> AsyncGenerator[Told]:
    """What the session tells, until other news have come."""
    news = asyncio.ensure_future(reader.news.wait())
    coming = asyncio.ensure_future(told.get())
    try:
        await asyncio.wait([news, coming], return_when=asyncio.FIRST_COMPLETED)
        if coming.done():
            yield coming.result()
            while not told.empty() and not news.done():
                yield told.get_nowait()
    finally:
        news.cancel()
        coming.cancel()


async def _first(view: View, user_id: str | None, reader: Reader, at: Followed) -> bytes:
    gone = hub_of(view.server).gone_since(at.moment) if at.moment else None
    if gone is not None:
        missed, moment = await changed_since(view.server, at.moment, most=MOST)
        if len(missed) <= MOST:
            again = Reader()
            again.tell(missed, moment)
            for session_id in gone:
                if session_id not in again.changed:  # or it was rebuilt
                    again.lose(session_id, "")
            reader.watch(_own(view, user_id, again))
            at.moment = min(moment, reader.moment) if reader.moment else moment
            return _sessions(at, _seen(view, user_id, again), _gone(view, user_id, again))
    return await _anew(view, user_id, reader, at)


async def _anew(view: View, user_id: str | None, reader: Reader, at: Followed) -> bytes:
    page = await view.storage.asessions(user_id=view.whose(user_id), limit=FIRST)
    at.moment = reader.moment
    reader.watch((view.stored_id(one.session_id), one) for one in page)
    return _sessions(at, [session_shown(one) for one in page], [], first=True)


async def _news(view: View, user_id: str | None, reader: Reader, at: Followed) -> bytes | None:
    if reader.missed:
        reader.missed = False
        return await _anew(view, user_id, reader, at)
    at.moment = reader.moment
    reader.watch(_own(view, user_id, reader))
    shown, gone = _seen(view, user_id, reader), _gone(view, user_id, reader)
    reader.changed, reader.gone = {}, set()
    return _sessions(at, shown, gone) if shown or gone else None


def _sessions(at: Followed, items: list[JsonObject], gone: list[str], *, first: bool = False) -> bytes:
    data = encode({"items": items, "gone": gone, "first": first})
    return f"id: {at}\nevent: sessions\ndata: {data}\n\n".encode("utf-8", "backslashreplace")


def _said(view: View, user_id: str | None, stored_id: str, owner: str | None) -> str | None:
    """A session's id as this caller says it; None if it is not among those that the stream is about."""
    if view.is_administrator:
        return stored_id if user_id is None or owner == user_id else None
    space = space_of(view.caller.user_id or "")
    return said_id(stored_id, view.caller.user_id) if stored_id.startswith(space) else None


def _own(view: View, user_id: str | None, reader: Reader) -> list[tuple[str, Session]]:
    """Of the sessions that have changed those that the stream is about, by their stored ids."""
    return [
        (stored_id, one)
        for stored_id, one in reader.changed.items()
        if _said(view, user_id, stored_id, one.user_id) is not None
    ]


def _seen(view: View, user_id: str | None, reader: Reader) -> list[JsonObject]:
    shown: list[JsonObject] = []
    for stored_id, session in sorted(reader.changed.items(), key=lambda item: item[1].updated_us):
        said = _said(view, user_id, stored_id, session.user_id)
        if said is not None:
            shown.append({**session_shown(session), "session_id": said})
    return shown


def _gone(view: View, user_id: str | None, reader: Reader) -> list[str]:
    """The sessions that were deleted, as this caller calls them."""
    said = [_said(view, None, stored_id, None) for stored_id in sorted(reader.gone)]
    return [one for one in said if one is not None]


async def _follow(view: View, session_id: str, at: Followed, moved: asyncio.Event, told: asyncio.Queue[Told]) -> None:
    """What the runs of a session tell as they work, one after the other, also those that other processes begin."""
    while True:
        moved.clear()
        with suppress(SessileError):
            for number in await _to_follow(view, session_id, at):
                if number != at.number:
                    at.number, at.place = number, Place()
                async for frame in run_frames(view, session_id, number, at.place):
                    at.place = frame.place
                    about = encode({"session_id": session_id, "number": number, "event": frame.event})
                    await told.put(Told(number, frame.place, f'{about[:-1]},"data":{frame.data}}}'))
        await moved.wait()


async def _begin_after(view: View, session_id: str, at: Followed) -> None:
    """Where a page begins to read along that has not read anything: with the runs in progress, or the next one."""
    session = await view.storage.aget_session(session_id, user_id=view.reads)
    if session is None or at.number or at.place.ended:
        return
    at_work = [number for number, run in session.open_runs.items() if run.status == "running"]
    at.number, at.place = min(at_work, default=session.run_count + 1) - 1, Place(ended=True)


async def _to_follow(view: View, session_id: str, at: Followed) -> list[int]:
    """The run that was begun to be read, and those that have begun since; of very many the newest."""
    session = await view.storage.aget_session(session_id, user_id=view.reads)
    if session is None:
        return []
    numbers = list(range(at.number + 1, session.run_count + 1))[-MOST_RUNS:]
    return numbers if at.place.ended or not at.number else [at.number, *numbers]


def hub_of(server: Server) -> Changes:
    """What looks at changes for all streams of this process."""
    if not isinstance(server.changes, Changes):
        hub = server.changes = Changes(server)
        server.work.on_change = hub.poke
    return server.changes
