"""How heads and logs are written: what JSON and YAML have in common, and JSON.

A log is a row of records, each of which ends with the same mark. The first says whose log it is; each of the others is
one commit:

    seq, run, top     its place, the run it belongs to, and the largest run number up to here
    time, id          when it was made (microseconds UTC), and its own id
    key               the name by which it is found again, where it has one
    part              [2, 5]: the second of five commits that were appended at once, and are there all or none
    body              its entries; or body_text: their JSON text, where the format would not bring it back as it was
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from json.encoder import encode_basestring
from typing import Any, ClassVar, NamedTuple, TypeVar, cast

from ...errors import NewerVersionError
from ...storage.driver import CommitRow, HeadRow
from ...storage.encoding import decode, encode
from ...storage.rows import HEAD_TYPES

Fields = dict[str, Any]

LOG_VERSION = 1
"""Written into the first record of every log."""

KEY_WITHIN = 4096
"""Within so many bytes of its beginning a record has its key: an id has 255 bytes, each written as up to six."""

REMEMBERED = 32 * 1024
"""Up to how many bytes a record or a head that was read is remembered."""

LONGEST_LABEL = 64
"""Up to how many letters of a key the beginning of its line is remembered."""

WRITTEN = 64
"""How many records that were written are remembered until they are read for the first time."""

T = TypeVar("T")

_COMMIT_TYPES: dict[str, tuple[type, ...]] = {
    "seq": (int,),
    "run": (int,),
    "top": (int,),
    "time": (int,),
    "id": (str,),
}


class FormatError(ValueError):
    """What is written is not a head, or not a record. `line` counts from 1 within the text; 0: it is not known."""

    def __init__(self, reason: str, line: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.line = line


class Owner(NamedTuple):
    """Whose log it is: the first record."""

    session_id: str
    incarnation: str


class Glance(NamedTuple):
    """What the first bytes of a record tell."""

    seq: int
    run: int
    top: int


class Stored(NamedTuple):
    """A commit of a log. `part` is (1, 1) for one that was appended alone."""

    row: CommitRow
    top: int
    part: tuple[int, int]


class Format(ABC):
    """One way to write heads and logs."""

    name: ClassVar[str]
    head_file: ClassVar[str]
    log_file: ClassVar[str]
    end: ClassVar[bytes]
    """What every record ends with, and nothing within a record contains."""
    head_end: ClassVar[bytes]
    """What the file of a head ends with, white space aside; one that was not written to its end does not."""
    prefix: ClassVar[re.Pattern[bytes]]
    """Matches the beginning of a record as we write it: its groups are `seq`, `run` and `top`."""
    key_mark: ClassVar[bytes]
    """What stands near the beginning of every record of a commit with a key."""

    def __init__(self) -> None:
        # The same bytes always mean the same. A turn reads a head three times, and runs that the turn before has read.
        self._written: dict[bytes, Stored] = {}
        self.read_commit = _remembering(self._decode_or_written, 256)
        """`decode_commit`, for those that may have been read before."""
        self.read_head = _remembering(self.decode_head, 16)
        """`decode_head`, for those that may have been read before."""
        self.read_owner = _remembering(self.decode_owner, 256)
        """`decode_owner`, for those that may have been read before."""

    @abstractmethod
    def dump(self, fields: Fields) -> bytes:
        """A record of these fields, in their order, with its end."""

    @abstractmethod
    def parse(self, text: bytes) -> Any:
        """The value of a record or a head; raises `FormatError`."""

    @abstractmethod
    def dump_head(self, fields: Fields) -> bytes:
        """A head of these fields, in their order, for people to read."""

    @abstractmethod
    def keeps(self, value: Any, text: str) -> bool:
        """Whether the format brings this value back exactly as it is: what is read again has this JSON text."""

    # ------------------------------------------------------------ records

    def encode_owner(self, owner: Owner) -> bytes:
        """The first record of a log."""
        return self.dump({"sessile_log": LOG_VERSION, **owner._asdict()})

    def decode_owner(self, text: bytes) -> Owner:
        """The inverse of `encode_owner`; raises `FormatError`, or `NewerVersionError`."""
        fields = self._mapping(text)
        version = fields.get("sessile_log")
        if isinstance(version, int) and version > LOG_VERSION:
            raise NewerVersionError(f"It is a log of version {version}; this version of Sessile knows {LOG_VERSION}.")
        if version != LOG_VERSION:
            raise FormatError(f"sessile_log is {version!r:.60}, and this version of Sessile knows {LOG_VERSION}", 1)
        _check(fields, {"session_id": (str,), "incarnation": (str,)}, text)
        return Owner(fields["session_id"], fields["incarnation"])

    def encode_commit(self, commit: CommitRow, top: int, part: tuple[int, int]) -> bytes:
        """A commit as a record with its end."""
        return self.dump({**_place(commit, top, part), **self._kept("body", commit.body)})

    def decode_commit(self, text: bytes) -> Stored:
        """The inverse of `encode_commit`, for one that a person may have changed; raises `FormatError`."""
        fields = self._mapping(text)
        _check(fields, _COMMIT_TYPES, text)
        body, key = _text(fields, "body", text), fields.get("key")
        if type(key) not in (str, type(None)):
            raise FormatError(f"'key' must not be of the type {type(key).__name__}", _line_of("key", text))
        row = CommitRow(fields["seq"], fields["id"], fields["run"], fields["time"], body, key)
        return Stored(row, fields["top"], _part(fields, text))

    def wrote(self, text: bytes, stored: Stored) -> None:
        """Remember what a record says that was just written, so that it is not taken apart when it is read."""
        if len(text) <= REMEMBERED:
            self._written[text] = stored
            if len(self._written) > WRITTEN:
                with suppress(RuntimeError, StopIteration):  # another thread has changed it, and sees to it
                    self._written.pop(next(iter(self._written)), None)

    def _decode_or_written(self, text: bytes) -> Stored:
        return self._written.pop(text, None) or self.decode_commit(text)

    def glance(self, text: bytes) -> Glance | None:
        """The place of a commit without reading it all; None if it does not begin as we write it."""
        found = self.prefix.match(text)
        return None if found is None else Glance(*map(int, found.groups()))

    def may_have_key(self, text: bytes) -> bool:
        """False only for the record of a commit that has no key."""
        return self.key_mark in text[:KEY_WITHIN] or self.prefix.match(text) is None

    # ------------------------------------------------------------ heads

    def encode_head(self, head: HeadRow) -> bytes:
        """The whole content of the file of a head."""
        fields = head._asdict()
        metadata, body = fields.pop("metadata"), fields.pop("body")
        return self.dump_head({**fields, **self._kept("metadata", metadata), **self._kept("body", body)})

    def decode_head(self, text: bytes) -> HeadRow:
        """The inverse of `encode_head`, for one that a person may have changed; raises `FormatError`."""
        fields = self._mapping(text)
        if "owner" in fields:  # what the agent was called before the first release
            fields.setdefault("agent", fields["owner"])
        _check(fields, HEAD_TYPES, text)
        metadata, body = _text(fields, "metadata", text), _text(fields, "body", text)
        return HeadRow(**{name: fields[name] for name in HEAD_TYPES}, metadata=metadata, body=body)

    # ------------------------------------------------------------ values

    def _kept(self, name: str, text: str) -> Fields:
        """JSON text as a value if it comes back as it is, else as text."""
        if text == "{}":  # as metadata are for the most part
            return {name: {}}
        value = decode(text)
        return {name: value} if self.keeps(value, text) else {f"{name}_text": text}

    def _mapping(self, text: bytes) -> Fields:
        value = self.parse(text)
        if not isinstance(value, dict):
            raise FormatError("there is no object with named values", 1)
        return cast(Fields, value)


def _remembering(decode: Callable[[bytes], T], count: int) -> Callable[[bytes], T]:
    """The same function, which remembers its newest results, if they are not large."""
    known = lru_cache(maxsize=count)(decode)
    return lambda text: known(text) if len(text) <= REMEMBERED else decode(text)


def _place(commit: CommitRow, top: int, part: tuple[int, int]) -> Fields:
    fields: Fields = {
        "seq": commit.seq,
        "run": commit.run,
        "top": top,
        "time": commit.time,
        "id": commit.commit_id,
    }
    if commit.key is not None:
        fields["key"] = commit.key
    return fields if part == (1, 1) else {**fields, "part": list(part)}


def _check(fields: Fields, types: Mapping[str, tuple[type, ...]], text: bytes) -> None:
    for name, kinds in types.items():
        if name not in fields:
            raise FormatError(f"{name!r} is missing", 1)
        if type(fields[name]) not in kinds:
            raise FormatError(f"{name!r} must not be of the type {type(fields[name]).__name__}", _line_of(name, text))


def _part(fields: Fields, text: bytes) -> tuple[int, int]:
    match fields.get("part", [1, 1]):
        case [int(number), int(count)] if 1 <= number <= count:
            return number, count
        case _:
            raise FormatError("'part' must be two numbers, the first up to the second", _line_of("part", text))


def _text(fields: Fields, name: str, text: bytes) -> str:
    """A body or metadata as JSON text."""
    kept = fields.get(f"{name}_text")
    if isinstance(kept, str):
        return kept
    if not isinstance(fields.get(name), dict):
        raise FormatError(
            f"{name!r} must be an object, and is of the type {type(fields.get(name)).__name__}", _line_of(name, text)
        )
    try:
        return encode(fields[name])
    except (TypeError, ValueError) as error:
        raise FormatError(f"{name!r} has a value that is not JSON: {error}", _line_of(name, text)) from error


def _line_of(name: str, text: bytes) -> int:
    found = re.search(rb'^[^\w\n]*"?' + name.encode() + rb'(?:_text)?"?\s*:', text, re.MULTILINE)
    return 0 if found is None else text.count(b"\n", 0, found.end()) + 1


# ---------------------------------------------------------------- JSON


class JsonFormat(Format):
    """A head of one value a line, and a log in JSON Lines (jsonlines.org)."""

    name = "json"
    head_file = "head.json"
    log_file = "log.jsonl"
    end = b"\n"
    head_end = b"\n}"
    prefix = re.compile(rb'\{"seq":(\d{1,19}),"run":(\d{1,19}),"top":(\d{1,19}),')
    key_mark = b',"key":'
    _line = re.compile(
        r'\{"seq":(\d{1,19}),"run":(\d{1,19}),"top":(\d{1,19}),"time":(-?\d+),"id":("(?:[^"\\]|\\.)*")'
        r'(?:,"key":("(?:[^"\\]|\\.)*"))?(?:,"part":(\[\d+,\d+\]))?,"body":(\{.*\})\}\n?',
    )

    def dump(self, fields: Fields) -> bytes:
        return f"{encode(fields)}\n".encode()

    def parse(self, text: bytes) -> Any:
        try:
            return _DECODER.decode(text.decode("utf-8-sig"))  # some editors begin a file with the mark
        except json.JSONDecodeError as error:
            raise FormatError(f"{error.msg} (column {error.colno})", error.lineno) from error
        except (ValueError, RecursionError) as error:  # bytes that are not UTF-8, numbers of too many digits
            raise FormatError(str(error)) from error

    def keeps(self, value: Any, text: str) -> bool:
        return encode(value) == text

    def encode_commit(self, commit: CommitRow, top: int, part: tuple[int, int]) -> bytes:
        """As it comes: the body is JSON already."""
        if "\n" in commit.body:
            return super().encode_commit(commit, top, part)
        return f'{encode(_place(commit, top, part))[:-1]},"body":{commit.body}}}\n'.encode()

    def decode_commit(self, text: bytes) -> Stored:
        """A body that stands where we put it comes back as its own text; it is read only to see that it can be."""
        try:
            line = self._line.fullmatch(text.decode())
            if line is None:
                return super().decode_commit(text)
            seq, run, top, time, commit_id, key, part, body = line.groups()
            _DECODER.decode(body)
            row = CommitRow(
                int(seq), json.loads(commit_id), int(run), int(time), body, None if key is None else json.loads(key)
            )
        except (ValueError, RecursionError):  # changed by hand: what is wrong, if anything is, is said with its column
            return super().decode_commit(text)
        return Stored(row, int(top), _part({} if part is None else {"part": json.loads(part)}, text))

    def dump_head(self, fields: Fields) -> bytes:
        return f"{_pretty(fields, 3)}\n".encode()


def _not_json(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_not_json)


def _pretty(fields: Fields, levels: int, indent: str = "") -> str:
    """JSON text with the outer levels of objects on lines of their own, and the rest by the fast encoder."""
    inner = f"{indent}  "
    lines: list[str] = []
    for key, item in fields.items():
        kind = cast(type[Any], type(item))
        if kind is dict and item and levels > 1:
            text = _pretty(item, levels - 1, inner)
        elif kind is str:
            text = _quoted(item)
        else:  # most are numbers, or nothing
            text = "null" if item is None else repr(item) if kind is int else encode(item)
        label = _label(inner, key) if len(key) <= LONGEST_LABEL else f"{inner}{_quoted(key)}: "
        lines.append(f"{label}{text}")
    return "{\n" + ",\n".join(lines) + f"\n{indent}}}"


@lru_cache(maxsize=256)
def _label(indent: str, key: str) -> str:
    """The beginning of a line; nearly all keys are those of every head."""
    return f"{indent}{_quoted(key)}: "


def _quoted(text: str) -> str:
    return encode_basestring(text) if text.isascii() else encode(text)
