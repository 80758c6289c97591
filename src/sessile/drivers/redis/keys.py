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
from ...storage.withholding import damage_of

FIELDS = [name.encode() for name in HeadRow._fields]
"""The fields of a head's hash. One whose value is None is not there."""

STORED = [*FIELDS, b"owner"]
"""What is read of a head's hash: layout 1 had its agent under another name."""

STORED_WITHOUT_BODY = [name for name in STORED if name != b"body"]

_OTHER_THAN_TEXT: dict[str, Callable[[bytes], Any]] = {
    "revision": int,
    "created_at": int,
    "updated_at": int,
    "expires_at": int,
    "hidden": b"1".__eq__,
}
_READ = [_OTHER_THAN_TEXT.get(name, bytes.decode) for name in HeadRow._fields]
"""How each field is read."""

_OPTIONAL = frozenset({"agent", "user_id", "name", "status", "expires_at"})
_AGENT = HeadRow._fields.index("agent")
_REQUIRED = [place for place, name in enumerate(HeadRow._fields) if name not in _OPTIONAL]


class SessionKeys(NamedTuple):
    """The keys of one session.

    Attributes:
        head: a hash.
        log: a stream whose ids are `seq-0`.
        runs: a sorted set of seqs by run.
        records: a hash.
        keys: a sorted set of the keys of commits, each with its length before it and its seq behind it.
    """

    head: bytes
    log: bytes
    runs: bytes
    records: bytes
    keys: bytes

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
        """A hash: which agent's and which user's lists a session is in, for when it has expired."""
        self.moving = f"{prefix}moving".encode()
        """A hash: how far the lists of a database of layout 1 have been brought along; there only meanwhile."""

    def session(self, session_id: str) -> SessionKeys:
        """The keys of a session."""
        tag = f"{self._prefix}{{{quote(session_id, safe='')}}}".encode()
        return SessionKeys(tag + b":head", tag + b":log", tag + b":runs", tag + b":records", tag + b":keys")

    def index(self, name: str, kind: str = "", value: str | None = None) -> bytes:
        """A sorted set of all sessions; or, with a kind, of those of one agent or user, or of none."""
        which = kind and (f":no-{kind}" if value is None else f":{kind}:{quote(value, safe='')}")
        return f"{self._prefix}index:{name}{which}".encode()

    def scores(self, head: HeadRow) -> dict[bytes, int | None]:
        """The score of a session in each sorted set that may list it; None where it must not be.

        `updated` and `created` list all sessions, those of each agent, of each user, and of no user; `hidden` and
        `running` those that a sweep looks for; `expires` those that expire, by when they do.
        """
        scores: dict[bytes, int | None] = {
            self.index("expires"): head.expires_at,
            self.index("hidden"): head.updated_at if head.hidden else None,
            self.index("running"): head.updated_at if head.status == "running" else None,
        }
        if head.user_id is not None:  # it may have begun without one
            scores[self.index("updated", "user")] = scores[self.index("created", "user")] = None
        for kind, value in _kinds(head.agent, head.user_id):
            scores[self.index("updated", kind, value)] = head.updated_at
            scores[self.index("created", kind, value)] = head.created_at
        return scores

    def listing(self, agent: str | None, user_id: str | None) -> list[bytes]:
        """All sorted sets that may list a session of this agent and user."""
        return [self.index(name) for name in ("expires", "hidden", "running")] + [
            self.index(name, kind, value) for name in ("updated", "created") for kind, value in _kinds(agent, user_id)
        ]


def _kinds(agent: str | None, user_id: str | None) -> list[tuple[str, str | None]]:
    """Which lists by `updated` and by `created` a session of this agent and user is in."""
    kinds = [("", None), ("user", user_id)]
    return kinds if agent is None else [*kinds, ("agent", agent)]


def place_text(agent: str | None, user_id: str | None) -> bytes:
    """An entry of the hash of places; empty if there is nothing to say."""
    return b"" if agent is None and user_id is None else json.dumps([agent, user_id]).encode()


def place_of(text: bytes | None) -> tuple[str | None, str | None]:
    """Agent and user out of an entry of the hash of places. Raises `CorruptDataError` if it is none."""
    try:
        agent, user_id = (None, None) if text is None else json.loads(text)
    except (ValueError, TypeError) as error:
        raise CorruptDataError("The hash of places has an entry that is none.") from error
    return agent, user_id


def head_fields(head: HeadRow) -> tuple[list[bytes], list[bytes]]:
    """The names and values of a head's fields, and the names of those that have no value."""
    present: list[bytes] = []
    absent = [b"owner"]  # what layout 1 called the agent
    for name, value in zip(FIELDS, head, strict=True):
        if value is None:
            absent.append(name)
        else:
            present += (name, _text(value))
    return present, absent


def _text(value: str | int | bool) -> bytes:
    return str(int(value) if isinstance(value, bool) else value).encode()


def head_row(values: Sequence[bytes | None]) -> HeadRow | None:
    """The head out of its fields (`STORED`, or `STORED_WITHOUT_BODY`); None if it is not there.

    Raises `CorruptDataError` if they are not a head's.
    """
    *fields, owner = values
    try:
        row: list[Any] = [None if value is None else read(value) for read, value in zip(_READ, fields, strict=False)]
        if row[_AGENT] is None and owner is not None:
            row[_AGENT] = owner.decode()
    except ValueError as error:
        raise CorruptDataError(f"A key is not what a head of a session looks like: {damage_of(error)}.") from error
    if None in row and any(row[place] is None for place in _REQUIRED if place < len(row)):
        if all(value is None for value in values):
            return None
        raise CorruptDataError("A key is not what a head of a session looks like: fields are missing.")
    return HeadRow(*row, *("",) * (len(FIELDS) - len(row)))


def commit_fields(row: CommitRow) -> list[bytes]:
    """A commit as the scripts take it: seq, id, run, time, body, and the key or nothing."""
    return [str(field).encode() for field in (row.seq, row.commit_id, row.run, row.time, row.body, row.key or "")]


def commit_row(entry: Sequence[Any]) -> CommitRow:
    """The commit out of an entry of a stream, whose fields are in the order of `append.lua`."""
    try:
        fields: Any = entry[1]
        # redis-py's pipelines to a cluster make a dictionary of them.
        words: list[bytes] = [*fields.values()] if isinstance(fields, dict) else fields[1::2]  # pyright: ignore[reportUnknownVariableType]
        commit_id, run, time, body, *key = words
        seq = entry[0].partition(b"-")[0]
        return CommitRow(
            int(seq), commit_id.decode(), int(run), int(time), body.decode(), key[0].decode() if key else None
        )
    except ValueError as error:
        raise CorruptDataError(f"An entry of a stream is not a commit: {damage_of(error)}.") from error
