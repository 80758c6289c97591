"""Sessions as this process has left them: who commits or loads again need not take head and log apart once more.

That is believed only while the lock of the session is held, and only if the files are the ones that were left, by their
inodes, sizes and times: a commit of another process makes the log longer, and the head another file.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from ...storage.driver import CommitRow, HeadRow
from .formats import Owner
from .heads import Place
from .tree import Tree

MOST, LARGEST = 256, 16 * 1024
"""How many are remembered, and up to which size of their heads: 4 MB together at most."""

LARGEST_END = 32 * 1024
"""How many bytes of the end of its log are remembered of each, with what they say: 16 MB together at most."""

FileStamp = tuple[int, int, int, int]
"""Which file it is, and in which state."""


def stamp(found: os.stat_result) -> FileStamp:
    """What tells one state of a file from another. The device is part of it: another disk may be mounted there."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


class Record(NamedTuple):
    """A record as it was written, and the commit that it is."""

    text: bytes
    row: CommitRow


class Left(NamedTuple):
    """What a look at the files of a session would bring. Its log ends with a whole commit that the head covers."""

    head_stamp: FileStamp
    log_stamp: FileStamp
    head: HeadRow
    owner: Owner
    begin: int
    """Where the commits begin in the log."""
    top: int
    end: tuple[Record, ...]
    """What this process has written last, the newest record last: the log ends with it, unless it was changed since."""
    exchanged: int
    """How many heads in a row were exchanged (`Heads.put_in_place`)."""


class LeftSessions:
    """The sessions that were left last. May be used by several threads, each with the lock of its session."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._left: dict[str, Left] = {}

    def find(self, session_id: str, place: Place, flags: int) -> tuple[Left, int] | None:
        """What was left of a session, and its open log; None if its files are not as they were then.

        The log first, and then the head, which a commit writes in this order: if the head is the same, no commit was
        made until the log was looked at.
        """
        left = self._left.get(session_id)
        opened = None if left is None else self._tree.open_again(place.log, flags, left.log_stamp[:2])
        if left is None or opened is None:
            return None
        file, found = opened
        try:
            head = self._tree.stat_again(place.head) if stamp(found) == left.log_stamp else None
            if head is not None and stamp(head) == left.head_stamp:
                kept, file = file, -1
                return left, kept
        finally:
            if file >= 0:
                os.close(file)
        return None

    def forget(self, session_id: str) -> None:
        """Forget a session that is about to be changed, or was."""
        self._left.pop(session_id, None)

    def put(
        self,
        head: os.stat_result,
        log: os.stat_result,
        row: HeadRow,
        begin: int,
        top: int,
        end: Sequence[Record],
        exchanged: int,
    ) -> None:
        """Remember what a commit has left, and forget what was left longest ago."""
        if len(row.body) + len(row.metadata) > LARGEST:
            return
        owner = Owner(row.session_id, row.incarnation)
        self.forget(row.session_id)  # so that it becomes the newest
        left = Left(stamp(head), stamp(log), row, owner, begin, top, _within(end), exchanged)
        self._left[row.session_id] = left
        if len(self._left) > MOST:
            try:
                self._left.pop(next(iter(self._left)), None)
            except (RuntimeError, StopIteration):  # another thread has changed it at this moment, and sees to it
                return


def _within(records: Sequence[Record]) -> tuple[Record, ...]:
    """The newest of these that have no more than `LARGEST_END` bytes together."""
    left = LARGEST_END
    for count, record in enumerate(reversed(records)):
        left -= len(record.text)
        if left < 0:
            return tuple(records[len(records) - count :])
    return tuple(records)
