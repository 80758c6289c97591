"""Replacing bodies and keys of commits, wherever a commit is: in the checkpoint, in the object of its append, merged.

The checkpoint comes first, and only if it is the newest: whoever writes the next one has the new bodies. Objects of
appends that are still there, and merged ones, follow, each on the condition that it is as it was read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from ...storage.driver import CommitRow, Deadline
from . import layout
from .layout import Appended
from .log import Log, View
from .ports import LIST_PAGE

Changes = Mapping[int, CommitRow]


async def rewrite(
    log: Log, session_id: str, incarnation: str, commits: Sequence[CommitRow], deadline: Deadline
) -> bool:
    """`Driver.rewrite`."""
    what, where = "Rewriting commits", layout.folder(session_id, incarnation)
    changes = {row.seq: row for row in commits}
    prepared = False
    while True:
        view = await log.look(what, layout.digest(session_id), deadline)
        if view is None or not view.is_of(incarnation):
            return False
        before = await log.at(what, view, changes, deadline)
        if any(row.seq not in before or not _is_same(before[row.seq], row) for row in commits):
            return False
        if not prepared:
            await log.write_keys(what, where, commits, deadline)
            prepared = True
        if await _in_checkpoint(log, view, changes, deadline):
            break
        deadline.check(what, written="unknown")
    await _in_appends(log, what, where, changes, deadline)
    merged = await log.leaves(what, view, frozenset(changes), deadline)
    await log.port.gather(partial(_in_object, log, what, name, _rows_with(changes, name), deadline) for name in merged)
    gone = [(before[row.seq].key, row) for row in commits if before[row.seq].key not in (None, row.key)]
    await log.port.delete(
        what, [layout.key_name(where, key, row.seq) for key, row in gone if key is not None], deadline
    )
    return True


def _is_same(there: CommitRow, row: CommitRow) -> bool:
    return there._replace(body=row.body, key=row.key) == row


async def _in_checkpoint(log: Log, view: View, changes: Changes, deadline: Deadline) -> bool:
    """Rewrite what is not merged yet; False if somebody else has written a checkpoint meanwhile."""
    rows = view.rows
    if not any(row.seq in changes for row in rows):
        return True
    return await log.rewrite_recent(view, [changes.get(row.seq, row) for row in rows], deadline)


async def _in_appends(log: Log, what: str, where: str, changes: Changes, deadline: Deadline) -> None:
    """Rewrite the objects of appends that are still there, for readers who have not seen the checkpoint yet."""
    names: list[str] = []
    after: str | None = None
    while True:
        page = [each.name for each in await log.port.list(what, f"{where}/commits", deadline, after)]
        names += [name for name in page if layout.is_commit(name)]
        if len(page) < LIST_PAGE:
            break
        after = page[-1]
    # Not only up to the next one: who claims a number in vain may have left an object in between.
    spans = [(name, layout.seq_of(name)) for name in names]
    touched = [name for name, first in spans if any(first <= seq < first + layout.MOST_COMMITS for seq in changes)]
    await log.port.gather(
        partial(_in_object, log, what, name, _appended_with(changes, name), deadline) for name in touched
    )


def _appended_with(changes: Changes, name: str) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        appended = layout.decode_append(data, name)
        rows = [changes[row.seq] if _is_changed(row, changes) else row for row in appended.rows]
        return layout.encode_appended(Appended(rows, appended.head))

    return change


def _rows_with(changes: Changes, name: str) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        rows = layout.decode_rows(data, name)
        return layout.encode_rows([changes[row.seq] if _is_changed(row, changes) else row for row in rows])

    return change


def _is_changed(row: CommitRow, changes: Changes) -> bool:
    """Whether it is one of the commits: an object that was claimed in vain may have another under its number."""
    return row.seq in changes and _is_same(row, changes[row.seq])


async def _in_object(log: Log, what: str, name: str, change: Callable[[bytes], bytes], deadline: Deadline) -> None:
    """Change an object that others may be changing, or removing, at the same time."""
    while True:
        found = await log.port.get(what, name, deadline)
        if found is None or (data := change(found.data)) == found.data:
            return
        if await log.port.replace(what, name, data, found.version, deadline):
            return
        deadline.check(what, written="unknown")
