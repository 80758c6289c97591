"""How sessions are put into a storage as they stood in another: operations on the storage they come into.

A new session is hidden until it is complete, as a fork in the making is: what a crash leaves is in nobody's list. Who
begins again continues it; else `sweep` removes it after an hour.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ..errors import AlreadyExistsError, TooLargeError
from ..records import Session
from ..storage.absence import as_row
from ..storage.core import Core
from ..storage.driver import Append, CommitRow, HeadRow
from ..storage.fold import roll_forward
from ..storage.media import write_media
from .reading import MEDIA, Record

APPEND_BYTES = 1024 * 1024
"""How many characters go into one append, if it is not one commit that has more."""


async def make_room(core: Core, session_id: str, incarnation: str, revision: int | None = None) -> Session | None:
    """What stands in the place of a session, or None: of this very session what there is, expired others are removed.

    On files a crash may come between the last commit, `revision`, and the head that shows the session: nothing that
    could be appended would show it any more. Such a session is removed, and whoever calls puts it there again; without
    a revision it is returned.

    Raises `AlreadyExistsError` if there is another session of this id.
    """
    deadline = core.deadline()
    snapshot = await core.look(session_id, deadline)
    standing = snapshot.found
    if standing is not None and standing.incarnation == incarnation and standing.hidden != "deleted":
        if standing.hidden != "building" or revision is None or standing.revision < revision:
            return standing
        await remove(core, session_id, incarnation)
        return None
    if snapshot.head is not None or snapshot.building:
        raise AlreadyExistsError(
            f"There is another session {session_id!r}.",
            hint="It was made apart from this one: delete one of them, or copy into a storage of its own.",
        )
    await core.remove_stale(session_id, snapshot, deadline)
    return None


def being_put(session_id: str) -> AlreadyExistsError:
    """Of two that put the same session here at once, the one that comes later is told so."""
    return AlreadyExistsError(
        f"Session {session_id!r} is being put here by somebody else, too.", hint="Call it again.", retryable=True
    )


async def append(core: Core, before: Session | None, rows: Sequence[CommitRow], head: Session) -> Session:
    """Append commits behind `before`, of a session that is to become `head`; the head after them.

    Several appends, each whole or not at all. Until the last commit is there a new session is hidden.
    """
    at = before
    hidden = before is None or before.hidden == "building"
    for batch in _batches(rows, max(1, core.driver.capabilities.commits_per_append)):
        expected = 0 if at is None else at.revision
        at, row = _after(at, batch, head, hidden=hidden, now=core.clock.now())
        write = Append(head.session_id, head.incarnation, expected, tuple(batch), row)
        if not await core.append_once(write, core.deadline()):
            raise being_put(head.session_id)
    assert at is not None, "there is at least one commit"
    return at


def _after(
    at: Session | None, batch: Sequence[CommitRow], head: Session, *, hidden: bool, now: int
) -> tuple[Session, HeadRow]:
    """The head after a batch, and its row: at the end the very head that the session has elsewhere.

    Until then it is as young as its last append: else `sweep` would take it for abandoned, or expired.
    """
    if batch[-1].seq == head.revision:
        return head, as_row(head)
    folded = roll_forward(at, batch)
    assert folded is not None, "there is at least one commit"
    folded.session_id = head.session_id  # a log has the id that a user said
    folded.user_id = head.user_id  # and may have begun before it was anybody's
    folded.hidden = "building" if hidden else head.hidden
    row = as_row(folded)
    return folded, row._replace(updated_at=now, expires_at=None) if hidden else row


def _batches(rows: Sequence[CommitRow], most: int) -> Iterator[list[CommitRow]]:
    batch: list[CommitRow] = []
    size = 0
    for row in rows:
        if batch and (len(batch) == most or size + len(row.body) > APPEND_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += len(row.body)
    if batch:
        yield batch


async def put_record(core: Core, head: Session, record: Record) -> None:
    """Write a record beside the log of a session that stands there, complete or not.

    Raises `TooLargeError` if the database takes none of that size, and for media over the storage's limit.
    """
    if record.digest is not None:
        await write_media(core, head, record.digest, record.value, core.deadline())
        return
    most = core.driver.capabilities.max_record_bytes
    if len(record.value) > most:
        raise TooLargeError(f"The record {record.key!r} has {len(record.value):,} bytes; the limit is {most:,}.")
    await core.driver.put_record(head.session_id, head.incarnation, record.key, record.value, core.deadline())


async def remove_record(core: Core, head: Session, key: str) -> None:
    """Remove a record; of media all parts, what names them first."""
    where = (head.session_id, head.incarnation)
    keys = [key]
    if key.startswith(MEDIA):
        keys += await core.driver.record_keys(*where, f"{key}/", core.deadline())
    for one in keys:
        await core.driver.put_record(*where, one, None, core.deadline())


async def replace_commits(core: Core, head: Session, rows: Sequence[CommitRow]) -> bool:
    """Put other bodies in the place of commits that are in the log; False if the database cannot do that."""
    if not core.driver.capabilities.rewrites:
        return False
    return await core.driver.rewrite(head.session_id, head.incarnation, rows, core.deadline())


async def remove(core: Core, session_id: str, incarnation: str) -> bool:
    """Remove a session that was copied, if it still is this one, and not held; whether that was done."""
    deadline = core.deadline()
    snapshot = await core.look(session_id, deadline)
    found = snapshot.found
    if found is None or found.incarnation != incarnation or found.hold is not None:
        return False
    await core.bury(as_row(found), deadline)
    await core.remove(session_id, incarnation, deadline)
    return True


def complete(head: Session, standing: Session | None) -> bool:
    """Whether what stands there is the whole session, as far as its head tells."""
    return standing is not None and replace(standing, status=head.status) == head
