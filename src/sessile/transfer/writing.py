"""What all files have in common that sessions are written into."""

from __future__ import annotations

import gzip
import os
import stat
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO, cast


@contextmanager
def written(to: str | os.PathLike[str] | BinaryIO) -> Generator[BinaryIO]:
    """A stream into a file that has its name when it is whole, compressed if that ends in `.gz`; or what was given.

    What is no file (a pipe, `/dev/stdout`) is written to as it is, and not replaced.
    """
    if not isinstance(to, (str, os.PathLike)):
        yield to
        return
    path = place_of(to)
    if path is None:
        with open(to, "wb") as file, _packed(file, Path(to)) as stream:
            yield stream
        return
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            with _packed(file, Path(to)) as stream:
                yield stream
            file.flush()
            os.fsync(file.fileno())
        settle(Path(name), path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextmanager
def _packed(file: IO[bytes], path: Path) -> Generator[BinaryIO]:
    if path.suffix != ".gz":
        yield cast(BinaryIO, file)
        return
    with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
        yield cast(BinaryIO, packed)


def place_of(to: str | os.PathLike[str]) -> Path | None:
    """Where the file is, or will be, behind all links; None if there is something that is no file."""
    try:
        if not stat.S_ISREG(os.stat(to).st_mode):
            return None
    except FileNotFoundError:
        pass
    return Path(to).resolve() if os.path.islink(to) else Path(to)


def settle(made: Path, to: Path) -> None:
    """Give a file that is on the disk its name, so that a loss of power does not take that away."""
    os.replace(made, to)
    if os.name == "posix":
        folder = os.open(to.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
