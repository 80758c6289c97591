"""Rows, ids and values that checks are made of."""

from __future__ import annotations

import functools
from typing import Any

from ..records import Entry, Session
from ..storage.driver import Append, CommitRow, HeadRow
from ..storage.encoding import encode_commit, encode_head

START = 1_700_000_000_000_000
"""A moment in microseconds UTC, for rows whose times a check chooses."""

HOSTILE_IDS: tuple[str, ...] = (
    "a/b",
    "..",
    "../../etc/passwd",
    ".",
    "C:\\con",
    "a b",
    " a",
    "a ",
    "a",
    "A",
    "á",  # one code point
    "a\u0301",  # the same letter as two: another id
    "ß",
    "SS",
    "it's; DROP TABLE sessile_sessions; --",
    '"quoted"',
    "`backtick`",
    "100%",
    "10_",
    "100_",
    "*",
    "?",
    "[a-z]",
    "{tag}",
    "a:b",
    "a#b",
    "$where",
    '{"$gt":""}',
    "a.b",
    "\\0",
    "%00",
    "null",
    "1",
    "01",
    "1.0",
    "true",
    "line\nbreak",
    "line\r\nbreak",
    "*1\r\n$8\r\nFLUSHALL\r\n",
    "tab\tbed",
    "\x01\x1f\x7f",
    "\u202egnirts",
    "\ufeffbom",
    "\ufffd",
    "\u2028",
    "日本語",
    "🦪",
    "👩‍👩‍👧",
    "x" * 255,
    "x" * 254,
    "é" * 127,
    "🦪" * 63,
)
"""Ids that every driver must keep apart; none is longer than 255 bytes of UTF-8."""

HOSTILE_VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -0.0,
    1,
    1.0,
    1e300,
    5e-324,
    0.1,
    2**53 + 1,
    -(2**63) - 1,
    10**40,
    "",
    "\0",
    "a\0b",
    "\ud800",
    "a\udfffb",
    "\\u0000",
    "🦪",
    "\u2028\u2029\ufeff\ufffe",
    "\x01\x7f\x85",
    [],
    {},
    [None, [[]], {"": {"": None}}],
    {"$set": {"a.b": 1}, "__proto__": 2, "\0": 3, "\ud800": 4, "a.b": 5},
    {"$gt": "", "$where": "1", "a\r\nb": "\r\n$-1\r\n"},
    functools.reduce(lambda inner, level: {"": inner} if level % 2 else [inner], range(60), 2**64),
    "long " * 20_000,
)
"""JSON values that databases are known to change: NUL, lone surrogates, large numbers, empty keys, depth."""


def head_row(session_id: str = "s", incarnation: str = "i1", revision: int = 1, **fields: Any) -> HeadRow:
    """A head as the core would write it; `fields` are those of `Session`, with times named as in `HeadRow`."""
    times = {"created_at": START, "updated_at": START + revision, "expires_at": None, "ttl": None}
    for name, default in times.items():
        fields[f"{name.removesuffix('_at')}_us"] = fields.pop(name, default)
    head = Session(session_id, incarnation, revision=revision, **fields)
    return encode_head(head, max_state=2**20, max_metadata=2**20)


def commit_row(seq: int, run: int = 0, text: str = "") -> CommitRow:
    """A commit with an id that tells its place, and one entry of a kind that changes nothing."""
    body = encode_commit([Entry("test.note", {"text": text, "seq": seq})])
    return CommitRow(seq, f"commit-{seq}-{text[:40]}", run, START + seq, body)


def append_of(
    session_id: str = "s",
    expected: int = 0,
    count: int = 1,
    *,
    incarnation: str = "i1",
    runs: tuple[int, ...] = (),
    text: str = "",
    **fields: Any,
) -> Append:
    """An append of `count` commits after revision `expected`; `runs` are the run numbers of the commits."""
    numbers = runs or (0,) * count
    commits = tuple(commit_row(expected + 1 + index, run, text) for index, run in enumerate(numbers))
    return Append(
        session_id,
        incarnation,
        expected,
        commits,
        head_row(session_id, incarnation, expected + len(commits), **fields),
    )
