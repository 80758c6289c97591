"""Large commits: BSON documents have at most 16 MB; the body of a larger commit is written in parts, before its claim.

The parts lie under a random token, which the claim names: so those of an attempt that was lost or repeated are never
taken for those of another one. What no claim names is removed by who wrote it, by `sweep`, or with the session.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal
from uuid import uuid4

from ...errors import CorruptDataError, StorageError, TooLargeError
from ...storage.driver import Append, CommitRow, Deadline
from ...storage.matching import bytes_of
from .documents import HEAD, PART, Document, commit_key, commit_of, incarnation_of, part_key
from .port import Port

MIB = 1024 * 1024

INLINE_BYTES = 15 * MIB
"""The largest body that lies in its commit, and the largest head, which leaves room for their other fields."""

PART_BYTES = 8 * MIB

LargeCommits = Literal["split", "refuse"]


class Parts:
    """Writes and reads the parts of large commits.

    Args:
        port: the way to the database.
        large_commits: `"split"`: write them. `"refuse"`: raise `TooLargeError` before anything is sent.
    """

    def __init__(self, port: Port, large_commits: LargeCommits) -> None:
        self._port = port
        self._large_commits: LargeCommits = large_commits

    def check(self, write: Append) -> None:
        """Raise `TooLargeError` for what cannot be stored, before anything is sent."""
        head = len(write.head.body.encode()) + 4 * len(write.head.metadata.encode())
        if head > INLINE_BYTES:
            raise TooLargeError(f"The head has {head:,} bytes; MongoDB takes {INLINE_BYTES:,}.")
        self.check_commit(write.commits[0])

    def check_commit(self, row: CommitRow) -> None:
        """Raise `TooLargeError` for a commit that cannot be stored."""
        if self._large_commits == "refuse" and is_large(row):
            size = len(row.body.encode())
            raise TooLargeError(
                f"The commit has {size:,} bytes; MongoDB takes {INLINE_BYTES:,} in one document.",
                hint='Store less, or make the storage with large_commits="split".',
            )

    async def write(self, claim: Document, deadline: Deadline) -> Document:
        """The claim with its body in parts, which are written; it has `at` and `_id`, session and incarnation."""
        token, content = uuid4().hex, claim["body"].encode()
        pieces = [content[start : start + PART_BYTES] for start in range(0, len(content), PART_BYTES)]
        for number, piece in enumerate(pieces):
            part = {
                "_id": part_key(claim["session_id"], claim["incarnation"], token, number),
                "session_id": claim["session_id"],
                "incarnation": claim["incarnation"],
                "seq": PART,
                "claim": claim["_id"],
                "token": token,
                "at": claim["at"],
                "born": claim["at"],
                "value": piece,
            }
            await self._put(part, deadline)
        return {**claim, "body": "", "parts": len(pieces), "token": token}

    async def _put(self, part: Document, deadline: Deadline) -> None:
        try:
            await self._port.put("Writing a part of a commit", part, deadline)
        except StorageError as error:
            error.written = "no"  # a part without a claim is nothing
            raise

    async def remove(self, claim: Document, deadline: Deadline) -> None:
        """Remove the parts that a claim names."""
        if "token" in claim:
            where = {"session_id": {"$eq": claim["session_id"]}, "seq": PART, "token": claim["token"]}
            await self._port.remove("Removing the parts of a commit", where, deadline)

    async def rows(self, documents: list[Document], deadline: Deadline) -> list[CommitRow]:
        """The commits of some documents, with bodies that lie in parts put together again."""
        found = [await self._row(document, deadline) for document in documents]
        return [row for row in found if row is not None]

    async def _row(self, document: Document, deadline: Deadline) -> CommitRow | None:
        """A part may be missing because the commit was rewritten meanwhile, or the session deleted."""
        while True:
            row = commit_of(document)
            content = await self._content(document, deadline) if "token" in document else row.body
            if content is not None:
                return row._replace(body=content)
            session_id = document["session_id"]
            key = commit_key(session_id, incarnation_of(document), row.seq)
            where = {"session_id": {"$eq": session_id}, "_id": {"$eq": key}}
            again = await self._port.find("Reading a commit", where, deadline)
            if not again:
                return None
            if again[0].get("token") == document["token"]:
                raise CorruptDataError(f"A part of commit {row.seq} of session {session_id!r} is missing.")
            document = again[0]

    async def _content(self, document: Document, deadline: Deadline) -> str | None:
        """A body that lies in parts; None if one of them is not there."""
        session_id, token = document["session_id"], document["token"]
        content = b""
        for number in range(document["parts"]):
            key = part_key(session_id, incarnation_of(document), token, number)
            where = {"session_id": {"$eq": session_id}, "_id": {"$eq": key}}
            found = await self._port.find("Reading a part of a commit", where, deadline)
            if not found:
                return None
            content += found[0]["value"]
        return content.decode()

    async def touch(self, claim: Document, deadline: Deadline) -> None:
        """Let `sweep` look once more at the parts that a claim names, because it is about to name others."""
        if "token" in claim:
            where = {"session_id": {"$eq": claim["session_id"]}, "seq": PART, "token": claim["token"]}
            await self._port.update_many("Rewriting commits", where, {"$set": {"born": self._port.now()}}, deadline)


def least_bytes(document: Document) -> int:
    """How many bytes the body of a commit has at least; where it lies in parts, the last one may be a short one."""
    parts = document.get("parts", 0)
    return (parts - 1) * PART_BYTES + 1 if parts else bytes_of(document.get("body"))


def enough_at(most: int) -> Callable[[Document], bool]:
    """Tells of the documents of a find, one after the other, by which the bodies of its commits have so many bytes."""
    left = most

    def enough(document: Document) -> bool:
        nonlocal left
        left -= 0 if document["seq"] == HEAD else least_bytes(document)
        return left <= 0

    return enough


def is_large(row: CommitRow) -> bool:
    """Whether a commit does not fit into one document."""
    return len(row.body) * 4 > INLINE_BYTES and len(row.body.encode()) > INLINE_BYTES
