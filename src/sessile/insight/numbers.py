"""Terms as numbers of 64 bits, and rows of them as PostgreSQL takes them in: COPY in binary form."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from struct import Struct

MOST = 1 << 16
"""Of how many terms the numbers are remembered, about 12 MB: most words of a run stood in others before."""

_BIGINT = 20  # as PostgreSQL calls the type of the numbers
_BYTES = 8
_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_END = b"\xff\xff"
_ROW = Struct("!hiq")
"""Three fields, the id's length, and the id."""
_LENGTH = Struct("!i")
_ARRAY = Struct("!iiiiii")
"""The length of the field, dimensions, whether a number is missing, their type, how many there are, the first place."""


class _Elements(dict[str, bytes]):
    """Terms as elements of an array: a number's length, and the number."""

    def __missing__(self, term: str) -> bytes:
        if len(self) >= MOST:
            self.clear()
        number = blake2b(term.encode(), digest_size=_BYTES).digest()
        made = self[term] = _BYTES.to_bytes(4) + number
        return made


_elements = _Elements()


def number_of(term: str) -> int:
    """The number of a term."""
    return int.from_bytes(_elements[term][4:], signed=True)


def rows_of_words(rows: Iterable[tuple[int, bytes]]) -> bytes:
    """What COPY takes: of each run its id and the columns of its words."""
    made = [_HEADER]
    for run, columns in rows:
        made += (_ROW.pack(3, _BYTES, run), columns)
    made.append(_END)
    return b"".join(made)


def columns_of_words(counts: bytes, terms: Iterable[str]) -> bytes:
    """How often a run has each of its terms, and these, as the numbers that they are."""
    elements = b"".join(map(_elements.__getitem__, terms))
    array = _ARRAY.pack(_ARRAY.size - _LENGTH.size + len(elements), 1, 0, _BIGINT, len(counts), 1)
    return b"".join((_LENGTH.pack(len(counts)), counts, array, elements))
