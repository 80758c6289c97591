"""Anchors and aliases in YAML are refused, wherever they stand; texts with the same characters are not."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessile import YamlStorage
from sessile.drivers.files.yaml_aliases import line_of_alias
from sessile.errors import CorruptDataError

from .folders import Folder

yaml12 = pytest.importorskip("yaml12")

BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\nb: &x [1]\nc: *x\n", 2),
        ("a: 1\nc: *x\n", 2),
        ("- - *x\n", 1),
        ("? *x\n: 1\n", 1),
        ("{a: *x}\n", 1),
        ('{"a":*x}\n', 1),
        ("[a,*x]\n", 1),
        ("!!str &x a\n", 1),
        ('a: "*y"\nb: |\n  *y\nc: *x\n', 4),
        ("a: 'it''s *y'\n*x : 1\n", 2),
        ("a: b # *y\r\n*x : 1\r\n", 2),
        ("--- *x\n", 1),
        ("a: |\n  ...\n...\n*x\n", 4),
        ("<<: *x\n", 1),
        (BOMB, 1),
    ],
)
def test_where_the_first_one_stands(text: str, line: int) -> None:
    assert line_of_alias(text) == line


@pytest.mark.parametrize(
    "text",
    [
        'a: "&x *x"\n',
        "a: '*x'\n",
        "a: |\n  *x\n  &x\n\n  *x\nb: 1\n",
        "a: b *x &y\n",
        "a: b  # *x\n",
        "a: 2 * 3 & 4\n",
        "- |2-\n    *x\n  *y\n- 1\n",
        'a: "x\n  *y"\n',
        "a: >-\n  **bold** & *x\n",
        "a: x*y&z\n",
        "{a: 'b *x', c: [d*e]}\n",
    ],
)
def test_texts_are_no_aliases(text: str) -> None:
    yaml12.parse_yaml(text)
    assert line_of_alias(text) == 0


_TEXTS = st.text(st.sampled_from("&* \n\t-:?#|>'\"[]{},!ab\\%.é\r\u2028"), max_size=30) | st.text(max_size=20)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None)
@given(_VALUES)
def test_what_we_write_is_never_refused(value: Any) -> None:
    assert line_of_alias(f"---\n{yaml12.format_yaml({'body': value}, width=None)}\n...\n") == 0


PARTS = [
    "a",
    "b: ",
    "- ",
    "? ",
    ": ",
    "\n",
    "\n  ",
    "\n ",
    "*x",
    "*x ",
    "|",
    "|-",
    "|2",
    ">",
    '"',
    "'",
    "''",
    '\\"',
    "#",
    " #",
    " ",
    "[",
    "]",
    "{",
    "}",
    ",",
    "!t ",
    "---\n",
    "...\n",
    "\t",
    "k: |\n  ",
    'k: "',
    "\r",
    "-",
    "é",
    ":",
    "<<: *x",
    "|+ #c\n",
    "a\n  ",
]


def test_no_alias_that_the_parser_sees_goes_unseen() -> None:
    """The parser says of an alias without an anchor that it is unknown: in any text, we have seen it before."""
    chance, seen = random.Random(7), 0
    for _ in range(20_000):
        text = "".join(chance.choice(PARTS) for _ in range(chance.randint(1, 16)))
        try:
            yaml12.parse_yaml(text, multi=True)
        except Exception as error:  # noqa: BLE001 (of any kind: the texts are what comes)
            if "unknown anchor" in str(error):
                seen += 1
                assert line_of_alias(text), repr(text)
    assert seen > 1000


def test_files_with_aliases_are_refused(tmp_path: Path) -> None:
    """A few lines that would fill the memory."""
    folder = Folder("yaml", tmp_path)
    folder.edit(folder.log, "seq: 1\n", f"seq: 1\n{BOMB}")
    with YamlStorage(folder.path) as storage, pytest.raises(CorruptDataError, match=r"Line 8 .* anchors and aliases"):
        storage.verify("s")
    folder.edit(folder.head, "status:", f"{BOMB}status:")
    with YamlStorage(folder.path) as storage, pytest.raises(CorruptDataError, match="anchors and aliases"):
        storage.get_session("s")
