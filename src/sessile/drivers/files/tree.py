"""The files below one folder, which no link leads out of, and which nobody but their owner reads.

A folder that came out of version control or an archive, or that somebody else may write to, can have links in it. None
is followed below the root, in the place of a file or of a folder: every name is opened in the folder above it, which
was opened the same way. (The root itself may be a link: its path is the application's.) Where the system cannot do
that (Windows), every name on the way is looked at before it is used.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ...errors import CorruptDataError
from ..sql import private
from . import linux
from .disk import FLAGS, WINDOWS, sync, write_all

_NO_LINK: Final = getattr(os, "O_NOFOLLOW", 0)
_FOLDER: Final = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_DIRECTORY", 0) | _NO_LINK
_AT_ONCE: Final = getattr(os, "O_NONBLOCK", 0)
"""A pipe in the place of a file would let its reader wait for ever."""

ANCHORED: Final = bool(_NO_LINK) and os.open in os.supports_dir_fd
"""Whether names can be opened in an open folder."""

_is_junction: Final[Callable[[Path], bool]] = getattr(os.path, "isjunction", lambda _: False)  # Python 3.12, Windows
_MAYBE_LINK = {errno.ELOOP, errno.ENOTDIR, getattr(errno, "EMLINK", errno.ELOOP)}
"""What systems say of a link that is not to be followed."""


class _Held(threading.local):
    """A folder that a thread has open, by its path."""

    folder: str | None = None
    file: int = -1


class Tree:
    """What is done with paths below a root. Errors are the system's, and `CorruptDataError` for a link."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._prefix = str(root).rstrip(os.sep) + os.sep
        self._modes: tuple[int, int] | None = None
        self._held = _Held()

    # ------------------------------------------------------------ files

    def open_file(self, path: Path, flags: int) -> int | None:
        """A file descriptor; None if there is no such file or folder."""
        try:
            with self._above(path) as (folder, name):
                file = os.open(name, flags | FLAGS | _NO_LINK | _AT_ONCE, self.modes()[1], dir_fd=folder)
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise CorruptDataError(f"{str(path)!r} is no file.", hint="Remove it, or look what has made it.")
        return file

    def read(self, path: Path) -> bytes | None:
        """The content of a file; None if there is no such file or folder."""
        file = self.open_file(path, os.O_RDONLY)
        if file is None:
            return None
        try:
            parts = [os.read(file, os.fstat(file).st_size + 1)]
            while parts[-1]:
                parts.append(os.read(file, 64 * 1024))
            return b"".join(parts)
        finally:
            os.close(file)

    def open_again(self, path: Path, flags: int, known: tuple[int, int]) -> tuple[int, os.stat_result] | None:
        """A file that was opened before: its descriptor, and what the system says of it; None if it is another one now.

        By its whole path, unless its folder is held. If it is the same file (device and inode), no link led elsewhere.
        """
        folder, name = self._if_held(path)
        try:
            file = os.open(name, flags | FLAGS | _NO_LINK | _AT_ONCE, dir_fd=folder)
        except OSError:  # whoever opens it with care finds out what is wrong
            return None
        try:
            found = os.fstat(file)
        except BaseException:
            os.close(file)
            raise
        if (found.st_dev, found.st_ino) == known:
            return file, found
        os.close(file)
        return None

    def stat_again(self, path: Path) -> os.stat_result | None:
        """What the system says of a file that is known by its inode; None if there is none. As `open_again`."""
        folder, name = self._if_held(path)
        try:
            return os.stat(name, dir_fd=folder, follow_symlinks=False)
        except OSError:
            return None

    def _if_held(self, path: Path) -> tuple[int | None, str]:
        text = str(path)
        above, _, name = text.rpartition(os.sep)
        return (self._held.file, name) if above == self._held.folder else (None, text)

    @contextmanager
    def new_file(self, path: Path) -> Generator[int]:
        """A file to write that is new, closed again at the end. What a crash has left under its name is removed."""
        file = self._new(path)
        try:
            yield file
        finally:
            os.close(file)

    def _new(self, path: Path) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | FLAGS
        with self._above(path) as (folder, name):
            try:
                return os.open(name, flags, self.modes()[1], dir_fd=folder)
            except FileExistsError:
                os.unlink(name, dir_fd=folder)
                return os.open(name, flags, self.modes()[1], dir_fd=folder)

    def make_file(self, path: Path) -> None:
        """Make an empty file, if there is none."""
        with contextlib.suppress(FileExistsError), self._above(path) as (folder, name):
            private.make_empty(name, self.modes()[1], folder)

    def write_new(self, path: Path, data: bytes, *, synced: bool) -> os.stat_result:
        """Write a file beside the one that it is to replace, and tell what the file system says of it."""
        file = self._new(path)
        try:
            write_all(file, data)
            if synced:
                sync(file)
            return os.fstat(file)
        finally:
            os.close(file)

    def replace(self, path: Path, data: bytes) -> None:
        """Put new content in place of a file's in one step, so that it is on the disk before this returns."""
        new = path.with_name(f".{path.name}.new")
        try:
            self.write_new(new, data, synced=True)
            self.move(new, path)
        except OSError:
            with contextlib.suppress(OSError):  # what went wrong first is what counts
                self.unlink(new)  # on a full disk nobody needs half of a file
            raise
        self.sync_folder(path.parent)

    def keep(self, path: Path, part: bytes) -> bool:
        """Keep what is about to be removed from a file beside it, if it is anything; a person may have written it."""
        if not part.strip(b"\0 \r\n"):
            return False
        kept = self.open_file(path.with_name(f"{path.name}.cut"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        assert kept is not None, "the folder is there"
        try:
            write_all(kept, part)
        finally:
            os.close(kept)
        return True

    def move(self, old: Path, new: Path) -> None:
        """Give a file or folder another name, in place of a file that has it."""
        with self._above(old) as (source, name), self._above(new) as (target, new_name):
            os.replace(name, new_name, src_dir_fd=source, dst_dir_fd=target)

    def exchange(self, one: Path, other: Path) -> bool:
        """Let two files of a folder change their names in one step; False where that cannot be done."""
        with self._above(one) as (folder, name):
            return folder is not None and linux.exchange(folder, name, other.name)

    def link(self, path: Path, name: Path) -> None:
        """Give a file another name in its folder."""
        with self._above(path) as (folder, old):
            new = name.name if folder is not None else str(name)
            os.link(old, new, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)

    def unlink(self, path: Path) -> None:
        """Remove a file, if it is there; of a link the link."""
        with contextlib.suppress(FileNotFoundError), self._above(path) as (folder, name):
            os.unlink(name, dir_fd=folder)

    # ------------------------------------------------------------ folders

    def make_folder(self, path: Path) -> None:
        """Make a folder with those above it, so that they are there after a power cut too."""
        if path == self.root:
            if private.make_folder(path):
                self._sync_above_root()
            return
        if self.is_folder(path):
            return
        self.make_folder(path.parent)
        with self._above(path) as (folder, name), contextlib.suppress(FileExistsError):
            os.mkdir(name, self.modes()[0], dir_fd=folder)
        self.sync_folder(path.parent)

    def _sync_above_root(self) -> None:
        if not WINDOWS:
            file = os.open(self.root.parent, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(file)
            finally:
                os.close(file)

    def sync_folder(self, path: Path) -> None:
        """Return when the names in a folder are on the disk. Windows has no such call, and does so by itself."""
        if WINDOWS:
            return
        with self._opened(path) as file:
            os.fsync(file)

    def names(self, path: Path) -> list[str]:
        """The names in a folder; none if it is not there."""
        try:
            if not ANCHORED:
                self._check(path)
                return os.listdir(path)
            with self._opened(path) as file:
                return os.listdir(file)
        except FileNotFoundError:
            return []

    def remove(self, path: Path) -> None:
        """Remove a folder with all that is in it, which another process may be doing as well."""
        while self.exists(path):
            with contextlib.suppress(FileNotFoundError), self._above(path) as (folder, name):
                if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                    shutil.rmtree(name, dir_fd=folder)  # which follows no links
                else:
                    os.unlink(name, dir_fd=folder)

    # ------------------------------------------------------------ what is there

    def stat(self, path: Path) -> os.stat_result:
        """What the system says of a file or folder; of a link itself."""
        with self._above(path) as (folder, name):
            return os.stat(name, dir_fd=folder, follow_symlinks=False)

    def exists(self, path: Path) -> bool:
        """Whether there is anything of that name."""
        try:
            self.stat(path)
        except FileNotFoundError:
            return False
        return True

    def is_folder(self, path: Path) -> bool:
        """Whether there is a folder; `CorruptDataError` for a link."""
        try:
            mode = os.stat(path).st_mode if path == self.root else self.stat(path).st_mode
        except FileNotFoundError:
            return False
        if stat.S_ISLNK(mode):
            raise _link(path)
        return stat.S_ISDIR(mode)

    def check_no_link(self, path: Path) -> None:
        """Raise `CorruptDataError` if there is a link of that name, or on the way."""
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISLNK(self.stat(path).st_mode):
                raise _link(path)

    def modes(self) -> tuple[int, int]:
        """The rights of new folders and files: their owner's, and those of the root's group if it may write there."""
        if self._modes is None:
            shared = stat.S_IMODE(os.stat(self.root).st_mode) & 0o020
            self._modes = (0o770, 0o660) if shared else (private.FOLDER_MODE, private.FILE_MODE)
        return self._modes

    # ------------------------------------------------------------ the way down

    def held(self, folder: Path) -> _Holding:
        """A block for which a folder is opened once for all that this thread does in it, if it is there."""
        return _Holding(self, folder)

    def hold(self, folder: Path) -> bool:
        """Open a folder until `let_go`; whether it is this call that did."""
        if not ANCHORED or self._held.folder is not None:
            return False
        try:
            file = self._walk(self._parts(folder))
        except FileNotFoundError:
            return False
        self._held.folder, self._held.file = str(folder), file
        return True

    def let_go(self) -> None:
        """Close the folder that `hold` has opened."""
        file, self._held.folder = self._held.file, None  # in one: a finalizer may come in between, and hold another one
        os.close(file)

    def _above(self, path: Path) -> _Above:
        return _Above(self, path)

    def enter(self, path: Path) -> tuple[int | None, str, int]:
        """The folder that a path is in, open, its name there, and what is to be closed afterwards (-1: nothing)."""
        if not ANCHORED:
            self._check(path)
            return None, str(path), -1
        above, _, name = str(path).rpartition(os.sep)
        if above == self._held.folder:
            return self._held.file, name, -1
        if f"{above}{os.sep}" == self._prefix:
            return None, str(path), -1  # of whose parts only the last one is below the root
        folder = self._walk(self._parts(path)[:-1])
        return folder, name, folder

    @contextmanager
    def _opened(self, path: Path) -> Generator[int]:
        if str(path) == self._held.folder:
            yield self._held.file
            return
        file = self._walk(self._parts(path))
        try:
            yield file
        finally:
            os.close(file)

    def _walk(self, parts: list[str]) -> int:
        """Open a folder, part by part; the first is the root with the name below it, of which only that is no link."""
        try:
            if not parts:
                return os.open(self.root, _FOLDER & ~_NO_LINK)
            folder = os.open(f"{self._prefix}{parts[0]}", _FOLDER)
            for part in parts[1:]:
                try:
                    below = os.open(part, _FOLDER, dir_fd=folder)
                finally:
                    os.close(folder)
                folder = below
        except OSError as error:
            self.explain(error, self.root.joinpath(*parts))
            raise
        return folder

    def _parts(self, path: Path) -> list[str]:
        text = str(path)
        if text.startswith(self._prefix):
            return text[len(self._prefix) :].split(os.sep)
        assert path == self.root, "paths are made of the root"
        return []

    def explain(self, error: OSError, path: Path) -> None:
        """Raise a clearer error if a link was the reason."""
        if error.errno in _MAYBE_LINK:
            self._check(path, error)

    def _check(self, path: Path, cause: OSError | None = None) -> None:
        """Raise `CorruptDataError` if there is a link on the way, or at its end."""
        at = self.root
        for part in self._parts(path):
            at = at / part
            if at.is_symlink() or _is_junction(at):
                raise _link(at) from cause


class _Above:
    """The folder that a path is in, open, and its name there; or, where that cannot be, None and the path.

    A class, because a turn does this ten times, and a generator takes three times as long.
    """

    __slots__ = ("_close", "_path", "_tree")

    def __init__(self, tree: Tree, path: Path) -> None:
        self._tree = tree
        self._path = path

    def __enter__(self) -> tuple[int | None, str]:
        folder, name, self._close = self._tree.enter(self._path)
        return folder, name

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._close >= 0:
            os.close(self._close)
        if isinstance(error, OSError):
            self._tree.explain(error, self._path)


class _Holding:
    """A block of `Tree.held`."""

    __slots__ = ("_folder", "_ours", "_tree")

    def __init__(self, tree: Tree, folder: Path) -> None:
        self._tree = tree
        self._folder = folder
        self._ours = False

    def __enter__(self) -> None:
        self._ours = self._tree.hold(self._folder)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._ours:
            self._tree.let_go()


def _link(path: Path) -> CorruptDataError:
    return CorruptDataError(
        f"{str(path)!r} is a link, and links in a folder of sessions are not followed.",
        hint="Remove it, or put what it leads to in its place.",
    )
