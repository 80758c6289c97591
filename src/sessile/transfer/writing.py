"""What all files have in common that sessions are written into."""

from __future__ import annotations

import gzip
import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast


@contextmanager
def written(to: str | os.PathLike[str] | BinaryIO) -> Generator[BinaryIO]:
    """A stream into a file that has its name when it is whole, compressed if that ends in `.gz`; or what was given."""
    if not isinstance(to, (str, os.PathLike)):
        yield to
        return
    path = Path(to)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            if path.suffix == ".gz":
                with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
                    yield cast(BinaryIO, packed)
            else:
                yield cast(BinaryIO, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
