"""The keys of sessions: made, read from heads or a key store, and held for a while."""

from __future__ import annotations

import hashlib
import os
import secrets as randomness
import time
from collections.abc import Collection
from dataclasses import replace

from ..errors import SealedError
from ..storage.rows import HeadRow
from . import rings
from .keystore import Kept, KeyStore
from .masters import MasterKeys
from .rings import Ring, Stored, Wrapped

MOST = 10_000
"""Of how many sessions the keys are held at once; some 2 KB each."""

PASSING = ("lease/", "cancel/", "waits/")
"""What the keys of records begin with that are written at any moment, whatever else is done to the session.

They are encrypted with the key that stays.
"""

GAP = 2**16
"""How far apart the numbers of keys in a key store lie at most.

Two that give a session another key at once must not give it the same number: the one that is put later would replace
the other, with which data may be encrypted already.
"""

Place = tuple[str, str]
"""A session's id, and its incarnation."""


class Keyring:
    """The keys of a storage's sessions. May be used by several threads; what it does may block if `blocks`.

    Keys that are read are used for `remember` seconds, then read again: so a key that was destroyed elsewhere is of no
    use here, either, after that time.
    """

    def __init__(self, masters: MasterKeys, store: KeyStore | None, remember: float) -> None:
        self.masters, self.store, self.remember = masters, store, remember
        self.blocks = masters.blocks or store is not None
        self._held: dict[Place, Ring] = {}

    @property
    def kept_apart(self) -> bool:
        """Whether keys lie in a key store, and not in the heads of their sessions."""
        return self.store is not None

    # ------------------------------------------------------------ at hand

    def held(self, session_id: str, incarnation: str) -> Ring | None:
        """The keys of a session, if they are at hand."""
        ring = self._held.get((session_id, incarnation))
        return ring if ring is not None and time.monotonic() < ring.expires else None

    def known(self, head: HeadRow) -> Ring | None:
        """The keys that a head names, if they are at hand."""
        ring = self.held(head.session_id, head.incarnation)
        if ring is None or ring.text != rings.ring_text(head.body):
            return None
        ring.revision = max(ring.revision, head.revision)
        return ring

    def hold(self, head: HeadRow, ring: Ring) -> None:
        """Keep keys at hand, unless there are those of a later head."""
        place = (head.session_id, head.incarnation)
        there = self._held.get(place)
        if there is not None and there.stored.ring == ring.stored.ring and there.revision > head.revision:
            return
        ring.revision = max(ring.revision, head.revision)
        ring.expires = ring.expires or time.monotonic() + self.remember
        self._held[place] = ring
        while len(self._held) > MOST:
            try:
                self._held.pop(next(iter(self._held)), None)
            except (RuntimeError, StopIteration):  # another thread has changed it at this moment, and sees to it
                return

    def forget(self, session_id: str, incarnation: str) -> None:
        """Have the keys of a session read again when they are needed next."""
        self._held.pop((session_id, incarnation), None)

    def forget_all(self) -> None:
        """The same for all sessions."""
        self._held.clear()

    # ------------------------------------------------------------ reading

    def read(self, head: HeadRow) -> Ring:
        """The keys that a head names, unwrapped. Raises `SealedError`, and `StorageUnavailableError`."""
        text = rings.ring_text(head.body)
        if text is None:
            raise SealedError("it was stored without encryption")
        stored = Stored.of(text)
        ring = self._opened(head, stored)
        self.hold(head, ring)
        return ring

    def _opened(self, head: HeadRow, stored: Stored) -> Ring:
        keys, owner = stored.keys, None
        if not keys:
            if self.store is None:
                raise SealedError("its key is in a key store, and none was given")
            kept = self._kept(head.session_id, head.incarnation)
            keys = tuple(Wrapped(key.number, key.master, key.wrapped) for key in kept)
            owner = kept[-1].user_id if kept else None
        opened = {key.number: rings.parted(self._unwrapped(head, key)) for key in keys}
        if stored.newest not in opened:
            raise SealedError("its key was destroyed, or is in another key store")
        names = opened[stored.newest][0]
        return Ring(stored, names, {number: data for number, (_, data) in opened.items()}, owner)

    def _kept(self, session_id: str, incarnation: str) -> list[Kept]:
        """The keys of a session in the key store, by ascending number.

        Where a session was given to a user, it stands under another id in the same incarnation, for a while both do:
        the keys of the later one have a name of their own.
        """
        assert self.store is not None, "asked only where there is one"
        names = (incarnation, _second_name(session_id, incarnation))
        return [key for name in names for key in self.store.get(name) if key.session_id == session_id]

    def _name(self, session_id: str, incarnation: str) -> str:
        """What the keys of a session are kept under."""
        assert self.store is not None, "asked only where there is one"
        others = any(key.session_id != session_id for key in self.store.get(incarnation))
        return _second_name(session_id, incarnation) if others else incarnation

    def _unwrapped(self, head: HeadRow, key: Wrapped) -> bytes:
        return self.masters.unwrap(key.master, key.wrapped, context_of(head.session_id, head.incarnation, key.number))

    # ------------------------------------------------------------ making

    def new(self, head: HeadRow) -> Ring:
        """Keys for a session that is being made; kept in the key store already, if there is one.

        Those that it has there are its own: of a copy that was broken off, or of one in another database, which must
        not lose them.
        """
        if self.store is not None and (kept := self._kept(head.session_id, head.incarnation)):
            return self._opened(head, Stored(os.urandom(6).hex(), kept[-1].number))
        secrets = rings.new_secrets()
        keys = self._stored(head, 1, secrets)
        names, data = rings.parted(secrets)
        return Ring(Stored(os.urandom(6).hex(), 1, keys), names, {1: data}, head.user_id)

    def grown(self, head: HeadRow, ring: Ring) -> Ring:
        """The ring with one more key for data, which is the newest from then on."""
        number = ring.newest + 1 + (0 if self.store is None else randomness.randbelow(GAP))
        secrets = rings.new_secrets(ring.names)
        keys = self._stored(head, number, secrets)
        stored = replace(ring.stored, newest=number, keys=(*ring.stored.keys, *keys))
        return ring.with_key(stored, number, rings.parted(secrets)[1])

    def rewrapped(self, head: HeadRow, ring: Ring) -> Ring:
        """The ring with all of its keys encrypted by the current master key."""
        keys = [self._wrapped(head, key.number, self._unwrapped(head, key)) for key in ring.stored.keys]
        return ring.with_stored(replace(ring.stored, keys=tuple(keys)))

    def _stored(self, head: HeadRow, number: int, secrets: bytes) -> tuple[Wrapped, ...]:
        """A key as it stands in the head; nothing if it is put into the key store."""
        wrapped = self._wrapped(head, number, secrets)
        if self.store is None:
            return (wrapped,)
        name = self._name(head.session_id, head.incarnation)
        self.store.put(Kept(name, number, head.user_id, head.session_id, wrapped.master, wrapped.wrapped))
        return ()

    def _wrapped(self, head: HeadRow, number: int, secrets: bytes) -> Wrapped:
        context = context_of(head.session_id, head.incarnation, number)
        return Wrapped(number, *self.masters.wrap(secrets, context))

    def give(self, head: HeadRow, ring: Ring) -> None:
        """Have the keys of a session be the user's whose it is now, so that they are destroyed with the others."""
        if self.store is not None:
            for key in self._kept(head.session_id, head.incarnation):
                self.store.put(key._replace(user_id=head.user_id))
        ring.owner = head.user_id

    def rewrap(self, key: Kept) -> Kept:
        """A key as it is kept, encrypted by the current master key. Raises `SealedError`."""
        second = _second_name(key.session_id, "")
        context = context_of(key.session_id, key.incarnation.removesuffix(second), key.number)
        master, wrapped = self.masters.wrap(self.masters.unwrap(key.master, key.wrapped, context), context)
        return key._replace(master=master, wrapped=wrapped)

    def destroy(self, session_id: str, incarnation: str, numbers: Collection[int] | None = None) -> int:
        """Destroy keys of a session in the key store that there must be, all or some; returns how many there were."""
        assert self.store is not None, "asked only where there is one"
        kept = self._kept(session_id, incarnation)
        return sum(
            self.store.remove(key.incarnation, [key.number]) for key in kept if numbers is None or key.number in numbers
        )


def _second_name(session_id: str, incarnation: str) -> str:
    return f"{incarnation}/{hashlib.sha256(session_id.encode()).hexdigest()[:16]}"


def context_of(session_id: str, incarnation: str, number: int) -> str:
    """What a wrapped key is bound to."""
    return f"sessile\n{session_id}\n{incarnation}\n{number}"
