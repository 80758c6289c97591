"""Pieces of long lists of messages that a saver has seen: so that they are neither made nor read again in every turn.

LangGraph writes all messages of a thread with each checkpoint, and reads them before each run. What a piece holds is
known here by value: one whose messages were changed is another piece.
"""

# pyright: basic
# (What is kept are objects of another library's.)

from __future__ import annotations

import hashlib
import io
import pickle
import threading
from collections import OrderedDict
from typing import Any

PIECE = 64
"""How many items of a list are one piece, at most."""

WHOLE = 8
"""Lists of so many items are one piece, however many more there are by one."""

MOST_BYTES = 64 * 1024 * 1024
"""How much of pieces is kept in memory of one saver."""

MOST_MADE = 20_000
"""Of how many pieces it is remembered which content they are."""

STATE = ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")
"""What Pydantic gives and takes when a model is pickled; by itself that takes twice the time."""

MESSAGES = "langchain_core.messages."
"""The modules of the classes of which pieces are kept: their objects are what their fields say, and nothing else."""


def split(items: list[Any]) -> list[list[Any]]:
    """A list in pieces: full ones, then ever smaller ones, halves of each other.

    So a list that grows at its end leaves nearly all of its pieces as they are.
    """
    pieces: list[list[Any]] = []
    start, size = 0, PIECE
    while start < len(items):
        while size > len(items) - start:
            size //= 2
        pieces.append(items[start : start + size])
        start += size
    return pieces


class Pieces:
    """What a saver has read and written, by the hashes of contents. May be used by several threads.

    Messages are kept as pickled by this process: whoever asks has objects of their own.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._packed: OrderedDict[str, bytes] = OrderedDict()
        self._made: OrderedDict[bytes, tuple[str, str]] = OrderedDict()
        self._size = 0

    def packed(self, digest: str) -> bytes | None:
        """The messages of a content, if they are known: `unpacked` makes them."""
        return self._packed.get(digest)

    def made(self, looks: bytes | None) -> tuple[str, str] | None:
        """The kind and the hash of the content that was made of messages which look like this (`look_of`)."""
        return None if looks is None else self._made.get(looks)

    def note(self, looks: bytes | None, kind: str, digest: str) -> None:
        """Note which content was made of messages which look like this."""
        if looks is None:
            return
        with self._lock:
            self._made[looks] = (kind, digest)
            while len(self._made) > MOST_MADE:
                self._made.popitem(last=False)

    def keep(self, messages: Any, kind: str, digest: str) -> None:
        """Note which messages a content has that was read, if they are some that may be kept."""
        looks = look_of(messages)
        if looks is None:
            return
        self.note(looks, kind, digest)
        packed = pickle.dumps([_taken_apart(one) for one in messages], 5)
        with self._lock:
            self._size += len(packed) - len(self._packed.pop(digest, b""))
            self._packed[digest] = packed
            while self._size > MOST_BYTES:
                self._size -= len(self._packed.popitem(last=False)[1])


def look_of(items: Any) -> bytes | None:
    """A hash that is the same only for messages which say the same; None for a list of anything else, or a short one.

    What a message says are its fields: a serializer of LangGraph's writes nothing else.
    """
    if type(items) is not list or len(items) < WHOLE:
        return None
    kinds = {type(one) for one in items}
    if not all(kind.__module__.startswith(MESSAGES) for kind in kinds):
        return None
    buffer = io.BytesIO()
    pickler = pickle.Pickler(buffer, 5)
    pickler.fast = True  # nothing is written as "the same as before": bytes depend on values alone
    try:
        pickler.dump([(type(one).__name__, one.__dict__, one.__pydantic_extra__) for one in items])
    except Exception:  # noqa: BLE001 (somebody has put something into a message, and its own code may raise anything)
        return None
    return hashlib.sha256(buffer.getbuffer()).digest()


def _taken_apart(message: Any) -> tuple[Any, ...]:
    state = message.__getstate__()
    return type(message), *(state[name] for name in STATE)


def unpacked(made_here: bytes) -> list[Any]:
    """The messages that this process has packed itself; nothing else may be given."""
    messages: list[Any] = []
    for kind, *state in pickle.loads(made_here):  # noqa: S301 (nothing that was stored anywhere)
        message = kind.__new__(kind)
        message.__setstate__(dict(zip(STATE, state, strict=True)))
        messages.append(message)
    return messages
