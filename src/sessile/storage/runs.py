"""Runs out of entries: grouping a log into runs, and reading the runs of a branch.

A run's entries carry its number, so its messages come out together whatever other runs did meanwhile.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from ..errors import CorruptDataError, NewerVersionError, RunNotFoundError, StorageError
from ..records import FINISHED, Entry, Message, OpenRun, PartialList, Run, Session
from .computing import compute
from .core import Core
from .driver import CommitRow, Deadline, Span
from .encoding import decode_commit
from .leases import is_alive, shown_heads
from .readable import seq_of
from .snapshots import Snapshot
from .threads import check_hurry
from .vocabulary import WORDS, RunStarted, Unknown
from .withholding import damage_of

_TELLING = {kind: known.tell for kind, known in WORDS.items()}


def build_runs(entries: Iterable[Entry | Message]) -> dict[int, Run]:
    """The top-level runs of these entries by number, member and nested runs below them.

    Runs whose start is not among the entries are left out. Messages may come as such (`decode_commit`).
    """
    by_id: dict[tuple[int, str], Run] = {}
    begins, begun, find, telling, other = RunStarted.KIND, RunStarted.begun, by_id.get, _TELLING.get, Unknown.tell
    for entry in entries:
        number, run_id = entry.run, entry.run_id
        if number is None or run_id is None:
            continue
        try:
            if isinstance(entry, Message):
                if (run := find((number, run_id))) is not None:
                    run.messages.append(entry)
            elif entry.kind == begins:
                check_hurry()
                by_id[number, run_id] = begun(entry)  # a caller may have given two runs one id
            elif (run := find((number, run_id))) is not None:
                telling(entry.kind, other)(run, entry)
        except (KeyError, TypeError, AttributeError) as error:
            raise CorruptDataError(f"Commit {entry.seq} is damaged: {damage_of(error)}.") from error
    return _top(by_id)


def _top(by_id: Mapping[tuple[int, str], Run]) -> dict[int, Run]:
    """The top-level runs of these by number, with the others below them."""
    top: dict[int, Run] = {}
    for run in by_id.values():
        if type(run.status) is not str:
            raise CorruptDataError(f"Run {run.number} is damaged: its status is no text.")
        above = by_id.get((run.number, run.parent_run_id)) if run.parent_run_id else None
        if above is not None:
            above.children.append(run)
        elif run.parent_run_id is None:
            top[run.number] = run
    for run in top.values():
        if run.children:
            _settle(run)
    return top


DEEPEST = 100
"""How many runs may lie one below the other: who goes through them does so by recursion."""


def _settle(run: Run, depth: int = 0) -> None:
    """Count what members have used with the run above them; and none of them is running when that is not."""
    if depth > DEEPEST:
        raise CorruptDataError(f"Run {run.number} is damaged: more than {DEEPEST} runs lie one below the other.")
    for child in run.children:
        if run.status == "cancelled" and child.status not in FINISHED:
            child.status = "cancelled"
        if child.status == "running" and run.status != "running":
            child.status = "interrupted"
        _settle(child, depth + 1)
        run.usage = run.usage + child.usage


async def read_runs(core: Core, snapshot: Snapshot, numbers: Sequence[int], deadline: Deadline) -> PartialList[Run]:
    """These runs (ascending numbers), out of the snapshot's newest page where it holds them, else by index.

    Those that cannot be read are named beside the others, and logged once.
    """
    head = snapshot.head
    if head is None or not numbers:
        return PartialList()
    runs = await compute(core.driver, lambda: runs_in(snapshot.rows, numbers), rows=snapshot.rows)
    unreadable: dict[int, StorageError] = {}
    missing = [number for number in numbers if number not in runs]
    for first, last in ranges(missing):
        rows = await core.all_rows(head, Span(runs=(first, last)), deadline)
        found = await compute(core.driver, lambda rows=rows: runs_of(rows, unreadable), rows=rows)
        runs.update(found)
    await name_missing(core, head, numbers, runs, unreadable, deadline)
    for number, error in unreadable.items():
        core.skipped(head.session_id, f"Run {number}", error)
    there = PartialList([runs[number] for number in numbers if number in runs], unreadable)
    await mark_interrupted(core, snapshot, there, deadline)
    return there


class MissingRunsError(CorruptDataError):
    """Runs are not in the log that the head counts. Where that is a whole page, none is looked for beyond it."""

    def __init__(self, head: Session, numbers: Sequence[int]) -> None:
        first, last = numbers[0], numbers[-1]
        which = f"run {first} is" if first == last else f"runs {first} to {last} are"
        super().__init__(f"Session {head.session_id!r} counts what is not in its log: {which} missing.")


async def name_missing(
    core: Core,
    head: Session,
    numbers: Iterable[int],
    runs: Collection[int],
    unreadable: dict[int, StorageError],
    deadline: Deadline,
) -> None:
    """Put what the head counts of these runs, and the log has not, into `unreadable`: a range by its last number.

    A run that was removed meanwhile is not missing: that is what another look at the head is for.
    """
    missing = [number for number in numbers if number not in runs and number not in unreadable]
    if not missing:
        return
    now = (await core.look(head.session_id, deadline)).head
    if now is None or now.incarnation != head.incarnation:
        return
    counted = [number for number in missing if now.trimmed < number <= now.run_count]
    for first, last in ranges(counted):
        unreadable[last] = MissingRunsError(head, (first, last))


def only_missing(found: PartialList[Run]) -> bool:
    """Whether nothing was found but that runs are missing."""
    return not found and all(isinstance(error, MissingRunsError) for error in found.unreadable.values())


async def read_run(core: Core, snapshot: Snapshot, number: int, deadline: Deadline) -> Run:
    """One run; raises why it cannot be read, or `RunNotFoundError`."""
    found = await read_runs(core, snapshot, [number], deadline)
    for error in found.unreadable.values():
        raise error
    if not found:
        session_id = "" if snapshot.head is None else snapshot.head.session_id
        raise RunNotFoundError(f"Session {session_id!r} has no run {number}.")
    return found[0]


def runs_in(rows: Sequence[CommitRow], numbers: Sequence[int]) -> dict[int, Run]:
    """Those of these runs whose start is among the rows, and which can be read, decoding no other commits."""
    wanted = set(numbers)
    return runs_of([row for row in rows if row.run in wanted], {})


def runs_of(rows: Sequence[CommitRow], unreadable: dict[int, StorageError]) -> dict[int, Run]:
    """The runs of these commits; those of which anything cannot be read are left out, and put into `unreadable`.

    A part of a run would be taken for all of it.
    """
    entries: list[Entry | Message] = []
    for row in sorted(rows, key=seq_of):
        try:
            entries += decode_commit(row, messages=True)
        except (NewerVersionError, CorruptDataError) as error:
            unreadable[row.run] = error
    try:
        runs = build_runs(entries)
    except CorruptDataError:
        runs: dict[int, Run] = {}
        for number in {entry.run for entry in entries if entry.run is not None}:
            try:
                runs.update(build_runs([entry for entry in entries if entry.run == number]))
            except CorruptDataError as error:
                unreadable[number] = error
    return {number: run for number, run in runs.items() if number not in unreadable} if unreadable else runs


def ranges(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Ascending numbers as ranges `(first, last)` without gaps."""
    result: list[tuple[int, int]] = []
    for number in numbers:
        if result and result[-1][1] == number - 1:
            result[-1] = (result[-1][0], number)
        else:
            result.append((number, number))
    return result


async def mark_interrupted(core: Core, snapshot: Snapshot, runs: Iterable[Run], deadline: Deadline) -> None:
    """Report runs as interrupted whose process is gone, before anybody has written that down."""
    head = snapshot.head
    if head is None:
        return
    for run in runs:
        if run.status != "running" or run.number > head.run_count:
            continue
        opened = head.open_runs.get(run.number)  # None: the head remembers only the newest interrupted runs
        if opened is None or not await is_alive(core, snapshot, run.number, opened, deadline):
            _interrupt(run)


def _interrupt(run: Run) -> None:
    run.status = "interrupted"
    for child in run.children:
        if child.status == "running":
            _interrupt(child)


async def shown_head(core: Core, snapshot: Snapshot, deadline: Deadline) -> Session | None:
    """The snapshot's head as readers see it: a newest run whose process is gone is `interrupted`."""
    head = snapshot.head
    if head is not None and head.last_status == "running":
        await shown_heads(core, [head], deadline)
    return head


def running(head: Session) -> dict[int, OpenRun]:
    """The open runs that a process works on, or was when it died."""
    return {number: run for number, run in head.open_runs.items() if run.status == "running"}


def with_status(runs: Iterable[Run], status: str | Collection[str] | None) -> list[Run]:
    """The runs that have this status, or one of these."""
    if status is None:
        return list(runs)
    wanted = {status} if isinstance(status, str) else set(status)
    return [run for run in runs if run.status in wanted]
