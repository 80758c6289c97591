"""Files of which somebody has made something else: only our errors come out, and other sessions stay as they were."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.spoiling import changed

import sessile
from sessile import ANY_USER, Storage
from sessile.errors import SessileError
from sessile.testing import Scale

KINDS = ["json", "yaml"]

NUMBERS = [b"9" * 5000, b"9" * 25, b"-1", b"0", b"1.5", b"1e999", b"null", b'"x"', b"[]"]


def fill(storage: Storage) -> None:
    said = [{"role": "user", "content": "hi"}]
    for number in range(3):
        storage.add_run("s", input=f"hello {number}", output="x", state={"n": number}, messages=said, format="mine")
    storage.add_run("sound", input="hello")


def calls(storage: Storage) -> list[Callable[[], Any]]:
    return [
        lambda: storage.get_session("s", user_id=ANY_USER),
        lambda: storage.runs("s"),
        lambda: storage.get_run("s", 2),
        lambda: storage.messages("s"),
        lambda: storage.sessions(user_id=ANY_USER),
        lambda: storage.verify("s"),
        lambda: storage.add_run("s", input="new"),
        lambda: storage.rename("s", "n"),
        lambda: storage.rewind("s", at=1),
        lambda: storage.erase_run("s", 1),
        lambda: storage.count_sessions(user_id=ANY_USER),
        lambda: storage.sweep(),
        lambda: storage.delete("s"),
    ]


def spoil(path: Path, chance: random.Random) -> None:
    """Bytes, a number, or a value of one line is something else, or the end is missing."""
    text = path.read_bytes()
    at, how = chance.randrange(len(text)), chance.random()
    numbers = list(re.finditer(rb"\d+", text))
    if how < 0.3:
        text = text[:at] + chance.randbytes(chance.choice((1, 8))) + text[at + chance.choice((0, 1, 5)) :]
    elif how < 0.4:
        text = text[:at]
    elif how < 0.7 and numbers:
        found = chance.choice(numbers)
        text = text[: found.start()] + chance.choice(NUMBERS) + text[found.end() :]
    else:
        lines = text.split(b"\n")
        place = chance.randrange(len(lines))
        try:
            lines[place] = changed(lines[place].decode(), chance).encode("utf-8", "surrogatepass")
        except (ValueError, IndexError):  # not a line of JSON
            lines.insert(place, lines[place])
        text = b"\n".join(lines)
    path.write_bytes(text)


def check(url: str) -> None:
    with sessile.open(url) as storage:
        for call in calls(storage):
            with suppress(SessileError):
                call()
        assert [run.input for run in storage.runs("sound")] == ["hello"]
        assert storage.verify("sound")


@pytest.mark.parametrize("kind", KINDS)
def test_files_are_something_else(kind: str, tmp_path: Path, scale: Scale) -> None:
    with sessile.open(f"{kind}:///{tmp_path}/original") as storage:
        fill(storage)
    for number in range(12):
        chance = random.Random(f"{scale.seed} {kind} {number}")
        shutil.copytree(tmp_path / "original", tmp_path / "copy")
        files = [path for path in (tmp_path / "copy/sessions").rglob("s-*/*") if path.is_file()]
        spoil(chance.choice(sorted(files)), chance)
        check(f"{kind}:///{tmp_path}/copy")
        shutil.rmtree(tmp_path / "copy")


@pytest.mark.parametrize("field", ["seq", "run", "top", "time"])
@pytest.mark.parametrize("kind", KINDS)
def test_numbers_that_python_does_not_read(kind: str, field: str, tmp_path: Path) -> None:
    """A number of more than 4,300 digits is an error of its own there."""
    url = f"{kind}:///{tmp_path}/folder"
    with sessile.open(url) as storage:
        fill(storage)
    shutil.rmtree(tmp_path / "folder/.sessile")
    (log,) = (tmp_path / "folder/sessions").rglob("s-*/log.*")
    text = log.read_text("utf-8")
    made = re.sub(rf'("?{field}"?: ?)\d+', lambda found: found[1] + "9" * 5000, text)
    assert made != text
    log.write_text(made, "utf-8")
    check(url)
