"""Names of files and folders that are safe on every file system, for ids that may be any text."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import lru_cache

PREFIX = 40
"""How many characters of an id are kept for people to read."""

_UNSAFE = re.compile(r"[^a-z0-9_]+")


@lru_cache(maxsize=1024)
def safe_name(text: str) -> str:
    """A name for any text: what is readable of it, and 100 bits of its hash.

    Lower case only, because not all file systems tell `A` from `a`; nothing but ASCII letters, digits, `_` and `-`,
    so that no name is a way out of the folder; never a name that Windows keeps for itself, such as `con`.
    """
    digest = base64.b32encode(hashlib.sha256(text.encode()).digest())[:20].decode().lower()
    prefix = _UNSAFE.sub("-", text.lower())[:PREFIX].strip("-")
    return f"{prefix}-{digest}" if prefix else digest
