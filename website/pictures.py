"""Which picture a diagram has: `make pictures` draws them (`website.draw`), light and dark, into docs/pictures."""

from __future__ import annotations

import hashlib
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "pictures"


def mark_of(text: str) -> str:
    """What stands in the picture of a diagram: it changes with every letter of the text."""
    return f"<!-- drawn of {hashlib.sha256(text.strip().encode()).hexdigest()[:16]} -->"


def picture_of(page: str, number: int, text: str) -> str | None:
    """The light picture of a page's diagram, as pages name it; None if it was not drawn since the text was changed."""
    path = FOLDER / f"{page}-{number}-light.svg"
    return f"pictures/{path.name}" if path.exists() and mark_of(text) in path.read_text("utf-8") else None
