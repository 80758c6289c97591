"""About how many tokens messages have, media included, without a tokenizer.

The rules err on the large side, because a budget is there to be kept; docs/histories.md lists them with their sources.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from pydantic_ai.messages import (
    AudioUrl,
    BinaryContent,
    DocumentUrl,
    FilePart,
    ImageUrl,
    InstructionPart,
    ModelMessage,
    SystemPromptPart,
    TextContent,
    UploadedFile,
    VideoUrl,
)

BYTES_A_TOKEN = 4
"""Of text in UTF-8. Four characters of English, and one or two of scripts that need more tokens."""

IMAGE = 1_600
"""Tokens of an image, whatever its size: what Anthropic's largest have, more than OpenAI's and Google's."""

PAGE = 3_000
"""Tokens of a page of a PDF, which is read as text and as an image."""

BYTES_A_PAGE = 50_000
"""Where the pages of a PDF cannot be counted."""

BYTES_AN_AUDIO_TOKEN = 500
"""32 tokens a second, at 128 kbit/s."""

BYTES_A_VIDEO_TOKEN = 400
"""About 300 tokens a second, at 1 Mbit/s."""

LINKED = {"image": IMAGE, "audio": 32 * 300, "video": 300 * 300, "document": 10 * PAGE}
"""Tokens of what only a URL or an id is known of: an image, five minutes, or ten pages."""

_PAGE = re.compile(rb"/Type\s*/Page\b")

_TEXTUAL = ("json", "xml", "yaml", "csv", "javascript", "html")


def estimate_tokens(messages: Sequence[ModelMessage]) -> int:
    """About how many tokens messages have: text, thinking, tool calls and results, images, sound and documents.

    System prompts and instructions do not count: they are those of the run at hand, however far a history goes back.
    """
    size = sum(_part(part) for message in messages for part in message.parts)
    return (size + BYTES_A_TOKEN - 1) // BYTES_A_TOKEN


def _part(part: Any) -> int:
    """The size of a part in bytes of text, or what takes as many tokens."""
    if isinstance(part, (SystemPromptPart, InstructionPart)):
        return 0
    if isinstance(part, FilePart):
        return _sized(part.content)
    names = ("tool_name", "args", "content", "transcript")
    return sum(_sized(getattr(part, name, None)) for name in names)


def _sized(value: Any) -> int:
    if value is None:
        return 0
    if isinstance(value, str):
        return len(value) if value.isascii() else len(value.encode(errors="surrogatepass"))
    if isinstance(value, BinaryContent):
        return BYTES_A_TOKEN * media_tokens(value.media_type, value.data)
    if isinstance(value, (ImageUrl, AudioUrl, VideoUrl, DocumentUrl, UploadedFile)):
        return BYTES_A_TOKEN * LINKED[_sort_of(value)]
    if isinstance(value, TextContent):
        return _sized(value.content)
    if isinstance(value, Mapping):
        items = cast("Mapping[Any, Any]", value).items()
        return sum(_sized(key) + _sized(item) + 4 for key, item in items)
    if isinstance(value, (list, tuple, set, frozenset)):
        return sum(_sized(item) + 1 for item in cast("Sequence[Any]", value))
    if isinstance(value, (bytes, bytearray)):
        return len(value) * 4 // 3  # as base64
    return len(repr(value))


def _sort_of(value: ImageUrl | AudioUrl | VideoUrl | DocumentUrl | UploadedFile) -> str:
    if not isinstance(value, UploadedFile):
        return value.kind.removesuffix("-url")
    sort = value.media_type.partition("/")[0]
    return sort if sort in LINKED else "document"


def media_tokens(media_type: str, data: bytes) -> int:
    """About how many tokens a medium has."""
    sort = media_type.partition("/")[0]
    if sort == "image":
        return IMAGE
    if sort == "audio":
        return len(data) // BYTES_AN_AUDIO_TOKEN + 1
    if sort == "video":
        return len(data) // BYTES_A_VIDEO_TOKEN + 1
    if media_type == "application/pdf":
        pages = len(_PAGE.findall(data)) or len(data) // BYTES_A_PAGE + 1
        return PAGE * pages
    if sort == "text" or any(word in media_type for word in _TEXTUAL):
        return len(data) // BYTES_A_TOKEN + 1
    return PAGE * (len(data) // BYTES_A_PAGE + 1)
