"""Stored runs in words, for people: who said what, whatever the format that the messages are stored in."""

from __future__ import annotations

from .said import Said, as_text, head_lines, message_lines, said_in, usage_text, value_text
from .transcript import Line, one_asked, rating_text, transcript
from .values import clip, moment

__all__ = [
    "Line",
    "Said",
    "as_text",
    "clip",
    "head_lines",
    "message_lines",
    "moment",
    "one_asked",
    "rating_text",
    "said_in",
    "transcript",
    "usage_text",
    "value_text",
]
