"""Finding commits by their keys: in a short log by reading it, in a long one by places that the index remembers.

The index learns the keys of a log when somebody asks for one, from the record on that it has seen last. So a commit
costs nothing more for its key, and a look reads what has come since the look before. Nothing of it is the truth: a
place is believed only where the log has the commit there, and the keys of a log that was written anew are read anew.
"""

from __future__ import annotations

import os
from itertools import islice
from typing import NamedTuple

from ...errors import ClosedError, CorruptDataError, StorageError
from ...storage.driver import CommitRow, Span
from .index import Index, KeyPlace, Scanned
from .log import Chunk, Log

SHORT = 64 * 1024
"""Up to how many bytes a log is read rather than remembered."""


class _Scan(NamedTuple):
    """The places of commits with keys, and the last record before one that cannot be read."""

    places: list[KeyPlace]
    last: Chunk | None


def find(index: Index, folder: str, log: Log, span: Span, revision: int) -> list[CommitRow]:
    """The commits of a span that asks for a key, none of them beyond a revision."""
    span = span._replace(last=revision if span.last is None else min(span.last, revision))
    if log.size > SHORT:
        for _ in range(2):
            places = _remembered(index, folder, log, span, revision)
            if places is None:
                break
            rows = _rows(log, places)
            if rows is not None:
                return rows
            index.forget_keys(folder)
    return _rows(log, _chosen(_scan(log, log.begin, revision).places, span)) or []


def _remembered(index: Index, folder: str, log: Log, span: Span, revision: int) -> list[KeyPlace] | None:
    """The places of a key; None if there is no index to ask, for who may only read the folder can read commits too."""
    try:
        inode = os.fstat(log.file).st_ino
        before = index.scanned(folder)
        known = before is not None and _is_there(log, before, inode)
        start = before.offset if known and before is not None else log.begin
        places, last = _scan(log, start, revision)
        if not known or (last is not None and last.offset > start):
            scanned = None
            if last is not None:
                row = log.decode(last).row
                scanned = Scanned(inode, last.offset, row.seq, row.commit_id)
            index.note_keys(folder, scanned, places, anew=not known)
        return index.key_places(folder, span)
    except ClosedError:
        raise
    except StorageError:
        return None


def _is_there(log: Log, scanned: Scanned, inode: int) -> bool:
    """Whether the log still has the record that was seen last, where it was."""
    chunk = log.at(scanned.offset) if scanned.inode == inode else None
    try:
        row = None if chunk is None else log.decode(chunk).row
    except CorruptDataError:
        return False
    return row is not None and (row.seq, row.commit_id) == (scanned.seq, scanned.commit_id)


def _scan(log: Log, offset: int, revision: int) -> _Scan:
    """Read a log from a record on. A damaged record costs only itself; what follows it is read again next time."""
    places: list[KeyPlace] = []
    last: Chunk | None = None
    whole = True
    for chunk in log.forwards(offset):
        try:
            seen = log.glance(chunk)
            if seen.seq > revision:
                break
            row = log.decode(chunk).row if log.form.may_have_key(chunk.text) else None
        except CorruptDataError:
            whole = False
            continue
        if row is not None and row.key is not None:
            places.append(KeyPlace(row.key, row.seq, row.run, chunk.offset))
        last = chunk if whole else last
    return _Scan(places, last)


def _chosen(places: list[KeyPlace], span: Span) -> list[KeyPlace]:
    """Those of a span, in its direction."""
    ordered = reversed(places) if span.newest_first else places
    return list(islice((place for place in ordered if _in_span(place, span)), span.limit))


def _in_span(place: KeyPlace, span: Span) -> bool:
    last = place.seq if span.last is None else span.last
    low, high = (0, place.run) if span.runs is None else (max(1, span.runs[0]), span.runs[1])
    return place.key == span.key and span.first <= place.seq <= last and low <= place.run <= high


def _rows(log: Log, places: list[KeyPlace]) -> list[CommitRow] | None:
    """The commits at these places; None if another one stands at one of them."""
    rows: list[CommitRow] = []
    for place in places:
        chunk = log.at(place.offset)
        row = None if chunk is None else log.decode(chunk).row
        if row is None or (row.seq, row.key) != (place.seq, place.key):
            return None
        rows.append(row)
    return rows
