"""Texts and times as people read them."""

from __future__ import annotations

from datetime import UTC, datetime


def clip(text: str, length: int) -> str:
    """The beginning of a text, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[: length - 1]}…"


def moment(time: datetime) -> str:
    """A time as people read it, in UTC."""
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
