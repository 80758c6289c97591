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
from collections.abc import Sequence
from typing import Any

PIECE = 64
"""How many items of a list are one piece, at most."""

WHOLE = 8
"""Lists of so many items are one piece, however many more there are by one."""

MOST_BYTES = 64 * 1024 * 1024
"""How much of pieces is kept in memory of one saver."""

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
        self._digests: OrderedDict[bytes, tuple[str, str]] = OrderedDict()
        self._size = 0

    def packed(self, digest: str) -> bytes | None:
        """The messages of a content, if they are known: `pickle.loads` makes them."""
        return self._packed.get(digest)

    def made(self, packed: bytes | None) -> tuple[str, str] | None:
        """The kind and the hash of the content that was made of such messages."""
        return None if packed is None else self._digests.get(hashlib.sha256(packed).digest())

    def keep(self, packed: bytes | None, kind: str, digest: str, *, was_read: bool = False) -> None:
        """Note which content stands for these messages; and, if they were made of it, that they are what it says."""
        if packed is None:
            return
        with self._lock:
            self._digests[hashlib.sha256(packed).digest()] = (kind, digest)
            if was_read and digest not in self._packed:
                self._packed[digest] = packed
                self._size += len(packed)
            while self._size > MOST_BYTES:
                self._size -= len(self._packed.popitem(last=False)[1])
            while len(self._digests) > 4 * len(self._packed) + 1000:
                self._digests.popitem(last=False)


def packed(items: Any) -> bytes | None:
    """Messages as bytes that are the same only if these are; None for lists that hold anything else, or are short."""
    if type(items) is not list or len(items) < WHOLE or not _are_messages(items):
        return None
    buffer = io.BytesIO()
    pickler = pickle.Pickler(buffer, 5)
    pickler.fast = True  # nothing is written as "the same as before": bytes depend on values alone
    try:
        pickler.dump(items)
    except Exception:  # noqa: BLE001 (somebody has put something into a message, and its own code may raise anything)
        return None
    return buffer.getvalue()


def unpacked(made_here: bytes) -> Any:
    """The messages that this process has packed itself; nothing else may be given."""
    return pickle.loads(made_here)  # noqa: S301 (nothing that was stored anywhere)


def _are_messages(items: Sequence[Any]) -> bool:
    return all(type(one).__module__.startswith(MESSAGES) for one in items)
