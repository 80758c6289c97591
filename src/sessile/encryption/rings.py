"""The keys of one session, and what is encrypted with them. Computes, and asks nobody.

A ring has a key for names, which stays, and keys for data by number, of which the newest encrypts. Data keys are stored
encrypted by a master key, with the key for names beside each.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import re
from collections.abc import Collection, Mapping
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV

from ..errors import SealedError
from ..storage import quick_json
from ..storage.encoding import SEALED
from ..storage.rows import CommitRow, HeadRow
from ..storage.states import MARK
from .masters import KEY_BYTES, NONCE_BYTES

RECORD = b"\x01"
"""What a sealed record begins with: the version of its layout."""

OVERHEAD = 64
"""How many bytes a sealed record is larger than its value, at most."""

_COMMIT = f'{{"{SEALED}":1,"key":'
_HEAD = f'{{"{SEALED}":1,"ring":"'
_DATA = ',"data":"'
WHOLE, STATELESS = "1", "0"
"""What the sealed part of a head begins with: whether the state, and the end of the body, lie beside it."""
_MEDIA = re.compile("media/([0-9a-f]{64})(?![0-9a-f])")
_NAMED = re.compile("media/([0-9a-f]{96})(?![0-9a-f])")


class Wrapped(NamedTuple):
    """A data key as it is stored: its number, the master key's name, and what that made of it."""

    number: int
    master: str
    wrapped: bytes


@dataclass(frozen=True, slots=True)
class Stored:
    """What a head says of its session's keys: the ring's own id, the newest number, and the keys.

    Without keys they lie in a key store.
    """

    ring: str
    newest: int
    keys: tuple[Wrapped, ...] = ()

    def text(self) -> str:
        """As it stands in a head."""
        keys = [[key.number, key.master, base64.b64encode(key.wrapped).decode()] for key in self.keys]
        said = json.dumps([self.ring, self.newest, keys], separators=(",", ":"))
        return base64.urlsafe_b64encode(said.encode()).decode()

    @classmethod
    def of(cls, text: str) -> Stored:
        """The inverse of `text`. Raises `SealedError` if it is none."""
        try:
            ring, newest, keys = json.loads(base64.urlsafe_b64decode(text))
            made = [Wrapped(int(number), str(master), base64.b64decode(key)) for number, master, key in keys]
        except (ValueError, TypeError, binascii.Error) as error:
            raise SealedError("What is said of its keys is damaged.") from error
        return cls(str(ring), int(newest), tuple(made))


class Ring:
    """The keys of a session, decrypted."""

    __slots__ = (
        "_data", "_names", "current", "expires", "last", "names", "newest", "owner", "revision", "stored", "text",
    )  # fmt: skip

    def __init__(self, stored: Stored, names: bytes, keys: Mapping[int, bytes], owner: str | None = None) -> None:
        self.stored, self.text, self.newest = stored, stored.text(), stored.newest
        self.current = stored.newest
        """The number of the key that encrypts: the newest one that a head is known to name."""
        self.names = names
        self._names = AESSIV(names)
        self._data = {number: AESGCM(key) for number, key in keys.items()}
        self._data[0] = AESGCM(hashlib.sha256(b"records\0" + names).digest())
        self.owner = owner
        """Whose the keys are in a key store."""
        self.revision = 0
        """Of the head that it was read from."""
        self.expires = 0.0
        """When it is to be read again, on the monotonic clock."""
        self.last: tuple[str, str] | None = None
        """The body of the head that was seen last, and what it was sealed as."""

    def with_stored(self, stored: Stored) -> Ring:
        """The same keys, stored otherwise."""
        ring = copy(self)
        ring.stored, ring.text, ring.newest = stored, stored.text(), stored.newest
        ring.expires = 0.0
        return ring

    def with_key(self, stored: Stored, number: int, data: bytes) -> Ring:
        """The ring with one more key."""
        ring = self.with_stored(stored)
        ring._data = {**self._data, number: AESGCM(data)}
        return ring

    def without(self, numbers: Collection[int]) -> Ring:
        """The ring without keys that nothing is encrypted with any more."""
        keys = tuple(key for key in self.stored.keys if key.number not in numbers)
        ring = self.with_stored(replace(self.stored, keys=keys))
        ring._data = {number: key for number, key in self._data.items() if number not in numbers}
        return ring

    @property
    def older(self) -> list[int]:
        """The numbers of the keys that are not the newest."""
        return sorted(number for number in self._data if 0 < number < self.newest)

    def seal(self, data: bytes, bound: bytes, number: int | None = None) -> bytes:
        """The encrypted form of data, bound to its place."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._data[self.current if number is None else number].encrypt(nonce, data, bound)

    def unseal(self, sealed: bytes, bound: bytes, number: int) -> bytes:
        """The inverse of `seal`. Raises `SealedError`."""
        key = self._data.get(number)
        if key is None:
            raise SealedError("its key was destroyed, or is missing")
        try:
            return key.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], bound)
        except (InvalidTag, ValueError):
            raise SealedError("it is damaged, was moved here from another place, or has another key") from None

    def stored_name(self, key: str) -> str:
        """The key of a record as it is stored: hashes of media are encrypted, because they tell which one it is."""

        def hidden(found: re.Match[str]) -> str:
            return f"media/{self._names.encrypt(bytes.fromhex(found[1]), []).hex()}"

        return _MEDIA.sub(hidden, key, count=1) if key.startswith("media/") else key

    def said_name(self, key: str) -> str:
        """The inverse of `stored_name`."""

        def said(found: re.Match[str]) -> str:
            try:
                return f"media/{self._names.decrypt(bytes.fromhex(found[1]), []).hex()}"
            except InvalidTag:
                return found[0]

        return _NAMED.sub(said, key, count=1) if key.startswith("media/") else key


def new_secrets(names: bytes | None = None) -> bytes:
    """What is wrapped by a master key: a key for names (as it was, if there is one), and a new one for data."""
    return (names or os.urandom(2 * KEY_BYTES)) + os.urandom(KEY_BYTES)


def parted(secrets: bytes) -> tuple[bytes, bytes]:
    """The key for names and the one for data. Raises `SealedError`."""
    if len(secrets) != 3 * KEY_BYTES:
        raise SealedError("what its master key has made is no key")
    return secrets[: 2 * KEY_BYTES], secrets[2 * KEY_BYTES :]


# ---------------------------------------------------------------- commits


def seal_commit(ring: Ring, row: CommitRow, session_id: str, incarnation: str) -> CommitRow:
    """A commit whose body is encrypted, and bound to all of its columns."""
    sealed = ring.seal(row.body.encode(), _bound_commit(row, session_id, incarnation))
    return row._replace(body=f'{_COMMIT}{ring.current}{_DATA}{_text(sealed)}"}}')


def unseal_commit(ring: Ring, row: CommitRow, session_id: str, incarnation: str) -> CommitRow:
    """The inverse of `seal_commit`. Raises `SealedError`."""
    number, sealed = _parts(row.body)
    body = ring.unseal(sealed, _bound_commit(row, session_id, incarnation), number)
    return row._replace(body=body.decode())


def _bound_commit(row: CommitRow, session_id: str, incarnation: str) -> bytes:
    place = f"commit\0{session_id}\0{incarnation}\0{row.seq}\0{row.run}\0{row.time}\0{row.commit_id}\0{row.key!r}"
    return place.encode()


def _parts(body: str) -> tuple[int, bytes]:
    place = body.find(_DATA)
    if not body.startswith(_COMMIT) or place < 0:
        raise SealedError("it is not encrypted, in a session that is")
    try:
        return int(body[len(_COMMIT) : place]), quick_json.unbase64(body[place + len(_DATA) : -2])
    except ValueError as error:
        raise SealedError("it is damaged") from error


def _text(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode("ascii")


# ---------------------------------------------------------------- heads


def seal_head(ring: Ring, row: HeadRow, clear: frozenset[str]) -> HeadRow:
    """A head whose body, name and metadata are encrypted, but for what is to stay clear.

    The state is encrypted by itself, so that lists can leave it out as they do where nothing is encrypted.
    """
    name = None if "name" in clear else row.name
    metadata = None if "metadata" in clear else row.metadata
    place = row.body.find(MARK)
    body, state = (row.body, None) if place < 0 else (row.body[:place], row.body[place + len(MARK) :])
    row = row._replace(
        name=row.name if "name" in clear else None, metadata=row.metadata if "metadata" in clear else "{}"
    )
    bound = _bound_head(row)
    aside = "" if name is None and metadata is None else json.dumps([name, metadata])
    whole = WHOLE if state is None else STATELESS
    head = ring.seal(f"{whole}{aside}\0{body}".encode(), bound)
    sealed = f'{_HEAD}{ring.text}","key":{ring.current},"head":"{_text(head)}"'
    if state is not None:
        sealed += f'{MARK}"{_text(ring.seal(state.encode(), bound + b"state"))}"'
    return row._replace(body=sealed + "}")


def ring_text(body: str) -> str | None:
    """What a head says of its keys; None if it is not encrypted."""
    if not body.startswith(_HEAD):
        return None
    return body[len(_HEAD) : body.find('"', len(_HEAD))]


def unseal_head(ring: Ring, row: HeadRow) -> HeadRow:
    """The inverse of `seal_head`. Raises `SealedError`."""
    parts = row.body.split('"')
    # {"sealed":1,"ring":"…","key":N,"head":"…","state":"…"}
    try:
        number, head = int(parts[8][1:-1]), quick_json.unbase64(parts[11])
        state = quick_json.unbase64(parts[15]) if len(parts) > 14 else None
    except (ValueError, IndexError) as error:
        raise SealedError("it is damaged") from error
    bound = _bound_head(row)
    aside, _, body = ring.unseal(head, bound, number).decode().partition("\0")
    if state is not None:
        body += f"{MARK}{ring.unseal(state, bound + b'state', number).decode()}"
    elif aside[0] == STATELESS:
        body += "}"
    if len(aside) > 1:
        name, metadata = json.loads(aside[1:])
        row = row._replace(
            name=row.name if name is None else name, metadata=row.metadata if metadata is None else metadata
        )
    return row._replace(body=body)


def _bound_head(row: HeadRow) -> bytes:
    columns: tuple[Any, ...] = (*row[2:-3], bool(row.hidden))
    metadata = row.metadata if row.metadata != "{}" else ""
    return f"head\0{row.session_id}\0{row.incarnation}\0{columns!r}\0{metadata}".encode()


# ---------------------------------------------------------------- records


def seal_record(ring: Ring, value: bytes, place: tuple[str, str, str], number: int) -> bytes:
    """The encrypted form of a record's value, bound to session, incarnation and key."""
    return RECORD + number.to_bytes(4, "big") + ring.seal(value, _bound_record(place), number)


def unseal_record(ring: Ring, sealed: bytes, place: tuple[str, str, str]) -> bytes:
    """The inverse of `seal_record`. Raises `SealedError`."""
    if sealed[:1] != RECORD:
        raise SealedError("it is not encrypted, in a session that is")
    return ring.unseal(sealed[5:], _bound_record(place), int.from_bytes(sealed[1:5], "big"))


def _bound_record(place: tuple[str, str, str]) -> bytes:
    return ("record\0" + "\0".join(place)).encode()
