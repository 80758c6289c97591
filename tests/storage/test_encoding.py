"""JSON text: what goes in comes back, what cannot is refused, and what is newer or damaged is named."""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from copy import deepcopy
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessile.errors import CorruptDataError, InvalidStateError, NewerVersionError, TooLargeError
from sessile.records import Entry, OpenRun, Session, Usage
from sessile.storage import encoding
from sessile.storage.driver import CommitRow
from sessile.storage.patch import same

ANY_TEXT = st.text(st.characters(exclude_categories=())) | st.sampled_from(["\0", "\ud800", "a\udfffb", "🙂", "\u2028"])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | ANY_TEXT
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4), max_leaves=20
)


@given(JSON)
def test_values_come_back_as_they_went_in(value: Any) -> None:
    encoding.check_json(value, "it")
    text = encoding.encode(value)
    text.encode()  # every database takes it
    assert "\0" not in text
    assert same(encoding.decode(text), value)


@given(st.lists(JSON, max_size=3), ANY_TEXT)
def test_commits_come_back_as_they_went_in(values: list[Any], kind: str) -> None:
    entries = [Entry(kind, value, "id", 3, "above", "agent", "format/1", 9, 77) for value in values]
    assert same_entries(encoding.decode_commit(row(encoding.encode_commit(entries))), entries)


def same_entries(a: list[Entry], b: list[Entry]) -> bool:
    return len(a) == len(b) and all(x == y and same(x.data, y.data) for x, y in zip(a, b, strict=True))


def row(body: str) -> CommitRow:
    return CommitRow(9, "c", 0, 77, body)


def test_text_stays_readable_where_it_can() -> None:
    assert encoding.encode({"grüße": "🙂"}) == '{"grüße":"🙂"}'
    assert encoding.encode("🙂\ud800").isascii()


def test_raw_json_is_put_in_as_it_is() -> None:
    body = encoding.encode_commit([Entry("message", encoding.RawJson('{"a": [1,  2]}'))])
    assert '{"a": [1,  2]}' in body
    assert encoding.decode_commit(row(body))[0].data == {"a": [1, 2]}


# ---------------------------------------------------------------- what is not JSON


def cycle() -> list[Any]:
    value: list[Any] = []
    value.append({"again": value})
    return value


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


class Colour(StrEnum):
    RED = "red"


NOT_JSON = {
    "NaN": math.nan,
    "infinity": -math.inf,
    "set": {1},
    "bytes": b"x",
    "object": object(),
    "key": {1: "x"},
    "cycle": cycle(),
    "deep": nested(10_000),
    "huge integer": 10**4300,
    "enum": Colour.RED,
    "ordered": OrderedDict(a=1),
}


@pytest.mark.parametrize("value", NOT_JSON.values(), ids=NOT_JSON)
def test_what_is_not_json_is_refused(value: Any) -> None:
    for check in (encoding.check_json, encoding.checked_copy):
        with pytest.raises(InvalidStateError, match=r"^the state "):
            check({"deep": [value]}, "the state")


@given(JSON)
def test_a_copy_has_nothing_in_common_with_the_value(value: Any) -> None:
    before = deepcopy(value)
    copied = encoding.checked_copy(value, "it")
    assert same(copied, before)
    empty(copied)
    assert same(value, before)


def empty(value: Any) -> None:
    """Take everything out of objects and lists, from the innermost on."""
    if isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            empty(item)
        value.clear()


def test_the_depth_that_is_allowed() -> None:
    encoding.check_json(nested(encoding.MAX_DEPTH), "it")
    assert encoding.checked_copy(nested(encoding.MAX_DEPTH), "it") == nested(encoding.MAX_DEPTH)
    with pytest.raises(InvalidStateError, match="nested deeper than 100 levels"):
        encoding.check_json(nested(encoding.MAX_DEPTH + 1), "it")


def test_tuples_become_lists() -> None:
    encoding.check_json((1, (2,)), "it")
    assert encoding.decode(encoding.encode((1, (2,)))) == [1, [2]]


def test_large_integers_that_can_be_read_back() -> None:
    encoding.check_json(10**4000, "it")
    assert encoding.decode(encoding.encode(10**4000)) == 10**4000


def test_size_is_counted_in_bytes() -> None:
    encoding.check_size("é" * 50, 100, "it")
    with pytest.raises(TooLargeError, match="it has 102 bytes; the limit is 100"):
        encoding.check_size("é" * 51, 100, "it")


# ---------------------------------------------------------------- newer, and damaged


def full_head() -> Session:
    return Session(
        "s", "i", "team", "o", "u", "n", 7, 3, "paused", Usage(1, 2, 3, 4, 5, 6, cost=7), {"\ud800": None}, {"m": [1]},
        1, 2, 3, 5, {"session_id": "x", "run": 2}, 3, [(0, 1), (1, 3)],
        {3: OpenRun("r", "paused", 4, 5)}, {"upto": 1, "text": "t"}, "building",
    )  # fmt: skip


def encode_head(head: Session) -> Any:
    return encoding.encode_head(head, max_state=1000, max_metadata=1000)


def test_heads_come_back_as_they_went_in() -> None:
    assert encoding.decode_head(encode_head(full_head())) == full_head()
    assert encode_head(full_head()).hidden is True


def test_limits_of_state_and_metadata() -> None:
    with pytest.raises(TooLargeError, match="state has 10 bytes; the limit is 9"):
        encoding.encode_head(Session("s", "i", state={"a": "bc"}), max_state=9, max_metadata=9)
    with pytest.raises(TooLargeError, match="metadata has 10 bytes; the limit is 9"):
        encoding.encode_head(Session("s", "i", metadata={"a": "bc"}), max_state=9, max_metadata=9)


def test_what_a_newer_version_wrote_is_refused_politely() -> None:
    newer = json.dumps({"version": encoding.FORMAT_VERSION + 1, "writer": "99.1", "entries": []})
    needed = rf"commit 9 needs format version {encoding.FORMAT_VERSION + 1} \(written by Sessile 99.1\)"
    with pytest.raises(NewerVersionError, match=needed):
        encoding.decode_commit(row(newer))
    with pytest.raises(NewerVersionError, match="head of session 's' needs") as caught:
        encoding.decode_head(encode_head(full_head())._replace(body=newer))
    assert "Update Sessile" in str(caught.value)


def test_unknown_fields_and_kinds_of_the_same_version_are_kept_or_passed_over() -> None:
    body = '{"version":1,"entries":[{"kind":"new.kind","data":{"x":1},"extra":true}],"more":1}'
    (entry,) = encoding.decode_commit(row(body))
    assert (entry.kind, entry.data) == ("new.kind", {"x": 1})


DAMAGED = ["", "{", "nul", "[]", "5", "{}", '{"version":"1"}', '{"version":1}', '{"version":1,"entries":5}',
           '{"version":1,"entries":[{}]}', '{"version":1,"entries":[7]}', "[" * 100_000]  # fmt: skip


@pytest.mark.parametrize("body", DAMAGED)
def test_a_damaged_commit_is_named(body: str) -> None:
    with pytest.raises(CorruptDataError, match="ommit 9 "):
        encoding.decode_commit(row(body))


@pytest.mark.parametrize(
    "body", [*DAMAGED, encode_head(full_head()).body.replace('"open_runs":{"3"', '"open_runs":{"x"')]
)
def test_a_damaged_head_is_named(body: str) -> None:
    with pytest.raises(CorruptDataError, match="head of session 's' "):
        encoding.decode_head(encode_head(full_head())._replace(body=body))


def test_damaged_metadata() -> None:
    with pytest.raises(CorruptDataError, match="metadata of session 's' cannot be read"):
        encoding.decode_head(encode_head(full_head())._replace(metadata="{"))


def test_text_that_is_no_text() -> None:
    with pytest.raises(CorruptDataError, match="stored JSON cannot be read"):
        encoding.decode(None)  # pyright: ignore[reportArgumentType]
