"""Writing sessions into an archive, and taking them in again (`archive.py` has the form of its lines)."""

from __future__ import annotations

import gzip
import os
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import BinaryIO, Unpack, cast

from ..errors import (
    AlreadyExistsError,
    CorruptDataError,
    NewerVersionError,
    SessileError,
    SessionNotFoundError,
    StorageError,
)
from ..records import Session
from ..storage import Storage
from ..storage.absence import as_row
from ..storage.driver import CommitRow
from ..storage.encoding import decode_head
from ..storage.fold import roll_forward
from ..storage.media import digest_of
from ..storage.storage import operate
from . import archive, checking, placing, reading
from .archive import Digest, Line, damaged
from .filters import SessionChoice, query_of_choice
from .writing import written

SPOOLED = 16 * 1024 * 1024
"""How many bytes of a session that is being written are in memory; of larger ones all of it is in a file meanwhile."""

HELD = 1024 * 1024
"""About how many characters of commits are held before they are put into the storage."""


@dataclass(slots=True)
class Archived:
    """What an archive has, or what was taken in of one.

    Attributes:
        sessions, commits, records: how many.
        unchanged: how many sessions stood there already as they are.
        skipped: sessions that were left out, by id, and why.
    """

    sessions: int = 0
    commits: int = 0
    records: int = 0
    unchanged: int = 0
    skipped: dict[str, SessileError] = field(default_factory=dict[str, SessileError])


Progress = Callable[[Archived], None]
"""Is told what was done so far, after each session."""


# ---------------------------------------------------------------- writing


def export_archive(
    storage: Storage,
    to: str | os.PathLike[str] | BinaryIO,
    *,
    session_ids: Sequence[str] | None = None,
    progress: Progress | None = None,
    **choice: Unpack[SessionChoice],
) -> Archived:
    """Write sessions into an archive, complete: logs, media, records, kept results. The storage may be in use.

    Each session is written as it is at one moment, one after the other, the one that has not changed for longest first.
    One that cannot be read is named in `skipped`.

    Args:
        storage: where the sessions are.
        to: a path, which has the file when it is whole, and not before (compressed if it ends in `.gz`); or a stream of
            bytes.
        session_ids: write only these, in this order; each must be there.
        progress: is called after each session.
        **choice: which sessions, without `session_ids`; see `SessionChoice`.

    Raises:
        SessionNotFoundError: one of `session_ids` is not there.
        InvalidInputError: an argument is wrong.
        StorageError: the database failed; a file that was to be written is not there.
        OSError: the file cannot be written.
    """
    done = Archived()
    with written(to) as stream:
        stream.write(archive.opening().encode())
        for session_id in _chosen(storage, session_ids, choice, done):
            try:
                found = operate(storage, reading.find, session_id)
                if found is None or found.deleted or found.head.hidden == "building":
                    raise SessionNotFoundError(f"There is no session {session_id!r}.")
                _export_one(storage, found.head, stream, done)
            except (CorruptDataError, NewerVersionError) as error:
                done.skipped[session_id] = error
                continue
            except SessionNotFoundError:  # of those that were listed, one that was deleted since
                if session_ids is not None:
                    raise
                continue
            if progress is not None:
                progress(done)
        stream.write(archive.closing(done.sessions).encode())
    return done


def _chosen(
    storage: Storage, session_ids: Sequence[str] | None, choice: SessionChoice, done: Archived
) -> Iterator[str]:
    query = query_of_choice(choice)
    if session_ids is not None:
        yield from session_ids
        return
    yield from (row.session_id for row in reading.all_rows(storage, query, done.skipped))


def _export_one(storage: Storage, head: Session, stream: BinaryIO, done: Archived) -> None:
    """Write one session, whole or not at all. Raises for what `import_archive` would refuse."""
    digest, records = Digest(), 0
    folded: Session | None = None
    with tempfile.SpooledTemporaryFile(max_size=SPOOLED) as held:

        def write(text: str) -> None:
            raw = text.encode()
            digest.add(raw)
            held.write(raw)

        write(archive.session_line(as_row(head)))
        for page in checking.pages(storage, head):
            folded = roll_forward(folded, page)
            for row in page:
                write(archive.commit_line(row))
        if not checking.is_folded(head, folded):
            raise CorruptDataError(f"The head of session {head.session_id!r} is not what its log folds to.")
        for key in operate(storage, reading.record_names, head):
            record = operate(storage, reading.read_record, head, key)
            if record is not None:
                for text in archive.record_lines(record):
                    write(text)
                records += 1
        held.write(archive.end_line(head.revision, digest.text()).encode())
        held.seek(0)
        shutil.copyfileobj(held, stream)
    done.sessions += 1
    done.commits += head.revision
    done.records += records


# ---------------------------------------------------------------- taking in


def import_archive(
    path: str | os.PathLike[str] | BinaryIO, storage: Storage, *, progress: Progress | None = None
) -> Archived:
    """Put the sessions of an archive into a storage, as they were: ids, times, logs, media.

    All of it is read and checked first (form, hashes, each head against its log), and nothing is written if a line is
    wrong. Sessions that are there already as they are, or in a later state of the same log, stay as they are; of those
    that have fewer commits the rest is added. One that stands there and was made apart is left alone, and named in
    `skipped`. So a second import changes nothing, and one that was broken off is repeated.

    Args:
        path: the file (compressed if it begins as gzip does), or a stream of bytes, of which a copy is kept meanwhile.
        storage: where they come.
        progress: is called after each session that was taken in.

    Raises:
        CorruptDataError: a line is damaged, which is named by its number, or the archive is cut off. Nothing was
            written.
        NewerVersionError: a newer version of Sessile wrote it. Nothing was written.
        StorageError: the database failed; call it again.
        OSError: the file cannot be read.
    """
    done = Archived()
    with _readable(path) as stream:
        _check(stream)
        stream.seek(0)
        lines = archive.read_lines(stream)
        next(lines)
        for line in lines:
            if line.kind == "complete":
                break
            _TakingIn(storage, line, done).take(lines)
            if progress is not None:
                progress(done)
    return done


@contextmanager
def _readable(path: str | os.PathLike[str] | BinaryIO) -> Generator[BinaryIO]:
    """A stream that can be read twice."""
    if not isinstance(path, (str, os.PathLike)):
        with tempfile.TemporaryFile() as copied:
            shutil.copyfileobj(path, copied)
            copied.seek(0)
            yield cast(BinaryIO, copied)
        return
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if not packed:
            yield file
            return
        with gzip.open(file) as unpacked:
            yield cast(BinaryIO, unpacked)


class _TakingIn:
    """One session of a checked archive on its way into a storage."""

    def __init__(self, storage: Storage, line: Line, done: Archived) -> None:
        self._storage, self._done = storage, done
        self._row = archive.head_of(line)
        self._head: Session | None = None
        self._at: Session | None = None
        self._rows: list[CommitRow] = []
        self._held = 0
        self._there: CommitRow | None = None
        """The newest commit that both should have: if it is another one, the two have gone different ways."""
        self._records: set[str] | None = None

    def take(self, lines: Iterator[Line]) -> None:
        """Take in the lines up to the session's end. What is wrong with this session alone stops no others."""
        session_id = self._row.session_id
        try:
            self._head = decode_head(self._row)
            self._at = operate(self._storage, placing.make_room, session_id, self._row.incarnation, self._row.revision)
            if self._at is not None:
                shared = min(self._at.revision, self._head.revision)
                until = replace(self._at, revision=shared)
                self._there = operate(self._storage, reading.read_commits, until, shared)[0]
        except SessileError as error:
            self._skip(error)
        for value in _values(lines):
            if self._head is not None:
                try:
                    self._add(self._head, value)
                except SessileError as error:
                    self._skip(error)
        if self._head is not None and self._records is None:
            try:
                self._done.sessions += self._append(self._head, keep=0)
            except SessileError as error:
                self._skip(error)

    def _skip(self, error: SessileError) -> None:
        """Leave this session out. Raises what is wrong with the database, and not with the session."""
        if isinstance(error, StorageError) and not isinstance(error, (CorruptDataError, NewerVersionError)):
            raise error
        self._head = None
        self._done.skipped[self._row.session_id] = error

    def _check_same_log(self, head: Session, value: CommitRow, there: CommitRow) -> None:
        if value.commit_id != there.commit_id:
            raise AlreadyExistsError(
                f"Session {head.session_id!r} was continued here, apart from the archive.",
                hint="Delete it here, or take the archive into a storage of its own.",
            )
        if self._at is None or self._at.revision < head.revision:
            return
        self._done.unchanged += 1  # there as it is, or further on
        if head.revision > 1 or self._at.revision > 1:
            self._head = None
        else:  # a session of one commit is there before its records: somebody may have been broken off between them
            self._records = set(operate(self._storage, reading.record_names, head))

    def _add(self, head: Session, value: CommitRow | reading.Record) -> None:
        if isinstance(value, reading.Record):
            if self._records is not None and value.key in self._records:
                return
            whole = self._append(head, keep=0 if self._at is None and len(self._rows) == 1 else 1)
            if whole:
                operate(self._storage, placing.put_record, head, value)
                self._done.records += 1
        elif self._there is not None and value.seq == self._there.seq:
            self._check_same_log(head, value, self._there)
        elif self._at is None or value.seq > self._at.revision:
            self._rows.append(value)
            self._held += len(value.body)
            if self._held >= HELD:
                self._append(head, keep=1)

    def _append(self, head: Session, keep: int) -> bool:
        """Append what is held, but for the newest commit if it is to be kept: by that the session becomes complete.

        False if somebody else is putting the session there, too, and it is given up.
        """
        rows = self._rows[: len(self._rows) - keep]
        if not rows:
            return True
        try:
            self._at = operate(self._storage, placing.append, self._at, rows, head)
        except AlreadyExistsError as error:
            self._done.skipped[head.session_id] = error
            self._head = None
            return False
        self._done.commits += len(rows)
        self._rows, self._held = self._rows[len(rows) :], 0
        return True


def _values(lines: Iterator[Line]) -> Iterator[CommitRow | reading.Record]:
    """The commits and records of a session, up to its end; contents put together of their pieces."""
    pieces: list[bytes] = []
    for line in lines:
        if line.kind == "end":
            return
        if line.kind == "commit":
            yield archive.commit_of(line)
        elif line.kind == "record":
            yield archive.record_of(line)
        elif line.kind == "media":
            pieces.append(archive.decoded(line, "data"))
            if sum(map(len, pieces)) >= line.fields["size"]:
                yield reading.Record(f"{reading.MEDIA}{line.fields['sha256']}", b"".join(pieces))
                pieces = []


# ---------------------------------------------------------------- checking


def _check(stream: BinaryIO) -> None:
    """Read all of an archive; raise for whatever is wrong with it."""
    lines = archive.read_lines(stream)
    first = next(lines, None)
    if first is None:
        raise CorruptDataError("This is no archive of Sessile's: it is empty.")
    archive.check_opening(first)
    last = first
    for sessions, line in enumerate(lines):
        last = line
        if line.kind == "complete":
            if line.fields.get("sessions") != sessions or next(lines, None) is not None:
                raise damaged(line.number, "it does not end there with that number of sessions")
            return
        if line.kind != "session":
            raise damaged(line.number, "no session begins there")
        _check_session(line, lines)
    raise damaged(last.number, "the archive is cut off behind it")


def _check_session(begin: Line, lines: Iterator[Line]) -> None:
    head = _head_of(begin)
    digest, folded = Digest(), cast("Session | None", None)
    digest.add(begin.raw)
    content = _Content()
    for line in lines:
        if line.kind == "end":
            _check_end(line, head, folded, digest, content)
            return
        digest.add(line.raw)
        if line.kind == "commit":
            try:
                folded = roll_forward(folded, [archive.commit_of(line)])
            except CorruptDataError as error:
                raise damaged(line.number, str(error)) from None
        elif line.kind == "media":
            content.add(line)
        elif line.kind == "record":
            archive.record_of(line)
        else:
            raise damaged(line.number, "it belongs to no session")
    raise damaged(begin.number, "the session that begins there has no end")


def _head_of(line: Line) -> Session:
    """The head of a line. Raises `CorruptDataError` and `NewerVersionError`."""
    row = archive.head_of(line)
    try:
        return decode_head(row)
    except CorruptDataError as error:
        raise damaged(line.number, error.message.removesuffix(".")) from None


def _check_end(line: Line, head: Session, folded: Session | None, digest: Digest, content: _Content) -> None:
    if line.fields.get("sha256") != digest.text():
        raise damaged(line.number, "the session before it is not as it was written")
    content.check_whole(line)
    if folded is None or folded.revision != head.revision or line.fields.get("commits") != head.revision:
        raise damaged(line.number, "the session before it lacks commits")
    if not checking.is_folded(head, folded):
        raise damaged(line.number, "the head of the session before it is not what its log folds to")


class _Content:
    """The pieces of a content, as they follow one another."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0
        self._digest: object = None

    def add(self, line: Line) -> None:
        """One piece more."""
        piece = archive.decoded(line, "data")
        size, digest = line.fields.get("size"), line.fields.get("sha256")
        if not self._pieces:
            self._digest = digest
        if line.fields.get("piece") != len(self._pieces) or digest != self._digest or type(size) is not int:
            raise damaged(line.number, "it is not the piece that should follow")
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size >= size:
            if self._size > size or digest_of(b"".join(self._pieces)) != digest:
                raise damaged(line.number, "the content that ends there is not as it was")
            self._pieces, self._size = [], 0

    def check_whole(self, line: Line) -> None:
        """Raise if a content has no end."""
        if self._pieces:
            raise damaged(line.number, "a content before it is cut off")
