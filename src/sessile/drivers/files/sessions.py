"""The folder of one session: what a commit does to it, and what is made of it after a crash."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from uuid import uuid4

from ...errors import CorruptDataError, NewerVersionError, StorageError, StorageFullError, Written
from ...storage.driver import Append, CommitRow, Deadline, HeadRow, Span
from ...storage.encoding import decode_head, encode_head, is_sealed
from ...storage.fold import roll_forward
from ...storage.stats import Stats
from . import disk, keys, linux
from .formats import Format, Owner, Stored
from .heads import Heads, Place, place_in
from .index import Index, Stamp
from .left import LeftSessions, Record
from .locks import Locks
from .log import Log
from .names import safe_name
from .tree import Tree

logger = logging.getLogger("sessile")

PAUSE = 0.001
"""How long a reader waits for a commit that is being written, before it looks again, in seconds."""

NO_LIMIT = 2**62


@dataclass(slots=True)
class View:
    """A session as its files have it at one moment. The log must be closed.

    `last` and `top` are those of the newest commit of the log; what is beyond the head's revision was not acknowledged.
    `top` is -1 if that commit was acknowledged and is damaged. `clean`: the log ends with it, and can be appended to.
    `end`: what this process has written there last, if the files are as it has left them; `exchanged`: how many heads
    in a row were exchanged then (`Heads.put_in_place`).
    """

    head: HeadRow | None
    log: Log
    owner: Owner | None
    last: int
    top: int
    clean: bool
    end: tuple[Record, ...] = ()
    exchanged: int | None = None

    @property
    def revision(self) -> int:
        """Up to where the log is acknowledged for certain."""
        return 0 if self.head is None else self.head.revision

    def newest(self, count: int) -> list[CommitRow]:
        """As `Log.newest`. What still ends as this process has written it is not taken apart."""
        known = self.end[-count:] if count else ()
        if known and len(known) >= min(count, self.revision):
            text = b"".join([record.text for record in known])
            if disk.read_at(self.log.file, len(text), self.log.size - len(text)) == text:
                return [record.row for record in known]
        return self.log.newest(count, self.revision)

    def close(self) -> None:
        """Close the log. Idempotent."""
        file, self.log.file = self.log.file, -1
        if file >= 0:
            os.close(file)


class Sessions:
    """The sessions of one folder."""

    def __init__(self, tree: Tree, form: Format, locks: Locks, index: Index, stats: Stats) -> None:
        self.tree = tree
        self.folder = tree.root / "sessions"
        self.trash = tree.root / ".sessile" / "trash"
        self.form = form
        self.locks = locks
        self.index = index
        self.stats = stats
        self.heads = Heads(tree, form)
        self._left = LeftSessions(tree)

        self.place = lru_cache(maxsize=1024)(self._place)
        """Where the files of a session are."""

    def _place(self, session_id: str) -> Place:
        return place_in(self.folder / safe_name(session_id), self.form)

    # ------------------------------------------------------------ reading

    @contextlib.contextmanager
    def read(self, session_id: str, deadline: Deadline) -> Generator[View | None]:
        """`settled` for a block, at whose end it is closed."""
        view = self.settled(session_id, deadline)
        try:
            yield view
        finally:
            if view is not None:
                view.close()

    def entries(self, session_id: str, incarnation: str, span: Span, deadline: Deadline) -> list[CommitRow]:
        """`Driver.entries`."""
        with disk.translated("Reading a session", self.folder), self.read(session_id, deadline) as view:
            if view is None or view.head is None or view.head.incarnation != incarnation:
                return []
            if span.key is None:
                return view.log.span(span, view.revision)
            return keys.find(self.index, self.place(session_id).folder.name, view.log, span, view.revision)

    def settled(self, session_id: str, deadline: Deadline) -> View | None:
        """The session as it was acknowledged; None if there is none. Whoever asks closes it.

        Readers take no lock. One that finds a commit which the head does not cover yet waits until it does: what is
        acknowledged before a read begins is in it. If nobody is there who could be writing it, the head is rolled
        forward.
        """
        goal = 0
        while True:
            view = self._view(session_id)
            if view is None or (view.head is not None and view.revision >= (goal or view.last)):
                return view
            goal = goal or view.last
            view.close()
            with self.locks.attempt(self.place(session_id).folder.name) as held:
                if held:
                    return self._repaired(session_id)
            deadline.check("Reading a session")
            time.sleep(PAUSE)

    def _view(self, session_id: str, flags: int = os.O_RDONLY) -> View | None:
        """One look at the files. The head is read first, so that the log has at least what it covers."""
        place = self.place(session_id)
        left = self._as_left(session_id, place, flags)
        if left is not None:
            return left
        while True:
            with self.tree.held(place.folder):
                view, again = self._look(session_id, place, flags)
            if not again:
                return view

    def _look(self, session_id: str, place: Place, flags: int) -> tuple[View | None, bool]:
        """One look, and whether another one is needed, because the files were changed meanwhile."""
        content = self.tree.read(place.head)
        file = self.tree.open_file(place.log, flags)
        if file is None:
            if self.tree.read(place.head) is None or not self.tree.exists(place.folder):
                return self.check_folder(), False
            if content is None or self.tree.exists(place.log):  # it was made meanwhile, the log first
                return None, True
            raise CorruptDataError(f"There is no {self.form.log_file} in {str(place.folder)!r}, but a head.")
        try:
            view = self._opened(session_id, place, content, file)
        except BaseException:
            os.close(file)
            raise
        if view is None:
            os.close(file)
        return view, view is None

    def check_folder(self) -> None:
        """What is not there is absent only where it could be: not if the folder itself is away."""
        if not self.tree.is_folder(self.folder):
            raise StorageError(f"The folder {str(self.folder)!r} is gone.", hint="Is its disk mounted?")

    def _opened(self, session_id: str, place: Place, content: bytes | None, file: int) -> View | None:
        """The view of an open log and the content of a head; None if they are not of the same incarnation any more."""
        log = Log(file, os.fstat(file).st_size, self.form, place.log)
        owner = log.owner()
        head = self.heads.read(place, content)
        for found in (owner, head):
            if found is not None and found.session_id != session_id:
                raise CorruptDataError(
                    f"The files in {str(place.folder)!r} say that they are of session {found.session_id!r}."
                )
        if head is not None and owner is None:
            raise CorruptDataError(
                f"Line 1 of {str(log.path)!r} does not say whose log it is.",
                hint="Restore it. Lines must end with a line feed alone, without a carriage return.",
            )
        if head is not None and owner is not None and head.incarnation != owner.incarnation:
            if self.tree.read(place.head) == content and os.path.samestat(os.fstat(file), self.tree.stat(log.path)):
                raise CorruptDataError(f"The head and the log in {str(place.folder)!r} are of different incarnations.")
            return None
        last, top, clean = self._newest(log, 0 if head is None else head.revision)
        if head is not None and last < head.revision:
            where = f"The head in {str(place.folder)!r} is at revision {head.revision}"
            raise CorruptDataError(f"{where}, and its log ends with commit {last}.")
        return View(head, log, owner, last, top, clean)

    def _newest(self, log: Log, revision: int) -> tuple[int, int, bool]:
        """`last`, `top` and `clean` of a view. What cannot be read at the end is there only if it was acknowledged."""
        for chunk in log.backwards():
            clean = chunk.after == log.size and chunk.text.endswith(self.form.end)
            seen = log.form.glance(chunk.text)
            if seen is not None and log.is_whole(chunk):
                return seen.seq, seen.top, clean
            stored = log.readable(chunk)
            if stored is not None:
                return stored.row.seq, stored.top, clean
            if log.next_seq(chunk) <= revision:
                return log.next_seq(chunk), -1, True
        return 0, 0, log.size == log.begin

    # ------------------------------------------------------------ after a crash

    def _repaired(self, session_id: str) -> View | None:
        """The session with everything settled that a crash has left. The lock must be held."""
        view = self._view(session_id, os.O_RDWR | os.O_APPEND)
        if view is None:
            return None
        if view.head is not None and view.last == view.revision and view.clean:
            return view
        try:
            self._repair(session_id, view)
        finally:
            view.close()
        return self._view(session_id, os.O_RDWR | os.O_APPEND)

    def _repair(self, session_id: str, view: View) -> None:
        """Roll the head forward over what is whole beyond it, and cut off the rest, which was never acknowledged."""
        log, place = view.log, self.place(session_id)
        with disk.translated("Repairing a session", place.folder):
            disk.sync(log.file)  # a writer that is gone may not have done that
            broken = self.tree.read(place.head) if view.head is None else None
            base = view.head if broken is None else self.heads.base(place, log, view.owner)
            good, rest = log.whole_after(0 if base is None else base.revision)
            if view.head is None:
                log.check_rest(0 if base is None else base.revision, good, rest)
            end = rest[0].offset if rest else log.size
            if good and is_sealed(good[-1].row.body) and self._repaired_sealed(place, view, good, end):
                return
            head = None
            if good or base is not view.head:  # before anything is changed: it may be damaged
                before = None if base is None else decode_head(base)
                head = roll_forward(before, [stored.row for stored in good]) if good else before
            self.tree.keep(place.head, broken or b"")
            self._cut(log, end)
            if not good and base is None:
                os.ftruncate(log.file, 0)
            if head is None:
                return
            row = encode_head(head, max_state=NO_LIMIT, max_metadata=NO_LIMIT)
            row = row._replace(session_id=session_id)  # a user's own id, which the log has, is another one
            logger.warning("The head in %s is rolled forward to revision %d.", place.folder, row.revision)
            self.stats.count("catch_ups")
            self.tree.replace(place.head, self.form.encode_head(row))
            self.index.put(row, place.folder.name, self.stamp_of(place))

    def _repaired_sealed(self, place: Place, view: View, good: Sequence[Stored], end: int) -> bool:
        """Settle what a crash has left of a session whose head nobody here can roll forward; whether that can be done.

        The next head is in place before its commit is acknowledged; until then it lies beside the last one. Where it is
        neither, the commit is cut off, as is the first one of a session that has no head at all.
        """
        log = view.log
        done = self.heads.finish(place, log, view.owner, good[-1].row.seq)
        if done is not None:
            self._cut(log, end)
            self.index.put(done, place.folder.name, self.stamp_of(place))
        elif view.head is not None:
            self._cut(log, log.find(lambda seen: seen.seq > view.revision)[0])
        elif good[-1].part == (len(good), len(good)) and not self.tree.exists(place.head):
            self._cut(log, log.begin)
            os.ftruncate(log.file, 0)
        else:
            return False
        return True

    def _cut(self, log: Log, offset: int) -> None:
        """Let the log end at an offset, with the end of a record; what is cut off is kept beside it."""
        rest = disk.read_at(log.file, log.size - offset, offset)
        if self.tree.keep(log.path, rest):
            logger.warning(
                "%s ended with %d bytes of a commit that was not written to its end, and not acknowledged. "
                "They are in %s.cut now.",
                *(log.path, len(rest), log.path.name),
            )
        os.ftruncate(log.file, offset)
        if offset:
            end = self.form.end
            last = disk.read_at(log.file, len(end), max(0, offset - len(end)))
            known = next(length for length in range(len(end), -1, -1) if last.endswith(end[:length]))
            disk.write_all(log.file, end[known:])  # what an editor has taken away from it
        disk.sync(log.file)

    # ------------------------------------------------------------ writing

    @contextlib.contextmanager
    def locked(self, session_id: str, deadline: Deadline) -> Generator[View | None]:
        """The session as it is, settled, with its lock held."""
        folder = self.place(session_id).folder
        with self.locks.hold(folder.name, deadline), self.tree.held(folder):
            view = self._repaired(session_id)
            try:
                yield view
            finally:
                if view is not None:
                    view.close()

    def append(self, write: Append, deadline: Deadline) -> bool:
        """`Driver.append`."""
        session_id, place = write.session_id, self.place(write.session_id)
        with (
            disk.translated("Appending to a session", place.folder),
            self.locks.hold(place.folder.name, deadline),
            self.tree.held(place.folder),
        ):
            view = self._as_left(session_id, place, os.O_RDWR | os.O_APPEND)
            if view is None and write.was_body is not None:
                return False  # a person may have changed what the body does not tell, and what its writer has not seen
            view = view or self._repaired(session_id)
            try:
                return self._append(place, write, view)
            finally:
                if view is not None:
                    view.close()

    def _append(self, place: Place, write: Append, view: View | None) -> bool:
        if write.expected == 0:
            return (view is None or view.head is None) and self._create(place, write)
        if view is None or view.head is None:
            return False
        head = view.head
        if (head.incarnation, head.revision) != (write.incarnation, write.expected):
            return False
        if write.was_body not in (None, head.body) or write.was_updated_at not in (None, head.updated_at):
            return False
        if view.top < 0:
            view.log.decode(next(view.log.backwards()))  # names the line
        records = self._records(write, view.top)
        self._commit(place, write, view.log, records, view)
        return True

    def _as_left(self, session_id: str, place: Place, flags: int) -> View | None:
        """The session as this process has left it, if its files are as they were then."""
        found = self._left.find(session_id, place, flags)
        if found is None:
            return None
        left, file = found
        log = Log(file, left.log_stamp[2], self.form, place.log, left.begin)
        last, top, end, exchanged = left.head.revision, left.top, left.end, left.exchanged
        return View(left.head, log, left.owner, last, top, clean=True, end=end, exchanged=exchanged)

    def _create(self, place: Place, write: Append) -> bool:
        self.tree.make_folder(place.folder)
        file = self.tree.open_file(place.log, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        assert file is not None, "it is made if it is not there"
        try:
            os.ftruncate(file, 0)
            owner = self.form.encode_owner(Owner(write.session_id, write.incarnation))
            records = self._records(write, 0)
            log = Log(file, 0, self.form, place.log, len(owner))
            self._commit(place, write, log, records, owner=owner)
        finally:
            os.close(file)
        return True

    def _records(self, write: Append, top: int) -> dict[bytes, Stored]:
        """The commits as records, in their order, and what these say; no two are alike, as each has its `seq`."""
        records: dict[bytes, Stored] = {}
        for number, commit in enumerate(write.commits, 1):
            top, part = max(top, commit.run), (number, len(write.commits))
            records[self.form.encode_commit(commit, top, part)] = Stored(commit, top, part)
        return records

    def _commit(
        self,
        place: Place,
        write: Append,
        log: Log,
        records: Mapping[bytes, Stored],
        view: View | None = None,
        *,
        owner: bytes = b"",
    ) -> None:
        """Append to the log and replace the head; after an error the log is as it was, or the error says otherwise.

        The next head is written, under a name of its own, while the log is on its way to the disk. `owner`: the first
        record of a new log.
        """
        file, size, data = log.file, log.size, b"".join((owner, *records))
        sealed = is_sealed(write.head.body)
        exchanged = None if view is None or write.erases or sealed else view.exchanged
        self._left.forget(write.session_id)
        try:
            disk.write_all(file, data)
            if exchanged is not None:
                linux.begin_writing(file, size, len(data))
            head = self.heads.write(place, write.head, synced=sealed)
            disk.sync(file)
            if owner:
                self.tree.sync_folder(place.folder)
                self.tree.sync_folder(self.folder)
            if exchanged is None or not self.index.note_change(write.session_id, place.folder.name):
                self.index.put(write.head, place.folder.name, Stamp.of(head, size + len(data)))
            if write.erases or sealed:
                self.heads.forget_base(place)
            exchanged = self.heads.put_in_place(place, exchanged)
        except StorageError as error:
            error.written = self._undone(place, file, size)
            raise
        except OSError as error:
            written = self._undone(place, file, size)
            raise disk.translate(error, "Appending to a session", place.folder, written) from error
        if sealed:
            with disk.translated("Appending to a session", place.folder, "unknown"):
                self.tree.sync_folder(place.folder)
        end = () if view is None else view.end
        self._remember(head, log, write.head, records, end, exchanged)

    def _remember(
        self,
        head: os.stat_result,
        log: Log,
        row: HeadRow,
        records: Mapping[bytes, Stored],
        before: Sequence[Record],
        exchanged: int,
    ) -> None:
        """Remember how this process leaves a session, and what it has written last, `before` and now."""
        top, end = 0, [*before]
        for text, stored in records.items():
            self.form.wrote(text, stored)
            end.append(Record(text, stored.row))
            top = stored.top
        with contextlib.suppress(OSError):  # the commit is made, whatever is known of it
            self._left.put(head, os.fstat(log.file), row, log.begin, top, end, exchanged)

    def _undone(self, place: Place, file: int, size: int) -> Written:
        """Take back what was appended, as far as that can be done; whether it may be there."""
        try:
            os.ftruncate(file, size)
            disk.sync(file)
        except OSError as error:
            logger.warning("Whether a commit is in %s is not known: it could not be taken back: %s", place.log, error)
            return "unknown"
        return "no"

    def delete(self, session_id: str, incarnation: str, deadline: Deadline) -> None:
        """`Driver.delete`: all at once, by moving the folder away; then its files one by one.

        Nothing of it is read but whose it is, so that one which is damaged or of a newer version can be deleted too.
        """
        place = self.place(session_id)
        with (
            disk.translated("Deleting a session", place.folder),
            self.locks.hold(place.folder.name, deadline),
        ):
            if self._incarnation(place) == incarnation:
                self._remove(session_id, place)

    def discard(self, session_id: str, deadline: Deadline) -> bool:
        """`Driver.discard`: whatever has the name of the session's folder, be it a file or a link."""
        place = self.place(session_id)
        with (
            disk.translated("Deleting a session", place.folder),
            self.locks.hold(place.folder.name, deadline),
        ):
            there = self.tree.exists(place.folder)
            if there:
                self._remove(session_id, place)
            return there

    def _remove(self, session_id: str, place: Place) -> None:
        self.tree.make_folder(self.trash)
        away = self.trash / f"{place.folder.name}-{uuid4().hex[:8]}"
        self.tree.move(place.folder, away)
        self.tree.sync_folder(self.folder)
        self.tree.remove(away)  # before the index: on a full disk that makes the room which the index may need
        try:
            self.index.remove(session_id, place.folder.name)
        except StorageFullError as error:  # lists compare what it says, and take the row out when there is room
            logger.warning("The index still has session %r, which is deleted: %s", session_id, error)

    def _incarnation(self, place: Place) -> str | None:
        """Which incarnation has its files in a folder, by the log, or by the head where that does not say."""
        try:
            owner = self._owner(place.log)
            head = None if owner is not None else self.heads.read(place, self.tree.read(place.head))
        except (CorruptDataError, NewerVersionError):
            owner, head = None, self.heads.read(place, self.tree.read(place.head))
        return owner.incarnation if owner is not None else None if head is None else head.incarnation

    # ------------------------------------------------------------ rewriting

    def rewrite(self, session_id: str, incarnation: str, commits: Sequence[CommitRow], deadline: Deadline) -> bool:
        """`Driver.rewrite`: all at once, by a log that is written beside the old one and put in its place.

        Who has the old one open reads on in it.
        """
        place = self.place(session_id)
        with disk.translated("Rewriting commits", place.folder), self.locked(session_id, deadline) as view:
            if view is None or view.head is None or view.head.incarnation != incarnation:
                return False
            changes = [self._change(view, row) for row in commits]
            if None in changes:
                return False
            self._replace_log(place, view, sorted(change for change in changes if change is not None))
            return True

    def _change(self, view: View, row: CommitRow) -> tuple[int, int, bytes] | None:
        """From where to where a commit stands, and what is to stand there; None if there is no such commit."""
        log = view.log
        chunk = log.at(log.find(lambda seen: seen.seq >= row.seq)[0]) if 1 <= row.seq <= view.revision else None
        if chunk is None:
            return None
        there = log.decode(chunk)
        if there.row._replace(body=row.body, key=row.key) != row:
            return None
        return chunk.offset, chunk.after, self.form.encode_commit(row, there.top, there.part)

    def _replace_log(self, place: Place, view: View, changes: Sequence[tuple[int, int, bytes]]) -> None:
        assert view.head is not None, "a session with commits has a head"
        new = place.log.with_name(f".{place.log.name}.new")
        try:
            with self.tree.new_file(new) as file:
                copied = 0
                for begin, end, data in changes:
                    disk.copy(view.log.file, file, copied, begin)
                    disk.write_all(file, data)
                    copied = end
                disk.copy(view.log.file, file, copied, view.log.size)
                disk.sync(file)
            view.close()  # Windows replaces no open file
            self.heads.forget_base(place)
            self.tree.move(new, place.log)
        except OSError:
            with contextlib.suppress(OSError):  # what went wrong first is what counts
                self.tree.unlink(new)  # on a full disk nobody needs half of a log
            raise
        with disk.translated("Rewriting commits", place.folder, "unknown"):
            self.tree.sync_folder(place.folder)
        self.index.forget_keys(place.folder.name)
        self.index.put(view.head, place.folder.name, self.stamp_of(place))

    def empty_trash(self) -> None:
        """Remove the files of deleted sessions that a crash has left."""
        with disk.translated("Removing what is left of deleted sessions", self.trash):
            for name in self.tree.names(self.trash):
                try:
                    self.tree.remove(self.trash / name)
                except OSError as error:  # the others are removed all the same, and this one is tried again next time
                    logger.warning("What is left of a deleted session could not be removed: %s", error)

    def refresh(self, session_id: str, deadline: Deadline) -> None:
        """Let the index say what the head says, after a crash or a change by hand."""
        place = self.place(session_id)
        with disk.translated("Reading a session", place.folder), self.locked(session_id, deadline) as view:
            if view is None or view.head is None:
                self.index.remove(session_id, place.folder.name)
            else:
                self.index.settle(view.head, place.folder.name, self.stamp_of(place))

    def stamp_of(self, place: Place) -> Stamp:
        """What tells whether the files of a session are those that the index has seen."""
        return Stamp.of(self.tree.stat(place.head), self.tree.stat(place.log).st_size)

    # ------------------------------------------------------------ whose they are

    def owner(self, session_id: str) -> Owner | None:
        """Whose log is in the folder of a session."""
        return self._owner(self.place(session_id).log)

    def owner_of(self, folder: Path) -> str | None:
        """The session of a folder; one under a name that is not its own is refused."""
        owner = self._owner(folder / self.form.log_file)
        head = folder / self.form.head_file
        exists = self.tree.exists
        if owner is None and exists(head) and not exists(folder / self.form.log_file) and exists(head):
            raise CorruptDataError(f"There is no {self.form.log_file} in {str(folder)!r}, but a head.")
        if owner is not None and self.place(owner.session_id).folder.name != folder.name:
            raise CorruptDataError(
                f"{str(folder)!r} has the session {owner.session_id!r}, whose folder is "
                f"{self.place(owner.session_id).folder.name!r}.",
                hint="Move it there; a copy of a session is made by fork.",
            )
        return None if owner is None else owner.session_id

    def _owner(self, path: Path) -> Owner | None:
        file = self.tree.open_file(path, os.O_RDONLY)
        if file is None:
            return self.check_folder()
        try:
            return Log(file, os.fstat(file).st_size, self.form, path).owner()
        finally:
            os.close(file)
