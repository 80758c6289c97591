"""What is plain is written as YAML without being read again; that it would have come back as it was is tried here."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
import yaml12

from sessile.drivers.files import yaml_format
from sessile.drivers.files.yaml_format import YamlFormat
from sessile.storage.encoding import encode
from sessile.storage.rows import CommitRow

ROUNDS = 8_000

ODD = [
    *(
        "",
        "- a",
        "a: b",
        "# x",
        "no",
        "yes",
        "null",
        "~",
        "1e3",
        "0x1F",
        "0o7",
        ".inf",
        ".nan",
        "-.inf",
        " lead",
        "trail ",
    ),
    *("a\n", "\n", "\n\n", "%YAML", "---", "|", ">", "&a", "*a", "!tag", "@", "`", "a\n b\n", "  a\n b", "? x", ": x"),
    *(
        "- - a",
        "[",
        "]",
        "{",
        "}",
        ",",
        "'",
        '"',
        "\\",
        "a #b",
        "a:b",
        "2026-01-01",
        "true",
        "False",
        "<<",
        "=",
        "1_000",
    ),
    *(
        "+1",
        "-",
        "--",
        "- ",
        "a\n\n\nb",
        "\n a",
        "\n  a\nb",
        "a\n\n",
        "|-",
        "|+\n",
        ">-",
        "a: |\n b",
        "1.0",
        "-0",
        "00",
    ),
    *("1:30", "NaN", "  \n", "a \nb", " \na", "#", "a\n# b", "a\n- b", "a " * 60, "a %b", "\n---\n", "---\na"),
]
LETTERS = "      \n\n\nabcXYZ019!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
KEYS = ["a", "no", "null", "true", "y", "on", "_x", "$type", "k-1", "a.b", "x" * 60, "NULL", "n", "e", "inf", "nan"]
NUMBERS = [0, 1, -1, 10**17, -(10**17), 0.0, 1.5, 0.1, 123456789012.5, 0.001]


def text(chance: random.Random) -> str:
    kind = chance.random()
    if kind < 0.3:
        return chance.choice(ODD)
    if kind < 0.5:
        return chance.choice(ODD) + chance.choice(["\n", " ", ": ", "", ": \n", "- "]) + chance.choice(ODD)
    return "".join(chance.choice(LETTERS) for _ in range(chance.randrange(chance.choice((4, 12, 60)) + 1)))


def value(chance: random.Random, depth: int = 0) -> Any:
    kind = chance.random()
    if depth < 4 and kind < 0.25:
        return {chance.choice(KEYS): value(chance, depth + 1) for _ in range(chance.randrange(4))}
    if depth < 4 and kind < 0.45:
        return [value(chance, depth + 1) for _ in range(chance.randrange(4))]
    if kind < 0.55:
        return chance.choice([None, True, False, *NUMBERS, chance.randrange(10**17), round(chance.random() * 1000, 3)])
    return text(chance)


def test_the_version_that_is_installed_was_tried() -> None:
    """Who takes a newer py-yaml12 adds it to `_TRIED`, if the next test passes with it, with `ROUNDS` a million."""
    assert yaml12.__version__ in yaml_format._TRIED


def test_what_is_plain_comes_back_as_it_was() -> None:
    chance, form, plain = random.Random(18), YamlFormat(), 0
    for _ in range(ROUNDS):
        body = encode({"entries": value(chance)})
        plain += yaml_format._PLAIN.fullmatch(body) is not None
        row = CommitRow(1, "c", 1, 2, body, None)
        record = form.encode_commit(row, 1, (1, 1))
        assert record.count(form.end) == 1, body
        assert form.decode_commit(record).row == row
    assert plain > ROUNDS * 0.8


def read_again(monkeypatch: pytest.MonkeyPatch, text: str, version: str = yaml12.__version__) -> tuple[bool, bool]:
    """Whether a text is kept as YAML, and whether that was found out by reading it."""
    looked: list[str] = []
    parse = yaml12.parse_yaml

    def parsed(written: str, **options: Any) -> Any:
        looked.append(written)
        return parse(written, **options)

    with monkeypatch.context() as patched:
        patched.setattr(yaml12, "parse_yaml", parsed)
        patched.setattr(yaml12, "__version__", version)
        return YamlFormat().keeps(json.loads(text), text), bool(looked)


@pytest.mark.parametrize(
    ("body", "looked"),
    [
        ('{"a":"plain: text\\n- with \\"signs\\"","n":[1,2.5,null,true]}', False),
        ('{"a":1,"a":2}', False),
        ('{"a": 1}', True),
        ('{"a":1e5}', True),
        ('{"a":1234567890123456789}', True),
        ('{"a":"tab\\t"}', True),
        ('{"a":"\u00fc"}', True),
        ('{"a":"x\\n...\\ny"}', True),
        (json.dumps({"k" * 2000: 1}, separators=(",", ":")), True),
    ],
)
def test_what_is_taken_for_plain(body: str, looked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, _ = read_again(monkeypatch, body, "99.0")
    assert read_again(monkeypatch, body) == (kept, looked)


def test_nothing_is_plain_for_a_version_that_was_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_again(monkeypatch, '{"a":"b"}', "99.0") == (True, True)
