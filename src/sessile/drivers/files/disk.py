"""What is done to files, what may go wrong with it, and what makes it survive a power cut."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ...errors import ReadOnlyError, StorageError, StorageFullError, StorageUnavailableError, Written

WINDOWS: Final = os.name == "nt"

FLAGS: Final = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
"""For every file: no child process inherits it, and Windows changes no line ends."""

_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_PASSING = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EINTR, errno.EBUSY}


@contextmanager
def translated(what: str, path: Path, written: Written = "no") -> Generator[None]:
    """Raise the errors of the operating system as those of Sessile."""
    try:
        yield
    except StorageError:  # of which one is an OSError too
        raise
    except OSError as error:
        raise translate(error, what, path, written) from error


def translate(error: OSError, what: str, path: Path, written: Written) -> StorageError:
    """An error of the operating system as one of ours."""
    text = f"{what} failed in {str(path)!r}: {error}."
    if error.errno in _FULL:
        return StorageFullError(text, written=written)
    if error.errno in _FORBIDDEN:
        return ReadOnlyError(text, written=written)
    if error.errno in _PASSING:
        return StorageUnavailableError(text, written=written, hint="Try again; check this process's limits.")
    return StorageError(text, hint="Check the disk and the folder.", written=written)


def read(path: Path) -> bytes | None:
    """The content of a file; None if there is no such file or folder."""
    file = open_file(path, os.O_RDONLY)
    if file is None:
        return None
    try:
        parts = [os.read(file, os.fstat(file).st_size + 1)]
        while parts[-1]:
            parts.append(os.read(file, 64 * 1024))
        return b"".join(parts)
    finally:
        os.close(file)


def open_file(path: Path, flags: int) -> int | None:
    """A file descriptor; None if there is no such file or folder."""
    try:
        return os.open(path, flags | FLAGS, 0o666)
    except FileNotFoundError:
        return None


def write_all(file: int, data: bytes) -> None:
    """Write all of it where the file is; a part of it may be there after an error."""
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def read_at(file: int, size: int, offset: int) -> bytes:
    """Up to `size` bytes from an offset; fewer only at the end of the file."""
    if WINDOWS:  # which has no `pread`; descriptors are not shared between threads
        os.lseek(file, offset, os.SEEK_SET)
        return os.read(file, size)
    return os.pread(file, size, offset)


def sync(file: int) -> None:
    """Return when what was written to the file is on the disk, its length too.

    On macOS `fsync` leaves it in the cache of the disk, and only F_FULLFSYNC waits (man page of fsync there).
    """
    if sys.platform == "darwin":
        import fcntl

        fcntl.fcntl(file, fcntl.F_FULLFSYNC)
    elif WINDOWS:
        os.fsync(file)
    else:
        os.fdatasync(file)


def sync_folder(path: Path) -> None:
    """Return when the names in a folder are on the disk. Windows has no such call, and does so by itself."""
    if WINDOWS:
        return
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def make_folders(path: Path) -> None:
    """Make a folder with those above it, so that they are there after a power cut too."""
    if path.is_dir():
        return
    make_folders(path.parent)
    path.mkdir(exist_ok=True)
    sync_folder(path.parent)


def write_new(path: Path, data: bytes, *, synced: bool) -> os.stat_result:
    """Write a file beside the one that it is to replace, and tell what the file system says of it."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | FLAGS, 0o666)
    try:
        write_all(file, data)
        if synced:
            sync(file)
        return os.fstat(file)
    finally:
        os.close(file)


def replace(path: Path, data: bytes) -> None:
    """Put new content in place of a file's in one step, so that it is on the disk before this returns."""
    new = path.with_name(f".{path.name}.new")
    try:
        write_new(new, data, synced=True)
        os.replace(new, path)
    except OSError:
        with contextlib.suppress(OSError):  # what went wrong first is what counts
            new.unlink(missing_ok=True)  # on a full disk nobody needs half of a file
        raise
    sync_folder(path.parent)
