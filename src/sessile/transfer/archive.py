"""The archive: sessions as lines of JSON, complete, so that they can be put into any storage as they were.

Each line is an object whose `line` says what it is:

| line | what it has |
|---|---|
| `archive` | first, once: `version` of the form, `writer`, the version of Sessile that wrote it |
| `session` | begins a session: the columns of its head as docs/format.md has them, `body` last |
| `commit` | a commit of the log: its columns, `body` last |
| `media` | a piece of a content: its `sha256`, `size`, `piece` counted from 0, `data` in base64 |
| `record` | another value beside the log: `key`, `value` in base64 |
| `end` | ends a session: how many `commits` it has, and the `sha256` of its lines |
| `complete` | last, once: how many `sessions` there are |

Every line of a kind has the same fields. What lies beside the log comes after its commits. Bodies stand in it letter by
letter as they are stored, so that an archive that was taken in and written again is the same, byte by byte.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple, cast

from .._version import __version__
from ..errors import CorruptDataError, InvalidIdError, NewerVersionError
from ..records import JsonObject
from ..storage.driver import CommitRow, HeadRow
from ..storage.encoding import encode
from ..storage.ids import check_id
from .reading import MEDIA, PASSING, Record

VERSION = 1
"""The version of the form; a reader refuses what is newer."""

PIECE = 768 * 1024
"""How many bytes of a content stand in one line."""

LONGEST = 512 * 1024 * 1024
"""How long a line may be, in bytes: what is longer is no archive of ours, and would be in memory at once."""

FIRST = 64 * 1024
"""How long the first line may be, so that of what is no archive no more is read than that."""

LARGEST = 2**63 - 1
"""What all databases take as a whole number."""

_BODY = ',"body":'


def opening() -> str:
    """The first line."""
    return _line({"line": "archive", "version": VERSION, "writer": __version__})


def closing(sessions: int) -> str:
    """The last line, without which an archive is not whole."""
    return _line({"line": "complete", "sessions": sessions})


def session_line(row: HeadRow) -> str:
    """What begins a session."""
    return _with_body({"line": "session", **row._asdict()}, row.body)


def commit_line(row: CommitRow) -> str:
    """One commit."""
    return _with_body({"line": "commit", **row._asdict()}, row.body)


def record_lines(record: Record) -> Iterator[str]:
    """A record; of media in pieces."""
    if record.digest is None:
        yield _line({"line": "record", "key": record.key, "value": base64.b64encode(record.value).decode()})
        return
    for piece, start in enumerate(range(0, max(len(record.value), 1), PIECE)):
        data = base64.b64encode(record.value[start : start + PIECE]).decode()
        fields = {"sha256": record.digest, "size": len(record.value), "piece": piece, "data": data}
        yield _line({"line": "media", **fields})


def end_line(commits: int, digest: str) -> str:
    """What ends a session."""
    return _line({"line": "end", "commits": commits, "sha256": digest})


def _line(fields: JsonObject) -> str:
    return f"{encode(fields)}\n"


def _with_body(fields: JsonObject, body: str) -> str:
    del fields["body"]
    if "\n" in body or "\r" in body:  # written by somebody else
        body = encode(json.loads(body))
    return f"{encode(fields)[:-1]}{_BODY}{body}}}\n"


# ---------------------------------------------------------------- reading


class Line(NamedTuple):
    """A line: its number, counted from 1, its bytes, and what it says."""

    number: int
    raw: bytes
    fields: JsonObject

    @property
    def kind(self) -> Any:
        """What it is."""
        return self.fields.get("line")


def read_lines(stream: BinaryIO) -> Iterator[Line]:
    """The lines of an archive. Raises `CorruptDataError`, with the number of the line that is none."""
    number = 0
    while True:
        longest = LONGEST if number else FIRST
        try:
            raw = stream.readline(longest + 1)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:  # of a packed one
            raise damaged(number + 1, f"it cannot be unpacked ({error})") from None
        if not raw:
            return
        number += 1
        if len(raw) > longest:
            raise damaged(number, f"it is longer than {longest:,} bytes")
        if not raw.endswith(b"\n"):
            raise damaged(number, "it is cut off")
        try:
            fields = json.loads(raw.decode())
        except (ValueError, RecursionError):
            raise damaged(number, "it is no JSON") from None
        if not isinstance(fields, dict):
            raise damaged(number, "it is no object")
        yield Line(number, raw, cast(JsonObject, fields))


def damaged(number: int, why: str) -> CorruptDataError:
    """The error of a line that is not what it should be."""
    return CorruptDataError(f"Line {number} of the archive is damaged: {why}.", hint="Nothing of it was taken in.")


def check_opening(line: Line) -> None:
    """Raise unless this line begins an archive that this version reads."""
    version = line.fields.get("version")
    if line.kind != "archive" or type(version) is not int:
        raise CorruptDataError("This is no archive of Sessile's: its first line does not say so.")
    if version > VERSION:
        raise NewerVersionError(
            f"The archive has version {version} (written by Sessile {line.fields.get('writer', '?')}); "
            f"this is Sessile {__version__}, which reads up to version {VERSION}."
        )


def head_of(line: Line) -> HeadRow:
    """The head that a line begins a session with."""
    return cast(HeadRow, _row(line, HeadRow, _HEAD))


def commit_of(line: Line) -> CommitRow:
    """The commit of a line."""
    return cast(CommitRow, _row(line, CommitRow, _COMMIT))


_OPTIONAL = (str, type(None))
_HEAD: dict[str, Any] = {
    "session_id": str, "incarnation": str, "revision": int, "kind": str, "agent": _OPTIONAL, "user_id": _OPTIONAL,
    "name": _OPTIONAL, "status": _OPTIONAL, "created_at": int, "updated_at": int, "expires_at": (int, type(None)),
    "hidden": bool, "metadata": str,
}  # fmt: skip
_COMMIT: dict[str, Any] = {"seq": int, "commit_id": str, "run": int, "time": int, "key": _OPTIONAL}


def _row(line: Line, kind: type[Any], columns: dict[str, Any]) -> Any:
    """The columns of a line, each of its type, and the body as it is written."""
    if set(line.fields) != {"line", "body", *columns} or not isinstance(line.fields["body"], dict):
        raise damaged(line.number, f"a {line.kind} has other fields")
    for name, types in columns.items():
        value = line.fields[name]
        if not isinstance(value, types) or (isinstance(value, bool) and types is int):
            raise damaged(line.number, f"{name} is a {type(value).__name__}")
        if isinstance(value, int) and not -LARGEST <= value <= LARGEST:
            raise damaged(line.number, f"{name} is too large")
        if name != "metadata" and (isinstance(value, str) or types is str):
            _check_text(line, name, value)
    # No string of JSON has an unescaped quotation mark, and no column is an object: the first one is the line's own.
    _, found, body = line.raw.decode().partition(_BODY)
    raw = body[:-2] if found and body.endswith("}}\n") else encode(line.fields["body"])
    return kind(**{name: line.fields[name] for name in columns}, body=raw)


def _check_text(line: Line, name: str, value: Any) -> str:
    """A text that every database takes as an id."""
    try:
        return check_id(value, name)
    except InvalidIdError as error:
        raise damaged(line.number, error.message.removesuffix(".")) from None


def record_of(line: Line) -> Record:
    """The record of a line; no content, whose pieces have lines of their own, and nothing of a running process."""
    key = _check_text(line, "key", line.fields.get("key"))
    if key.startswith((MEDIA, *PASSING)):
        raise damaged(line.number, f"{key!r} is the key of no such record")
    return Record(key, decoded(line, "value"))


def decoded(line: Line, name: str) -> bytes:
    """The bytes of a field in base64."""
    try:
        return base64.b64decode(line.fields[name], validate=True)
    except (KeyError, TypeError, ValueError, binascii.Error):
        raise damaged(line.number, f"{name} is no base64") from None


class Digest:
    """The hash of the lines of one session."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, raw: bytes) -> None:
        """One line more."""
        self._hash.update(raw)

    def text(self) -> str:
        """As it stands in the line that ends the session."""
        return self._hash.hexdigest()
