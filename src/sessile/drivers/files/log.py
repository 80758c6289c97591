"""Reading a log: from its end, from its beginning, or from a place that is found by halving.

What a reader does in a log of any length is bounded by what it is asked for, because `seq` and `top` only ever grow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ...errors import CorruptDataError
from ...storage.driver import CommitRow, Span
from ...storage.matching import newest_of, page_of
from . import disk
from .formats import Format, FormatError, Glance, Owner, Stored

BLOCK = 64 * 1024
"""How much is read at once, in bytes."""

PREFIX = 512
"""How much is read at first of the record that says whose log it is, in bytes."""


class Chunk(NamedTuple):
    """A record as it stands in the file, with its end."""

    offset: int
    text: bytes

    @property
    def after(self) -> int:
        """Where the next one begins."""
        return self.offset + len(self.text)


class Log:
    """An open log. Reads what was in the file when it was opened; the file descriptor is the caller's."""

    def __init__(self, file: int, size: int, form: Format, path: Path, begin: int = 0) -> None:
        self.file = file
        self.size = size
        self.form = form
        self.path = path
        self.begin = begin
        """Where the commits begin, once `owner` has been asked for."""

    # ------------------------------------------------------------ records

    def owner(self) -> Owner | None:
        """Whose log it is; None if not even that is there."""
        first = next(self.forwards(0, PREFIX), None)
        if first is None or not self.is_whole(first):
            return None
        self.begin = first.after
        try:
            return self.form.read_owner(first.text)
        except FormatError as error:
            if first.after == self.size:  # the record was not written to its end
                return None
            raise self.damage(first, error) from error

    def is_whole(self, chunk: Chunk) -> bool:
        """Whether a record has its end; an editor may have taken the last line break away."""
        return chunk.text.endswith(self.form.end) or chunk.text.endswith(self.form.end.rstrip(b"\n"))

    def decode(self, chunk: Chunk) -> Stored:
        """The commit of a record; `CorruptDataError` with file and line if it cannot be read."""
        try:
            if not self.is_whole(chunk):
                end = self.form.end.decode().strip()
                raise FormatError(f"what follows does not end with {end!r}", 1)
            return self.form.read_commit(chunk.text)
        except FormatError as error:
            raise self.damage(chunk, error) from error

    def readable(self, chunk: Chunk) -> Stored | None:
        """The commit of a record; None if it has no end, or cannot be read."""
        if not self.is_whole(chunk):
            return None
        try:
            return self.form.read_commit(chunk.text)
        except FormatError:
            return None

    def whole_after(self, revision: int) -> tuple[list[Stored], list[Chunk]]:
        """The commits after a revision, as far as they are whole and dense; and the records after these."""
        good: list[Stored] = []
        pending: list[Stored] = []
        rest: list[Chunk] = []
        for chunk in self.forwards(self.find(lambda seen: seen.seq > revision)[0]):
            stored = self.readable(chunk)
            seq = revision + len(good) + len(pending) + 1
            rest.append(chunk)
            if stored is None or stored.row.seq != seq or stored.part[0] != len(pending) + 1:
                rest.extend(self.forwards(chunk.after))
                break
            pending.append(stored)
            if stored.part[0] == stored.part[1]:
                good, pending, rest = good + pending, [], []
        return good, rest

    def check_rest(self, revision: int, good: Sequence[Stored], rest: Sequence[Chunk]) -> None:
        """Where no head says what was acknowledged: only the end of one append is cut off, all else refused.

        `good` and `rest` are as `whole_after` has found them.
        """
        begun = revision + len(good) + 1
        for chunk in rest:
            stored = self.readable(chunk)
            if stored is not None and stored.row.seq - stored.part[0] + 1 != begun:
                self.decode(rest[0])  # names the line, if it cannot be read
                raise CorruptDataError(
                    f"{str(self.path)!r} has commit {stored.row.seq} where commit {begun} should be."
                )

    def at(self, offset: int) -> Chunk | None:
        """The record that begins at an offset; None at the end of the log."""
        return next(self.forwards(offset, PREFIX), None)

    def glance(self, chunk: Chunk) -> Glance:
        """The place of a record; `CorruptDataError` with file and line if it cannot be read."""
        seen = self.form.glance(chunk.text)
        if seen is not None:
            return seen
        stored = self.decode(chunk)
        return Glance(stored.row.seq, stored.row.run, stored.top)

    def damage(self, chunk: Chunk, error: FormatError) -> CorruptDataError:
        """The error of a record that cannot be read."""
        before = disk.read_at(self.file, chunk.offset, 0).count(b"\n")
        line = before + max(1, error.line)
        return CorruptDataError(
            f"Line {line} of {str(self.path)!r} cannot be read: {error.reason}.",
            hint="Correct the line, or restore the file; everything else in it can be read.",
        )

    # ------------------------------------------------------------ in order

    def forwards(self, offset: int, size: int = BLOCK) -> Iterator[Chunk]:
        """The records from an offset on, which is that of a record; the last one may not be whole."""
        buffer = b""
        while True:
            end = buffer.find(self.form.end)
            while end < 0 and offset + len(buffer) < self.size:
                more = disk.read_at(self.file, min(size, self.size - offset - len(buffer)), offset + len(buffer))
                if not more:
                    break  # somebody has cut the file off meanwhile
                known = max(0, len(buffer) - len(self.form.end))
                buffer, size = buffer + more, size * 2
                end = buffer.find(self.form.end, known)
            length = len(buffer) if end < 0 else end + len(self.form.end)
            if not length:
                return
            chunk, buffer, size = Chunk(offset, buffer[:length]), buffer[length:], BLOCK
            offset = chunk.after
            if chunk.text.strip():
                yield chunk

    def backwards(self, end: int | None = None) -> Iterator[Chunk]:
        """The commits before an offset (default: before the end of the file), the last of them first."""
        start = self.size if end is None else end
        buffer, rest, size, mark = b"", 0, BLOCK, self.form.end
        while start or rest:  # what was read and not given yet is `buffer[:rest]`, and begins at `start`
            cut = self._end_before(buffer, rest)
            while cut < 0 and start:
                step = min(size, start)
                buffer = disk.read_at(self.file, step, start - step) + buffer[:rest]
                start, rest, size = start - step, len(buffer), size * 2
                cut = self._end_before(buffer, rest)
            length = 0 if cut < 0 else cut + len(mark)
            chunk, rest, size = Chunk(start + length, buffer[length:rest]), length, BLOCK
            if chunk.offset < self.begin:
                return
            if chunk.text.strip():
                yield chunk

    def _end_before(self, buffer: bytes, stop: int) -> int:
        """Where the end of the record before the last one in `buffer[:stop]` is; -1 if there is no other."""
        mark = self.form.end
        return buffer.rfind(mark, 0, stop - len(mark) if buffer.endswith(mark, 0, stop) else stop)

    def find(self, reached: Callable[[Glance], bool]) -> tuple[int, int]:
        """Where the first commit begins for which `reached` holds, as it does for all after it; else the log's end.

        Also the `seq` of the commit before it, 0 if it is the first.
        """
        low, high = self.begin, self.size
        while high - low > BLOCK:
            middle = self._next((low + high) // 2, high)
            if middle is None or reached(self.glance(middle)):
                high = (low + high) // 2
            else:
                low = middle.offset
        before = Glance(0, 0, 0)
        for chunk in self.forwards(low):
            placed = self._placed(chunk, before)
            if reached(placed):
                return chunk.offset, before.seq
            before = placed
        return self.size, before.seq

    def _placed(self, chunk: Chunk, before: Glance) -> Glance:
        """The place of a record, also of one that cannot be read: that after the one before it."""
        try:
            return self.glance(chunk)
        except CorruptDataError:
            return Glance(before.seq + 1, 0, before.top)

    def _next(self, offset: int, limit: int) -> Chunk | None:
        """The first record that begins after an offset and before a limit, of those that can be read."""
        between = self.forwards(offset)
        next(between, None)  # the rest of the one before
        for chunk in between:
            if chunk.offset >= limit:
                return None
            if self.form.glance(chunk.text) is not None:
                return chunk
        return None

    # ------------------------------------------------------------ spans

    def newest(self, count: int, revision: int) -> list[CommitRow]:
        """The newest commits up to a revision, as a `load` brings them; only those after one that is damaged, or away.

        Who needs what was before asks for it, and is told then.
        """
        return newest_of(self._before(revision), count)

    def _before(self, revision: int) -> Iterator[CommitRow]:
        """The commits up to a revision, the newest first, as far as they can be read."""
        following: int | None = None
        for chunk in self.backwards():
            if following is None and self._beyond(chunk, revision):
                continue
            try:
                row = self.decode(chunk).row
            except CorruptDataError:
                return
            if following is not None and row.seq != following - 1:
                return
            following = row.seq
            yield row

    def span(self, span: Span, revision: int) -> list[CommitRow]:
        """The commits of a span, none of them beyond a revision."""
        return page_of(self._within(span, revision), span)

    def _within(self, span: Span, revision: int) -> Iterator[CommitRow]:
        last = revision if span.last is None else min(span.last, revision)
        low, high = (0, 0) if span.runs is None else (max(1, span.runs[0]), span.runs[1])
        edge = span.first if span.newest_first else last
        for chunk, seen in self._down(last) if span.newest_first else self._up(span.first, low):
            if not span.first <= seen.seq <= last or seen.top < low:
                break
            if span.runs is None or low <= seen.run <= high:
                yield self.decode(chunk).row
            if seen.seq == edge:
                break  # before the next one is looked at, which may be damaged

    def _up(self, first: int, top: int) -> Iterator[tuple[Chunk, Glance]]:
        offset, before = self.find(lambda seen: seen.seq >= first and seen.top >= top)
        return self._dense(self.forwards(offset), before + 1, 1)

    def _down(self, last: int) -> Iterator[tuple[Chunk, Glance]]:
        return self._dense(self.backwards(self.find(lambda seen: seen.seq > last)[0]), last, -1)

    def _dense(self, chunks: Iterable[Chunk], expected: int, step: int) -> Iterator[tuple[Chunk, Glance]]:
        """Records with their places, which follow each other; a line that somebody took away is named."""
        for chunk in chunks:
            seen = self.glance(chunk)
            if seen.seq != expected:
                raise self.damage(chunk, FormatError(f"it is commit {seen.seq}, and commit {expected} should be there"))
            expected += step
            yield chunk, seen

    def _beyond(self, chunk: Chunk, revision: int) -> bool:
        """Whether a record at the end was never acknowledged."""
        try:
            return self.glance(chunk).seq > revision
        except CorruptDataError:
            return self.next_seq(chunk) > revision

    def next_seq(self, chunk: Chunk) -> int:
        """The number that the commit of a record which cannot be read must have, by those before it."""
        unreadable = 0
        for before in self.backwards(chunk.offset):
            try:
                return self.glance(before).seq + unreadable + 1
            except CorruptDataError:
                unreadable += 1
        return unreadable + 1
