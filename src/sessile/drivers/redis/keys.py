"""Where things are: the names of keys, and how rows are kept under them.

Everything of one session has the session's id as hash tag, percent-encoded, so that it lies on one node of a cluster;
the lists of sessions lie where their own names lead.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from ...errors import CorruptDataError
from ...storage.driver import CommitRow, HeadRow

FIELDS = [name.encode() for name in HeadRow._fields]
"""The fields of a head's hash. One whose value is None is not there."""

FIELDS_WITHOUT_BODY = FIELDS[:-1]

_OTHER_THAN_TEXT: dict[str, Callable[[bytes], Any]] = {
    "revision": int,
    "created_at": int,
    "updated_at": int,
    "expires_at": int,
    "hidden": b"1".__eq__,
}
_READ = [_OTHER_THAN_TEXT.get(name, bytes.decode) for name in HeadRow._fields]
"""How each field is read."""

_OPTIONAL = frozenset({"owner", "user_id", "name", "status", "expires_at"})
_REQUIRED = [place for place, name in enumerate(HeadRow._fields) if name not in _OPTIONAL]


class SessionKeys(NamedTuple):
    """The keys of one session: a hash, a stream whose ids are `seq-0`, a sorted set of seqs by run, and a hash."""

    head: bytes
    log: bytes
    runs: bytes
    records: bytes

    @property
    def channel(self) -> bytes:
        """Where the commits of the session are announced."""
        return self.head.removesuffix(b"head") + b"commits"


class Keys:
    """The names of all keys below a prefix."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self.schema = f"{prefix}schema".encode()
        self.places = f"{prefix}index:places".encode()
        """A hash: which owner's and which user's lists a session is in, for when it has expired."""

    def session(self, session_id: str) -> SessionKeys:
        """The keys of a session."""
        tag = f"{self._prefix}{{{quote(session_id, safe='')}}}".encode()
        return SessionKeys(tag + b":head", tag + b":log", tag + b":runs", tag + b":records")

    def index(self, name: str, kind: str = "", value: str | None = None) -> bytes:
        """A sorted set of all sessions, or of those of one owner or user."""
        which = "" if value is None else f":{kind}:{quote(value, safe='')}"
        return f"{self._prefix}index:{name}{which}".encode()

    def scores(self, head: HeadRow) -> dict[bytes, int | None]:
        """The score of a session in each sorted set that may list it; None where it must not be.

        `updated` and `created` list all sessions, and those of each owner and user; `hidden` and `running` those that
        a sweep looks for; `expires` those that expire, by when they do.
        """
        scores: dict[bytes, int | None] = {
            self.index("expires"): head.expires_at,
            self.index("hidden"): head.updated_at if head.hidden else None,
            self.index("running"): head.updated_at if head.status == "running" else None,
        }
        for kind, value in (("", None), ("owner", head.owner), ("user", head.user_id)):
            if value is not None or not kind:
                scores[self.index("updated", kind, value)] = head.updated_at
                scores[self.index("created", kind, value)] = head.created_at
        return scores

    def listing(self, owner: str | None, user_id: str | None) -> list[bytes]:
        """All sorted sets that may list a session of this owner and user."""
        return [self.index(name) for name in ("expires", "hidden", "running")] + [
            self.index(name, kind, value)
            for name in ("updated", "created")
            for kind, value in (("", None), ("owner", owner), ("user", user_id))
            if value is not None or not kind
        ]


def place_text(owner: str | None, user_id: str | None) -> bytes:
    """An entry of the hash of places; empty if there is nothing to say."""
    return b"" if owner is None and user_id is None else json.dumps([owner, user_id]).encode()


def place_of(text: bytes | None) -> tuple[str | None, str | None]:
    """Owner and user out of an entry of the hash of places."""
    owner, user_id = (None, None) if text is None else json.loads(text)
    return owner, user_id


def head_fields(head: HeadRow) -> tuple[list[bytes], list[bytes]]:
    """The names and values of a head's fields, and the names of those that have no value."""
    present: list[bytes] = []
    absent: list[bytes] = []
    for name, value in zip(FIELDS, head, strict=True):
        if value is None:
            absent.append(name)
        else:
            present += (name, _text(value))
    return present, absent


def _text(value: str | int | bool) -> bytes:
    return str(int(value) if isinstance(value, bool) else value).encode()


def head_row(values: Sequence[bytes | None]) -> HeadRow | None:
    """The head out of its fields, of which the body may be left out; None if it is not there.

    Raises `CorruptDataError` if they are not a head's.
    """
    try:
        row: list[Any] = [None if value is None else read(value) for read, value in zip(_READ, values, strict=False)]
    except ValueError as error:
        raise CorruptDataError(f"A key is not what a head of a session looks like: {error}.") from error
    if None in row and any(row[place] is None for place in _REQUIRED if place < len(row)):
        if all(value is None for value in values):
            return None
        raise CorruptDataError("A key is not what a head of a session looks like: fields are missing.")
    return HeadRow(*row, *("",) * (len(FIELDS) - len(row)))


def commit_row(entry: Sequence[Any]) -> CommitRow:
    """The commit out of an entry of a stream, whose fields are in the order of `append.lua`."""
    try:
        (_, commit_id, _, run, _, time, _, body) = entry[1]
        seq = entry[0].partition(b"-")[0]
        return CommitRow(int(seq), commit_id.decode(), int(run), int(time), body.decode())
    except ValueError as error:
        raise CorruptDataError(f"An entry of a stream is not a commit: {error}.") from error
