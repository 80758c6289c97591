"""The end of a run that is larger than a commit may be: in parts, and without what is too large by itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from ...errors import TooLargeError, problem_of
from ...records import Entry
from ...storage import patch
from ...storage.vocabulary import RunEnded, kind_of

Write = Callable[[Sequence[Entry]], Awaitable[None]]
"""Commits entries, and takes note that they are."""

WriteEnd = Callable[[RunEnded, patch.Patch], Awaitable[None]]
"""Commits the end of the run, with what it changed in the state."""


async def end_in_parts(
    entries: Sequence[Entry],
    ended: RunEnded,
    changes: patch.Patch,
    write: Write,
    leave_out: Callable[[Entry], None],
    write_end: WriteEnd,
) -> tuple[RunEnded, TooLargeError | None]:
    """Commit entries in as many commits as it takes, and then the end, where one commit cannot hold it all.

    Returns the end as it is stored. Where an entry, or the output, is too large for any commit, it is left out, and
    the run has failed, whatever its result: the error says what is missing, and is returned, too. Raises
    `TooLargeError` if only what the run changed in the state is too large.
    """
    missing = await _write_parts(entries, write, leave_out)
    if not missing:
        try:
            await write_end(ended, changes)
            return ended, None
        except TooLargeError:
            if changes:
                raise
            missing = ["its output" if ended.output is not None else "its end"]
    failed, refused = failed_without(ended, missing, "larger than a commit may be")
    try:
        await write_end(failed, changes)
    except TooLargeError:
        await write_end(failed, [])
    return failed, refused


def failed_without(ended: RunEnded, missing: Sequence[str], reason: str) -> tuple[RunEnded, TooLargeError]:
    """The end of a run that is stored without something of it, and the error that says so."""
    refused = TooLargeError(
        f"The run is stored as failed, without what is {reason}: {', '.join(missing)}.",
        hint="Look at error.result, if the run had one; and store less, or raise the storage's limits.",
        written="yes",
    )
    error = problem_of(refused) if ended.error is None else ended.error
    status = "cancelled" if ended.status == "cancelled" else "failed"
    return RunEnded(status=status, error=error, usage=ended.usage), refused


async def _write_parts(entries: Sequence[Entry], write: Write, leave_out: Callable[[Entry], None]) -> list[str]:
    """Commit entries, in halves where they are too many for one commit; the names of those that are left out."""
    if not entries:
        return []
    try:
        await write(entries)
    except TooLargeError as error:
        if len(entries) == 1:
            leave_out(entries[0])
            return [f"{_name(entries[0])} ({error.message})"]
        half = len(entries) // 2
        return [
            *await _write_parts(entries[:half], write, leave_out),
            *await _write_parts(entries[half:], write, leave_out),
        ]
    return []


def _name(entry: Entry) -> str:
    whose = f" of {entry.agent}" if entry.parent_run_id is not None and entry.agent else ""
    return f"{'a message' if kind_of(entry).KIND == 'message' else entry.kind}{whose}"
