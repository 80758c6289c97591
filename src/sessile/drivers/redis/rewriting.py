"""Commits with other bodies: a stream cannot change an entry, so the log is copied, and put in its own place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from uuid import uuid4

from redis import exceptions as theirs

from ...errors import StorageError
from ...storage.driver import CommitRow, Deadline
from .errors import code_of
from .keys import SessionKeys, commit_fields
from .ports import Port
from .scripts import COPY, REPLACE

MIB = 1024 * 1024

COPIED_BYTES = 4 * MIB
"""About how much of a log is copied at once; meanwhile the server does nothing else."""

SENT_BYTES, SENT_ROWS = 4 * MIB, 500
"""How much of what changes is sent at once."""

ABANDONED_MS = 600_000
"""How long a copy stays that nobody continues."""


@dataclass(slots=True)
class _Copy:
    """A copy in the making: its key, the state of the log that it was begun from, and how far it has come."""

    key: bytes
    rewrites: bytes = b""
    seq: int = 0
    complete: bool = False
    old_keys: dict[int, bytes] = field(default_factory=dict[int, bytes])


class Rewriting:
    """Rewrites commits of one storage.

    Commits go on meanwhile: the copy is put in place by a script that first brings it up to the end of the log. If
    somebody else has replaced the log since the copy was begun, all begins anew.
    """

    def __init__(self, port: Port) -> None:
        self._port = port

    async def rewrite(
        self, keys: SessionKeys, incarnation: str, commits: Sequence[CommitRow], deadline: Deadline
    ) -> bool:
        """What `Driver.rewrite` does, all or nothing; raises `StorageError`."""
        rows = sorted(commits, key=lambda row: row.seq)
        while True:
            copy = _Copy(keys.log + b":" + uuid4().hex.encode())
            try:
                return await self._attempt(keys, copy, incarnation, rows, deadline)
            except StorageError as error:
                replaced = isinstance(error.__cause__, theirs.ResponseError) and code_of(error.__cause__) == "REPLACED"
                if not replaced:
                    raise
            deadline.check("Rewriting commits")
            self._port.retried("Rewriting commits", "somebody else has rewritten some of this session")

    async def _attempt(
        self, keys: SessionKeys, copy: _Copy, incarnation: str, rows: Sequence[CommitRow], deadline: Deadline
    ) -> bool:
        for batch, last in _batches(rows):
            while copy.seq < batch[-1].seq or not (copy.complete or copy.seq == last):
                if not await self._copy(keys, copy, incarnation, batch, last, deadline):
                    await self._port.send("Rewriting commits", [(b"UNLINK", copy.key)], deadline, writes=True)
                    return False
        args = [incarnation.encode(), copy.rewrites, b"%d" % copy.seq]
        for row in rows:
            if row.seq in copy.old_keys:
                args += [b"%d" % row.seq, copy.old_keys[row.seq], (row.key or "").encode()]
        call = ([keys.head, keys.log, copy.key, keys.keys], args)
        (done,) = await self._port.run("Rewriting commits", REPLACE, [call], deadline, writes=True)
        return done == 1

    async def _copy(
        self,
        keys: SessionKeys,
        copy: _Copy,
        incarnation: str,
        batch: Sequence[CommitRow],
        last: int | None,
        deadline: Deadline,
    ) -> bool:
        """Copy on, up to a seq or the end of the log; False if one of the commits is not there."""
        args = [incarnation.encode(), copy.rewrites]
        args += (b"%d" % number for number in (copy.seq, COPIED_BYTES, ABANDONED_MS))
        args.append(b"" if last is None else b"%d" % last)
        for row in batch:
            if row.seq > copy.seq:
                args += commit_fields(row)
        call = ([keys.head, keys.log, copy.key], args)
        (answer,) = await self._port.run("Rewriting commits", COPY, [call], deadline, writes=True)
        if not answer:
            return False
        copy.rewrites, seq, complete, old_keys = answer
        copy.seq, copy.complete = int(seq), complete == b"1"
        copy.old_keys |= {int(seq): key for seq, key in zip(old_keys[::2], old_keys[1::2], strict=True)}
        return True


def _batches(rows: Sequence[CommitRow]) -> Iterator[tuple[list[CommitRow], int | None]]:
    """What is sent at once, and up to which seq it may be copied with that: to before the next commit that changes."""
    batch: list[CommitRow] = []
    size = 0
    for row in rows:
        if batch and (size >= SENT_BYTES or len(batch) == SENT_ROWS):
            yield batch, row.seq - 1
            batch, size = [], 0
        batch.append(row)
        size += len(row.body)
    yield batch, None
