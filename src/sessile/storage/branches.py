"""Forks (a new session from a point of another one) and rewinding (a new branch in the same session)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from ..errors import AlreadyExistsError, RunNotFoundError, SessionNotFoundError, StorageError
from ..records import FINISHED, MICROSECOND, Entry, Head, JsonObject
from . import fold, patch
from .core import Core, Draft, Snapshot, check_not_building, owned, rows_to_entries
from .driver import CommitRow, Deadline, Span
from .encoding import decode_commit
from .ids import check_optional_id, uuid7
from .media import has_media, read_media, references, write_media
from .reads import check_count
from .writes import creation, state_entries

PAGE = 200
"""How many runs a fork copies at a time."""


async def fork(
    core: Core,
    source: str,
    *,
    at: int | None = None,
    session_id: str | None = None,
    user_id: str | None = None,
    name: str | None = None,
) -> Head:
    """Copy a session up to and including run `at` into a new session, which is independent afterwards.

    The copy has the finished runs of the branch that ends at `at` (default: the current branch), numbered from 1,
    the state as it was after run `at`, metadata, media, and the rolling summary if it tells of these runs only;
    `forked_from` names where it comes from, and its usage counts from zero. It is visible only when it is complete.
    Takes time in proportion to what is copied.

    Raises `SessionNotFoundError`, `RunNotFoundError`, and `AlreadyExistsError` if `session_id` is taken.
    """
    core.check_access(source, user_id)
    check_optional_id(session_id, "session_id")
    target = uuid7() if session_id is None else session_id
    deadline = core.deadline()
    head = await core.head_of(source, user_id, deadline)
    at = head.tip if at is None else at
    _check_run(head, at)
    await _make_room(core, target, deadline)
    states = await _states(core, head, at, deadline)
    created = creation(
        core,
        target,
        user_id=head.user_id,
        owner=head.owner,
        kind=head.kind,
        name=head.name if name is None else name,
        state=states[0],
        metadata=head.metadata,
        ttl=None if head.ttl is None else head.ttl / MICROSECOND,
        forked_from={"session_id": source, "run": at},
        hidden="building",
    )
    copy = await core.append_batch(None, target, [Draft([created()])], deadline)
    try:
        return await _fill(core, head, copy, at, states)
    except BaseException:
        with suppress(StorageError):  # then `sweep` removes it
            await _discard(core, copy)
        raise


async def _discard(core: Core, copy: Head) -> None:
    """Remove a copy that was not completed; one whose last commit has arrived after all is left to its users."""
    deadline = core.deadline()
    found = (await core.look(copy.session_id, deadline)).found
    if found is not None and found.incarnation == copy.incarnation and found.hidden == "building":
        await core.driver.delete(copy.session_id, copy.incarnation, deadline)


async def _fill(core: Core, source: Head, copy: Head, at: int, states: Mapping[int, JsonObject]) -> Head:
    """Copy the runs of the branch that ends at `at`, and make the copy visible."""
    copied: list[int] = []
    for first, last in source.path(at):
        for start in range(first, last + 1, PAGE):
            copy = await _copy_runs(core, source, copy, (start, min(last, start + PAGE - 1)), states, copied)
    now = await core.head_of(source.session_id, source.user_id, core.deadline())
    if now.incarnation != source.incarnation:
        raise _gone(source)
    entries = [*state_entries(copy, patch.diff(copy.state, states[at])), *_summary(source, at, copied)]
    entries.append(Entry(fold.READY))
    return await core.append_batch(copy, copy.session_id, [Draft(entries)], core.deadline())


def _summary(source: Head, at: int, copied: Sequence[int]) -> list[Entry]:
    """The rolling summary, if it is of runs of the branch that was copied, with their numbers in the copy."""
    summary = source.summary
    if summary is None or not any(first <= summary["upto"] <= last for first, last in source.path(at)):
        return []
    return [Entry(fold.SUMMARIZED, {**summary, "upto": bisect_right(copied, summary["upto"])})]


def _gone(source: Head) -> SessionNotFoundError:
    return SessionNotFoundError(f"Session {source.session_id!r} was deleted while it was being copied.")


async def _make_room(core: Core, target: str, deadline: Deadline) -> None:
    snapshot = await core.look(target, deadline)
    check_not_building(snapshot, target)
    if snapshot.head is not None:
        raise AlreadyExistsError(f"There is a session {target!r} already.")
    await core.remove_stale(target, snapshot, deadline)


async def _states(core: Core, head: Head, at: int, deadline: Deadline) -> dict[int, JsonObject]:
    """The state as it was after each run of the branch that ends at `at`; under 0, before the first of them.

    So that a fork can be rewound as its source could. The states share what they have in common.
    """
    path = head.path(at)
    last = 0
    for runs in path:
        newest = Span(runs=runs, limit=1, newest_first=True)
        rows = await core.driver.entries(head.session_id, head.incarnation, newest, deadline)
        last = max(last, rows[0].seq if rows else 0)
    if last == 0:
        return {0: await state_after(core, head, at, deadline)}
    states: dict[int, JsonObject] = {}
    state: JsonObject = {}
    for first in range(1, last + 1, PAGE):
        span = Span(first=first, last=min(last, first + PAGE - 1))
        for row in await core.all_rows(head, span, deadline):
            after = _state_after_commit(state, row)
            if any(start <= row.run <= end for start, end in path):
                states.setdefault(0, state)
                states[row.run] = after
            state = after
    if at not in states:
        raise _gone(head)
    return states


def _state_after_commit(state: JsonObject, row: CommitRow) -> JsonObject:
    for entry in decode_commit(row):
        if entry.kind == fold.CREATED:
            state = entry.data.get("state") or {}
        elif entry.kind == fold.STATE:
            state = patch.apply(state, entry.data["patch"])
    return state


async def _copy_runs(
    core: Core,
    source: Head,
    copy: Head,
    runs: tuple[int, int],
    states: Mapping[int, JsonObject],
    copied: list[int],
) -> Head:
    """Append the finished runs of a range to the copy, with fresh numbers and what each changed in the state.

    Their numbers in the source are added to `copied`.
    """
    deadline = core.deadline()
    by_number: dict[int, list[CommitRow]] = {}
    for row in await core.all_rows(source, Span(runs=runs), deadline):
        by_number.setdefault(row.run, []).append(row)
    drafts: list[Draft] = []
    number, state = copy.run_count, copy.state
    for old, rows in sorted(by_number.items()):
        commits = [[entry for entry in decode_commit(row) if _belongs(entry, old)] for row in rows]
        if old in source.open_runs or not _finished(commits):
            continue
        copied.append(old)
        number += 1
        if sum(len(row.body) for row in rows) * 2 < core.settings.max_commit_bytes:
            commits = [[entry for commit in commits for entry in commit]]
        copies = [[_copied(entry, number) for entry in commit] for commit in commits]
        changes = {"patch": patch.diff(state, states[old]), "undo": patch.diff(states[old], state)}
        if changes["patch"]:
            copies[-1].append(Entry(fold.STATE, changes, commits[0][0].run_id, number))
        state = states[old]
        drafts.extend(Draft(entries, number) for entries in copies if entries)
    for digest in {digest for draft in drafts for entry in draft.entries for digest in references(entry.data)}:
        if await has_media(core, source, digest, deadline):  # what is missing there is missing in the copy
            await write_media(core, copy, digest, await read_media(core, source, digest, deadline), deadline)
    return await core.append_batch(copy, copy.session_id, drafts, deadline)


def _belongs(entry: Entry, run: int) -> bool:
    """Whether an entry is one of the run's own; its commits also note that other runs were interrupted."""
    return entry.run == run and entry.kind != fold.STATE


def _finished(commits: list[list[Entry]]) -> bool:
    """Whether a run's commits come to a finished run."""
    ends = [entry for commit in commits for entry in commit if entry.kind == fold.RUN_ENDED]
    own = [entry for entry in ends if entry.parent_run_id is None]
    return bool(own) and own[-1].data["status"] in FINISHED


def _copied(entry: Entry, number: int) -> Entry:
    data: Any = entry.data
    if entry.kind == fold.RUN_ENDED:
        data = {**data, "copied": True, "ended_at": data.get("ended_at", entry.time)}
    elif entry.kind == fold.RUN_STARTED:
        data = {**data, "until": 0, "started_at": data.get("started_at", entry.time)}
    return Entry(entry.kind, data, entry.run_id, number, entry.parent_run_id, entry.owner, entry.format)


async def rewind(
    core: Core, session_id: str, *, at: int, user_id: str | None = None, restore_state: bool = True
) -> Head:
    """Make run `at` the last one of the current branch (0: begin anew), to edit or regenerate what came after.

    The next run follows run `at`. What is left stays as a branch: `branches` lists it, and rewinding to its tip
    returns to it. The state becomes what it was after run `at`, unless `restore_state` is False. One commit; reads
    the log back to run `at`.

    Raises `SessionNotFoundError` and `RunNotFoundError`.
    """
    core.check_access(session_id, user_id)
    check_count(at, "at", least=0)
    deadline = core.deadline()

    async def change(snapshot: Snapshot) -> Draft:
        head = owned(snapshot.head, session_id, user_id)
        _check_run(head, at)
        entries = [Entry(fold.REWOUND, {"run": at})]
        if restore_state:
            state = await state_after(core, head, at, deadline)
            entries.extend(state_entries(head, patch.diff(head.state, state)))
        return Draft(entries)

    committed = await core.commit(session_id, change, deadline)
    assert committed is not None, "this change always drafts something"
    return committed.head


async def state_after(core: Core, head: Head, run: int, deadline: Deadline) -> JsonObject:
    """The session's state as it was after the last commit of a run; 0: before the first run."""
    boundary = await _boundary(core, head, run, deadline)
    state = head.state
    last = head.revision
    while last > boundary:
        span = Span(first=boundary + 1, last=last, limit=200, newest_first=True)
        rows = await core.driver.entries(head.session_id, head.incarnation, span, deadline)
        if not rows:
            break
        for entry in reversed(rows_to_entries(rows)):
            if entry.kind == fold.STATE:
                state = patch.apply(state, entry.data["undo"])
        last = rows[-1].seq - 1
    return state


async def _boundary(core: Core, head: Head, run: int, deadline: Deadline) -> int:
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


def _check_run(head: Head, at: int) -> None:
    check_count(at, "at", least=0)
    if at > head.run_count:
        raise RunNotFoundError(f"Session {head.session_id!r} has no run {at}; its last one is {head.run_count}.")
