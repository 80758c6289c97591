"""`JsonStorage` and `YamlStorage`, and the driver behind both."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any, ClassVar, Self
from urllib.parse import unquote, urlsplit

from ...errors import ClosedError, CorruptDataError, InvalidInputError, NewerVersionError, StorageError
from ...storage.driver import Append, Capabilities, CommitRow, Deadline, Driver, HeadRow, ListQuery, Loaded, Span
from ...storage.storage import Storage
from ...storage.urls import check_no_url
from . import disk
from .formats import Format, JsonFormat
from .index import Index, Stamp
from .locks import Locks
from .sessions import Sessions, logger

VERSION = 1
"""Of the layout of the folder."""

MARKER = "sessile.json"
"""The file that says what the folder is."""

LOCAL = ".sessile"
"""The folder of what belongs to this machine."""

ATTEMPTS = 3
"""How often a list is made anew because its sessions were written to meanwhile."""


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
    capabilities = Capabilities(commits_per_append=100, max_record_bytes=16 * 1024 * 1024)

    def __init__(self, root: Path, form: Format) -> None:
        self.root = root
        self.form = form
        self.locks = Locks(root / LOCAL / "locks")
        self.index = Index(root / LOCAL / "index.db")
        self.sessions = Sessions(root, form, self.locks, self.index)
        self._compared = False
        self._closed = False

    # ------------------------------------------------------------ the folder

    async def setup(self, deadline: Deadline) -> None:
        with disk.translated("Setting up the folder", self.root):
            if not self._is_set_up():
                disk.make_folders(self.locks.folder)
                with self.locks.hold("setup", deadline):
                    self._set_up()

    def _is_set_up(self) -> bool:
        marker = disk.read(self.root / MARKER)
        if marker is not None:
            self._check_marker(marker)
        return marker is not None and self.sessions.folder.is_dir() and self.index.path.exists()

    def _set_up(self) -> None:
        """Make what is missing. A folder that comes out of version control has no more than its sessions."""
        disk.make_folders(self.sessions.folder)
        (self.root / LOCAL / ".gitignore").write_text("*\n", encoding="utf-8")
        self.index.make()
        if not (self.root / MARKER).exists():
            # No other line ends for what another machine checks out.
            (self.sessions.folder / ".gitattributes").write_text("* -text\n", encoding="utf-8")
            text = json.dumps({"sessile": VERSION, "format": self.form.name})
            disk.replace(self.root / MARKER, f"{text}\n".encode())

    def _check_marker(self, content: bytes) -> None:
        path = str(self.root / MARKER)
        try:
            marker = json.loads(content)
            version, name = marker["sessile"], marker["format"]
        except (ValueError, TypeError, KeyError) as error:
            raise CorruptDataError(f"{path!r} does not say what the folder is: {error!r}.") from error
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

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("This storage was closed.")

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
        self._check_open()
        with disk.translated("Reading a session", self.root), self.sessions.read(session_id, deadline) as view:
            if view is None or view.head is None:
                return None
            return Loaded(view.head, view.log.newest(newest, view.revision), time.time_ns() // 1000)

    async def append(self, write: Append, deadline: Deadline) -> bool:
        self._check_open()
        return self.sessions.append(write, deadline)

    async def entries(self, session_id: str, incarnation: str, span: Span, deadline: Deadline) -> list[CommitRow]:
        self._check_open()
        with disk.translated("Reading a session", self.root), self.sessions.read(session_id, deadline) as view:
            if view is None or view.head is None or view.head.incarnation != incarnation:
                return []
            return view.log.span(span, view.revision)

    async def delete(self, session_id: str, incarnation: str, deadline: Deadline) -> None:
        self._check_open()
        self.sessions.delete(session_id, incarnation, deadline)

    async def sweep(self, before: int, deadline: Deadline) -> None:
        self._check_open()
        self.sessions.empty_trash()

    # ------------------------------------------------------------ records

    async def get_record(self, session_id: str, incarnation: str, key: str, deadline: Deadline) -> bytes | None:
        self._check_open()
        return self.sessions.get_record(session_id, incarnation, key)

    async def put_record(
        self, session_id: str, incarnation: str, key: str, value: bytes | None, deadline: Deadline
    ) -> bool:
        self._check_open()
        return self.sessions.put_record(session_id, incarnation, key, value, deadline)

    # ------------------------------------------------------------ lists

    async def list(self, query: ListQuery, deadline: Deadline) -> list[HeadRow]:
        self._compare_all(deadline)
        with disk.translated("Listing sessions", self.root):
            rows = self.index.page(query)
            for _ in range(ATTEMPTS):
                changed = [row.head.session_id for row in rows if self._head_stamp(row.folder) != row.stamp.head]
                refreshed = [self._refresh(session_id, deadline) for session_id in changed]
                if not any(refreshed):
                    break
                rows = self.index.page(query)
        return [row.head for row in rows]

    async def count(self, query: ListQuery, deadline: Deadline) -> int:
        self._compare_all(deadline)
        self.sessions.check_folder()
        return self.index.count(query)

    def _head_stamp(self, folder: str) -> str | None:
        """What the index must say of a head; None if there is none."""
        try:
            return Stamp.of(os.stat(self.sessions.folder / folder / self.form.head_file), 0).head
        except FileNotFoundError:
            return None

    def _refresh(self, session_id: str, deadline: Deadline) -> bool:
        """Let the index follow the files of a session. One that is damaged is named, and costs the others nothing."""
        try:
            self.sessions.refresh(session_id, deadline)
        except CorruptDataError as error:
            logger.warning("%s", error)
            return False
        return True

    def _compare_all(self, deadline: Deadline) -> None:
        """Once for each opened storage: find what crashes, power cuts and people have changed beside the index."""
        self._check_open()
        if self._compared:
            return
        with disk.translated("Comparing the index with the folder", self.root):
            known = self.index.stamps()
            for folder in os.scandir(self.sessions.folder):
                session_id, stamp = known.pop(folder.name, (None, None))
                if not folder.is_dir() or (stamp is not None and stamp == self._stamp(folder)):
                    continue
                found = session_id or self._session_of(folder)
                if found is not None:
                    self._refresh(found, deadline)
                deadline.check("Comparing the index with the folder")
            for session_id, _ in known.values():
                self._refresh(session_id, deadline)
        self._compared = True

    def _stamp(self, folder: os.DirEntry[str]) -> Stamp | None:
        try:
            log = os.stat(f"{folder.path}/{self.form.log_file}")
            return Stamp.of(os.stat(f"{folder.path}/{self.form.head_file}"), log.st_size)
        except FileNotFoundError:
            return None

    def _session_of(self, folder: os.DirEntry[str]) -> str | None:
        """Whose folder it is that the index does not know."""
        try:
            return self.sessions.owner_of(Path(folder.path))
        except StorageError as error:
            logger.warning("%s", error)
            return None


def _checked_path(path: Any) -> Path:
    """The path of the folder, absolute: a process that changes its folder goes on with the same files."""
    if not isinstance(path, (str, Path)):
        raise InvalidInputError(f"The path of a folder must be text or a Path, not {type(path).__name__}.")
    if not str(path) or "\0" in str(path):
        raise InvalidInputError(f"{str(path)!r} is not the path of a folder.", hint="Name a folder.")
    check_no_url(str(path), "the path of a folder")
    return Path(os.path.abspath(path))
