"""Where a database of SQLite's is: a path, or a URL."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from ...errors import InvalidInputError
from ...storage.urls import check_no_url

SETTINGS = frozenset({"synchronous", "on_loop"})
"""What may stand behind the `?` of a URL."""


def checked_path(path: Any) -> str:
    """The path of the file, absolute: a process that changes its folder stays with the same file."""
    if not isinstance(path, (str, Path)):
        raise InvalidInputError(f"The path of a database file must be text or a Path, not {type(path).__name__}.")
    text = str(path)
    if not text or "\0" in text:
        raise InvalidInputError(f"{text!r} is not the path of a file.", hint='Name a file, or ":memory:".')
    check_no_url(text, "the path of a file")
    return text if text == ":memory:" else os.path.abspath(text)


def parts_of(url: str) -> tuple[str, dict[str, Any]]:
    """The path that a URL names, and its settings."""
    parts = urlsplit(url)
    if parts.netloc:
        raise InvalidInputError(
            "The URL names a host, which SQLite does not have.",
            hint="Write sqlite:///relative/path.db or sqlite:////absolute/path.db.",
        )
    settings: dict[str, Any] = dict(parse_qsl(parts.query, keep_blank_values=True))
    if parts.fragment or "#" in url or settings.keys() - SETTINGS:
        raise InvalidInputError(
            "The URL has more than a path, ?synchronous= and &on_loop=.",
            hint="Write # as %23 and ? as %3F, and give other options as keyword arguments.",
        )
    if "on_loop" in settings:
        settings["on_loop"] = _truth("on_loop", settings["on_loop"])
    return unquote(parts.path.removeprefix("/")) or ":memory:", settings


def _truth(name: str, text: str) -> bool:
    if text not in ("true", "false"):
        raise InvalidInputError(f"{name} must be true or false; it is {text!r}.")
    return text == "true"
