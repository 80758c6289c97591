"""Whether a session stands in two storages alike, and is what its log adds up to; and mending it where it is not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from ..errors import CorruptDataError, SessionNotFoundError
from ..records import Session
from ..storage import Storage
from ..storage.driver import CommitRow
from ..storage.fold import roll_forward
from ..storage.storage import operate
from . import placing, reading


def pages(storage: Storage, head: Session, first: int = 1) -> Iterator[list[CommitRow]]:
    """The log of a session from a commit to its head, in pages that are in memory one at a time."""
    while first <= head.revision:
        page = operate(storage, reading.read_commits, head, first)
        yield page
        first = page[-1].seq + 1


def compare(source: Storage, target: Storage, head: Session) -> None:
    """Compare all of a session: commit by commit, its records by their names, its head with what the log adds up to.

    Commits that were rewritten since they were copied, because something was erased, are rewritten in the target,
    too, and records that have gone are removed. Media are compared by their hashes, when they are read.

    Raises `CorruptDataError` where they differ otherwise, and `SessionNotFoundError` if one of them was deleted.
    """
    folded: Session | None = None
    theirs = _rows(source, head)
    for page in pages(target, head):
        wanted = list(islice(theirs, len(page)))
        _mend(target, head, wanted, page)
        folded = roll_forward(folded, wanted)
    if next(theirs, None) is not None:
        raise CorruptDataError(f"Session {head.session_id!r} has fewer commits than where it was copied from.")
    _check_head(target, head, folded)
    _compare_records(source, target, head)


def _rows(storage: Storage, head: Session) -> Iterator[CommitRow]:
    for page in pages(storage, head):
        yield from page


def _mend(target: Storage, head: Session, wanted: list[CommitRow], there: list[CommitRow]) -> None:
    """Rewrite what has the same place and name as in the source, and another body."""
    if [row[:4] for row in wanted] != [row[:4] for row in there]:
        raise CorruptDataError(f"Session {head.session_id!r} has other commits than where it was copied from.")
    changed = [mine for mine, row in zip(wanted, there, strict=True) if mine != row]
    if changed and not operate(target, placing.replace_commits, head, changed):
        raise CorruptDataError(
            f"Commits of session {head.session_id!r} were rewritten since they were copied, which cannot be done here.",
            hint="Delete the session here, and copy it again.",
        )


def _check_head(target: Storage, head: Session, folded: Session | None) -> None:
    """The head that stands there is the source's, and what the log adds up to."""
    standing = operate(target, reading.find, head.session_id)
    if standing is None or standing.head.incarnation != head.incarnation:
        raise SessionNotFoundError(f"Session {head.session_id!r} was deleted while it was being compared.")
    if standing.head.revision == head.revision and not placing.complete(head, standing.head):
        raise CorruptDataError(f"Session {head.session_id!r} has another head than where it was copied from.")
    if not is_folded(head, folded):
        raise CorruptDataError(f"The head of session {head.session_id!r} is not what its log folds to.")


def is_folded(head: Session, folded: Session | None) -> bool:
    """Whether a head is what the whole log adds up to; the log has the id that a user said."""
    return folded is not None and replace(folded, session_id=head.session_id, status=head.status) == head


def _compare_records(source: Storage, target: Storage, head: Session) -> None:
    wanted = operate(source, reading.record_names, head)
    there = operate(target, reading.record_names, head)
    for key in set(there) - set(wanted):
        operate(target, placing.remove_record, head, key)
    missing = set(wanted) - set(there)
    if missing:
        raise CorruptDataError(f"Session {head.session_id!r} lacks {len(missing)} of its media or records.")
