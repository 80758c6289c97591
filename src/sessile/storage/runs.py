"""Runs out of entries: grouping a log into runs, and reading the runs of a branch.

A run's entries carry its number, so its messages come out together whatever other runs did meanwhile.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from ..errors import CorruptDataError
from ..records import Entry, Head, Message, OpenRun, Run, Usage
from . import fold
from .core import Core, Snapshot, rows_to_entries
from .driver import CommitRow, Deadline, Span
from .leases import is_alive


def build_runs(entries: Iterable[Entry]) -> dict[int, Run]:
    """The top-level runs of these entries by number, member and nested runs below them.

    Runs whose start is not among the entries are left out.
    """
    by_id: dict[tuple[int, str], Run] = {}
    for entry in entries:
        if entry.run is None or entry.run_id is None:
            continue
        key = (entry.run, entry.run_id)  # a caller may have given two runs one id
        try:
            if entry.kind == fold.RUN_STARTED:
                by_id[key] = _started(entry)
            elif (run := by_id.get(key)) is not None:
                _add(run, entry)
        except (KeyError, TypeError, AttributeError) as error:
            raise CorruptDataError(f"Commit {entry.seq} is damaged: {error!r}.") from error
    top: dict[int, Run] = {}
    for run in by_id.values():
        above = by_id.get((run.number, run.parent_run_id)) if run.parent_run_id else None
        if above is not None:
            above.children.append(run)
        elif run.parent_run_id is None:
            top[run.number] = run
    for run in top.values():
        _settle(run)
    return top


def _settle(run: Run) -> None:
    """Count what members have used with the run above them; and none of them is at work when that is not."""
    for child in run.children:
        if child.status == "running" and run.status != "running":
            child.status = "interrupted"
        _settle(child)
        run.usage = run.usage + child.usage


def _started(entry: Entry) -> Run:
    data: dict[str, Any] = entry.data
    return Run(
        number=entry.run or 0,
        run_id=entry.run_id or "",
        status="running",
        input=data.get("input"),
        owner=entry.owner,
        parent_run_id=entry.parent_run_id,
        durability=data.get("durability", "run"),
        metadata=data.get("metadata") or {},
        key=data.get("key"),
        started_at=data.get("started_at", entry.time),
    )


def _add(run: Run, entry: Entry) -> None:
    if entry.kind == fold.MESSAGE:
        run.messages.append(
            Message(
                data=entry.data,
                format=entry.format,
                run=entry.run or 0,
                run_id=entry.run_id,
                owner=entry.owner,
                seq=entry.seq,
                time=entry.time,
            )
        )
    elif entry.kind == fold.RUN_TAKEN:
        run.status, run.ended_at, run.pending = "running", None, None
    elif entry.kind == fold.RUN_ENDED:
        data: dict[str, Any] = entry.data
        run.status = data["status"]
        run.ended_at = None if run.status == "paused" else data.get("ended_at", entry.time)
        run.output, run.error, run.pending = data.get("output"), data.get("error"), data.get("pending")
        run.usage = run.usage + Usage.from_json(data.get("usage") or {})
    else:
        run.steps.append(entry)


async def read_runs(core: Core, snapshot: Snapshot, numbers: Sequence[int], deadline: Deadline) -> list[Run]:
    """These runs (ascending numbers), out of the snapshot's newest page where it holds them, else by index."""
    head = snapshot.head
    if head is None or not numbers:
        return []
    runs = runs_in(snapshot.rows, numbers)
    missing = [number for number in numbers if number not in runs]
    for first, last in ranges(missing):
        rows = await core.all_rows(head, Span(runs=(first, last)), deadline)
        runs.update(build_runs(rows_to_entries(rows)))
    found = [runs[number] for number in numbers if number in runs]
    await mark_interrupted(core, snapshot, found, deadline)
    return found


def runs_in(rows: Sequence[CommitRow], numbers: Sequence[int]) -> dict[int, Run]:
    """Those of these runs whose start is among the rows, decoding no other commits."""
    wanted = set(numbers)
    return build_runs(rows_to_entries([row for row in rows if row.run in wanted]))


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


async def shown_head(core: Core, snapshot: Snapshot, deadline: Deadline) -> Head | None:
    """The snapshot's head as readers see it: a newest run whose process is gone is `interrupted`."""
    head = snapshot.head
    if head is None or head.status != "running":
        return head
    opened = head.open_runs.get(head.run_count)
    if opened is not None and not await is_alive(core, snapshot, head.run_count, opened, deadline):
        head.status = "interrupted"
    return head


def running(head: Head) -> dict[int, OpenRun]:
    """The open runs that a process is at work on, or was when it died."""
    return {number: run for number, run in head.open_runs.items() if run.status == "running"}


def with_status(runs: Iterable[Run], status: str | Collection[str] | None) -> list[Run]:
    """The runs that have this status, or one of these."""
    if status is None:
        return list(runs)
    wanted = {status} if isinstance(status, str) else set(status)
    return [run for run in runs if run.status in wanted]
