"""Entries as a process holds them that may have to write or read them once more: much smaller than as objects."""

from __future__ import annotations

import marshal
import pickle
import zlib
from collections.abc import Sequence
from dataclasses import fields
from operator import attrgetter

from ..records import Entry
from .computing import computed

SMALL = 4096
"""Up to how many bytes it is not worth while to compress entries."""

_ALL = attrgetter(*(field.name for field in fields(Entry)))


class Packed:
    """Entries as they were when they were packed, which takes less time than to copy them."""

    __slots__ = ("_data", "_plain", "_small")

    def __init__(self, entries: Sequence[Entry]) -> None:
        try:
            self._data, self._plain = marshal.dumps([_ALL(entry) for entry in entries]), True
        except ValueError:  # data that are JSON text already, or too deep
            self._data, self._plain = pickle.dumps(list(entries), pickle.HIGHEST_PROTOCOL), False
        self._small = False

    @property
    def size(self) -> int:
        """How many bytes it takes."""
        return len(self._data)

    def compress(self) -> Packed:
        """Make it smaller, at the cost of some time for each use of it; returns itself."""
        if not self._small:
            self._data, self._small = zlib.compress(self._data, level=1), True
        return self

    def entries(self) -> list[Entry]:
        """The entries, each time new ones."""
        data = zlib.decompress(self._data) if self._small else self._data
        if not self._plain:
            return pickle.loads(data)  # noqa: S301 (of our own making)
        return [Entry(*values) for values in marshal.loads(data)]  # noqa: S302 (of our own making)


async def packed(entries: Sequence[Entry]) -> Packed:
    """Pack entries on an event loop: large ones are compressed beside it."""
    made = Packed(entries)
    return made if made.size <= SMALL else await computed(made.compress, size=made.size // 100)
