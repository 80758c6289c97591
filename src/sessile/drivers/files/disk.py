"""What is done to files, what may go wrong with it, and what makes it survive a power cut."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Final

from ...errors import ReadOnlyError, StorageError, StorageFullError, StorageUnavailableError, Written

WINDOWS: Final = os.name == "nt"

FLAGS: Final = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
"""For every file: no child process inherits it, and Windows changes no line ends."""

COPIED = 1024 * 1024
"""How much is copied at once, in bytes."""

_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_PASSING = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EINTR, errno.EBUSY}


class translated:
    """A block in which the errors of the operating system are raised as those of Sessile.

    A class, as others here are, because a generator takes three times as long, and every operation has some of them.
    """

    __slots__ = ("_path", "_what", "_written")

    def __init__(self, what: str, path: Path, written: Written = "no") -> None:
        self._what = what
        self._path = path
        self._written: Written = written

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError) and not isinstance(error, StorageError):  # of which one is an OSError too
            raise translate(error, self._what, self._path, self._written) from error


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


def copy(source: int, target: int, begin: int, end: int) -> None:
    """Write what a file has from an offset to another one at the end of what another file has."""
    while begin < end:
        part = read_at(source, min(COPIED, end - begin), begin)
        if not part:
            raise OSError(errno.EIO, "the file has become shorter meanwhile")
        write_all(target, part)
        begin += len(part)
