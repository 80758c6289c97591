"""Deleting all of a user, and a report of it for whoever has to show that it was done."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime

from .._version import __version__
from ..errors import HeldError, SessileError
from ..records import JsonObject
from ..storage import Storage
from ..storage.core import Core
from ..storage.encoding import decode_head
from ..storage.ids import check_id
from ..storage.rows import HeadRow, ListQuery
from ..storage.storage import operate
from ..storage.writes import delete_user
from ..times import datetime_of

PAGE = 500

COMPACTING = {
    "sqlite": "Run VACUUM, then PRAGMA wal_checkpoint(TRUNCATE): until then free pages of the file have old text.",
    "postgres": "Run VACUUM FULL on the tables; archived write-ahead logs and replicas go by their own retention.",
    "mysql": "Run OPTIMIZE TABLE on the tables; redo, undo and binary logs go by their own retention.",
    "mongodb": "Run the compact command on the collections; the oplog goes by its size.",
    "redis": "Run BGREWRITEAOF, and BGSAVE where there are dumps; copies of these go by their own retention.",
    "dynamodb": "Nothing, unless the table has point-in-time recovery, which keeps 35 days, or backups of its own.",
    "objects": "Nothing, unless the bucket keeps versions or deleted objects: those go by its own rules.",
    "json": "",
    "yaml": "",
    "memory": "",
}
"""What is left to do in a database, so that files have nothing of what was deleted."""

OTHERS = "See docs/retention.md for what the database keeps of deleted data, and for how long."


@dataclass(frozen=True, slots=True)
class Erased:
    """One session that was deleted: what of it is no text of anybody's."""

    session_id: str
    incarnation: str
    kind: str
    created_at: str
    commits: int
    hidden: bool


@dataclass(slots=True)
class Erasure:
    """What was deleted of a user, and what was found afterwards.

    Attributes:
        user_id: whose sessions.
        started_at, ended_at: when, ISO 8601 in UTC, by the clock of this machine.
        sessions: what there was, kept results and sessions of `for_user` included.
        left: ids of sessions that are there still: made meanwhile, or held.
        held: those of them that are held, and why.
        compaction: what is left to do so that files of the database have nothing of it; empty: nothing.
        writer: the version of Sessile.
    """

    user_id: str
    started_at: str
    ended_at: str = ""
    sessions: list[Erased] = field(default_factory=list[Erased])
    left: list[str] = field(default_factory=list[str])
    held: dict[str, str] = field(default_factory=dict[str, str])
    compaction: str = ""
    writer: str = __version__

    @property
    def complete(self) -> bool:
        """Whether nothing of the user is left in the storage."""
        return not self.left

    def to_json(self) -> JsonObject:
        """As JSON."""
        return {**asdict(self), "complete": self.complete}


def erase_user(storage: Storage, user_id: str) -> Erasure:
    """Delete all sessions of a user, as `storage.delete_user`, look what is left, and report it.

    Deleted are logs, states, media, records, kept results and what an index has of them; an index of another database
    is told as `storage.delete_user` says. Not deleted are copies that were made elsewhere: forks under another user,
    archives, exports, backups.

    Args:
        storage: where they are.
        user_id: whose.

    Raises:
        InvalidInputError: the id is wrong.
        StorageError: the database failed, or a session could not be read; call it again. A session that is held is no
            error: it stands in `held`.
    """
    check_id(user_id, "user_id")
    done = Erasure(user_id, _moment())
    before = {row.session_id: row for row in operate(storage, _all_of, user_id)}
    done.held = operate(storage, _delete_all, user_id)
    left = {(row.session_id, row.incarnation) for row in operate(storage, _all_of, user_id)}
    done.sessions = [
        Erased(
            row.session_id,
            row.incarnation,
            row.kind,
            datetime_of(row.created_at).isoformat(),
            row.revision,
            row.hidden,
        )
        for row in before.values()
        if (row.session_id, row.incarnation) not in left
    ]
    done.left = sorted(session_id for session_id, _ in left)
    done.compaction = COMPACTING.get(operate(storage, _name), OTHERS)
    done.ended_at = _moment()
    return done


async def _name(core: Core) -> str:
    return core.driver.name


async def _all_of(core: Core, user_id: str) -> list[HeadRow]:
    await core.prepare(core.deadline())
    query = ListQuery(user_id=user_id, hidden=None, limit=PAGE, with_state=False, order="created")
    rows: list[HeadRow] = []
    while True:
        page = await core.driver.list(query, core.deadline())
        rows += page.rows
        if page.after is None:
            return rows
        query = replace(query, after=page.after)


async def _delete_all(core: Core, user_id: str) -> dict[str, str]:
    """Delete all that may be deleted; what may not, and why."""
    try:
        await delete_user(core, user_id)
        return {}
    except HeldError:
        held: dict[str, str] = {}
        for row in await _all_of(core, user_id):
            try:
                head = decode_head(row, with_state=False)
            except SessileError:
                continue
            if head.hold is not None:
                held[row.session_id] = head.hold
        return held


def _moment() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
