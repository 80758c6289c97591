"""Folders and files that nobody but their owner reads: conversations lie in them."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from pathlib import Path
from typing import Final

FOLDER_MODE: Final = 0o700
FILE_MODE: Final = 0o600


def make_folder(path: Path) -> bool:
    """Make a folder with those above it; whether it was not there. What is there keeps its rights."""
    if path.is_dir():
        return False
    make_folder(path.parent)
    try:
        path.mkdir(FOLDER_MODE)
    except FileExistsError:
        if not path.is_dir():
            raise
        return False
    return True


def make_file(path: str | Path) -> None:
    """Make an empty file, if there is nothing. SQLite gives its logs beside a database the rights of the database."""
    with contextlib.suppress(FileExistsError):
        make_empty(path, FILE_MODE)


def make_empty(path: str | Path, mode: int, folder: int | None = None) -> None:
    """Make an empty file of a name in an open folder; `FileExistsError` if there is anything of that name, also a link.

    Where that can be done without opening it: to close a file takes away the locks that others of this process have on
    it by then (sqlite.org/howtocorrupt.html, section 2.2).
    """
    if sys.platform == "linux":
        os.mknod(path, stat.S_IFREG | mode, dir_fd=folder)
    else:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)
        os.close(os.open(path, flags, mode, dir_fd=folder))
