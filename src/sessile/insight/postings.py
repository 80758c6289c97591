"""Facets: a number for each value that sessions are listed by, alone and with each other, in the order of time.

An engine that has to choose among the indexes of several columns may go through very many rows that one filter leaves
and the other does not. Here every value, and every pair of values, is a range of one index of numbers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b
from itertools import combinations
from typing import Any, NamedTuple

from ..storage.matching import filter_tokens

FIELDS = ("user", "agent", "status", "kind")
"""What sessions have one of, in the order in which it is paired; `{sessions}` has their facets as `user_facet` …"""

COLUMNS = tuple(f"{name}_facet" for name in FIELDS)

SPACE = 60
"""How many bits a facet of one value has. A pair has two more, which every engine's numbers have room for."""

BYTES = 7
"""How many bytes of a name its number has."""


class LeadingFacet(NamedTuple):
    """A facet that leads the way, and which fields and tokens it stands for."""

    facet: int
    fields: set[str]
    tokens: set[int]


@lru_cache(maxsize=20_000)
def facet(field: str, value: str | None) -> int:
    """The facet of a field with a value."""
    digest = blake2b(json.dumps([field, value]).encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> (64 - SPACE)


def facet_of_token(token: str) -> int:
    """The facet of a key of the metadata, or of a key with its value, from its token (`matching.filter_token`)."""
    return int(token[: SPACE // 4], 16)


def pair(first: int, second: int) -> int:
    """The facet of two: of fields in their order, or of a field and a token."""
    return first + 3 * second


def tokens_of(metadata: dict[str, Any]) -> list[int]:
    """The facets of all filters on the metadata that this one matches."""
    return list(dict.fromkeys(map(facet_of_token, filter_tokens(json.dumps(metadata)))))


def facets_of(fields: Sequence[int], tokens: Sequence[int]) -> list[int]:
    """All facets under which a session is found."""
    pairs = [pair(*two) for two in combinations(fields, 2)]
    return list(dict.fromkeys([*fields, *tokens, *pairs, *(pair(one, token) for one in fields for token in tokens)]))


def leads_of(fields: dict[str, int], tokens: Sequence[int]) -> list[LeadingFacet]:
    """The facets that can lead to what has all of these: pairs, if there are several."""
    named = [(name, fields[name]) for name in FIELDS if name in fields]
    if not named or len(named) + len(tokens) == 1:
        return [LeadingFacet(one, {name}, set()) for name, one in named] + [
            LeadingFacet(one, set(), {one}) for one in tokens
        ]
    pairs = [LeadingFacet(pair(one, two), {name, other}, set()) for (name, one), (other, two) in combinations(named, 2)]
    return pairs + [LeadingFacet(pair(one, token), {name}, {token}) for name, one in named for token in tokens]


def number_of(name: str | None) -> int:
    """The beginning of a name as a number: the order of numbers is that of names, by their characters."""
    return -1 if name is None else int.from_bytes(_begin(name).ljust(BYTES, b"\0"))


def numbers_of(prefix: str) -> tuple[int, int]:
    """From where to where the numbers of the names go that begin like this; others may be among them if it is long."""
    begin = _begin(prefix)
    return int.from_bytes(begin.ljust(BYTES, b"\0")), int.from_bytes(begin.ljust(BYTES, b"\xff"))


def is_whole(prefix: str) -> bool:
    """Whether only names that begin like this have numbers in their range."""
    return len(prefix.encode()) <= BYTES


def _begin(text: str) -> bytes:
    return text[:BYTES].encode()[:BYTES]


def rows_of(
    session: int, updated_at: int, fields: Sequence[int], tokens: Iterable[int], name: str | None
) -> list[tuple[int, int, int, int]]:
    """The rows of a session."""
    number = number_of(name)
    return [(one, updated_at, session, number) for one in facets_of(fields, list(tokens))]
