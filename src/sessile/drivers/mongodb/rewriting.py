"""Commits with other bodies. Each is one document, and so changes at once, also where a body lies in parts.

The new parts are written first, under a token of their own; then the commit names them; then the old ones are removed.
If the process ends in between, `sweep` removes those that no commit names: it looks at old ones again, because they
count as written anew when the rewriting begins.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from pymongo import UpdateOne

from ...storage.driver import CommitRow, Deadline
from .documents import Document, commit_document, commit_key, same_commit
from .parts import Parts, is_large
from .port import Port

WHAT = "Rewriting commits"

BATCH = 500
"""How many commits are looked at, and changed, at once."""


class Rewriting:
    """Rewrites commits of one storage.

    Args:
        port: the way to the database.
        parts: those of large commits.
    """

    def __init__(self, port: Port, parts: Parts) -> None:
        self._port = port
        self._parts = parts

    async def rewrite(
        self,
        session_id: str,
        incarnation: str,
        commits: Sequence[CommitRow],
        deadline: Deadline,
        pause: Callable[[], Awaitable[None]],
    ) -> bool:
        """What `Driver.rewrite` does in a session that is there; `pause` waits for rivals."""
        for row in commits:
            self._parts.check_commit(row)
        while True:
            there = await self._there(session_id, incarnation, commits, deadline)
            if any(not same_commit(there.get(row.seq), row) for row in commits):
                return False
            if await self._change(session_id, incarnation, commits, there, deadline):
                return True
            # Somebody else has rewritten one of them, or deleted the session.
            deadline.check(WHAT, written="unknown")
            self._port.retried(WHAT, "somebody else has changed one of them")
            await pause()

    async def _there(
        self, session_id: str, incarnation: str, commits: Sequence[CommitRow], deadline: Deadline
    ) -> dict[int, Document]:
        """What is known of the commits, without their bodies, by seq."""
        fields = ["session_id", "incarnation", "seq", "commit_id", "run", "time", "token"]
        there: dict[int, Document] = {}
        for start in range(0, len(commits), BATCH):
            keys = [commit_key(session_id, incarnation, row.seq) for row in commits[start : start + BATCH]]
            where: Document = {"session_id": {"$eq": session_id}, "_id": {"$in": keys}}
            there |= {found["seq"]: found for found in await self._port.find(WHAT, where, deadline, fields=fields)}
        return there

    async def _change(
        self,
        session_id: str,
        incarnation: str,
        commits: Sequence[CommitRow],
        there: dict[int, Document],
        deadline: Deadline,
    ) -> bool:
        """Change each commit; False if one is not as it was any more."""
        small = [row for row in commits if not is_large(row) and "token" not in there[row.seq]]
        for start in range(0, len(small), BATCH):
            batch = small[start : start + BATCH]
            changes = [
                _change(there[row.seq], commit_document(session_id, incarnation, row, self._port.now()))
                for row in batch
            ]
            if await self._port.update_all(WHAT, changes, deadline) < len(batch):
                return False
        for row in commits:
            if is_large(row) or "token" in there[row.seq]:
                document = commit_document(session_id, incarnation, row, self._port.now())
                if not await self._change_large(there[row.seq], document, row, deadline):
                    return False
        return True

    async def _change_large(self, old: Document, new: Document, row: CommitRow, deadline: Deadline) -> bool:
        """Change a commit that lies in parts, or shall; False if it is not as it was any more."""
        if is_large(row):
            new = await self._parts.write(new, deadline)
        await self._parts.touch(old, deadline)
        changed = await self._port.update_all(WHAT, [_change(old, new)], deadline) == 1
        await self._parts.remove(old if changed else new, deadline)
        return changed


def _change(old: Document, new: Document) -> UpdateOne:
    """Replace body and key of a commit whose parts, if it has some, are those that were seen."""
    names = ("body", "key", "parts", "token")
    where: Document = {
        "session_id": {"$eq": old["session_id"]},
        "_id": {"$eq": old["_id"]},
        "token": {"$eq": old["token"]} if "token" in old else {"$exists": False},
    }
    change: Document = {
        "$set": {name: new[name] for name in names if name in new},
        "$unset": {name: "" for name in names if name not in new},
    }
    return UpdateOne(where, {operator: fields for operator, fields in change.items() if fields})
