"""Ids: making them, and refusing bad ones before any I/O."""

from __future__ import annotations

import os
import time
from typing import Any

from ..errors import InvalidIdError

MAX_ID_BYTES = 255

RESERVED = "sessile:"
"""What the ids of sessions begin with that Sessile makes for itself. No caller can name one, so nobody can be there
before; only `ANY_USER` reaches what is stored under them."""

KEPT = f"{RESERVED}kept:"
"""What the ids of the hidden sessions begin with that keep the results of steps."""


def uuid7() -> str:
    """A UUID of version 7 (RFC 9562, section 5.7): 48 bits of Unix milliseconds, then random bits."""
    when, chance = f"{time.time_ns() // 1_000_000:012x}", os.urandom(10).hex()
    variant = "89ab"[int(chance[0], 16) & 3]
    return f"{when[:8]}-{when[8:]}-7{chance[1:4]}-{variant}{chance[5:8]}-{chance[8:]}"


def new_incarnation() -> str:
    """A random tag that tells a session from another one that had the same id before it."""
    return os.urandom(8).hex()


def check_id(value: Any, what: str) -> str:
    """`value` if it is a usable id, else `InvalidIdError`. Any text is usable: `/`, `..`, newlines, emoji, SQL."""
    if not isinstance(value, str):
        raise InvalidIdError(f"{what} must be a string, not {type(value).__name__}.")
    if not value:
        raise InvalidIdError(f"{what} is empty.")
    if "\0" in value:
        raise InvalidIdError(f"{what} contains NUL.")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise InvalidIdError(f"{what} contains a lone surrogate.") from None
    if size > MAX_ID_BYTES:
        raise InvalidIdError(f"{what} has {size} bytes of UTF-8; the limit is {MAX_ID_BYTES}.")
    return value


def is_reserved(session_id: str) -> bool:
    """Whether an id is one of those that Sessile makes for itself."""
    return session_id.startswith(RESERVED)


def check_session_id(value: Any, what: str = "session_id") -> str:
    """`value` if a caller may give a session this id, else `InvalidIdError`."""
    if is_reserved(check_id(value, what)):
        raise InvalidIdError(
            f"{what} begins with {RESERVED!r}: such ids Sessile makes for itself.",
            hint="Choose another id; what a list shows under such an id, ANY_USER reaches, or storage.for_user(…).",
        )
    return value


def check_optional_id(value: Any, what: str) -> str | None:
    """Like `check_id`, but None passes."""
    return None if value is None else check_id(value, what)
