"""Bringing an index up to date: what has changed in the log since the last time is read, and entered."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import NamedTuple

from ..errors import CorruptDataError, NewerVersionError, StorageError
from ..records import ANY_USER, MICROSECOND, Run, Session
from ..storage import Storage
from ..storage.bounded import rows_within
from ..storage.checks import LARGEST
from ..storage.core import Core
from ..storage.driver import CommitRow, HeadRow, ListQuery, RunStatement, Span
from ..storage.encoding import decode_head
from ..storage.lists import read_whole
from ..storage.readable import rows_to_entries
from ..storage.runs import build_runs, ranges
from ..storage.storage import operate
from ..storage.tailing import changed_rows
from ..storage.vocabulary import RunStarted, SessionRewritten
from ..storage.withholding import damage_of
from ..tokens import agent_term, count_terms, session_term, user_term
from .behind import Behind
from .damage import callers_own
from .engines import Words, words_of
from .facts import Facts, all_facts
from .lots import batches, one_of
from .place import Place
from .texts import pieces_of, pieces_of_session
from .writing import Indexed, News, Writer

PAGE = 500
"""How many heads are listed at a time."""

RUNS = 50
"""How many runs of a session are read at a time."""

MANY = 10_000
"""If so many runs of a session were rewritten, all of them are read anew."""

BYTES = 16 * 1024 * 1024
"""How much of a session's log is read at a time: fewer runs if they have more, one at least."""

BEHIND = 60 * MICROSECOND
"""How far the place of the next look may lie behind, in microseconds, before it is moved where little has changed."""

QUIET = 10 * MICROSECOND
"""As `BEHIND`, where nothing is looked at until somebody writes: moving it is writing, too."""

FEW = 20
"""So many heads that have changed are looked at again by each look, without more ado."""

MUCH = 1000
"""After how many runs in one look the words are made quick to find, where that is work of its own."""

PATIENCE = 5.0
"""For how many seconds at most it is waited until an engine that lags finds new words."""

WINDOW = (
    "SELECT COUNT(*), MIN(CASE WHEN (CASE WHEN h.hidden OR h.expires_at <= :now"
    " THEN EXISTS (SELECT 1 FROM {sessions} s WHERE s.session_id = h.session_id)"
    " ELSE NOT EXISTS (SELECT 1 FROM {sessions} s WHERE s.session_id = h.session_id AND s.incarnation = h.incarnation"
    " AND s.revision = h.revision AND s.committed_at = h.updated_at) END) THEN h.updated_at END)"
    " FROM {heads} h WHERE h.updated_at >= :since"
)
"""How many heads have changed, and when the first of those that the index does not have as they are, or has still."""

Progress = Callable[[int], None]
"""Is told how many sessions were brought up to date so far."""


class Pace(NamedTuple):
    """How quickly others are to be served beside.

    Attributes:
        runs: about how many are entered in one transaction: writers of the log wait for no longer.
        rest: is called after each of them.
        ahead: whether more is read while the database writes them.
    """

    runs: int
    rest: Callable[[], object]
    ahead: bool = False


QUICK = Pace(500, lambda: None, ahead=True)
"""For who waits for the index."""

SERVED = 1000
"""How many runs at least are entered in one transaction where that keeps no writer of the log waiting."""


class State(NamedTuple):
    """How far the index is.

    Attributes:
        since: all that changed before that is in the index, microseconds UTC.
        round_until: what `since` becomes when the round that is under way has ended; None: none is.
        after_time, after_id: up to where in the list of changes this round is.
    """

    since: int
    round_until: int | None
    after_time: int | None
    after_id: str | None


_STATE = (
    "SELECT since, round_until, after_time, after_id, EXISTS (SELECT 1 FROM {gone}),"
    " (SELECT MIN(expires_at) FROM {sessions} WHERE expires_at > 0), {moment}, worded FROM {state}"
)
"""How far the index is, whether somebody has noted deletions, when the first of its sessions expires, what has been
committed in the database so far, and whether words are entered."""


class Window(NamedTuple):
    """What has changed since a moment, as far as it is not in the index.

    Attributes:
        first: when the first did that is to be looked at.
        heads: how many have, all together.
        seen: the time of this look; None: nobody has looked.
        known: whether the index has all of it.
    """

    first: int
    heads: int = 0
    seen: int | None = None
    known: bool = False


class Standing(NamedTuple):
    """Up to where a session is in the index; `updated_at` is that of its head at that revision."""

    incarnation: str
    revision: int
    updated_at: int


@dataclass(slots=True)
class Look:
    """A page of the list of changes: heads as rows, what cannot be read, where it goes on, and the time."""

    rows: list[HeadRow]
    unreadable: dict[str, str]
    after: tuple[int, str] | None
    now: int
    until: int


class CatchingUp:
    """One look of one process; what others do at the same time does no harm."""

    def __init__(
        self,
        storage: Storage,
        place: Place,
        progress: Progress | None = None,
        gone: Sequence[tuple[str, str]] = (),
        pace: Pace = QUICK,
    ) -> None:
        self._storage = storage
        self._place = place
        self._progress = progress
        self._gone = gone
        self._pace = pace
        self._done = 0
        self._entered = 0
        self._behind = Behind() if pace.ahead else None
        self._lot = max(pace.runs, SERVED) if pace.ahead and place.engine.served else pace.runs

    def run(self) -> int:
        """Bring the index up to date; returns up to when it is complete, microseconds UTC."""
        try:
            complete = self._run()
        finally:
            if self._behind is not None:
                self._behind.wait()
        settling = self._place.engine.settling
        if settling is not None and self._entered >= MUCH:
            with suppress(StorageError):  # only whoever owns the tables may; the server does it in its own time
                self._place.read(settling)
        return complete

    def _run(self) -> int:
        while True:
            sign = self._place.sign()
            *columns, is_gone, expires, moment, worded = self._place.read(_STATE)[0]
            self._place.check_words(worded)
            sign = moment if sign is None else sign
            if is_gone or self._gone:
                self._take_out_gone()
            elif sign is not None and sign == self._place.known:
                now = operate(self._storage, _now)
                if expires is None or expires > now:
                    return now
            state = State(*columns)
            after = None if state.after_time is None or state.after_id is None else (state.after_time, state.after_id)
            window = self._window(state.since) if after is None else Window(state.since)
            look = operate(self._storage, _changes, state.since, after, window)
            if after is None and expires is not None and expires <= look.now:
                self._take_out_expired(look.now)
            changed = self._enter(look)
            until = look.until if state.round_until is None else state.round_until
            if look.after is not None:
                self._move(state, State(state.since, until, *look.after))
                continue
            heads = max(window.heads, len(look.rows))
            behind = BEHIND * FEW // max(heads, FEW)  # the more there are, the sooner they are left behind
            if window.known and not changed and sign is not None:
                self._place.known = sign
                behind = max(behind, QUIET)
            if after is not None or (until - state.since > behind and (changed or heads > FEW)):
                self._move(state, State(max(state.since, until), None, None, None))
            return look.now

    def _window(self, since: int) -> Window:
        """What has changed since a moment that lies behind: most of it is in the index, and need not be listed.

        Where both lie in one database, that is one statement, a hundredth of the time of the list. What comes between
        the two is newer, or comes with the next look, as what comes after the list.
        """
        if not self._place.shared or since <= 0:
            return Window(since)
        now = operate(self._storage, _now)
        count, first = self._place.read(WINDOW, {"since": since, "now": now})[0]
        is_time = isinstance(first, (int, float)) and first < now  # what is none, or is to come, is looked at as well
        return Window(int(first) if is_time else now, int(count), now, first is None)

    def _move(self, old: State, new: State) -> None:
        """Note how far it is, unless another process has gone further meanwhile."""
        columns = ("since", "round_until", "after_time", "after_id")
        sets = ", ".join(f"{column} = :{column}" for column in columns)

        async def work(run: RunStatement) -> None:
            values = {**new._asdict(), "was": old.since}
            await run(self._place.sql(f"UPDATE {{state}} SET {sets} WHERE since = :was"), values)

        self._place.change(work)

    # ------------------------------------------------------------ what is no more

    def _take_out_gone(self) -> None:
        """Take out what was deleted: what has been noted in the same database, and what this process has heard of."""
        gone, self._gone = list(self._gone), ()
        while True:
            rows = self._place.read("SELECT session_id, incarnation FROM {gone} LIMIT 1000")
            gone += [(row[0], row[1]) for row in rows]
            for some in batches(gone):
                self._write(lambda writer, these=some: writer.remove_gone(these))
            if len(rows) < 1000:
                return
            gone = []

    def check(self) -> int:
        """Take out sessions whose deletion nobody has noted; returns how many. Reads the ids of all sessions.

        Those of which the index knows more than the log has are read anew: a backup was put back.
        """
        if self._place.shared:
            sql = (
                "SELECT s.session_id, s.incarnation FROM {sessions} s WHERE NOT EXISTS (SELECT 1 FROM {heads} h"
                " WHERE h.session_id = s.session_id AND h.incarnation = s.incarnation AND NOT h.hidden)"
            )
            gone = [(row[0], row[1]) for row in self._place.read(sql)]
        else:
            rows = self._place.read("SELECT session_id, incarnation, revision, committed_at FROM {sessions}")
            there = operate(self._storage, _all_sessions)
            gone = sorted((row[0], row[1]) for row in rows if (row[0], row[1]) not in there)
            other = [row for row in rows if _is_behind(there.get((row[0], row[1])), Standing(*row[1:]))]
            if other:
                self._read_all_again([(row[0], row[1]) for row in other])
        for some in batches(gone):
            self._write(lambda writer, these=some: writer.remove_gone(these))
        return len(gone)

    def _read_all_again(self, sessions: Sequence[tuple[str, str]]) -> None:
        """Forget these sessions, and look at all of them, also at those that have not changed for long."""
        for some in batches(sessions):
            self._write(lambda writer, these=some: writer.remove_gone(these))

        async def work(run: RunStatement) -> None:
            sql = "UPDATE {state} SET since = 0, round_until = NULL, after_time = NULL, after_id = NULL"
            await run(self._place.sql(sql), {})

        self._place.change(work)
        self.run()

    def _take_out_expired(self, now: int) -> None:
        sql = "SELECT id FROM {sessions} WHERE expires_at <= :now LIMIT 100"
        while expired := [row[0] for row in self._place.read(sql, {"now": now})]:
            self._write(lambda writer, ids=expired: writer.remove_sessions(ids))

    def _write(self, work: Callable[[Writer], object], free: Callable[[], object] = lambda: None) -> None:
        async def change(run: RunStatement) -> None:
            await work(Writer(self._place, run, free))  # pyright: ignore[reportGeneralTypeIssues] (each is a coroutine)

        self._place.change(change)

    # ------------------------------------------------------------ what has changed

    def _enter(self, look: Look) -> int:
        """Read and enter what has changed of these sessions; returns how many have."""
        known = self._known([row.session_id for row in look.rows])
        gone: list[tuple[str, str]] = []
        batch: list[News] = []
        size = changed = 0
        for row in look.rows:
            there = known.get(row.session_id)
            if there is not None and there == (row.incarnation, row.revision, row.updated_at) and not row.hidden:
                continue
            if row.hidden or (row.expires_at is not None and row.expires_at <= look.now):
                if there is not None:
                    gone.append((row.session_id, there.incarnation))
                continue
            changed += 1
            for news in self._read(row, self._still_valid(row, there), look):
                batch.append(news)
                size += 1 + len(news.runs)
                if size >= self._lot or not news.complete:
                    self._flush(batch, last=False)
                    batch, size = [], 0
        self._flush(batch)
        if gone:
            self._write(lambda writer: writer.remove_gone(gone))
        for session_id, problem in look.unreadable.items():
            self._write(lambda writer, one=(session_id, problem): writer.note_unreadable(*one))
        return changed

    def _flush(self, batch: Sequence[News], *, last: bool = True) -> None:
        """Write what was read; the next lot is read while the database writes, unless this is the last one."""
        if self._behind is not None and (not last or self._behind.busy):
            self._behind.do(lambda free: self._put(batch, free))
            if last:
                self._behind.wait()
        else:
            self._put(batch, lambda: None)
        if batch:
            self._entered += sum(1 + len(news.runs) for news in batch)
            self._done += sum(news.complete for news in batch)
            if self._progress is not None:
                with callers_own():
                    self._progress(self._done)
            self._pace.rest()

    def _put(self, batch: Sequence[News], free: Callable[[], object]) -> None:
        if self._place.engine.served:
            free()
        if batch:
            self._write(lambda writer: writer.write(batch), free)
            if self._place.engine.lags and self._place.words:
                for one in (batch[0], batch[-1]):
                    self._await_words(one.head.session_id)

    def _await_words(self, session_id: str) -> None:
        """Wait until the words of a session that was just entered are found."""
        source, key, match, values = self._place.engine.matching([session_term(session_id)])
        join = "{sessions} s ON s.session_id = :session_id"
        all_of_it = f"SELECT COUNT(*) FROM {{runs}} r JOIN {join} AND s.id = r.session"
        found = f"SELECT COUNT(*) FROM {source} JOIN {{runs}} r ON r.id = {key} JOIN {join} AND s.id = r.session"
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            one = {"session_id": session_id}
            there = self._place.read(f"{found} WHERE {match}", {**values, **one})
            if there == self._place.read(all_of_it, one):
                return
            time.sleep(0.005)

    def _known(self, session_ids: Sequence[str]) -> dict[str, Standing]:
        known: dict[str, Standing] = {}
        for some in batches(session_ids):
            condition, values = one_of("session_id", some)
            sql = f"SELECT session_id, incarnation, revision, committed_at FROM {{sessions}} WHERE {condition}"
            known |= {row[0]: Standing(*row[1:]) for row in self._place.read(sql, values)}
        return known

    def _still_valid(self, row: HeadRow, there: Standing | None) -> int:
        """The revision up to which what is known of a session holds; 0 if none of it does.

        A backup that was put back takes the log back, from where it goes another way. An index beside the log goes
        with it; one elsewhere knows runs that there are no more, and forgets the session.
        """
        if there is None or there.incarnation != row.incarnation:
            return 0
        if row.revision < there.revision:  # or another process has read more, since this head was listed
            head = operate(self._storage, read_whole, row)
            other = head is not None and _is_behind(Standing(row.incarnation, head.revision, head.updated_us), there)
        elif row.revision > there.revision and not self._place.shared:
            other = operate(self._storage, _moment_of, row, there.revision) != there.updated_at
        else:
            other = row.revision == there.revision  # and so the times differ
        if not other:
            return there.revision
        self._write(lambda writer: writer.remove_gone([(row.session_id, row.incarnation)]))
        return 0

    def _read(self, row: HeadRow, indexed: int, look: Look) -> Iterator[News]:
        """What is new of a session since the revision that is indexed, a few runs at a time."""
        try:
            head = decode_head(row, with_state=False)
        except (NewerVersionError, CorruptDataError) as error:
            again = operate(self._storage, read_whole, row)
            if again is None:
                look.unreadable[row.session_id] = str(error)
                return
            head = again
        words = _session_words(head) if self._place.words else None
        try:
            numbers, runs = self._touched(head, indexed)
        except (NewerVersionError, CorruptDataError):  # nobody can say which runs have changed
            numbers, runs = range(1, head.run_count + 1), {}
        if runs and all(number in runs for number in numbers):
            problems: dict[int, str] = {}
            yield News(head, numbers, self._indexed(head, list(runs.values()), problems), words, True, problems)
            return
        if not numbers:
            yield News(head, [], [], words)
        for some in batches(numbers, RUNS):
            for part, found, problems in self._read_runs(head, some):
                last = part[-1] == numbers[-1]
                if len(part) == RUNS and not found and not problems:  # the head counts what is not in the log
                    problems[part[0]] = f"Runs {part[0]} to {part[-1]} are not in the log."
                    yield News(head, part, [], words, True, problems)
                    return
                yield News(head, part, self._indexed(head, found, problems), words, last, problems)

    def _indexed(self, head: Session, runs: Sequence[Run], problems: dict[int, str]) -> list[Indexed]:
        """The runs as they are to be written; what nobody here can make out is put among the problems."""
        made: list[Indexed] = []
        for run in runs:
            try:
                found = all_facts([run])
                made += [_with_words(head, one) if self._place.words else Indexed(one, None) for one in found]
            except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
                problems[run.number] = f"Run {run.number} is not what a run can be: {type(error).__name__}."
        return made

    def _touched(self, head: Session, indexed: int) -> tuple[Sequence[int], dict[int, Run]]:
        if indexed == 0:
            return range(1, head.run_count + 1), {}
        return operate(self._storage, _touched, head, indexed)

    def _read_runs(
        self, head: Session, numbers: Sequence[int]
    ) -> Iterator[tuple[Sequence[int], list[Run], dict[int, str]]]:
        """These runs, in parts of bounded size, and why some of them cannot be read."""
        try:
            found = operate(self._storage, _runs, head, numbers)
            if found is not None:
                yield numbers, found, {}
                return
        except (NewerVersionError, CorruptDataError) as error:
            if len(numbers) == 1:
                yield numbers, [], {numbers[0]: str(error)}
                return
        half = len(numbers) // 2
        yield from self._read_runs(head, numbers[:half])
        yield from self._read_runs(head, numbers[half:])


def _session_words(head: Session) -> Words:
    found, _ = count_terms(piece.text for piece in pieces_of_session(head))
    return words_of(found | _marks(head, head.agent))


def _with_words(head: Session, facts: Facts) -> Indexed:
    texts = dict.fromkeys(piece.text for piece in pieces_of(facts.run))  # what was asked stands in a message, too
    found, cut = count_terms(texts)
    found.update(_marks(head, facts.run.agent))
    return Indexed(facts, words_of(found), cut)


def _marks(head: Session, agent: str | None) -> dict[str, int]:
    """Whose, which session's and which agent's words these are, as words that no text has."""
    marks = [user_term(head.user_id), session_term(head.session_id)]
    return dict.fromkeys(marks if agent is None else [*marks, agent_term(agent)], 1)


# ---------------------------------------------------------------- operations on the log


async def _now(core: Core) -> int:
    await core.prepare(core.deadline())
    return core.clock.now()


async def _changes(core: Core, since: int, after: tuple[int, str] | None, window: Window) -> Look:
    """A page of what has changed since a moment, as `tailing.changed` lists it, undecoded: most of it is known.

    It begins where the window does: what changed before that was known not to matter when that was looked at.
    """
    query = ListQuery(user_id=ANY_USER, since=since, after=after, limit=PAGE, with_state=False)
    page, now, complete_until = await changed_rows(core, query, window.first, window.seen)
    unreadable = {session_id: str(error) for session_id, error in page.unreadable.items()}
    return Look(page.rows, unreadable, page.after, now, complete_until)


def _is_behind(now: Standing | None, indexed: Standing) -> bool:
    """Whether the log of a session has less than the index knows, or something else at that revision."""
    if now is None:
        return False
    return now.revision < indexed.revision or (now.revision == indexed.revision and now != indexed)


async def _moment_of(core: Core, row: HeadRow, revision: int) -> int | None:
    """When the commit of a revision was made, if it is there."""
    span = Span(first=revision, last=revision, limit=1)
    rows = await core.driver.entries(row.session_id, row.incarnation, span, core.deadline())
    return rows[0].time if rows else None


async def _all_sessions(core: Core) -> dict[tuple[str, str], Standing]:
    """All sessions that are there, by id and incarnation."""
    await core.prepare(core.deadline())
    found: dict[tuple[str, str], Standing] = {}
    query = ListQuery(user_id=ANY_USER, limit=1000, order="created", with_state=False)
    while True:
        page = await core.driver.list(query, core.deadline())
        for row in page.rows:
            standing = Standing(row.incarnation, row.revision, row.updated_at)
            found[row.session_id, row.incarnation] = standing
        if page.after is None:
            return found
        query = replace(query, after=page.after)


async def _touched(core: Core, head: Session, indexed: int) -> tuple[Sequence[int], dict[int, Run]]:
    """The numbers of the runs that have changed since a revision, and those of them that began after it."""
    numbers, begun = set[int](), dict[int, Run]()
    left, parts = 0, 0
    while left <= 0 and indexed < head.revision:
        span = Span(first=indexed + 1, last=head.revision, limit=head.revision)
        rows, left = await rows_within(core, head, span, core.settings.max_read_bytes, core.deadline())
        numbers.update(row.run for row in rows if row.run > 0)
        for entry in rows_to_entries([row for row in rows if row.run == 0]):
            if (said := SessionRewritten.read(entry)) is not None:
                spans = _spans(said, head.run_count)
                if sum(map(len, spans)) > MANY:
                    return range(1, head.run_count + 1), {}
                numbers.update(number for span in spans for number in span)
        parts += 1
        begun = _begun_in(rows) if parts == 1 and left > 0 else {}  # of larger parts a few are read at a time
        indexed = rows[-1].seq if rows else head.revision
    return sorted(numbers), begun


def _spans(said: SessionRewritten, last_run: int) -> list[range]:
    """Which runs were rewritten, of those that there are."""
    try:
        return [range(max(1, first), min(last, last_run) + 1) for first, last in said.runs]
    except (TypeError, ValueError) as error:
        raise CorruptDataError(f"An entry of {said.KIND} is damaged: {damage_of(error)}.") from error


def _begun_in(rows: Sequence[CommitRow]) -> dict[int, Run]:
    """The runs whose beginning is among these rows, and so all of their commits."""
    try:
        entries = rows_to_entries([row for row in rows if row.run > 0])
        begun = {one.run for one in entries if one.kind == RunStarted.KIND and one.parent_run_id is None}
        return {number: run for number, run in build_runs(entries).items() if number in begun}
    except (NewerVersionError, CorruptDataError):
        return {}  # read one by one, those that can be


async def _runs(core: Core, head: Session, numbers: Sequence[int]) -> list[Run] | None:
    """These runs; None if they are several and have more bytes than are read at a time."""
    found: list[Run] = []
    left = BYTES
    for first, last in ranges(numbers):
        if len(numbers) == 1:
            rows = await core.all_rows(head, Span(runs=(first, last)), core.deadline())
        else:
            span = Span(runs=(first, last), limit=LARGEST)
            rows, left = await rows_within(core, head, span, left, core.deadline())
            if left <= 0:
                return None
        found.extend(build_runs(rows_to_entries(rows)).values())
    return found
