"""What can be read of a log, beside what cannot: one damaged or newer commit costs only its own run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from ..errors import CorruptDataError, NewerVersionError, StorageError
from ..records import Entry
from .computing import compute
from .driver import CommitRow, Driver
from .encoding import decode_commit


@dataclass(slots=True)
class Readable:
    """The entries of commits that can be read, and by `seq` the commits that cannot, each with its run and why."""

    entries: list[Entry] = field(default_factory=list)
    unreadable: dict[int, tuple[int, StorageError]] = field(default_factory=dict)


seq_of = attrgetter("seq")


def readable(rows: Sequence[CommitRow]) -> Readable:
    """What can be read of commit rows, in the order of their `seq`: one that cannot costs only itself."""
    found = Readable()
    for row in sorted(rows, key=seq_of):
        try:
            found.entries += decode_commit(row)
        except (NewerVersionError, CorruptDataError) as error:
            found.unreadable[row.seq] = (row.run, error)
    return found


def rows_to_entries(rows: Sequence[CommitRow]) -> list[Entry]:
    """The entries of commit rows in the order of their `seq`; raises for what cannot be read."""
    return [entry for row in sorted(rows, key=seq_of) for entry in decode_commit(row)]


async def read_entries(driver: Driver, rows: Sequence[CommitRow]) -> list[Entry]:
    """As `rows_to_entries`; beside the event loop where that would take long."""
    return await compute(driver, lambda: rows_to_entries(rows), rows=rows)


async def read_readable(driver: Driver, rows: Sequence[CommitRow]) -> Readable:
    """As `readable`; beside the event loop where that would take long."""
    return await compute(driver, lambda: readable(rows), rows=rows)
