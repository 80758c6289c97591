"""Records: files beside the log of a session, each of which ends with a line that has its key.

A file's name is made of the key and does not tell it. The value comes first, as it is: programs that show an image look
at its beginning. Files of before the first release have no such line; their keys are found by trying.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

from ...storage.driver import Deadline
from ...storage.old_records import old_keys
from . import disk
from .names import safe_name
from .sessions import Place, Sessions, logger
from .tree import Tree

MARK = b"\nsessile-record "
LONGEST_END = 2048
"""No end is longer, in bytes: a key has 255, each written as up to six."""

_RUN = re.compile(r"(?:lease|cancel)-(\d+)-")


class Records:
    """The records of the sessions of one folder."""

    def __init__(self, sessions: Sessions) -> None:
        self.sessions = sessions
        self._tree = sessions.tree

    def get(self, session_id: str, incarnation: str, key: str) -> bytes | None:
        """`Driver.get_record`. Whose log it is, is read afterwards: then the record was of this incarnation too."""
        place = self.sessions.place(session_id)
        with disk.translated("Reading a record", place.folder):
            content = self._tree.read(place.records / safe_name(key))
            owner = self.sessions.owner(session_id)
        if content is None or owner is None or owner.incarnation != incarnation:
            return None
        return content[: _value_size(content)]

    def put(self, session_id: str, incarnation: str, key: str, value: bytes | None, deadline: Deadline) -> bool:
        """`Driver.put_record`."""
        place = self.sessions.place(session_id)
        file = place.records / safe_name(key)
        with (
            disk.translated("Writing a record", place.folder),
            self.sessions.locked(session_id, deadline) as view,
        ):
            if view is None or view.head is None or view.head.incarnation != incarnation:
                return value is None
            with disk.translated("Writing a record", place.folder, "unknown"):
                if value is not None:
                    self._tree.make_folder(file.parent)
                    self._tree.replace(file, value + MARK + json.dumps(key).encode() + b"\n")
                elif self._tree.exists(file):
                    self._tree.unlink(file)
                    self._tree.sync_folder(file.parent)
        return True

    def keys(self, session_id: str, incarnation: str, prefix: str, after: str, limit: int) -> list[str]:
        """`Driver.record_keys`. Whose log it is, is read afterwards, as in `get`."""
        place = self.sessions.place(session_id)
        with disk.translated("Reading the keys of records", place.folder):
            found = sorted(key for key in self._keys(place) if key.startswith(prefix) and key > after)
            owner = self.sessions.owner(session_id)
        return found[:limit] if owner is not None and owner.incarnation == incarnation else []

    def _keys(self, place: Place) -> Iterator[str]:
        old: set[str] = set()
        for name in self._tree.names(place.records):
            end = None if name.startswith(".") else _end_of(self._tree, place.records / name)
            if end is None:
                continue
            key = _key_in(end)
            if key is None:
                old.add(name)
            else:
                yield key
        if old:
            yield from _old_keys(self._tree, place, old)


def _end_of(tree: Tree, path: Path) -> bytes | None:
    """The last bytes of a file; None if it is gone."""
    file = tree.open_file(path, os.O_RDONLY)
    if file is None:
        return None
    try:
        return disk.read_at(file, LONGEST_END, max(0, os.fstat(file).st_size - LONGEST_END))
    finally:
        os.close(file)


def _value_size(content: bytes) -> int:
    """How many bytes of a file are the value."""
    return len(content) if _key_in(content[-LONGEST_END:]) is None else content.rindex(MARK)


def _key_in(end: bytes) -> str | None:
    """The key that a file ends with; None if it has none."""
    _, mark, text = end.rpartition(MARK)
    if not mark or not text.endswith(b'"\n'):
        return None
    try:
        key = json.loads(text)
    except ValueError:
        return None
    return key if isinstance(key, str) else None


def _old_keys(tree: Tree, place: Place, names: set[str]) -> Iterator[str]:
    """The keys of records whose files do not tell them."""
    numbers = [int(found[1]) for name in names if (found := _RUN.match(name))]
    log = (tree.read(place.log) or b"").decode(errors="replace")
    for key in old_keys(lambda key: safe_name(key) in names, [log], max(numbers, default=0)):
        names.discard(safe_name(key))
        yield key
    if names:
        logger.warning("The keys of %d records in %s are not known.", len(names), place.records)
