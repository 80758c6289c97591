"""An encrypted storage as another process opens it."""

from __future__ import annotations

from typing import Any

import sessile
from sessile.encryption import EncryptedStorage
from sessile.storage import Storage

KEYS = {"test": b"k" * 32}
FILTERED = ("name", "metadata")


def opened(url: str, **options: Any) -> Storage:
    """What is at this URL, encrypted, so that lists can still filter."""
    return EncryptedStorage(sessile.open(url, **options), keys=KEYS, clear=FILTERED)
