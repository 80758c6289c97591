"""Terms as numbers of 64 bits, and rows of them as PostgreSQL takes them in: COPY in binary form."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from struct import Struct

MOST = 1 << 16
"""Of how many terms the numbers are remembered, about 12 MB: most words of a run stood in others before."""

_BIGINT = 20  # as PostgreSQL calls the type of the numbers
_BYTES = 8
_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_END = b"\xff\xff"
_ROW = Struct("!hiqi")
"""Three fields, the id's length, the id, and the length of the counts."""
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


def rows_of_words(rows: Iterable[tuple[int, bytes, Sequence[str]]]) -> bytes:
    """What COPY takes: of each run its id, how often it has each of its terms, and these."""
    made = [_HEADER]
    for run, counts, terms in rows:
        made += (_ROW.pack(3, _BYTES, run, len(counts)), counts, _array_of(terms))
    made.append(_END)
    return b"".join(made)


def _array_of(terms: Sequence[str]) -> bytes:
    """Numbers as a field."""
    elements = b"".join(map(_elements.__getitem__, terms))
    return _ARRAY.pack(_ARRAY.size - 4 + len(elements), 1, 0, _BIGINT, len(terms), 1) + elements
