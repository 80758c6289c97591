"""Which objects there are, by what names, and what is in them.

```
sessile                                     made by `setup`
heads/<session>                             the checkpoint of a session; empty where a session was deleted
logs/<session>/<incarnation>/commits/<seq>  what one append wrote: its commits, and the head after them
logs/<session>/<incarnation>/merged/<level>/<first>-<last>
logs/<session>/<incarnation>/keys/<key>/<seq>   an empty object for each commit with a key
logs/<session>/<incarnation>/records/<key>
lists/<list>/<time>-<session>               an empty object for each place that a session has in a list
```

Ids are hashed: they may hold any character, and what is left of a deleted session must not name anybody. Only the
keys of records are not, which go with their session: they are hexadecimal, so that names sort like keys. Numbers are
padded, so that names sort like numbers; times in lists are counted down, so that the newest come first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

from ...errors import CorruptDataError, NewerVersionError
from ...storage.driver import Append, CommitRow, HeadRow
from ...storage.withholding import damage_of

FORMAT = 2
"""The highest format that an object may have. One without keys of commits has format 1, which older readers know."""

WIDTH = len(CommitRow._fields)

MOST_COMMITS = 50
"""How many commits one append has at most."""

SETUP = "sessile"

PART = 200

DIGITS = 19
_RECORD = re.compile(r"/records/((?:[0-9a-f]+/)*[0-9a-f]+)-$")
_PLACE = re.compile(rf"\d{{{DIGITS}}}-[0-9a-f]+")
_LATEST = 10**DIGITS - 1


# ---------------------------------------------------------------- names


def digest(text: str) -> str:
    """The name of an id: 160 bits of its SHA-256 hash."""
    return sha256(text.encode()).hexdigest()[:40]


def head_name(session: str) -> str:
    """The checkpoint of a session, by the digest of its id."""
    return f"heads/{session}"


def folder_of_all(session: str) -> str:
    """Where the incarnations of a session have their folders, by the digest of its id."""
    return f"logs/{session}"


def folder(session_id: str, incarnation: str) -> str:
    """Where everything of one incarnation lies, except for its head."""
    return f"{folder_of_all(digest(session_id))}/{digest(incarnation)}"


def commit_name(where: str, seq: int) -> str:
    """The object of an append whose first commit is `seq`."""
    return f"{where}/commits/{seq:0{DIGITS}}"


def seq_of(name: str) -> int:
    """The inverse of `commit_name`."""
    return int(name.rpartition("/")[2])


def merged_name(where: str, level: int, node: Node) -> str:
    """The object that a node stands for."""
    return f"{where}/merged/{level}/{node.first:0{DIGITS}}-{node.last:0{DIGITS}}"


def key_folder(where: str, key: str) -> str:
    """Where the objects lie that say which commits have a key."""
    return f"{where}/keys/{digest(key)}"


def key_name(where: str, key: str, seq: int) -> str:
    """The object that says that a commit may have a key."""
    return f"{key_folder(where, key)}/{seq:0{DIGITS}}"


def record_name(where: str, key: str) -> str:
    """The object of a record."""
    return f"{record_start(where, key)}-"


def record_start(where: str, start: str) -> str:
    """What the objects of records whose keys begin with `start` begin with, and sort behind.

    A part of a name has no more than 200 characters, for services that keep objects in files.
    """
    digits = start.encode().hex()
    return f"{where}/records/" + "/".join(digits[at : at + PART] for at in range(0, max(len(digits), 1), PART))


def key_of_record(name: str) -> str | None:
    """The inverse of `record_name`; None for an object that does not tell its key."""
    found = _RECORD.search(name)
    return None if found is None else bytes.fromhex(found[1].replace("/", "")).decode()


def old_record_name(where: str, key: str) -> str:
    """The object of a record before the first release."""
    return f"{where}/records/{digest(key)}"


def is_commit(name: str) -> bool:
    """Whether an object in the folder of appends is one."""
    return name.rpartition("/")[2].isdecimal()


def is_place(name: str) -> bool:
    """Whether an object in a list is a place."""
    return _PLACE.fullmatch(name.rpartition("/")[2]) is not None


def place_name(list_name: str, moment: int, session: str) -> str:
    """The object that puts a session into a list at a moment."""
    return f"{place_start(list_name, moment)}-{session}"


def place_start(list_name: str, moment: int) -> str:
    """What all places up to a moment come after."""
    return f"lists/{list_name}/{_LATEST - min(max(moment, 0), _LATEST):0{DIGITS}}"


def place_of_name(name: str) -> tuple[int, str]:
    """The moment and the session of a place."""
    left, _, session = name.rpartition("/")[2].partition("-")
    return _LATEST - int(left), session


# ---------------------------------------------------------------- contents


class Node(NamedTuple):
    """Commits that were merged into one object, or an object of such nodes: `first <= seq <= last`.

    `low` and `high` are the least and the greatest run among them, 0 if no commit belongs to a run.
    """

    first: int
    last: int
    low: int
    high: int


class Appended(NamedTuple):
    """What one append wrote."""

    rows: list[CommitRow]
    head: HeadRow


class Checkpoint(NamedTuple):
    """The head of a session as it was lately, and where all commits up to it are.

    Attributes:
        head: the head after the last of `rows`.
        rows: the newest commits, without a gap.
        nodes: all commits before `rows`: level 0 are merged commits, level n + 1 are nodes of level n. In the order
            of the log, higher levels come first.
        written: when, in microseconds; so is `covered_at`.
        places: the objects in lists that stand for this session.
        cleared: the objects of appends up to here may have been removed.
        safe: they have been in checkpoints for long enough to be removed.
        covered: they were in the checkpoint at `covered_at`.
        removing: the session is being removed.
    """

    head: HeadRow
    rows: list[CommitRow]
    nodes: list[list[Node]]
    written: int
    places: frozenset[str]
    cleared: int = 0
    safe: int = 0
    covered: int = 0
    covered_at: int = 0
    removing: bool = False

    @property
    def revision(self) -> int:
        return self.head.revision


def encode_append(write: Append) -> bytes:
    """The object of an append."""
    return encode_appended(Appended(list(write.commits), write.head))


def encode_appended(appended: Appended) -> bytes:
    """The object of what was appended."""
    return _encode({"head": appended.head, "rows": _lists(appended.rows)}, appended.rows)


def decode_append(data: bytes, what: str) -> Appended:
    """The inverse of `encode_append`."""
    content = _decode(data, what)
    try:
        return Appended(_rows(content["rows"]), HeadRow(*content["head"]))
    except (KeyError, TypeError) as error:
        raise _damaged(what, error) from error


def encode_checkpoint(checkpoint: Checkpoint) -> bytes:
    """The object of a session's head."""
    rows = checkpoint.rows
    return _encode({**checkpoint._asdict(), "rows": _lists(rows), "places": sorted(checkpoint.places)}, rows)


def decode_checkpoint(data: bytes, what: str) -> Checkpoint:
    """The inverse of `encode_checkpoint`."""
    content = _decode(data, what)
    content.pop("format")
    try:
        content["head"] = HeadRow(*content["head"])
        content["rows"] = _rows(content["rows"])
        content["nodes"] = [_nodes(level) for level in content["nodes"]]
        content["places"] = frozenset(content["places"])
        return Checkpoint(**content)
    except (KeyError, TypeError) as error:
        raise _damaged(what, error) from error


def encode_rows(rows: Sequence[CommitRow]) -> bytes:
    """The object of merged commits."""
    return _encode({"rows": _lists(rows)}, rows)


def decode_rows(data: bytes, what: str) -> list[CommitRow]:
    """The inverse of `encode_rows`."""
    try:
        return _rows(_decode(data, what)["rows"])
    except (KeyError, TypeError) as error:
        raise _damaged(what, error) from error


def encode_nodes(nodes: Sequence[Node]) -> bytes:
    """The object of nodes."""
    return _encode({"nodes": nodes})


def decode_nodes(data: bytes, what: str) -> list[Node]:
    """The inverse of `encode_nodes`."""
    try:
        return _nodes(_decode(data, what)["nodes"])
    except (KeyError, TypeError) as error:
        raise _damaged(what, error) from error


def _lists(rows: Sequence[CommitRow]) -> list[list[Any]]:
    """Commits with only the fields that they have: one without a key is written as ever."""
    return [[*(row[:-1] if row.key is None else row)] for row in rows]


def _rows(values: Iterable[Any]) -> list[CommitRow]:
    return [CommitRow.stored([*fields, None] if len(fields) < WIDTH else fields) for fields in values]


def _nodes(values: Iterable[Any]) -> list[Node]:
    return [Node(*fields) for fields in values]


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False)


def _encode(content: dict[str, Any], rows: Sequence[CommitRow] = ()) -> bytes:
    lowest = 1 if all(row.key is None for row in rows) else FORMAT
    return _ENCODER.encode({"format": lowest, **content}).encode()


def _decode(data: bytes, what: str) -> dict[str, Any]:
    try:
        content = json.loads(data)
        newest = content["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(what, error) from error
    if newest not in range(1, FORMAT + 1):
        raise NewerVersionError(f"The object {what} has format {newest}; this program reads up to format {FORMAT}.")
    return content


def _damaged(what: str, error: Exception) -> CorruptDataError:
    return CorruptDataError(f"The object {what} is damaged, or is not one of Sessile's: {damage_of(error)}.")
