"""`JsonStorage` and `YamlStorage`, and the driver behind both."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self
from urllib.parse import unquote, urlsplit

from ...errors import ClosedError, CorruptDataError, DeadlineError, InvalidInputError, NewerVersionError, StorageError
from ...records import ANY_USER
from ...storage.driver import Capabilities, Deadline, Driver
from ...storage.matching import as_asked, place_of
from ...storage.rows import Append, CommitRow, Listing, ListQuery, Loaded, Span
from ...storage.storage import Storage
from ...storage.urls import check_no_url
from ...storage.withholding import damage_of
from . import disk
from .formats import Format, JsonFormat
from .index import Index, Indexed, Stamp
from .locks import Locks
from .records import Records
from .sessions import Sessions, logger
from .tree import Tree

VERSION = 1
"""Of the layout of the folder."""

MARKER = "sessile.json"
"""The file that says what the folder is."""

LOCAL = ".sessile"
"""The folder of what belongs to this machine."""

ATTEMPTS = 3
"""How often a list is rebuilt because its sessions were written to meanwhile."""


Errors = dict[str, StorageError]


class Strange(NamedTuple):
    """A folder that is no session which can be read: by which name people know it, why, and if the index knows it."""

    folder: str
    name: str
    error: StorageError
    indexed: bool


class FileStorage(Storage):
    """What `JsonStorage` and `YamlStorage` have in common."""

    @staticmethod
    def make_format() -> Format:
        """How this storage writes."""
        raise NotImplementedError

    def __init__(self, path: str | Path = "sessions", **options: Any) -> None:
        super().__init__(FileDriver(_checked_path(path), self.make_format()), **options)

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Self:
        """`json:///relative/folder`, `json:////absolute/folder`; the same with `yaml`."""
        parts = urlsplit(url)
        if parts.netloc or parts.query or parts.fragment or "?" in url or "#" in url:
            raise InvalidInputError(
                "The URL has more than the path of a folder.",
                hint=f"Write {parts.scheme}:///relative or {parts.scheme}:////absolute/folder; # is %23, ? is %3F.",
            )
        return cls(unquote(parts.path.removeprefix("/")), **options)


class JsonStorage(FileStorage):
    """Sessions as JSON files in a folder: a head that is easy to read, and a log in JSON Lines.

    An acknowledged commit survives a power cut. Threads and processes of one machine may share the folder.

    Args:
        path: the folder, made if it is not there.
        options: the keyword arguments of `Storage`.
    """

    @staticmethod
    def make_format() -> Format:
        return JsonFormat()


class YamlStorage(FileStorage):
    """Sessions as YAML files in a folder: a head, and a log that is a stream of documents. Needs the extra `yaml`.

    An acknowledged commit survives a power cut. Threads and processes of one machine may share the folder.

    Args:
        path: the folder, made if it is not there.
        options: the keyword arguments of `Storage`.
    """

    @staticmethod
    def make_format() -> Format:
        from .yaml_format import YamlFormat

        return YamlFormat()


class FileDriver(Driver):
    """The driver behind both. It holds no file open between two operations but the index."""

    name: ClassVar[str] = "files"
    capabilities = Capabilities(
        commits_per_append=100,
        max_record_bytes=16 * 1024 * 1024,
        rewrites=True,
        bounded_pages=True,
        checks_body=True,
    )
    ends_promptly = True

    def __init__(self, root: Path, form: Format) -> None:
        self.root = root
        self.tree = Tree(root)
        self.form = form
        self.locks = Locks(self.tree, root / LOCAL / "locks")
        self.index = Index(self.tree, root / LOCAL / "index.db")
        self.sessions = Sessions(self.tree, form, self.locks, self.index, self.stats)
        self.records = Records(self.sessions)
        self._compared = False
        self._strange: dict[str, Strange] = {}
        """The folders that were found and are no sessions that can be read."""
        self._closed = False

    # ------------------------------------------------------------ the folder

    async def setup(self, deadline: Deadline) -> None:
        with disk.translated("Setting up the folder", self.root):
            if not self._is_set_up():
                self.tree.make_folder(self.locks.folder)
                with self.locks.hold("setup", deadline):
                    self._set_up()

    def _is_set_up(self) -> bool:
        marker = self.tree.read(self.root / MARKER)
        if marker is not None:
            self._check_marker(marker)
        return marker is not None and self.tree.is_folder(self.sessions.folder) and self.tree.exists(self.index.path)

    def _set_up(self) -> None:
        """Make what is missing. A folder that comes out of version control has no more than its sessions."""
        self.tree.make_folder(self.sessions.folder)
        self.tree.replace(self.root / LOCAL / ".gitignore", b"*\n")
        self.index.make()
        if not self.tree.exists(self.root / MARKER):
            # No other line ends for what another machine checks out.
            self.tree.replace(self.sessions.folder / ".gitattributes", b"* -text\n")
            self.tree.replace(self.sessions.folder / ".gitignore", b".*.base\n.*.new\n")
            text = json.dumps({"sessile": VERSION, "format": self.form.name})
            self.tree.replace(self.root / MARKER, f"{text}\n".encode())

    def _check_marker(self, content: bytes) -> None:
        path = str(self.root / MARKER)
        try:
            marker = json.loads(content)
            version, name = marker["sessile"], marker["format"]
        except (ValueError, TypeError, KeyError) as error:
            raise CorruptDataError(f"{path!r} does not say what the folder is: {damage_of(error)}.") from error
        if not isinstance(version, int) or version > VERSION:
            raise NewerVersionError(f"{path!r} is of version {version!r}; this version of Sessile knows {VERSION}.")
        if name != self.form.name:
            raise InvalidInputError(
                f"The folder {str(self.root)!r} has sessions in {name!r} files, not in {self.form.name!r} files.",
                hint="Open it with the storage for them, or use another folder.",
            )

    async def close(self) -> None:
        self._closed = True
        self.index.close()

    def _begin(self, deadline: Deadline) -> None:
        """Refuse an operation whose time is over, or that comes after the end."""
        if self._closed:
            raise ClosedError("This storage was closed.")
        deadline.check("An operation on files")

    def before_fork(self) -> None:
        self.locks.before_fork()
        self.index.before_fork()

    def after_fork_in_parent(self) -> None:
        self.index.after_fork_in_parent()
        self.locks.after_fork_in_parent()

    def after_fork(self) -> None:
        self.index.after_fork()
        self.locks.after_fork()

    # ------------------------------------------------------------ the log

    async def load(self, session_id: str, newest: int, deadline: Deadline) -> Loaded | None:
        self._begin(deadline)
        with disk.translated("Reading a session", self.root):
            view = self.sessions.settled(session_id, deadline)
            if view is None:
                return None
            try:
                head = view.head
                return None if head is None else Loaded(head, view.newest(newest), time.time_ns() // 1000)
            finally:
                view.close()

    async def append(self, write: Append, deadline: Deadline) -> bool:
        self._begin(deadline)
        return self.sessions.append(write, deadline)

    async def entries(self, session_id: str, incarnation: str, span: Span, deadline: Deadline) -> list[CommitRow]:
        self._begin(deadline)
        return self.sessions.entries(session_id, incarnation, span, deadline)

    async def rewrite(
        self, session_id: str, incarnation: str, commits: Sequence[CommitRow], deadline: Deadline
    ) -> bool:
        self._begin(deadline)
        return self.sessions.rewrite(session_id, incarnation, commits, deadline)

    async def delete(self, session_id: str, incarnation: str, deadline: Deadline) -> None:
        self._begin(deadline)
        self.sessions.delete(session_id, incarnation, deadline)

    async def discard(self, session_id: str, deadline: Deadline) -> bool:
        self._begin(deadline)
        self._strange.pop(self.sessions.place(session_id).folder.name, None)
        return self.sessions.discard(session_id, deadline)

    async def sweep(self, before: int, deadline: Deadline) -> None:
        self._begin(deadline)
        self.sessions.empty_trash()

    # ------------------------------------------------------------ records

    async def get_record(self, session_id: str, incarnation: str, key: str, deadline: Deadline) -> bytes | None:
        self._begin(deadline)
        return self.records.get(session_id, incarnation, key)

    async def put_record(
        self, session_id: str, incarnation: str, key: str, value: bytes | None, deadline: Deadline
    ) -> bool:
        self._begin(deadline)
        return self.records.put(session_id, incarnation, key, value, deadline)

    async def record_keys(
        self, session_id: str, incarnation: str, prefix: str, deadline: Deadline, *, after: str = "", limit: int = 500
    ) -> list[str]:
        self._begin(deadline)
        return self.records.keys(session_id, incarnation, prefix, after, limit)

    # ------------------------------------------------------------ lists

    async def list(self, query: ListQuery, deadline: Deadline) -> Listing:
        self._begin(deadline)
        unreadable: Errors = {}
        self._compare_all(deadline, anew=query.after is None)
        with disk.translated("Listing sessions", self.root):
            rows = self.index.page(query)
            for _ in range(ATTEMPTS):
                renewed = [self._is_renewed(row, unreadable, deadline) for row in rows]
                if not any(renewed):
                    break
                rows = self.index.page(query)
        heads = [as_asked(row.head, query) for row in rows if row.head.session_id not in unreadable]
        after = place_of(rows[-1].head, query) if 0 < len(rows) >= query.limit else None
        if query.after is None and (query.user_id in (None, ANY_USER) or query.hidden is None):
            # One user's list names nothing that may be another's; looks of the storage itself, at hidden ones too, do.
            unreadable |= {strange.name: strange.error for strange in self._strange.values() if not strange.indexed}
        for error in unreadable.values():
            logger.warning("%s", error)
        return Listing(heads, unreadable, after)

    async def count(self, query: ListQuery, deadline: Deadline) -> int:
        self._begin(deadline)
        self._compare_all(deadline, anew=True)
        return self.index.count(query)

    def _is_renewed(self, row: Indexed, unreadable: Errors, deadline: Deadline) -> bool:
        """Let the index follow the files of a session; whether it had to. One that cannot be read is noted."""
        session_id = row.head.session_id
        if session_id in unreadable:
            return False
        strange = self._strange.get(row.folder)
        error = None if strange is None else strange.error
        if error is None and self._head_stamp(row.folder) != row.stamp.head:
            error = self._refresh(session_id, deadline)
            if error is None:
                return True
        if error is not None:
            unreadable[session_id] = error
        return False

    def _head_stamp(self, folder: str) -> str | None:
        """What the index must say of a head; None if there is none, or none that can be looked at."""
        try:
            return Stamp.of(self.tree.stat(self.sessions.folder / folder / self.form.head_file), 0).head
        except (OSError, CorruptDataError):
            return None

    def _refresh(self, session_id: str, deadline: Deadline) -> StorageError | None:
        """Let the index follow the files of a session; the error of one that cannot be read, which costs no other."""
        try:
            self.sessions.refresh(session_id, deadline)
        except (ClosedError, DeadlineError):
            raise
        except StorageError as error:
            self.sessions.check_folder()
            return error
        return None

    def _compare_all(self, deadline: Deadline, *, anew: bool) -> None:
        """Once for each opened storage: find what crashes, power cuts and people have changed beside the index.

        With `anew` also look again at the folders that could not be read then.
        """
        with disk.translated("Comparing the index with the folder", self.root):
            self.sessions.check_folder()
            if not self._compared:
                self._compare(deadline)
                self._compared = True
            elif anew:
                for strange in [*self._strange.values()]:
                    self._look(strange.folder, strange.name if strange.indexed else None, deadline)
            self._catch_up(deadline)

    def _catch_up(self, deadline: Deadline) -> None:
        """Let the index follow the sessions of which it was only noted that they have changed."""
        for session_id in self.index.changed():
            if not self._followed(session_id):
                self._refresh(session_id, deadline)
            deadline.check("Bringing the index up to the sessions")

    def _followed(self, session_id: str) -> bool:
        """Let the index follow the head of a session that somebody is writing to; False: nobody is, or who knows."""
        place = self.sessions.place(session_id)
        with self.locks.attempt(place.folder.name) as held:
            if held:
                return False
        try:
            stamp = self.sessions.stamp_of(place)
            head = self.sessions.heads.read(place, self.tree.read(place.head))
        except (OSError, CorruptDataError, NewerVersionError):
            return False
        return head is not None and self.index.follow(head, place.folder.name, stamp)

    def _compare(self, deadline: Deadline) -> None:
        known = self.index.stamps()
        for folder in self.tree.names(self.sessions.folder):
            if folder.startswith("."):  # none of ours does; editors and version control leave such things
                continue
            session_id, stamp = known.pop(folder, (None, None))
            if stamp is None or stamp != self._stamp(folder):
                self._look(folder, session_id, deadline)
            deadline.check("Comparing the index with the folder")
        for session_id, _ in known.values():
            self._refresh(session_id, deadline)

    def _look(self, folder: str, session_id: str | None, deadline: Deadline) -> None:
        """Let the index follow a folder, which it may know as that of a session; what cannot be read is remembered."""
        name, error = session_id, None
        try:
            name = session_id or self._session_of(self.sessions.folder / folder)
        except StorageError as caught:
            error = caught
        if error is None and name is not None:
            error = self._refresh(name, deadline)
        self._strange.pop(folder, None)
        if error is not None:
            self._strange[folder] = Strange(folder, name or folder, error, session_id is not None)

    def _stamp(self, folder: str) -> Stamp | None:
        path = self.sessions.folder / folder
        try:
            head, log = self.tree.stat(path / self.form.head_file), self.tree.stat(path / self.form.log_file)
            return Stamp.of(head, log.st_size)
        except (OSError, CorruptDataError):
            return None

    def _session_of(self, path: Path) -> str | None:
        """Whose folder it is that the index does not know; None if it is no folder, or an empty one."""
        with disk.translated("Reading a session", path):
            return self.sessions.owner_of(path) if self.tree.is_folder(path) else None


def _checked_path(path: Any) -> Path:
    """The path of the folder, absolute: a process that changes its folder stays with the same files."""
    if not isinstance(path, (str, Path)):
        raise InvalidInputError(f"The path of a folder must be text or a Path, not {type(path).__name__}.")
    if not str(path) or "\0" in str(path):
        raise InvalidInputError(f"{str(path)!r} is not the path of a folder.", hint="Name a folder.")
    check_no_url(str(path), "the path of a folder")
    return Path(os.path.abspath(path))
