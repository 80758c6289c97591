"""Forks (a new session from a point of another one) and rewinding (a new branch in the same session)."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..errors import AlreadyExistsError, CorruptDataError, RunNotFoundError, SessionNotFoundError, StorageError
from ..records import FINISHED, Entry, JsonObject, Session, UserId
from . import patch
from .checks import check_count
from .computing import compute
from .core import Core
from .driver import CommitRow, Deadline, Span
from .encoding import decode_commit
from .files import copy_files
from .ids import check_session_id, uuid7
from .media import has_media, read_media, references, write_media
from .readable import rows_to_entries
from .runs import MissingRunsError
from .snapshots import Draft, Snapshot, check_not_building, owned
from .state import state_entries
from .vocabulary import RunEnded, SessionReady, SessionRewound, SessionSummarized, StatePatched, kind_of
from .withholding import damage_of
from .writes import creation, shown

PAGE = 25
"""How many runs a fork copies, and how many commits it reads, at a time: their states are held together."""

PAGE_BYTES = 4 * 1024 * 1024
"""How many bytes of commits are looked for at a time: a state that is changed whole stands twice in each of them."""


@dataclass(slots=True, frozen=True)
class Part:
    """A part of one more run, with which a copy ends.

    Attributes:
        drafts: its commits, of the number that it gets in the copy.
        changes: what it had changed in the state by then.
        of: the number of that run.
        upto: the revision whose files the copy has; None: those of the moment when the run began.
        incarnation: of the session that the run was read from.
    """

    drafts: Callable[[int], list[Draft]]
    changes: patch.Patch
    of: int
    upto: int | None
    incarnation: str


async def fork(
    core: Core,
    source: str,
    *,
    at: int | None = None,
    session_id: str | None = None,
    user_id: UserId = None,
    name: str | None = None,
    last: Part | None = None,
) -> Session:
    """See `Storage.fork`. With `last` the copy ends with a part of one more run."""
    user_id = core.check_access(source, user_id)
    target = uuid7() if session_id is None else check_session_id(session_id)
    deadline = core.deadline()
    head = await core.head_of(source, user_id, deadline)
    if last is not None and last.incarnation != head.incarnation:  # made again, perhaps by another user
        raise _gone(head)
    at = head.tip if at is None else at
    _check_run(head, at)
    await _make_room(core, target, deadline)
    timeline = _Timeline(core, head)
    state = await _state_before(core, head, at, timeline, deadline)

    def make() -> Any:
        return creation(
            core,
            target,
            user_id=head.user_id,
            agent=head.agent,
            kind=head.kind,
            name=head.name if name is None else name,
            state=state,
            metadata=head.metadata,
            ttl=head.ttl,
            own_ttl=True,
            forked_from={"session_id": source, "run": at},
            hidden="building",
        )

    created = await compute(core.driver, make, state)
    copy = await core.append_batch(None, target, [Draft([created()])], deadline)
    try:
        return await _fill(core, head, copy, at, timeline, last)
    except BaseException:
        with suppress(StorageError):  # then `sweep` removes it
            await _discard(core, copy)
        raise


async def _discard(core: Core, copy: Session) -> None:
    """Remove a copy that was not completed; one whose last commit has arrived after all is left to its users."""
    deadline = core.deadline()
    found = (await core.look(copy.session_id, deadline)).found
    if found is not None and found.incarnation == copy.incarnation and found.hidden == "building":
        await core.remove(copy.session_id, copy.incarnation, deadline)


async def _fill(
    core: Core, source: Session, copy: Session, at: int, timeline: _Timeline, last_part: Part | None
) -> Session:
    """Copy the runs of the branch that ends at `at`, and make the copy visible."""
    copied: list[int] = []
    size = 1
    for first, last in source.path(at):
        while first <= last:
            runs = (first, min(last, first + size - 1))
            copy, read = await _copy_runs(core, source, copy, runs, timeline, copied)
            first = runs[1] + 1
            size = max(1, size // 2) if read > PAGE_BYTES else min(PAGE, size * 2)
    if last_part is not None:
        drafts = last_part.drafts(copy.run_count + 1)
        await _copy_media(core, source, copy, _references(drafts), core.deadline())
        copy = await core.append_batch(copy, copy.session_id, drafts, core.deadline())
    now = await core.head_of(source.session_id, source.user_id, core.deadline())
    if now.incarnation != source.incarnation:
        raise _gone(source)
    copy = await copy_files(core, source, copy, await _moment(core, source, at, last_part))
    state = await state_after(core, source, at, core.deadline())
    if last_part is not None and last_part.changes:
        state = await compute(core.driver, lambda: patch.apply(state, last_part.changes), state)
    changes = await state_entries(core.driver, copy, lambda now: patch.diff(now, state), given=state)
    entries = [*changes, *_summary(source, at, copied)]
    entries.append(SessionReady().entry())
    return await core.append_batch(copy, copy.session_id, [Draft(entries)], core.deadline())


async def _moment(core: Core, source: Session, at: int, last: Part | None) -> int:
    """The revision whose files a copy has."""
    if last is None:
        return source.revision if at == source.tip else await _boundary(core, source, at, core.deadline())
    if last.upto is not None:
        return last.upto
    span = Span(runs=(last.of, last.of), limit=1)
    rows = await core.driver.entries(source.session_id, source.incarnation, span, core.deadline())
    if not rows:
        raise MissingRunsError(source, (last.of, last.of))
    return rows[0].seq


def _summary(source: Session, at: int, copied: Sequence[int]) -> list[Entry]:
    """The rolling summary, if it is of runs of the branch that was copied, with their numbers in the copy."""
    if source.summary is None:
        return []
    summary = SessionSummarized.of(source.summary)
    if not any(first <= summary.upto <= last for first, last in source.path(at)):
        return []
    unfinished = [bisect_right(copied, number) for number in summary.unfinished or () if number in copied]
    return [summary.but(upto=bisect_right(copied, summary.upto), unfinished=unfinished or None).entry()]


def _gone(source: Session) -> SessionNotFoundError:
    return SessionNotFoundError(f"Session {source.session_id!r} was deleted while it was being copied.")


async def _make_room(core: Core, target: str, deadline: Deadline) -> None:
    snapshot = await core.look(target, deadline)
    check_not_building(snapshot, target)
    if snapshot.head is not None:
        raise AlreadyExistsError(f"There is a session {target!r} already.")
    await core.remove_stale(target, snapshot, deadline)


class _Timeline:
    """The states of a session, one after the other: each is made of the one before, and only one is held.

    So that a fork can be rewound as its source could.
    """

    def __init__(self, core: Core, head: Session) -> None:
        self._core, self._head = core, head
        self._state: JsonObject = {}
        self._seq = 0

    async def at(self, seq: int, deadline: Deadline) -> JsonObject:
        """The state after a commit; mostly they are asked for in the order of the log."""
        most = min(PAGE_BYTES, self._core.settings.max_read_bytes)
        while self._seq != seq:
            later = seq > self._seq
            if later:
                span = Span(first=self._seq + 1, last=min(seq, self._seq + PAGE), max_bytes=most)
            else:
                span = Span(first=max(seq, self._seq - PAGE) + 1, last=self._seq, newest_first=True, max_bytes=most)
            rows = await self._core.driver.entries(self._head.session_id, self._head.incarnation, span, deadline)
            if not rows:
                raise _gone(self._head)
            await compute(self._core.driver, lambda rows=rows, later=later: self._go(rows, later), rows=rows)
        return self._state

    def _go(self, rows: Sequence[CommitRow], later: bool) -> None:
        """Go on, or (not `later`) back, over the next commits."""
        for row in rows:
            entries = decode_commit(row)
            for entry in entries if later else reversed(entries):
                known = kind_of(entry)
                with damaged(entry):
                    self._state = (known.state_after if later else known.state_before)(self._state, entry)
            self._seq = row.seq if later else row.seq - 1


async def _state_before(core: Core, head: Session, at: int, timeline: _Timeline, deadline: Deadline) -> JsonObject:
    """The state before the first run of the branch that ends at `at`."""
    first: list[int] = []
    for runs in head.path(at):
        rows = await core.driver.entries(head.session_id, head.incarnation, Span(runs=runs, limit=1), deadline)
        first += [row.seq for row in rows]
    if not first:
        if at:
            raise _gone(head)
        return await state_after(core, head, at, deadline)
    return await timeline.at(min(first) - 1, deadline)


@contextmanager
def damaged(entry: Entry) -> Generator[None]:
    """Whatever its word cannot make of an entry's data is damage."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise CorruptDataError(f"Commit {entry.seq} is damaged: {damage_of(error)}.") from error


async def _copy_runs(
    core: Core,
    source: Session,
    copy: Session,
    runs: tuple[int, int],
    timeline: _Timeline,
    copied: list[int],
) -> tuple[Session, int]:
    """Append the finished runs of a range to the copy, with fresh numbers and what each changed in the state.

    Their numbers in the source are added to `copied`. Returns the copy, and how many bytes the runs have.
    """
    deadline = core.deadline()
    by_number: dict[int, list[CommitRow]] = {}
    for row in await core.all_rows(source, Span(runs=runs), deadline):
        by_number.setdefault(row.run, []).append(row)
    if not by_number and runs[1] - runs[0] + 1 >= PAGE:
        raise MissingRunsError(source, runs)
    drafts: list[Draft] = []
    number, state = copy.run_count, copy.state
    for old, rows in sorted(by_number.items()):
        # Its commits also note that other runs were interrupted.
        commits = await compute(core.driver, lambda old=old, rows=rows: _of_run(rows, old), rows=rows)
        if old in source.open_runs or not _finished(commits):
            continue
        copied.append(old)
        number += 1
        if sum(len(row.body) for row in rows) * 2 < core.settings.max_commit_bytes:
            commits = [[entry for commit in commits for entry in commit]]
        copy_of = partial(_copies, commits, number)
        copies = await compute(core.driver, copy_of, rows=rows)
        after = await timeline.at(max(row.seq for row in rows), deadline)
        changes = await compute(core.driver, lambda old=state, new=after: _changes(old, new), state, after)
        if changes.patch:
            copies[-1].append(changes.entry(commits[0][0].run_id, number))
        state = after
        drafts.extend(Draft(entries, number) for entries in copies if entries)
    found = await compute(core.driver, partial(_references, drafts), rows=itertools.chain(*by_number.values()))
    await _copy_media(core, source, copy, found, deadline)
    read = sum(len(row.body) for rows in by_number.values() for row in rows)
    return await core.append_batch(copy, copy.session_id, drafts, deadline), read


async def _copy_media(core: Core, source: Session, copy: Session, found: set[str], deadline: Deadline) -> None:
    for digest in found:
        if await has_media(core, source, digest, deadline):  # what is missing there is missing in the copy
            await write_media(core, copy, digest, await read_media(core, source, digest, deadline), deadline)


def _references(drafts: Sequence[Draft]) -> set[str]:
    """The hashes of all media that commits refer to."""
    return {digest for draft in drafts for entry in draft.entries for digest in references(entry.data)}


def _of_run(rows: Sequence[CommitRow], number: int) -> list[list[Entry]]:
    return [[entry for entry in decode_commit(row) if entry.run == number] for row in rows]


def _finished(commits: list[list[Entry]]) -> bool:
    """Whether a run's commits make a finished run."""
    own = [entry for commit in commits for entry in commit if entry.parent_run_id is None]
    status: Any = None
    for entry in own:
        with damaged(entry):
            if (said := RunEnded.read(entry)) is not None:
                status = said.status
    return status in (*FINISHED,)  # compared, not looked up: it may be anything


def _copied(commit: Sequence[Entry], number: int) -> Iterator[Entry]:
    for entry in commit:
        with damaged(entry):
            copy = kind_of(entry).fork(entry, number)
        if copy is not None:
            yield copy


def _copies(commits: Sequence[Sequence[Entry]], number: int) -> list[list[Entry]]:
    return [list(_copied(commit, number)) for commit in commits]


async def rewind(
    core: Core, session_id: str, *, at: int, user_id: UserId = None, restore_state: bool = True
) -> Session:
    """See `Storage.rewind`."""
    user_id = core.check_access(session_id, user_id)
    check_count(at, "at", least=0)
    deadline = core.deadline()

    async def change(snapshot: Snapshot) -> Draft:
        head = owned(snapshot.head, session_id, user_id)
        _check_run(head, at)
        entries = [SessionRewound(run=at).entry()]
        if restore_state:
            state = await state_after(core, head, at, deadline)
            entries += await state_entries(core.driver, head, lambda now: patch.diff(now, state), given=state)
        return Draft(entries, free=True)

    committed = await core.commit(session_id, user_id, change, deadline)
    assert committed is not None, "this change always drafts something"
    return await shown(core, committed.head, deadline)


def _changes(before: JsonObject, after: JsonObject) -> StatePatched:
    return StatePatched(patch=patch.diff(before, after), undo=patch.diff(after, before))


async def state_after(core: Core, head: Session, run: int, deadline: Deadline) -> JsonObject:
    """The session's state as it was after the last commit of a run; 0: before the first run.

    What later runs had changed by then, which worked beside it, is left out.
    """
    boundary = await _boundary(core, head, run, deadline)
    begin = await _overlap(core, head, run, boundary, deadline)
    state = await state_at(core, head, begin, deadline)
    while begin < boundary:
        span = Span(first=begin + 1, last=boundary, limit=200, max_bytes=min(PAGE_BYTES, core.settings.max_read_bytes))
        rows = await core.driver.entries(head.session_id, head.incarnation, span, deadline)
        if not rows:
            break
        state = await compute(core.driver, partial(_forward, state, rows, run), rows=rows)
        begin = rows[-1].seq
    return state


def _forward(state: JsonObject, rows: Sequence[CommitRow], run: int) -> JsonObject:
    """A state with what these commits have changed, but for those of later runs."""
    for row in rows:
        for entry in decode_commit(row):
            if entry.run is None or entry.run <= run:
                with damaged(entry):
                    state = kind_of(entry).state_after(state, entry)
    return state


def _back(state: JsonObject, rows: Sequence[CommitRow]) -> JsonObject:
    """A state without what these commits have changed."""
    for entry in reversed(rows_to_entries(rows)):
        with damaged(entry):
            state = kind_of(entry).state_before(state, entry)
    return state


async def _overlap(core: Core, head: Session, run: int, boundary: int, deadline: Deadline) -> int:
    """The revision before which no later run had committed anything: such ones may have worked beside this one."""
    if run >= head.run_count:
        return boundary
    span = Span(last=boundary, runs=(run + 1, head.run_count), limit=1)
    rows = await core.driver.entries(head.session_id, head.incarnation, span, deadline)
    return rows[0].seq - 1 if rows else boundary


async def state_at(core: Core, head: Session, revision: int, deadline: Deadline) -> JsonObject:
    """The session's state as it was at a revision, by taking back what came later."""
    state = head.state
    last = head.revision
    while last > revision:
        most = min(PAGE_BYTES, core.settings.max_read_bytes)
        span = Span(first=revision + 1, last=last, limit=200, newest_first=True, max_bytes=most)
        rows = await core.driver.entries(head.session_id, head.incarnation, span, deadline)
        if not rows:
            break
        state = await compute(core.driver, partial(_back, state, rows), rows=rows)
        last = rows[-1].seq - 1
    return state


async def _boundary(core: Core, head: Session, run: int, deadline: Deadline) -> int:
    """The revision after which changes of the state came later than the run."""
    if run == 0:
        if head.run_count == 0:
            return head.revision
        first = Span(runs=(1, 1), limit=1)
        rows = await core.driver.entries(head.session_id, head.incarnation, first, deadline)
        return rows[0].seq - 1 if rows else 0
    newest = Span(runs=(run, run), limit=1, newest_first=True)
    rows = await core.driver.entries(head.session_id, head.incarnation, newest, deadline)
    return rows[0].seq if rows else head.revision


def _check_run(head: Session, at: int) -> None:
    check_count(at, "at", least=0)
    if at > head.run_count:
        raise RunNotFoundError(f"Session {head.session_id!r} has no run {at}; its last one is {head.run_count}.")
    if 0 < at <= head.trimmed:
        raise RunNotFoundError(f"What run {at} of session {head.session_id!r} held was removed, and of all before it.")
