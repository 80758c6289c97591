"""Everything that a reader meets is said in words that a reader would search for: pages, docstrings, errors, help."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

HOUSE_WORDS = {
    "at work": "running, in progress, works on",
    "came to": "returned, result",
    "come to": "return, reach, result",
    "comes to": "returns, reaches, result",
    "coming to": "returning, reaching",
    "go on with": "resume, continue",
    "goes on with": "resumes, continues",
    "gone on with": "resumed, continued",
    "going on with": "resuming, continuing",
    "went on with": "resumed, continued",
    "twins?": "asynchronous version",
    "made anew": "rebuilt, made again",
    "in the midst of": "in the middle of",
    "both faces": "the synchronous and the asynchronous interface",
    "stands? below": "is below, is a child of",
}
"""Words of this house that nobody searches for, and what to say."""

PATTERNS = {
    re.compile(r"\b" + word.replace(" ", r"(?: +|\n *)") + r"\b", re.IGNORECASE): say
    for word, say in HOUSE_WORDS.items()
}

READ = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "findings").glob("*.md")),
    *sorted((ROOT / "examples").rglob("*.py")),
]


def house_words(text: str) -> list[str]:
    """What of the house's words stands in a text, and what to say instead."""
    return [f"{found[0]!r}: say {say}" for pattern, say in PATTERNS.items() for found in pattern.finditer(text)]


@pytest.mark.no_cover
@pytest.mark.parametrize("page", READ, ids=lambda page: page.name)
def test_pages_and_examples_speak_as_their_readers_do(page: Path) -> None:
    assert house_words(page.read_text("utf-8")) == []


@pytest.mark.no_cover
def test_docstrings_errors_and_commands_speak_as_their_readers_do() -> None:
    """The whole text of the package: no name in the code has such a word either."""
    files = [path for path in sorted((ROOT / "src").rglob("*")) if path.suffix in (".py", ".sql", ".lua")]
    assert len(files) > 300
    found = {path.relative_to(ROOT).as_posix(): house_words(path.read_text("utf-8")) for path in files}
    assert {path: words for path, words in found.items() if words} == {}


def test_words_are_found_across_lines_and_in_every_form() -> None:
    assert len(house_words("A run at\n    work, its twins, and what they CAME TO.")) == 3
    assert house_words("It works at workers' pace, and becomes total; we go on without.") == []
