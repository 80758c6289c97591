"""`tail`: what happens in a session, or in all of them, as it happens."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, NamedTuple

import typer

from ..errors import SessionNotFoundError
from ..jsons import record_json
from ..records import ANY_USER, Entry, Message, Session, UserId, micros_of
from ..storage import Storage
from ..storage.vocabulary import MessageAdded, RunEnded, RunNoted, RunStarted
from ..terminal import clean_json, say, say_text
from ..transcripts import clip, message_lines, rating_text, value_text
from .opening import AsJson, First, Second, User, not_found, opened, whose

SHOWN = 160
"""How many characters of an entry are shown."""

AT_ONCE = 100
"""How many entries of one session are read at a time, and how many changed sessions."""

tail_command = typer.Typer()


@tail_command.command()
def tail(
    first: First = None,
    second: Second = None,
    user: User = None,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=0, help="How many of the newest entries to begin with.")
    ] = 10,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Continue with what is committed later.")] = False,
    seconds: Annotated[float | None, typer.Option("--for", min=0, help="Follow for so many seconds.")] = None,
    poll: Annotated[float, typer.Option(min=0.05, help="Seconds between two looks.")] = 0.5,
    json: AsJson = False,
) -> None:
    """Show the newest entries of a session's log, or of all sessions, and with -f what follows, as it happens."""
    if second is None and first is not None and (first == "-" or "://" in first):
        url, session_id = first, None
    else:
        url, session_id = (first, second) if second is not None else (None, first)
    end = None if seconds is None else time.monotonic() + seconds
    with opened(url) as storage:
        news = (
            _of_all(storage, whose(user), lines)
            if session_id is None
            else _of_one(storage, session_id, whose(user), lines)
        )
        for found in news:
            for session, entry in found:
                _print(session, entry, json=json)
            if not follow and end is None:
                return
            if end is not None and time.monotonic() >= end:
                return
            time.sleep(poll if end is None else min(poll, max(0.0, end - time.monotonic())))


News = Iterator[list[tuple[str, Entry]]]


def _of_one(storage: Storage, session_id: str, user: UserId, lines: int) -> News:
    """The newest entries of a session, and then at each look what is new. Ends when the session is gone."""
    newest = storage.tail(session_id, max(1, lines), user_id=user)
    if newest is None:
        raise not_found(session_id)
    yield [(session_id, entry) for entry in reversed(newest.entries[:lines])]
    seen = newest.head.revision
    while True:
        try:
            entries = storage.entries(session_id, after=seen, limit=AT_ONCE, user_id=user)
        except SessionNotFoundError:
            say("Session {} is gone.", session_id, err=True)
            return
        seen = max([seen, *(entry.seq for entry in entries), *entries.unreadable])
        yield [(session_id, entry) for entry in entries]


class _Told(NamedTuple):
    """Up to which revision a session has been told, and when it had changed then."""

    revision: int
    changed_us: int


def _of_all(storage: Storage, user: UserId, lines: int) -> News:
    """The newest entries of all sessions, and then at each look what is new."""
    following = _Following(storage, user)
    heads = storage.sessions(user_id=user, limit=max(1, min(lines, 1000))).items
    found = [one for head in heads for one in _newest(storage, head, lines)] if lines else []
    following.told |= {(head.session_id, head.incarnation): _Told(head.revision, head.updated_us) for head in heads}
    yield sorted(found, key=_in_time)[-lines:] if lines else []
    while True:
        yield following.news()


def _in_time(one: tuple[str, Entry]) -> tuple[int, str, int]:
    return one[1].time_us, one[0], one[1].seq


class _Following:
    """What has been told of the sessions that have changed of late.

    All that was committed before `since` has been told: no commit of that time can come any more, whatever the clocks
    of those who write. So of sessions that have not changed since then nothing needs to be known.
    """

    def __init__(self, storage: Storage, user: UserId) -> None:
        self._storage, self._user = storage, user
        self._since = storage.changed_sessions(user_id=user, limit=1).complete_until
        self.told: dict[tuple[str, str], _Told] = {}
        self._round(silent=True)

    def news(self) -> list[tuple[str, Entry]]:
        """What is new since the last look, in the order of time."""
        found, complete_until = self._round()
        self._since = max(self._since, complete_until)
        since_us = micros_of(self._since)
        self.told = {key: told for key, told in self.told.items() if told.changed_us >= since_us}
        return sorted(found, key=_in_time)

    def _round(self, *, silent: bool = False) -> tuple[list[tuple[str, Entry]], datetime]:
        found: list[tuple[str, Entry]] = []
        cursor: str | None = None
        complete_until: datetime | None = None
        while True:
            page = self._storage.changed_sessions(self._since, user_id=self._user, limit=AT_ONCE, cursor=cursor)
            complete_until = complete_until or page.complete_until
            for head in page:
                key = (head.session_id, head.incarnation)
                told = self.told.get(key)
                if not silent and head.hidden is None:
                    found += self._of(head, told)
                if told is None or head.revision > told.revision:
                    self.told[key] = _Told(head.revision, head.updated_us)
            cursor = page.next_cursor
            if cursor is None:
                return found, complete_until

    def _of(self, head: Session, told: _Told | None) -> list[tuple[str, Entry]]:
        if told is not None:
            return _following(self._storage, head, told.revision)
        return _since(self._storage, head, micros_of(self._since))


def _newest(storage: Storage, head: Session, count: int) -> list[tuple[str, Entry]]:
    """The newest entries of a session up to that of the head, oldest first."""
    newest = storage.tail(head.session_id, max(1, min(count, AT_ONCE)), user_id=ANY_USER)
    entries = () if newest is None else newest.entries[::-1]
    return [(head.session_id, entry) for entry in entries if entry.seq <= head.revision]


def _since(storage: Storage, head: Session, moment: int) -> list[tuple[str, Entry]]:
    """The entries of a session up to that of the head that follow a moment, oldest first."""
    found: list[tuple[str, Entry]] = []
    before: int | None = None
    while True:
        page = storage.tail(head.session_id, AT_ONCE, before=before, user_id=ANY_USER)
        entries = () if page is None else page.entries
        found += [(head.session_id, one) for one in entries if one.seq <= head.revision and one.time_us >= moment]
        before = None if page is None else page.before
        if before is None or (entries and entries[-1].time_us < moment):
            return found[::-1]


def _following(storage: Storage, head: Session, after: int) -> list[tuple[str, Entry]]:
    """What follows a revision, up to that of the head and no further, so that nothing is told twice."""
    found: list[tuple[str, Entry]] = []
    while after < head.revision:
        try:
            entries = storage.entries(head.session_id, after=after, limit=AT_ONCE, user_id=ANY_USER)
        except SessionNotFoundError:
            break
        found += [(head.session_id, entry) for entry in entries if entry.seq <= head.revision]
        reached = max([after, *(entry.seq for entry in entries), *entries.unreadable])
        if reached == after:
            break
        after = reached
    return found


def _print(session_id: str, entry: Entry, *, json: bool) -> None:
    if json:
        say_text(clean_json({"session_id": session_id, **record_json(entry)}))
        return
    clock = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=entry.time_us)).strftime("%H:%M:%S")
    run = "" if entry.run is None else f" run {entry.run}"
    agent = "" if entry.agent is None else f" {entry.agent}"
    for text in _said(entry):
        say("{} {}{}{}: {}", clock, session_id, run, agent, clip(text, SHOWN))


def _said(entry: Entry) -> Iterator[str]:
    """An entry in words."""
    started, ended = RunStarted.read(entry), RunEnded.read(entry)
    if started is not None:
        yield f"begins: {value_text(started.input)}"
    elif ended is not None:
        error = ended.error or {}
        problem = f": {error.get('type')}: {error.get('message')}" if error else ""
        output = "" if ended.output is None else f": {value_text(ended.output)}"
        yield f"{ended.status}{problem or output}"
    elif entry.kind == MessageAdded.KIND:
        said = Message(entry.data, entry.format, entry.run or 0, entry.run_id, entry.agent, entry.seq, entry.time_us)
        for who, text in message_lines(said):
            yield f"{who}: {text}"
    elif entry.kind == RunNoted.KIND:
        rating = RunNoted.rating(entry)
        yield f"rated by {rating.by or rating.source}: {rating_text(rating)}"
    else:
        yield f"{entry.kind} {value_text(entry.data)}"
