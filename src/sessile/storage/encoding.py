r"""JSON text: how commits and heads are written, once, the same for every database.

The text is UTF-8 and readable; only what no UTF-8 text can hold (lone surrogates) makes a value fall back to
ASCII with `\uXXXX` escapes. Control characters, NUL among them, are always escaped.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, cast

from .._version import __version__
from ..errors import CorruptDataError, InvalidStateError, NewerVersionError, TooLargeError
from ..records import Entry, Head, JsonObject, OpenRun, Usage
from .driver import CommitRow, HeadRow

FORMAT_VERSION = 1
"""Written into every commit and head: the lowest version of this format that a reader must know.

It is raised when something is added that an older program would misread (an entry that changes the head in a new
way), not for kinds and fields that it may pass over.
"""

MAX_DEPTH = 100
"""How deep JSON values may be nested; every JSON parser of the databases that we know takes that."""

_READABLE = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), check_circular=False)
_ASCII = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":"), check_circular=False)


class RawJson(str):
    """JSON text that is put into a commit as it is."""

    __slots__ = ()


def check_json(value: Any, what: str) -> None:
    """Raise `InvalidStateError` unless `value` comes back from JSON as it went in (tuples come back as lists)."""
    _check(value, what, 0)


def _check(value: Any, what: str, depth: int) -> None:
    kind = cast(type[Any], type(value))
    if kind is str or value is None or kind is bool:
        return
    if depth > MAX_DEPTH:
        raise _too_deep(what)
    if kind is dict:
        for key, item in cast(dict[Any, Any], value).items():
            if type(key) is not str:
                raise InvalidStateError(f"{what} has a key that is not a string: {key!r}.")
            _check(item, what, depth + 1)
    elif kind is list or kind is tuple:
        for item in cast(list[Any], value):
            _check(item, what, depth + 1)
    elif kind is float:
        if not math.isfinite(value):
            raise InvalidStateError(f"{what} contains {value!r}, which is not JSON.")
    elif kind is int:
        if value.bit_length() > 14_000:  # Python refuses to read back integers of more than 4,300 digits
            raise InvalidStateError(f"{what} contains an integer of over 4,000 digits.")
    else:
        raise InvalidStateError(f"{what} contains a value of type {kind.__name__}, which is not JSON.")


def checked_copy(value: Any, what: str) -> Any:
    """A copy of a JSON value, or `InvalidStateError` as from `check_json`.

    Other threads may go on changing the value: each object and list is copied as it is at one moment.
    """
    copied = _copy(value, what, 0)
    check_json(copied, what)
    return copied


def _copy(value: Any, what: str, depth: int) -> Any:
    kind = cast(type[Any], type(value))
    if kind is not dict and kind is not list and kind is not tuple:
        return value
    if depth > MAX_DEPTH:
        raise _too_deep(what)
    if kind is dict:
        # `copy` is one step, which no other thread can come between; iterating over the object itself is many.
        return {key: _copy(item, what, depth + 1) for key, item in cast(dict[Any, Any], value).copy().items()}
    items = [_copy(item, what, depth + 1) for item in cast(list[Any], value)[:]]
    return items if kind is list else tuple(items)


def _too_deep(what: str) -> InvalidStateError:
    return InvalidStateError(f"{what} is nested deeper than {MAX_DEPTH} levels, or contains itself.")


def encode(value: Any) -> str:
    """JSON text of a checked value."""
    text = _READABLE.encode(value)
    return text if _encodable(text) else _ASCII.encode(value)


def decode(text: str, what: str = "stored JSON") -> Any:
    """The value of JSON text that was stored; damage is reported as `CorruptDataError`."""
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise CorruptDataError(f"The {what} cannot be read: {error}.") from error


def _encodable(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_size(text: str, limit: int, what: str) -> None:
    """Raise `TooLargeError` if the text has more than `limit` bytes of UTF-8."""
    if len(text) * 4 <= limit:
        return
    size = len(text.encode())
    if size > limit:
        raise TooLargeError(f"{what} has {size:,} bytes; the limit is {limit:,}.")


# ---------------------------------------------------------------- commits


def encode_commit(entries: Sequence[Entry]) -> str:
    """The body of a commit row."""
    prefix = f'{{"version":{FORMAT_VERSION},"writer":"{__version__}","entries":['
    return prefix + ",".join(_encode_entry(entry) for entry in entries) + "]}"


def _encode_entry(entry: Entry) -> str:
    fields = (
        ("kind", entry.kind),
        ("run_id", entry.run_id),
        ("run", entry.run),
        ("parent_run_id", entry.parent_run_id),
        ("owner", entry.owner),
        ("format", entry.format),
    )
    item = {name: value for name, value in fields if value is not None}
    if isinstance(entry.data, RawJson):
        return f'{encode(item)[:-1]},"data":{entry.data}}}'
    item["data"] = entry.data
    return encode(item)


def decode_commit(row: CommitRow) -> list[Entry]:
    """The entries of a commit row, with `seq` and `time`."""
    body = decode(row.body, f"commit {row.seq}")
    check_version(body, f"commit {row.seq}")
    try:
        return [
            Entry(
                item["kind"],
                item.get("data"),
                item.get("run_id"),
                item.get("run"),
                item.get("parent_run_id"),
                item.get("owner"),
                item.get("format"),
                row.seq,
                row.time,
            )
            for item in body["entries"]
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise CorruptDataError(f"Commit {row.seq} is damaged: {error!r}.") from error


def check_version(body: Any, what: str) -> None:
    """Refuse politely what only a newer version may read."""
    fields = cast(JsonObject, body) if isinstance(body, dict) else {}
    version = fields.get("version")
    if not isinstance(version, int):
        raise CorruptDataError(f"The {what} has no format version.")
    if version > FORMAT_VERSION:
        raise NewerVersionError(
            f"The {what} needs format version {version} (written by Sessile {fields.get('writer', '?')}); "
            f"this is Sessile {__version__}, which reads up to version {FORMAT_VERSION}."
        )


# ---------------------------------------------------------------- heads


def encode_head(head: Head, *, max_state: int, max_metadata: int) -> HeadRow:
    """The head as a row; raises `TooLargeError` if state or metadata are over their limits."""
    state, metadata = encode(head.state), encode(head.metadata)
    check_size(state, max_state, "The session's state")
    check_size(metadata, max_metadata, "The session's metadata")
    rest: JsonObject = {
        "version": FORMAT_VERSION,
        "writer": __version__,
        "run_count": head.run_count,
        "usage": head.usage.to_json(),
        "tip": head.tip,
        "segments": head.segments,
        "open_runs": {
            str(number): [run.run_id, run.status, run.epoch, run.until] for number, run in head.open_runs.items()
        },
        "ttl": head.ttl,
        "forked_from": head.forked_from,
        "summary": head.summary,
        "hidden": head.hidden,
    }
    return HeadRow(
        session_id=head.session_id,
        incarnation=head.incarnation,
        revision=head.revision,
        kind=head.kind,
        owner=head.owner,
        user_id=head.user_id,
        name=head.name,
        status=head.status,
        created_at=head.created_at,
        updated_at=head.updated_at,
        expires_at=head.expires_at,
        hidden=head.hidden is not None,
        metadata=metadata,
        body=f'{encode(rest)[:-1]},"state":{state}}}',
    )


def decode_head(row: HeadRow) -> Head:
    """The inverse of `encode_head`."""
    body = decode(row.body, f"head of session {row.session_id!r}")
    check_version(body, f"head of session {row.session_id!r}")
    try:
        return Head(
            session_id=row.session_id,
            incarnation=row.incarnation,
            kind=row.kind,
            owner=row.owner,
            user_id=row.user_id,
            name=row.name,
            revision=row.revision,
            run_count=body["run_count"],
            status=cast(Any, row.status),
            usage=Usage.from_json(body["usage"]),
            state=body["state"],
            metadata=decode(row.metadata, f"metadata of session {row.session_id!r}"),
            created_at=row.created_at,
            updated_at=row.updated_at,
            ttl=body["ttl"],
            expires_at=row.expires_at,
            forked_from=body["forked_from"],
            tip=body["tip"],
            segments=[(parent, first) for parent, first in body["segments"]],
            open_runs={int(number): OpenRun(*fields) for number, fields in body["open_runs"].items()},
            summary=body["summary"],
            hidden=body["hidden"],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CorruptDataError(f"The head of session {row.session_id!r} is damaged: {error!r}.") from error
