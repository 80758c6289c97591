"""The head of a session as a file: how it is written, put in place, and found again after a power cut.

A head is replaced without waiting for the disk, so after a power cut it may be broken. File systems see to it that it
rarely is, by writing a file before it takes another one's name, and every commit pays for that. So a process that
commits again and again to a session lets the two files change their names instead, and keeps the last head that took a
name as its base: from there a broken head is rolled forward, not from the beginning of the log, and with what was
changed in it by hand.

An encrypted head cannot be rolled forward here, and has the keys: it is on the disk, in its place, before its commit is
acknowledged.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ...errors import CorruptDataError
from ...storage.driver import HeadRow
from ...storage.encoding import decode_head
from .formats import Format, FormatError, Owner
from .log import Log
from .tree import Tree

MOST_EXCHANGED = 64
"""After so many heads in a row whose data nobody has asked the disk for, one takes the name."""


class Place(NamedTuple):
    """The files of a session."""

    folder: Path
    head: Path
    new_head: Path
    base: Path
    log: Path
    records: Path


def place_in(folder: Path, form: Format) -> Place:
    """The files of the session that has this folder."""
    head, log = form.head_file, form.log_file
    return Place(
        folder, folder / head, folder / f".{head}.new", folder / f".{head}.base", folder / log, folder / "records"
    )


class Heads:
    """The heads of the sessions of one folder."""

    def __init__(self, tree: Tree, form: Format) -> None:
        self._tree = tree
        self._form = form
        self._exchanges = True
        """Whether the file system can do it, as far as is known."""

    def read(self, place: Place, content: bytes | None) -> HeadRow | None:
        """The head; None if there is none, or one that a power cut has left without its end or with zeros in it."""
        if content is None:
            return None
        try:
            return self._form.read_head(content)
        except FormatError as error:
            if b"\0" in content or not content.rstrip().endswith(self._form.head_end):
                return None
            raise CorruptDataError(
                f"Line {max(1, error.line)} of {str(place.head)!r} cannot be read: {error.reason}.",
                hint="Correct it, or remove the file: the head is rebuilt from the log.",
            ) from error

    def write(self, place: Place, head: HeadRow, *, synced: bool) -> os.stat_result:
        """Write the next head beside the one that is there; what the file system says of it."""
        return self._tree.write_new(place.new_head, self._form.encode_head(head), synced=synced)

    def put_in_place(self, place: Place, exchanged: int | None) -> int:
        """Let the next head be the head, in one step. How many in a row were exchanged; None: that must not be."""
        if exchanged is not None and exchanged < MOST_EXCHANGED and self._exchanged(place, anew=exchanged == 0):
            return exchanged + 1
        self._tree.move(place.new_head, place.head)
        return 0

    def _exchanged(self, place: Place, *, anew: bool) -> bool:
        if not self._exchanges or (anew and not self._based(place)):
            return False
        try:
            self._exchanges = self._tree.exchange(place.new_head, place.head)
        except FileNotFoundError:  # somebody has removed the head meanwhile
            return False
        with suppress(OSError):  # whoever writes the next head removes it; of an older one there is no use without this
            self._tree.unlink(place.new_head if self._exchanges else place.base)
        return self._exchanges

    def _based(self, place: Place) -> bool:
        """Keep the head that is there, under another name too; False where that cannot be done."""
        try:
            self._tree.unlink(place.base)
            self._tree.link(place.head, place.base)
        except (OSError, NotImplementedError):  # no system but Linux needs it, and not all have such calls
            return False
        return True

    def base(self, place: Place, log: Log, owner: Owner | None) -> HeadRow | None:
        """The last head that took the name, if it is one of this log; for one that is broken.

        It may be of another time, where the files of a session were put back from a copy. So the log must have the
        commit that made it, which is told by its time.
        """
        row = self._of(place.base, log, owner)
        if row is not None:
            try:
                decode_head(row)
            except CorruptDataError:
                return None
        return row

    def finish(self, place: Place, log: Log, owner: Owner | None, seq: int) -> HeadRow | None:
        """Put the head in place that a writer has left beside it, if it is that of a commit of this log."""
        row = self._of(place.new_head, log, owner)
        if row is None or row.revision != seq:
            return None
        self._tree.move(place.new_head, place.head)
        self._tree.sync_folder(place.folder)
        return row

    def _of(self, path: Path, log: Log, owner: Owner | None) -> HeadRow | None:
        content = self._tree.read(path)
        try:
            row = None if content is None else self._form.read_head(content)
        except FormatError:
            return None
        if row is None or owner is None or row.incarnation != owner.incarnation:
            return None
        chunk = log.at(log.find(lambda seen: seen.seq >= row.revision)[0])
        stored = None if chunk is None else log.readable(chunk)
        return (
            row if stored is not None and (stored.row.seq, stored.row.time) == (row.revision, row.updated_at) else None
        )

    def forget_base(self, place: Place) -> None:
        """What is erased must not stay in it."""
        self._tree.unlink(place.base)
