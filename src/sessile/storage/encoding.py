r"""JSON text: how commits and heads are written, once, the same for every database.

The text is UTF-8 and readable; only what no UTF-8 text can hold (lone surrogates) makes a value fall back to
ASCII with `\uXXXX` escapes. Control characters, NUL among them, are always escaped.
"""

from __future__ import annotations

import json
import marshal
import math
import re
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from itertools import product
from typing import Any, Literal, cast, overload

from .._version import __version__
from ..errors import CorruptDataError, InvalidStateError, NewerVersionError, SealedError, TooLargeError
from ..records import Entry, JsonObject, Message, Session
from . import quick_json
from .driver import CommitRow, HeadRow
from .states import MARK, UnreadState
from .threads import check_hurry
from .vocabulary import RENAMED, MessageAdded, body_of, newest_version, session_of, version_needed
from .withholding import damage_of

FORMAT_VERSION = newest_version()
"""The highest format version that this program reads.

Every commit and head says the lowest version that its reader must know: the highest that one of its entries, or fields,
needs. So an older program is refused what it would misread, and nothing else.
"""

SEALED = "sealed"
"""The field of a body that is encrypted (`sessile.encryption`); `problem` says why it was not decrypted."""
_SEALED = re.compile(rf'\s*{{\s*"{SEALED}"')

MAX_DEPTH = 100
"""How deep JSON values may be nested; every JSON parser of the databases that we know takes that."""

LARGE = 2**63
"""Integers below it, and above its negative, have few digits."""

EMPTY = "{}"
"""The JSON text of an object that has nothing: most sessions have no metadata, and many no state."""

LONGEST_WAY = 20
"""Of how many keys the place of a value is named."""


def _encoder(*, ensure_ascii: bool, sort_keys: bool = False) -> Callable[[Any], str]:
    """JSON text of a value, as `json.dumps` gives it with these options.

    `json` makes the C part of an encoder anew for each value, which takes twice the time that a small value takes.
    """
    encoder = json.JSONEncoder(
        ensure_ascii=ensure_ascii, sort_keys=sort_keys, allow_nan=False, separators=(",", ":"), check_circular=False
    )
    compiled = getattr(json.encoder, "c_make_encoder", None)
    if compiled is None:  # an interpreter that has none
        return encoder.encode
    quoted = json.encoder.encode_basestring_ascii if ensure_ascii else json.encoder.encode_basestring
    parts = compiled(None, encoder.default, quoted, None, ":", ",", sort_keys, False, False)
    return lambda value: "".join(parts(value, 0))


_readable, _ascii = _encoder(ensure_ascii=False), _encoder(ensure_ascii=True)
_sorted = _encoder(ensure_ascii=False, sort_keys=True)
_sorted_ascii = _encoder(ensure_ascii=True, sort_keys=True)


class RawJson(str):
    """JSON text that is put into a commit as it is."""

    __slots__ = ()


class _Odd(Exception):
    """What is not JSON in a value, and the way there, from the inside out."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        self.way: list[Any] = []

    def refused(self, what: str) -> InvalidStateError:
        """The error that names it, and its place as one would write it in Python: `state["cart"][3]`."""
        if not self.way or len(self.way) > LONGEST_WAY:
            return InvalidStateError(f"{what} {self.reason}.")
        place = "".join(f"[{json.dumps(key, ensure_ascii=False)}]" for key in reversed(self.way))
        name = "state" if "state" in what else "value" if " " in what else what
        return InvalidStateError(f"{what} {self.reason}: {name}{place}.")


def check_json(value: Any, what: str) -> None:
    """Raise `InvalidStateError` unless `value` comes back from JSON as it went in (tuples come back as lists)."""
    try:
        _check(value, 0)
    except _Odd as odd:
        raise odd.refused(what) from None


def _check(value: Any, depth: int) -> None:
    kind = cast(type[Any], type(value))
    if kind is str or value is None or kind is bool:
        return
    if depth > MAX_DEPTH:
        raise _too_deep()
    if kind is dict:
        _check_items(cast(dict[Any, Any], value).items(), depth)
    elif kind is list or kind is tuple:
        _check_items(enumerate(cast(list[Any], value)), depth, listed=True)
    elif kind is float:
        if not math.isfinite(value):
            raise _Odd(f"contains {value!r}, which is not JSON")
    elif kind is int:
        if value.bit_length() > 14_000:  # Python refuses to read back integers of more than 4,300 digits
            raise _Odd("contains an integer of over 4,000 digits")
    else:
        raise _Odd(f"contains a value of type {kind.__name__}, which is not JSON")


def _check_items(items: Iterable[tuple[Any, Any]], depth: int, *, listed: bool = False) -> None:
    key: Any = None
    try:
        for key, item in items:
            if not listed and type(key) is not str:
                key, named = None, type(key).__name__
                raise _Odd(f"has a key that is a {named}, not a string")
            _check(item, depth + 1)
    except _Odd as odd:
        if key is not None:
            odd.way.append(key)
        raise


def plain_json(value: Any, what: str) -> Any:
    """The value as it will be read back, its own: tuples as lists. Raises as `check_json`."""
    if value is None or type(value) is str:
        return value
    try:
        return _plain(value, 0)
    except _Odd:
        check_json(value, what)  # which says where it is
        raise


def _plain(value: Any, depth: int) -> Any:
    """`_check` and a copy in one go. Most values are texts and nulls, for which nothing is called."""
    kind: Any = type(value)  # pyright: ignore[reportUnknownVariableType] (`cast` takes as long as the rest)
    if depth > MAX_DEPTH:
        _check(value, depth)
    elif kind is dict:
        copied: JsonObject = value.copy()
        for key, item in copied.items():
            if type(key) is not str:  # pyright: ignore[reportUnnecessaryComparison] (callers give what they like)
                raise _Odd("has a key that is not a string")
            kind = type(item)  # pyright: ignore[reportUnknownVariableType]
            if item is None or kind is str or (kind is int and -LARGE < item < LARGE):
                continue
            copied[key] = _plain(item, depth + 1)
        return copied
    elif kind is list or kind is tuple:
        return [item if type(item) is str else _plain(item, depth + 1) for item in value]
    elif kind is not int or not -LARGE < value < LARGE:
        _check(value, depth)
    return value


def checked_copy(value: Any, what: str) -> Any:
    """A copy of a JSON value, or `InvalidStateError` as from `check_json`.

    Other threads may go on changing the value: each object and list is copied as it is at one moment.
    """
    try:
        return _checked_copy(value, 0)
    except _Odd as odd:
        raise odd.refused(what) from None


def json_part(value: JsonObject, before: JsonObject) -> JsonObject:
    """A copy of an object without what in it is not JSON: there stands what stood there before, or nothing.

    Lists are kept whole or not at all.
    """
    return _json_part(value, before, 0, ())


def _json_part(value: JsonObject, before: Any, depth: int, inside: tuple[int, ...]) -> JsonObject:
    kept: JsonObject = {}
    old = cast(JsonObject, before if isinstance(before, dict) else {})
    inside = (*inside, id(value))
    for key, item in value.copy().items():
        if type(key) is not str:  # pyright: ignore[reportUnnecessaryComparison] (tools put in what they like)
            continue
        try:
            kept[key] = _checked_copy(item, depth + 1)
        except _Odd:
            below = cast("JsonObject | None", item if type(item) is dict else None)
            if below is not None and id(below) not in inside and depth < MAX_DEPTH:
                kept[key] = _json_part(below, old.get(key), depth + 1, inside)
            elif key in old:
                kept[key] = old[key]
    return kept


def _checked_copy(value: Any, depth: int) -> Any:
    copied = _copy(value, depth)
    _check(copied, depth)
    return copied


def copied(value: Any) -> Any:
    """A deep copy of JSON data, several times faster than `copy.deepcopy`."""
    try:
        return marshal.loads(marshal.dumps(value))  # noqa: S302 (of our own making)
    except ValueError:  # not only JSON, or too deep
        return deepcopy(value)


def copies_of(value: JsonObject) -> tuple[Callable[[], JsonObject], int]:
    """What makes copies of JSON data as it is at this moment, in any thread; and about how many values it holds."""
    if not value and type(value) is dict:
        return dict, 0
    try:
        data = marshal.dumps(value)
    except ValueError:  # not only JSON, or too deep
        whole = deepcopy(value)
        return lambda: deepcopy(whole), 0
    return lambda: marshal.loads(data), len(data) // BYTES_EACH  # noqa: S302 (of our own making)


def frozen(value: JsonObject, what: str, before: JsonObject | None = None) -> tuple[Callable[[], JsonObject], int]:
    """An object as it is at this moment, and about how many values it holds.

    What is returned makes a copy of it, as `checked_copy` does, or as `json_part` where what stood there before is
    given. That may be done in another thread. Nothing comes between the values of this moment: they are written down in
    one step, which takes a fifth of the time that it takes to copy and check them.
    """
    if not isinstance(value, dict):  # pyright: ignore[reportUnnecessaryIsInstance] (tools set what they like)
        if before is None:
            raise InvalidStateError(f"{what} is no object, but of type {type(value).__name__}.")
        return copies_of(before)
    if not value:  # most have no state
        return dict, 0

    def checked(value: JsonObject) -> JsonObject:
        return checked_copy(value, what) if before is None else json_part(value, before)

    try:
        data = marshal.dumps(value)
    except ValueError:  # something in it is not JSON
        copy = checked(value)
        return lambda: copy, 0

    def thaw() -> JsonObject:
        made: JsonObject = marshal.loads(data)  # noqa: S302 (of our own making)
        try:
            _check(made, 0)
        except _Odd:
            return checked(made)
        return made

    return thaw, len(data) // BYTES_EACH


BYTES_EACH = 16
"""How many bytes a value takes in what `marshal` writes, about."""


def _copy(value: Any, depth: int) -> Any:
    kind = cast(type[Any], type(value))
    if kind is not dict and kind is not list and kind is not tuple:
        return value
    if depth > MAX_DEPTH:
        raise _too_deep()
    if kind is dict:
        # `copy` is one step, which no other thread can come between; iterating over the object itself is many.
        return {key: _copy(item, depth + 1) for key, item in cast(dict[Any, Any], value).copy().items()}
    items = [_copy(item, depth + 1) for item in cast(list[Any], value)[:]]
    return items if kind is list else tuple(items)


def _too_deep() -> _Odd:
    return _Odd(f"is nested deeper than {MAX_DEPTH} levels, or contains itself")


def encode(value: Any) -> str:
    """JSON text of a checked value."""
    text = _readable(value)
    return text if _encodable(text) else _ascii(value)


def encode_sorted(value: Any) -> str:
    """As `encode`, with the keys of objects in the order of their code points."""
    text = _sorted(value)
    return text if _encodable(text) else _sorted_ascii(value)


def encode_body(value: Any) -> str:
    """JSON text of a checked value, where nobody compares texts: `encode` writes numbers with exponents differently."""
    text = quick_json.dumps(value)
    return encode(value) if text is None else text


def decode(text: str, what: str = "stored JSON") -> Any:
    """The value of JSON text that was stored; damage is reported as `CorruptDataError`."""
    try:
        return quick_json.loads(text)
    except Exception:  # noqa: BLE001, S110 (whatever it is: the standard library decides)
        pass
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
    newest = 1
    items: list[JsonObject] = []
    raw = False
    for entry in entries:
        check_hurry()
        item: JsonObject = {"kind": entry.kind}
        if entry.run_id is not None:
            item["run_id"] = entry.run_id
        if entry.run is not None:
            item["run"] = entry.run
        if entry.parent_run_id is not None:
            item["parent_run_id"] = entry.parent_run_id
        if entry.agent is not None:
            item["agent"] = entry.agent
        if entry.format is not None:
            item["format"] = entry.format
        if entry.more:
            item |= entry.more
        needed = version_needed(entry)
        if needed > 1:
            item["version"] = needed
            newest = max(newest, needed)
        item["data"] = data = entry.data
        raw = raw or type(data) is RawJson
        items.append(item)
    if not raw:  # in one go
        return encode_body({"version": newest, "writer": __version__, "entries": items})
    texts = [_encode_item(item) for item in items]
    return f'{{"version":{newest},"writer":"{__version__}","entries":[{",".join(texts)}]}}'


def _encode_item(item: JsonObject) -> str:
    if type(item["data"]) is not RawJson:
        return encode_body(item)
    data = item.pop("data")
    return f'{encode_body(item)[:-1]},"data":{data}}}'


MESSAGE = MessageAdded.KIND

_KNOWN = frozenset(("kind", "data", "run_id", "run", "parent_run_id", "agent", "format"))
_SHAPES = frozenset(product((str,), (int, type(None)), *[(str, type(None))] * 4))
"""Of what types an entry's kind, run, ids and names may be together."""


@overload
def decode_commit(row: CommitRow) -> list[Entry]: ...


@overload
def decode_commit(row: CommitRow, *, messages: Literal[True]) -> list[Entry | Message]: ...


def decode_commit(row: CommitRow, *, messages: bool = False) -> Sequence[Entry | Message]:
    """The entries of a commit row, with `seq` and `time`.

    With `messages`, those that are messages come as such: for who makes runs of them, each is then made once.
    """
    check_hurry()
    seq, time, text = row.seq, row.time, row.body
    try:
        body = quick_json.loads(text)
    except Exception:  # noqa: BLE001 (whatever it is: the standard library decides)
        body = decode(text, f"commit {seq}")
    check_version(body, "commit", seq)
    entries: list[Entry | Message] = []
    try:
        for item in body["entries"]:
            kind, get = item["kind"], item.get
            run_id, run, parent_run_id = get("run_id"), get("run"), get("parent_run_id")
            agent, format, more = get("agent"), get("format"), None
            if not _KNOWN.issuperset(item):
                more = {name: value for name, value in item.items() if name not in _KNOWN}
                agent = more.pop("owner", agent)  # before the first release it was called owner
            if (type(kind), type(run), type(run_id), type(parent_run_id), type(agent), type(format)) not in _SHAPES:
                raise TypeError("an entry has a name that is no text, or a run that is no number")
            if kind in RENAMED:
                kind = RENAMED[kind]
            if messages and kind == MESSAGE:
                entries.append(Message(get("data"), format, run or 0, run_id, agent, seq, time))
                continue
            entries.append(Entry(kind, get("data"), run_id, run, parent_run_id, agent, format, seq, time, more or None))
    except (KeyError, TypeError, AttributeError) as error:
        raise CorruptDataError(f"Commit {row.seq} is damaged: {damage_of(error)}.") from error
    return entries


def changed_commit(row: CommitRow, change: Callable[[int, Entry], Entry | None]) -> CommitRow:
    """The commit with other data in its entries, or (None) without them; all else stays as it was written.

    `change` is given each entry with its place in the commit.
    """
    body = decode(row.body, f"commit {row.seq}")
    kept: list[JsonObject] = []
    for place, (entry, item) in enumerate(zip(decode_commit(row), body["entries"], strict=True)):
        changed = change(place, entry)
        if changed is not None:
            kept.append({**item, "data": changed.data})
    if kept == body["entries"]:
        return row
    return row._replace(body=encode({**body, "entries": kept}))


_NOTHING: JsonObject = {}


def is_sealed(body: str) -> bool:
    """Whether the body of a head or commit is encrypted, of which the mark comes first."""
    return _SEALED.match(body) is not None


def check_version(body: Any, kind: str, which: object) -> None:
    """Refuse politely what only a newer version may read."""
    fields: JsonObject = body if type(body) is dict else _NOTHING  # pyright: ignore[reportUnknownVariableType]
    version = fields.get("version")
    if type(version) is int and version <= FORMAT_VERSION:
        return
    what = f"{kind} {which}"
    if SEALED in fields:
        raise SealedError(f"The {what} is encrypted: {fields.get('problem') or 'this storage does not decrypt it'}.")
    if not isinstance(version, int):
        raise CorruptDataError(f"The {what} has no format version.")
    if version > FORMAT_VERSION:
        raise NewerVersionError(
            f"The {what} needs format version {version} (written by Sessile {fields.get('writer', '?')}); "
            f"this is Sessile {__version__}, which reads up to version {FORMAT_VERSION}."
        )


# ---------------------------------------------------------------- heads


def encode_head(head: Session, *, max_state: int, max_metadata: int) -> HeadRow:
    """The head as a row; raises `TooLargeError` if state or metadata are over their limits."""
    state = metadata = EMPTY
    if head.state:
        check_size(state := encode_body(head.state), max_state, "The session's state")
    if head.metadata:
        check_size(metadata := encode(head.metadata), max_metadata, "The session's metadata")
    return HeadRow(
        head.session_id,
        head.incarnation,
        head.revision,
        head.kind,
        head.agent,
        head.user_id,
        head.name,
        head.status,
        head.created_us,
        head.updated_us,
        head.expires_us,
        head.hidden is not None,
        metadata,
        f"{encode_body(body_of(head))[:-1]}{MARK}{state}}}",
    )


def moved_row(row: HeadRow, head: Session) -> HeadRow:
    """The row of a head that differs from that of another row by nothing but its revision and its times."""
    return row._replace(revision=head.revision, updated_at=head.updated_us, expires_at=head.expires_us)


def size_of(value: Any) -> int:
    """How many bytes of UTF-8 a value's JSON text has."""
    return len(encode(value).encode())


def decode_head(row: HeadRow, *, with_state: bool = True, sound: bool = False) -> Session:
    """The inverse of `encode_head`; without a state if it is not asked for one, whether the row has it or not.

    Of a `sound` row, which was read before or written here, types are not looked at.
    """
    body = decode(row.body, f"head of session {row.session_id!r}")
    check_version(body, "head of session", repr(row.session_id))
    empty: JsonObject = {}
    metadata = empty if row.metadata == EMPTY else decode(row.metadata, f"metadata of session {row.session_id!r}")
    try:
        if with_state:
            return session_of(row, body, metadata, sound=sound)
        session = session_of(row, {**body, "state": {}}, metadata)
        session.state = UnreadState()
        return session
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CorruptDataError(f"The head of session {row.session_id!r} is damaged: {damage_of(error)}.") from error
