"""Why a session that stands in the database is there for nobody: it has expired, or it is hidden.

Told by its row alone, so that a session which this program cannot read is absent like any other, and can be deleted.
"""

from __future__ import annotations

import json
import sys

from ..errors import HeldError
from ..records import MICROSECOND, Session
from .driver import HeadRow
from .encoding import SEALED, encode, encode_head
from .vocabulary import SCOPE, body_of

ABANDONED = 3600 * MICROSECOND
"""After how long a fork in the making is taken for abandoned, in microseconds."""

LASTING = frozenset({"scope", "memories", "approvals"})
"""The kinds of hidden sessions that hold what outlives sessions: of one that cannot be read nothing else tells that."""


def hidden_because(row: HeadRow) -> str | None:
    """Why a head is in no list: `building`, `cache`, `scope`, `deleted`; or None.

    Also of one that nobody here understands. `sealed` is encrypted with a key that is not here: any of these.
    """
    if not row.hidden:
        return None
    try:
        body = json.loads(row.body)
    except (ValueError, RecursionError):
        body = None
    why = body.get("hidden") if isinstance(body, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if isinstance(why, str):
        return why
    if row.kind == "cache" or row.kind in LASTING:
        return "cache" if row.kind == "cache" else SCOPE
    return "sealed" if isinstance(body, dict) and SEALED in body else "deleted"


def check_free(head: Session) -> None:
    """Raise `HeldError` if nothing of the session may be deleted."""
    if head.hold is not None:
        raise HeldError(f"Session {head.session_id!r} is held, and nothing of it may be deleted: {head.hold}")


def tombstone(row: HeadRow, revision: int, moment: int) -> HeadRow:
    """The row of a deleted session, of which only the columns are known, and kept."""
    nothing = Session(row.session_id, row.incarnation, hidden="deleted")
    return row._replace(
        revision=revision,
        updated_at=moment,
        hidden=True,
        metadata="{}",
        body=encode({**body_of(nothing), "state": {}}),
    )


def is_recent(row: HeadRow, now: int) -> bool:
    """Whether a fork in the making is running still, and not abandoned; one from far ahead is, too."""
    return abs(now - row.updated_at) < ABANDONED


def is_expired(row: HeadRow, now: int) -> bool:
    """Whether a session is absent because its time is over."""
    return row.expires_at is not None and row.expires_at <= now


def is_building(row: HeadRow, now: int) -> bool:
    """Whether a fork is making the session at this moment, or may be: one that is sealed does not say."""
    return hidden_because(row) in ("building", "sealed") and not is_expired(row, now) and is_recent(row, now)


def as_row(head: Session) -> HeadRow:
    """The row of a head that is committed already, whatever its size."""
    return encode_head(head, max_state=sys.maxsize, max_metadata=sys.maxsize)
